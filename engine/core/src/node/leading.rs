//! What only the leader does: validate transactions, order them, answer when they are applied.
//!
//! A leader takes charge when it has applied everything from before its term, its own first entry included. Until then
//! requests are parked. From then on the order in which it proposes is the order of the log, for as long as it leads; when
//! it is deposed it forgets all of this, and the nodes that sent the requests ask the next leader. Members only are served:
//! a node that was removed keeps its certificate.

use super::Context;
use super::group::Group;
use crate::codec::{Answer, Command, CommitCommand, Forwarded, LogRecord, NodeMessage, StateKeys};
use crate::config::Validation;
use crate::error::Fatal;
use crate::input::{MembershipChange, RequestId};
use crate::output::{Class, Notice, Refusal, Reply};
use crate::state::{Effect, Outcome, read_outcome};
use crate::status::Role;
use crate::time::Time;
use crate::txn::{CommitRequest, Timestamp, TxnId, Verdict, validate};
use rockpool_proto::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// Pairs that one step of the collection looks at.
const COLLECT_VERSIONS_PER_STEP: u32 = 4_096;

/// Who asked: the node, its life, and its number for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    pub(super) boot: u64,
    pub(super) id: u64,
}

/// What an origin asked about a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// To commit it.
    Commit,
    /// To commit it, but it is too old to validate: it is being ended, so that no copy of the request can commit later.
    CommitTooOld,
    /// What became of it.
    Resolve,
}

/// Leadership being handed over, for a request of this node's.
pub(super) struct Handover {
    request: RequestId,
    deadline: Time,
}

/// A leader's memory.
#[derive(Default)]
pub(super) struct Leading {
    /// The term it leads in.
    term: u64,
    /// Everything from before this term is applied.
    in_charge: bool,
    /// The last timestamp given out.
    last_timestamp: Timestamp,
    /// Transactions in the log and not applied, with who waits for them.
    proposals: BTreeMap<TxnId, Vec<(Origin, Ask)>>,
    /// Requests from before it took charge.
    parked: Queue,
    /// Transactions that a proposal stands against.
    blocked: Queue,
    /// Safe points in the log: index and who waits.
    safe_points: Vec<(u64, Origin)>,
    /// A step of the collection is in the log.
    collecting: bool,
    /// Changes of membership that were asked for.
    pub(super) wishes: Vec<(MembershipChange, Origin)>,
}

impl Leading {
    /// What a leader knows when its term begins.
    pub(super) fn new(term: u64) -> Self {
        Leading { term, ..Leading::default() }
    }
}

/// Requests that wait at the leader. Their senders send them again while they do.
#[derive(Default)]
struct Queue {
    requests: VecDeque<(Origin, Forwarded)>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, origin: Origin, wanted: Forwarded) {
        if !self.requests.iter().any(|(waiting, _)| *waiting == origin) {
            self.bytes += wanted.size_bytes();
            self.requests.push_back((origin, wanted));
        }
    }
}

impl Group {
    /// A request reached this node as the leader.
    pub(super) fn lead(&mut self, context: &mut Context<'_>, origin: Origin, wanted: Forwarded) -> Result<(), Fatal> {
        let limits = &context.config.limits;
        let leads = self.replica.role() == Role::Leader;
        let term = self.replica.term();
        let Some(leading) = self.leading.as_mut().filter(|leading| leads && leading.term == term) else {
            self.answer(context, origin, Answer::Again);
            return Ok(());
        };
        let (parked, blocked) = (&leading.parked, &leading.blocked);
        if parked.requests.len() + blocked.requests.len() + leading.proposals.len() >= limits.requests_max
            || parked.bytes + blocked.bytes >= limits.requests_bytes_max
        {
            self.answer(context, origin, Answer::Again);
            return Ok(());
        }
        if !leading.in_charge {
            leading.parked.push(origin, wanted);
            return Ok(());
        }
        if !self.replica.is_member(origin.node) {
            let what = "a request of a node that is no member".to_owned();
            context.notice(Notice::BadMessage { from: origin.node, what });
            return Ok(());
        }
        match wanted {
            Forwarded::Commit(commit) => self.lead_commit(context, origin, commit),
            Forwarded::Resolve { txn, read_timestamp } => {
                if let Some(outcome) = self.recorded(&txn)? {
                    self.answer(context, origin, answer_of(outcome, Ask::Resolve));
                    return Ok(());
                }
                self.propose_resolve(context, origin, txn, read_timestamp, Ask::Resolve);
                Ok(())
            }
            Forwarded::Membership(change) => {
                self.wish_membership(context, origin, change);
                Ok(())
            }
            Forwarded::Collect { safe_point } => {
                match self.propose(vec![Command::Collect { safe_point }]) {
                    Some(index) => self.leading.iter_mut().for_each(|l| l.safe_points.push((index, origin))),
                    None => self.answer(context, origin, Answer::Again),
                }
                Ok(())
            }
        }
    }

    fn lead_commit(&mut self, context: &mut Context<'_>, origin: Origin, commit: CommitRequest) -> Result<(), Fatal> {
        let Some(leading) = &mut self.leading else { return Ok(()) };
        if let Some(waiting) = leading.proposals.get_mut(&commit.txn) {
            attach(waiting, origin, Ask::Commit);
            return Ok(());
        }
        match validate(&self.window, &commit, context.config.validation) {
            Verdict::Admitted => {
                let last = self.meta.as_ref().map_or(Timestamp::ZERO, |meta| meta.last_commit);
                let last = last.max(leading.last_timestamp);
                if commit.read_timestamp > last {
                    // No commit has that timestamp: nobody can have read there.
                    self.answer(context, origin, Answer::Aborted);
                    return Ok(());
                }
                let timestamp = last.advance(context.now.wall_us);
                let CommitRequest { txn, read_timestamp, writes, .. } = commit;
                let keys = writes.keys().cloned().collect();
                let command = CommitCommand { txn, timestamp, read_timestamp, writes };
                match self.propose(vec![Command::Commit(command)]) {
                    Some(_) => {
                        self.window.propose(timestamp, keys);
                        if let Some(leading) = &mut self.leading {
                            leading.last_timestamp = timestamp;
                            leading.proposals.insert(txn, vec![(origin, Ask::Commit)]);
                        }
                        if context.config.validation == Validation::BrokenAckEarly {
                            self.answer(context, origin, Answer::Committed(timestamp));
                        }
                    }
                    None => self.answer(context, origin, Answer::Again),
                }
            }
            Verdict::Wait => leading.blocked.push(origin, Forwarded::Commit(commit)),
            // Perhaps it is itself what stands there: an answer that got lost, and a request sent again.
            Verdict::Conflict(key) => {
                let safe_point = self.meta.as_ref().map_or(Timestamp::ZERO, |meta| meta.safe_point);
                match self.recorded(&commit.txn)? {
                    Some(outcome) => self.answer(context, origin, answer_of(outcome, Ask::Commit)),
                    // It may have been recorded, and the record collected.
                    None if commit.read_timestamp < safe_point => self.answer(context, origin, Answer::Forgotten),
                    None => self.answer(context, origin, Answer::Conflict(key)),
                }
            }
            Verdict::TooOld => match self.recorded(&commit.txn)? {
                Some(outcome) => self.answer(context, origin, answer_of(outcome, Ask::Commit)),
                None => self.propose_resolve(context, origin, commit.txn, commit.read_timestamp, Ask::CommitTooOld),
            },
        }
        Ok(())
    }

    /// Ends a transaction that has not committed.
    fn propose_resolve(
        &mut self,
        context: &mut Context<'_>,
        origin: Origin,
        txn: TxnId,
        read_timestamp: Timestamp,
        ask: Ask,
    ) {
        if let Some(waiting) = self.leading.as_mut().and_then(|leading| leading.proposals.get_mut(&txn)) {
            return attach(waiting, origin, ask);
        }
        match self.propose(vec![Command::Resolve { txn, read_timestamp }]) {
            Some(_) => {
                if let Some(leading) = &mut self.leading {
                    leading.proposals.insert(txn, vec![(origin, ask)]);
                }
            }
            None => self.answer(context, origin, Answer::Again),
        }
    }

    fn propose(&mut self, commands: Vec<Command>) -> Option<u64> {
        self.replica.propose(LogRecord { commands }.encode())
    }

    /// What the state says of a transaction.
    fn recorded(&self, txn: &TxnId) -> Result<Option<Outcome>, Fatal> {
        let Some(meta) = &self.meta else { return Ok(None) };
        let keys = StateKeys { group: self.id, generation: meta.generation };
        Ok(read_outcome(&*self.store.view()?, keys, txn)?)
    }

    /// Commands were applied: whoever waits for them hears of it, if this node leads.
    pub(super) fn effects(&mut self, context: &mut Context<'_>, effects: Vec<(u64, Effect)>) -> Result<(), Fatal> {
        for (index, effect) in effects {
            let Some(leading) = &mut self.leading else { return Ok(()) };
            let (txn, outcome) = match effect {
                Effect::Committed { txn, timestamp, .. } => (txn, Some(Outcome::Committed(timestamp))),
                Effect::Ended { txn, outcome } => (txn, Some(outcome)),
                Effect::TooOld { txn } => (txn, None),
                Effect::SafePoint => {
                    let done = leading.safe_points.extract_if(.., |(at, _)| *at <= index);
                    for (_, origin) in done.collect::<Vec<_>>() {
                        self.answer(context, origin, Answer::Done);
                    }
                    continue;
                }
                Effect::Collected => {
                    leading.collecting = false;
                    continue;
                }
            };
            for (origin, ask) in leading.proposals.remove(&txn).unwrap_or_default() {
                self.answer(context, origin, outcome.map_or(Answer::Forgotten, |outcome| answer_of(outcome, ask)));
            }
        }
        let Some(leading) = &mut self.leading else { return Ok(()) };
        if leading.proposals.is_empty() {
            // What was proposed in vain stands against nobody any more.
            self.window.drop_proposals();
        }
        for (origin, wanted) in std::mem::take(&mut leading.blocked).requests {
            self.lead(context, origin, wanted)?;
        }
        Ok(())
    }

    /// Goes on with what lies behind the safe point: a step in the log per tick at most, since transactions wait while one
    /// is applied.
    pub(super) fn step_collection(&mut self) {
        let wanted = self.meta.as_ref().is_some_and(|meta| meta.collect_from.is_some());
        let idle = self.leading.as_ref().is_some_and(|leading| leading.in_charge && !leading.collecting);
        if wanted && idle {
            let step = Command::CollectStep { versions_max: COLLECT_VERSIONS_PER_STEP };
            let proposed = self.propose(vec![step]).is_some();
            if let Some(leading) = &mut self.leading {
                leading.collecting = proposed;
            }
        }
    }

    /// Takes charge once everything from before this term is applied.
    pub(super) fn take_charge(&mut self, context: &mut Context<'_>) -> Result<(), Fatal> {
        let ready = self.replica.leads_and_applied_its_term();
        let Some(leading) = self.leading.as_mut().filter(|leading| ready && !leading.in_charge) else { return Ok(()) };
        leading.in_charge = true;
        for (origin, wanted) in std::mem::take(&mut leading.parked).requests {
            self.lead(context, origin, wanted)?;
        }
        Ok(())
    }

    /// Whether this node leads and may act on the state.
    pub(super) fn in_charge(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| leading.in_charge)
    }

    /// Answers whoever asked, here or elsewhere.
    pub(super) fn answer(&mut self, context: &mut Context<'_>, origin: Origin, answer: Answer) {
        if origin.node != self.node {
            let reply = NodeMessage::ForwardReply { boot: origin.boot, id: origin.id, answer };
            context.send(self.id, origin.node, Class::Log, reply);
        } else if origin.boot == context.boot {
            self.answered(context, origin.id, answer);
        }
    }

    /// A request to hand leadership over.
    pub(super) fn transfer_leadership(&mut self, context: &mut Context<'_>, request: RequestId, to: Option<NodeId>) {
        if self.replica.role() != Role::Leader {
            let reply = match self.replica.leader() {
                Some(_) => Reply::Done,
                None => Reply::Refused(Refusal::NotLeader),
            };
            return context.reply(request, reply);
        }
        let target = match to {
            Some(to) => self.replica.membership().voters.contains(&to).then_some(to),
            None => self.best_follower(),
        };
        let Some(target) = target.filter(|target| *target != self.node) else {
            return context.reply(request, Reply::Refused(Refusal::NotVoter));
        };
        if let Some(before) = self.handover.take() {
            context.reply(before.request, Reply::Refused(Refusal::Overloaded));
        }
        let timing = &context.config.timing;
        let patience_us = timing.tick_us * timing.election_ticks_max as u64 * 2;
        self.handover = Some(Handover { request, deadline: context.now.time.plus_us(patience_us) });
        self.replica.transfer_leadership(target);
    }

    /// The voter that would lose the least as the leader.
    pub(super) fn best_follower(&self) -> Option<NodeId> {
        let voters = self.replica.membership().voters;
        let followers = self.replica.followers();
        let able = followers.iter().filter(|follower| voters.contains(&follower.node) && follower.recently_active);
        able.max_by_key(|follower| follower.matched).map(|follower| follower.node)
    }

    /// Somebody else leads now.
    pub(super) fn finish_handover(&mut self, context: &mut Context<'_>) {
        let gone = self.replica.role() != Role::Leader && self.replica.leader().is_some_and(|node| node != self.node);
        if gone && let Some(handover) = self.handover.take() {
            context.reply(handover.request, Reply::Done);
        }
    }

    /// Nobody took over.
    pub(super) fn tick_handover(&mut self, context: &mut Context<'_>) {
        if let Some(handover) = self.handover.take_if(|handover| handover.deadline <= context.now.time) {
            context.reply(handover.request, Reply::Refused(Refusal::NoLeader));
        }
    }
}

fn attach(waiting: &mut Vec<(Origin, Ask)>, origin: Origin, ask: Ask) {
    if !waiting.contains(&(origin, ask)) {
        waiting.push((origin, ask));
    }
}

fn answer_of(outcome: Outcome, ask: Ask) -> Answer {
    match (outcome, ask) {
        (Outcome::Committed(timestamp), _) => Answer::Committed(timestamp),
        (Outcome::Aborted, Ask::CommitTooOld) => Answer::TooOld,
        (Outcome::Aborted, Ask::Commit | Ask::Resolve) => Answer::Aborted,
    }
}
