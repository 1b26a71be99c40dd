//! Random faults under a few clients, from a seed: what was acknowledged stays, takes effect once, and is seen by whoever
//! begins later. `CHAOS_SEEDS=FROM..TO` runs others.

mod common;

use common::{GROUP, Hold, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rockpool_engine::kv::StateStore;
use rockpool_engine::{
    Input, MembershipChange, NodeId, Reply, RequestId, Start, Timestamp, Transaction, TransactionError, TxnId,
    Validation,
};
use std::collections::BTreeMap;

const KEYS: u64 = 5;
const CLIENTS: usize = 6;

enum Phase {
    Idle,
    Beginning { request: RequestId, at_least: Timestamp },
    Committing { request: RequestId, txn: TxnId, read_timestamp: Timestamp },
    Asking { request: RequestId, txn: TxnId, read_timestamp: Timestamp },
}

struct Client {
    phase: Phase,
    node: NodeId,
    /// Which life of the node was asked.
    boots: u64,
}

struct Run {
    world: World,
    rng: ChaCha8Rng,
    clients: Vec<Client>,
    committed: u64,
    last_acknowledged: Timestamp,
    last_txn: u64,
    timestamps: BTreeMap<Timestamp, TxnId>,
    /// What each transaction wrote.
    wrote: BTreeMap<TxnId, (Vec<u8>, u64)>,
}

impl Run {
    fn pick(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.world.hosts.keys().copied().collect();
        ids[self.rng.random_range(0..ids.len())]
    }

    fn clients(&mut self) {
        for index in 0..self.clients.len() {
            self.client(index);
        }
    }

    fn client(&mut self, index: usize) {
        let node = self.clients[index].node;
        // Who asks a node that died gets no answer: it asks another what became of its transaction.
        let host = self.world.host(node);
        let down = host.node.is_none() || host.boots != self.clients[index].boots;
        let mut next = None;
        match &self.clients[index].phase {
            Phase::Idle => {
                if self.rng.random_range(0..20) == 0 {
                    let node = self.pick();
                    self.choose(index, node);
                    let request = self.world.ask(node, |request| Input::Begin { request, group: GROUP });
                    next = Some(Phase::Beginning { request, at_least: self.last_acknowledged });
                }
            }
            Phase::Beginning { request, at_least } => match self.world.replies.remove(request) {
                Some(Reply::Begun { read_timestamp }) => {
                    assert!(read_timestamp >= *at_least, "a begin does not see what was acknowledged before it");
                    next = Some(self.transact(node, read_timestamp));
                }
                Some(Reply::Retry(_) | Reply::Refused(_)) => next = Some(Phase::Idle),
                Some(other) => panic!("begin was answered {other}"),
                None if down => next = Some(Phase::Idle),
                None => {}
            },
            Phase::Committing { request, txn, read_timestamp } => {
                let (txn, read_timestamp) = (*txn, *read_timestamp);
                match self.world.replies.remove(request) {
                    Some(Reply::Committed { timestamp }) => {
                        self.acknowledge(txn, timestamp);
                        next = Some(Phase::Idle);
                    }
                    Some(Reply::Conflict { .. } | Reply::Retry(_) | Reply::Aborted) => next = Some(Phase::Idle),
                    Some(Reply::Unknown) => next = Some(self.outcome(index, txn, read_timestamp)),
                    Some(other) => panic!("commit was answered {other}"),
                    None if down => next = Some(self.outcome(index, txn, read_timestamp)),
                    None => {}
                }
            }
            Phase::Asking { request, txn, read_timestamp } => {
                let (txn, read_timestamp) = (*txn, *read_timestamp);
                match self.world.replies.remove(request) {
                    Some(Reply::Committed { timestamp }) => {
                        self.acknowledge(txn, timestamp);
                        next = Some(Phase::Idle);
                    }
                    Some(Reply::Aborted) => next = Some(Phase::Idle),
                    Some(Reply::Unknown) => next = Some(self.outcome(index, txn, read_timestamp)),
                    Some(other) => panic!("an outcome was answered {other}"),
                    None if down => next = Some(self.outcome(index, txn, read_timestamp)),
                    None => {}
                }
            }
        }
        if let Some(next) = next {
            self.clients[index].phase = next;
        }
    }

    /// Adds one to a counter after looking at another.
    fn transact(&mut self, node: NodeId, read_timestamp: Timestamp) -> Phase {
        let view = self.world.host(node).state.view().expect("memory has views");
        let mut transaction = match Transaction::new(view, GROUP, read_timestamp) {
            Ok(transaction) => transaction,
            // The node died between its answer and the view.
            Err(TransactionError::TooOld) => return Phase::Idle,
            Err(error) => panic!("{error}"),
        };
        let (key, other) = (self.rng.random_range(0..KEYS), self.rng.random_range(0..KEYS));
        let (key, other) = (key.to_be_bytes().to_vec(), other.to_be_bytes());
        transaction.get(&other).expect("the state is sound");
        let value = transaction.get(&key).expect("the state is sound");
        let value = value.map_or(0, |value| u64::from_be_bytes(value.try_into().expect("a counter")));
        transaction.put(key.clone(), (value + 1).to_be_bytes().to_vec()).expect("small enough");
        self.last_txn += 1;
        let mut txn = [0; 16];
        txn[8..].copy_from_slice(&self.last_txn.to_be_bytes());
        self.wrote.insert(TxnId(txn), (key, value + 1));
        let (txn, commit) = (TxnId(txn), transaction.into_commit(TxnId(txn)));
        let request = self.world.ask(node, |request| Input::Commit { request, commit });
        Phase::Committing { request, txn, read_timestamp }
    }

    fn choose(&mut self, index: usize, node: NodeId) {
        let boots = self.world.host(node).boots;
        (self.clients[index].node, self.clients[index].boots) = (node, boots);
    }

    fn outcome(&mut self, index: usize, txn: TxnId, read_timestamp: Timestamp) -> Phase {
        let node = self.pick();
        self.choose(index, node);
        let request =
            self.world.ask(node, |request| Input::QueryOutcome { request, group: GROUP, txn, read_timestamp });
        Phase::Asking { request, txn, read_timestamp }
    }

    fn acknowledge(&mut self, txn: TxnId, timestamp: Timestamp) {
        assert_eq!(self.timestamps.insert(timestamp, txn), None, "two commits at {timestamp}");
        self.committed += 1;
        self.last_acknowledged = self.last_acknowledged.max(timestamp);
    }

    fn fault(&mut self) {
        let node = self.pick();
        match self.rng.random_range(0..12) {
            0 | 1 => {
                let (log, state) = (self.rng.random_range(0..4), self.rng.random_range(0..6));
                self.world.crash(node, log, state);
            }
            2 => self.world.isolate(node),
            3 => {
                let other = self.pick();
                self.world.cut_link(node, other);
            }
            4 | 5 => self.world.heal(),
            6 => {
                let hold = [Hold::Persist, Hold::Apply, Hold::Flush][self.rng.random_range(0..3)];
                self.world.host(node).held.insert(hold);
            }
            7 | 8 => self.world.host(node).held.clear(),
            9 => self.world.duplicate = self.rng.random(),
            10 => {
                self.world.ask(node, |request| Input::TransferLeadership { request, group: GROUP, to: None });
            }
            _ => {}
        }
        let down: Vec<NodeId> =
            self.world.hosts.iter().filter(|(_, host)| host.node.is_none()).map(|(id, _)| *id).collect();
        for id in down {
            if self.rng.random_range(0..3) == 0 {
                self.revive(id);
            }
        }
    }

    fn revive(&mut self, id: NodeId) {
        assert_eq!(self.world.host(id).fatal, None, "{id} stopped by itself");
        if self.world.host(id).node.is_none() {
            self.world.restart(id).unwrap_or_else(|fatal| panic!("{id} does not start again: {fatal}"));
        }
    }
}

fn run(seed: u64, validation: Validation) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nodes = [1, 3, 3, 3, 5][rng.random_range(0..5)];
    let mut world = World::new();
    let (keep, flush) = (rng.random_range(0..30), rng.random_range(5..60));
    world.tune = Box::new(move |config| {
        config.seed = seed;
        config.validation = validation;
        config.limits.log_keep_entries = keep;
        config.limits.log_flush_entries = flush;
        config.limits.snapshot_chunk_bytes = 1_024;
        config.limits.window_commits_max = 40;
    });
    world.cluster(nodes);
    let mut delays = ChaCha8Rng::seed_from_u64(seed ^ 1);
    let slow = rng.random_range(1_000..30_000);
    world.set_network_delay(move || delays.random_range(200..slow));
    let idle = |index: usize| Client { phase: Phase::Idle, node: NodeId(index as u64 % nodes + 1), boots: 1 };
    let clients = (0..CLIENTS).map(idle).collect();
    let (timestamps, last_acknowledged) = (BTreeMap::new(), Timestamp::ZERO);
    let mut run =
        Run { world, rng, clients, committed: 0, last_acknowledged, last_txn: 0, timestamps, wrote: BTreeMap::new() };

    // Faults, and now and then a node that comes and goes.
    let guest = NodeId(nodes + 1);
    for ms in 0..12_000 {
        run.world.step();
        run.clients();
        if run.rng.random_range(0..120) == 0 {
            run.fault();
        }
        if ms == 3_000 && seed.is_multiple_of(2) {
            run.world.start(guest, Start::Join);
            let at = NodeId(1);
            let change = MembershipChange::Add(guest);
            run.world.ask(at, |request| Input::ChangeMembership { request, group: GROUP, change });
        }
        if ms == 8_000 && seed.is_multiple_of(4) {
            let change = MembershipChange::Remove(NodeId(1));
            run.world.ask(guest, |request| Input::ChangeMembership { request, group: GROUP, change });
        }
    }

    // Then calm: everything has to come to an end.
    run.world.heal();
    run.world.duplicate = false;
    let ids: Vec<NodeId> = run.world.hosts.keys().copied().collect();
    for id in ids {
        run.revive(id);
        run.world.host(id).held.clear();
    }
    let mut calm_ms = 0;
    while run.clients.iter().any(|client| !matches!(client.phase, Phase::Idle)) {
        run.world.step();
        for index in 0..CLIENTS {
            if !matches!(run.clients[index].phase, Phase::Idle) {
                run.client(index);
            }
        }
        calm_ms += 1;
        assert!(calm_ms < 60_000, "seed {seed}: clients are still waiting:{}", statuses(&run.world));
    }
    let leader = run.world.until(10_000, |world| world.leader().is_some());
    leader.expect("a connected quorum elects");
    let members = |world: &World| {
        let leader = world.leader().and_then(|leader| world.status(leader));
        leader.map_or(Vec::new(), |status| [status.voters, status.learners].concat())
    };
    let caught_up = run.world.until(20_000, |world| {
        let members = members(world);
        let statuses: Vec<_> = members.iter().filter_map(|id| world.status(*id)).collect();
        let most = statuses.iter().map(|status| status.last_index).max();
        !statuses.is_empty()
            && statuses.len() == members.len()
            && statuses.iter().all(|status| Some(status.applied) == most && status.voters_outgoing.is_empty())
    });
    caught_up.unwrap_or_else(|| panic!("seed {seed}: not everybody catches up:{}", statuses(&run.world)));
    run.world.check_states();

    let node = run.world.leader().expect("it was there a moment ago");
    let view = run.world.host(node).state.view().expect("memory has views");
    let mut counters: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (timestamp, txn) in &run.timestamps {
        let (key, value) = &run.wrote[txn];
        let at = Transaction::new(view.clone(), GROUP, *timestamp).expect("nothing is collected here");
        let stored =
            at.get(key).expect("the state is sound").map(|value| u64::from_be_bytes(value.try_into().unwrap()));
        assert_eq!(stored, Some(*value), "seed {seed}: {txn:?} was acknowledged at {timestamp}");
        let before = counters.insert(key.clone(), *value).unwrap_or(0);
        assert_eq!(before + 1, *value, "seed {seed}: {txn:?} at {timestamp} did not see the one before");
    }
    let transaction = run.world.transaction(node).expect("a leader serves reads");
    let sum: u64 = (0..KEYS)
        .filter_map(|key| transaction.get(&key.to_be_bytes()).expect("the state is sound"))
        .map(|value| u64::from_be_bytes(value.try_into().expect("a counter")))
        .sum();
    assert_eq!(sum, run.committed, "seed {seed}: increments and acknowledged commits");
    let print = run.world.fingerprint(node).expect("it has state");
    format!("seed {seed}: {} commits, {} requests, {print}", run.committed, run.last_txn)
}

fn statuses(world: &World) -> String {
    let status = |id: &NodeId| world.status(*id).map(|status| format!("\n{id}: {status}"));
    let late = world.notices.iter().rev().take(20).map(|notice| format!("\n{notice}"));
    world.hosts.keys().filter_map(status).chain(late).collect()
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    #[allow(clippy::disallowed_methods)] // A test may be told which seeds to run.
    let Ok(text) = std::env::var("CHAOS_SEEDS") else { return default };
    let (from, to) = text.split_once("..").expect("CHAOS_SEEDS=FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn nothing_acknowledged_is_lost_or_done_twice() {
    for seed in seeds(0..12) {
        eprintln!("{}", run(seed, Validation::Full));
    }
}

#[test]
fn a_seed_repeats_a_run() {
    for seed in 3..5 {
        assert_eq!(run(seed, Validation::Full), run(seed, Validation::Full));
    }
}
