//! The engine on a disk that fails: it stops, and says why.

use crate::open::Stores;
use crate::{Class, Engine, EngineError, EngineOptions, GroupId, NodeId};
use rockpool_engine::kv::{Direction, Fault, LogStore, MemoryLog, MemoryState, StateStore, StoreError, WriteBatch};
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

async fn open(
    folder: &std::path::Path,
    state: impl StateStore + 'static,
    log: impl LogStore + 'static,
) -> Result<Engine, EngineError> {
    let options = EngineOptions { bootstrap: true, ..EngineOptions::new(folder.to_owned(), NodeId(1)) };
    Engine::open_on(options, |_, _| Ok(Stores { state: Arc::new(state), log: Box::new(log) })).await
}

async fn write_until_failure(engine: &Engine) -> EngineError {
    let writing = async {
        for number in 0u32.. {
            let attempt = async {
                let mut transaction = engine.begin().await?;
                transaction.put(number.to_be_bytes().to_vec(), vec![0; 100]).map_err(EngineError::Transaction)?;
                engine.commit(transaction).await
            };
            match attempt.await {
                Err(error) if error.class() == Class::Fatal => return error,
                // The one that was on its way.
                Err(EngineError::Unknown(why)) => return EngineError::Stopped(why),
                _ => {}
            }
        }
        unreachable!("numbers don't run out before the disk does")
    };
    tokio::time::timeout(DEADLINE, writing).await.expect("the disk fails in the end")
}

#[tokio::test]
async fn a_full_disk_stops_the_engine_with_a_sentence_that_helps() {
    let full = StoreError::Io { text: "No space left on device".to_owned(), full: true };
    // The disk fills up at each of the first writes of the log, then of the state.
    for good_calls in [0, 1, 2, 3, 5, 8, 20] {
        let folder = tempfile::tempdir().unwrap();
        let log = Fault::new(MemoryLog::new(), good_calls, full.clone());
        let engine = open(folder.path(), MemoryState::new(), log).await.unwrap();
        let error = write_until_failure(&engine).await;
        assert!(error.to_string().contains("disk is full"), "{error}");
        assert_eq!(engine.begin().await.err(), Some(error), "from then on everybody hears the same");
        assert!(engine.status().failure.as_ref().is_some_and(|text| text.contains("Make room")));
        engine.shutdown().await;

        let folder = tempfile::tempdir().unwrap();
        let state = Fault::new(MemoryState::new(), good_calls, full.clone());
        match open(folder.path(), state, MemoryLog::new()).await {
            // The very first writes happen while it opens.
            Err(error) => assert_eq!(error.class(), Class::Fatal),
            Ok(engine) => {
                let error = write_until_failure(&engine).await;
                assert!(error.to_string().contains("disk is full"), "{error}");
                engine.shutdown().await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_disk_failed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (state, log) = (MemoryState::new(), MemoryLog::new());
    let failing = Fault::new(log.clone(), 30, StoreError::Io { text: "gone".to_owned(), full: false });
    let engine = open(folder.path(), state.clone(), failing).await.unwrap();
    let mut acknowledged = Vec::new();
    for number in 0u32.. {
        let attempt = async {
            let mut transaction = engine.begin().await?;
            transaction.put(number.to_be_bytes().to_vec(), b"value".to_vec()).map_err(EngineError::Transaction)?;
            engine.commit(transaction).await
        };
        match attempt.await {
            Ok(_) => acknowledged.push(number),
            Err(error) if matches!(error.class(), Class::Fatal | Class::Unknown) => break,
            Err(_) => {}
        }
    }
    engine.shutdown().await;
    assert!(!acknowledged.is_empty());
    state.crash(0);
    log.crash(0).unwrap();
    let engine = open(folder.path(), state, log).await.unwrap();
    let mut status = engine.subscribe();
    let leads = status.wait_for(|status| status.leads(GroupId(1)));
    tokio::time::timeout(DEADLINE, leads).await.expect("a single node elects itself").expect("the machine runs");
    let transaction = engine.begin().await.unwrap();
    for number in acknowledged {
        assert_eq!(transaction.get(&number.to_be_bytes()).unwrap(), Some(b"value".to_vec()), "{number}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_node_that_reads_damage_stops_and_names_the_key() {
    for scanned in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let state = MemoryState::new();
        let engine = open(folder.path(), state.clone(), MemoryLog::new()).await.unwrap();
        let mut transaction = engine.begin().await.unwrap();
        transaction.put(b"marmalade".to_vec(), b"orange".to_vec()).unwrap();
        engine.commit(transaction).await.unwrap();
        let pair = state.dump().into_iter().find(|(_, value)| value.ends_with(b"orange"));
        let (key, mut value) = pair.expect("it is stored");
        *value.last_mut().expect("it is not empty") ^= 1;
        let mut damage = WriteBatch::new();
        damage.put(key, value);
        state.write(&damage).unwrap();

        let transaction = engine.begin().await.unwrap();
        let error = match scanned {
            true => transaction.scan(b"a", b"z", Direction::Forward).next().and_then(Result::err),
            false => transaction.get(b"marmalade").err(),
        };
        assert!(error.is_some_and(|error| error.to_string().contains("marmalade")));
        drop(transaction);
        let error = engine.begin().await.err().expect("a damaged replica serves nobody");
        assert_eq!(error.class(), Class::Fatal);
        let text = error.to_string();
        assert!(text.contains("damaged") && text.contains("marmalade"), "{text}");
        assert!(engine.status().failure.is_some());
        engine.shutdown().await;
    }
}
