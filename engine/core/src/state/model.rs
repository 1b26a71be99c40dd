//! The state against a model: random commands on both, then every key and span at every timestamp that may be read.

use super::apply::{ApplyItem, Effect, ItemKind};
use super::outcome::{Outcome, read_outcome};
use super::task::{Done, put_meta};
use super::{ApplyTask, MvccView, fingerprint};
use crate::codec::{Command, CommitCommand, LogRecord, StateKeys, StateMeta};
use crate::kv::{Direction, MemoryState, Pair, StateStore, WriteBatch};
use crate::txn::{Timestamp, Transaction, TxnId};
use proptest::prelude::*;
use rockpool_proto::{GroupId, NodeId};
use std::collections::BTreeMap;

const GROUP: GroupId = GroupId(1);

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<(u8, Option<u8>)>),
    /// The transaction committed this many commits ago is sent again.
    Again(usize),
    Resolve,
    /// The safe point moves to this many commits ago.
    Collect(u64),
    Step(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let write = (0u8..6, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        6 => proptest::collection::vec(write, 1..4).prop_map(Op::Commit),
        1 => (0usize..3).prop_map(Op::Again),
        1 => Just(Op::Resolve),
        1 => (0u64..6).prop_map(Op::Collect),
        3 => (1u32..9).prop_map(Op::Step),
    ]
}

/// Keys whose encodings are easily confused.
fn key(number: u8) -> Vec<u8> {
    [&b""[..], b"\0", b"\0\0", b"\0\xff", b"a", b"a\0"][usize::from(number % 6)].to_vec()
}

fn txn(number: u64) -> TxnId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    TxnId(id)
}

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Histories of keys, in plain maps.
#[derive(Default)]
struct Model {
    commits: Vec<(Timestamp, Writes)>,
}

impl Model {
    fn at(&self, at: Timestamp) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut pairs = BTreeMap::new();
        for (_, writes) in self.commits.iter().filter(|(timestamp, _)| *timestamp <= at) {
            for (key, value) in writes {
                match value {
                    Some(value) => pairs.insert(key.clone(), value.clone()),
                    None => pairs.remove(key),
                };
            }
        }
        pairs
    }
}

fn start(store: &MemoryState) {
    let mut batch = WriteBatch::new();
    put_meta(&mut batch, GROUP, &StateMeta::bootstrap(NodeId(1)));
    store.write(&batch).unwrap();
}

fn entry(index: u64, command: Command) -> ApplyItem {
    let record = LogRecord { commands: vec![command] };
    ApplyItem { index, term: 1, kind: ItemKind::Record(record.encode()) }
}

/// Applies entries gathered as `sizes` says.
fn apply_all(store: &MemoryState, items: &[ApplyItem], sizes: &[usize]) -> Vec<(u64, Effect)> {
    let (mut rest, mut effects, mut sizes) = (items, Vec::new(), sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().map_or(1, |size| (*size).clamp(1, rest.len()));
        let task = ApplyTask::entries(GROUP, rest[..size].to_vec());
        let Done::Entries { effects: some, .. } = task.run(store).unwrap().done else { panic!("entries were applied") };
        effects.extend(some);
        rest = &rest[size..];
    }
    effects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_state_is_what_the_model_says(
        ops in proptest::collection::vec(op(), 1..40),
        sizes in proptest::collection::vec(1usize..6, 1..4),
    ) {
        let mut model = Model::default();
        let (mut items, mut expected, mut safe_point) = (Vec::new(), Vec::new(), Timestamp::ZERO);
        let last = |model: &Model| model.commits.last().map_or(Timestamp::ZERO, |(timestamp, _)| *timestamp);
        for (number, op) in (0u64..).zip(ops) {
            let index = number + 2;
            let read_timestamp = last(&model);
            let command = match op {
                Op::Commit(pairs) => {
                    let timestamp = Timestamp(read_timestamp.0 + 10);
                    let writes: Writes =
                        pairs.into_iter().map(|(name, value)| (key(name), value.map(|value| vec![value]))).collect();
                    let keys = writes.keys().cloned().collect();
                    model.commits.push((timestamp, writes.clone()));
                    expected.push((index, Effect::Committed { txn: txn(timestamp.0), timestamp, keys }));
                    Command::Commit(CommitCommand { txn: txn(timestamp.0), timestamp, read_timestamp, writes })
                }
                Op::Again(ago) => {
                    let Some((timestamp, writes)) = model.commits.iter().rev().nth(ago).cloned() else { continue };
                    if timestamp <= safe_point {
                        continue; // Its outcome may be forgotten; the leader turns that away.
                    }
                    let outcome = Outcome::Committed(timestamp);
                    expected.push((index, Effect::Ended { txn: txn(timestamp.0), outcome }));
                    let again = Timestamp(read_timestamp.0 + 10);
                    Command::Commit(CommitCommand { txn: txn(timestamp.0), timestamp: again, read_timestamp, writes })
                }
                Op::Resolve => {
                    let id = txn(1_000_000 + number);
                    expected.push((index, Effect::Ended { txn: id, outcome: Outcome::Aborted }));
                    Command::Resolve { txn: id, read_timestamp }
                }
                Op::Collect(ago) => {
                    let wanted = Timestamp(read_timestamp.0.saturating_sub(ago * 10));
                    safe_point = safe_point.max(wanted);
                    expected.push((index, Effect::SafePoint));
                    Command::Collect { safe_point: wanted }
                }
                Op::Step(versions_max) => {
                    expected.push((index, Effect::Collected));
                    Command::CollectStep { versions_max }
                }
            };
            items.push(entry(items.len() as u64 + 2, command));
        }
        let items: Vec<ApplyItem> = items;
        let store = MemoryState::new();
        start(&store);
        let effects = apply_all(&store, &items, &sizes);
        let effects: Vec<Effect> = effects.into_iter().map(|(_, effect)| effect).collect();
        let expected: Vec<Effect> = expected.into_iter().map(|(_, effect)| effect).collect();
        prop_assert_eq!(effects, expected);

        // However the entries were gathered, the state is the same.
        let other = MemoryState::new();
        start(&other);
        apply_all(&other, &items, &[1]);
        let view = store.view().unwrap();
        prop_assert_eq!(fingerprint(&*view, GROUP).unwrap(), fingerprint(&*other.view().unwrap(), GROUP).unwrap());

        let keys = StateKeys { group: GROUP, generation: 1 };
        for at in (safe_point.0..=last(&model).0 + 5).step_by(5).map(Timestamp) {
            let pairs = model.at(at);
            let mvcc = MvccView::new(view.clone(), keys, at);
            for name in 0..6 {
                prop_assert_eq!(mvcc.get(&key(name)).unwrap(), pairs.get(&key(name)).cloned());
            }
            for (start, end) in [(0, 5), (1, 4), (2, 3), (3, 3), (4, 1)] {
                let (start, end) = (key(start), key(end));
                let mut within: Vec<Pair> = pairs
                    .iter()
                    .filter(|(key, _)| start <= **key && **key < end)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let forward: Vec<Pair> = mvcc.scan(&start, &end, Direction::Forward).map(Result::unwrap).collect();
                prop_assert_eq!(&forward, &within);
                let backward: Vec<Pair> = mvcc.scan(&start, &end, Direction::Backward).map(Result::unwrap).collect();
                within.reverse();
                prop_assert_eq!(&backward, &within);
            }
        }
        for (timestamp, _) in model.commits.iter().filter(|(timestamp, _)| *timestamp >= safe_point) {
            let outcome = read_outcome(&*view, keys, &txn(timestamp.0)).unwrap();
            prop_assert_eq!(outcome, Some(Outcome::Committed(*timestamp)), "outcomes stay up to the safe point");
        }
    }

    #[test]
    fn a_transaction_is_its_view_with_its_writes_on_top(
        stored in proptest::collection::btree_map(0u8..6, any::<u8>(), 0..6),
        own in proptest::collection::vec((0u8..6, proptest::option::of(any::<u8>())), 0..6),
        undone in proptest::collection::vec((0u8..6, proptest::option::of(any::<u8>())), 0..6),
    ) {
        let store = MemoryState::new();
        start(&store);
        let pairs: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().map(|(name, value)| (key(name), vec![value])).collect();
        let writes = pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let commit = CommitCommand { txn: txn(1), timestamp: Timestamp(10), read_timestamp: Timestamp::ZERO, writes };
        apply_all(&store, &[entry(2, Command::Commit(commit))], &[1]);

        let mut transaction = Transaction::new(store.view().unwrap(), GROUP, Timestamp(10)).unwrap();
        let mut expected = pairs;
        let write = |transaction: &mut Transaction, name: u8, value: Option<u8>| match value {
            Some(value) => transaction.put(key(name), vec![value]).unwrap(),
            None => transaction.delete(key(name)).unwrap(),
        };
        for (name, value) in own {
            write(&mut transaction, name, value);
            match value {
                Some(value) => expected.insert(key(name), vec![value]),
                None => expected.remove(&key(name)),
            };
        }
        let mark = transaction.savepoint();
        for (name, value) in undone {
            write(&mut transaction, name, value);
        }
        transaction.rollback_to(mark);

        let all = |direction| -> Vec<Pair> { transaction.scan(b"", b"z", direction).map(Result::unwrap).collect() };
        let mut pairs: Vec<Pair> = expected.clone().into_iter().collect();
        prop_assert_eq!(all(Direction::Forward), pairs.clone());
        pairs.reverse();
        prop_assert_eq!(all(Direction::Backward), pairs);
        for name in 0..6 {
            prop_assert_eq!(transaction.get(&key(name)).unwrap(), expected.get(&key(name)).cloned());
        }
    }
}

#[test]
fn a_collection_whose_safe_point_moves_on_comes_to_the_end_all_the_same() {
    let store = MemoryState::new();
    start(&store);
    let (mut index, mut last) = (1, Timestamp::ZERO);
    let mut apply = |command| {
        index += 1;
        apply_all(&store, &[entry(index, command)], &[1]);
    };
    let mut commit = |name: u8| {
        let (read_timestamp, timestamp) = (last, Timestamp(last.0 + 10));
        last = timestamp;
        let writes = BTreeMap::from([(vec![name], Some(Vec::new()))]);
        (timestamp, Command::Commit(CommitCommand { txn: txn(timestamp.0), timestamp, read_timestamp, writes }))
    };
    // More keys than a step looks at, and outcomes behind them.
    (0..20).for_each(|name| apply(commit(name).1));
    for _ in 0..100 {
        let (timestamp, command) = commit(20);
        apply(command);
        apply(Command::Collect { safe_point: timestamp });
        apply(Command::CollectStep { versions_max: 8 });
    }
    let print = fingerprint(&*store.view().unwrap(), GROUP).unwrap().expect("it has state");
    assert!(print.pairs < 21 + 40, "{} of 240 pairs are left", print.pairs);
}
