//! What a running statement may use: parameters, time, randomness, memory, the catalog's names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::catalog::{Catalog, Relation};
use crate::error::{Result, SqlError, SqlState};
use crate::func::{CatalogLookup, EvalContext, Random, Settings};
use crate::session::{Row, SessionInfo, SessionState, search_path};
use crate::store::Store;
use crate::types::Value;

/// Microseconds from the Unix epoch to PostgreSQL's.
const EPOCH_OFFSET_US: i64 = 946_684_800_000_000;
/// Rows between two looks at the cancel flag.
const ROWS_PER_CHECK: u32 = 256;

/// One statement's world, except for the store, which changes hands between reading and writing.
pub(crate) struct Runtime<'a> {
    pub(crate) session: &'a SessionInfo,
    pub(crate) params: &'a [Value],
    pub(crate) catalog: &'a Catalog,
    names: Names<'a>,
    settings: Held<'a>,
    random: Seeded,
    used_bytes: Cell<usize>,
    /// Of these, what is held until the statement's end.
    lasting_bytes: Cell<usize>,
    rows: Cell<u32>,
    /// Sequences counted by this statement, written when it has read everything.
    pub(super) sequences: RefCell<BTreeMap<u32, i64>>,
    /// Those among them that were set by hand.
    pub(super) sequences_set: RefCell<BTreeSet<u32>>,
    /// Results of subqueries that need no outer row.
    pub(super) once: RefCell<BTreeMap<usize, std::rc::Rc<super::subquery::Once>>>,
    /// Rows of WITH queries.
    pub(super) ctes: RefCell<BTreeMap<usize, std::rc::Rc<Vec<Row>>>>,
    /// Rows that recursive WITH queries found last, while they look for the next ones.
    pub(super) work: RefCell<BTreeMap<usize, std::rc::Rc<Vec<Row>>>>,
    row_ids: Cell<i64>,
}

struct Names<'a> {
    catalog: &'a Catalog,
    session: &'a SessionInfo,
}

struct Held<'a> {
    session: &'a SessionInfo,
}

struct Seeded(RefCell<ChaCha12Rng>);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.borrow_mut().fill_bytes(bytes);
    }
}

impl Settings for Held<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.session.settings.get(name).cloned()
    }

    fn set(&self, name: &str, value: &str, local: bool) -> Result<String> {
        lock(&self.session.state).changed_settings.push((name.to_string(), value.to_string(), local));
        Ok(value.to_string())
    }
}

/// The state behind a lock that nobody holds while panicking.
pub(super) fn lock(state: &Mutex<SessionState>) -> std::sync::MutexGuard<'_, SessionState> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<'a> Runtime<'a> {
    pub(crate) fn new(catalog: &'a Catalog, session: &'a SessionInfo, params: &'a [Value]) -> Self {
        Runtime {
            session,
            params,
            catalog,
            names: Names { catalog, session },
            settings: Held { session },
            random: Seeded(RefCell::new(ChaCha12Rng::from_seed(session.random_seed))),
            used_bytes: Cell::new(0),
            lasting_bytes: Cell::new(0),
            rows: Cell::new(0),
            sequences: RefCell::default(),
            sequences_set: RefCell::default(),
            once: RefCell::default(),
            ctes: RefCell::default(),
            work: RefCell::default(),
            row_ids: Cell::new(session.statement_time_us.saturating_mul(4096).max(1)),
        }
    }

    pub(crate) fn eval<T>(&self, run: impl FnOnce(&EvalContext<'_>) -> T) -> T {
        run(&self.context())
    }

    /// The context that functions see.
    pub(crate) fn context(&self) -> EvalContext<'_> {
        let session = self.session;
        EvalContext {
            transaction_time: session.transaction_time_us - EPOCH_OFFSET_US,
            statement_time: session.statement_time_us - EPOCH_OFFSET_US,
            clock_time: session.statement_time_us - EPOCH_OFFSET_US,
            user: &session.user,
            session_user: &session.user,
            database: &session.database,
            search_path: &session.search_path,
            backend_pid: session.backend_pid,
            time_zone: session.settings.get("timezone").map_or("UTC", String::as_str),
            settings: &self.settings,
            catalog: &self.names,
            random: &self.random,
        }
    }

    /// A fresh random number, for the catalog's version.
    pub(crate) fn nonce(&self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// An id for a row without primary key: rises with time, so that rows are read in the order they came.
    pub(super) fn row_id(&self) -> i64 {
        let id = self.row_ids.get();
        self.row_ids.set(id.wrapping_add(1));
        id
    }

    /// Accounts for rows that are held; refuses beyond the statement's limit.
    pub(crate) fn hold(&self, row: &Row) -> Result<()> {
        self.hold_bytes(row_bytes(row))
    }

    pub(super) fn hold_bytes(&self, bytes: usize) -> Result<()> {
        let used = self.used_bytes.get() + bytes;
        self.used_bytes.set(used);
        let max = self.session.limits.memory_bytes_max;
        if used > max {
            let message = format!("the statement needs more than its {max} bytes of memory");
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, message)
                .with_hint("Sort, group or join fewer rows at once, or raise the statement's memory."));
        }
        Ok(())
    }

    /// Gives back what rows held that are gone.
    pub(super) fn release(&self, bytes: usize) {
        self.used_bytes.set(self.used_bytes.get().saturating_sub(bytes));
    }

    /// Runs something that holds rows only while it runs: afterwards they are gone, but for what is to last.
    pub(super) fn passing<T>(&self, run: impl FnOnce() -> T) -> T {
        let (used, lasting) = (self.used_bytes.get(), self.lasting_bytes.get());
        let done = run();
        self.used_bytes.set(used + (self.lasting_bytes.get() - lasting));
        done
    }

    /// Accounts for rows that are held until the statement's end.
    pub(super) fn keep_bytes(&self, bytes: usize) -> Result<()> {
        self.lasting_bytes.set(self.lasting_bytes.get() + bytes);
        self.hold_bytes(bytes)
    }

    /// Called for every row that is read: notices that the statement was cancelled.
    pub(crate) fn tick(&self) -> Result<()> {
        let rows = self.rows.get().wrapping_add(1);
        self.rows.set(rows);
        if rows.is_multiple_of(ROWS_PER_CHECK)
            && self.session.limits.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            let message = "canceling statement due to user request";
            return Err(SqlError::new(SqlState::QUERY_CANCELED, message));
        }
        Ok(())
    }
}

/// Bytes that a row takes in memory, roughly.
pub(super) fn row_bytes(row: &Row) -> usize {
    row.iter().map(value_bytes).sum::<usize>() + 24
}

fn value_bytes(value: &Value) -> usize {
    let beside = match value {
        Value::Text(text) => text.len(),
        Value::Bytea(bytes) => bytes.len(),
        Value::Array(array) => array.values.iter().map(value_bytes).sum(),
        Value::Record(fields) => fields.iter().map(|(_, value)| value_bytes(value)).sum(),
        Value::Jsonb(json) => json.memory_bytes(),
        Value::Numeric(_) => 32,
        _ => 0,
    };
    std::mem::size_of::<Value>() + beside
}

/// A statement's world with a store to read from.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) runtime: &'a Runtime<'a>,
    pub(crate) eval: EvalContext<'a>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(store: &'a dyn Store, runtime: &'a Runtime<'a>) -> Self {
        Context { store, runtime, eval: runtime.context() }
    }
}

/// The names of a catalog as a session writes them, for printing `regclass` and the like.
pub(crate) fn names<'a>(catalog: &'a Catalog, session: &'a SessionInfo) -> Box<dyn CatalogLookup + 'a> {
    Box::new(Names { catalog, session })
}

impl Names<'_> {
    fn find(&self, name: &str) -> Option<&Relation> {
        let parts = split_name(name)?;
        self.catalog.find(&parts, &search_path(self.session)).ok().flatten()
    }

    fn by_oid(&self, oid: u32) -> Option<(String, String)> {
        if let Some(table) = self.catalog.table_by_id(oid) {
            return Some((table.schema.clone(), table.name.clone()));
        }
        if let Some(sequence) = self.catalog.sequence_by_id(oid) {
            return Some((sequence.schema.clone(), sequence.name.clone()));
        }
        if let Some(table) = crate::system::TABLES.iter().find(|table| table.oid == oid) {
            return Some((table.schema.to_string(), table.name.to_string()));
        }
        self.catalog.tables().find_map(|table| {
            let index = table.indexes.iter().find(|index| index.id == oid)?;
            Some((table.schema.clone(), index.name.clone()))
        })
    }
}

/// The oid of what a name stands for.
pub(super) fn relation_id(relation: &Relation) -> u32 {
    match relation {
        Relation::Table(table) => table.id,
        Relation::Index(table, at) => table.indexes[*at].id,
        Relation::Sequence(sequence) => sequence.id,
    }
}

/// `a."B c"` as its parts, folded.
fn split_name(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = name.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    (!quoted && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// A name as it must be written.
pub(crate) fn quote_name(name: &str) -> String {
    let plain =
        name.chars().enumerate().all(|(at, c)| c == '_' || c.is_ascii_lowercase() || (at > 0 && c.is_ascii_digit()));
    match plain && !name.is_empty() {
        true => name.to_string(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

impl CatalogLookup for Names<'_> {
    fn relation_oid(&self, name: &str) -> Option<u32> {
        if let Some(relation) = self.find(name) {
            return Some(relation_id(relation));
        }
        let parts = split_name(name)?;
        let table = match parts.as_slice() {
            [name] => search_path(self.session).iter().find_map(|schema| crate::system::find(schema, name)),
            [schema, name] => crate::system::find(schema, name),
            _ => None,
        };
        table.map(|table| table.oid)
    }

    fn relation_name(&self, oid: u32) -> Option<String> {
        let (schema, name) = self.by_oid(oid)?;
        Some(match self.relation_is_visible(oid) {
            Some(true) => quote_name(&name),
            _ => format!("{}.{}", quote_name(&schema), quote_name(&name)),
        })
    }

    fn relation_is_visible(&self, oid: u32) -> Option<bool> {
        let (schema, name) = self.by_oid(oid)?;
        let path = search_path(self.session);
        let first = path.iter().find(|candidate| {
            self.catalog.relation(candidate, &name).is_some() || crate::system::find(candidate, &name).is_some()
        });
        Some(first == Some(&schema))
    }

    fn schema_oid(&self, name: &str) -> Option<u32> {
        self.catalog.schema(name).map(|schema| schema.id)
    }

    fn schema_name(&self, oid: u32) -> Option<String> {
        self.catalog.schemas().find(|schema| schema.id == oid).map(|schema| schema.name.clone())
    }

    fn role_name(&self, oid: u32) -> Option<String> {
        (oid == 10).then(|| "root".to_string())
    }

    fn index_definition(&self, oid: u32, column: i32) -> Option<String> {
        crate::catalog::index_definition(self.catalog, oid, column)
    }

    fn constraint_definition(&self, oid: u32) -> Option<String> {
        crate::catalog::constraint_definition(self.catalog, oid)
    }

    fn comment(&self, oid: u32, column: u32) -> Option<String> {
        self.catalog.comment(oid, column).map(str::to_string)
    }

    fn relation_size(&self, oid: u32) -> Option<i64> {
        self.by_oid(oid).map(|_| 0)
    }
}
