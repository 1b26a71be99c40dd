//! Recursive WITH queries: the first rows, then whatever follows from the rows found last, until nothing does.
//!
//! Rows are handed on as they are found, so a query that would go on for ever may be ended by a LIMIT.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::runtime::row_bytes;
use super::{Context, Rows, collect};
use crate::error::{Result, SqlError};
use crate::plan::Recursion;
use crate::session::Row;

struct Recursive<'a> {
    recursion: &'a Recursion,
    ctx: &'a Context<'a>,
    /// Rows found last, and how many of them were handed on; nothing before the first ones.
    found: Option<Rc<Vec<Row>>>,
    given: usize,
    /// All rows so far, where each is wanted once.
    seen: BTreeSet<Row>,
}

pub(super) fn open_recursive<'a>(recursion: &'a Recursion, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    Ok(Box::new(Recursive { recursion, ctx, found: None, given: 0, seen: BTreeSet::new() }))
}

/// The rows that the recursion of this number found last.
pub(super) fn open_work<'a>(number: usize, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let rows = ctx.runtime.work.borrow().get(&number).cloned();
    let rows = rows.ok_or_else(|| SqlError::internal("rows of a recursion are read outside of it"))?;
    Ok(Box::new((0..rows.len()).map(move |at| Ok(rows[at].clone()))))
}

impl Iterator for Recursive<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        loop {
            if let Some(row) = self.found.as_ref().and_then(|found| found.get(self.given)) {
                self.given += 1;
                return Some(Ok(row.clone()));
            }
            if self.found.as_ref().is_some_and(|found| found.is_empty()) {
                return None;
            }
            if let Err(error) = self.find() {
                self.found = Some(Rc::default());
                return Some(Err(error));
            }
        }
    }
}

impl Recursive<'_> {
    /// Finds the next rows.
    fn find(&mut self) -> Result<()> {
        let runtime = self.ctx.runtime;
        let before = self.found.take();
        // A recursion may be mentioned within its own step, or twice in one join: each has the place for itself while it
        // reads, which it does in one go.
        let outer = before.clone().and_then(|rows| runtime.work.borrow_mut().insert(self.recursion.number, rows));
        let plan = if before.is_some() { &self.recursion.step } else { &self.recursion.base };
        let rows = runtime.passing(|| collect(plan, None, self.ctx));
        if let Some(outer) = outer {
            runtime.work.borrow_mut().insert(self.recursion.number, outer);
        }
        let mut rows = rows?;
        if let Some(before) = before {
            runtime.release(before.iter().map(row_bytes).sum());
        }
        if !self.recursion.all {
            let mut kept = Vec::new();
            for row in rows {
                if !self.seen.contains(&row) {
                    runtime.hold(&row)?;
                    self.seen.insert(row.clone());
                    kept.push(row);
                }
            }
            rows = kept;
        }
        runtime.hold_bytes(rows.iter().map(row_bytes).sum())?;
        runtime.tick()?;
        (self.found, self.given) = (Some(Rc::new(rows)), 0);
        Ok(())
    }
}
