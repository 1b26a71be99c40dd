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
    /// When the index lies past the last entry, or the entry there has another term, the log becomes empty and continues
    /// after it. An index at or below an earlier truncation changes nothing. Carried out before `entries` are written.
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

impl LogImage {
    /// A log that nothing was written to.
    pub fn new(group: GroupId) -> Self {
        Self { group, hard_state: HardState::default(), truncated_to: (0, 0), entries: Vec::new() }
    }

    /// Index of the last entry, or of the truncation when there is none.
    pub fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.truncated_to.0, |entry| entry.index)
    }

    /// What a batch means: the model that every [`LogStore`] is held to. Entries that would leave a hole, or lie behind
    /// the truncation, are refused.
    pub fn carry_out(&mut self, batch: &LogBatch) -> Result<(), StoreError> {
        assert_eq!(self.group, batch.group, "a batch is carried out on its own group's log");
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((index, term)) = batch.truncate_to
            && index > self.truncated_to.0
        {
            let dropped = (index - self.truncated_to.0) as usize;
            match self.entries.get(dropped - 1) {
                Some(entry) if entry.term == term => drop(self.entries.drain(..dropped)),
                _ => self.entries.clear(),
            }
            self.truncated_to = (index, term);
        }
        check_entries(batch, self.truncated_to.0, self.last_index())?;
        if let Some(first) = batch.entries.first() {
            self.entries.truncate((first.index - self.truncated_to.0 - 1) as usize);
            self.entries.extend_from_slice(&batch.entries);
        }
        Ok(())
    }
}

/// Refuses entries that would leave a hole in a log that holds `truncated_to + 1 ..= last_index`.
pub fn check_entries(batch: &LogBatch, truncated_to: u64, last_index: u64) -> Result<(), StoreError> {
    let Some(first) = batch.entries.first() else { return Ok(()) };
    let fits = first.index > truncated_to && first.index <= last_index + 1;
    let whole = batch.entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index);
    if fits && whole {
        return Ok(());
    }
    let what = format!(
        "entries {}..={} don't continue the log of {}, which holds {}..={last_index}",
        first.index,
        batch.entries.last().map_or(first.index, |entry| entry.index),
        batch.group,
        truncated_to + 1
    );
    Err(StoreError::Corrupt { what })
}

/// A durable store for the Raft logs of all groups of a node.
pub trait LogStore: Send {
    /// Every group's log. A damaged record in the middle is an error; only a torn last record, whose batch was never
    /// acknowledged, is dropped.
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError>;

    /// Writes the batches in order, each of them whole, and returns when they would survive a crash.
    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError>;
}
