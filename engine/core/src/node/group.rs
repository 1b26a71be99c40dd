//! One replica: consensus, its disk, its state, and what waits on them.

use super::Context;
use super::begin::Begins;
use super::gateway::Gateway;
use super::leading::{Handover, Leading};
use super::snapshot::{Receiver, Senders};
use crate::codec::{NodeMessage, StateMeta};
use crate::config::Config;
use crate::error::Fatal;
use crate::kv::{LogBatch, StateStore};
use crate::output::{Notice, Output};
use crate::raft::{Outgoing, Replica, ReplicaReady};
use crate::state::{ApplyItem, ApplyTask, Done, Effect};
use crate::status::{GroupStatus, Role};
use crate::txn::{Timestamp, Window};
use rockpool_proto::{GroupId, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something on its way to the log store, and what may happen when it is there.
struct Pending {
    /// The library's number, for what came from it.
    ready: Option<u64>,
    batch: LogBatch,
    waiting: Vec<Outgoing>,
    /// A snapshot whose state must be durable before the batch is written: its index.
    install: Option<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not handed to the driver: a snapshot's state comes first.
    Held,
    /// Nothing to write; done when what is before it is.
    Empty,
    /// Handed to the driver under this number.
    Written(u64),
}

/// One replica.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) node: NodeId,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) replica: Replica,
    /// What the state is known to hold; none while the node has no state of the group.
    pub(super) meta: Option<StateMeta>,
    flushed: u64,
    /// The applied index that the flush under way will make durable.
    flushing: Option<u64>,
    /// Entries handed to the apply thread, per task: the last index and the bytes.
    applying: VecDeque<(u64, usize)>,
    /// Bytes of entries applied since a flush was asked for.
    unflushed_bytes: usize,
    pending: VecDeque<Pending>,
    pub(super) window: Window,
    pub(super) begins: Begins,
    pub(super) gateway: Gateway,
    pub(super) leading: Option<Leading>,
    pub(super) handover: Option<Handover>,
    pub(super) senders: Senders,
    pub(super) receiver: Receiver,
    /// What was last told about the leader.
    told: (Role, Option<NodeId>, u64),
}

impl Group {
    pub(super) fn new(
        config: &Config,
        id: GroupId,
        store: Arc<dyn StateStore>,
        replica: Replica,
        meta: Option<StateMeta>,
        flushed: u64,
        reset: Option<LogBatch>,
    ) -> Self {
        let last_commit = meta.as_ref().map_or(Timestamp::ZERO, |meta| meta.last_commit);
        let pending =
            reset.map(|batch| Pending { ready: None, batch, waiting: Vec::new(), install: None, stage: Stage::Held });
        Group {
            id,
            node: config.node,
            store,
            replica,
            meta,
            flushed,
            flushing: None,
            applying: VecDeque::new(),
            unflushed_bytes: 0,
            pending: pending.into_iter().collect(),
            window: Window::new(last_commit, config.limits.window_commits_max, config.limits.window_bytes_max),
            begins: Begins::default(),
            gateway: Gateway::default(),
            leading: None,
            handover: None,
            senders: Senders::default(),
            receiver: Receiver::default(),
            told: (Role::Follower, None, 0),
        }
    }

    /// The last index applied, as far as is known here.
    pub(super) fn applied_index(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.applied_index)
    }

    /// A tick of the clock.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) -> Result<(), Fatal> {
        self.replica.tick();
        self.expire_begins(context);
        self.expire_requests(context);
        self.tick_senders(context)?;
        self.tick_receiver(context);
        self.tick_handover(context);
        self.step_collection();
        Ok(())
    }

    /// A message from another node. What can't be right is refused with a sentence.
    pub(super) fn message(
        &mut self,
        context: &mut Context<'_>,
        from: NodeId,
        message: NodeMessage,
    ) -> Result<Result<(), String>, Fatal> {
        match message {
            NodeMessage::Raft(bytes) => return self.replica.step(from, &bytes),
            NodeMessage::Forward { boot, id, request } => {
                let origin = super::leading::Origin { node: from, boot, id };
                self.lead(context, origin, *request)?;
            }
            NodeMessage::ForwardReply { boot, id, answer } => {
                if boot == context.boot {
                    self.answered(context, id, answer);
                }
            }
            NodeMessage::SnapshotChunk(chunk) => return Ok(self.receive_chunk(context, from, *chunk)),
            NodeMessage::SnapshotAck(ack) => self.snapshot_acked(context, from, ack)?,
        }
        Ok(Ok(()))
    }

    /// Messages to a node get lost.
    pub(super) fn unreachable(&mut self, node: NodeId) {
        self.replica.report_unreachable(node);
    }

    /// Works out what follows from the inputs since the last time.
    pub(super) fn pump(&mut self, context: &mut Context<'_>, persisted_seq: u64) -> Result<(), Fatal> {
        loop {
            self.finish_persisted(context, persisted_seq);
            self.follow_leadership(context)?;
            self.send_requests(context)?;
            self.start_read_rounds(context);
            self.pursue_membership(context);
            let mut worked = false;
            while let Some(ready) = self.replica.next_ready()? {
                worked = true;
                self.carry_out(context, ready)?;
            }
            self.settle_receiver(context);
            self.hand_out(context);
            let front_done = self.pending.front().is_some_and(|front| front.stage == Stage::Empty);
            if !worked && !front_done {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, context: &mut Context<'_>, ready: ReplicaReady) -> Result<(), Fatal> {
        self.send_raft(context, ready.messages);
        if let Some(index) = ready.install {
            self.install_received(context, index)?;
        }
        self.pending.push_back(Pending {
            ready: Some(ready.number),
            batch: ready.batch,
            waiting: ready.waiting,
            install: ready.install,
            stage: Stage::Held,
        });
        for (read, index) in ready.reads {
            self.read_index_known(context, &read, index);
        }
        if let Some(last) = ready.committed.last() {
            self.applying.push_back((last.index, ready.committed.iter().map(ApplyItem::size_bytes).sum()));
            context.outputs.push_back(Output::Apply(ApplyTask::entries(self.id, ready.committed)));
        }
        for snapshot in ready.snapshots {
            self.start_sending(context, snapshot)?;
        }
        Ok(())
    }

    fn send_raft(&self, context: &mut Context<'_>, messages: Vec<Outgoing>) {
        for Outgoing { to, class, bytes } in messages {
            context.send(self.id, to, class, NodeMessage::Raft(bytes));
        }
    }

    /// Hands out what is to be written, up to a snapshot whose state is not durable yet.
    fn hand_out(&mut self, context: &mut Context<'_>) {
        for pending in self.pending.iter_mut() {
            if pending.stage != Stage::Held {
                continue;
            }
            if pending.install.is_some_and(|index| self.meta.as_ref().is_none_or(|meta| meta.applied_index < index)) {
                return;
            }
            pending.stage = if pending.batch.is_empty() {
                Stage::Empty
            } else {
                *context.persist_seq += 1;
                let batch = std::mem::replace(&mut pending.batch, LogBatch::new(self.id));
                context.outputs.push_back(Output::Persist { seq: *context.persist_seq, batches: vec![batch] });
                Stage::Written(*context.persist_seq)
            };
        }
    }

    /// What is durable lets messages go and the library go on.
    fn finish_persisted(&mut self, context: &mut Context<'_>, persisted_seq: u64) {
        loop {
            let done = self.pending.front().is_some_and(|front| match front.stage {
                Stage::Held => false,
                Stage::Empty => true,
                Stage::Written(seq) => seq <= persisted_seq,
            });
            if !done {
                return;
            }
            let Some(pending) = self.pending.pop_front() else { return };
            if let Some(number) = pending.ready {
                self.replica.persisted(number);
            }
            if let Some(index) = pending.install {
                self.replica.applied(index);
            }
            self.send_raft(context, pending.waiting);
        }
    }

    /// The apply thread has done a task.
    pub(super) fn applied(&mut self, context: &mut Context<'_>, done: Done) -> Result<(), Fatal> {
        match done {
            Done::Entries { meta, effects } => {
                let membership_changed = self.meta.as_ref().is_none_or(|before| before.membership != meta.membership);
                self.replica.applied(meta.applied_index);
                while let Some((_, bytes)) = self.applying.pop_front_if(|(last, _)| *last <= meta.applied_index) {
                    self.unflushed_bytes += bytes;
                }
                self.meta = Some(meta);
                for (_, effect) in &effects {
                    if let Effect::Committed { timestamp, keys, .. } = effect {
                        self.window.apply(*timestamp, keys.clone());
                    }
                }
                self.effects(context, effects)?;
                if membership_changed {
                    self.tell_membership(context);
                }
                self.state_advanced(context);
                self.ask_for_flush(context);
            }
            Done::Chunk { stream, seq } => self.chunk_written(context, stream, seq)?,
            Done::Installed { meta } => {
                self.installed();
                self.window.restart(meta.last_commit);
                self.flushed = meta.applied_index;
                self.unflushed_bytes = 0;
                context.notice(Notice::SnapshotInstalled { group: self.id, index: meta.applied_index });
                self.meta = Some(meta);
                self.tell_membership(context);
                self.state_advanced(context);
            }
            Done::Discarded => {}
        }
        Ok(())
    }

    fn tell_membership(&self, context: &mut Context<'_>) {
        if let Some(meta) = &self.meta {
            let (voters, learners) = (meta.membership.voters.clone(), meta.membership.learners.clone());
            context.notice(Notice::Membership { group: self.id, voters, learners });
        }
    }

    /// The state was flushed: the log before it may go, but for what slow followers may still want.
    pub(super) fn flushed(&mut self, context: &mut Context<'_>) {
        let Some(flushed) = self.flushing.take() else { return };
        self.flushed = self.flushed.max(flushed);
        let limits = &context.config.limits;
        let mut to = self.replica.truncation_point(self.flushed, limits.log_keep_bytes, limits.log_keep_entries);
        // Whoever is being sent a snapshot will want the log from there; but writing goes before catching up.
        if let Some(sending) = self.senders.lowest_index()
            && self.replica.log_bytes() < limits.log_bytes_max / 2
        {
            to = to.min(sending);
        }
        // A snapshot that is being installed has reset the log already.
        if to < self.replica.first_index() {
            return;
        }
        if let Some(truncate_to) = self.replica.truncate(to) {
            let batch = LogBatch { truncate_to: Some(truncate_to), ..LogBatch::new(self.id) };
            let (waiting, stage) = (Vec::new(), Stage::Held);
            self.pending.push_back(Pending { ready: None, batch, waiting, install: None, stage });
            context.notice(Notice::Truncated { group: self.id, index: to });
        }
    }

    fn ask_for_flush(&mut self, context: &mut Context<'_>) {
        let limits = &context.config.limits;
        let applied = self.applied_index();
        let unflushed = applied.saturating_sub(self.flushed);
        let full = unflushed > limits.log_flush_entries || self.unflushed_bytes > limits.log_flush_bytes;
        if full && unflushed > 0 && self.flushing.is_none() {
            self.flushing = Some(applied);
            self.unflushed_bytes = 0;
            context.outputs.push_back(Output::Flush { group: self.id });
        }
    }

    /// Notices who leads, and gives up or takes over what only a leader does.
    fn follow_leadership(&mut self, context: &mut Context<'_>) -> Result<(), Fatal> {
        let (role, leader, term) = (self.replica.role(), self.replica.leader(), self.replica.term());
        if (role, leader, term) == self.told {
            return self.take_charge(context);
        }
        let before = std::mem::replace(&mut self.told, (role, leader, term));
        if (before.0, before.2) != (role, term) {
            self.leading = None;
            self.window.drop_proposals();
            self.stop_sending(context);
        }
        if role == Role::Leader && self.leading.is_none() {
            self.leading = Some(Leading::new(term));
        }
        if before.1 != leader || before.2 != term {
            self.requeue_begins();
            self.gateway.resend_all();
        }
        context.notice(Notice::Leader { group: self.id, role, leader, term });
        self.finish_handover(context);
        self.take_charge(context)
    }

    /// How it is doing.
    pub(super) fn status(&self) -> GroupStatus {
        let membership = self.replica.membership();
        GroupStatus {
            group: self.id,
            role: self.replica.role(),
            leader: self.replica.leader(),
            term: self.replica.term(),
            voters: membership.voters,
            voters_outgoing: membership.voters_outgoing,
            learners: membership.learners,
            first_index: self.replica.first_index(),
            last_index: self.replica.last_index(),
            committed: self.replica.committed(),
            applied: self.applied_index(),
            flushed: self.flushed,
            log_bytes: self.replica.log_bytes(),
            last_commit: self.meta.as_ref().map_or(Timestamp::ZERO, |meta| meta.last_commit),
            initialized: self.meta.is_some(),
            followers: self.replica.followers(),
        }
    }
}
