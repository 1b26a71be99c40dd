//! One transaction's reads and writes, over a view, without touching the network.
//!
//! Reads go to the view at the read timestamp, own writes on top. What is read, found or not, is remembered; at commit the
//! leader checks that nobody wrote any of it since. Reading takes `&self`, so the memory of reads sits in a `RefCell`: a
//! transaction moves between threads but is used by one at a time.
//!
//! Every savepoint is a position in an undo list of the writes.

use super::reads::{Reads, after};
use super::request::write_bytes;
use super::{CommitRequest, Timestamp, TxnId};
use crate::codec::{StateKeys, StateMeta};
use crate::error::TransactionError;
use crate::kv::{Direction, Pair, StoreError, View};
use crate::state::{MvccScan, MvccView};
use rockpool_proto::{GroupId, limits};
use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

/// A mark in a transaction's writes to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub usize);

/// A value, or nothing for a removal.
type Write = Option<Vec<u8>>;

/// Who is told of a store that failed or is damaged.
type Alarm = Arc<dyn Fn(&StoreError) + Send + Sync>;

/// Own writes within a scan, in its direction.
type OwnWrites<'a> = Box<dyn Iterator<Item = (&'a Vec<u8>, &'a Write)> + 'a>;

/// One transaction.
pub struct Transaction {
    snapshot: MvccView,
    group: GroupId,
    read_timestamp: Timestamp,
    reads: RefCell<Reads>,
    writes: BTreeMap<Vec<u8>, Write>,
    /// What stood in `writes` before each write; the outer none: nothing.
    undo: Vec<(Vec<u8>, Option<Write>)>,
    /// Whether there is a savepoint to return to; without one nothing is kept for undoing.
    marked: bool,
    writes_bytes: usize,
    alarm: Option<Alarm>,
}

impl Transaction {
    /// A transaction reading at `read_timestamp` in `view`, which was taken after
    /// [`Reply::Begun`](crate::Reply::Begun) named the timestamp: then it holds every commit up to it. Later ones, which it
    /// may hold too, are not seen.
    pub fn new(view: Arc<dyn View>, group: GroupId, read_timestamp: Timestamp) -> Result<Self, TransactionError> {
        let meta = StateMeta::read(&*view, group)?.ok_or(TransactionError::NoState(group))?;
        if read_timestamp < meta.safe_point || meta.last_commit < read_timestamp {
            return Err(TransactionError::TooOld);
        }
        let keys = StateKeys { group, generation: meta.generation };
        Ok(Transaction {
            snapshot: MvccView::new(view, keys, read_timestamp),
            group,
            read_timestamp,
            reads: RefCell::default(),
            writes: BTreeMap::new(),
            undo: Vec::new(),
            marked: false,
            writes_bytes: 0,
            alarm: None,
        })
    }

    /// Has `alarm` told of damage that a read comes upon: whoever asked is answered with the error, but it is the replica
    /// that has to stop.
    pub fn with_alarm(mut self, alarm: impl Fn(&StoreError) + Send + Sync + 'static) -> Self {
        self.alarm = Some(Arc::new(alarm));
        self
    }

    /// The timestamp that it reads at.
    pub fn read_timestamp(&self) -> Timestamp {
        self.read_timestamp
    }

    /// Whether it writes nothing (so far).
    pub fn is_read_only(&self) -> bool {
        self.writes.is_empty()
    }

    /// The value of `key`, own writes included.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TransactionError> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.reads.borrow_mut().key(key);
        self.snapshot.get(key).map_err(|error| alarmed(&self.alarm, error))
    }

    /// Pairs with `start <= key < end`, lazily, own writes included. Counts as read from where it begins to the last key
    /// taken, or to the end when it ran out; that is noted when the scan is dropped.
    pub fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> TransactionScan<'a> {
        let own: OwnWrites<'a> = if start < end {
            let range: btree_map::Range<'a, _, _> = self.writes.range(start.to_vec()..end.to_vec());
            match direction {
                Direction::Forward => Box::new(range),
                Direction::Backward => Box::new(range.rev()),
            }
        } else {
            Box::new(std::iter::empty())
        };
        TransactionScan {
            reads: &self.reads,
            alarm: &self.alarm,
            direction,
            start: start.to_vec(),
            end: end.to_vec(),
            stored: self.snapshot.scan(start, end, direction).peekable(),
            own: own.peekable(),
            progress: Progress::Untouched,
        }
    }

    /// Sets `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransactionError> {
        if value.len() > limits::VALUE_BYTES_MAX {
            return Err(TransactionError::ValueTooLong { bytes: value.len(), max: limits::VALUE_BYTES_MAX });
        }
        self.write(key, Some(value))
    }

    /// Removes `key`; removing what is not there is no error.
    pub fn delete(&mut self, key: Vec<u8>) -> Result<(), TransactionError> {
        self.write(key, None)
    }

    /// Marks the present state of the writes.
    pub fn savepoint(&mut self) -> Savepoint {
        self.marked = true;
        Savepoint(self.undo.len())
    }

    /// Undoes the writes made since `savepoint`, which stays valid. Reads made since still count.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0 {
            let Some((key, before)) = self.undo.pop() else { return };
            self.writes_bytes -= self.held_bytes(&key);
            match before {
                Some(before) => {
                    self.writes_bytes += write_bytes(&key, before.as_ref());
                    self.writes.insert(key, before);
                }
                None => {
                    self.writes.remove(&key);
                }
            }
        }
    }

    /// What to hand to [`Input::Commit`](crate::Input::Commit).
    pub fn into_commit(self, txn: TxnId) -> CommitRequest {
        CommitRequest {
            group: self.group,
            txn,
            read_timestamp: self.read_timestamp,
            reads: self.reads.into_inner().into_set(),
            writes: self.writes,
        }
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), TransactionError> {
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(TransactionError::KeyTooLong { bytes: key.len(), max: limits::KEY_BYTES_MAX });
        }
        let bytes = self.writes_bytes - self.held_bytes(&key) + write_bytes(&key, value.as_ref());
        if bytes > limits::TRANSACTION_WRITES_BYTES_MAX {
            return Err(TransactionError::TooLarge { max: limits::TRANSACTION_WRITES_BYTES_MAX });
        }
        self.writes_bytes = bytes;
        if self.marked {
            let before = self.writes.insert(key.clone(), value);
            self.undo.push((key, before));
        } else {
            self.writes.insert(key, value);
        }
        Ok(())
    }

    /// What the write of a key counts so far.
    fn held_bytes(&self, key: &[u8]) -> usize {
        self.writes.get(key).map_or(0, |value| write_bytes(key, value.as_ref()))
    }
}

/// A read failed.
fn alarmed(alarm: &Option<Alarm>, error: StoreError) -> TransactionError {
    if let Some(alarm) = alarm {
        alarm(&error);
    }
    error.into()
}

/// How far a scan got.
enum Progress {
    /// Nothing was asked of it.
    Untouched,
    /// This key was the last one taken.
    Taken(Vec<u8>),
    /// It ran out (or failed: then the transaction won't commit).
    Exhausted,
}

/// Pairs of a transaction's scan, in its direction.
pub struct TransactionScan<'a> {
    reads: &'a RefCell<Reads>,
    alarm: &'a Option<Alarm>,
    direction: Direction,
    start: Vec<u8>,
    end: Vec<u8>,
    stored: Peekable<MvccScan<'a>>,
    own: Peekable<OwnWrites<'a>>,
    progress: Progress,
}

impl TransactionScan<'_> {
    fn step(&mut self) -> Option<Result<Pair, TransactionError>> {
        loop {
            let stored = match self.stored.peek() {
                Some(Ok((key, _))) => Some(key),
                Some(Err(_)) => {
                    let error = self.stored.next()?.err()?;
                    return Some(Err(alarmed(self.alarm, error)));
                }
                None => None,
            };
            let own_first = match (stored, self.own.peek()) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some(stored), Some((own, _))) if stored == *own => {
                    // The own write hides what is stored.
                    self.stored.next();
                    continue;
                }
                (Some(stored), Some((own, _))) => (*own < stored) == (self.direction == Direction::Forward),
            };
            if !own_first {
                return self.stored.next().map(|pair| pair.map_err(TransactionError::from));
            }
            if let Some((key, Some(value))) = self.own.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<Pair, TransactionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step();
        self.progress = match &item {
            Some(Ok((key, _))) => Progress::Taken(key.clone()),
            Some(Err(_)) | None => Progress::Exhausted,
        };
        item
    }
}

impl Drop for TransactionScan<'_> {
    fn drop(&mut self) {
        let (start, end) = (std::mem::take(&mut self.start), std::mem::take(&mut self.end));
        let (start, end) = match (&self.progress, self.direction) {
            (Progress::Untouched, _) => return,
            (Progress::Exhausted, _) => (start, end),
            (Progress::Taken(last), Direction::Forward) => (start, after(last)),
            (Progress::Taken(last), Direction::Backward) => (last.clone(), end),
        };
        self.reads.borrow_mut().span(start, end);
    }
}
