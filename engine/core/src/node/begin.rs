//! Linearizable read timestamps.
//!
//! A begin asks the leader, wherever it is, for its commit index, confirmed by a round of heartbeats (ReadIndex), and waits
//! until this replica has applied that much. The last commit timestamp by then is the read timestamp: every transaction
//! that was answered before the begin lies at or before it. One round serves all begins that waited for it. The library
//! loses rounds without a word, so each has a context never used before, and is asked for again after a while.

use super::Context;
use super::group::Group;
use crate::input::RequestId;
use crate::output::{Refusal, Reply, RetryReason};
use crate::time::Time;
use rockpool_proto::NodeId;
use std::collections::VecDeque;

/// Rounds under way at once; more begins wait for one to end and share the next.
const ROUNDS_MAX: usize = 4;

#[derive(Clone, Copy)]
struct Begin {
    request: RequestId,
    deadline: Time,
}

struct Round {
    context: Vec<u8>,
    started: Time,
    begins: Vec<Begin>,
}

/// Begins at each stage.
#[derive(Default)]
pub(super) struct Begins {
    queue: Vec<Begin>,
    rounds: VecDeque<Round>,
    /// Begins whose index is known but not applied.
    applying: Vec<(u64, Vec<Begin>)>,
    rounds_started: u64,
    count: usize,
}

impl Group {
    /// A begin came in.
    pub(super) fn begin(&mut self, context: &mut Context<'_>, request: RequestId) {
        if self.meta.is_none() {
            return context.reply(request, Reply::Refused(Refusal::NoGroup));
        }
        if self.begins.count >= context.config.limits.requests_max {
            return context.reply(request, Reply::Retry(RetryReason::Overloaded));
        }
        let deadline = context.now.time.plus_us(context.config.timing.begin_deadline_us);
        self.begins.count += 1;
        self.begins.queue.push(Begin { request, deadline });
    }

    /// Starts a round for the begins that wait.
    pub(super) fn start_read_rounds(&mut self, context: &mut Context<'_>) {
        let begins = &mut self.begins;
        if begins.queue.is_empty() || begins.rounds.len() >= ROUNDS_MAX || !self.replica.can_read_index() {
            return;
        }
        begins.rounds_started += 1;
        let round = round_context(self.node, context.boot, begins.rounds_started);
        self.replica.read_index(round.clone());
        begins.rounds.push_back(Round {
            context: round,
            started: context.now.time,
            begins: std::mem::take(&mut begins.queue),
        });
    }

    /// A round came back: it serves the earlier ones too, whose begins were here before it.
    pub(super) fn read_index_known(&mut self, context: &mut Context<'_>, round: &[u8], index: u64) {
        let Some(position) = self.begins.rounds.iter().position(|waiting| waiting.context == round) else { return };
        let served = self.begins.rounds.drain(..=position).flat_map(|round| round.begins).collect();
        self.begins.applying.push((index, served));
        self.state_advanced(context);
    }

    /// The state moved on, or a begin got its index.
    pub(super) fn state_advanced(&mut self, context: &mut Context<'_>) {
        let Some(meta) = &self.meta else { return };
        let (applied, read_timestamp) = (meta.applied_index, meta.last_commit);
        let begins = &mut self.begins;
        begins.applying.retain(|(index, waiting)| {
            if *index > applied {
                return true;
            }
            begins.count -= waiting.len();
            for begin in waiting {
                context.reply(begin.request, Reply::Begun { read_timestamp });
            }
            false
        });
    }

    /// The leader changed: rounds under way are lost, most likely.
    pub(super) fn requeue_begins(&mut self) {
        let mut again: Vec<Begin> = self.begins.rounds.drain(..).flat_map(|round| round.begins).collect();
        again.append(&mut self.begins.queue);
        self.begins.queue = again;
    }

    /// Asks again for what took too long, and gives up what took far too long.
    pub(super) fn expire_begins(&mut self, context: &mut Context<'_>) {
        let now = context.now.time;
        let retry_us = context.config.timing.read_index_retry_us;
        if self.begins.rounds.front().is_some_and(|round| now.since_us(round.started) >= retry_us) {
            self.requeue_begins();
        }
        let begins = &mut self.begins;
        let mut expired = Vec::new();
        let mut expire = |waiting: &mut Vec<Begin>| {
            waiting.retain(|begin| {
                let alive = begin.deadline > now;
                if !alive {
                    expired.push(begin.request);
                }
                alive
            });
        };
        expire(&mut begins.queue);
        begins.applying.iter_mut().for_each(|(_, waiting)| expire(waiting));
        begins.count -= expired.len();
        for request in expired {
            context.reply(request, Reply::Retry(RetryReason::NoLeader));
        }
    }
}

/// A context that no round of any node had before: a node that restarts must not take an answer to its former life for
/// one to this.
fn round_context(node: NodeId, boot: u64, round: u64) -> Vec<u8> {
    [node.0, boot, round].into_iter().flat_map(u64::to_be_bytes).collect()
}
