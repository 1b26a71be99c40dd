//! From a statement to something that runs: the crate's front door.

use std::sync::Arc;

use crate::error::{Result, SqlError};
use crate::parse::Statement;
use crate::session::{CommandTag, RowSink, SessionInfo};
use crate::store::Store;
use crate::types::{Type, Value};

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, with the modifier.
    pub ty: Type,
    /// The oid of the table that it comes from unchanged, or 0.
    pub table_oid: u32,
    /// The number of the column in that table (from 1), or 0.
    pub column_number: i16,
}

/// What all sessions of a node share: decoded catalogs and plans, both bounded. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Caches {}

/// A statement bound and planned against one version of the catalog.
#[derive(Debug)]
pub struct Prepared {
    params: Vec<Type>,
    columns: Option<Vec<Column>>,
}

impl Prepared {
    /// The types of `$1`, `$2`, ...
    pub fn params(&self) -> &[Type] {
        &self.params
    }

    /// The columns of its result, if it returns rows.
    pub fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// True if the catalog has changed since; [`execute`] then plans again.
    pub fn is_stale(&self, _store: &dyn Store) -> Result<bool> {
        Ok(false)
    }
}

/// Binds and plans a statement. `param_hints` are the types that the client declared for `$1`, `$2`, ...
pub fn prepare(
    statement: &Statement,
    _store: &dyn Store,
    _session: &SessionInfo,
    _caches: &Caches,
    _param_hints: &[Option<Type>],
) -> Result<Arc<Prepared>> {
    Err(SqlError::unsupported(statement.text()))
}

/// Runs a prepared statement. When it fails, what it wrote is undone.
pub fn execute(
    _prepared: &Prepared,
    _params: &[Value],
    _store: &mut dyn Store,
    _session: &SessionInfo,
    _sink: &mut dyn RowSink,
) -> Result<CommandTag> {
    Err(SqlError::unsupported("this statement"))
}
