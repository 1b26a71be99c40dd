//! Opening: stores, machine, threads.

use crate::clock;
use crate::error::EngineError;
use crate::failure::{Failure, describe};
use crate::folder::{Folder, size_bytes};
use crate::inbox::Inbox;
use crate::machine::{Machine, StatusBoard};
use crate::options::EngineOptions;
use crate::status::{EngineStatus, WriteStats};
use crate::transport::Transport;
use crate::workers;
use rockpool_engine::Node;
use rockpool_engine::kv::{LogStore, StateStore};
use rockpool_rocks::{RocksLog, RocksState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Where a node keeps what it may not forget.
pub(crate) struct Stores {
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) log: Box<dyn LogStore>,
}

/// A running machine, seen from outside.
pub(crate) struct Running {
    pub(crate) failure: Arc<Failure>,
    pub(crate) status: watch::Receiver<Arc<EngineStatus>>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    pub(crate) disk_bytes: Arc<AtomicU64>,
    pub(crate) state: Arc<dyn StateStore>,
}

/// Opens the stores in a folder.
pub(crate) fn stores(folder: &Folder, options: &EngineOptions) -> Result<Stores, EngineError> {
    let fail = |what: &str, error| EngineError::Open {
        folder: folder.path().to_owned(),
        why: describe(folder.path(), what, &error),
    };
    let state = RocksState::open(&folder.state(), options.state).map_err(|error| fail("the state", error))?;
    let log = RocksLog::open(&folder.log()).map_err(|error| fail("the Raft log", error))?;
    Ok(Stores { state: Arc::new(state), log: Box::new(log) })
}

/// Starts the machine on its stores, and its threads.
pub(crate) fn start(
    options: &EngineOptions,
    folder: &Arc<Folder>,
    stores: Stores,
    inbox: &Arc<Inbox>,
    transport: &Arc<Transport>,
) -> Result<Running, EngineError> {
    let fail = |why: String| EngineError::Open { folder: folder.path().to_owned(), why };
    let Stores { state: store, mut log } = stores;
    let images = log.load().map_err(|error| fail(describe(folder.path(), "the Raft log", &error)))?;
    let failure = Arc::new(Failure::new(folder.path().to_owned(), inbox.clone()));
    let seed = u64::from_le_bytes(crate::random_bytes()?);
    let node = Node::open(options.config(seed), store.clone(), images, clock::now())
        .map_err(|error| fail(error.to_string()))?;

    let disk_bytes = Arc::new(AtomicU64::new(size_bytes(&folder.stores())));
    let log_writes = Arc::new(WriteStats::default());
    let status = node.status();
    let (sender, status) = watch::channel(Arc::new(EngineStatus {
        node: status.node,
        groups: status.groups,
        peers: BTreeMap::new(),
        disk_bytes: disk_bytes.load(Ordering::Relaxed),
        log_writes: log_writes.counts(),
        failure: None,
    }));
    let board = StatusBoard {
        sender,
        log_writes: log_writes.clone(),
        disk_bytes: disk_bytes.clone(),
        due: None,
        urgent: false,
    };

    let (disk, persist_work) = mpsc::channel();
    let (state, state_work) = mpsc::channel();
    let (flushes, flush_work) = mpsc::channel();
    let machine = Machine {
        node,
        inbox: inbox.clone(),
        disk,
        state,
        transport: transport.clone(),
        board,
        failure: failure.clone(),
        waiting: HashMap::new(),
        unreachable: BTreeSet::new(),
    };
    let mut threads = Threads { folder, failure: &failure, handles: Vec::new() };
    threads.spawn("engine-machine", move || machine.run())?;
    threads.spawn("engine-disk", {
        let (inbox, failure) = (inbox.clone(), failure.clone());
        move || workers::persist(log, persist_work, inbox, failure, log_writes)
    })?;
    threads.spawn("engine-apply", {
        let (store, inbox, failure) = (store.clone(), inbox.clone(), failure.clone());
        move || workers::apply(store, state_work, flushes, inbox, failure)
    })?;
    threads.spawn("engine-flush", {
        let (store, inbox, failure) = (store.clone(), inbox.clone(), failure.clone());
        move || workers::flush(store, flush_work, inbox, failure)
    })?;
    let threads = threads.handles;
    Ok(Running { failure, status, threads, disk_bytes, state: store })
}

struct Threads<'a> {
    folder: &'a Arc<Folder>,
    failure: &'a Arc<Failure>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads<'_> {
    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        // The folder stays locked until the last thread that may write into it has ended.
        let folder = self.folder.clone();
        let guard = PanicGuard { failure: self.failure.clone(), thread: name.to_owned() };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _folder = folder;
            let _guard = guard;
            run();
        });
        let why = |error| EngineError::Open {
            folder: self.folder.path().to_owned(),
            why: format!("the system gives no thread: {error}"),
        };
        self.handles.push(thread.map_err(why)?);
        Ok(())
    }
}

/// Stops the engine when one of its threads panics: a fault of ours, after which nothing else can be trusted to go on.
struct PanicGuard {
    failure: Arc<Failure>,
    thread: String,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.fault(&self.thread);
        }
    }
}
