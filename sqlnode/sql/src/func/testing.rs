//! An evaluation context for tests, in and outside of this crate: fixed times, a counting random source, no catalog.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::{EvalContext, NoCatalog, Random, Settings};
use crate::error::Result;

struct Counting(Cell<u8>);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0.set(self.0.get().wrapping_mul(5).wrapping_add(7));
            *byte = self.0.get();
        }
    }
}

struct Held(RefCell<BTreeMap<String, String>>);

impl Settings for Held {
    fn get(&self, name: &str) -> Option<String> {
        self.0.borrow().get(name).cloned()
    }

    fn set(&self, name: &str, value: &str, _local: bool) -> Result<String> {
        self.0.borrow_mut().insert(name.to_string(), value.to_string());
        Ok(value.to_string())
    }
}

/// Runs something with a context: user `root`, database `rockpool`, 2024-01-01 00:00 UTC.
pub(crate) fn with_context<T>(run: impl FnOnce(&EvalContext<'_>) -> T) -> T {
    let time = 757_382_400_000_000;
    let search_path = ["public".to_string()];
    run(&EvalContext {
        transaction_time: time,
        statement_time: time,
        clock_time: time,
        user: "root",
        session_user: "root",
        database: "rockpool",
        search_path: &search_path,
        backend_pid: 7,
        time_zone: "UTC",
        settings: &Held(RefCell::new(BTreeMap::new())),
        catalog: &NoCatalog,
        random: &Counting(Cell::new(0)),
    })
}
