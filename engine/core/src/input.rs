//! What the driver tells the machine.

use crate::state::ApplyDone;
use crate::txn::{CommitRequest, Timestamp, TxnId};
use bytes::Bytes;
use rockpool_proto::{GroupId, NodeId};
use std::fmt;

/// A number by which the driver knows its question when the [`Reply`](crate::Reply) comes. Never used twice while the node
/// runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A wish about who belongs to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Adds a node: as a learner at once, which becomes a voter when it has caught up.
    Add(NodeId),
    /// Removes a node, voter or learner.
    Remove(NodeId),
}

impl fmt::Display for MembershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipChange::Add(node) => write!(f, "add {node}"),
            MembershipChange::Remove(node) => write!(f, "remove {node}"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time that [`Node::poll_timeout`](crate::Node::poll_timeout) named has come. Harmless at any other time.
    Timeout,
    /// Another node sent this.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What its machine handed out as [`Output::Send`](crate::Output::Send).
        bytes: Bytes,
    },
    /// Messages to this node get lost: no connection, or a queue that is full.
    Unreachable {
        /// Which.
        node: NodeId,
    },
    /// Everything in [`Output::Persist`](crate::Output::Persist) up to this number is durable.
    Persisted {
        /// The number.
        seq: u64,
    },
    /// An [`Output::Apply`](crate::Output::Apply) has run.
    Applied(ApplyDone),
    /// [`Output::Flush`](crate::Output::Flush) was carried out: `StateStore::flush` returned.
    Flushed {
        /// Whose.
        group: GroupId,
    },
    /// A linearizable read timestamp, please. Answered by [`Reply::Begun`](crate::Reply::Begun), `Retry` or `Refused`.
    Begin {
        /// The question's number.
        request: RequestId,
        /// Of which group.
        group: GroupId,
    },
    /// Commit this. Answered by `Committed`, `Conflict`, `Retry` or `Unknown`.
    Commit {
        /// The question's number.
        request: RequestId,
        /// The transaction.
        commit: CommitRequest,
    },
    /// What became of a transaction? When it has not committed yet, it never will after the answer: asking settles it.
    /// Answered by `Committed`, `Aborted` or `Unknown`.
    QueryOutcome {
        /// The question's number.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// The transaction.
        txn: TxnId,
        /// Its read timestamp. Outcomes are forgotten behind the safe point; then the answer is `Unknown`.
        read_timestamp: Timestamp,
    },
    /// Add or remove a node. Answered by `Done` when the change is applied, or by `Refused`.
    ChangeMembership {
        /// The question's number.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// The change.
        change: MembershipChange,
    },
    /// Hand leadership over if this node has it. Answered by `Done` when another leads, or by `Refused`.
    TransferLeadership {
        /// The question's number.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// To whom; nobody in particular: the voter with the longest log.
        to: Option<NodeId>,
    },
    /// Versions and outcomes that nobody reading at `safe_point` or later can see may go. Answered by `Done` when the
    /// safe point stands; the collection goes on behind.
    Collect {
        /// The question's number.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// The oldest read timestamp still served.
        safe_point: Timestamp,
    },
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Timeout => write!(f, "timeout"),
            Input::Message { from, bytes } => write!(f, "message from {from} {} bytes", bytes.len()),
            Input::Unreachable { node } => write!(f, "unreachable {node}"),
            Input::Persisted { seq } => write!(f, "persisted {seq}"),
            Input::Applied(done) => write!(f, "applied {done}"),
            Input::Flushed { group } => write!(f, "flushed {group}"),
            Input::Begin { request, group } => write!(f, "{request} begin {group}"),
            Input::Commit { request, commit } => write!(f, "{request} {commit}"),
            Input::QueryOutcome { request, group, txn, .. } => write!(f, "{request} outcome {group} {txn}"),
            Input::ChangeMembership { request, group, change } => write!(f, "{request} membership {group} {change}"),
            Input::TransferLeadership { request, group, to: Some(to) } => {
                write!(f, "{request} transfer {group} to {to}")
            }
            Input::TransferLeadership { request, group, to: None } => write!(f, "{request} transfer {group}"),
            Input::Collect { request, group, safe_point } => write!(f, "{request} collect {group} before {safe_point}"),
        }
    }
}
