//! What must hold at every moment, whatever has happened.
//!
//! * Election safety: one leader a term.
//! * State machine safety: replicas with the same applied index hold the same state, byte for byte.
//! * What is committed and applied only grows while a node lives, and never beyond what is committed.

use rockpool_engine::{Fingerprint, GroupStatus, NodeId, Role};
use std::collections::BTreeMap;

/// What has been seen so far.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    leaders: BTreeMap<u64, NodeId>,
    states: BTreeMap<u64, (NodeId, Fingerprint)>,
    progress: BTreeMap<(NodeId, u64), (u64, u64, u64)>,
}

impl Invariants {
    /// Looks at a replica in a node's `life`.
    pub(crate) fn observe(&mut self, node: NodeId, life: u64, status: &GroupStatus) -> Result<(), String> {
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(node);
            if leader != node {
                return Err(format!("{leader} and {node} both lead in term {}", status.term));
            }
        }
        if status.applied > status.committed {
            return Err(format!("{node} has applied {} but only {} is committed", status.applied, status.committed));
        }
        let now = (status.term, status.committed, status.applied);
        let before = self.progress.insert((node, life), now).unwrap_or_default();
        if now.0 < before.0 || now.1 < before.1 || now.2 < before.2 {
            return Err(format!("{node} went back from (term, committed, applied) {before:?} to {now:?}"));
        }
        Ok(())
    }

    /// Looks at a replica's state; answers whether there was another one to compare it with.
    pub(crate) fn observe_state(&mut self, node: NodeId, print: Fingerprint) -> Result<bool, String> {
        match self.states.get(&print.applied_index) {
            Some((other, same)) if *same != print => {
                Err(format!("{node} holds another state than {other} at the same index: {print} and {same}"))
            }
            Some((other, _)) => Ok(*other != node),
            None => {
                self.states.insert(print.applied_index, (node, print));
                Ok(false)
            }
        }
    }
}
