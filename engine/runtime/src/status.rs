//! How the engine is doing.

use rockpool_engine::{GroupId, GroupStatus, NodeId, Role};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the engine is doing. At most a tenth of a second old, and never behind a change of leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineStatus {
    /// This node.
    pub node: NodeId,
    /// Its replicas.
    pub groups: Vec<GroupStatus>,
    /// The other nodes it knows an address of.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// Bytes in the data folder; measured now and then.
    pub disk_bytes: u64,
    /// Writes of the Raft log, each with one sync.
    pub log_writes: WriteCounts,
    /// Why the engine stopped, if it did.
    pub failure: Option<Arc<str>>,
}

impl EngineStatus {
    /// One group's replica here.
    pub fn group(&self, group: GroupId) -> Option<&GroupStatus> {
        self.groups.iter().find(|status| status.group == group)
    }

    /// Whether this node leads a group.
    pub fn leads(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|status| status.role == Role::Leader)
    }

    /// Who leads a group, as far as is known here.
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.group(group).and_then(|status| status.leader)
    }
}

/// The way to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Where it listens.
    pub address: String,
    /// Whether messages get through (on the stream for urgent ones).
    pub connected: bool,
    /// Messages dropped because a queue was full or there was no connection.
    pub messages_dropped: u64,
    /// What happened when it was last tried without success.
    pub last_error: Option<String>,
}

/// What the disk thread did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Writes, each with one sync.
    pub writes: u64,
    /// Bytes of entries in them.
    pub bytes: u64,
    /// Microseconds spent in them.
    pub total_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Counters behind [`WriteCounts`].
#[derive(Debug, Default)]
pub(crate) struct WriteStats {
    writes: AtomicU64,
    bytes: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
}

impl WriteStats {
    pub(crate) fn record(&self, us: u64, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.total_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> WriteCounts {
        WriteCounts {
            writes: self.writes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_us: self.total_us.load(Ordering::Relaxed),
            max_us: self.max_us.load(Ordering::Relaxed),
        }
    }
}
