//! One node: its machine, while it runs, and its disks, which outlive it.

use crate::plan::Plan;
use crate::rng::Stream;
use crate::world::Happening;
use rockpool_engine::kv::{LogStore, MemoryLog, MemoryState};
use rockpool_engine::{Fatal, Fingerprint, GroupStatus, Input, Node, NodeId, Now, Time, fingerprint};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Wall clocks begin somewhere in 2026, apart from each other.
const WALL_START_US: u64 = 1_780_000_000_000_000;

/// What a crash left of the batches that were not durable: how many of how many.
pub(crate) struct Kept {
    log: (u64, u64),
    state: (u64, u64),
}

impl Kept {
    /// Whether something is gone.
    pub(crate) fn lost(&self) -> bool {
        self.log.0 < self.log.1 || self.state.0 < self.state.1
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crash, keeps {}/{} of log and {}/{} of state", self.log.0, self.log.1, self.state.0, self.state.1)
    }
}

/// A node and what it stands on.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) machine: Option<Node>,
    pub(crate) state: MemoryState,
    pub(crate) log: MemoryLog,
    /// Counts starts: what was under way for an earlier life is dropped.
    pub(crate) life: u64,
    pub(crate) removed: bool,
    /// When the sync under way ends, and the one after it. One thread writes what has gathered and syncs once.
    sync_ends: (Time, Time),
    /// When the apply thread is done with what it has been given.
    pub(crate) apply_free: Time,
    /// Until when it stands still.
    pub(crate) paused_until: Time,
    /// What has reached it meanwhile, in order.
    pub(crate) stalled: VecDeque<Happening>,
    /// Until when its disk is slow, and how many times slower.
    pub(crate) disk_slow: (Time, u64),
    /// Until when its disk is full.
    pub(crate) disk_full_until: Time,
    /// The earliest wake-up already in the heap.
    pub(crate) wake_at: Option<Time>,
    wall_offset_us: i64,
    pub(crate) draw: Stream,
}

impl Host {
    pub(crate) fn new(plan: &Plan, id: NodeId) -> Host {
        let mut draw = Stream::new(plan.seed, &format!("host {id}"));
        let wall_offset_us = draw.below(2_000_000) as i64 - 1_000_000;
        Host {
            id,
            machine: None,
            state: MemoryState::new(),
            log: MemoryLog::new(),
            life: 0,
            removed: false,
            sync_ends: (Time::default(), Time::default()),
            apply_free: Time::default(),
            paused_until: Time::default(),
            stalled: VecDeque::new(),
            disk_slow: (Time::default(), 1),
            disk_full_until: Time::default(),
            wake_at: None,
            wall_offset_us,
            draw,
        }
    }

    /// The clocks that the machine is shown.
    pub(crate) fn now(&self, time: Time) -> Now {
        Now { time, wall_us: (WALL_START_US + time.0).saturating_add_signed(self.wall_offset_us) }
    }

    /// Makes the wall clock jump.
    pub(crate) fn jump(&mut self, by_us: i64) {
        self.wall_offset_us += by_us;
    }

    /// When a write handed to the disk now would be durable.
    pub(crate) fn disk_done(&mut self, plan: &Plan, time: Time) -> Time {
        let times = if self.disk_slow.0 > time { self.disk_slow.1 } else { 1 };
        let took = self.draw.between(plan.sync_us.0, plan.sync_us.1) * times;
        let (under_way, next) = self.sync_ends;
        self.sync_ends = if time >= next {
            // Idle.
            (time.plus_us(took), time.plus_us(took))
        } else if time >= under_way {
            // What had gathered is being synced now; this gathers behind it.
            (next, next.plus_us(took))
        } else if next == under_way {
            (under_way, under_way.plus_us(took))
        } else {
            (under_way, next)
        };
        self.sync_ends.1
    }

    /// Whether what reaches it has to wait: it is paused, or what came before still waits.
    pub(crate) fn stands_still(&self, time: Time) -> bool {
        self.paused_until > time || !self.stalled.is_empty()
    }

    /// No more faults of its own.
    pub(crate) fn heal(&mut self, time: Time) {
        self.paused_until = time;
        self.disk_slow = (time, 1);
        self.disk_full_until = time;
    }

    /// Starts it on its disks.
    pub(crate) fn start(&mut self, plan: &Plan, time: Time) -> Result<(), Fatal> {
        self.life += 1;
        self.sync_ends = (time, time);
        self.apply_free = time;
        self.wake_at = None;
        let logs = self.log.load()?;
        let now = self.now(time);
        self.machine = Some(Node::open(plan.config(self.id), Arc::new(self.state.clone()), logs, now)?);
        Ok(())
    }

    /// Kills it. Of what was not durable, a prefix of chance length survives.
    pub(crate) fn crash(&mut self) -> Result<Kept, Fatal> {
        self.machine = None;
        self.stalled.clear();
        self.paused_until = Time::default();
        let (log, state) = (self.log.unsynced(), self.state.unflushed());
        let (keep_log, keep_state) = (self.draw.between(0, log as u64), self.draw.between(0, state as u64));
        self.log.crash(keep_log as usize)?;
        self.state.crash(keep_state as usize);
        Ok(Kept { log: (keep_log, log as u64), state: (keep_state, state as u64) })
    }

    /// Hands an input to the machine, if it runs.
    pub(crate) fn handle(&mut self, time: Time, input: Input) -> Result<(), Fatal> {
        let now = self.now(time);
        match &mut self.machine {
            Some(machine) => machine.handle_input(now, input),
            None => Ok(()),
        }
    }

    /// How its replica of the one group is doing.
    pub(crate) fn status(&self, plan: &Plan) -> Option<GroupStatus> {
        let group = plan.group();
        self.machine.as_ref()?.status().groups.into_iter().find(|status| status.group == group)
    }

    /// The state that it holds, in short.
    pub(crate) fn fingerprint(&self, plan: &Plan) -> Result<Option<Fingerprint>, Fatal> {
        use rockpool_engine::kv::StateStore;
        fingerprint(&*self.state.view()?, plan.group())
    }
}
