//! Numbers of sequences for SQL sessions: taken a block at a time, in a transaction of their own, and handed out to all
//! sessions of this node. So transactions that draw from one sequence don't conflict; the price is that numbers of several
//! nodes interleave by blocks, and that a block is lost when its node stops.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rockpool_sql::{Allotment, NumberSource, SqlError, Wanted};
use tokio::runtime::Handle;

use super::{Database, DbError};
use crate::pg::sql_error;

/// Numbers taken at once to begin with.
const BLOCK_FIRST: u32 = 32;
/// The most that are taken at once.
const BLOCK_MAX: u32 = 8_192;
/// A block that lasts shorter than this is followed by one of twice its size.
const BLOCK_LASTS: Duration = Duration::from_secs(1);
/// Sequences whose blocks are held. Of more, those that were asked longest ago lose theirs.
const SEQUENCES_MAX: usize = 1_024;

/// What is held of the sequences that were asked for, by id and epoch.
#[derive(Default)]
pub(super) struct Numbers {
    blocks: Mutex<BTreeMap<(u32, u64), Block>>,
    /// One block is taken at a time: two sessions that find theirs used up shall not both take another.
    taking: Mutex<()>,
}

struct Block {
    left: Allotment,
    size: u32,
    taken_at: Instant,
}

impl Numbers {
    fn hand_out(&self, key: (u32, u64)) -> Option<i64> {
        self.blocks.lock().get_mut(&key)?.left.take()
    }

    /// How many numbers to take next.
    fn next_size(&self, key: (u32, u64)) -> u32 {
        match self.blocks.lock().get(&key) {
            Some(block) if block.taken_at.elapsed() < BLOCK_LASTS => (block.size * 2).min(BLOCK_MAX),
            _ => BLOCK_FIRST,
        }
    }

    fn keep(&self, key: (u32, u64), block: Block) {
        let mut blocks = self.blocks.lock();
        // Older epochs of the sequence are over.
        blocks.retain(|other, _| other.0 != key.0);
        if blocks.len() >= SEQUENCES_MAX
            && let Some(oldest) = blocks.iter().min_by_key(|(_, block)| block.taken_at).map(|(key, _)| *key)
        {
            blocks.remove(&oldest);
        }
        blocks.insert(key, block);
    }
}

/// The node's numbers, for one session.
pub(super) struct SessionNumbers(pub(super) Database);

impl fmt::Debug for SessionNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionNumbers")
    }
}

impl NumberSource for SessionNumbers {
    /// Called while a statement runs, which it does on a thread that may block.
    fn next(&self, wanted: &Wanted) -> Result<Option<i64>, SqlError> {
        let numbers = &self.0.shared.numbers;
        let key = wanted.key();
        if let Some(number) = numbers.hand_out(key) {
            return Ok(Some(number));
        }
        let _taking = numbers.taking.lock();
        if let Some(number) = numbers.hand_out(key) {
            return Ok(Some(number));
        }
        let size = numbers.next_size(key).min(wanted.block_max());
        let take = || Handle::current().block_on(self.0.transaction(|tx| tx.allot(wanted, size)));
        let taken = match take() {
            // At worst, a block is lost.
            Err(DbError::OutcomeUnknown(_)) => take(),
            taken => taken,
        };
        let Some(mut left) = taken.map_err(sql_error)? else { return Ok(None) };
        let first = left.take();
        numbers.keep(key, Block { left, size, taken_at: Instant::now() });
        Ok(first)
    }
}
