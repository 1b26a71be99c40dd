//! `pg_catalog` and `information_schema`: tables computed from our catalog when somebody reads them.
//!
//! ```text
//!   relations     pg_class, pg_attribute, pg_index, pg_constraint, pg_attrdef, pg_sequence, ...
//!   server        pg_namespace, pg_type, pg_database, pg_roles, pg_settings, pg_proc, ...
//!   empty         tables that PostgreSQL's tools ask for and that never hold anything here
//!   information   the standard's views
//! ```
//!
//! A table is a line of columns, written as in CREATE TABLE, and a function that makes its rows in that order. PostgreSQL's
//! columns are all there, in its order, as far as its tools read them; what has no meaning here is zero, false or NULL.
//! Node-like columns (`pg_attrdef.adbin`) hold SQL text, which `pg_get_expr` passes on.

mod empty;
mod information;
mod relations;
mod row;
mod server;

use std::collections::BTreeMap;
use std::sync::LazyLock;

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

/// A line of the lists of tables: name, oid, columns, rows.
type Definition = (&'static str, u32, &'static str, Rows);

fn read(schema: &'static str, definition: &Definition) -> SystemTable {
    let (name, oid, columns, rows) = *definition;
    let column = |text: &'static str| {
        let (name, ty) = text.trim().split_once(' ').expect("a column is a name and a type: a test reads them all");
        (name, Type::by_name(ty.trim()).expect("columns have existing types: a test reads them all"))
    };
    // Once per process: the tables are static.
    let columns = columns.split(',').map(column).collect::<Vec<_>>().leak();
    SystemTable { schema, name, oid, columns, rows }
}

/// All system tables.
pub(crate) static TABLES: LazyLock<Vec<SystemTable>> = LazyLock::new(|| {
    let catalog = relations::TABLES.iter().chain(server::TABLES).chain(empty::TABLES);
    let tables = catalog.map(|definition| read("pg_catalog", definition));
    tables.chain(information::TABLES.iter().map(|definition| read("information_schema", definition))).collect()
});

static BY_NAME: LazyLock<BTreeMap<(&'static str, &'static str), usize>> =
    LazyLock::new(|| TABLES.iter().enumerate().map(|(at, table)| ((table.schema, table.name), at)).collect());

/// The system table of a qualified name.
pub(crate) fn find(schema: &str, name: &str) -> Option<&'static SystemTable> {
    BY_NAME.get(&(schema, name)).map(|at| &TABLES[*at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func::testing::with_context;
    use crate::types::{CastContext, Value, cast};

    #[test]
    fn rows_fit_the_columns() {
        with_context(|context| {
            let catalog = Catalog::default();
            let mut oids = std::collections::BTreeSet::new();
            for table in TABLES.iter() {
                assert!(oids.insert(table.oid), "{} has the oid of another table", table.name);
                for row in (table.rows)(&catalog, context).unwrap() {
                    assert_eq!(row.len(), table.columns.len(), "{}", table.name);
                    for (value, (column, ty)) in row.iter().zip(table.columns) {
                        let same = value.is_null()
                            || cast(value, ty, ty, CastContext::Explicit, context).as_ref() == Ok(value);
                        let text = matches!(value, Value::Text(_)) == ty.is_text() || value.is_null();
                        assert!(same && text, "{}.{column} {ty} {value:?}", table.name);
                    }
                }
            }
        });
    }
}
