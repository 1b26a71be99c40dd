//! Linearizable read timestamps.
//!
//! A begin asks the leader, wherever it is, for its commit index, confirmed by a round of heartbeats (ReadIndex; among
//! three nodes, a follower's question confirms it by itself), and waits until this replica has applied that much. The last
//! commit timestamp by then is the read timestamp: every transaction that was answered before the begin lies at or before
//! it. One round serves all begins that waited for it, and those that still wait for an earlier one. The library loses
//! rounds without a word, so each has a context never used before, and after a while another is started. The answer to the
//! first one still counts: on a long way all answers come late.

use super::Context;
use super::group::Group;
use crate::input::RequestId;
use crate::output::{Refusal, Reply, RetryReason};
use crate::time::Time;
use rockpool_proto::NodeId;
use std::collections::VecDeque;

/// Rounds under way at once, but for those that are overdue; more begins wait for one to end and share the next.
const ROUNDS_MAX: usize = 4;
/// Rounds whose answer is still waited for; the begins of an older one go to the next.
const ROUNDS_KEPT_MAX: usize = 32;

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

    /// Starts a round for the begins that wait, or another for those whose rounds are all overdue.
    pub(super) fn start_read_rounds(&mut self, context: &mut Context<'_>) {
        let begins = &mut self.begins;
        let retry_us = context.config.timing.read_index_retry_us;
        let in_time = |round: &&Round| context.now.time.since_us(round.started) < retry_us;
        let in_time = begins.rounds.iter().rev().take_while(in_time).count();
        let wanted = !begins.queue.is_empty() || (in_time == 0 && !begins.rounds.is_empty());
        if !wanted || in_time >= ROUNDS_MAX || !self.replica.can_read_index() {
            return;
        }
        if begins.rounds.len() >= ROUNDS_KEPT_MAX
            && let Some(oldest) = begins.rounds.pop_front()
            && let Some(next) = begins.rounds.front_mut()
        {
            next.begins.extend(oldest.begins);
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

    /// Gives up what took far too long.
    pub(super) fn expire_begins(&mut self, context: &mut Context<'_>) {
        let now = context.now.time;
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
        begins.rounds.iter_mut().for_each(|round| expire(&mut round.begins));
        if begins.rounds.iter().all(|round| round.begins.is_empty()) {
            begins.rounds.clear();
        }
        begins.applying.iter_mut().for_each(|(_, waiting)| expire(waiting));
        begins.applying.retain(|(_, waiting)| !waiting.is_empty());
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
