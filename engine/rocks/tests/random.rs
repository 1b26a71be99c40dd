//! Random operations on the mirrors: RocksDB and the memory stores must give the same answers.

use proptest::prelude::*;
use rockpool_engine::kv::{
    Direction, EntryKind, HardState, LogBatch, LogEntry, LogStore, MemoryLog, MemoryState, Mirror, StateStore,
    WriteBatch,
};
use rockpool_proto::GroupId;
use rockpool_rocks::{RocksLog, RocksState, StateOptions};

#[derive(Clone, Debug)]
enum StateStep {
    Write(Vec<(u8, u8, Option<u8>)>),
    Flush,
    View,
    Check(u8, u8),
}

fn state_step() -> impl Strategy<Value = StateStep> {
    let op = (0u8..40, 0u8..40, any::<Option<u8>>());
    prop_oneof![
        4 => proptest::collection::vec(op, 1..6).prop_map(StateStep::Write),
        1 => Just(StateStep::Flush),
        1 => Just(StateStep::View),
        2 => (0u8..40, 0u8..41).prop_map(|(from, to)| StateStep::Check(from, to)),
    ]
}

#[derive(Clone, Debug)]
enum LogStep {
    Append { back: u64, count: u64 },
    Truncate { ahead: u64, other_term: bool },
    Vote,
    Reload,
}

fn log_step() -> impl Strategy<Value = LogStep> {
    prop_oneof![
        5 => (0u64..4, 1u64..5).prop_map(|(back, count)| LogStep::Append { back, count }),
        2 => (1u64..6, proptest::bool::weighted(0.2)).prop_map(|(ahead, other_term)| LogStep::Truncate { ahead, other_term }),
        1 => Just(LogStep::Vote),
        1 => Just(LogStep::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn states_agree(steps in proptest::collection::vec(state_step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let rocks = RocksState::open(folder.path(), StateOptions::default()).unwrap();
        let store = Mirror { first: rocks, second: MemoryState::new() };
        let mut views = vec![store.view().unwrap()];
        for step in steps {
            match step {
                StateStep::Write(ops) => {
                    let mut batch = WriteBatch::new();
                    for (key, end, value) in ops {
                        match value {
                            Some(value) if value < 200 => batch.put(vec![key], vec![value]),
                            Some(_) => batch.delete_range(vec![key], vec![end]),
                            None => batch.delete(vec![key]),
                        }
                    }
                    store.write(&batch).unwrap();
                }
                StateStep::Flush => store.flush().unwrap(),
                StateStep::View => views.push(store.view().unwrap()),
                StateStep::Check(from, to) => {
                    for view in &views {
                        view.get(&[from]).unwrap();
                        view.scan(&[from], &[to], Direction::Forward).for_each(|pair| drop(pair.unwrap()));
                        view.scan(&[from], &[to], Direction::Backward).for_each(|pair| drop(pair.unwrap()));
                    }
                }
            }
        }
    }

    #[test]
    fn logs_agree(calls in proptest::collection::vec(proptest::collection::vec(log_step(), 1..4), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let second = MemoryLog::new();
        let open = || Mirror { first: RocksLog::open(folder.path()).unwrap(), second: second.clone() };
        let mut log = open();
        // The model's own idea of the log, to make sensible batches.
        let mut model = rockpool_engine::kv::LogImage::new(GroupId(1));
        let mut term = 1;
        for call in calls {
            let mut batches = Vec::new();
            let mut reload = false;
            for step in call {
                let mut batch = LogBatch::new(GroupId(1));
                match step {
                    LogStep::Append { back, count } => {
                        term += u64::from(back > 0);
                        let first = model.last_index().saturating_sub(back).max(model.truncated_to.0) + 1;
                        let entry = |index| LogEntry {
                            index, term, kind: EntryKind::Normal, data: vec![term as u8; 9].into(), context: Default::default(),
                        };
                        batch.entries = (first..first + count).map(entry).collect();
                    }
                    LogStep::Truncate { ahead, other_term } => {
                        let index = model.truncated_to.0 + ahead;
                        let found = model.entries.get(ahead as usize - 1).map_or(term, |entry| entry.term);
                        batch.truncate_to = Some((index, found + u64::from(other_term)));
                    }
                    LogStep::Vote => batch.hard_state = Some(HardState { term, vote: 1, commit: model.truncated_to.0 }),
                    LogStep::Reload => reload = true,
                }
                model.carry_out(&batch).unwrap();
                batches.push(batch);
            }
            log.write(&batches).unwrap();
            if reload {
                drop(log);
                log = open();
            }
            let empty = model == rockpool_engine::kv::LogImage::new(GroupId(1));
            prop_assert_eq!(log.load().unwrap(), if empty { vec![] } else { vec![model.clone()] });
        }
    }
}
