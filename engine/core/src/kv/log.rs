//! The contract of the Raft log's store.
//!
//! The machine keeps the log from the truncation point on in memory and reads it there; the store is read once, at start.
//! One disk thread gathers the [`LogBatch`]es that are waiting, writes them and syncs once.

use super::StoreError;
use bytes::Bytes;
use rockpool_proto::GroupId;

/// What an entry of the Raft log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command, or nothing (a new leader's first entry).
    Normal,
    /// A change of the membership (raft's `ConfChangeV2`).
    Membership,
}

/// One entry of a group's Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position, from 1.
    pub index: u64,
    /// The term of the leader that wrote it.
    pub term: u64,
    /// How to read `data`.
    pub kind: EntryKind,
    /// The command's bytes.
    pub data: Bytes,
    /// raft's context bytes.
    pub context: Bytes,
}

/// What a replica may never forget of the elections it took part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Node voted for in that term; 0 for none.
    pub vote: u64,
    /// Raft commit index. May lag: losing it loses nothing.
    pub commit: u64,
}

/// Changes to one group's log that become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// Whose log.
    pub group: GroupId,
    /// New hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Entries in index order, without holes. Everything stored from the first one's index on is replaced.
    pub entries: Vec<LogEntry>,
    /// Drops the entries up to and with this index, whose term is given: they are behind a flushed state or a snapshot.
    /// When the index lies past the last entry, the log becomes empty and continues after it. Carried out before
    /// `entries` are written.
    pub truncate_to: Option<(u64, u64)>,
}

impl LogBatch {
    /// A batch without changes.
    pub fn new(group: GroupId) -> Self {
        Self { group, hard_state: None, entries: Vec::new(), truncate_to: None }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none() && self.entries.is_empty() && self.truncate_to.is_none()
    }
}

/// One group's log as found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogImage {
    /// Whose log.
    pub group: GroupId,
    /// Last hard state written.
    pub hard_state: HardState,
    /// Index and term up to which entries were dropped; zeros for a log never truncated.
    pub truncated_to: (u64, u64),
    /// The entries after it, without holes.
    pub entries: Vec<LogEntry>,
}

/// A durable store for the Raft logs of all groups of a node.
pub trait LogStore: Send {
    /// Every group's log. A damaged record in the middle is an error; only a torn last record, whose batch was never
    /// acknowledged, is dropped.
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError>;

    /// Writes the batches in order, each of them whole, and returns when they would survive a crash.
    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError>;
}
