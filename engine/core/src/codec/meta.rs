//! A group's meta: what its state holds, as one value.

use super::value::damaged;
use super::{meta_key, open};
use crate::kv::{StoreError, View};
use crate::txn::Timestamp;
use prost::Message;
use rockpool_proto::engine::v1 as wire;
use rockpool_proto::{GroupId, NodeId};

/// Who belongs to a group: raft's conf state in our words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Who votes.
    pub(crate) voters: Vec<NodeId>,
    /// Who only follows.
    pub(crate) learners: Vec<NodeId>,
    /// In a joint state: who voted before and must agree too.
    pub(crate) voters_outgoing: Vec<NodeId>,
    /// In a joint state: who becomes a learner on leaving it.
    pub(crate) learners_next: Vec<NodeId>,
    /// In a joint state: whether the library leaves it by itself.
    pub(crate) auto_leave: bool,
}

impl Membership {
    /// Whether a change is half done.
    pub(crate) fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether the node is a member of any kind.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next].iter().any(|set| set.contains(&node))
    }

    pub(super) fn to_wire(&self) -> wire::Membership {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        wire::Membership {
            voters: ids(&self.voters),
            learners: ids(&self.learners),
            voters_outgoing: ids(&self.voters_outgoing),
            learners_next: ids(&self.learners_next),
            auto_leave: self.auto_leave,
        }
    }

    pub(super) fn from_wire(wire: wire::Membership) -> Self {
        let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect();
        Membership {
            voters: nodes(wire.voters),
            learners: nodes(wire.learners),
            voters_outgoing: nodes(wire.voters_outgoing),
            learners_next: nodes(wire.learners_next),
            auto_leave: wire.auto_leave,
        }
    }
}

/// What a group's state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateMeta {
    /// The generation of keys in use.
    pub(crate) generation: u64,
    /// Index of the last log entry applied. Raft committed at least that much, whatever the hard state remembers.
    pub(crate) applied_index: u64,
    /// Its term.
    pub(crate) applied_term: u64,
    /// The membership as of it.
    pub(crate) membership: Membership,
    /// The last transaction's commit timestamp.
    pub(crate) last_commit: Timestamp,
    /// Reading before this is refused: versions may be gone.
    pub(crate) safe_point: Timestamp,
    /// Where the collection goes on, behind the generation; none when it is done.
    pub(crate) collect_from: Option<Vec<u8>>,
}

impl StateMeta {
    /// The first state of a group: one voter, nothing in it. It stands for a log entry at index 1, so that whoever joins
    /// is behind it and gets a snapshot.
    pub(crate) fn bootstrap(node: NodeId) -> Self {
        StateMeta {
            generation: 1,
            applied_index: 1,
            applied_term: 1,
            membership: Membership { voters: vec![node], ..Membership::default() },
            last_commit: Timestamp::ZERO,
            safe_point: Timestamp::ZERO,
            collect_from: None,
        }
    }

    /// A group's meta in a view; none when the node holds no state of it.
    pub(crate) fn read(view: &dyn View, group: GroupId) -> Result<Option<Self>, StoreError> {
        view.get(&meta_key(group))?.map(|value| Self::from_value(group, &value)).transpose()
    }

    /// Reads the value that stands under a group's meta key.
    pub(crate) fn from_value(group: GroupId, value: &[u8]) -> Result<Self, StoreError> {
        let key = meta_key(group);
        let payload = open(&key, value)?;
        let wire = wire::StateMeta::decode(payload).map_err(|error| damaged(&key, &error.to_string()))?;
        Self::from_wire(wire).ok_or_else(|| damaged(&key, "no membership or no generation"))
    }

    /// Its payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    pub(super) fn to_wire(&self) -> wire::StateMeta {
        wire::StateMeta {
            generation: self.generation,
            applied_index: self.applied_index,
            applied_term: self.applied_term,
            membership: Some(self.membership.to_wire()),
            last_commit: self.last_commit.0,
            safe_point: self.safe_point.0,
            collect_from: self.collect_from.clone().map(Into::into),
        }
    }

    pub(super) fn from_wire(wire: wire::StateMeta) -> Option<Self> {
        if wire.generation == 0 {
            return None;
        }
        Some(StateMeta {
            generation: wire.generation,
            applied_index: wire.applied_index,
            applied_term: wire.applied_term,
            membership: Membership::from_wire(wire.membership?),
            last_commit: Timestamp(wire.last_commit),
            safe_point: Timestamp(wire.safe_point),
            collect_from: wire.collect_from.map(Into::into),
        })
    }
}
