//! The world: events in a heap, nodes, network, clients, one thread.

mod clients;

use crate::client::{Client, PATIENCE_US, Phase};
use crate::history::{Event, Fate, Requests};
use crate::host::Host;
use crate::invariants::Invariants;
use crate::network::Network;
use crate::plan::{Fault, Mutant, Plan};
use crate::rng::Stream;
use crate::trace::{Trace, mark};
use crate::workload::Work;
use bytes::Bytes;
use rockpool_engine::kv::{PendingFlush, PendingSync, StateStore};
use rockpool_engine::{
    ApplyTask, Fatal, Input, MembershipChange, NodeId, Notice, Output, Reply, RequestId, Role, Time, Timestamp,
    Transaction, TransactionError, TxnId,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Replicas are compared at multiples of this index.
const OBSERVED_INDEX_STEP: u64 = 64;
/// Transactions after which clients slow down: a run of eager clients on fast disks would take minutes and show no more.
const TRANSACTIONS_AT_FULL_SPEED: usize = 6_000;
/// How long clients rest from then on.
const REST_US: u64 = 100_000;

/// Something that will happen. Those that carry a `life` are dropped when the node has been started anew since.
pub(crate) enum Happening {
    Arrive { to: NodeId, from: NodeId, bytes: Bytes },
    Wake { node: NodeId, life: u64 },
    Request { node: NodeId, life: u64, input: Input },
    Synced { node: NodeId, life: u64, seq: u64, pending: Option<PendingSync> },
    Apply { node: NodeId, life: u64, task: ApplyTask },
    FlushBegin { node: NodeId, life: u64 },
    FlushEnd { node: NodeId, life: u64, pending: PendingFlush },
    Start { node: NodeId },
    Resume { node: NodeId },
    Fault(Fault),
    Mend { number: u64 },
    Client { client: usize, step: u64 },
    Impatience { client: usize, step: u64 },
    Enlist { node: NodeId },
    Dismiss { node: NodeId },
}

impl Happening {
    /// Whose process takes part in it.
    fn process(&self) -> Option<NodeId> {
        match self {
            Happening::Arrive { to: node, .. }
            | Happening::Wake { node, .. }
            | Happening::Request { node, .. }
            | Happening::Synced { node, .. }
            | Happening::Apply { node, .. }
            | Happening::FlushBegin { node, .. }
            | Happening::FlushEnd { node, .. } => Some(*node),
            Happening::Start { .. }
            | Happening::Resume { .. }
            | Happening::Fault(_)
            | Happening::Mend { .. }
            | Happening::Client { .. }
            | Happening::Impatience { .. }
            | Happening::Enlist { .. }
            | Happening::Dismiss { .. } => None,
        }
    }
}

/// Who asked for something.
enum Asker {
    Client(usize),
    /// With what to count when it is done.
    Operator(Option<&'static str>),
}

/// Everything.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Time,
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    waiting: BTreeMap<usize, Happening>,
    next_number: u64,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    network: Network,
    clients: Vec<Client>,
    requests: Requests,
    askers: BTreeMap<RequestId, Asker>,
    pub(crate) history: Vec<Event>,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    operator: Stream,
    /// The highest safe point that was asked for.
    safe_point: Timestamp,
    /// Faults strike no more; clients settle what is open and begin nothing.
    pub(crate) healed: bool,
}

/// Why a run failed.
pub(crate) type Failure = String;

impl World {
    pub(crate) fn new(plan: Plan, print: bool) -> World {
        let network = Network::new(&plan);
        let operator = Stream::new(plan.seed, "operator");
        let mut world = World {
            now: Time::default(),
            heap: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            next_number: 0,
            hosts: BTreeMap::new(),
            network,
            clients: Vec::new(),
            requests: Requests::default(),
            askers: BTreeMap::new(),
            history: Vec::new(),
            invariants: Invariants::default(),
            trace: Trace::new(print),
            operator,
            safe_point: Timestamp::ZERO,
            healed: false,
            plan,
        };
        for number in 1..=world.plan.nodes {
            world.hosts.insert(NodeId(number), Host::new(&world.plan, NodeId(number)));
            world.after(0, Happening::Start { node: NodeId(number) });
            if number > 1 {
                world.after(50_000, Happening::Enlist { node: NodeId(number) });
            }
        }
        for id in 0..world.plan.clients {
            world.clients.push(Client::new(world.plan.seed, id + 1));
            world.after(600_000 + id * 1_000, Happening::Client { client: id as usize, step: 0 });
        }
        for (at, fault) in world.plan.faults.clone() {
            world.after(at, Happening::Fault(fault));
        }
        world
    }

    fn after(&mut self, delay_us: u64, happening: Happening) {
        self.at(self.now.plus_us(delay_us), happening);
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.next_number += 1;
        let slot = self.next_number as usize;
        self.heap.push(Reverse((time, self.next_number, slot)));
        self.waiting.insert(slot, happening);
    }

    /// Lets everything happen up to `until`, or until `enough` says so.
    pub(crate) fn run_until(&mut self, until: Time, mut enough: impl FnMut(&World) -> bool) -> Result<(), Failure> {
        let mut checked = 0u64;
        while let Some(Reverse((time, _, _))) = self.heap.peek() {
            if *time > until {
                break;
            }
            let Some(Reverse((time, _, slot))) = self.heap.pop() else { break };
            let Some(happening) = self.waiting.remove(&slot) else { continue };
            self.now = self.now.max(time);
            self.happen(happening)?;
            checked += 1;
            if checked.is_multiple_of(64) && enough(self) {
                return Ok(());
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Failure> {
        if let Some(host) = happening.process().and_then(|node| self.hosts.get_mut(&node))
            && host.stands_still(self.now)
        {
            // Its threads stand still, all of them: what reaches them waits, in order.
            host.stalled.push_back(happening);
            return Ok(());
        }
        match happening {
            Happening::Arrive { to, from, bytes } => self.input(to, None, Input::Message { from, bytes }),
            Happening::Request { node, life, input } => self.input(node, Some(life), input),
            Happening::Wake { node, life } => {
                if let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life) {
                    host.wake_at = None;
                }
                self.input(node, Some(life), Input::Timeout)
            }
            Happening::Synced { node, life, seq, pending } => {
                let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life) else { return Ok(()) };
                if let Some(pending) = pending {
                    host.log.sync(pending).map_err(|error| error.to_string())?;
                }
                self.input(node, Some(life), Input::Persisted { seq })
            }
            Happening::Apply { node, life, task } => {
                let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life && host.machine.is_some())
                else {
                    return Ok(());
                };
                let done = task.run(&host.state);
                match done {
                    Ok(done) => {
                        self.input(node, Some(life), Input::Applied(done))?;
                        self.observe_state(node)
                    }
                    Err(fatal) => self.died(node, &fatal),
                }
            }
            Happening::FlushBegin { node, life } => {
                let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life) else { return Ok(()) };
                let pending = host.state.begin_flush();
                let delay = host.draw.between(self.plan.sync_us.0, self.plan.sync_us.1 * 4);
                self.after(delay, Happening::FlushEnd { node, life, pending });
                Ok(())
            }
            Happening::FlushEnd { node, life, pending } => {
                let Some(host) = self.hosts.get_mut(&node).filter(|host| host.life == life) else { return Ok(()) };
                host.state.finish_flush(pending);
                let group = self.plan.group();
                self.input(node, Some(life), Input::Flushed { group })
            }
            Happening::Start { node } => self.start(node),
            Happening::Resume { node } => self.resume(node),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Mend { number } => {
                self.network.mend(number);
                self.trace.line(self.now, "net", format_args!("mends {number}"));
                Ok(())
            }
            Happening::Client { client, step } => self.client_acts(client, step),
            Happening::Impatience { client, step } => {
                if self.clients[client].step == step
                    && let Some((_, node)) = self.clients[client].waits_for()
                {
                    self.trace.mark(mark::IMPATIENT);
                    self.client_loses(client, node);
                }
                Ok(())
            }
            Happening::Enlist { node } => self.change_membership(MembershipChange::Add(node)),
            Happening::Dismiss { node } => self.change_membership(MembershipChange::Remove(node)),
        }
    }

    /// Hands an input to a node and carries out what comes of it. An input of an earlier life is dropped.
    fn input(&mut self, node: NodeId, life: Option<u64>, input: Input) -> Result<(), Failure> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&node) else { return Ok(()) };
        if host.machine.is_none() || life.is_some_and(|life| life != host.life) {
            return Ok(());
        }
        if host.stands_still(now) {
            let life = host.life;
            host.stalled.push_back(Happening::Request { node, life, input });
            return Ok(());
        }
        if let Input::Message { bytes, .. } = &input {
            self.trace.bytes(bytes);
        }
        self.trace.line(now, node, format_args!("< {input}"));
        if let Err(fatal) = host.handle(now, input) {
            return self.died(node, &fatal);
        }
        self.drain(node)
    }

    fn drain(&mut self, node: NodeId) -> Result<(), Failure> {
        while let Some(output) =
            self.hosts.get_mut(&node).and_then(|host| host.machine.as_mut()).and_then(|m| m.poll_output())
        {
            match &output {
                Output::Send { bytes, .. } => self.trace.bytes(bytes),
                Output::Persist { batches, .. } => {
                    let entries = batches.iter().flat_map(|batch| &batch.entries);
                    entries.for_each(|entry| self.trace.bytes(&entry.data));
                }
                _ => {}
            }
            self.trace.line(self.now, node, format_args!("> {output}"));
            self.carry_out(node, output)?;
        }
        let Some(host) = self.hosts.get_mut(&node) else { return Ok(()) };
        let life = host.life;
        if let Some(status) = host.status(&self.plan) {
            self.invariants.observe(node, life, &status)?;
        }
        let wake = host.machine.as_ref().and_then(|machine| machine.poll_timeout());
        if let Some(wake) = wake {
            let wake = wake.max(self.now.plus_us(1));
            if host.wake_at.is_none_or(|at| wake < at) {
                host.wake_at = Some(wake);
                self.at(wake, Happening::Wake { node, life });
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, node: NodeId, output: Output) -> Result<(), Failure> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&node) else { return Ok(()) };
        let life = host.life;
        match output {
            Output::Send { to, bytes, .. } => {
                for delay in self.network.delays(node, to) {
                    self.after(delay, Happening::Arrive { to, from: node, bytes: bytes.clone() });
                }
            }
            Output::Persist { seq, batches } => {
                let pending = host.log.submit(&batches);
                if host.disk_full_until > now {
                    // Part of it may be on the disk. The node can't know, so it stops; somebody makes room.
                    let room = host.disk_full_until;
                    self.trace.mark(mark::FULL_DISK);
                    self.crash(node)?;
                    self.at(room, Happening::Start { node });
                    return Ok(());
                }
                let done = host.disk_done(&self.plan, now);
                if self.plan.mutant == Some(Mutant::LyingDisk) {
                    self.at(now.plus_us(1), Happening::Synced { node, life, seq, pending: None });
                    // It does get there, much later.
                    self.at(done.plus_us(2_000_000), Happening::Synced { node, life, seq, pending: Some(pending) });
                } else {
                    self.at(done, Happening::Synced { node, life, seq, pending: Some(pending) });
                }
            }
            Output::Apply(task) => {
                let took = host.draw.between(self.plan.apply_us.0, self.plan.apply_us.1);
                let done = host.apply_free.max(now).plus_us(took);
                host.apply_free = done;
                self.at(done, Happening::Apply { node, life, task });
            }
            Output::Flush { .. } => {
                let at = host.apply_free.max(now).plus_us(1);
                self.at(at, Happening::FlushBegin { node, life });
            }
            Output::Reply { request, reply } => match self.askers.remove(&request) {
                Some(Asker::Client(client)) => self.client_hears(client, node, request, reply)?,
                Some(Asker::Operator(Some(what))) if reply == Reply::Done => self.trace.mark(what),
                Some(Asker::Operator(_)) | None => {}
            },
            Output::Notice(notice) => self.notice(&notice),
        }
        Ok(())
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Leader { role: Role::Leader, .. } => self.trace.mark(mark::ELECTED),
            Notice::Truncated { .. } => self.trace.mark(mark::LOG_CUT),
            Notice::SnapshotSent { complete: true, .. } => self.trace.mark(mark::SNAPSHOT_SENT),
            Notice::SnapshotSent { complete: false, .. } => self.trace.mark(mark::SNAPSHOT_GIVEN_UP),
            Notice::SnapshotInstalled { .. } => self.trace.mark(mark::SNAPSHOT_INSTALLED),
            Notice::BadMessage { .. } => self.trace.mark(mark::UNREADABLE),
            _ => {}
        }
    }

    fn start(&mut self, node: NodeId) -> Result<(), Failure> {
        let Some(host) = self.hosts.get_mut(&node) else { return Ok(()) };
        if host.machine.is_some() || host.removed {
            return Ok(());
        }
        match host.start(&self.plan, self.now) {
            Ok(()) => {
                self.trace.line(self.now, node, format_args!("starts"));
                self.drain(node)
            }
            Err(fatal) => self.died(node, &fatal),
        }
    }

    /// A machine that gives up is a failure of the run: disks here do not fail on their own.
    fn died(&mut self, node: NodeId, fatal: &Fatal) -> Result<(), Failure> {
        Err(format!("{node} stopped: {fatal}"))
    }

    /// Compares replicas at the indexes that all of them look at. Reading a whole state at every index would take most of
    /// a run's time.
    fn observe_state(&mut self, node: NodeId) -> Result<(), Failure> {
        let Some(host) = self.hosts.get(&node) else { return Ok(()) };
        let applied = host.status(&self.plan).map_or(0, |status| status.applied);
        if !applied.is_multiple_of(OBSERVED_INDEX_STEP) {
            return Ok(());
        }
        match host.fingerprint(&self.plan) {
            Ok(Some(print)) => {
                if self.invariants.observe_state(node, print)? {
                    self.trace.mark(mark::STATES_COMPARED);
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(fatal) => Err(format!("{node}'s state can't be read: {fatal}")),
        }
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Failure> {
        if self.healed {
            return Ok(());
        }
        let number = self.next_number;
        self.trace.line(self.now, "", format_args!("fault {fault:?}"));
        match fault {
            Fault::Crash { node, down_us } => {
                self.crash(node)?;
                self.after(down_us, Happening::Start { node });
            }
            Fault::Pause { node, for_us } => {
                let until = self.now.plus_us(for_us);
                if let Some(host) = self.hosts.get_mut(&node).filter(|host| host.machine.is_some()) {
                    host.paused_until = host.paused_until.max(until);
                    self.trace.mark(mark::PAUSED);
                }
                self.at(until, Happening::Resume { node });
            }
            Fault::Partition { side, for_us } => {
                self.network.partition(number, &side);
                self.trace.mark(mark::PARTED);
                self.after(for_us, Happening::Mend { number });
            }
            Fault::Clog { from, to, for_us } => {
                self.network.clog(number, Some(from), Some(to));
                self.trace.mark(mark::ONE_WAY);
                self.after(for_us, Happening::Mend { number });
            }
            Fault::Deafen { node, for_us } => {
                self.network.clog(number, None, Some(node));
                self.trace.mark(mark::DEAFENED);
                self.after(for_us, Happening::Mend { number });
            }
            Fault::Silence { node, for_us } => {
                self.network.clog(number, Some(node), None);
                self.trace.mark(mark::SILENCED);
                self.after(for_us, Happening::Mend { number });
            }
            Fault::SlowDisk { node, times, for_us } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.disk_slow = (self.now.plus_us(for_us), times);
                    self.trace.mark(mark::SLOW_DISK);
                }
            }
            Fault::FullDisk { node, for_us } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.disk_full_until = self.now.plus_us(for_us);
                }
            }
            Fault::ClockJump { node, by_us } => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.jump(by_us);
                    self.trace.mark(mark::JUMPED);
                }
            }
            Fault::Transfer => {
                let group = self.plan.group();
                if let Some(leader) = self.leader() {
                    let what = Some(mark::HANDED_OVER);
                    self.operate(leader, what, |request| Input::TransferLeadership { request, group, to: None })?;
                }
            }
            Fault::Collect { age_us } => {
                let group = self.plan.group();
                let Some(leader) = self.leader() else { return Ok(()) };
                let last =
                    self.hosts.get(&leader).and_then(|host| host.status(&self.plan)).map(|status| status.last_commit);
                // Half a minute in production. Here as late as it may be: never past a transaction whose fate somebody may
                // still ask for, since behind the safe point outcomes are forgotten.
                let aged = last.unwrap_or(Timestamp::ZERO).0.saturating_sub((age_us / 1000) << 16);
                let open = self.clients.iter().filter_map(Client::open_read_timestamp).min();
                let safe_point = Timestamp(aged).min(open.unwrap_or(Timestamp::MAX));
                self.safe_point = self.safe_point.max(safe_point);
                let what = Some(mark::COLLECTED);
                self.operate(leader, what, |request| Input::Collect { request, group, safe_point })?;
            }
            Fault::Join { node } => {
                let host = Host::new(&self.plan, node);
                self.hosts.insert(node, host);
                self.start(node)?;
                self.trace.mark(mark::JOINED);
                self.after(1_000, Happening::Enlist { node });
            }
            Fault::Remove { node } => {
                self.trace.mark(mark::REMOVED);
                self.after(0, Happening::Dismiss { node });
            }
        }
        Ok(())
    }

    fn crash(&mut self, node: NodeId) -> Result<(), Failure> {
        let Some(host) = self.hosts.get_mut(&node) else { return Ok(()) };
        if host.machine.is_none() {
            return Ok(());
        }
        let kept = host.crash().map_err(|fatal| fatal.to_string())?;
        self.trace.mark(mark::KILLED);
        if kept.lost() {
            self.trace.mark(mark::WRITES_LOST);
        }
        self.trace.line(self.now, node, format_args!("{kept}"));
        for client in 0..self.clients.len() {
            self.client_loses(client, node);
        }
        Ok(())
    }

    /// Lets a node that stood still go on with what has reached it meanwhile.
    fn resume(&mut self, node: NodeId) -> Result<(), Failure> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.paused_until <= self.now) else { return Ok(()) };
        let stalled = std::mem::take(&mut host.stalled);
        stalled.into_iter().try_for_each(|happening| self.happen(happening))
    }

    /// Ends all faults: every node runs, the network is whole, clients begin nothing new.
    pub(crate) fn heal(&mut self) -> Result<(), Failure> {
        self.healed = true;
        self.trace.line(self.now, "", format_args!("healed"));
        self.network.heal();
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in nodes {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.heal(self.now);
            }
            self.resume(node)?;
            self.start(node)?;
        }
        Ok(())
    }

    /// The node that leads in the highest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leading = self.hosts.values().filter_map(|host| Some((host.id, host.status(&self.plan)?)));
        leading
            .filter(|(_, status)| status.role == Role::Leader)
            .max_by_key(|(_, status)| status.term)
            .map(|(id, _)| id)
    }

    /// Nodes that belong to the cluster, as the leader sees it.
    pub(crate) fn members(&self) -> Vec<NodeId> {
        let status = self.leader().and_then(|leader| self.hosts.get(&leader)?.status(&self.plan));
        status.map(|status| status.voters.into_iter().chain(status.learners).collect()).unwrap_or_default()
    }

    /// Clients whose transactions have no known fate yet.
    pub(crate) fn open_fates(&self) -> usize {
        self.clients.iter().filter(|client| !matches!(client.phase, Phase::Idle)).count()
    }

    /// Asks for something as an operator would; `what` is counted when it is done.
    fn operate(
        &mut self,
        node: NodeId,
        what: Option<&'static str>,
        input: impl FnOnce(RequestId) -> Input,
    ) -> Result<(), Failure> {
        let request = self.requests.next();
        self.askers.insert(request, Asker::Operator(what));
        self.input(node, None, input(request))
    }

    /// Asks for a change of membership until it stands.
    fn change_membership(&mut self, change: MembershipChange) -> Result<(), Failure> {
        let stands = match (change, self.leader()) {
            (_, None) => false,
            (MembershipChange::Add(node), Some(_)) => self.members().contains(&node),
            (MembershipChange::Remove(node), Some(_)) => !self.members().contains(&node),
        };
        if stands {
            if let MembershipChange::Remove(node) = change
                && let Some(host) = self.hosts.get_mut(&node)
            {
                host.removed = true;
                self.crash(node)?;
            }
            return Ok(());
        }
        let group = self.plan.group();
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        let asked = self.leader().or_else(|| self.operator.pick(&nodes).copied());
        let again = match change {
            MembershipChange::Add(node) => Happening::Enlist { node },
            MembershipChange::Remove(node) => Happening::Dismiss { node },
        };
        self.after(300_000, again);
        match asked {
            Some(node) => self.operate(node, None, |request| Input::ChangeMembership { request, group, change }),
            None => Ok(()),
        }
    }
}
