//! What becomes of a message.

use crate::plan::Plan;
use crate::rng::Stream;
use rockpool_engine::NodeId;
use std::collections::BTreeSet;

/// The links between nodes.
pub(crate) struct Network {
    draw: Stream,
    delay_us: (u64, u64),
    slow_permille: u64,
    loss_permille: u64,
    duplicate_permille: u64,
    /// Each partition alive by its number: the nodes on one side.
    partitions: Vec<(u64, BTreeSet<NodeId>)>,
    /// Each clog alive by its number: from whom to whom nothing gets; anybody, where nobody is named.
    clogs: Vec<(u64, Option<NodeId>, Option<NodeId>)>,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Network {
        Network {
            draw: Stream::new(plan.seed, "network"),
            delay_us: plan.delay_us,
            slow_permille: plan.slow_permille,
            loss_permille: plan.loss_permille,
            duplicate_permille: plan.duplicate_permille,
            partitions: Vec::new(),
            clogs: Vec::new(),
        }
    }

    pub(crate) fn partition(&mut self, number: u64, side: &[NodeId]) {
        self.partitions.push((number, side.iter().copied().collect()));
    }

    pub(crate) fn clog(&mut self, number: u64, from: Option<NodeId>, to: Option<NodeId>) {
        self.clogs.push((number, from, to));
    }

    pub(crate) fn mend(&mut self, number: u64) {
        self.partitions.retain(|(other, _)| *other != number);
        self.clogs.retain(|(other, _, _)| *other != number);
    }

    /// No more faults: what is sent arrives, soon.
    pub(crate) fn heal(&mut self) {
        self.partitions.clear();
        self.clogs.clear();
        (self.slow_permille, self.loss_permille, self.duplicate_permille) = (0, 0, 0);
        self.delay_us.1 = self.delay_us.1.min(5_000);
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let parted = self.partitions.iter().any(|(_, side)| side.contains(&from) != side.contains(&to));
        let meant = |named: &Option<NodeId>, node: NodeId| named.is_none_or(|named| named == node);
        parted || self.clogs.iter().any(|(_, f, t)| meant(f, from) && meant(t, to))
    }

    /// After how long each copy of a message arrives.
    pub(crate) fn delays(&mut self, from: NodeId, to: NodeId) -> Vec<u64> {
        if self.is_cut(from, to) || self.draw.permille(self.loss_permille) {
            return Vec::new();
        }
        let copies = if self.draw.permille(self.duplicate_permille) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let delay = self.draw.between(self.delay_us.0, self.delay_us.1);
                if self.draw.permille(self.slow_permille) { delay + self.draw.below(500_000) } else { delay }
            })
            .collect()
    }
}
