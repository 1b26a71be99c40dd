//! The contracts under the engine: an ordered key/value store for the state, and a log store for Raft.
//!
//! ```text
//!            machine (this crate)                    driver
//!   reads    View::get, View::scan  <------------    StateStore::view
//!   state    Output::Apply          ------------>    StateStore::write     atomic, visible at once, durable later
//!   log      Output::Persist        ------------>    LogStore::write       atomic and durable on return
//! ```
//!
//! The state is written without a log of its own: the applied index travels in the same atomic batch as the data it
//! covers, [`StateStore::flush`] makes everything so far durable, and after a crash the Raft log is replayed from
//! [`StateStore::get_durable`] of the applied index. So a commit costs one sync per replica, in the Raft log.
//!
//! Three implementations: `memory` here, which can lose what was not flushed or synced (a crash on purpose), RocksDB in
//! `rockpool-rocks`, and `mirror`, which runs two and compares every answer.

mod batch;
mod fault;
mod log;
mod memory;
mod mirror;

pub use batch::{WriteBatch, WriteOp};
pub use fault::Fault;
pub use log::{EntryKind, HardState, LogBatch, LogEntry, LogImage, LogStore, check_entries};
pub use memory::{MemoryLog, MemoryState, PendingFlush, PendingSync};
pub use mirror::Mirror;

use std::sync::Arc;

/// Key and value bytes of one pair.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Pairs of a scan, in its direction.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + 'a>;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the start, upwards.
    Forward,
    /// From the end, downwards.
    Backward,
}

/// A store that cannot go on. All of these stop the replica: a store that answers wrongly is worse than one that stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused; `full` when for want of space.
    #[error("input/output failed: {text}")]
    Io {
        /// What it said.
        text: String,
        /// Whether the disk is full.
        full: bool,
    },
    /// A checksum or a format does not hold. `what` names the key or the file and offset.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// Where.
        what: String,
    },
}

/// An ordered key/value store. Keys sort as unsigned bytes. One writer at a time; any number of views.
pub trait StateStore: Send + Sync {
    /// A consistent picture of everything written so far, which later writes do not change.
    fn view(&self) -> Result<Arc<dyn View>, StoreError>;

    /// Writes a batch: all of it or, after a crash, possibly none; never a part, and never a later batch without an
    /// earlier one. Visible to views taken afterwards.
    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError>;

    /// Returns when everything written before the call would survive a crash.
    fn flush(&self) -> Result<(), StoreError>;

    /// The value that `key` would have after a crash at this moment.
    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
}

/// A consistent picture of a [`StateStore`].
pub trait View: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Pairs with `start <= key < end`, lazily.
    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Scan<'a>;
}
