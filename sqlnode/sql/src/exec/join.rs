//! Joins: nested loops, lateral, hash.
//!
//! All give rows in the same order: by the left row, then by the right one; rows of the right side without partner come
//! last. So the choice of the strategy can't be seen in the result.

use std::collections::BTreeMap;

use super::eval::{Env, eval_all, holds};
use super::{Context, Frame, Rows, open};
use crate::error::Result;
use crate::plan::{Join, JoinKind, Strategy};
use crate::session::Row;
use crate::types::Value;

/// The right side, held: its rows, which of them found a partner, and where keys lead.
struct Held {
    rows: Vec<Row>,
    matched: Vec<bool>,
    by_key: Option<BTreeMap<Row, Vec<usize>>>,
}

pub(super) fn open_join<'a>(join: &'a Join, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let left = open(&join.left, frame, ctx)?;
    let right_width = join.right.columns().len();
    let left_width = join.left.columns().len();
    if let Strategy::Lateral = join.strategy {
        return Ok(Box::new(left.flat_map(move |row| {
            match row.and_then(|row| lateral(join, row, right_width, frame, ctx)) {
                Ok(rows) => Box::new(rows.into_iter().map(Ok)) as Rows<'a>,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })));
    }
    let mut held = hold(join, frame, ctx)?;
    let mut left = left;
    let mut pending: std::vec::IntoIter<Row> = Vec::new().into_iter();
    let mut done = false;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            if let Some(row) = pending.next() {
                return Some(Ok(row));
            }
            if done {
                return None;
            }
            match left.next() {
                Some(Ok(row)) => match partners(join, row, &mut held, right_width, frame, ctx) {
                    Ok(rows) => pending = rows.into_iter(),
                    Err(error) => return Some(Err(error)),
                },
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    done = true;
                    if matches!(join.kind, JoinKind::Right | JoinKind::Full) {
                        let rows = std::mem::take(&mut held.rows).into_iter().zip(&held.matched);
                        let lonely = rows.filter(|(_, matched)| !**matched).map(|(row, _)| {
                            let mut whole = vec![Value::Null; left_width];
                            whole.extend(row);
                            whole
                        });
                        pending = lonely.collect::<Vec<_>>().into_iter();
                    }
                }
            }
        }
    })))
}

fn hold<'a>(join: &'a Join, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Held> {
    let mut rows = Vec::new();
    let mut by_key = match &join.strategy {
        Strategy::Hash { .. } => Some(BTreeMap::<Row, Vec<usize>>::new()),
        _ => None,
    };
    for row in open(&join.right, frame, ctx)? {
        let row = row?;
        ctx.runtime.hold(&row)?;
        if let (Some(by_key), Strategy::Hash { right_keys, .. }) = (&mut by_key, &join.strategy) {
            let key = eval_all(right_keys, Env::new(&row, frame), ctx)?;
            // NULL equals nothing.
            if !key.iter().any(Value::is_null) {
                ctx.runtime.hold(&key)?;
                by_key.entry(key).or_default().push(rows.len());
            }
        }
        rows.push(row);
    }
    let matched = vec![false; rows.len()];
    Ok(Held { rows, matched, by_key })
}

/// A left row with each of its partners, or with NULLs where it must not be lost.
fn partners(
    join: &Join,
    left: Row,
    held: &mut Held,
    right_width: usize,
    frame: Option<&Frame<'_>>,
    ctx: &Context<'_>,
) -> Result<Vec<Row>> {
    let candidates: Vec<usize> = match (&held.by_key, &join.strategy) {
        (Some(by_key), Strategy::Hash { left_keys, .. }) => {
            let key = eval_all(left_keys, Env::new(&left, frame), ctx)?;
            match key.iter().any(Value::is_null) {
                true => vec![],
                false => by_key.get(&key).cloned().unwrap_or_default(),
            }
        }
        _ => (0..held.rows.len()).collect(),
    };
    let mut found = Vec::new();
    for at in candidates {
        ctx.runtime.tick()?;
        let mut row = Vec::with_capacity(left.len() + right_width);
        row.extend(left.iter().cloned());
        row.extend(held.rows[at].iter().cloned());
        if holds(&join.on, Env::new(&row, frame), ctx)? {
            held.matched[at] = true;
            found.push(row);
        }
    }
    if found.is_empty() && matches!(join.kind, JoinKind::Left | JoinKind::Full) {
        found.push(padded(left, right_width));
    }
    Ok(found)
}

/// As [`partners`], with the right side run for this row.
fn lateral(
    join: &Join,
    left: Row,
    right_width: usize,
    frame: Option<&Frame<'_>>,
    ctx: &Context<'_>,
) -> Result<Vec<Row>> {
    let mut found = Vec::new();
    {
        let inner = Frame { row: &left, parent: frame };
        // The rows live no longer than this frame; they are few, since they belong to one left row.
        for right in open(&join.right, Some(&inner), ctx)? {
            let mut row = Vec::with_capacity(left.len() + right_width);
            row.extend(left.iter().cloned());
            row.extend(right?);
            if holds(&join.on, Env::new(&row, frame), ctx)? {
                found.push(row);
            }
        }
    }
    if found.is_empty() && join.kind == JoinKind::Left {
        found.push(padded(left, right_width));
    }
    Ok(found)
}

fn padded(mut row: Row, more: usize) -> Row {
    row.resize(row.len() + more, Value::Null);
    row
}
