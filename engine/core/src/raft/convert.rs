//! The library's types and ours.

use crate::codec::{Membership, checksum};
use crate::kv::{EntryKind, LogEntry};
use ::raft::prelude::{ConfState, Entry, EntryType};
use rockpool_proto::NodeId;

/// The checksum that an entry carries as its context.
pub(super) fn entry_checksum(data: &[u8]) -> Vec<u8> {
    checksum(&[data]).to_le_bytes().to_vec()
}

pub(super) fn log_entry(entry: &Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
        },
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

pub(super) fn library_entry(entry: &LogEntry) -> Entry {
    let mut library = Entry {
        index: entry.index,
        term: entry.term,
        data: entry.data.clone(),
        context: entry.context.clone(),
        ..Entry::default()
    };
    library.set_entry_type(match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::Membership => EntryType::EntryConfChangeV2,
    });
    library
}

pub(super) fn membership(state: &ConfState) -> Membership {
    let nodes = |ids: &[u64]| {
        let mut nodes: Vec<NodeId> = ids.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    Membership {
        voters: nodes(state.get_voters()),
        learners: nodes(state.get_learners()),
        voters_outgoing: nodes(state.get_voters_outgoing()),
        learners_next: nodes(state.get_learners_next()),
        auto_leave: state.auto_leave,
    }
}

pub(super) fn conf_state(membership: &Membership) -> ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let mut state = ConfState::default();
    state.set_voters(ids(&membership.voters));
    state.set_learners(ids(&membership.learners));
    state.set_voters_outgoing(ids(&membership.voters_outgoing));
    state.set_learners_next(ids(&membership.learners_next));
    state.auto_leave = membership.auto_leave;
    state
}
