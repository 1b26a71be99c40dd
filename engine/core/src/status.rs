//! How a node is doing.

use rockpool_proto::{GroupId, NodeId};
use std::fmt;

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders the log.
    Leader,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Asks whether it would get votes.
    PreCandidate,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::PreCandidate => "pre-candidate",
        })
    }
}

/// What the leader knows of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Which.
    pub node: NodeId,
    /// Its log is known to agree up to here.
    pub matched: u64,
    /// Entries that it lacks.
    pub lag_entries: u64,
    /// Whether it was heard of lately.
    pub recently_active: bool,
    /// Whether it is being sent a snapshot.
    pub in_snapshot: bool,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Of which group.
    pub group: GroupId,
    /// What it is.
    pub role: Role,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Nodes that vote.
    pub voters: Vec<NodeId>,
    /// Nodes that still vote until the joint state is left; empty outside of it.
    pub voters_outgoing: Vec<NodeId>,
    /// Nodes that only follow.
    pub learners: Vec<NodeId>,
    /// First index in the log.
    pub first_index: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Known committed.
    pub committed: u64,
    /// Applied to the state.
    pub applied: u64,
    /// Applied and flushed.
    pub flushed: u64,
    /// Bytes of log in memory.
    pub log_bytes: usize,
    /// Commit timestamp of the last transaction applied.
    pub last_commit: crate::txn::Timestamp,
    /// Whether the replica holds state (one that joins holds none at first).
    pub initialized: bool,
    /// On the leader: the others.
    pub followers: Vec<FollowerStatus>,
}

impl fmt::Display for GroupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} term={} log={}..{} commit={} applied={} voters={:?}",
            self.group,
            self.role,
            self.term,
            self.first_index,
            self.last_index,
            self.committed,
            self.applied,
            self.voters
        )?;
        if !self.voters_outgoing.is_empty() {
            write!(f, " outgoing={:?}", self.voters_outgoing)?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={:?}", self.learners)?;
        }
        Ok(())
    }
}

/// A node and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which node.
    pub node: NodeId,
    /// Its replicas.
    pub groups: Vec<GroupStatus>,
}
