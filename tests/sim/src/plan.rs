//! What a seed decides before the run: cluster, network, disks, clients, and which faults strike when.
//!
//! Calm runs are as likely as wild ones: a bug that hides behind constant elections shows only where there are none.

use crate::rng::Stream;
use rockpool_engine::{Config, GroupId, NodeId, NodeLimits, Start, Timing, Validation};

/// Simulated time in which faults strike.
const SAFETY_PHASE_US: u64 = 12_000_000;
/// Faults strike only after the cluster had time to form.
const FIRST_FAULT_US: u64 = 1_500_000;
/// The longest that one fault lasts.
const FAULT_US_MAX: u64 = 3_000_000;

/// A deliberate mistake, by which the checkers are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The leader does not check what a transaction has read (`Validation::BrokenSkipReads`).
    SkipReads,
    /// A node gives out read timestamps from what it has applied, without asking the leader (no ReadIndex).
    StaleReads,
    /// Disks answer that the log is durable before it is.
    LyingDisk,
    /// The leader acknowledges what it has only proposed (`Validation::BrokenAckEarly`).
    AckEarly,
    /// A client takes a lost answer for a failure and does its work again.
    RetryBlindly,
}

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Kills a node; it is started again after a while.
    Crash { node: NodeId, down_us: u64 },
    /// A node stands still.
    Pause { node: NodeId, for_us: u64 },
    /// The nodes given can't talk to the others, either way.
    Partition { side: Vec<NodeId>, for_us: u64 },
    /// Nothing gets from one node to another; the way back is free.
    Clog { from: NodeId, to: NodeId, for_us: u64 },
    /// A node speaks and hears nobody.
    Deafen { node: NodeId, for_us: u64 },
    /// A node hears and nobody hears it.
    Silence { node: NodeId, for_us: u64 },
    /// A disk takes many times as long for each write.
    SlowDisk { node: NodeId, times: u64, for_us: u64 },
    /// A disk takes no more writes: the node stops at the next one, and starts again when there is room.
    FullDisk { node: NodeId, for_us: u64 },
    /// A wall clock jumps, forwards or backwards.
    ClockJump { node: NodeId, by_us: i64 },
    /// Whoever leads is asked to hand over.
    Transfer,
    /// Versions older than this (by the leader's wall clock) are collected.
    Collect { age_us: u64 },
    /// A new node joins.
    Join { node: NodeId },
    /// A node is removed for good.
    Remove { node: NodeId },
}

/// Everything that a seed decides in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) delay_us: (u64, u64),
    pub(crate) slow_permille: u64,
    pub(crate) loss_permille: u64,
    pub(crate) duplicate_permille: u64,
    pub(crate) sync_us: (u64, u64),
    pub(crate) apply_us: (u64, u64),
    pub(crate) clients: u64,
    pub(crate) keys: u64,
    pub(crate) accounts: u64,
    pub(crate) think_us: u64,
    /// The longest that a transaction takes from its reads to its commit.
    pub(crate) work_us: u64,
    pub(crate) limits: NodeLimits,
    pub(crate) faults: Vec<(u64, Fault)>,
    pub(crate) safety_phase_us: u64,
    pub(crate) mutant: Option<Mutant>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Plan {
        let mut draw = Stream::new(seed, "plan");
        let nodes = *draw.pick(&[1, 3, 3, 3, 3, 5, 5]).expect("the list is not empty");
        let bad = draw.below(4);
        let delay_max = *draw.pick(&[500, 2_000, 20_000, 60_000]).expect("the list is not empty");
        let sync_max = *draw.pick(&[100, 1_000, 10_000, 80_000]).expect("the list is not empty");
        let mut limits = NodeLimits::default();
        if draw.permille(700) {
            // A log that is cut often, so that followers need snapshots.
            limits.log_keep_entries = draw.between(1, 40);
            limits.log_keep_bytes = draw.between(1_000, 20_000) as usize;
            limits.log_flush_entries = draw.between(5, 60);
            limits.snapshot_chunk_bytes = draw.between(64, 2_000) as usize;
        }
        if draw.permille(200) {
            limits.window_commits_max = draw.between(10, 200) as usize;
        }
        let mut plan = Plan {
            seed,
            nodes,
            delay_us: (50, delay_max),
            slow_permille: if bad == 0 { 0 } else { draw.below(30) },
            loss_permille: if bad == 0 { 0 } else { draw.below(40 * bad) },
            duplicate_permille: if bad == 0 { 0 } else { draw.below(40) },
            sync_us: (20, sync_max),
            apply_us: (5, *draw.pick(&[50, 500, 20_000]).expect("the list is not empty")),
            clients: draw.between(2, 12),
            keys: draw.between(2, 12),
            accounts: draw.between(3, 15),
            think_us: *draw.pick(&[500, 5_000, 50_000]).expect("the list is not empty"),
            work_us: *draw.pick(&[1, 1_000, 100_000]).expect("the list is not empty"),
            limits,
            faults: Vec::new(),
            safety_phase_us: SAFETY_PHASE_US,
            mutant,
        };
        plan.faults = faults(&mut draw, &plan, bad);
        plan
    }

    /// The group that everything is in.
    pub(crate) fn group(&self) -> GroupId {
        Config::FIRST_GROUP
    }

    /// A node's settings.
    pub(crate) fn config(&self, node: NodeId) -> Config {
        let start = if node == NodeId(1) { Start::Bootstrap } else { Start::Join };
        let mut config = Config::new(node, start, self.seed);
        config.limits = self.limits;
        config.timing = Timing { commit_deadline_us: 4_000_000, begin_deadline_us: 2_000_000, ..Timing::default() };
        match self.mutant {
            Some(Mutant::SkipReads) => config.validation = Validation::BrokenSkipReads,
            Some(Mutant::AckEarly) => config.validation = Validation::BrokenAckEarly,
            _ => {}
        }
        config
    }
}

fn faults(draw: &mut Stream, plan: &Plan, bad: u64) -> Vec<(u64, Fault)> {
    let mut found = Vec::new();
    let count = if bad == 0 { draw.below(2) } else { draw.between(bad, bad * 9) };
    let any = |draw: &mut Stream| NodeId(draw.between(1, plan.nodes));
    for _ in 0..count {
        let at = draw.between(FIRST_FAULT_US, plan.safety_phase_us);
        let length = draw.between(20_000, FAULT_US_MAX);
        let fault = match draw.below(16) {
            0..=3 => Fault::Crash { node: any(draw), down_us: length },
            4 => Fault::Pause { node: any(draw), for_us: length },
            5 | 6 => {
                let side = (1..=plan.nodes).map(NodeId).filter(|_| draw.permille(500)).collect();
                Fault::Partition { side, for_us: length }
            }
            7 => Fault::Clog { from: any(draw), to: any(draw), for_us: length },
            8 => {
                let by_us = draw.below(7_200_000_000) as i64 - 3_600_000_000;
                Fault::ClockJump { node: any(draw), by_us }
            }
            9 | 10 => Fault::Transfer,
            11 => Fault::Deafen { node: any(draw), for_us: length },
            12 => Fault::Silence { node: any(draw), for_us: length },
            13 => Fault::SlowDisk { node: any(draw), times: draw.between(5, 100), for_us: length },
            14 => Fault::FullDisk { node: any(draw), for_us: length },
            _ => Fault::Collect { age_us: draw.below(FAULT_US_MAX) },
        };
        found.push((at, fault));
    }
    // As the node's housekeeping does it, in most runs: again and again, at a fixed age.
    if draw.permille(700) {
        let (every, age_us) = (draw.between(100_000, 2_000_000), draw.below(2_000_000));
        let times = (plan.safety_phase_us - FIRST_FAULT_US) / every;
        found.extend((0..times).map(|time| (FIRST_FAULT_US + time * every, Fault::Collect { age_us })));
    }
    // Everybody at once, as a power failure does.
    if draw.permille(150) {
        let at = draw.between(FIRST_FAULT_US, plan.safety_phase_us);
        for node in 1..=plan.nodes {
            let crash = Fault::Crash { node: NodeId(node), down_us: draw.between(1_000, 500_000) };
            found.push((at + draw.below(2_000), crash));
        }
    }
    // A membership that changes under load and faults: a new node comes, one of the old ones goes, whoever leads.
    if plan.nodes > 1 && draw.permille(400) {
        let at = draw.between(FIRST_FAULT_US, plan.safety_phase_us / 2);
        found.push((at, Fault::Join { node: NodeId(plan.nodes + 1) }));
        if draw.permille(600) {
            let gone = draw.between(1, plan.nodes);
            found.push((draw.between(at, plan.safety_phase_us), Fault::Remove { node: NodeId(gone) }));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found
}
