//! A client: one transaction after another, and no rest until the fate of each is known.
//!
//! ```text
//!   Idle -> Beginning -> Committing -> Idle
//!              |             |
//!              +-- lost -----+--> Unsettled -> (asks any node, again and again) -> Idle
//! ```

use crate::history::{Event, Fate};
use crate::rng::Stream;
use crate::workload::Work;
use rockpool_engine::{NodeId, RequestId, Time, Timestamp, TxnId};

/// After how long a silent node counts as gone. Longer than the machine's own deadlines, so that it is asked about only when
/// the node died.
pub(crate) const PATIENCE_US: u64 = 6_000_000;

/// What a client waits for.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing: it thinks.
    Idle,
    /// A read timestamp.
    Beginning { request: RequestId, node: NodeId, work: Work, invoked: Time },
    /// The outcome of its commit.
    Committing { request: RequestId, node: NodeId, event: Event },
    /// The fate of a transaction whose answer got lost. No request: it is time to ask again.
    Unsettled { request: Option<(RequestId, NodeId)>, event: Event },
}

/// One client.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) draw: Stream,
    pub(crate) phase: Phase,
    /// Told apart from timeouts of earlier phases.
    pub(crate) step: u64,
    /// What it would do again, were it to take a lost answer for a failure.
    pub(crate) last: Option<Work>,
    /// It does: a mutant.
    pub(crate) again: bool,
    next_value: u64,
}

impl Client {
    pub(crate) fn new(seed: u64, id: u64) -> Client {
        Client {
            id,
            draw: Stream::new(seed, &format!("client {id}")),
            phase: Phase::Idle,
            step: 0,
            last: None,
            again: false,
            next_value: 0,
        }
    }

    /// A number that no other client uses, and this one once.
    pub(crate) fn fresh_value(&mut self) -> u64 {
        self.next_value += 1;
        self.id * 1_000_000 + self.next_value
    }

    /// An id for a transaction, the same in each run of a seed.
    pub(crate) fn fresh_txn(&mut self) -> TxnId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..].copy_from_slice(&self.fresh_value().to_be_bytes());
        TxnId(bytes)
    }

    /// The request that it waits for, and the node that should answer.
    pub(crate) fn waits_for(&self) -> Option<(RequestId, NodeId)> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Beginning { request, node, .. } | Phase::Committing { request, node, .. } => Some((*request, *node)),
            Phase::Unsettled { request, .. } => *request,
        }
    }

    /// The read timestamp of a transaction that is on its way or whose fate is not known.
    pub(crate) fn open_read_timestamp(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Committing { event, .. } | Phase::Unsettled { event, .. } => Some(event.read_timestamp),
            Phase::Idle | Phase::Beginning { .. } => None,
        }
    }

    /// The node does not answer any more: what was begun is forgotten, what was to be committed is to be settled. Answers
    /// whether anything changed.
    pub(crate) fn lose_node(&mut self, lost: NodeId) -> bool {
        if self.waits_for().is_none_or(|(_, node)| node != lost) {
            return false;
        }
        self.step += 1;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle | Phase::Beginning { .. } => Phase::Idle,
            Phase::Committing { event, .. } | Phase::Unsettled { event, .. } => {
                Phase::Unsettled { request: None, event: Event { fate: Fate::Unknown, ..event } }
            }
        };
        true
    }
}
