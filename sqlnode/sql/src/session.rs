//! What a statement is told about the session that runs it, and where its rows go.
//!
//! Time and chance come in here: the language reads no clock and draws no randomness of its own, so that one seed repeats
//! a run.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::numbers::NumberSource;
use crate::types::Value;

/// Values of one row, in the order of the columns.
pub type Row = Vec<Value>;

/// Rows handed to a [`RowSink`] at once.
pub const BATCH_ROWS: usize = 256;

/// Who runs a statement, when, and with which settings.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The role that runs the statement.
    pub user: String,
    /// The database that the session is connected to.
    pub database: String,
    /// Schemas in which unqualified names are looked up; `pg_catalog` comes first unless it is listed.
    pub search_path: Vec<String>,
    /// Microseconds since the Unix epoch when the statement began.
    pub statement_time_us: i64,
    /// Microseconds since the Unix epoch when the transaction began: what `now()` says.
    pub transaction_time_us: i64,
    /// Fresh unpredictable bytes for this statement: `gen_random_uuid()`, `random()`, hidden row ids.
    pub random_seed: [u8; 32],
    /// Settings (`SET name = value`), names in lower case.
    pub settings: BTreeMap<String, String>,
    /// What the statement may use.
    pub limits: Limits,
    /// `pg_backend_pid()`
    pub backend_pid: i32,
    /// Hands out numbers of sequences; without one, they are counted in the transaction that asks.
    pub numbers: Option<Arc<dyn NumberSource>>,
    /// What statements leave behind in the session; shared by all statements of one.
    pub state: Arc<Mutex<SessionState>>,
}

/// What statements leave behind in their session.
#[derive(Clone, Debug, Default)]
pub struct SessionState {
    /// Settings changed by `set_config()`: name, value, until the transaction's end only. The session takes them.
    pub changed_settings: Vec<(String, String, bool)>,
    /// The last value that each sequence gave here: `currval()`.
    pub sequence_values: BTreeMap<u32, i64>,
    /// The sequence that gave a value last: `lastval()`.
    pub last_sequence: Option<u32>,
}

impl SessionInfo {
    /// A session at the epoch with seed zero, as tests want it.
    pub fn new(user: &str, database: &str) -> Self {
        SessionInfo {
            user: user.to_string(),
            database: database.to_string(),
            search_path: vec!["public".to_string()],
            statement_time_us: 0,
            transaction_time_us: 0,
            random_seed: [0; 32],
            settings: BTreeMap::new(),
            limits: Limits::default(),
            backend_pid: 0,
            numbers: None,
            state: Arc::default(),
        }
    }
}

/// What one statement may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes held in sorts, hash tables and other intermediate rows.
    pub memory_bytes_max: usize,
    /// Set from outside to stop the statement with 57014.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory_bytes_max: 256 << 20, cancel: None }
    }
}

/// Takes the rows of a result as they come.
pub trait RowSink {
    /// Takes a batch; `Break` ends the statement early and without error.
    fn rows(&mut self, batch: Vec<Row>) -> Result<ControlFlow<()>>;
}

/// A sink that keeps everything.
impl RowSink for Vec<Row> {
    fn rows(&mut self, batch: Vec<Row>) -> Result<ControlFlow<()>> {
        self.extend(batch);
        Ok(ControlFlow::Continue(()))
    }
}

/// What a statement did; prints as PostgreSQL's command tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandTag {
    /// Rows returned.
    Select(u64),
    /// Rows inserted (or updated by ON CONFLICT).
    Insert(u64),
    /// Rows updated.
    Update(u64),
    /// Rows deleted.
    Delete(u64),
    /// A command without a count, such as `CREATE TABLE`.
    Command(&'static str),
}

impl CommandTag {
    /// Rows returned or changed.
    pub fn rows(&self) -> u64 {
        match self {
            CommandTag::Select(n) | CommandTag::Insert(n) | CommandTag::Update(n) | CommandTag::Delete(n) => *n,
            CommandTag::Command(_) => 0,
        }
    }
}

impl fmt::Display for CommandTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandTag::Select(rows) => write!(f, "SELECT {rows}"),
            CommandTag::Insert(rows) => write!(f, "INSERT 0 {rows}"),
            CommandTag::Update(rows) => write!(f, "UPDATE {rows}"),
            CommandTag::Delete(rows) => write!(f, "DELETE {rows}"),
            CommandTag::Command(name) => f.write_str(name),
        }
    }
}

/// Where bare names are looked up: `pg_catalog` first, unless the session has it elsewhere.
pub(crate) fn search_path(session: &SessionInfo) -> Vec<String> {
    let mut path = Vec::new();
    if !session.search_path.iter().any(|schema| schema == crate::catalog::PG_CATALOG) {
        path.push(crate::catalog::PG_CATALOG.to_string());
    }
    path.extend(session.search_path.iter().map(|schema| match schema.as_str() {
        "$user" => session.user.clone(),
        other => other.to_string(),
    }));
    path
}
