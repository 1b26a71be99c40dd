//! The log as the library reads it: in memory, from where it was cut.
//!
//! Everything handed to the disk stays readable here, so it makes no difference whether it is durable yet. An append at an
//! index replaces everything from that index on.

use super::convert;
use crate::codec::{Membership, StateMeta};
use crate::kv::{HardState, LogEntry, StateStore, StoreError, View};
use ::raft::prelude::{ConfState, Entry, Snapshot};
use ::raft::{GetEntriesContext, RaftState, Storage, StorageError};
use rockpool_proto::{GroupId, NodeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What an entry costs beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A log as found at start, made to fit the state.
#[derive(Clone, Debug)]
pub(crate) struct LogStart {
    /// Elections taken part in; its commit index is not below the applied one.
    pub(crate) hard_state: HardState,
    /// Index and term before the first entry.
    pub(crate) truncated_to: (u64, u64),
    /// The entries after it.
    pub(crate) entries: Vec<LogEntry>,
    /// The membership as applied.
    pub(crate) membership: Membership,
}

/// A state to be sent to a follower.
pub(crate) struct SnapshotSource {
    /// The state.
    pub(crate) view: Arc<dyn View>,
    /// Its meta.
    pub(crate) meta: StateMeta,
}

/// Where the library asks for snapshots. It asks through `&self`, hence the cell.
pub(super) struct SnapshotDesk {
    store: Arc<dyn StateStore>,
    group: GroupId,
    sending_max: usize,
    inner: RefCell<DeskState>,
}

#[derive(Default)]
struct DeskState {
    /// Views taken for followers, until the announcement comes out.
    prepared: BTreeMap<u64, SnapshotSource>,
    /// Followers that are being sent one.
    sending: BTreeSet<u64>,
    error: Option<StoreError>,
}

impl SnapshotDesk {
    pub(super) fn new(store: Arc<dyn StateStore>, group: GroupId, sending_max: usize) -> Self {
        SnapshotDesk { store, group, sending_max, inner: RefCell::default() }
    }

    /// The state announced to a follower, which is now being sent.
    pub(super) fn take(&self, to: u64) -> Option<SnapshotSource> {
        let mut inner = self.inner.borrow_mut();
        let source = inner.prepared.remove(&to)?;
        inner.sending.insert(to);
        Some(source)
    }

    /// A stream has ended.
    pub(super) fn finished(&self, to: u64) {
        self.inner.borrow_mut().sending.remove(&to);
    }

    /// What the store said when a view was taken for the library, which can't be told.
    pub(super) fn take_error(&self) -> Option<StoreError> {
        self.inner.borrow_mut().error.take()
    }

    fn prepare(&self, request_index: u64, to: u64) -> Option<Snapshot> {
        let mut inner = self.inner.borrow_mut();
        if inner.sending.len() >= self.sending_max && !inner.sending.contains(&to) {
            return None;
        }
        let read = || -> Result<Option<SnapshotSource>, StoreError> {
            let view = self.store.view()?;
            Ok(StateMeta::read(&*view, self.group)?.map(|meta| SnapshotSource { view, meta }))
        };
        match read() {
            // Whoever does not find itself among the members of a snapshot can't take it: a change is still to be applied.
            Ok(Some(source)) if !source.meta.membership.contains(NodeId(to)) => None,
            Ok(Some(source)) if source.meta.applied_index < request_index => None,
            Ok(Some(source)) => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = source.meta.applied_index;
                metadata.term = source.meta.applied_term;
                metadata.set_conf_state(convert::conf_state(&source.meta.membership));
                inner.prepared.insert(to, source);
                Some(snapshot)
            }
            Ok(None) => None,
            Err(error) => {
                inner.error = Some(error);
                None
            }
        }
    }
}

/// The log in memory.
pub(super) struct LogStorage {
    hard_state: HardState,
    conf_state: ConfState,
    truncated_to: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    desk: SnapshotDesk,
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl LogStorage {
    pub(super) fn new(start: LogStart, desk: SnapshotDesk) -> Self {
        let mut storage = LogStorage {
            hard_state: start.hard_state,
            conf_state: convert::conf_state(&start.membership),
            truncated_to: start.truncated_to,
            entries: VecDeque::new(),
            bytes: 0,
            desk,
        };
        storage.append(start.entries.iter().map(convert::library_entry).collect());
        storage
    }

    pub(super) fn desk(&self) -> &SnapshotDesk {
        &self.desk
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn first(&self) -> u64 {
        self.truncated_to.0 + 1
    }

    fn last(&self) -> u64 {
        self.truncated_to.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> Option<usize> {
        let position = index.checked_sub(self.first())?;
        usize::try_from(position).ok().filter(|position| *position < self.entries.len())
    }

    /// Adds entries, replacing everything from the first one's index on.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        assert!(
            self.first() <= first && first <= self.last() + 1,
            "an append at {first} to a log of {}..{} would leave a hole",
            self.first(),
            self.last()
        );
        while self.last() >= first {
            let Some(dropped) = self.entries.pop_back() else { break };
            self.bytes -= cost(&dropped);
        }
        for entry in entries {
            self.bytes += cost(&entry);
            self.entries.push_back(entry);
        }
    }

    /// Drops everything: the log goes on after a snapshot.
    pub(super) fn reset(&mut self, to: (u64, u64)) {
        self.entries.clear();
        self.bytes = 0;
        self.truncated_to = to;
    }

    /// Drops entries up to and with `index`, which must be in the log; its term.
    pub(super) fn truncate(&mut self, index: u64) -> Option<(u64, u64)> {
        let count = self.position(index)? + 1;
        let term = self.entries[count - 1].term;
        for dropped in self.entries.drain(..count) {
            self.bytes -= cost(&dropped);
        }
        self.truncated_to = (index, term);
        Some(self.truncated_to)
    }

    pub(super) fn truncation_point(&self, flushed: u64, keep_bytes: usize, keep_entries: u64) -> u64 {
        let (mut kept_bytes, mut kept) = (0, 0);
        let mut index = flushed.min(self.last());
        while let Some(position) = self.position(index) {
            kept_bytes += cost(&self.entries[position]);
            kept += 1;
            if kept_bytes > keep_bytes || kept > keep_entries {
                return index;
            }
            index -= 1;
        }
        self.truncated_to.0
    }
}

impl Storage for LogStorage {
    fn initial_state(&self) -> ::raft::Result<RaftState> {
        let HardState { term, vote, commit } = self.hard_state;
        let hard = ::raft::prelude::HardState { term, vote, commit, ..Default::default() };
        Ok(RaftState::new(hard, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> ::raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let start = usize::try_from(low - self.first()).unwrap_or(usize::MAX);
        let end = usize::try_from(high - self.first()).unwrap_or(usize::MAX);
        let (mut size, mut entries) = (0u64, Vec::new());
        for entry in self.entries.range(start.min(end)..end) {
            size += cost(entry) as u64;
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> ::raft::Result<u64> {
        if index == self.truncated_to.0 {
            return Ok(self.truncated_to.1);
        }
        if index < self.truncated_to.0 {
            return Err(StorageError::Compacted.into());
        }
        let position = self.position(index).ok_or(StorageError::Unavailable)?;
        Ok(self.entries[position].term)
    }

    fn first_index(&self) -> ::raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> ::raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> ::raft::Result<Snapshot> {
        self.desk.prepare(request_index, to).ok_or_else(|| StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{EntryKind, MemoryState};

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, kind: EntryKind::Normal, data: "data".into(), context: Default::default() }
    }

    fn log(truncated_to: (u64, u64), entries: &[(u64, u64)]) -> LogStorage {
        let start = LogStart {
            hard_state: HardState::default(),
            truncated_to,
            entries: entries.iter().map(|&(index, term)| entry(index, term)).collect(),
            membership: Membership::default(),
        };
        LogStorage::new(start, SnapshotDesk::new(Arc::new(MemoryState::new()), GroupId(1), 1))
    }

    fn terms(log: &LogStorage) -> Vec<u64> {
        (log.first()..=log.last()).map(|index| log.term(index).unwrap()).collect()
    }

    #[test]
    fn an_append_replaces_at_every_index_of_the_tail() {
        for at in 4..=8 {
            let mut log = log((3, 1), &[(4, 1), (5, 1), (6, 2), (7, 2)]);
            log.append(vec![convert::library_entry(&entry(at, 9))]);
            assert_eq!(log.last(), at);
            assert_eq!(log.term(at).unwrap(), 9);
            let mut expected = vec![1, 1, 2, 2];
            expected.truncate((at - 4) as usize);
            expected.push(9);
            assert_eq!(terms(&log), expected);
            let bytes: usize = log.entries.iter().map(cost).sum();
            assert_eq!(log.bytes(), bytes);
        }
    }

    #[test]
    fn cutting_keeps_the_term_at_the_cut() {
        let mut log = log((3, 1), &[(4, 1), (5, 1), (6, 2), (7, 2)]);
        assert_eq!(log.truncate(6), Some((6, 2)));
        assert_eq!((log.first(), log.last(), log.term(6).unwrap()), (7, 7, 2));
        assert!(log.term(5).is_err());
        assert_eq!(log.truncate(6), None, "cut already");
        assert_eq!(log.truncate(7), Some((7, 2)), "the last entry");
        assert_eq!((log.first(), log.last(), log.bytes()), (8, 7, 0));
        log.append(vec![convert::library_entry(&entry(8, 3))]);
        assert_eq!(log.last(), 8);
    }

    #[test]
    fn some_entries_stay_for_slow_followers() {
        let log = log((3, 1), &[(4, 1), (5, 1), (6, 2), (7, 2)]);
        assert_eq!(log.truncation_point(7, usize::MAX, 2), 5);
        assert_eq!(log.truncation_point(6, usize::MAX, 2), 4);
        assert_eq!(log.truncation_point(7, 0, 10), 7);
        assert_eq!(log.truncation_point(7, usize::MAX, 10), 3);
    }
}
