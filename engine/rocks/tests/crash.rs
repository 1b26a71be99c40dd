//! What a process leaves that is killed: the folder is copied while the store is open, and the copy is opened. Everything
//! handed to the operating system is in the copy and nothing else, as after SIGKILL.

use rockpool_engine::kv::{EntryKind, HardState, LogBatch, LogEntry, LogStore, StateStore, StoreError, WriteBatch};
use rockpool_proto::GroupId;
use rockpool_rocks::{RocksLog, RocksState, StateOptions};
use std::fs;
use std::path::{Path, PathBuf};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn put(store: &RocksState, key: &str, value: &str) {
    let mut batch = WriteBatch::new();
    batch.put(key.into(), value.into());
    store.write(&batch).unwrap();
}

fn get(store: &RocksState, key: &str) -> Option<String> {
    store.view().unwrap().get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn get_durable_says_what_a_killed_process_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (live, left) = (folder.path().join("live"), folder.path().join("left"));
    let store = RocksState::open(&live, StateOptions::default()).unwrap();
    put(&store, "applied", "1");
    put(&store, "data", "one");
    store.flush().unwrap();
    put(&store, "applied", "2");
    put(&store, "data", "two");
    let durable = store.get_durable(b"applied").unwrap();
    copy(&live, &left);
    let after = RocksState::open(&left, StateOptions::default()).unwrap();
    assert_eq!(get(&after, "applied").map(String::into_bytes), durable);
    assert_eq!(get(&after, "data").as_deref(), Some("one"));
    assert_eq!(get(&store, "data").as_deref(), Some("two"));
}

/// RocksDB flushes by itself when a memtable is full; what is left must still be a prefix of the batches.
#[test]
fn a_killed_process_leaves_a_prefix_of_its_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (live, left) = (folder.path().join("live"), folder.path().join("left"));
    let options = StateOptions { write_buffer_bytes: 64 << 10, ..StateOptions::default() };
    let store = RocksState::open(&live, options).unwrap();
    let batches = 600i64;
    for number in 1..=batches {
        let mut batch = WriteBatch::new();
        batch.put(b"applied".to_vec(), format!("{number}").into_bytes());
        batch.put(format!("key {number}").into_bytes(), vec![0; 1024]);
        batch.delete(format!("key {}", number - 10).into_bytes());
        store.write(&batch).unwrap();
    }
    store.flush().unwrap();
    put(&store, "applied", "more");
    copy(&live, &left);
    let after = RocksState::open(&left, options).unwrap();
    let applied: i64 = get(&after, "applied").unwrap().parse().unwrap();
    assert_eq!(applied, batches, "flushed, and nothing after it");
    for number in 1..=batches {
        assert_eq!(get(&after, &format!("key {number}")).is_some(), number > applied - 10, "key {number}");
    }
}

#[test]
fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = RocksState::open(folder.path(), StateOptions::default()).unwrap();
    match RocksState::open(folder.path(), StateOptions::default()) {
        Err(StoreError::Io { full: false, text }) => assert!(text.contains("lock"), "{text}"),
        other => panic!("{:?}", other.map(|_| "opened")),
    }
}

const GROUP: GroupId = GroupId(1);

fn entry(index: u64) -> LogEntry {
    let data = format!("entry {index}").into();
    LogEntry { index, term: 1, kind: EntryKind::Normal, data, context: Default::default() }
}

fn append(log: &mut RocksLog, index: u64) {
    log.write(&[LogBatch { entries: vec![entry(index)], ..LogBatch::new(GROUP) }]).unwrap();
}

/// The write-ahead log of a store with ten entries.
fn ten_entries(folder: &Path) -> PathBuf {
    let (live, left) = (folder.join("live"), folder.join("left"));
    let mut log = RocksLog::open(&live).unwrap();
    let hard_state = Some(HardState { term: 1, vote: 1, commit: 0 });
    log.write(&[LogBatch { hard_state, ..LogBatch::new(GROUP) }]).unwrap();
    (1..=10).for_each(|index| append(&mut log, index));
    copy(&live, &left);
    let wals = fs::read_dir(&left).unwrap().map(|entry| entry.unwrap().path());
    wals.filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap()
}

#[test]
fn a_killed_process_leaves_every_log_write() {
    let folder = tempfile::tempdir().unwrap();
    let wal = ten_entries(folder.path());
    let images = RocksLog::open(wal.parent().unwrap()).unwrap().load().unwrap();
    assert_eq!(images[0].entries, (1..=10).map(entry).collect::<Vec<_>>());
    assert_eq!(images[0].hard_state.vote, 1);
}

#[test]
fn a_torn_last_record_is_dropped_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let wal = ten_entries(folder.path());
    let file = fs::File::options().write(true).open(&wal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    let mut log = RocksLog::open(wal.parent().unwrap()).unwrap();
    assert_eq!(log.load().unwrap()[0].last_index(), 9);
    append(&mut log, 10);
    append(&mut log, 11);
    drop(log);
    let images = RocksLog::open(wal.parent().unwrap()).unwrap().load().unwrap();
    assert_eq!(images[0].entries, (1..=11).map(entry).collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_log_is_an_error_and_names_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let wal = ten_entries(folder.path());
    let mut bytes = fs::read(&wal).unwrap();
    let at = bytes.windows(7).position(|window| window == b"entry 5").unwrap();
    bytes[at] ^= 4;
    fs::write(&wal, bytes).unwrap();
    match RocksLog::open(wal.parent().unwrap()) {
        Err(StoreError::Corrupt { what }) => assert!(what.contains("left"), "{what}"),
        Err(other) => panic!("{other:?}"),
        Ok(mut log) => panic!("opened with {:?}", log.load()),
    }
}

/// The same entries after they have moved to a table file.
#[test]
fn a_flipped_bit_in_a_table_is_an_error_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let store = RocksState::open(&live, StateOptions::default()).unwrap();
    put(&store, "key", "a value that is long enough to be found again in the file");
    store.flush().unwrap();
    drop(store);
    let mut tables = fs::read_dir(&live).unwrap().map(|entry| entry.unwrap().path());
    let table = tables.find(|path| path.extension().is_some_and(|ext| ext == "sst")).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let at = bytes.windows(4).position(|window| window == b"long").unwrap();
    bytes[at] ^= 1;
    fs::write(&table, bytes).unwrap();
    let error = RocksState::open(&live, StateOptions::default())
        .and_then(|store| store.view()?.get(b"key"))
        .expect_err("damaged data must not be served");
    assert!(matches!(&error, StoreError::Corrupt { what } if what.contains(".sst")), "{error:?}");
}
