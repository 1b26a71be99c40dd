//! INSERT, UPDATE, DELETE: first everything is read, then everything is written, then what foreign keys say is checked.
//!
//! Reading first means that a statement never sees its own writes. An UPDATE takes all old entries out before it puts the
//! new ones in, so that `SET id = id + 1` conflicts with no row that is about to move away.

use std::collections::BTreeSet;

use super::eval::{Env, eval, holds};
use super::foreign::{ForeignChecks, Removed};
use super::key::{decode_stored, encode_stored, entry_key, key_suffix, primary_key};
use super::{Context, Runtime, collect};
use crate::bind::{ConflictAction, Delete, Insert, OnConflict, OutputColumn, RowChecks, Update};
use crate::catalog::{Table, index_prefix};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::Expr;
use crate::session::{BATCH_ROWS, Row, RowSink};
use crate::store::Store;
use crate::types::Value;

/// Refuses NULLs where none may be, and rows that a CHECK forbids.
fn check_row(table: &Table, checks: &RowChecks, row: &Row, ctx: &Context<'_>) -> Result<()> {
    for (column, value) in table.columns.iter().zip(row) {
        if column.not_null && !column.dropped && value.is_null() {
            let message = format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, table.name
            );
            return Err(SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
                .with_detail(failing_row(table, row, ctx))
                .with_table(&table.schema, &table.name)
                .with_column(&column.name));
        }
    }
    for (name, condition) in &checks.checks {
        if eval(condition, Env::new(row, None), ctx)?.as_bool() == Some(false) {
            let message = format!("new row for relation \"{}\" violates check constraint \"{name}\"", table.name);
            return Err(SqlError::new(SqlState::CHECK_VIOLATION, message)
                .with_detail(failing_row(table, row, ctx))
                .with_table(&table.schema, &table.name)
                .with_constraint(name));
        }
    }
    Ok(())
}

fn failing_row(table: &Table, row: &Row, ctx: &Context<'_>) -> String {
    let shown = table.visible().map(|(at, column)| match &row[at] {
        Value::Null => "null".to_string(),
        value => crate::types::encode_text(value, &column.ty, &ctx.eval.text()),
    });
    format!("Failing row contains ({}).", shown.collect::<Vec<_>>().join(", "))
}

/// `(a, b)=(1, 2)`, as error details show keys.
pub(crate) fn show_key(table: &Table, columns: &[usize], row: &[Value], ctx: &Context<'_>) -> String {
    let names: Vec<&str> = columns.iter().map(|&at| table.columns[at].name.as_str()).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|&at| crate::types::encode_text(&row[at], &table.columns[at].ty, &ctx.eval.text()))
        .collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}

fn duplicate(table: &Table, index: usize, row: &Row, ctx: &Context<'_>) -> SqlError {
    let index = &table.indexes[index];
    let message = format!("duplicate key value violates unique constraint \"{}\"", index.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .with_detail(format!("Key {} already exists.", show_key(table, &index.columns, row, ctx)))
        .with_table(&table.schema, &table.name)
        .with_constraint(&index.name)
}

/// True if a row belongs into an index: always, unless the index has a condition.
fn is_indexed(checks: &RowChecks, index: usize, row: &Row, ctx: &Context<'_>) -> Result<bool> {
    match checks.predicates.get(index) {
        Some(Some(predicate)) => Ok(eval(predicate, Env::new(row, None), ctx)?.as_bool() == Some(true)),
        _ => Ok(true),
    }
}

/// The first unique index in which a row like this is already, and that row's key parts.
fn find_conflict(
    table: &Table,
    checks: &RowChecks,
    row: &Row,
    only: &[usize],
    ctx: &Context<'_>,
) -> Result<Option<(usize, Vec<u8>)>> {
    let suffix = key_suffix(table, row)?;
    for (at, index) in table.indexes.iter().enumerate() {
        let asked = only.is_empty() || only.contains(&at);
        if !asked || !index.unique || !is_indexed(checks, at, row, ctx)? {
            continue;
        }
        let (key, exclusive) = entry_key(table, index, row, &suffix)?;
        if exclusive && let Some(found) = ctx.store.get(&key)? {
            return Ok(Some((at, if at == 0 { suffix } else { found })));
        }
    }
    Ok(None)
}

/// Writes a row and its index entries; it must conflict with none.
fn put_row(store: &mut dyn Store, table: &Table, checks: &RowChecks, row: &Row, runtime: &Runtime<'_>) -> Result<()> {
    let suffix = key_suffix(table, row)?;
    for (at, index) in table.indexes.iter().enumerate() {
        let ctx = Context::new(&*store, runtime);
        if at > 0 && !is_indexed(checks, at, row, &ctx)? {
            continue;
        }
        let (key, exclusive) = entry_key(table, index, row, &suffix)?;
        if exclusive && ctx.store.get(&key)?.is_some() {
            return Err(duplicate(table, at, row, &ctx));
        }
        let value = if at == 0 { encode_stored(table, row)? } else { suffix.clone() };
        store.put(key, value)?;
    }
    Ok(())
}

/// Takes a row and its index entries out.
pub(super) fn remove_row(store: &mut dyn Store, table: &Table, row: &Row) -> Result<()> {
    let suffix = key_suffix(table, row)?;
    for index in &table.indexes {
        let (key, exclusive) = entry_key(table, index, row, &suffix)?;
        // Where a condition may have kept the row out of a unique index, the entry can be another row's.
        if exclusive && index.predicate.is_some() && store.get(&key)?.is_some_and(|owner| owner != suffix) {
            continue;
        }
        store.delete(key)?;
    }
    Ok(())
}

/// A row put back changed: used by foreign keys that set columns.
pub(super) fn replace_row(
    store: &mut dyn Store,
    table: &Table,
    checks: &RowChecks,
    old: &Row,
    new: &Row,
    runtime: &Runtime<'_>,
) -> Result<()> {
    check_row(table, checks, new, &Context::new(&*store, runtime))?;
    remove_row(store, table, old)?;
    put_row(store, table, checks, new, runtime)
}

/// Collects what RETURNING says and hands it on in batches.
struct Returned<'a> {
    items: Option<&'a [(OutputColumn, Expr)]>,
    rows: Vec<Row>,
}

impl<'a> Returned<'a> {
    fn new(items: Option<&'a Vec<(OutputColumn, Expr)>>) -> Self {
        Returned { items: items.map(Vec::as_slice), rows: vec![] }
    }

    fn add(&mut self, row: &[Value], ctx: &Context<'_>) -> Result<()> {
        if let Some(items) = self.items {
            let row = items.iter().map(|(_, expr)| eval(expr, Env::new(row, None), ctx)).collect::<Result<Row>>()?;
            ctx.runtime.hold(&row)?;
            self.rows.push(row);
        }
        Ok(())
    }

    fn send(self, sink: &mut dyn RowSink) -> Result<()> {
        let mut rows = self.rows.into_iter();
        loop {
            let batch: Vec<Row> = rows.by_ref().take(BATCH_ROWS).collect();
            if batch.is_empty() || sink.rows(batch)?.is_break() {
                return Ok(());
            }
        }
    }
}

pub(crate) fn run_insert(
    insert: &Insert,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
    sink: &mut dyn RowSink,
) -> Result<u64> {
    let table = &insert.table;
    let rows = collect(&insert.source, None, &Context::new(&*store, runtime))?;
    let mut returned = Returned::new(insert.returning.as_ref());
    let mut foreign = ForeignChecks::default();
    let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut count = 0;
    for mut row in rows {
        if !table.has_primary_key() {
            free_row_id(&*store, table, &mut row)?;
        }
        check_row(table, &insert.checks, &row, &Context::new(&*store, runtime))?;
        let stored = match &insert.conflict {
            None => Some(row),
            Some(conflict) => {
                let ctx = Context::new(&*store, runtime);
                let found = find_conflict(table, &insert.checks, &row, &conflict.indexes, &ctx)?;
                match found {
                    None => Some(row),
                    Some((_, suffix)) => {
                        resolve_conflict(insert, conflict, row, &suffix, &mut touched, &mut foreign, store, runtime)?
                            .inspect(|_| count += 1)
                            .map(|row| returned.add(&row, &Context::new(&*store, runtime)))
                            .transpose()?;
                        None
                    }
                }
            }
        };
        let Some(row) = stored else { continue };
        put_row(store, table, &insert.checks, &row, runtime)?;
        if insert.conflict.is_some() {
            touched.insert(primary_key(table, &row)?);
        }
        foreign.added(table, &row);
        returned.add(&row, &Context::new(&*store, runtime))?;
        count += 1;
    }
    foreign.run(store, runtime)?;
    returned.send(sink)?;
    Ok(count)
}

/// Finds a row id that no row has: two rows may have come in one microsecond.
fn free_row_id(store: &dyn Store, table: &Table, row: &mut Row) -> Result<()> {
    let at = table.primary().columns[0];
    while store.get(&primary_key(table, row)?)?.is_some() {
        row[at] = Value::Int8(row[at].as_i64().unwrap_or_default().wrapping_add(1));
    }
    Ok(())
}

/// What ON CONFLICT makes of a row that is there already: the changed row, if one was changed.
#[allow(clippy::too_many_arguments)] // The statement's whole state; a struct would be named for this one call.
fn resolve_conflict(
    insert: &Insert,
    conflict: &OnConflict,
    excluded: Row,
    suffix: &[u8],
    touched: &mut BTreeSet<Vec<u8>>,
    foreign: &mut ForeignChecks,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
) -> Result<Option<Row>> {
    let ConflictAction::Update { assignments, condition } = &conflict.action else {
        return Ok(None);
    };
    let table = &insert.table;
    let mut key = index_prefix(table.id, table.primary().id);
    key.extend(suffix);
    if touched.contains(&key) {
        let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
        return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message)
            .with_hint("Ensure that no rows proposed for insertion have duplicate constrained values."));
    }
    let bytes = store.get(&key)?.ok_or_else(|| SqlError::corrupted("an index entry has no row"))?;
    let old = decode_stored(table, &bytes)?;
    let mut both = old.clone();
    both.extend(excluded);
    let mut new = old.clone();
    {
        let ctx = Context::new(&*store, runtime);
        let env = Env::new(&both, None);
        if let Some(condition) = condition
            && !holds(std::slice::from_ref(condition), env, &ctx)?
        {
            return Ok(None);
        }
        for assignment in assignments {
            new[assignment.column] = eval(&assignment.value, env, &ctx)?;
        }
        check_row(table, &insert.checks, &new, &ctx)?;
    }
    remove_row(store, table, &old)?;
    put_row(store, table, &insert.checks, &new, runtime)?;
    touched.insert(primary_key(table, &new)?);
    foreign.changed(table, old, &new, runtime.catalog);
    Ok(Some(new))
}

pub(crate) fn run_update(
    update: &Update,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
    sink: &mut dyn RowSink,
) -> Result<u64> {
    let table = &update.table;
    let width = table.columns.len();
    let mut changes: Vec<(Row, Row)> = Vec::new();
    {
        let ctx = Context::new(&*store, runtime);
        let mut seen = BTreeSet::new();
        for row in collect(&update.source, None, &ctx)? {
            // A row joined with several others is changed once.
            if !seen.insert(primary_key(table, &row)?) {
                continue;
            }
            let mut new = row.clone();
            for assignment in &update.assignments {
                new[assignment.column] = eval(&assignment.value, Env::new(&row, None), &ctx)?;
            }
            check_row(table, &update.checks, &new[..width].to_vec(), &ctx)?;
            ctx.runtime.hold(&new)?;
            changes.push((row[..width].to_vec(), new));
        }
    }
    for (old, _) in &changes {
        remove_row(store, table, old)?;
    }
    let mut returned = Returned::new(update.returning.as_ref());
    let mut foreign = ForeignChecks::default();
    let count = changes.len() as u64;
    for (old, new) in changes {
        let stored = new[..width].to_vec();
        put_row(store, table, &update.checks, &stored, runtime)?;
        foreign.changed(table, old, &stored, runtime.catalog);
        returned.add(&new, &Context::new(&*store, runtime))?;
    }
    foreign.run(store, runtime)?;
    returned.send(sink)?;
    Ok(count)
}

pub(crate) fn run_delete(
    delete: &Delete,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
    sink: &mut dyn RowSink,
) -> Result<u64> {
    let table = &delete.table;
    let width = table.columns.len();
    let mut returned = Returned::new(delete.returning.as_ref());
    let mut removed = Vec::new();
    {
        let ctx = Context::new(&*store, runtime);
        let mut seen = BTreeSet::new();
        for row in collect(&delete.source, None, &ctx)? {
            if seen.insert(primary_key(table, &row)?) {
                returned.add(&row, &ctx)?;
                removed.push(row[..width].to_vec());
            }
        }
    }
    let mut foreign = ForeignChecks::default();
    let count = removed.len() as u64;
    for row in removed {
        remove_row(store, table, &row)?;
        foreign.removed(Removed { table: table.id, old: row, new: None });
    }
    foreign.run(store, runtime)?;
    returned.send(sink)?;
    Ok(count)
}
