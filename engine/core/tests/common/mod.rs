//! A cluster in one thread and virtual time: real machines on the stores in memory, a network that can be cut, disks that can
//! be held, crashes that lose what was not durable.

#![allow(dead_code)] // Each test binary uses its own part.

use rockpool_engine::kv::{LogStore, MemoryLog, MemoryState, PendingSync, StateStore};
use rockpool_engine::{
    ApplyTask, Class, Config, Fatal, Fingerprint, GroupId, GroupStatus, Input, Node, NodeId, Now, Output, Reply,
    RequestId, Role, Start, Time, Timestamp, Transaction, fingerprint,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The only group.
pub const GROUP: GroupId = Config::FIRST_GROUP;
/// The wall clock at the start of each run.
const WALL_START_US: u64 = 1_000_000_000;
const NETWORK_DELAY_US: u64 = 1_000;
const DISK_DELAY_US: u64 = 1_000;

/// What of a node stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    Persist,
    Apply,
    Flush,
}

enum Work {
    Task(ApplyTask),
    Flush(GroupId),
}

/// One node with its disks.
pub struct Host {
    pub config: Config,
    pub state: MemoryState,
    pub log: MemoryLog,
    pub node: Option<Node>,
    /// How often it was started.
    pub boots: u64,
    persists: VecDeque<(u64, u64, PendingSync)>,
    work: VecDeque<Work>,
    pub held: BTreeSet<Hold>,
    /// Why it stopped, if it did.
    pub fatal: Option<Fatal>,
    /// How often its state was flushed.
    pub flushes: u64,
}

struct Packet {
    due_us: u64,
    from: NodeId,
    to: NodeId,
    bytes: bytes::Bytes,
}

/// The cluster.
pub struct World {
    pub now_us: u64,
    pub hosts: BTreeMap<NodeId, Host>,
    network: VecDeque<Packet>,
    cut: BTreeSet<(NodeId, NodeId)>,
    pub replies: BTreeMap<RequestId, Reply>,
    pub notices: Vec<String>,
    last_request: u64,
    /// Every message arrives twice.
    pub duplicate: bool,
    /// Messages of the bulk class that were handed out: snapshot chunks.
    pub bulk_messages: u64,
    /// Bytes of the largest message of the log class.
    pub log_message_bytes: usize,
    /// Settings for nodes to come.
    pub tune: Box<dyn Fn(&mut Config)>,
    delay_us: Box<dyn FnMut() -> u64>,
}

impl World {
    pub fn new() -> Self {
        World {
            now_us: 0,
            hosts: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            replies: BTreeMap::new(),
            notices: Vec::new(),
            last_request: 0,
            duplicate: false,
            bulk_messages: 0,
            log_message_bytes: 0,
            tune: Box::new(|_| {}),
            delay_us: Box::new(|| NETWORK_DELAY_US),
        }
    }

    /// Delays messages as `delay_us` draws; unequal delays reorder them.
    pub fn set_network_delay(&mut self, delay_us: impl FnMut() -> u64 + 'static) {
        self.delay_us = Box::new(delay_us);
    }

    fn now(&self) -> Now {
        Now { time: Time(self.now_us), wall_us: WALL_START_US + self.now_us }
    }

    /// Adds a node on empty disks.
    pub fn start(&mut self, id: NodeId, start: Start) {
        let mut config = Config::new(id, start, 42);
        (self.tune)(&mut config);
        let host = Host {
            config,
            state: MemoryState::new(),
            log: MemoryLog::new(),
            node: None,
            boots: 0,
            persists: VecDeque::new(),
            work: VecDeque::new(),
            held: BTreeSet::new(),
            fatal: None,
            flushes: 0,
        };
        self.hosts.insert(id, host);
        self.restart(id).expect("a new node opens");
    }

    /// Opens a node that is down.
    pub fn restart(&mut self, id: NodeId) -> Result<(), Fatal> {
        let now = self.now();
        let host = self.host(id);
        let logs = host.log.load()?;
        host.node = Some(Node::open(host.config.clone(), Arc::new(host.state.clone()), logs, now)?);
        host.fatal = None;
        host.boots += 1;
        self.drain(id);
        Ok(())
    }

    /// Kills a node: of what was not durable, the given numbers of batches survive.
    pub fn crash(&mut self, id: NodeId, keep_log: usize, keep_state: usize) {
        let host = self.host(id);
        host.node = None;
        host.persists.clear();
        host.work.clear();
        host.held.clear();
        host.log.crash(keep_log).expect("the log takes what it was handed");
        host.state.crash(keep_state);
    }

    pub fn host(&mut self, id: NodeId) -> &mut Host {
        self.hosts.get_mut(&id).expect("a node of this cluster")
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&mut self, id: NodeId) {
        for other in self.hosts.keys().copied().filter(|other| *other != id).collect::<Vec<_>>() {
            self.cut_link(id, other);
            self.cut_link(other, id);
        }
    }

    /// Loses what goes this way.
    pub fn cut_link(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Hands an input to a node and carries out what follows. False when it is down.
    pub fn input(&mut self, id: NodeId, input: Input) -> bool {
        let now = self.now();
        let host = self.host(id);
        let Some(node) = &mut host.node else { return false };
        if let Err(fatal) = node.handle_input(now, input) {
            host.fatal = Some(fatal);
            host.node = None;
            return false;
        }
        self.drain(id);
        true
    }

    /// Asks a node something.
    pub fn ask(&mut self, id: NodeId, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.input(id, input(request));
        request
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(output) = self.host(id).node.as_mut().and_then(Node::poll_output) {
            match output {
                Output::Send { to, class, bytes } => {
                    self.bulk_messages += u64::from(class == Class::Bulk);
                    if class == Class::Log {
                        self.log_message_bytes = self.log_message_bytes.max(bytes.len());
                    }
                    assert!(bytes.len() < rockpool_proto::limits::NODE_MESSAGE_BYTES_MAX);
                    if !self.cut.contains(&(id, to)) {
                        for _ in 0..if self.duplicate { 2 } else { 1 } {
                            let due_us = self.now_us + (self.delay_us)();
                            self.network.push_back(Packet { due_us, from: id, to, bytes: bytes.clone() });
                        }
                    }
                }
                Output::Persist { seq, batches } => {
                    let due_us = self.now_us + DISK_DELAY_US;
                    let host = self.host(id);
                    let sync = host.log.submit(&batches);
                    host.persists.push_back((due_us, seq, sync));
                }
                Output::Apply(task) => self.host(id).work.push_back(Work::Task(task)),
                Output::Flush { group } => self.host(id).work.push_back(Work::Flush(group)),
                Output::Reply { request, reply } => {
                    let before = self.replies.insert(request, reply);
                    assert!(before.is_none(), "{request} was answered twice");
                }
                Output::Notice(notice) => self.notices.push(format!("{id}: {notice}")),
            }
        }
    }

    /// A millisecond passes.
    pub fn step(&mut self) {
        self.now_us += 1_000;
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for id in &ids {
            self.run_disk(*id);
            self.run_work(*id);
        }
        let (due, later): (VecDeque<Packet>, VecDeque<Packet>) =
            self.network.drain(..).partition(|packet| packet.due_us <= self.now_us);
        self.network = later;
        for packet in due {
            if !self.cut.contains(&(packet.from, packet.to)) && self.hosts.contains_key(&packet.to) {
                self.input(packet.to, Input::Message { from: packet.from, bytes: packet.bytes });
            }
        }
        for id in ids {
            let timeout = self.host(id).node.as_ref().and_then(Node::poll_timeout);
            if timeout.is_some_and(|at| at.0 <= self.now_us) {
                self.input(id, Input::Timeout);
            }
        }
    }

    fn run_disk(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let host = self.host(id);
        if host.held.contains(&Hold::Persist) {
            return;
        }
        let mut last = None;
        while host.persists.front().is_some_and(|(due_us, _, _)| *due_us <= now_us) {
            let Some((_, seq, sync)) = host.persists.pop_front() else { break };
            host.log.sync(sync).expect("the log takes what it was handed");
            last = Some(seq);
        }
        if let Some(seq) = last {
            self.input(id, Input::Persisted { seq });
        }
    }

    fn run_work(&mut self, id: NodeId) {
        while let Some(host) = self.hosts.get_mut(&id)
            && !host.held.contains(&Hold::Apply)
            && let Some(work) = host.work.pop_front()
        {
            let input = match work {
                Work::Task(task) => match task.run(&host.state) {
                    Ok(done) => Input::Applied(done),
                    Err(fatal) => {
                        host.fatal = Some(fatal);
                        host.node = None;
                        return;
                    }
                },
                Work::Flush(_) if host.held.contains(&Hold::Flush) => {
                    host.work.push_front(work);
                    return;
                }
                Work::Flush(group) => {
                    host.state.flush().expect("memory flushes");
                    host.flushes += 1;
                    Input::Flushed { group }
                }
            };
            self.input(id, input);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Lets time pass until something is true; how long it took.
    pub fn until(&mut self, max_ms: u64, mut condition: impl FnMut(&mut World) -> bool) -> Option<u64> {
        for ms in 0..=max_ms {
            if condition(self) {
                return Some(ms);
            }
            self.step();
        }
        None
    }

    /// Waits for the answer to a question.
    pub fn wait(&mut self, request: RequestId) -> Option<Reply> {
        self.until(15_000, |world| world.replies.contains_key(&request))?;
        self.replies.get(&request).cloned()
    }

    pub fn status(&self, id: NodeId) -> Option<GroupStatus> {
        self.hosts.get(&id)?.node.as_ref()?.status().groups.into_iter().next()
    }

    /// The leader with the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.hosts.keys().filter_map(|id| Some((self.status(*id)?, *id)));
        let leaders = leaders.filter(|(status, _)| status.role == Role::Leader);
        leaders.max_by_key(|(status, _)| status.term).map(|(_, id)| id)
    }

    /// A read timestamp from a node.
    pub fn begin(&mut self, id: NodeId) -> Result<Timestamp, String> {
        let request = self.ask(id, |request| Input::Begin { request, group: GROUP });
        match self.wait(request) {
            Some(Reply::Begun { read_timestamp }) => Ok(read_timestamp),
            other => Err(describe(other)),
        }
    }

    /// A transaction at a node.
    pub fn transaction(&mut self, id: NodeId) -> Result<Transaction, String> {
        let read_timestamp = self.begin(id)?;
        let view = self.host(id).state.view().map_err(|error| error.to_string())?;
        Transaction::new(view, GROUP, read_timestamp).map_err(|error| error.to_string())
    }

    /// A node's state in short.
    pub fn fingerprint(&mut self, id: NodeId) -> Option<Fingerprint> {
        let view = self.host(id).state.view().expect("memory has views");
        fingerprint(&*view, GROUP).expect("the state is sound")
    }

    /// A cluster of this many voters.
    pub fn cluster(&mut self, count: u64) {
        self.start(NodeId(1), Start::Bootstrap);
        self.until(2_000, |world| world.leader().is_some()).expect("a sole voter leads");
        for id in (2..=count).map(NodeId) {
            self.start(id, Start::Join);
            let change = rockpool_engine::MembershipChange::Add(id);
            let request = self.ask(NodeId(1), |request| Input::ChangeMembership { request, group: GROUP, change });
            assert_eq!(self.wait(request), Some(Reply::Done));
        }
        let voters: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let grown = |world: &mut World| {
            voters.iter().all(|id| {
                world.status(*id).is_some_and(|status| status.voters == voters && status.voters_outgoing.is_empty())
            })
        };
        self.until(10_000, grown).expect("everybody becomes a voter");
        self.settle().expect("the cluster comes to rest");
    }

    /// Waits until all nodes that are up have the same log and state; how long it took.
    pub fn settle(&mut self) -> Option<u64> {
        self.until(20_000, |world| {
            let ids: Vec<NodeId> = world.hosts.keys().copied().collect();
            let statuses: Vec<GroupStatus> = ids.iter().filter_map(|id| world.status(*id)).collect();
            let first = statuses.first();
            statuses.iter().all(|status| {
                let same = first.is_some_and(|first| {
                    (first.last_index, first.applied, first.leader)
                        == (status.last_index, status.applied, status.leader)
                });
                same && status.applied == status.last_index && status.leader.is_some()
            })
        })
    }

    /// Nodes that applied equally much hold the same.
    pub fn check_states(&mut self) {
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        let mut prints: BTreeMap<u64, (NodeId, Fingerprint)> = BTreeMap::new();
        for id in ids {
            let Some(print) = self.fingerprint(id) else { continue };
            let (first, known) = *prints.entry(print.applied_index).or_insert((id, print));
            assert_eq!(known, print, "{first} and {id} applied the same and hold something else");
        }
    }
}

/// An answer, or its absence, in a line.
pub fn describe(reply: Option<Reply>) -> String {
    reply.map_or_else(|| "no answer".to_owned(), |reply| reply.to_string())
}
