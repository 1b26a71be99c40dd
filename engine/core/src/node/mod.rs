//! The machine: a node and its replicas.
//!
//! Inputs change a group's state at once; what follows from them (entries to write, messages to send) is worked out when the
//! driver polls, so that inputs handed in together share one round to the disk and one message to each follower.

mod begin;
mod gateway;
mod group;
mod leading;
mod membership;
mod open;
mod snapshot;

use crate::codec;
use crate::config::Config;
use crate::error::Fatal;
use crate::input::{Input, RequestId};
use crate::kv::{LogImage, StateStore};
use crate::output::{Class, Notice, Output, Refusal, Reply};
use crate::raft::mix;
use crate::status::Status;
use crate::time::{Now, Time};
use bytes::Bytes;
use group::Group;
use rockpool_proto::{GroupId, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Ticks caught up on after a pause. A node that slept must not hold an election at once: it has not listened.
const TICKS_CAUGHT_UP_MAX: u32 = 2;

/// What a group needs of its node while it works.
struct Context<'a> {
    now: Now,
    config: &'a Config,
    /// Differs each time the node starts.
    boot: u64,
    outputs: &'a mut VecDeque<Output>,
    /// The number of the last [`Output::Persist`].
    persist_seq: &'a mut u64,
}

impl Context<'_> {
    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output::Reply { request, reply });
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn send(&mut self, group: GroupId, to: NodeId, class: Class, message: codec::NodeMessage) {
        let bytes: Bytes = codec::encode(group, message);
        self.outputs.push_back(Output::Send { to, class, bytes });
    }
}

/// A node's machine. See the crate's head for how it is driven.
pub struct Node {
    config: Config,
    boot: u64,
    groups: BTreeMap<GroupId, Group>,
    outputs: VecDeque<Output>,
    now: Now,
    next_tick: Time,
    persist_seq: u64,
    persisted_seq: u64,
    /// Inputs came in since the groups last worked out what follows.
    dirty: bool,
    /// The node has to stop; told at the next input.
    fatal: Option<Fatal>,
}

impl Node {
    /// Opens the node on its stores. `logs` is what [`LogStore::load`](crate::kv::LogStore::load) found. Writes to the
    /// state store only what clears up after a crash, and the first state of a new group, which it flushes.
    pub fn open(config: Config, store: Arc<dyn StateStore>, logs: Vec<LogImage>, now: Now) -> Result<Node, Fatal> {
        if let Some(stray) = logs.iter().find(|log| !config.groups.contains(&log.group)) {
            return Err(Fatal::Start { what: format!("the log of {} is here, which is not hosted", stray.group) });
        }
        let boot = mix(mix(config.seed, now.wall_us), now.time.0);
        let mut groups = BTreeMap::new();
        for &group in &config.groups {
            let log = logs.iter().find(|log| log.group == group);
            groups.insert(group, open::open_group(&config, group, &store, log)?);
        }
        let next_tick = now.time.plus_us(config.timing.tick_us);
        Ok(Node {
            config,
            boot,
            groups,
            outputs: VecDeque::new(),
            now,
            next_tick,
            persist_seq: 0,
            persisted_seq: 0,
            dirty: true,
            fatal: None,
        })
    }

    /// Takes an input. Fails only when the node has to stop; then nothing more comes out of it.
    pub fn handle_input(&mut self, now: Now, input: Input) -> Result<(), Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        self.now = Now { time: now.time.max(self.now.time), wall_us: now.wall_us };
        let handled = self.advance_time().and_then(|()| self.dispatch(input));
        self.dirty = true;
        if let Err(fatal) = handled {
            return Err(self.stop(fatal));
        }
        Ok(())
    }

    /// The next thing to do. Poll to `None`, then hand in the inputs that have gathered meanwhile.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && self.dirty && self.fatal.is_none() {
            self.dirty = false;
            let persisted = self.persisted_seq;
            let pumped = self.each_group(|group, context| group.pump(context, persisted));
            if let Err(fatal) = pumped {
                self.stop(fatal);
            }
        }
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        Some(if self.fatal.is_some() { Time::default() } else { self.next_tick })
    }

    /// How the node is doing.
    pub fn status(&self) -> Status {
        Status { node: self.config.node, groups: self.groups.values().map(Group::status).collect() }
    }

    fn stop(&mut self, fatal: Fatal) -> Fatal {
        self.outputs.clear();
        self.fatal = Some(fatal.clone());
        fatal
    }

    /// Runs `work` on every group.
    fn each_group(
        &mut self,
        mut work: impl FnMut(&mut Group, &mut Context<'_>) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        let mut context = Context {
            now: self.now,
            config: &self.config,
            boot: self.boot,
            outputs: &mut self.outputs,
            persist_seq: &mut self.persist_seq,
        };
        self.groups.values_mut().try_for_each(|group| work(group, &mut context))
    }

    fn advance_time(&mut self) -> Result<(), Fatal> {
        let mut ticks = 0;
        while self.next_tick <= self.now.time && ticks < TICKS_CAUGHT_UP_MAX {
            self.next_tick = self.next_tick.plus_us(self.config.timing.tick_us);
            ticks += 1;
            self.each_group(|group, context| group.tick(context))?;
        }
        if self.next_tick <= self.now.time {
            self.next_tick = self.now.time.plus_us(self.config.timing.tick_us);
        }
        Ok(())
    }

    fn dispatch(&mut self, input: Input) -> Result<(), Fatal> {
        match input {
            Input::Timeout => Ok(()),
            Input::Message { from, bytes } => self.message(from, bytes),
            Input::Unreachable { node } => self.each_group(|group, _| {
                group.unreachable(node);
                Ok(())
            }),
            Input::Persisted { seq } => {
                self.persisted_seq = self.persisted_seq.max(seq);
                Ok(())
            }
            Input::Applied(done) => {
                let id = done.group;
                self.with_group(id, |group, context| group.applied(context, done.done)).unwrap_or(Ok(()))
            }
            Input::Flushed { group } => {
                self.with_group(group, Group::flushed);
                Ok(())
            }
            Input::Begin { request, group } => {
                self.ask(request, group, |group, context| group.begin(context, request));
                Ok(())
            }
            Input::Commit { request, commit } => {
                self.ask(request, commit.group, |group, context| group.commit(context, request, commit));
                Ok(())
            }
            Input::QueryOutcome { request, group, txn, read_timestamp } => {
                let wanted = codec::Forwarded::Resolve { txn, read_timestamp };
                self.ask(request, group, |group, context| group.submit(context, request, wanted));
                Ok(())
            }
            Input::ChangeMembership { request, group, change } => {
                let wanted = codec::Forwarded::Membership(change);
                self.ask(request, group, |group, context| group.submit(context, request, wanted));
                Ok(())
            }
            Input::TransferLeadership { request, group, to } => {
                self.ask(request, group, |group, context| group.transfer_leadership(context, request, to));
                Ok(())
            }
            Input::Collect { request, group, safe_point } => {
                let wanted = codec::Forwarded::Collect { safe_point };
                self.ask(request, group, |group, context| group.submit(context, request, wanted));
                Ok(())
            }
        }
    }

    fn with_group<T>(&mut self, id: GroupId, work: impl FnOnce(&mut Group, &mut Context<'_>) -> T) -> Option<T> {
        let group = self.groups.get_mut(&id)?;
        let mut context = Context {
            now: self.now,
            config: &self.config,
            boot: self.boot,
            outputs: &mut self.outputs,
            persist_seq: &mut self.persist_seq,
        };
        Some(work(group, &mut context))
    }

    /// Hands a request to its group, or refuses it when the group is not here.
    fn ask(&mut self, request: RequestId, id: GroupId, work: impl FnOnce(&mut Group, &mut Context<'_>)) {
        if self.with_group(id, work).is_none() {
            self.outputs.push_back(Output::Reply { request, reply: Reply::Refused(Refusal::NoGroup) });
        }
    }

    fn message(&mut self, from: NodeId, bytes: Bytes) -> Result<(), Fatal> {
        let bad = |what: String| Output::Notice(Notice::BadMessage { from, what });
        let (group, message) = match codec::decode(bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.outputs.push_back(bad(error.to_string()));
                return Ok(());
            }
        };
        match self.with_group(group, |group, context| group.message(context, from, message)) {
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(what))) => {
                self.outputs.push_back(bad(what));
                Ok(())
            }
            Some(Err(fatal)) => Err(fatal),
            None => {
                self.outputs.push_back(bad(format!("{group} is not here")));
                Ok(())
            }
        }
    }
}
