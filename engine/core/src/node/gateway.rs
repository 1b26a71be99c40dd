//! Requests taken at this node, on their way to the leader and back.
//!
//! A request is sent to whoever leads, and again when the leader changes, says "again", or does not answer, each time after
//! a longer pause: a large one on a slow link is late, not lost. It goes under the transaction's id, so that it takes effect
//! once however often it arrives. Nothing is guessed: what is not answered by the deadline is `Unknown`, unless it never
//! left.

use super::Context;
use super::group::Group;
use super::leading::Origin;
use crate::codec::{Answer, Forwarded, NodeMessage};
use crate::error::Fatal;
use crate::input::RequestId;
use crate::output::{Class, Refusal, Reply, RetryReason};
use crate::time::Time;
use crate::txn::CommitRequest;
use std::collections::{BTreeMap, BTreeSet};

/// The longest pause before a request is sent again, in first ones.
const RESEND_PAUSES_MAX: u64 = 4;

struct Waiting {
    request: RequestId,
    wanted: Forwarded,
    deadline: Time,
    resend_at: Time,
    /// How often it reached for a leader. Once it has, it may take effect.
    sent: u64,
}

/// Requests that wait for an answer.
#[derive(Default)]
pub(super) struct Gateway {
    waiting: BTreeMap<u64, Waiting>,
    /// Those that are to be sent.
    unsent: BTreeSet<u64>,
    last_id: u64,
    bytes: usize,
}

impl Gateway {
    /// The leader changed: what the old one had is asked of the new one.
    pub(super) fn resend_all(&mut self) {
        self.unsent = self.waiting.keys().copied().collect();
    }

    fn remove(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.unsent.remove(&id);
        self.bytes -= waiting.wanted.size_bytes();
        Some(waiting)
    }
}

impl Group {
    /// A transaction is to be committed.
    pub(super) fn commit(&mut self, context: &mut Context<'_>, request: RequestId, commit: CommitRequest) {
        if commit.writes.is_empty() {
            // It saw one moment of the state, and that is where it took place.
            return context.reply(request, Reply::Committed { timestamp: commit.read_timestamp });
        }
        self.submit(context, request, Forwarded::Commit(commit));
    }

    /// Takes a request on.
    pub(super) fn submit(&mut self, context: &mut Context<'_>, request: RequestId, wanted: Forwarded) {
        let limits = &context.config.limits;
        if self.gateway.waiting.len() >= limits.requests_max || self.gateway.bytes >= limits.requests_bytes_max {
            let reply = match wanted {
                Forwarded::Commit(_) => Reply::Retry(RetryReason::Overloaded),
                Forwarded::Resolve { .. } => Reply::Unknown,
                Forwarded::Membership(_) | Forwarded::Collect { .. } => Reply::Refused(Refusal::Overloaded),
            };
            return context.reply(request, reply);
        }
        let now = context.now.time;
        self.gateway.last_id += 1;
        let id = self.gateway.last_id;
        let deadline = now.plus_us(context.config.timing.commit_deadline_us);
        self.gateway.bytes += wanted.size_bytes();
        self.gateway.waiting.insert(id, Waiting { request, wanted, deadline, resend_at: now, sent: 0 });
        self.gateway.unsent.insert(id);
    }

    /// Sends what is to be sent, if there is a leader.
    pub(super) fn send_requests(&mut self, context: &mut Context<'_>) -> Result<(), Fatal> {
        if self.gateway.unsent.is_empty() {
            return Ok(());
        }
        let Some(leader) = self.replica.leader() else { return Ok(()) };
        let (now, retry_us) = (context.now.time, context.config.timing.forward_retry_us);
        for id in std::mem::take(&mut self.gateway.unsent) {
            let Some(waiting) = self.gateway.waiting.get_mut(&id) else { continue };
            waiting.sent += 1;
            waiting.resend_at = now.plus_us(retry_us * waiting.sent.min(RESEND_PAUSES_MAX));
            let wanted = waiting.wanted.clone();
            if leader == self.node {
                let origin = Origin { node: self.node, boot: context.boot, id };
                self.lead(context, origin, wanted)?;
            } else {
                let forward = NodeMessage::Forward { boot: context.boot, id, request: Box::new(wanted) };
                context.send(self.id, leader, Class::Log, forward);
            }
        }
        Ok(())
    }

    /// The leader answered one of this node's requests.
    pub(super) fn answered(&mut self, context: &mut Context<'_>, id: u64, answer: Answer) {
        if answer == Answer::Again {
            // Not at once: whatever stands in the way needs a moment.
            if let Some(waiting) = self.gateway.waiting.get_mut(&id) {
                waiting.resend_at = context.now.time;
            }
            return;
        }
        let Some(waiting) = self.gateway.remove(id) else { return };
        let reply = match (answer, &waiting.wanted) {
            (Answer::Committed(timestamp), _) => Reply::Committed { timestamp },
            (Answer::Conflict(key), _) => Reply::Conflict { key },
            (Answer::Aborted, _) => Reply::Aborted,
            (Answer::TooOld, Forwarded::Commit(_)) => Reply::Retry(RetryReason::TooOld),
            // What was sent once and comes too late has no copy that came in time.
            (Answer::Forgotten, Forwarded::Commit(_)) if waiting.sent == 1 => Reply::Retry(RetryReason::TooOld),
            (Answer::TooOld | Answer::Forgotten | Answer::Again, _) => Reply::Unknown,
            (Answer::Done, _) => Reply::Done,
            (Answer::Refused(refusal), _) => Reply::Refused(refusal),
        };
        context.reply(waiting.request, reply);
    }

    /// Sends again what took too long, and gives up what took far too long.
    pub(super) fn expire_requests(&mut self, context: &mut Context<'_>) {
        let now = context.now.time;
        let mut expired = Vec::new();
        for (&id, waiting) in &self.gateway.waiting {
            if waiting.deadline <= now {
                expired.push(id);
            } else if waiting.resend_at <= now {
                self.gateway.unsent.insert(id);
            }
        }
        for id in expired {
            let Some(waiting) = self.gateway.remove(id) else { continue };
            let reply = match waiting.wanted {
                Forwarded::Commit(_) if waiting.sent == 0 => Reply::Retry(RetryReason::NoLeader),
                Forwarded::Commit(_) | Forwarded::Resolve { .. } => Reply::Unknown,
                Forwarded::Membership(_) | Forwarded::Collect { .. } => Reply::Refused(Refusal::NoLeader),
            };
            context.reply(waiting.request, reply);
        }
    }
}
