//! What a transaction asks the leader to commit.

use super::Timestamp;
use rockpool_proto::GroupId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A transaction's id, chosen at random by whoever runs it. It makes a retried commit happen once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub [u8; 16]);

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxnId({self})")
    }
}

/// Keys with `start <= key < end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First key.
    pub start: Vec<u8>,
    /// First key after.
    pub end: Vec<u8>,
}

/// What a transaction read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Single keys, found or not.
    pub keys: BTreeSet<Vec<u8>>,
    /// Spans scanned: disjoint, in order.
    pub spans: Vec<Span>,
}

/// A transaction to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    /// Which group's keys.
    pub group: GroupId,
    /// The transaction.
    pub txn: TxnId,
    /// What it saw: every commit up to this, none after.
    pub read_timestamp: Timestamp,
    /// What it read.
    pub reads: ReadSet,
    /// What it writes: a value, or nothing for a removal.
    pub writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl CommitRequest {
    /// Bytes of all keys and values written.
    pub fn writes_size_bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl fmt::Display for CommitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "commit({} {} read@{} keys={} spans={} writes={})",
            self.group,
            self.txn,
            self.read_timestamp,
            self.reads.keys.len(),
            self.reads.spans.len(),
            self.writes.len()
        )
    }
}
