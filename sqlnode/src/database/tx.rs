//! One try of a transaction, as the services write it: SQL text with parameters, rows with typed columns.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rockpool_sql::{Allotment, Caches, Class, Prepared, SessionInfo, SqlError, Statement, Store, Value, Wanted};
use uuid::Uuid;

use super::DbError;

/// 2000-01-01 UTC, from which SQL counts, in microseconds since 1970.
const SQL_EPOCH_US: i64 = 946_684_800_000_000;
/// The role in whose name the services work.
const SERVICE_ROLE: &str = "root";
/// The database that holds the metadata.
const SERVICE_DATABASE: &str = "rockpool";

/// A `timestamptz` parameter from microseconds since 1970.
pub fn time(unix_us: i64) -> Value {
    Value::Timestamptz(unix_us.saturating_sub(SQL_EPOCH_US))
}

/// A `uuid` parameter: the identifiers of accounts, pools and devices all have 16 bytes.
pub fn uuid(bytes: &[u8; 16]) -> Value {
    Value::Uuid(Uuid::from_bytes(*bytes))
}

/// A `bigint` parameter from a counter; what does not fit is `i64::MAX`, which no counter reaches.
pub fn count(number: u64) -> Value {
    Value::Int8(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A statement and its plan.
type Known = (Arc<Statement>, Arc<Prepared>);

/// Statements that were prepared before, by their text. All texts are literals of this program, so it stays small.
#[derive(Default)]
pub(super) struct Plans {
    caches: Caches,
    prepared: Mutex<HashMap<&'static str, Known>>,
}

impl Plans {
    pub(super) fn new(caches: Caches) -> Self {
        Self { caches, prepared: Mutex::default() }
    }

    pub(super) fn texts(&self) -> Vec<&'static str> {
        self.prepared.lock().keys().copied().collect()
    }

    fn get(&self, sql: &'static str, store: &dyn Store, session: &SessionInfo) -> Result<Arc<Prepared>, SqlError> {
        let known = self.prepared.lock().get(sql).cloned();
        let statement = match known {
            Some((_, prepared)) if !prepared.is_stale(store)? => return Ok(prepared),
            Some((statement, _)) => statement,
            None => match <[Statement; 1]>::try_from(rockpool_sql::parse(sql)?) {
                Ok([statement]) => Arc::new(statement),
                Err(_) => return Err(SqlError::internal(format!("the services run one statement at a time: {sql}"))),
            },
        };
        let prepared = rockpool_sql::prepare(&statement, store, session, &self.caches, &[])?;
        self.prepared.lock().insert(sql, (statement, Arc::clone(&prepared)));
        Ok(prepared)
    }
}

/// One try of a transaction. What it wrote counts only when the work returns `Ok` and the commit succeeds.
pub struct Tx<'a> {
    store: &'a mut dyn Store,
    plans: &'a Plans,
    session: SessionInfo,
    now_us: i64,
}

impl<'a> Tx<'a> {
    pub(super) fn new(store: &'a mut dyn Store, plans: &'a Plans, now_us: i64, random_seed: [u8; 32]) -> Self {
        let session = SessionInfo {
            statement_time_us: now_us,
            transaction_time_us: now_us,
            random_seed,
            ..SessionInfo::new(SERVICE_ROLE, SERVICE_DATABASE)
        };
        Self { store, plans, session, now_us }
    }

    /// When this try began: the one time that everything in it uses, in microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The rows of a statement.
    pub fn query(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let mut rows: Vec<rockpool_sql::Row> = Vec::new();
        let prepared = self.plans.get(sql, self.store, &self.session)?;
        rockpool_sql::execute(&prepared, params, self.store, &self.session, &mut rows)?;
        self.stir();
        Ok(rows.into_iter().map(Row).collect())
    }

    /// The only row of a statement, if there is one.
    pub fn query_opt(&mut self, sql: &'static str, params: &[Value]) -> Result<Option<Row>, DbError> {
        let mut rows = self.query(sql, params)?;
        if rows.len() > 1 {
            return Err(DbError::Fatal(format!("{} rows where at most one was expected: {sql}", rows.len())));
        }
        Ok(rows.pop())
    }

    /// The only row of a statement that must have one.
    pub fn query_one(&mut self, sql: &'static str, params: &[Value]) -> Result<Row, DbError> {
        self.query_opt(sql, params)?.ok_or_else(|| DbError::Fatal(format!("no row where one was expected: {sql}")))
    }

    /// Runs a statement: rows returned or changed.
    pub fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64, DbError> {
        let mut rows: Vec<rockpool_sql::Row> = Vec::new();
        let prepared = self.plans.get(sql, self.store, &self.session)?;
        let tag = rockpool_sql::execute(&prepared, params, self.store, &self.session, &mut rows)?;
        self.stir();
        Ok(tag.rows())
    }

    /// Runs statements without parameters one after the other: schema changes. Nothing is remembered of them.
    pub fn execute_script(&mut self, sql: &str) -> Result<(), DbError> {
        for statement in rockpool_sql::parse(sql)? {
            let prepared = rockpool_sql::prepare(&statement, self.store, &self.session, &self.plans.caches, &[])?;
            let mut rows: Vec<rockpool_sql::Row> = Vec::new();
            rockpool_sql::execute(&prepared, &[], self.store, &self.session, &mut rows)?;
            self.stir();
        }
        Ok(())
    }

    /// Takes numbers of a sequence, to be handed out once this is committed.
    pub(super) fn allot(&mut self, wanted: &Wanted, count: u32) -> Result<Option<Allotment>, DbError> {
        Ok(rockpool_sql::allot(self.store, wanted, count)?)
    }

    /// Gives the next statement other random bytes: two statements of one try must not draw the same.
    fn stir(&mut self) {
        self.session.random_seed = *blake3::keyed_hash(&self.session.random_seed, b"next statement").as_bytes();
    }
}

impl From<SqlError> for DbError {
    fn from(error: SqlError) -> Self {
        match error.class() {
            Class::Retry => Self::Conflict(error.to_string()),
            Class::Fatal => Self::Fatal(error.to_string()),
            Class::User | Class::Conflict => Self::Sql(error),
        }
    }
}

/// A row of a result. A column that has another type than the caller says is our own mistake.
#[derive(Clone, Debug)]
pub struct Row(rockpool_sql::Row);

impl Row {
    /// The value of a column, counted from 0.
    pub fn value(&self, column: usize) -> Result<&Value, DbError> {
        self.0.get(column).ok_or_else(|| DbError::Fatal(format!("a row without column {column}")))
    }

    fn typed<'a, T>(
        &'a self,
        column: usize,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, DbError> {
        let value = self.value(column)?;
        read(value).ok_or_else(|| DbError::Fatal(format!("column {column} holds {value:?} and not {wanted}")))
    }

    /// A `text`.
    pub fn text(&self, column: usize) -> Result<&str, DbError> {
        self.typed(column, "a text", |value| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        })
    }

    /// A `bytea`.
    pub fn bytes(&self, column: usize) -> Result<&[u8], DbError> {
        self.typed(column, "bytes", |value| match value {
            Value::Bytea(bytes) => Some(&**bytes),
            _ => None,
        })
    }

    /// A `bytea` of a fixed length.
    pub fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], DbError> {
        self.bytes(column)?
            .try_into()
            .map_err(|_| DbError::Fatal(format!("column {column} holds bytes of another length than {N}")))
    }

    /// A `uuid`'s 16 bytes.
    pub fn uuid(&self, column: usize) -> Result<[u8; 16], DbError> {
        self.typed(column, "a uuid", |value| match value {
            Value::Uuid(uuid) => Some(uuid.into_bytes()),
            _ => None,
        })
    }

    /// A `uuid`'s 16 bytes, or nothing for NULL.
    pub fn uuid_opt(&self, column: usize) -> Result<Option<[u8; 16]>, DbError> {
        if self.value(column)?.is_null() { Ok(None) } else { self.uuid(column).map(Some) }
    }

    /// An integer of any width.
    pub fn int(&self, column: usize) -> Result<i64, DbError> {
        self.typed(column, "an integer", |value| match value {
            Value::Int2(number) => Some(i64::from(*number)),
            Value::Int4(number) => Some(i64::from(*number)),
            Value::Int8(number) => Some(*number),
            _ => None,
        })
    }

    /// An integer that counts something.
    pub fn count(&self, column: usize) -> Result<u64, DbError> {
        u64::try_from(self.int(column)?).map_err(|_| DbError::Fatal(format!("column {column} is negative")))
    }

    /// A `boolean`.
    pub fn bool(&self, column: usize) -> Result<bool, DbError> {
        self.typed(column, "a boolean", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// A `timestamptz` in microseconds since 1970.
    pub fn time_us(&self, column: usize) -> Result<i64, DbError> {
        self.typed(column, "a time", |value| match value {
            Value::Timestamptz(us) => Some(us.saturating_add(SQL_EPOCH_US)),
            _ => None,
        })
    }

    /// A `timestamptz` in microseconds since 1970, or nothing for NULL.
    pub fn time_us_opt(&self, column: usize) -> Result<Option<i64>, DbError> {
        if self.value(column)?.is_null() { Ok(None) } else { self.time_us(column).map(Some) }
    }
}
