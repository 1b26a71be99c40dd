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

/// What a write counts beside its key and value: at least what it takes up in a message, so that many small ones can't
/// make a log entry that fits into none.
const WRITE_OVERHEAD_BYTES: usize = 16;

/// What a write counts towards
/// [`limits::TRANSACTION_WRITES_BYTES_MAX`](rockpool_proto::limits::TRANSACTION_WRITES_BYTES_MAX).
pub(super) fn write_bytes(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + value.map_or(0, Vec::len) + WRITE_OVERHEAD_BYTES
}

impl CommitRequest {
    /// What all writes together count towards their limit.
    pub fn writes_size_bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| write_bytes(key, value.as_ref())).sum()
    }

    /// About what it takes up while it waits.
    pub(crate) fn size_bytes(&self) -> usize {
        let keys = self.reads.keys.iter().map(Vec::len);
        let spans = self.reads.spans.iter().map(|span| span.start.len() + span.end.len());
        self.writes_size_bytes() + keys.chain(spans).sum::<usize>()
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
