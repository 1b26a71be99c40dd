//! Numbers of sequences, handed out ahead of the transactions that use them.
//!
//! A number that a transaction counts itself is a row that everybody changes: of two transactions that insert into one
//! table with a serial column, one would always have to run again. So whoever runs sessions may give them a
//! [`NumberSource`]. It takes a block of numbers at a time, in a transaction of its own ([`allot`]), and hands them out one
//! by one. As in PostgreSQL, a number that was handed out is gone, whatever becomes of the statement that asked for it.
//! Without a source, sequences are counted in the transaction that asks.
//!
//! ```text
//!   02 <sequence id>       the last number handed out, or taken as part of a block
//!   02 <sequence id> 00    the epoch: drawn anew when the sequence is made, restarted, or set by setval()
//! ```
//!
//! Every `nextval` reads the epoch in its own transaction, and numbers are only good for their epoch. So nobody gets a
//! number from before a `setval` that they can see. An epoch that is not committed yet is known to the transaction alone
//! that made it: [`allot`] has no numbers for it, and that transaction counts for itself.

use std::fmt;
use std::sync::Arc;

use crate::catalog::{Sequence, epoch_key, sequence_key};
use crate::error::{Result, SqlError, SqlState};
use crate::store::Store;

/// Hands out numbers of sequences, each once.
pub trait NumberSource: fmt::Debug + Send + Sync {
    /// The next number; nothing where the asking transaction has to count for itself.
    fn next(&self, wanted: &Wanted) -> Result<Option<i64>>;
}

/// A sequence of which a number is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    sequence: Arc<Sequence>,
    epoch: u64,
}

impl Wanted {
    pub(crate) fn new(sequence: Arc<Sequence>, store: &dyn Store) -> Result<Self> {
        let epoch = read_epoch(store, sequence.id)?;
        Ok(Wanted { sequence, epoch })
    }

    /// Tells sequences apart, and what they were before they were set.
    pub fn key(&self) -> (u32, u64) {
        (self.sequence.id, self.epoch)
    }

    /// How many numbers may be taken at once, so that a block that nobody uses up is no great loss.
    pub fn block_max(&self) -> u32 {
        let range = self.sequence.max.abs_diff(self.sequence.min) / self.sequence.increment.unsigned_abs().max(1);
        u32::try_from(range / 1_024).unwrap_or(u32::MAX).max(1)
    }
}

/// Numbers that are taken and not handed out yet.
#[derive(Clone, Debug)]
pub struct Allotment {
    next: i64,
    increment: i64,
    left: u32,
}

impl Allotment {
    /// The next of them.
    pub fn take(&mut self) -> Option<i64> {
        self.left = self.left.checked_sub(1)?;
        let taken = self.next;
        // Behind the last one there may be no number; it is never looked at.
        self.next = taken.wrapping_add(self.increment);
        Some(taken)
    }
}

/// Takes up to `count` numbers, to be handed out once this transaction is committed.
pub fn allot(store: &mut dyn Store, wanted: &Wanted, count: u32) -> Result<Option<Allotment>> {
    let sequence = &wanted.sequence;
    if read_epoch(store, sequence.id)? != wanted.epoch {
        return Ok(None);
    }
    let first = next_after(sequence, read_last(store, sequence.id)?)?;
    let (mut last, mut taken) = (first, 1);
    while taken < count {
        // A block ends where the sequence does, or begins again.
        let Some(next) = last.checked_add(sequence.increment) else { break };
        if !(sequence.min..=sequence.max).contains(&next) {
            break;
        }
        (last, taken) = (next, taken + 1);
    }
    write_last(store, sequence.id, last)?;
    Ok(Some(Allotment { next: first, increment: sequence.increment, left: taken }))
}

pub(crate) fn read_last(store: &dyn Store, id: u32) -> Result<Option<i64>> {
    Ok(read(store, &sequence_key(id))?.map(i64::from_be_bytes))
}

pub(crate) fn write_last(store: &mut dyn Store, id: u32, last: i64) -> Result<()> {
    Ok(store.put(sequence_key(id), last.to_be_bytes().to_vec())?)
}

fn read_epoch(store: &dyn Store, id: u32) -> Result<u64> {
    Ok(read(store, &epoch_key(id))?.map_or(0, u64::from_be_bytes))
}

/// Begins a new epoch, named by fresh randomness.
pub(crate) fn write_epoch(store: &mut dyn Store, id: u32, epoch: u64) -> Result<()> {
    Ok(store.put(epoch_key(id), epoch.to_be_bytes().to_vec())?)
}

fn read(store: &dyn Store, key: &[u8]) -> Result<Option<[u8; 8]>> {
    let Some(bytes) = store.get(key)? else { return Ok(None) };
    bytes.as_slice().try_into().map(Some).map_err(|_| SqlError::corrupted("a sequence is damaged"))
}

/// The number after the last one given.
pub(crate) fn next_after(sequence: &Sequence, last: Option<i64>) -> Result<i64> {
    let Some(last) = last else { return Ok(sequence.start) };
    let up = sequence.increment > 0;
    match last.checked_add(sequence.increment) {
        Some(next) if up && next <= sequence.max => Ok(next),
        Some(next) if !up && next >= sequence.min => Ok(next),
        _ if sequence.cycle => Ok(if up { sequence.min } else { sequence.max }),
        _ => {
            let (word, bound) = if up { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
            let message = format!("nextval: reached {word} value of sequence \"{}\" ({bound})", sequence.name);
            Err(SqlError::new(SqlState::SEQUENCE_EXHAUSTED, message))
        }
    }
}
