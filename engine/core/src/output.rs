//! What the machine asks of the driver.

use crate::input::RequestId;
use crate::kv::LogBatch;
use crate::state::ApplyTask;
use crate::status::Role;
use crate::txn::Timestamp;
use bytes::Bytes;
use rockpool_proto::{GroupId, NodeId};
use std::fmt;

/// How urgent a message is. A driver with one connection sends urgent ones first; better, it has one stream per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Heartbeats, votes, read indexes: a few bytes that elections depend on.
    Urgent,
    /// Log entries, forwarded commits and their answers.
    Log,
    /// Snapshot chunks.
    Bulk,
}

/// Why a request should be made again from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The read timestamp lies before what the leader remembers for validation.
    TooOld,
    /// Too much is waiting.
    Overloaded,
    /// No leader answered in time; nothing was sent that could still take effect.
    NoLeader,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Read at this timestamp, in a view of the store taken after this reply: it holds every commit up to the timestamp
    /// (and perhaps later ones, which MVCC hides).
    Begun {
        /// The read timestamp.
        read_timestamp: Timestamp,
    },
    /// The transaction took effect at this timestamp; for one that wrote nothing, its read timestamp.
    Committed {
        /// The commit timestamp.
        timestamp: Timestamp,
    },
    /// Something that it read or writes was written since its read timestamp. It took no effect; run it again.
    Conflict {
        /// A key that was.
        key: Vec<u8>,
    },
    /// It took no effect; run it again from begin.
    Retry(RetryReason),
    /// It took no effect and never will.
    Aborted,
    /// No answer in time: it may have taken effect, or may yet. `QueryOutcome` settles it.
    Unknown,
    /// Done.
    Done,
    /// Not done, with the reason.
    Refused(Refusal),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Begun { read_timestamp } => write!(f, "begun@{read_timestamp}"),
            Reply::Committed { timestamp } => write!(f, "committed@{timestamp}"),
            Reply::Conflict { key } => write!(f, "conflict at \"{}\"", key.escape_ascii()),
            Reply::Retry(reason) => write!(f, "retry ({reason:?})"),
            Reply::Aborted => write!(f, "aborted"),
            Reply::Unknown => write!(f, "unknown"),
            Reply::Done => write!(f, "done"),
            Reply::Refused(refusal) => write!(f, "refused ({refusal})"),
        }
    }
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This node does not host the group, or holds no state of it.
    #[error("the group is not here")]
    NoGroup,
    /// Nobody leads, or the leader did not answer in time.
    #[error("no leader answered in time")]
    NoLeader,
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader,
    /// Another change of membership is under way.
    #[error("another change of membership is under way")]
    ChangePending,
    /// The last voter can't be removed.
    #[error("the last voter can't be removed")]
    LastVoter,
    /// The node named is no voter (or no member at all).
    #[error("the node is not a voter")]
    NotVoter,
    /// Too much is waiting.
    #[error("too much is waiting")]
    Overloaded,
}

/// Something worth a log line or a metric. Never needed to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The role or the known leader changed.
    Leader {
        /// Of which group.
        group: GroupId,
        /// This node's role.
        role: Role,
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// In which term.
        term: u64,
    },
    /// The membership as applied here changed.
    Membership {
        /// Of which group.
        group: GroupId,
        /// Nodes that vote.
        voters: Vec<NodeId>,
        /// Nodes that only follow.
        learners: Vec<NodeId>,
    },
    /// The log was cut.
    Truncated {
        /// Of which group.
        group: GroupId,
        /// Up to and with this index.
        index: u64,
    },
    /// A snapshot is being sent to a follower.
    SnapshotSending {
        /// Of which group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// State up to this index.
        index: u64,
    },
    /// A snapshot that was being sent ended.
    SnapshotSent {
        /// Of which group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// Whether the follower has it.
        complete: bool,
    },
    /// A snapshot was installed here.
    SnapshotInstalled {
        /// Of which group.
        group: GroupId,
        /// State up to this index.
        index: u64,
    },
    /// A message was dropped because it can't be read.
    BadMessage {
        /// From whom.
        from: NodeId,
        /// What does not hold.
        what: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Leader { group, role, leader: Some(leader), term } => {
                write!(f, "{group} {role} in term {term}, led by {leader}")
            }
            Notice::Leader { group, role, leader: None, term } => write!(f, "{group} {role} in term {term}, no leader"),
            Notice::Membership { group, voters, learners } => {
                write!(f, "{group} voters={voters:?} learners={learners:?}")
            }
            Notice::Truncated { group, index } => write!(f, "{group} log cut to {index}"),
            Notice::SnapshotSending { group, to, index } => write!(f, "{group} sending snapshot@{index} to {to}"),
            Notice::SnapshotSent { group, to, complete: true } => write!(f, "{group} snapshot to {to} complete"),
            Notice::SnapshotSent { group, to, complete: false } => write!(f, "{group} snapshot to {to} given up"),
            Notice::SnapshotInstalled { group, index } => write!(f, "{group} installed snapshot@{index}"),
            Notice::BadMessage { from, what } => write!(f, "dropped a message from {from}: {what}"),
        }
    }
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Send to another node. May be lost, delayed, duplicated or reordered; may never block the machine.
    Send {
        /// To whom.
        to: NodeId,
        /// How urgently.
        class: Class,
        /// What.
        bytes: Bytes,
    },
    /// Write to the log store, in order, and answer with [`Input::Persisted`](crate::Input::Persisted). Several may be
    /// written and synced at once and answered by the last number alone.
    Persist {
        /// Counts up by one.
        seq: u64,
        /// What.
        batches: Vec<LogBatch>,
    },
    /// Run this on the state store, in order, and hand what comes out back as [`Input::Applied`](crate::Input::Applied).
    Apply(ApplyTask),
    /// Call `StateStore::flush` when convenient, then answer with [`Input::Flushed`](crate::Input::Flushed). In order with
    /// the `Apply`s: those handed out before have run.
    Flush {
        /// Whose log waits for it.
        group: GroupId,
    },
    /// The answer to a request.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// For logs and metrics.
    Notice(Notice),
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Send { to, class, bytes } => write!(f, "send to {to} {class:?} {} bytes", bytes.len()),
            Output::Persist { seq, batches } => {
                write!(f, "persist {seq}")?;
                for batch in batches {
                    write!(f, " {}", batch.group)?;
                    if let Some(hard) = &batch.hard_state {
                        write!(f, " term={} vote={} commit={}", hard.term, hard.vote, hard.commit)?;
                    }
                    if let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) {
                        write!(f, " entries={}@{}..{}@{}", first.index, first.term, last.index, last.term)?;
                    }
                    if let Some((index, _)) = batch.truncate_to {
                        write!(f, " truncate={index}")?;
                    }
                }
                Ok(())
            }
            Output::Apply(task) => write!(f, "apply {task}"),
            Output::Flush { group } => write!(f, "flush {group}"),
            Output::Reply { request, reply } => write!(f, "{request} {reply}"),
            Output::Notice(notice) => write!(f, "notice {notice}"),
        }
    }
}
