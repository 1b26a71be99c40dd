//! A [`Backend`] in memory: optimistic, strictly serializable, gone with the process. The second implementation that
//! the services are tested against, in one process or with several nodes sharing one.
//!
//! A transaction reads the map as it was at its beginning, keeps its writes to itself and notes the keys and spans that
//! it read. Committing takes the one lock, looks through the keys written by the commits since for any that was read,
//! and either refuses with a conflict or applies everything at once. The order of the commits is the serial order.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rockpool_sql::{Direction, Pair, Savepoint, Scan, Store, StoreError};

use super::{Backend, BackendTransaction, DbError};

/// Commits whose write sets are remembered. A transaction that began before them is asked to start again.
const RECENT_COMMITS_MAX: usize = 4_096;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Copied on write while a transaction holds an older version.
    pairs: Arc<Pairs>,
    /// Number of commits so far.
    commits: u64,
    /// Keys written by the last commits, the newest last.
    recent: VecDeque<BTreeSet<Vec<u8>>>,
}

impl MemoryBackend {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn begin(&self) -> Result<Box<dyn BackendTransaction>, DbError> {
        let state = self.state.lock();
        Ok(Box::new(MemoryTransaction {
            view: Arc::clone(&state.pairs),
            began_after: state.commits,
            writes: BTreeMap::new(),
            undo: Vec::new(),
            reads: RefCell::new(Reads::default()),
        }))
    }

    async fn commit(&self, transaction: Box<dyn BackendTransaction>) -> Result<(), DbError> {
        let transaction: Box<dyn Any> = transaction;
        let transaction = transaction
            .downcast::<MemoryTransaction>()
            .map_err(|_| DbError::Fatal("a transaction of another backend was handed in".into()))?;
        let MemoryTransaction { view, began_after, writes, reads, .. } = *transaction;
        drop(view);
        if writes.is_empty() {
            return Ok(());
        }
        let reads = reads.into_inner();
        let mut state = self.state.lock();
        let since = usize::try_from(state.commits - began_after).unwrap_or(usize::MAX);
        if since > state.recent.len() {
            return Err(DbError::Conflict("the transaction is older than the commits that are remembered".into()));
        }
        if state.recent.iter().rev().take(since).any(|written| reads.meets(written)) {
            return Err(DbError::Conflict("another transaction wrote what this one had read".into()));
        }
        state.commits += 1;
        state.recent.push_back(writes.keys().cloned().collect());
        if state.recent.len() > RECENT_COMMITS_MAX {
            state.recent.pop_front();
        }
        let pairs = Arc::make_mut(&mut state.pairs);
        for (key, value) in writes {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }
}

/// What a transaction has read, found or not.
#[derive(Default)]
struct Reads {
    keys: BTreeSet<Vec<u8>>,
    /// Inclusive start, exclusive end.
    spans: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Reads {
    fn meets(&self, written: &BTreeSet<Vec<u8>>) -> bool {
        written.iter().any(|key| self.keys.contains(key))
            || self.spans.iter().any(|(start, end)| {
                let bounds = (Bound::Included(start), Bound::Excluded(end));
                start < end && written.range::<Vec<u8>, _>(bounds).next().is_some()
            })
    }
}

/// A value written, or nothing for a key removed.
type Write = Option<Vec<u8>>;

struct MemoryTransaction {
    view: Arc<Pairs>,
    began_after: u64,
    writes: BTreeMap<Vec<u8>, Write>,
    /// What the write set held before each write, if anything.
    undo: Vec<(Vec<u8>, Option<Write>)>,
    reads: RefCell<Reads>,
}

impl BackendTransaction for MemoryTransaction {}

impl MemoryTransaction {
    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.writes.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}

impl Store for MemoryTransaction {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(own) = self.writes.get(key) {
            return Ok(own.clone());
        }
        self.reads.borrow_mut().keys.insert(key.to_vec());
        Ok(self.view.get(key).cloned())
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Result<Scan<'a>, StoreError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let bounds = || start.to_vec()..end.to_vec();
        let stored = self.view.range(bounds()).map(|(key, value)| (key, Some(value)));
        let own = self.writes.range(bounds()).map(|(key, value)| (key, value.as_ref()));
        let (stored, own): (Versions<'a>, Versions<'a>) = match direction {
            Direction::Forward => (Box::new(stored), Box::new(own)),
            Direction::Backward => (Box::new(stored.rev()), Box::new(own.rev())),
        };
        Ok(Box::new(Merge {
            stored: stored.peekable(),
            own: own.peekable(),
            direction,
            read: (start.to_vec(), end.to_vec()),
            last: None,
            exhausted: false,
            reads: &self.reads,
        }))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.write(key, Some(value));
        Ok(())
    }

    fn delete(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.write(key, None);
        Ok(())
    }

    fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    fn rollback_to(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0 {
            let Some((key, before)) = self.undo.pop() else { return };
            match before {
                Some(value) => self.writes.insert(key, value),
                None => self.writes.remove(&key),
            };
        }
    }
}

type Versions<'a> = Box<dyn Iterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)> + 'a>;

/// The view and the transaction's own writes in one order, own writes on top. Dropping it notes what was read.
struct Merge<'a> {
    stored: Peekable<Versions<'a>>,
    own: Peekable<Versions<'a>>,
    direction: Direction,
    read: (Vec<u8>, Vec<u8>),
    last: Option<Vec<u8>>,
    exhausted: bool,
    reads: &'a RefCell<Reads>,
}

impl Iterator for Merge<'_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let own_first = match (self.stored.peek(), self.own.peek()) {
                (None, None) => {
                    self.exhausted = true;
                    return None;
                }
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some((stored, _)), Some((own, _))) => {
                    if stored == own {
                        self.stored.next();
                        true
                    } else {
                        (own < stored) == (self.direction == Direction::Forward)
                    }
                }
            };
            let side = if own_first { &mut self.own } else { &mut self.stored };
            let Some((key, value)) = side.next() else { continue };
            self.last = Some(key.clone());
            if let Some(value) = value {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}

impl Drop for Merge<'_> {
    fn drop(&mut self) {
        let (mut start, mut end) = std::mem::take(&mut self.read);
        match (self.exhausted, self.last.take(), self.direction) {
            (true, _, _) => {}
            (false, None, _) => return,
            (false, Some(mut last), Direction::Forward) => {
                last.push(0);
                end = last;
            }
            (false, Some(last), Direction::Backward) => start = last,
        }
        self.reads.borrow_mut().spans.push((start, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(transaction: &mut Box<dyn BackendTransaction>, key: &str, value: &str) {
        transaction.put(key.into(), value.into()).unwrap();
    }

    fn keys(transaction: &dyn BackendTransaction, direction: Direction) -> Vec<String> {
        let scan = transaction.scan(b"a", b"z", direction).unwrap();
        scan.map(|pair| String::from_utf8(pair.unwrap().0).unwrap()).collect()
    }

    #[tokio::test]
    async fn of_two_that_read_and_write_the_same_key_one_must_start_again() {
        let backend = MemoryBackend::new();
        let (mut one, mut two) = (backend.begin().await.unwrap(), backend.begin().await.unwrap());
        assert_eq!(one.get(b"k").unwrap(), None);
        assert_eq!(two.get(b"k").unwrap(), None);
        put(&mut one, "k", "1");
        put(&mut two, "k", "2");
        backend.commit(one).await.unwrap();
        assert!(matches!(backend.commit(two).await, Err(DbError::Conflict(_))));
        assert_eq!(backend.begin().await.unwrap().get(b"k").unwrap(), Some(b"1".to_vec()));
    }

    #[tokio::test]
    async fn a_row_that_appears_in_a_scanned_span_is_a_conflict_and_one_behind_it_is_not() {
        let backend = MemoryBackend::new();
        let mut filler = backend.begin().await.unwrap();
        ["b", "d", "f"].iter().for_each(|key| put(&mut filler, key, ""));
        backend.commit(filler).await.unwrap();

        for (written, taken, conflict) in [("c", 2, true), ("e", 2, false), ("e", 9, true)] {
            let (mut reader, mut writer) = (backend.begin().await.unwrap(), backend.begin().await.unwrap());
            let taken = reader.scan(b"a", b"z", Direction::Forward).unwrap().take(taken).count();
            assert!(taken >= 2);
            put(&mut reader, "zz", "");
            put(&mut writer, written, "");
            backend.commit(writer).await.unwrap();
            assert_eq!(backend.commit(reader).await.is_err(), conflict, "{written} after reading {taken}");
        }
    }

    #[tokio::test]
    async fn own_writes_are_seen_in_both_directions_and_can_be_undone() {
        let backend = MemoryBackend::new();
        let mut filler = backend.begin().await.unwrap();
        ["b", "d", "f"].iter().for_each(|key| put(&mut filler, key, ""));
        backend.commit(filler).await.unwrap();
        let mut transaction = backend.begin().await.unwrap();
        put(&mut transaction, "c", "");
        let mark = transaction.savepoint();
        transaction.delete(b"d".to_vec()).unwrap();
        put(&mut transaction, "g", "");
        assert_eq!(keys(&*transaction, Direction::Forward), ["b", "c", "f", "g"]);
        assert_eq!(keys(&*transaction, Direction::Backward), ["g", "f", "c", "b"]);
        transaction.rollback_to(mark);
        assert_eq!(keys(&*transaction, Direction::Forward), ["b", "c", "d", "f"]);
    }
}
