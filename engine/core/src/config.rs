//! Settings of a node's machine.

use rockpool_proto::{GroupId, NodeId};

/// What a node does when its store is empty. A store that holds state goes on from it, whatever stands here: a flag left on
/// can't destroy a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Creates the group with this node as its only voter.
    Bootstrap,
    /// Starts without state and waits for the leader of an existing group to add it.
    Join,
    /// Refuses: the state ought to be there.
    Existing,
}

/// How strictly the leader checks a transaction at commit. Production has no way to choose: [`Config::new`] sets
/// [`Validation::Full`], and only harnesses change the field, to see that their checkers convict a broken check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// What was read and what is written is checked against every commit since the read timestamp.
    #[default]
    Full,
    /// A mutant: reads are not checked, so write skew commits.
    BrokenSkipReads,
    /// A mutant: a commit is acknowledged when it is proposed, before anybody but the leader has it.
    BrokenAckEarly,
}

/// Bounds on what a node holds, units in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Bytes of Raft log kept in memory behind the flushed index, for slow followers.
    pub log_keep_bytes: usize,
    /// Entries of Raft log kept behind the flushed index.
    pub log_keep_entries: u64,
    /// Bytes of applied but unflushed log that make the machine ask for a flush.
    pub log_flush_bytes: usize,
    /// Applied but unflushed entries that make the machine ask for a flush.
    pub log_flush_entries: u64,
    /// Bytes of Raft log in memory, whatever the reason that it can't be cut: a leader takes no proposals beyond it, a
    /// follower no entries.
    pub log_bytes_max: usize,
    /// Bytes of proposed, uncommitted entries; more proposals are turned away.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one append message.
    pub append_bytes_max: u64,
    /// Append messages in flight to one follower.
    pub append_inflight_max: usize,
    /// Bytes of committed entries handed to the apply thread at once.
    pub apply_bytes_max: u64,
    /// Commits that validation remembers.
    pub window_commits_max: usize,
    /// Bytes of written keys that validation remembers.
    pub window_bytes_max: usize,
    /// Requests waiting at this node; more are turned away.
    pub requests_max: usize,
    /// Bytes of transactions waiting at this node, and of those waiting at it as the leader; more are turned away.
    pub requests_bytes_max: usize,
    /// Bytes in one snapshot chunk.
    pub snapshot_chunk_bytes: usize,
    /// Snapshot chunks in flight to one follower.
    pub snapshot_chunks_inflight_max: usize,
    /// Snapshots being sent at once.
    pub snapshots_max: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits {
            log_keep_bytes: 16 << 20,
            log_keep_entries: 10_000,
            log_flush_bytes: 64 << 20,
            log_flush_entries: 50_000,
            log_bytes_max: 512 << 20,
            uncommitted_bytes_max: 128 << 20,
            append_bytes_max: 1 << 20,
            append_inflight_max: 256,
            apply_bytes_max: 4 << 20,
            window_commits_max: 50_000,
            window_bytes_max: 32 << 20,
            requests_max: 10_000,
            requests_bytes_max: 256 << 20,
            snapshot_chunk_bytes: 256 << 10,
            snapshot_chunks_inflight_max: 4,
            snapshots_max: 2,
        }
    }
}

/// Periods and deadlines, in microseconds and in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Length of a tick.
    pub tick_us: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before an election, at least.
    pub election_ticks_min: usize,
    /// Ticks without a leader before an election are fewer than this.
    pub election_ticks_max: usize,
    /// How long a begin waits for an answer before it gives up.
    pub begin_deadline_us: u64,
    /// After how long an unanswered read index is asked for again.
    pub read_index_retry_us: u64,
    /// How long a commit is retried at new leaders before its outcome is called unknown.
    pub commit_deadline_us: u64,
    /// After how long an unanswered forward is sent again; the pause grows to four times that.
    pub forward_retry_us: u64,
    /// After how long an unacknowledged snapshot chunk is sent again, until it is known how long acks take.
    pub snapshot_retry_us: u64,
    /// After how long without progress a snapshot is given up.
    pub snapshot_deadline_us: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            tick_us: 50_000,
            heartbeat_ticks: 2,
            election_ticks_min: 10,
            election_ticks_max: 18,
            begin_deadline_us: 5_000_000,
            read_index_retry_us: 100_000,
            commit_deadline_us: 10_000_000,
            forward_retry_us: 500_000,
            snapshot_retry_us: 500_000,
            snapshot_deadline_us: 10_000_000,
        }
    }
}

/// A node's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The groups it hosts. One, for now.
    pub groups: Vec<GroupId>,
    /// What to do when the store is empty.
    pub start: Start,
    /// Spreads election timeouts; the same seed repeats a run.
    pub seed: u64,
    /// Periods and deadlines.
    pub timing: Timing,
    /// Bounds.
    pub limits: NodeLimits,
    /// The commit check. Not for production to choose.
    pub validation: Validation,
}

impl Config {
    /// The group that everything lives in while there is only one.
    pub const FIRST_GROUP: GroupId = GroupId(1);

    /// Production's settings.
    pub fn new(node: NodeId, start: Start, seed: u64) -> Self {
        Config {
            node,
            groups: vec![Self::FIRST_GROUP],
            start,
            seed,
            timing: Timing::default(),
            limits: NodeLimits::default(),
            validation: Validation::Full,
        }
    }
}
