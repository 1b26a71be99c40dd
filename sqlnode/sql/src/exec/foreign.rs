//! Foreign keys, both ways, at the end of the statement.
//!
//! A new reference must find its parent. A row that went, or whose key changed, may be referred to: what becomes of the
//! referring rows is the key's action, which may remove or change further rows; those wait in the same list, so a cascade
//! is a loop and no recursion.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::{remove_row, replace_row, show_key};
use super::key::{decode_stored, primary_key};
use super::{Context, Runtime};
use crate::bind::Binder;
use crate::catalog::{Catalog, ForeignKey, ReferentialAction, Table, index_prefix};
use crate::codec::{KeyOrder, encode_key, prefix_end};
use crate::error::{Result, SqlError, SqlState};
use crate::parse::Source;
use crate::session::Row;
use crate::store::{Direction, Store};
use crate::types::Value;

/// A row that went (`new` is nothing) or changed.
pub(super) struct Removed {
    pub(super) table: u32,
    pub(super) old: Row,
    pub(super) new: Option<Row>,
}

/// What is to be looked at when the statement has written everything.
#[derive(Default)]
pub(super) struct ForeignChecks {
    added: VecDeque<(u32, Row)>,
    removed: VecDeque<Removed>,
}

fn key_of(row: &[Value], columns: &[usize]) -> Vec<Value> {
    columns.iter().map(|&at| row[at].clone()).collect()
}

impl ForeignChecks {
    pub(super) fn added(&mut self, table: &Table, row: &Row) {
        if !table.foreign_keys.is_empty() {
            self.added.push_back((table.id, row.clone()));
        }
    }

    pub(super) fn removed(&mut self, removed: Removed) {
        self.removed.push_back(removed);
    }

    pub(super) fn changed(&mut self, table: &Table, old: Row, new: &Row, catalog: &Catalog) {
        let referring = table.foreign_keys.iter().any(|key| key_of(&old, &key.columns) != key_of(new, &key.columns));
        if referring {
            self.added(table, new);
        }
        let referred = catalog
            .referrers(table.id)
            .any(|(_, key)| key_of(&old, &key.parent_columns) != key_of(new, &key.parent_columns));
        if referred {
            self.removed.push_back(Removed { table: table.id, old, new: Some(new.clone()) });
        }
    }

    pub(super) fn run(mut self, store: &mut dyn Store, runtime: &Runtime<'_>) -> Result<()> {
        while let Some(removed) = self.removed.pop_front() {
            let Some(parent) = runtime.catalog.table_by_id(removed.table) else { continue };
            let referrers: Vec<(Arc<Table>, ForeignKey)> =
                runtime.catalog.referrers(removed.table).map(|(child, key)| (child.clone(), key.clone())).collect();
            for (child, key) in referrers {
                self.follow(parent, &child, &key, &removed, store, runtime)?;
            }
        }
        while let Some((table, row)) = self.added.pop_front() {
            let Some(table) = runtime.catalog.table_by_id(table) else { continue };
            // By a cascade, the row may have gone again, or another of its keys may have changed since.
            let Some(bytes) = store.get(&primary_key(table, &row)?)? else { continue };
            let row = decode_stored(table, &bytes)?;
            let ctx = Context::new(&*store, runtime);
            table.foreign_keys.iter().try_for_each(|key| check_foreign_key(table, key, &row, &ctx))?;
        }
        Ok(())
    }

    /// Applies one foreign key to the rows that refer to a removed or changed one.
    fn follow(
        &mut self,
        parent: &Table,
        child: &Table,
        key: &ForeignKey,
        removed: &Removed,
        store: &mut dyn Store,
        runtime: &Runtime<'_>,
    ) -> Result<()> {
        let old = key_of(&removed.old, &key.parent_columns);
        if old.iter().any(Value::is_null) {
            return Ok(());
        }
        if removed.new.as_ref().is_some_and(|new| key_of(new, &key.parent_columns) == old) {
            return Ok(());
        }
        let rows = {
            let ctx = Context::new(&*store, runtime);
            // Another row may have taken the key's place in the same statement.
            if find_parent(parent, &key.parent_columns, &old, &ctx)? {
                return Ok(());
            }
            find_children(child, &key.columns, &old, &ctx)?
        };
        if rows.is_empty() {
            return Ok(());
        }
        let action = if removed.new.is_some() { key.on_update } else { key.on_delete };
        match (action, &removed.new) {
            (ReferentialAction::NoAction | ReferentialAction::Restrict, _) => {
                let ctx = Context::new(&*store, runtime);
                let message = format!(
                    "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
                    parent.name, key.name, child.name
                );
                let shown = show_key(parent, &key.parent_columns, &removed.old, &ctx);
                Err(SqlError::new(SqlState::FOREIGN_KEY_VIOLATION, message)
                    .with_detail(format!("Key {shown} is still referenced from table \"{}\".", child.name))
                    .with_table(&child.schema, &child.name)
                    .with_constraint(&key.name))
            }
            (ReferentialAction::Cascade, None) => {
                for row in rows {
                    remove_row(store, child, &row)?;
                    self.removed.push_back(Removed { table: child.id, old: row, new: None });
                }
                Ok(())
            }
            (action, new) => {
                let source = Source::new("");
                let mut binder = Binder::new(runtime.catalog, runtime.session, runtime, &source, &[]);
                let mut checks = binder.row_checks(child)?;
                checks.resolve()?;
                for row in rows {
                    let mut changed = row.clone();
                    for (at, &column) in key.columns.iter().enumerate() {
                        changed[column] = match (action, new) {
                            (ReferentialAction::Cascade, Some(new)) => new[key.parent_columns[at]].clone(),
                            (ReferentialAction::SetDefault, _) => {
                                let default = binder.default_value(child, column)?;
                                super::eval_constant(&default, &Context::new(&*store, runtime))?
                            }
                            _ => Value::Null,
                        };
                    }
                    replace_row(store, child, &checks, &row, &changed, runtime)?;
                    // A default may be what it was, and lead nowhere now.
                    self.added(child, &changed);
                    self.changed(child, row, &changed, runtime.catalog);
                }
                Ok(())
            }
        }
    }
}

/// Refuses a row whose reference leads nowhere. A key with a NULL refers to nothing.
pub(crate) fn check_foreign_key(table: &Table, key: &ForeignKey, row: &[Value], ctx: &Context<'_>) -> Result<()> {
    let values = key_of(row, &key.columns);
    if values.iter().any(Value::is_null) {
        return Ok(());
    }
    let Some(parent) = ctx.runtime.catalog.table_by_id(key.parent) else {
        return Err(SqlError::corrupted(format!("foreign key \"{}\" refers to no table", key.name)));
    };
    if find_parent(parent, &key.parent_columns, &values, ctx)? {
        return Ok(());
    }
    let message =
        format!("insert or update on table \"{}\" violates foreign key constraint \"{}\"", table.name, key.name);
    let shown = show_key(table, &key.columns, row, ctx);
    Err(SqlError::new(SqlState::FOREIGN_KEY_VIOLATION, message)
        .with_detail(format!("Key {shown} is not present in table \"{}\".", parent.name))
        .with_table(&table.schema, &table.name)
        .with_constraint(&key.name))
}

/// True if a row of the parent has these values in these columns, over which it has a unique index.
fn find_parent(parent: &Table, columns: &[usize], values: &[Value], ctx: &Context<'_>) -> Result<bool> {
    let covers = |index: &&crate::catalog::Index| {
        index.unique
            && index.predicate.is_none()
            && index.columns.len() == columns.len()
            && index.columns.iter().all(|column| columns.contains(column))
    };
    let Some(index) = parent.indexes.iter().find(covers) else {
        return Ok(!find_children(parent, columns, values, ctx)?.is_empty());
    };
    let mut key = index_prefix(parent.id, index.id);
    for column in &index.columns {
        let at = columns.iter().position(|other| other == column).unwrap_or(0);
        let value = same_type(&values[at], &parent.columns[*column].ty, ctx)?;
        encode_key(&value, KeyOrder::ASCENDING, &mut key)?;
    }
    Ok(ctx.store.get(&key)?.is_some())
}

/// A referring integer may be narrower or wider than the one referred to; keys are stored by type.
fn same_type(value: &Value, ty: &crate::types::Type, ctx: &Context<'_>) -> Result<Value> {
    use crate::types::Type;
    let from = match value {
        Value::Int2(_) => Type::Int2,
        Value::Int4(_) => Type::Int4,
        Value::Int8(_) => Type::Int8,
        _ => return Ok(value.clone()),
    };
    crate::types::cast(value, &from, ty, crate::types::CastContext::Assignment, &ctx.eval)
}

/// The rows with these values in these columns: by an index that begins with them, or by reading all.
fn find_children(table: &Table, columns: &[usize], values: &[Value], ctx: &Context<'_>) -> Result<Vec<Row>> {
    let begins = |index: &crate::catalog::Index| {
        index.predicate.is_none()
            && index.columns.len() >= columns.len()
            && index.columns[..columns.len()].iter().all(|column| columns.contains(column))
    };
    let values: Vec<Value> = columns
        .iter()
        .zip(values)
        .map(|(&column, value)| same_type(value, &table.columns[column].ty, ctx))
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    let mut keep = |bytes: &[u8]| -> Result<()> {
        let row = decode_stored(table, bytes)?;
        ctx.runtime.tick()?;
        if key_of(&row, columns) == values {
            ctx.runtime.hold(&row)?;
            rows.push(row);
        }
        Ok(())
    };
    match table.indexes.iter().position(begins) {
        Some(at) => {
            let index = &table.indexes[at];
            let mut prefix = index_prefix(table.id, index.id);
            for column in &index.columns[..columns.len()] {
                let place = columns.iter().position(|other| other == column).unwrap_or(0);
                encode_key(&values[place], KeyOrder::ASCENDING, &mut prefix)?;
            }
            for pair in ctx.store.scan(&prefix, &prefix_end(&prefix), Direction::Forward)? {
                let (_, value) = pair?;
                if at == 0 {
                    keep(&value)?;
                    continue;
                }
                let mut key = index_prefix(table.id, table.primary().id);
                key.extend(value);
                if let Some(bytes) = ctx.store.get(&key)? {
                    keep(&bytes)?;
                }
            }
        }
        None => {
            let prefix = index_prefix(table.id, table.primary().id);
            for pair in ctx.store.scan(&prefix, &prefix_end(&prefix), Direction::Forward)? {
                keep(&pair?.1)?;
            }
        }
    }
    Ok(rows)
}

/// Removes all rows and index entries of a table.
pub(crate) fn truncate_table(store: &mut dyn Store, table: &Table) -> Result<()> {
    for index in &table.indexes {
        remove_prefix(store, index_prefix(table.id, index.id))?;
    }
    Ok(())
}

/// Removes all keys that begin with a prefix, some at a time.
pub(crate) fn remove_prefix(store: &mut dyn Store, prefix: Vec<u8>) -> Result<()> {
    let end = prefix_end(&prefix);
    loop {
        let keys: Vec<Vec<u8>> =
            store.scan(&prefix, &end, Direction::Forward)?.take(4096).map(|pair| Ok(pair?.0)).collect::<Result<_>>()?;
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            store.delete(key)?;
        }
    }
}
