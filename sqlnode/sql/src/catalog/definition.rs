//! Indexes and constraints as the SQL that makes them.

use super::{Catalog, ReferentialAction, Table};
use crate::exec::quote_name;

fn columns(table: &Table, positions: &[usize]) -> String {
    positions.iter().map(|&at| quote_name(&table.columns[at].name)).collect::<Vec<_>>().join(", ")
}

/// `CREATE INDEX ...`, or with a column (from 1) that column's name.
pub(crate) fn index_definition(catalog: &Catalog, oid: u32, column: i32) -> Option<String> {
    let (table, index) =
        catalog.tables().find_map(|table| Some((table, table.indexes.iter().find(|index| index.id == oid)?)))?;
    if column > 0 {
        let at = index.columns.get(usize::try_from(column - 1).ok()?)?;
        return Some(quote_name(&table.columns[*at].name));
    }
    let unique = if index.unique { "UNIQUE " } else { "" };
    let mut text = format!(
        "CREATE {unique}INDEX {} ON {}.{} USING btree ({})",
        quote_name(&index.name),
        quote_name(&table.schema),
        quote_name(&table.name),
        columns(table, &index.columns)
    );
    if let Some(predicate) = &index.predicate {
        text.push_str(&format!(" WHERE {predicate}"));
    }
    Some(text)
}

fn action(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

/// `PRIMARY KEY (...)`, `FOREIGN KEY (...) REFERENCES ...`, `CHECK (...)`.
pub(crate) fn constraint_definition(catalog: &Catalog, oid: u32) -> Option<String> {
    catalog.tables().find_map(|table| {
        if let Some(index) = table.indexes.iter().find(|index| index.id == oid && index.constraint) {
            let noun = if index.primary { "PRIMARY KEY" } else { "UNIQUE" };
            return Some(format!("{noun} ({})", columns(table, &index.columns)));
        }
        if let Some(check) = table.checks.iter().find(|check| check.id == oid) {
            return Some(format!("CHECK ({})", check.condition));
        }
        let key = table.foreign_keys.iter().find(|key| key.id == oid)?;
        let parent = catalog.table_by_id(key.parent)?;
        let mut text = format!(
            "FOREIGN KEY ({}) REFERENCES {}({})",
            columns(table, &key.columns),
            quote_name(&parent.name),
            columns(parent, &key.parent_columns)
        );
        for (event, what) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
            if what != ReferentialAction::NoAction {
                text.push_str(&format!(" ON {event} {}", action(what)));
            }
        }
        Some(text)
    })
}
