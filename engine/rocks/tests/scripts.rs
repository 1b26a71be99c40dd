//! The same scripts on the memory stores, on RocksDB and on a mirror of both.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p rockpool-rocks --test scripts` writes the answers of the memory stores (the others
//! must then agree); read the difference before committing it.

use goldenscript::{Command, Context, Runner};
use rockpool_engine::kv::{
    Direction, EntryKind, HardState, LogBatch, LogEntry, LogStore, MemoryLog, MemoryState, Mirror, StateStore, View,
    WriteBatch,
};
use rockpool_proto::GroupId;
use rockpool_rocks::{RocksLog, RocksState, StateOptions};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Answer = Result<String, Box<dyn Error>>;

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn rocks_state(folder: &Path) -> RocksState {
    RocksState::open(folder, StateOptions::default()).unwrap()
}

/// Verbs of a state store: put, delete, delete_range, write, flush, view, close, get, scan, durable.
struct StateRunner {
    store: Box<dyn StateStore>,
    views: BTreeMap<String, Arc<dyn View>>,
}

impl StateRunner {
    fn run_all(make: impl Fn(&Path) -> Box<dyn StateStore>) {
        for script in scripts("state") {
            let folder = tempfile::tempdir().unwrap();
            let mut runner = StateRunner { store: make(folder.path()), views: BTreeMap::new() };
            goldenscript::run(&mut runner, script).unwrap();
        }
    }

    fn view(&self, name: Option<&str>) -> Result<Arc<dyn View>, Box<dyn Error>> {
        match name {
            Some(name) => Ok(self.views.get(name).ok_or("no such view")?.clone()),
            None => Ok(self.store.view()?),
        }
    }
}

fn show(value: Option<Vec<u8>>) -> String {
    value.map_or("-".into(), |value| value.escape_ascii().to_string())
}

impl Runner for StateRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        let mut args = command.consume_args();
        let named = args.take_key("view");
        let reverse = args.take_key("reverse").is_some();
        let mut batch = WriteBatch::new();
        let output = match command.name.as_str() {
            // write k=v sets, write k= removes, write from..to removes a range, in order, as one batch.
            "write" => {
                for arg in &command.args {
                    match arg {
                        goldenscript::Argument::KeyValue(key, value) if value.is_empty() => {
                            batch.delete(key.clone().into())
                        }
                        goldenscript::Argument::KeyValue(key, value) => {
                            batch.put(key.clone().into(), value.clone().into())
                        }
                        goldenscript::Argument::Positional(range) => {
                            let (start, end) = range.split_once("..").ok_or("from..to, please")?;
                            batch.delete_range(start.into(), end.into());
                        }
                        _ => return Err("what is that?".into()),
                    }
                }
                self.store.write(&batch)?;
                return Ok(String::new());
            }
            "flush" => {
                self.store.flush()?;
                String::new()
            }
            "view" => {
                let name = args.next_pos().ok_or("name, please")?;
                self.views.insert(name.into(), self.store.view()?);
                String::new()
            }
            "close" => {
                self.views.remove(args.next_pos().ok_or("name, please")?).ok_or("no such view")?;
                String::new()
            }
            "get" => {
                let view = self.view(named)?;
                let mut lines = Vec::new();
                while let Some(key) = args.next_pos() {
                    lines.push(format!("{key} -> {}", show(view.get(key.as_bytes())?)));
                }
                lines.join("\n")
            }
            "durable" => {
                let mut lines = Vec::new();
                while let Some(key) = args.next_pos() {
                    lines.push(format!("{key} -> {}", show(self.store.get_durable(key.as_bytes())?)));
                }
                lines.join("\n")
            }
            "scan" => {
                let (start, end) =
                    args.next_pos().and_then(|range| range.split_once("..")).ok_or("from..to, please")?;
                let direction = if reverse { Direction::Backward } else { Direction::Forward };
                let view = self.view(named)?;
                let mut lines = Vec::new();
                for pair in view.scan(start.as_bytes(), end.as_bytes(), direction) {
                    let (key, value) = pair?;
                    lines.push(format!("{} -> {}", key.escape_ascii(), value.escape_ascii()));
                }
                lines.join("\n")
            }
            other => return Err(format!("no verb {other}").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

#[test]
fn state_in_memory() {
    StateRunner::run_all(|_| Box::new(MemoryState::new()));
}

#[test]
fn state_in_rocksdb() {
    StateRunner::run_all(|folder| Box::new(rocks_state(folder)));
}

#[test]
fn state_mirrored() {
    StateRunner::run_all(|folder| Box::new(Mirror { first: rocks_state(folder), second: MemoryState::new() }));
}

/// Verbs of a log store: append, state, truncate, batch, reload, dump. `batch` opens a call that the next verbs join
/// until `write`.
struct LogRunner {
    store: Option<Box<dyn LogStore>>,
    reopen: Box<dyn Fn() -> Box<dyn LogStore>>,
    gathering: Option<Vec<LogBatch>>,
}

impl LogRunner {
    fn run_all(make: impl Fn(PathBuf) -> Box<dyn Fn() -> Box<dyn LogStore>>) {
        for script in scripts("log") {
            let folder = tempfile::tempdir().unwrap();
            let reopen = make(folder.path().to_path_buf());
            let mut runner = LogRunner { store: Some(reopen()), reopen, gathering: None };
            goldenscript::run(&mut runner, script).unwrap();
        }
    }

    fn write(&mut self, batch: LogBatch) -> Answer {
        match &mut self.gathering {
            Some(batches) => batches.push(batch),
            None => self.store.as_mut().expect("the store is open between verbs").write(&[batch])?,
        }
        Ok(String::new())
    }
}

/// "7@3": index 7 of term 3.
fn position(text: &str) -> Result<(u64, u64), Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or("index@term, please")?;
    Ok((index.parse()?, term.parse()?))
}

impl Runner for LogRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Answer {
        let group = context.prefix.as_deref().map_or(Ok(1), |prefix| prefix.trim_start_matches('g').parse())?;
        let mut batch = LogBatch::new(GroupId(group));
        let mut args = command.consume_args();
        match command.name.as_str() {
            "append" => {
                while let Some(entry) = args.next_pos() {
                    let (index, term) = position(entry)?;
                    let data = format!("{entry} in g{group}").into();
                    let kind = if term % 2 == 0 { EntryKind::Membership } else { EntryKind::Normal };
                    batch.entries.push(LogEntry { index, term, kind, data, context: Default::default() });
                }
                self.write(batch)
            }
            "state" => {
                let mut number = |key| args.take_key(key).unwrap_or("0").parse::<u64>();
                batch.hard_state =
                    Some(HardState { term: number("term")?, vote: number("vote")?, commit: number("commit")? });
                self.write(batch)
            }
            "truncate" => {
                batch.truncate_to = Some(position(args.next_pos().ok_or("index@term, please")?)?);
                self.write(batch)
            }
            "batch" => {
                self.gathering = Some(Vec::new());
                Ok(String::new())
            }
            "write" => {
                let batches = self.gathering.take().ok_or("no batch")?;
                self.store.as_mut().expect("the store is open between verbs").write(&batches)?;
                Ok(String::new())
            }
            "reload" => {
                self.store = None;
                self.store = Some((self.reopen)());
                Ok(String::new())
            }
            "dump" => {
                let mut lines = Vec::new();
                for image in self.store.as_mut().expect("the store is open between verbs").load()? {
                    let HardState { term, vote, commit } = image.hard_state;
                    let (index, cut) = image.truncated_to;
                    lines.push(format!(
                        "{} term={term} vote={vote} commit={commit} truncated={index}@{cut}",
                        image.group
                    ));
                    for entry in &image.entries {
                        let data = entry.data.escape_ascii();
                        lines.push(format!("  {}@{} {:?} '{data}'", entry.index, entry.term, entry.kind));
                    }
                }
                Ok(lines.join("\n"))
            }
            other => Err(format!("no verb {other}").into()),
        }
    }
}

#[test]
fn log_in_memory() {
    LogRunner::run_all(|_| {
        let log = MemoryLog::new();
        Box::new(move || Box::new(log.clone()))
    });
}

#[test]
fn log_in_rocksdb() {
    LogRunner::run_all(|folder| Box::new(move || Box::new(RocksLog::open(&folder).unwrap())));
}

#[test]
fn log_mirrored() {
    LogRunner::run_all(|folder| {
        let second = MemoryLog::new();
        Box::new(move || Box::new(Mirror { first: RocksLog::open(&folder).unwrap(), second: second.clone() }))
    });
}
