//! Joins: nested loops, lateral, hash.
//!
//! All give rows in the same order: by the left row, then by the right one; rows of the right side without partner come
//! last. So the choice of the strategy can't be seen in the result.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::eval::{Env, eval_all, holds};
use super::runtime::row_bytes;
use super::{Context, Frame, Rows, open};
use crate::error::Result;
use crate::plan::{Join, JoinKind, Strategy};
use crate::session::Row;
use crate::types::Value;

/// The right side, held: its rows, which of them found a partner, and where keys lead.
struct Held {
    rows: Vec<Row>,
    matched: Vec<bool>,
    by_key: Option<BTreeMap<Row, Rc<Vec<usize>>>>,
}

pub(super) fn open_join<'a>(join: &'a Join, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let left = open(&join.left, frame, ctx)?;
    let right_width = join.right.columns().len();
    if let Strategy::Lateral = join.strategy {
        return Ok(Box::new(left.flat_map(move |row| {
            match row.and_then(|row| lateral(join, row, right_width, frame, ctx)) {
                Ok(rows) => Box::new(rows.into_iter().map(|row| {
                    ctx.runtime.release(row_bytes(&row));
                    Ok(row)
                })) as Rows<'a>,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })));
    }
    let held = hold(join, frame, ctx)?;
    let left_width = join.left.columns().len();
    let (current, lonely) = (None, None);
    Ok(Box::new(Joining { join, frame, ctx, left, held, left_width, right_width, current, lonely }))
}

/// A nested loop or hash join on its way through the left rows.
struct Joining<'a> {
    join: &'a Join,
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
    left: Rows<'a>,
    held: Held,
    left_width: usize,
    right_width: usize,
    current: Option<Current>,
    /// Right rows, and whether they found a partner: when all left rows are through.
    lonely: Option<std::iter::Zip<std::vec::IntoIter<Row>, std::vec::IntoIter<bool>>>,
}

/// A left row that is being joined.
struct Current {
    row: Row,
    candidates: Candidates,
    /// How many candidates were tried.
    tried: usize,
    found: bool,
}

/// Places of right rows that may be partners.
enum Candidates {
    All,
    Some(Rc<Vec<usize>>),
}

impl Iterator for Joining<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        self.advance().transpose()
    }
}

impl Joining<'_> {
    fn advance(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(mut current) = self.current.take() {
                if let Some(row) = self.partner(&mut current)? {
                    self.current = Some(current);
                    return Ok(Some(row));
                }
                if !current.found && matches!(self.join.kind, JoinKind::Left | JoinKind::Full) {
                    return Ok(Some(padded(current.row, self.right_width)));
                }
            }
            if let Some(lonely) = &mut self.lonely {
                let next = lonely.find(|(_, matched)| !matched);
                return Ok(next.map(|(row, _)| {
                    let mut whole = vec![Value::Null; self.left_width];
                    whole.extend(row);
                    whole
                }));
            }
            match self.left.next().transpose()? {
                Some(row) => {
                    let candidates = self.candidates(&row)?;
                    self.current = Some(Current { row, candidates, tried: 0, found: false });
                }
                None => {
                    let mut rows = std::mem::take(&mut self.held.rows);
                    if !matches!(self.join.kind, JoinKind::Right | JoinKind::Full) {
                        rows.clear();
                    }
                    let matched = std::mem::take(&mut self.held.matched);
                    self.lonely = Some(rows.into_iter().zip(matched));
                }
            }
        }
    }

    fn candidates(&self, left: &Row) -> Result<Candidates> {
        let (Some(by_key), Strategy::Hash { left_keys, .. }) = (&self.held.by_key, &self.join.strategy) else {
            return Ok(Candidates::All);
        };
        let key = eval_all(left_keys, Env::new(left, self.frame), self.ctx)?;
        let found = if key.iter().any(Value::is_null) { None } else { by_key.get(&key) };
        Ok(Candidates::Some(found.cloned().unwrap_or_default()))
    }

    /// The left row with its next partner.
    fn partner(&mut self, current: &mut Current) -> Result<Option<Row>> {
        loop {
            let at = match &current.candidates {
                Candidates::All if current.tried < self.held.rows.len() => current.tried,
                Candidates::Some(places) if current.tried < places.len() => places[current.tried],
                _ => return Ok(None),
            };
            current.tried += 1;
            self.ctx.runtime.tick()?;
            let mut row = Vec::with_capacity(self.left_width + self.right_width);
            row.extend(current.row.iter().cloned());
            row.extend(self.held.rows[at].iter().cloned());
            if holds(&self.join.on, Env::new(&row, self.frame), self.ctx)? {
                self.held.matched[at] = true;
                current.found = true;
                return Ok(Some(row));
            }
        }
    }
}

fn hold<'a>(join: &'a Join, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Held> {
    let mut rows = Vec::new();
    let mut by_key = match &join.strategy {
        Strategy::Hash { .. } => Some(BTreeMap::<Row, Rc<Vec<usize>>>::new()),
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
                Rc::make_mut(by_key.entry(key).or_default()).push(rows.len());
            }
        }
        rows.push(row);
    }
    let matched = vec![false; rows.len()];
    Ok(Held { rows, matched, by_key })
}

/// A left row with each row that the right side gives for it, or with NULLs where it must not be lost. They are held,
/// and released when they are handed on; what the right side held meanwhile is gone.
fn lateral(
    join: &Join,
    left: Row,
    right_width: usize,
    frame: Option<&Frame<'_>>,
    ctx: &Context<'_>,
) -> Result<Vec<Row>> {
    let mut found = ctx.runtime.passing(|| -> Result<Vec<Row>> {
        let inner = Frame { row: &left, parent: frame };
        let mut found = Vec::new();
        for right in open(&join.right, Some(&inner), ctx)? {
            let mut row = Vec::with_capacity(left.len() + right_width);
            row.extend(left.iter().cloned());
            row.extend(right?);
            if holds(&join.on, Env::new(&row, frame), ctx)? {
                ctx.runtime.hold(&row)?;
                found.push(row);
            }
        }
        Ok(found)
    })?;
    if found.is_empty() && join.kind == JoinKind::Left {
        found.push(padded(left, right_width));
    }
    ctx.runtime.hold_bytes(found.iter().map(row_bytes).sum())?;
    Ok(found)
}

fn padded(mut row: Row, more: usize) -> Row {
    row.resize(row.len() + more, Value::Null);
    row
}
