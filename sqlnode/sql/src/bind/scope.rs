//! Which names can be seen where.

use crate::error::{Result, SqlError, SqlState};
use crate::plan::{ColumnId, Expr, Position, Slot};
use crate::types::Type;

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub(super) struct ScopeColumn {
    pub(super) name: String,
    pub(super) id: ColumnId,
    pub(super) ty: Type,
    /// The stored table and column number that it comes from unchanged.
    pub(super) source: Option<(u32, i16)>,
    /// False once it is merged into a column of JOIN ... USING: only the qualified name is left.
    pub(super) bare: bool,
}

/// A table, view of a subquery, or merged columns of a join.
#[derive(Clone, Debug)]
pub(super) struct ScopeTable {
    /// Its alias or name; nothing for merged columns.
    pub(super) name: Option<String>,
    /// Its schema, if it may be named with it.
    pub(super) schema: Option<String>,
    pub(super) columns: Vec<ScopeColumn>,
    /// Columns of the declared primary key, on which all others depend.
    pub(super) key: Vec<ColumnId>,
}

/// The names of one query level.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) tables: Vec<ScopeTable>,
}

impl Scope {
    /// All columns that `*` stands for, in order.
    pub(super) fn star(&self) -> impl Iterator<Item = &ScopeColumn> {
        self.tables.iter().flat_map(|table| &table.columns).filter(|column| column.bare)
    }

    /// The table of a (qualified) name.
    pub(super) fn table(&self, schema: Option<&str>, name: &str) -> Result<Option<&ScopeTable>> {
        let mut found = self.tables.iter().filter(|table| {
            table.name.as_deref() == Some(name) && (schema.is_none() || table.schema.as_deref() == schema)
        });
        let first = found.next();
        if first.is_some() && found.next().is_some() {
            let message = format!("table reference \"{name}\" is ambiguous");
            return Err(SqlError::new(SqlState::AMBIGUOUS_ALIAS, message));
        }
        Ok(first)
    }

    /// The column of a bare name.
    pub(super) fn column(&self, name: &str) -> Result<Option<&ScopeColumn>> {
        let mut found = self.star().filter(|column| column.name == name);
        let first = found.next();
        if first.is_some() && found.next().is_some() {
            let message = format!("column reference \"{name}\" is ambiguous");
            return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message));
        }
        Ok(first)
    }

    /// Adds another FROM item; two may not have one name.
    pub(super) fn merge(&mut self, other: Scope) -> Result<()> {
        for table in &other.tables {
            if let Some(name) = &table.name
                && self.tables.iter().any(|mine| mine.name.as_ref() == Some(name) && mine.schema == table.schema)
            {
                let message = format!("table name \"{name}\" specified more than once");
                return Err(SqlError::new(SqlState::DUPLICATE_ALIAS, message));
            }
        }
        self.tables.extend(other.tables);
        Ok(())
    }

    /// The table whose column this is.
    pub(super) fn owner(&self, id: ColumnId) -> Option<&ScopeTable> {
        self.tables.iter().find(|table| table.columns.iter().any(|column| column.id == id))
    }
}

impl ScopeColumn {
    pub(super) fn expr(&self, position: Position) -> Expr {
        Expr::Column { id: self.id, ty: self.ty.clone(), slot: Slot::default(), position }
    }
}
