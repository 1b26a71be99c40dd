//! What an evaluation may know of the world: all of it handed in, so that the same inputs give the same answer.

use crate::error::Result;
use crate::types::TextContext;

/// Names and definitions that some functions ask of the catalog. Everything has an answer for "not there".
pub trait CatalogLookup {
    /// The oid of a relation by its written, possibly qualified and quoted name.
    fn relation_oid(&self, name: &str) -> Option<u32>;
    /// The name of a relation, qualified when it isn't visible without.
    fn relation_name(&self, oid: u32) -> Option<String>;
    /// True if the relation is found by its bare name; `None` if there is none.
    fn relation_is_visible(&self, oid: u32) -> Option<bool>;
    /// The oid of a schema.
    fn schema_oid(&self, name: &str) -> Option<u32>;
    /// The name of a schema.
    fn schema_name(&self, oid: u32) -> Option<String>;
    /// The name of a role.
    fn role_name(&self, oid: u32) -> Option<String>;
    /// `CREATE INDEX ...`; with a column (1-based) only that column's name or expression.
    fn index_definition(&self, oid: u32, column: i32) -> Option<String>;
    /// `PRIMARY KEY (id)` and the like.
    fn constraint_definition(&self, oid: u32) -> Option<String>;
    /// The bytes that a relation takes, as far as is known.
    fn relation_size(&self, oid: u32) -> Option<i64>;
    /// The comment on an object, or on a table's column (from 1).
    fn comment(&self, oid: u32, column: u32) -> Option<String>;
}

/// A catalog in which nothing is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCatalog;

impl CatalogLookup for NoCatalog {
    fn relation_oid(&self, _name: &str) -> Option<u32> {
        None
    }
    fn relation_name(&self, _oid: u32) -> Option<String> {
        None
    }
    fn relation_is_visible(&self, _oid: u32) -> Option<bool> {
        None
    }
    fn schema_oid(&self, _name: &str) -> Option<u32> {
        None
    }
    fn schema_name(&self, _oid: u32) -> Option<String> {
        None
    }
    fn role_name(&self, _oid: u32) -> Option<String> {
        None
    }
    fn index_definition(&self, _oid: u32, _column: i32) -> Option<String> {
        None
    }
    fn constraint_definition(&self, _oid: u32) -> Option<String> {
        None
    }
    fn comment(&self, _oid: u32, _column: u32) -> Option<String> {
        None
    }
    fn relation_size(&self, _oid: u32) -> Option<i64> {
        None
    }
}

/// The session's settings.
pub trait Settings {
    /// A setting as `SHOW` prints it, by its lower-case name.
    fn get(&self, name: &str) -> Option<String>;
    /// Changes a setting, until the transaction's end if `local`; returns the new value.
    fn set(&self, name: &str, value: &str, local: bool) -> Result<String>;
}

/// Bytes that nobody can guess (in production), or that come from a seed (in the simulator).
pub trait Random {
    /// Fills the buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// Everything that an expression may read besides its arguments. Times are microseconds since 2000-01-01 00:00 UTC.
pub struct EvalContext<'a> {
    /// The start of the transaction: `now()`.
    pub transaction_time: i64,
    /// The arrival of the statement.
    pub statement_time: i64,
    /// The time when this batch began: `clock_timestamp()`.
    pub clock_time: i64,
    /// `current_user`
    pub user: &'a str,
    /// `session_user`
    pub session_user: &'a str,
    /// `current_database()`
    pub database: &'a str,
    /// Schemas in which bare names are looked up, without the implicit `pg_catalog`.
    pub search_path: &'a [String],
    /// `pg_backend_pid()`
    pub backend_pid: i32,
    /// The setting `TimeZone`.
    pub time_zone: &'a str,
    /// Settings, for `current_setting` and `set_config`.
    pub settings: &'a dyn Settings,
    /// The catalog.
    pub catalog: &'a dyn CatalogLookup,
    /// Randomness.
    pub random: &'a dyn Random,
}

impl<'a> EvalContext<'a> {
    /// The part that reading and printing text depends on.
    pub fn text(&self) -> TextContext<'a> {
        TextContext { time_zone: self.time_zone, now: self.transaction_time, catalog: self.catalog }
    }
}
