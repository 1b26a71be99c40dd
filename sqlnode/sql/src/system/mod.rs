//! `pg_catalog` and `information_schema`: tables computed from our catalog when somebody reads them.

use crate::catalog::Catalog;
use crate::error::Result;
use crate::func::EvalContext;
use crate::session::Row;
use crate::types::Type;

/// What computes a system table's rows.
pub(crate) type Rows = fn(&Catalog, &EvalContext<'_>) -> Result<Vec<Row>>;

/// One system table.
#[derive(Debug)]
pub(crate) struct SystemTable {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) oid: u32,
    pub(crate) columns: &'static [(&'static str, Type)],
    pub(crate) rows: Rows,
}

/// All system tables.
pub(crate) const TABLES: &[SystemTable] = &[];

/// The system table of a qualified name.
pub(crate) fn find(schema: &str, name: &str) -> Option<&'static SystemTable> {
    TABLES.iter().find(|table| table.schema == schema && table.name == name)
}
