//! One replica's consensus: the library `raft`, wrapped so that its types stay in this folder.
//!
//! The library decides; this wrapper keeps the promises that it asks for but does not check, and the order in which things
//! may happen:
//!
//! ```text
//!   step, tick, propose ──► library ──► Ready ──┬─► messages that bind nobody, at once
//!                                               ├─► entries and hard state ─► disk ─► persisted(n) ─► messages that wait
//!                                               └─► committed entries ─► apply ─► applied(index)
//! ```
//!
//! * A leader's appends go out while its own disk still syncs. What others rely on after a crash (votes, acknowledged
//!   entries) waits for the disk.
//! * The log is in memory from where it was cut ([`storage`]), so what was handed to the disk can always be read.
//! * The library draws election timeouts from a thread's generator. After each step and tick they are replaced by a pure
//!   function of seed, node and term, so that a seed repeats a run.
//! * Where the library would panic on what a broken disk or a wiped node makes true, the wrapper looks first and refuses.

mod convert;
mod message;
mod storage;

use crate::codec::{Membership, StateMeta};
use crate::config::Config;
use crate::error::Fatal;
use crate::kv::{HardState, LogBatch, StateStore};
use crate::output::Class;
use crate::state::{ApplyItem, ItemKind};
use crate::status::{FollowerStatus, Role};
use ::raft::prelude::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, EntryType, MessageType};
use ::raft::{ProgressState, RawNode, ReadOnlyOption, StateRole};
use bytes::Bytes;
use protobuf::Message as _;
use rockpool_proto::{GroupId, NodeId};
use std::sync::Arc;

pub(crate) use storage::{LogStart, SnapshotSource};
use storage::{LogStorage, SnapshotDesk};

/// A message for another node.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: NodeId,
    pub(crate) class: Class,
    /// The library's message.
    pub(crate) bytes: Bytes,
}

/// A snapshot that the library wants sent.
pub(crate) struct OutgoingSnapshot {
    pub(crate) to: NodeId,
    /// The library's announcement, to be stepped at the receiver once it has the state.
    pub(crate) announcement: Bytes,
    /// The state to send.
    pub(crate) source: SnapshotSource,
}

/// What the library wants done.
pub(crate) struct ReplicaReady {
    /// To be given to [`Replica::persisted`].
    pub(crate) number: u64,
    /// May go now.
    pub(crate) messages: Vec<Outgoing>,
    /// May go once everything up to `number` is durable.
    pub(crate) waiting: Vec<Outgoing>,
    /// What is to become durable. Empty: nothing.
    pub(crate) batch: LogBatch,
    /// A snapshot to be installed before `batch` is written: its index.
    pub(crate) install: Option<u64>,
    /// Entries to be applied, in order.
    pub(crate) committed: Vec<ApplyItem>,
    /// Read indexes that were asked for: context and index.
    pub(crate) reads: Vec<(Vec<u8>, u64)>,
    /// Snapshots to be sent.
    pub(crate) snapshots: Vec<OutgoingSnapshot>,
}

/// A step of a change of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MembershipStep {
    /// Adds a learner.
    AddLearner(NodeId),
    /// Enters a joint state in which the learner votes.
    Promote(NodeId),
    /// Enters a joint state out of which the node is gone.
    Remove(NodeId),
    /// Leaves the joint state.
    LeaveJoint,
}

/// One replica's consensus.
pub(crate) struct Replica {
    node: NodeId,
    group: GroupId,
    seed: u64,
    election_ticks: (usize, usize),
    raw: RawNode<LogStorage>,
    /// The last ready that changed term or vote, and the last one that is durable.
    vote_ready: u64,
    durable_ready: u64,
    /// The last ready handed out, whether or not it needs the disk.
    last_ready: u64,
    /// A snapshot is being installed; the library must not campaign meanwhile.
    installing: Option<u64>,
    append_bytes_max: u64,
    log_bytes_max: usize,
}

impl Replica {
    /// A replica over the log found at start.
    pub(crate) fn open(
        config: &Config,
        group: GroupId,
        start: LogStart,
        applied: u64,
        store: Arc<dyn StateStore>,
    ) -> Result<Self, Fatal> {
        let limits = &config.limits;
        let desk = SnapshotDesk::new(store, group, limits.snapshots_max);
        let library = ::raft::Config {
            id: config.node.0,
            election_tick: config.timing.election_ticks_min,
            min_election_tick: config.timing.election_ticks_min,
            max_election_tick: config.timing.election_ticks_max,
            heartbeat_tick: config.timing.heartbeat_ticks,
            applied,
            max_size_per_msg: limits.append_bytes_max,
            max_inflight_msgs: limits.append_inflight_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: limits.uncommitted_bytes_max,
            max_committed_size_per_ready: limits.apply_bytes_max,
            ..::raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&library, LogStorage::new(start, desk), &logger).map_err(|error| Fatal::Consensus {
            node: config.node,
            group,
            what: error.to_string(),
        })?;
        let mut replica = Replica {
            node: config.node,
            group,
            seed: config.seed,
            election_ticks: (config.timing.election_ticks_min, config.timing.election_ticks_max),
            raw,
            vote_ready: 0,
            durable_ready: 0,
            last_ready: 0,
            installing: None,
            append_bytes_max: limits.append_bytes_max,
            log_bytes_max: limits.log_bytes_max,
        };
        if replica.raw.raft.prs().is_singleton() && replica.raw.raft.promotable() {
            // Nobody else could lead: no need to wait.
            let _ = replica.raw.campaign();
        }
        replica.set_election_timeout();
        Ok(replica)
    }

    /// A tick of the clock has passed.
    pub(crate) fn tick(&mut self) {
        let leads = self.role() == Role::Leader;
        // The library asserts that a sole voter's log is durable when it campaigns, and can't campaign in the middle of
        // an install at all.
        let sole = self.raw.raft.prs().is_singleton();
        if !leads && (self.installing.is_some() || (sole && self.durable_ready < self.last_ready)) {
            self.raw.raft.election_elapsed += 1;
        } else {
            self.raw.tick();
        }
        let raft = &self.raw.raft;
        if (raft.state == StateRole::Follower && raft.pass_election_timeout()) || self.campaign_was_refused(leads) {
            // Nothing was heard of the leader for so long, and still this node does not campaign (it has a change of
            // membership to apply first). Let it forget the leader, or it would refuse its vote to everybody.
            self.raw.raft.leader_id = ::raft::INVALID_ID;
        }
        self.set_election_timeout();
    }

    /// Whether the tick just made began an election that the library then refused to hold.
    fn campaign_was_refused(&self, led: bool) -> bool {
        let raft = &self.raw.raft;
        !led && raft.state == StateRole::Follower && raft.promotable() && raft.election_elapsed == 0
    }

    /// Takes a message of the library's from another node. What can't be right is refused with a sentence.
    pub(crate) fn step(&mut self, from: NodeId, bytes: &[u8]) -> Result<Result<(), String>, Fatal> {
        let mut message = match message::read(from, self.node, bytes) {
            Ok(message) => message,
            Err(what) => return Ok(Err(what)),
        };
        match message.get_msg_type() {
            MessageType::MsgReadIndex if self.role() != Role::Leader => return Ok(Ok(())),
            MessageType::MsgReadIndex => {
                let asked_in = std::mem::take(&mut message.term);
                if let Some(answer) = self.read_index_answer(&message, asked_in) {
                    self.raw.raft.msgs.push(answer);
                    return Ok(Ok(()));
                }
            }
            MessageType::MsgSnapshot => return Ok(Err("a snapshot that did not come as a stream".to_owned())),
            MessageType::MsgTimeoutNow if self.installing.is_some() => return Ok(Ok(())),
            MessageType::MsgHeartbeat if message.term >= self.term() && message.commit > self.last_index() => {
                // The leader has seen this node acknowledge what it no longer has.
                let what = format!(
                    "{from} knows that this node has held the log up to {}, but it ends at {}: its disk lost \
                     acknowledged writes, or was wiped. Remove the node and let it join under a new id",
                    message.commit,
                    self.last_index()
                );
                return Err(Fatal::Consensus { node: self.node, group: self.group, what });
            }
            // The leader sends them again, and slows down meanwhile. Heartbeats still tell what may be applied.
            MessageType::MsgAppend if !message.get_entries().is_empty() && self.log_is_full() => return Ok(Ok(())),
            _ => {}
        }
        self.step_message(message)?;
        Ok(Ok(()))
    }

    /// Hands the library the announcement of a snapshot whose state has been received. Whether it takes it shows in the
    /// next ready.
    pub(crate) fn step_snapshot(
        &mut self,
        from: NodeId,
        announcement: &[u8],
        meta: &StateMeta,
    ) -> Result<Result<(), String>, Fatal> {
        let message = match message::read(from, self.node, announcement) {
            Ok(message) => message,
            Err(what) => return Ok(Err(what)),
        };
        let announced = message.get_snapshot().get_metadata();
        if message.get_msg_type() != MessageType::MsgSnapshot
            || (announced.index, announced.term) != (meta.applied_index, meta.applied_term)
            || convert::membership(announced.get_conf_state()) != meta.membership
        {
            return Ok(Err("a snapshot's announcement and its state do not belong together".to_owned()));
        }
        self.step_message(message)?;
        Ok(Ok(()))
    }

    fn step_message(&mut self, message: ::raft::prelude::Message) -> Result<(), Fatal> {
        // An answer from a node that is no member, a proposal that can't be taken: nothing to do about either.
        let _ = self.raw.step(message);
        self.set_election_timeout();
        self.check_desk()
    }

    /// Whether the log takes up all the memory that it may: it is written faster than applied, flushed or sent.
    fn log_is_full(&self) -> bool {
        self.log_bytes() >= self.log_bytes_max
    }

    /// Puts a command into the log; its index, unless this is not the leader or too much is uncommitted or in memory.
    pub(crate) fn propose(&mut self, data: Bytes) -> Option<u64> {
        if self.role() != Role::Leader || self.log_is_full() {
            return None;
        }
        let context = convert::entry_checksum(&data);
        self.raw.propose(context, data.into()).ok()?;
        Some(self.last_index())
    }

    /// Puts a step of a change of membership into the log; its index. The library may still turn it into an empty entry:
    /// compare what is applied there with what was asked.
    pub(crate) fn propose_membership(&mut self, step: MembershipStep) -> Option<u64> {
        if self.role() != Role::Leader {
            return None;
        }
        let mut change = ConfChangeV2::default();
        let single = match step {
            MembershipStep::AddLearner(node) => Some((ConfChangeType::AddLearnerNode, node)),
            MembershipStep::Promote(node) => Some((ConfChangeType::AddNode, node)),
            MembershipStep::Remove(node) => Some((ConfChangeType::RemoveNode, node)),
            MembershipStep::LeaveJoint => None,
        };
        if let Some((kind, node)) = single {
            let mut single = ConfChangeSingle::default();
            single.set_change_type(kind);
            single.node_id = node.0;
            change.set_changes(vec![single].into());
            // Explicit: the machine leaves the joint state, whoever leads by then. The library's own way forgets it when
            // the leader changes.
            if !matches!(step, MembershipStep::AddLearner(_)) {
                change.set_transition(ConfChangeTransition::Explicit);
            }
        }
        let data = change.write_to_bytes().ok()?;
        self.raw.propose_conf_change(convert::entry_checksum(&data), change).ok()?;
        Some(self.last_index())
    }

    /// Asks for a read index. The context must never have been used before.
    pub(crate) fn read_index(&mut self, context: Vec<u8>) {
        self.raw.read_index(context);
        let term = self.term();
        let asked = self.raw.raft.msgs.last_mut();
        if let Some(question) = asked.filter(|message| message.get_msg_type() == MessageType::MsgReadIndex) {
            // The library sends it without a term.
            question.term = term;
        }
    }

    /// Answers a question for a read index at once, where this leader and who asks are a majority. A round of heartbeats
    /// would find out whether a majority still followed it after the question came up; that it was asked in this term says
    /// so of the asker. It says nothing about questions that came up meanwhile, so these wait for their own rounds.
    fn read_index_answer(
        &self,
        question: &::raft::prelude::Message,
        asked_in: u64,
    ) -> Option<::raft::prelude::Message> {
        let raft = &self.raw.raft;
        let both = [self.node.0, question.from].into_iter().collect();
        if asked_in != raft.term || !raft.commit_to_current_term() || !raft.prs().has_quorum(&both) {
            return None;
        }
        let mut answer = ::raft::prelude::Message {
            from: self.node.0,
            to: question.from,
            term: raft.term,
            index: raft.raft_log.committed,
            ..Default::default()
        };
        answer.set_msg_type(MessageType::MsgReadIndexResp);
        answer.set_entries(question.get_entries().to_vec().into());
        Some(answer)
    }

    /// Whether asking for a read index can lead anywhere.
    pub(crate) fn can_read_index(&self) -> bool {
        match self.role() {
            Role::Leader => self.raw.raft.commit_to_current_term(),
            Role::Follower => self.leader().is_some(),
            Role::Candidate | Role::PreCandidate => false,
        }
    }

    /// Starts handing leadership over.
    pub(crate) fn transfer_leadership(&mut self, to: NodeId) {
        self.raw.transfer_leader(to.0);
    }

    /// The node could not be reached.
    pub(crate) fn report_unreachable(&mut self, node: NodeId) {
        self.raw.report_unreachable(node.0);
    }

    /// A snapshot's stream has ended.
    pub(crate) fn report_snapshot(&mut self, to: NodeId, complete: bool) {
        self.raw.raft.store().desk().finished(to.0);
        let status = if complete { ::raft::SnapshotStatus::Finish } else { ::raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// What the library wants done, if anything.
    pub(crate) fn next_ready(&mut self) -> Result<Option<ReplicaReady>, Fatal> {
        if !self.raw.has_ready() {
            return self.check_desk().map(|()| None);
        }
        let mut ready = self.raw.ready();
        let number = ready.number();
        self.last_ready = number;
        let mut batch = LogBatch::new(self.group);
        if let Some(hard) = ready.hs() {
            let before = self.raw.raft.store().hard_state();
            if (hard.term, hard.vote) != (before.term, before.vote) {
                self.vote_ready = number;
            }
            let hard = HardState { term: hard.term, vote: hard.vote, commit: hard.commit };
            self.raw.mut_store().set_hard_state(hard);
        }
        // The commit index alone is not worth a write: what is applied says as much after a restart.
        if ready.must_sync() {
            batch.hard_state = Some(self.raw.raft.store().hard_state());
        }
        let mut install = None;
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            let (index, term) = (metadata.index, metadata.term);
            self.raw.mut_store().reset((index, term));
            batch.truncate_to = Some((index, term));
            install = Some(index);
            self.installing = Some(index);
        }
        let entries = ready.take_entries();
        if !entries.is_empty() {
            batch.entries = entries.iter().map(convert::log_entry).collect();
            self.raw.mut_store().append(entries);
        }
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());
        let reads = ready.take_read_states().into_iter().map(|read| (read.request_ctx, read.index)).collect();
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);

        let committed = committed.into_iter().map(|entry| self.apply_item(entry)).collect::<Result<_, _>>()?;
        let (messages, waiting, snapshots) = self.sort_messages(messages);
        self.check_desk()?;
        Ok(Some(ReplicaReady { number, messages, waiting, batch, install, committed, reads, snapshots }))
    }

    /// Splits messages into those that may go, those that wait for the disk, and snapshots.
    fn sort_messages(
        &mut self,
        messages: Vec<::raft::prelude::Message>,
    ) -> (Vec<Outgoing>, Vec<Outgoing>, Vec<OutgoingSnapshot>) {
        let (mut now, mut waiting, mut snapshots) = (Vec::new(), Vec::new(), Vec::new());
        // A sole voter wins its election before its own vote is durable. Were it to crash, it could win the same term
        // again and write another log in it, so its learners must not hear of the term before.
        let term_is_durable = self.vote_ready <= self.durable_ready;
        let bytes_max = self.append_bytes_max;
        for message in messages.into_iter().flat_map(|message| message::cut_append(message, bytes_max)) {
            let kind = message.get_msg_type();
            let to = NodeId(message.to);
            let Ok(bytes) = message.write_to_bytes().map(Bytes::from) else { continue };
            if kind == MessageType::MsgSnapshot {
                match self.raw.raft.store().desk().take(to.0) {
                    Some(source) => snapshots.push(OutgoingSnapshot { to, announcement: bytes, source }),
                    None => self.raw.report_snapshot(to.0, ::raft::SnapshotStatus::Failure),
                }
                continue;
            }
            let outgoing = Outgoing { to, class: message::class(kind), bytes };
            let binds = matches!(
                kind,
                MessageType::MsgAppendResponse | MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse
            );
            let speaks_as_leader = matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat);
            if binds || (speaks_as_leader && !term_is_durable) {
                waiting.push(outgoing);
            } else {
                now.push(outgoing);
            }
        }
        (now, waiting, snapshots)
    }

    fn apply_item(&mut self, entry: ::raft::prelude::Entry) -> Result<ApplyItem, Fatal> {
        let (index, term) = (entry.index, entry.term);
        let damaged = |what: &str| Fatal::Log { group: self.group, what: format!("entry {index}@{term}: {what}") };
        if !entry.data.is_empty() && entry.context[..] != convert::entry_checksum(&entry.data)[..] {
            return Err(damaged("the checksum does not hold"));
        }
        let kind = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => ItemKind::Empty,
            EntryType::EntryNormal => ItemKind::Record(entry.data),
            EntryType::EntryConfChange => return Err(damaged("a change of membership of an old kind")),
            EntryType::EntryConfChangeV2 => {
                let mut change = ConfChangeV2::default();
                change.merge_from_bytes(&entry.data).map_err(|_| damaged("not a change of membership"))?;
                match self.raw.apply_conf_change(&change) {
                    Ok(state) => ItemKind::Membership(convert::membership(&state)),
                    // It does not fit the membership that it came to: the same on every replica.
                    Err(_) => ItemKind::Empty,
                }
            }
        };
        if matches!(kind, ItemKind::Membership(_)) {
            let member = self.raw.raft.prs().get(self.node.0).is_some();
            if self.role() == Role::Leader && !member {
                // The library would go on leading and stumble over its missing progress.
                let term = self.raw.raft.term;
                self.raw.raft.become_follower(term, ::raft::INVALID_ID);
            }
            self.set_election_timeout();
        }
        Ok(ApplyItem { index, term, kind })
    }

    /// Everything up to this ready is durable.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.durable_ready = self.durable_ready.max(number);
        self.raw.on_persist_ready(number);
    }

    /// The state holds everything up to this index.
    pub(crate) fn applied(&mut self, index: u64) {
        if self.installing.is_some_and(|installing| installing <= index) {
            self.installing = None;
        }
        if index > self.raw.raft.raft_log.applied {
            self.raw.advance_apply_to(index);
        }
    }

    /// Drops the log up to and with `index`; its term.
    pub(crate) fn truncate(&mut self, index: u64) -> Option<(u64, u64)> {
        self.raw.mut_store().truncate(index)
    }

    fn check_desk(&mut self) -> Result<(), Fatal> {
        match self.raw.raft.store().desk().take_error() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn set_election_timeout(&mut self) {
        let (min, max) = self.election_ticks;
        let spread = (max - min).max(1) as u64;
        let draw = mix(mix(self.seed, self.node.0), self.raw.raft.term) % spread;
        self.raw.raft.set_randomized_election_timeout(min + draw as usize);
    }

    /// What this replica is.
    pub(crate) fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate => Role::Candidate,
            StateRole::PreCandidate => Role::PreCandidate,
        }
    }

    /// Who leads, if known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.raw.raft.leader_id {
            ::raft::INVALID_ID => None,
            id => Some(NodeId(id)),
        }
    }

    /// The term.
    pub(crate) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Known committed.
    pub(crate) fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// First index in the log.
    pub(crate) fn first_index(&self) -> u64 {
        self.raw.raft.raft_log.first_index()
    }

    /// Last index in the log.
    pub(crate) fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Whether everything from before this leader's term is applied, and its term has begun.
    pub(crate) fn leads_and_applied_its_term(&self) -> bool {
        self.role() == Role::Leader && self.raw.raft.apply_to_current_term()
    }

    /// Whether a change of membership is in the log and not applied, as far as is known.
    pub(crate) fn membership_change_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Whether leadership is being handed over.
    pub(crate) fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The log in memory.
    pub(crate) fn log_bytes(&self) -> usize {
        self.raw.raft.store().bytes()
    }

    /// The highest index up to which the log may go so that at most this much stays before `flushed`.
    pub(crate) fn truncation_point(&self, flushed: u64, keep_bytes: usize, keep_entries: u64) -> u64 {
        self.raw.raft.store().truncation_point(flushed, keep_bytes, keep_entries)
    }

    /// Whether a node belongs to the group, in whatever role.
    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.raw.raft.prs().get(node.0).is_some()
    }

    /// The membership in force, which is that of the last committed change.
    pub(crate) fn membership(&self) -> Membership {
        convert::membership(&self.raw.raft.prs().conf().to_conf_state())
    }

    /// What a leader knows of the others.
    pub(crate) fn followers(&self) -> Vec<FollowerStatus> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let last = self.last_index();
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.node.0);
        let mut followers: Vec<FollowerStatus> = others
            .map(|(id, progress)| FollowerStatus {
                node: NodeId(*id),
                matched: progress.matched,
                lag_entries: last.saturating_sub(progress.matched),
                recently_active: progress.recent_active,
                in_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect();
        followers.sort_by_key(|follower| follower.node);
        followers
    }
}

/// Mixes a number into another (the finalizer of SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
