//! Sorting, bounding, distinct rows, set operations, functions in FROM, WITH.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::eval::{Env, eval, eval_all};
use super::runtime::row_bytes;
use super::{Context, Frame, Rows, collect, flatten, open};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::{Bounds, Expr, FunctionCall, Plan, SetOperation, SortKey};
use crate::session::Row;
use crate::types::Value;

/// The order that sort keys ask for, over their values.
pub(super) fn compare_keys(keys: &[SortKey], a: &[Value], b: &[Value]) -> Ordering {
    for (key, (a, b)) in keys.iter().zip(a.iter().zip(b)) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if key.descending => b.cmp(a),
            (false, false) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// LIMIT and OFFSET as numbers; no limit is the largest number.
fn eval_bounds(bounds: &Bounds, frame: Option<&Frame<'_>>, ctx: &Context<'_>) -> Result<(usize, usize)> {
    let number = |expr: &Option<Expr>, none: usize, state: SqlState, word: &str| -> Result<usize> {
        let Some(expr) = expr else { return Ok(none) };
        match eval(expr, Env::new(&[], frame), ctx)?.as_i64() {
            None => Ok(none),
            Some(number) => {
                usize::try_from(number).map_err(|_| SqlError::new(state, format!("{word} must not be negative")))
            }
        }
    };
    let limit = number(&bounds.limit, usize::MAX, SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT")?;
    let offset = number(&bounds.offset, 0, SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE, "OFFSET")?;
    Ok((limit, offset))
}

pub(super) fn open_limit<'a>(
    input: &'a Plan,
    bounds: &'a Bounds,
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let (limit, offset) = eval_bounds(bounds, frame, ctx)?;
    if limit == 0 {
        return Ok(Box::new(std::iter::empty()));
    }
    // Skipped rows may be errors as well; those are not passed over.
    let mut skipped = 0;
    let rows = open(input, frame, ctx)?.filter(move |row| {
        if row.is_ok() && skipped < offset {
            skipped += 1;
            return false;
        }
        true
    });
    Ok(Box::new(rows.take(limit)))
}

pub(super) fn open_sort<'a>(
    input: &'a Plan,
    keys: &'a [SortKey],
    top: Option<&'a Bounds>,
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let wanted = match top {
        Some(bounds) => {
            let (limit, offset) = eval_bounds(bounds, frame, ctx)?;
            limit.saturating_add(offset)
        }
        None => usize::MAX,
    };
    let mut rows: Vec<(Row, Row)> = Vec::new();
    let order = |a: &(Row, Row), b: &(Row, Row)| compare_keys(keys, &a.0, &b.0);
    for row in open(input, frame, ctx)? {
        let row = row?;
        let env = Env::new(&row, frame);
        let key = keys.iter().map(|key| eval(&key.expr, env, ctx)).collect::<Result<Row>>()?;
        ctx.runtime.hold_bytes(row_bytes(&row) + row_bytes(&key))?;
        rows.push((key, row));
        // Of a bounded sort only the best are kept; cutting at twice the number makes it linear.
        if rows.len() >= wanted.saturating_mul(2).saturating_add(64) {
            rows.sort_by(order);
            for (key, row) in rows.drain(wanted..) {
                ctx.runtime.release(row_bytes(&row) + row_bytes(&key));
            }
        }
    }
    rows.sort_by(order);
    Ok(Box::new(rows.into_iter().map(|(_, row)| Ok(row))))
}

pub(super) fn open_distinct<'a>(
    input: &'a Plan,
    keys: &'a [Expr],
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let mut seen: BTreeSet<Row> = BTreeSet::new();
    Ok(Box::new(open(input, frame, ctx)?.filter_map(move |row| {
        let mut first = |row: &Row| -> Result<bool> {
            let key = eval_all(keys, Env::new(row, frame), ctx)?;
            if seen.contains(&key) {
                return Ok(false);
            }
            ctx.runtime.hold(&key)?;
            seen.insert(key);
            Ok(true)
        };
        match row {
            Ok(row) => match first(&row) {
                Ok(true) => Some(Ok(row)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            },
            Err(error) => Some(Err(error)),
        }
    })))
}

pub(super) fn open_set_operation<'a>(
    op: SetOperation,
    all: bool,
    left: &'a Plan,
    right: &'a Plan,
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let left = open(left, frame, ctx)?;
    if op == SetOperation::Union {
        // The right side begins when the left one is through: perhaps never.
        let rows = left.chain(flatten(std::iter::once_with(move || open(right, frame, ctx))));
        if all {
            return Ok(Box::new(rows));
        }
        let mut seen: BTreeSet<Row> = BTreeSet::new();
        return Ok(Box::new(rows.filter_map(move |row| match row {
            Ok(row) if seen.contains(&row) => None,
            Ok(row) => {
                if let Err(error) = ctx.runtime.hold(&row) {
                    return Some(Err(error));
                }
                seen.insert(row.clone());
                Some(Ok(row))
            }
            Err(error) => Some(Err(error)),
        })));
    }
    // How often each row of the right side can still be matched.
    let mut counts: BTreeMap<Row, usize> = BTreeMap::new();
    for row in open(right, frame, ctx)? {
        let row = row?;
        ctx.runtime.hold(&row)?;
        *counts.entry(row).or_default() += 1;
    }
    let mut seen: BTreeSet<Row> = BTreeSet::new();
    Ok(Box::new(left.filter_map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        let matched = match counts.get_mut(&row) {
            Some(count) if *count > 0 => {
                if all {
                    *count -= 1;
                }
                true
            }
            _ => false,
        };
        if matched != (op == SetOperation::Intersect) {
            return None;
        }
        if !all {
            if seen.contains(&row) {
                return None;
            }
            if let Err(error) = ctx.runtime.hold(&row) {
                return Some(Err(error));
            }
            seen.insert(row.clone());
        }
        Some(Ok(row))
    })))
}

pub(super) fn open_functions<'a>(
    functions: &'a [FunctionCall],
    ordinality: bool,
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let mut sources = Vec::new();
    for call in functions {
        let args = eval_all(&call.args, Env::new(&[], frame), ctx)?;
        let rows: Box<dyn Iterator<Item = Result<Value>>> = match call.function.kind {
            crate::func::Kind::Set => call.function.rows(&args, &ctx.eval)?,
            _ => Box::new(std::iter::once(call.function.call(&args, &ctx.eval))),
        };
        sources.push(rows);
    }
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        let mut any = false;
        let mut row = Vec::with_capacity(sources.len() + 1);
        for source in &mut sources {
            match source.next() {
                Some(Ok(value)) => {
                    any = true;
                    row.push(value);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => row.push(Value::Null),
            }
        }
        if !any {
            return None;
        }
        number += 1;
        if ordinality {
            row.push(Value::Int8(number));
        }
        Some(ctx.runtime.tick().map(|()| row))
    })))
}

pub(super) fn open_with<'a>(number: usize, plan: &'a Plan, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let kept = ctx.runtime.ctes.borrow().get(&number).cloned();
    let rows = match kept {
        Some(rows) => rows,
        None => {
            let rows = Rc::new(ctx.runtime.passing(|| collect(plan, None, ctx))?);
            ctx.runtime.keep_bytes(rows.iter().map(row_bytes).sum())?;
            ctx.runtime.ctes.borrow_mut().insert(number, rows.clone());
            rows
        }
    };
    Ok(Box::new((0..rows.len()).map(move |at| Ok(rows[at].clone()))))
}
