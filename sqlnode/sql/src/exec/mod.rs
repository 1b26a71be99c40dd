//! The executor: pulls rows from a plan, and changes what statements change.
//!
//! Operators are iterators over rows. A row is read from the store when somebody pulls for it and not before, so a LIMIT
//! reads (and thereby makes the transaction depend on) no more than it returns. What must be held (sorts, hash tables, the
//! rows that a statement is going to change) is accounted for and bounded.

mod aggregate;
mod change;
mod eval;
mod foreign;
mod join;
mod key;
mod operators;
mod recursive;
mod runtime;
mod scan;
mod subquery;

pub(crate) use change::{run_delete, run_insert, run_update, show_key};
pub(crate) use foreign::{check_foreign_key, remove_prefix, truncate_table};
pub(crate) use key::{decode_stored, encode_stored, entry_key, primary_key};
pub(crate) use runtime::{Context, Runtime, names, quote_name};

use std::ops::ControlFlow;

use crate::error::Result;
use crate::numbers;
use crate::plan::{Expr, Plan};
use crate::session::{BATCH_ROWS, Row, RowSink};
use crate::store::Store;
use crate::types::Value;
use eval::Env;

/// Rows as they come.
pub(super) type Rows<'a> = Box<dyn Iterator<Item = Result<Row>> + 'a>;

/// A row of a query around the one that runs.
pub(crate) struct Frame<'a> {
    row: &'a [Value],
    parent: Option<&'a Frame<'a>>,
}

/// Chains the rows of several parts, of which any may fail to begin.
fn flatten<'a>(parts: impl Iterator<Item = Result<Rows<'a>>> + 'a) -> impl Iterator<Item = Result<Row>> + 'a {
    parts.flat_map(|rows| match rows {
        Ok(rows) => rows,
        Err(error) => Box::new(std::iter::once(Err(error))),
    })
}

/// Starts a plan.
pub(super) fn open<'a>(plan: &'a Plan, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    match plan {
        Plan::Rows { rows, .. } => {
            Ok(Box::new(rows.iter().map(move |row| eval::eval_all(row, Env::new(&[], frame), ctx))))
        }
        Plan::Scan(scan) => scan::open_scan(scan, frame, ctx),
        Plan::System { table, .. } => Ok(Box::new((table.rows)(ctx.runtime.catalog, &ctx.eval)?.into_iter().map(Ok))),
        Plan::Functions { functions, ordinality } => {
            operators::open_functions(functions, ordinality.is_some(), frame, ctx)
        }
        Plan::Filter { input, conditions } => {
            let rows = open(input, frame, ctx)?;
            Ok(Box::new(rows.filter_map(move |row| {
                let row = match row {
                    Ok(row) => row,
                    Err(error) => return Some(Err(error)),
                };
                match eval::holds(conditions, Env::new(&row, frame), ctx) {
                    Ok(true) => Some(Ok(row)),
                    Ok(false) => None,
                    Err(error) => Some(Err(error)),
                }
            })))
        }
        Plan::Project { input, columns } => {
            let rows = open(input, frame, ctx)?;
            Ok(Box::new(rows.map(move |row| {
                let row = row?;
                columns.iter().map(|(_, expr)| eval::eval(expr, Env::new(&row, frame), ctx)).collect()
            })))
        }
        Plan::Join(join) => join::open_join(join, frame, ctx),
        Plan::Aggregate { input, groups, aggregates } => {
            aggregate::open_aggregate(input, groups, aggregates, frame, ctx)
        }
        Plan::Distinct { input, keys } => operators::open_distinct(input, keys, frame, ctx),
        Plan::Sort { input, keys, top } => operators::open_sort(input, keys, top.as_ref(), frame, ctx),
        Plan::Limit { input, bounds } => operators::open_limit(input, bounds, frame, ctx),
        Plan::SetOperation { op, all, left, right, .. } => {
            operators::open_set_operation(*op, *all, left, right, frame, ctx)
        }
        Plan::With { number, plan, .. } => operators::open_with(*number, plan, ctx),
        Plan::Recursive { recursion, .. } => recursive::open_recursive(recursion, ctx),
        Plan::Work { number, .. } => recursive::open_work(*number, ctx),
    }
}

/// Reads all rows of a plan, which are held.
fn collect(plan: &Plan, frame: Option<&Frame<'_>>, ctx: &Context<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for row in open(plan, frame, ctx)? {
        let row = row?;
        ctx.runtime.hold(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

/// Runs a query and hands its rows on, a batch at a time.
pub(crate) fn run_query(plan: &Plan, ctx: &Context<'_>, sink: &mut dyn RowSink) -> Result<u64> {
    let mut count = 0;
    let mut batch = Vec::new();
    for row in open(plan, None, ctx)? {
        batch.push(row?);
        count += 1;
        if batch.len() >= BATCH_ROWS && sink.rows(std::mem::take(&mut batch))? == ControlFlow::Break(()) {
            return Ok(count);
        }
    }
    if !batch.is_empty() {
        let _ = sink.rows(batch)?;
    }
    Ok(count)
}

/// The value of an expression that reads no row.
pub(crate) fn eval_constant(expr: &Expr, ctx: &Context<'_>) -> Result<Value> {
    eval::eval(expr, Env::new(&[], None), ctx)
}

/// The value of an expression over one row.
pub(crate) fn eval_row(expr: &Expr, row: &[Value], ctx: &Context<'_>) -> Result<Value> {
    eval::eval(expr, Env::new(row, None), ctx)
}

/// Writes what the statement has counted.
pub(crate) fn write_sequences(store: &mut dyn Store, runtime: &Runtime<'_>) -> Result<()> {
    let counted = std::mem::take(&mut *runtime.sequences.borrow_mut());
    let set = std::mem::take(&mut *runtime.sequences_set.borrow_mut());
    counted.into_iter().try_for_each(|(id, last)| numbers::write_last(store, id, last))?;
    set.into_iter().try_for_each(|id| numbers::write_epoch(store, id, runtime.nonce()))
}
