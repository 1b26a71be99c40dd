//! Why the machine stops, and why a transaction can't go on.

use crate::kv::StoreError;
use rockpool_proto::{GroupId, NodeId};

/// The machine can't go on. The driver stops it and says so; nothing that arrives from outside leads here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The state store failed or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Raft log found at start, or a committed entry, can't be what this code wrote.
    #[error("the Raft log of {group} is damaged: {what}")]
    Log {
        /// Whose log.
        group: GroupId,
        /// What does not hold.
        what: String,
    },
    /// The consensus library refuses to go on.
    #[error("consensus on {node} in {group} failed: {what}")]
    Consensus {
        /// This node.
        node: NodeId,
        /// The group.
        group: GroupId,
        /// What it said.
        what: String,
    },
    /// The configuration does not fit what is stored.
    #[error("this store can't be started like that: {what}")]
    Start {
        /// What does not fit, in a sentence that helps.
        what: String,
    },
}

/// Why a [`Transaction`](crate::Transaction) refuses an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key is longer than [`limits::KEY_BYTES_MAX`](rockpool_proto::limits::KEY_BYTES_MAX).
    #[error("a key of {bytes} bytes, more than {max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value is longer than [`limits::VALUE_BYTES_MAX`](rockpool_proto::limits::VALUE_BYTES_MAX).
    #[error("a value of {bytes} bytes, more than {max}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// All writes together exceed
    /// [`limits::TRANSACTION_WRITES_BYTES_MAX`](rockpool_proto::limits::TRANSACTION_WRITES_BYTES_MAX).
    #[error("a transaction that writes more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The view can't be read at this timestamp: versions may have been collected, or the view lacks commits because it
    /// was taken before the begin was answered, or from a store that has crashed since. Begin again.
    #[error("the view can't be read at that timestamp")]
    TooOld,
    /// This replica holds no state of the group (yet).
    #[error("{0} has no state on this node")]
    NoState(GroupId),
}
