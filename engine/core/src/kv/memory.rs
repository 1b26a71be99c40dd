//! The stores in memory, with a crash model.
//!
//! They are working implementations, not mocks: the simulator and the engine's tests run on them, and the same scripts run
//! on them and on RocksDB. What they add is a crash on purpose. A real disk keeps, of what was written and not yet made
//! durable, some prefix: [`MemoryState::crash`] and [`MemoryLog::crash`] take how much of it survives, so that a seed can
//! choose.
//!
//! ```text
//!   state   versions of each key by write number      flushed         written
//!           k1: 3 -> a, 7 -> b                           |               |
//!           k2: 5 -> c                    ---------------5---------------7----
//!                                          survives       may survive, as a prefix
//! ```
//!
//! The state is one map from key to versions. A view reads at the write number of its birth, [`StateStore::get_durable`]
//! at the flushed number, and a crash cuts the versions behind a number. Versions that no view and no possible crash can
//! reach are dropped as writes go on.
//!
//! Each store is a handle: clones share the same disk, so that a harness keeps one while a node that holds the other dies
//! and comes back.

use super::{Direction, LogBatch, LogImage, LogStore, Pair, Scan, StateStore, StoreError, View, WriteBatch, WriteOp};
use rockpool_proto::GroupId;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pairs that a scan fetches under one lock.
const SCAN_CHUNK_PAIRS: usize = 64;

/// Unlocks what a panicking test left locked: the maps are consistent between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An ordered key/value store in memory. Clones are handles on the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    shared: Arc<Mutex<Versions>>,
}

/// A flush that was begun with [`MemoryState::begin_flush`] and has not reached the disk.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "nothing becomes durable before finish_flush"]
pub struct PendingFlush(u64);

impl MemoryState {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Batches that were written and would not certainly survive a crash.
    pub fn unflushed(&self) -> usize {
        let versions = lock(&self.shared);
        (versions.written - versions.flushed) as usize
    }

    /// Loses what was not flushed, but for the first `keep_batches` batches of it. What remains is durable. Views taken
    /// before belong to the dead process: they may be dropped and nothing else.
    pub fn crash(&self, keep_batches: usize) {
        lock(&self.shared).crash(keep_batches as u64);
    }

    /// Begins to make durable what is written so far, for a harness in which that takes time.
    pub fn begin_flush(&self) -> PendingFlush {
        PendingFlush(lock(&self.shared).written)
    }

    /// The disk is done with a flush. One that was begun before a crash changes nothing that matters: what it covered
    /// was either kept, and is durable, or lost.
    pub fn finish_flush(&self, flush: PendingFlush) {
        lock(&self.shared).flush(flush.0);
    }

    /// Keys and values, for comparisons of whole stores.
    pub fn dump(&self) -> Vec<Pair> {
        let versions = lock(&self.shared);
        let at = versions.written;
        versions.map.iter().filter_map(|(key, chain)| Some((key.clone(), read(chain, at)?.clone()))).collect()
    }
}

impl StateStore for MemoryState {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        let at = lock(&self.shared).pin();
        Ok(Arc::new(MemoryView { shared: self.shared.clone(), at }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        lock(&self.shared).write(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let flush = self.begin_flush();
        self.finish_flush(flush);
        Ok(())
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let versions = lock(&self.shared);
        Ok(versions.get(key, versions.flushed))
    }
}

/// Versions of one key, oldest first: write number and value, nothing for a removal.
type Chain = Vec<(u64, Option<Vec<u8>>)>;

/// The newest value of a chain at a write number.
fn read(chain: &Chain, at: u64) -> Option<&Vec<u8>> {
    let newer = chain.partition_point(|(number, _)| *number <= at);
    chain[..newer].last().and_then(|(_, value)| value.as_ref())
}

#[derive(Debug, Default)]
struct Versions {
    map: BTreeMap<Vec<u8>, Chain>,
    /// Number of the last batch.
    written: u64,
    /// Number of the last durable batch; never above `written`.
    flushed: u64,
    /// Views alive, by the number they read at.
    pins: BTreeMap<u64, usize>,
    /// Keys whose chain can shrink once nothing reads below the number.
    shadowed: VecDeque<(u64, Vec<u8>)>,
}

impl Versions {
    fn get(&self, key: &[u8], at: u64) -> Option<Vec<u8>> {
        self.map.get(key).and_then(|chain| read(chain, at)).cloned()
    }

    fn write(&mut self, batch: &WriteBatch) {
        self.written += 1;
        for op in batch.ops() {
            match op {
                WriteOp::Put(key, value) => self.set(key, Some(value.clone())),
                WriteOp::Delete(key) => self.set(key, None),
                WriteOp::DeleteRange(start, end) => {
                    if start < end {
                        let keys: Vec<_> = self.map.range(start.clone()..end.clone()).map(|(k, _)| k.clone()).collect();
                        keys.iter().for_each(|key| self.set(key, None));
                    }
                }
            }
        }
        self.collect();
    }

    fn set(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let number = self.written;
        let Some(chain) = self.map.get_mut(key) else {
            if value.is_some() {
                self.map.insert(key.to_vec(), vec![(number, value)]);
            }
            return;
        };
        match chain.last_mut() {
            Some(last) if last.0 == number => last.1 = value,
            _ => chain.push((number, value)),
        }
        self.shadowed.push_back((number, key.to_vec()));
    }

    fn pin(&mut self) -> u64 {
        *self.pins.entry(self.written).or_default() += 1;
        self.written
    }

    fn unpin(&mut self, at: u64) {
        let count = self.pins.get_mut(&at).expect("a view is pinned from its birth to its drop");
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&at);
        }
        self.collect();
    }

    fn flush(&mut self, number: u64) {
        assert!(number <= self.written, "a flush covers what was written before it began");
        self.flushed = self.flushed.max(number);
        self.collect();
    }

    fn crash(&mut self, keep: u64) {
        let survives = self.flushed.saturating_add(keep).min(self.written);
        self.map.retain(|_, chain| {
            chain.retain(|(number, _)| *number <= survives);
            !chain.is_empty()
        });
        // Numbers are not used twice, so a view of the dead process can't mistake a later version for one of its own.
        self.flushed = self.written;
        self.collect();
    }

    /// Drops the versions that neither a view nor a crash can reach any more.
    fn collect(&mut self) {
        let floor = self.pins.first_key_value().map_or(self.flushed, |(at, _)| self.flushed.min(*at));
        while self.shadowed.front().is_some_and(|(number, _)| *number <= floor) {
            let (_, key) = self.shadowed.pop_front().expect("the front was just looked at");
            let Some(chain) = self.map.get_mut(&key) else { continue };
            let visible = chain.partition_point(|(number, _)| *number <= floor);
            chain.drain(..visible.saturating_sub(1));
            if chain.len() == 1 && chain[0].1.is_none() && chain[0].0 <= floor {
                self.map.remove(&key);
            }
        }
    }

    /// Up to [`SCAN_CHUNK_PAIRS`] pairs at a write number, and whether the bounds are exhausted.
    fn chunk(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>), direction: Direction, at: u64) -> Vec<Pair> {
        let range = self.map.range(bounds);
        let pairs = |(key, chain): (&Vec<u8>, &Chain)| Some((key.clone(), read(chain, at)?.clone()));
        match direction {
            Direction::Forward => range.filter_map(pairs).take(SCAN_CHUNK_PAIRS).collect(),
            Direction::Backward => range.rev().filter_map(pairs).take(SCAN_CHUNK_PAIRS).collect(),
        }
    }
}

/// A consistent picture of a [`MemoryState`].
struct MemoryView {
    shared: Arc<Mutex<Versions>>,
    at: u64,
}

impl Drop for MemoryView {
    fn drop(&mut self) {
        lock(&self.shared).unpin(self.at);
    }
}

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.shared).get(key, self.at))
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Scan<'a> {
        let (mut start, mut end) = (Bound::Included(start.to_vec()), Bound::Excluded(end.to_vec()));
        let mut done = match (&start, &end) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        };
        let mut chunk = Vec::new().into_iter();
        Box::new(std::iter::from_fn(move || {
            loop {
                if let Some(pair) = chunk.next() {
                    return Some(Ok(pair));
                }
                if done {
                    return None;
                }
                let pairs = lock(&self.shared).chunk((start.clone(), end.clone()), direction, self.at);
                done = pairs.len() < SCAN_CHUNK_PAIRS;
                if let Some((last, _)) = pairs.last() {
                    match direction {
                        Direction::Forward => start = Bound::Excluded(last.clone()),
                        Direction::Backward => end = Bound::Excluded(last.clone()),
                    }
                }
                // Excluded(a)..Excluded(a) is refused by the map.
                if let (Bound::Excluded(s), Bound::Excluded(e)) = (&start, &end) {
                    done |= s >= e;
                }
                chunk = pairs.into_iter();
            }
        }))
    }
}

/// A Raft log store in memory. Clones are handles on the same store.
///
/// [`LogStore::write`] is durable on return. A harness in which that takes time calls [`MemoryLog::submit`], and
/// [`MemoryLog::sync`] when the disk is done.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    shared: Arc<Mutex<LogDisk>>,
}

#[derive(Debug, Default)]
struct LogDisk {
    durable: BTreeMap<GroupId, LogImage>,
    /// Handed over and not synced, with their numbers.
    pending: VecDeque<(u64, LogBatch)>,
    submitted: u64,
}

/// How far the log was submitted, for [`MemoryLog::sync`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "nothing becomes durable before sync"]
pub struct PendingSync(u64);

impl MemoryLog {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands batches over. They are durable after [`MemoryLog::sync`], or a prefix of them after a crash.
    pub fn submit(&self, batches: &[LogBatch]) -> PendingSync {
        let mut disk = lock(&self.shared);
        for batch in batches {
            disk.submitted += 1;
            let number = disk.submitted;
            disk.pending.push_back((number, batch.clone()));
        }
        PendingSync(disk.submitted)
    }

    /// The disk is done with everything up to `sync`.
    pub fn sync(&self, sync: PendingSync) -> Result<(), StoreError> {
        let mut disk = lock(&self.shared);
        while disk.pending.front().is_some_and(|(number, _)| *number <= sync.0) {
            let (_, batch) = disk.pending.pop_front().expect("the front was just looked at");
            disk.carry_out(&batch)?;
        }
        Ok(())
    }

    /// Batches handed over and not synced.
    pub fn unsynced(&self) -> usize {
        lock(&self.shared).pending.len()
    }

    /// Loses what was not synced, but for its first `keep_batches` batches. A batch that the crash tore in the middle
    /// counts as lost: a load drops it.
    pub fn crash(&self, keep_batches: usize) -> Result<(), StoreError> {
        let mut disk = lock(&self.shared);
        let pending = std::mem::take(&mut disk.pending);
        pending.into_iter().take(keep_batches).try_for_each(|(_, batch)| disk.carry_out(&batch))
    }
}

impl LogDisk {
    fn carry_out(&mut self, batch: &LogBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.durable.entry(batch.group).or_insert_with(|| LogImage::new(batch.group)).carry_out(batch)
    }
}

impl LogStore for MemoryLog {
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError> {
        Ok(lock(&self.shared).durable.values().cloned().collect())
    }

    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        let sync = self.submit(batches);
        self.sync(sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &MemoryState, key: &str, value: &str) {
        let mut batch = WriteBatch::new();
        batch.put(key.into(), value.into());
        store.write(&batch).unwrap();
    }

    fn text(pairs: Vec<Pair>) -> String {
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        pairs.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_crash_keeps_the_chosen_prefix_of_what_was_not_flushed() {
        for (keep, expected) in [(0, "a=1"), (1, "a=2"), (2, "a=2 b=1"), (3, "b=1"), (9, "b=1")] {
            let store = MemoryState::new();
            put(&store, "a", "1");
            store.flush().unwrap();
            put(&store, "a", "2");
            put(&store, "b", "1");
            let mut batch = WriteBatch::new();
            batch.delete(b"a".to_vec());
            store.write(&batch).unwrap();
            assert_eq!(store.get_durable(b"a").unwrap(), Some(b"1".to_vec()));
            store.crash(keep);
            assert_eq!(text(store.dump()), expected, "keep {keep}");
            assert_eq!(store.unflushed(), 0);
        }
    }

    #[test]
    fn a_view_outlives_what_is_written_after_it() {
        let store = MemoryState::new();
        for i in 0..200 {
            put(&store, &format!("k{i:03}"), "old");
        }
        let view = store.view().unwrap();
        let mut batch = WriteBatch::new();
        batch.delete_range(b"k".to_vec(), b"l".to_vec());
        batch.put(b"k100".to_vec(), b"new".to_vec());
        store.write(&batch).unwrap();
        store.flush().unwrap();
        let mut forward: Vec<Pair> = view.scan(b"k", b"l", Direction::Forward).map(Result::unwrap).collect();
        let backward: Vec<Pair> = view.scan(b"k", b"l", Direction::Backward).map(Result::unwrap).collect();
        assert_eq!(forward.len(), 200);
        forward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(view.scan(b"l", b"k", Direction::Forward).count(), 0);
        assert_eq!(text(store.dump()), "k100=new");
        drop(view);
        assert_eq!(lock(&store.shared).map.len(), 1, "removed keys go once nothing reads them");
    }

    #[test]
    fn a_flush_covers_what_was_written_before_it_began() {
        let store = MemoryState::new();
        put(&store, "a", "1");
        let flush = store.begin_flush();
        put(&store, "a", "2");
        store.finish_flush(flush);
        assert_eq!(store.get_durable(b"a").unwrap(), Some(b"1".to_vec()));
        store.crash(0);
        assert_eq!(text(store.dump()), "a=1");
    }

    #[test]
    fn a_log_crash_keeps_whole_batches() {
        let batch = |term| LogBatch {
            hard_state: Some(super::super::HardState { term, vote: 0, commit: 0 }),
            ..LogBatch::new(GroupId(1))
        };
        let mut log = MemoryLog::new();
        log.write(&[batch(1)]).unwrap();
        let _unsynced = log.submit(&[batch(2), batch(3), batch(4)]);
        log.clone().crash(2).unwrap();
        assert_eq!(log.load().unwrap()[0].hard_state.term, 3);
        assert_eq!(log.unsynced(), 0);
    }
}
