//! The embeddable engine.

use crate::clock;
use crate::error::EngineError;
use crate::failure::Failure;
use crate::folder::{Folder, size_bytes};
use crate::inbox::{Inbox, Refused};
use crate::open::{self, Stores};
use crate::options::EngineOptions;
use crate::past::Past;
use crate::status::EngineStatus;
use crate::transport::{Transport, TransportService};
use parking_lot::Mutex;
use rockpool_engine::kv::{StateStore, StoreError};
use rockpool_engine::{
    Config, GroupId, Input, MembershipChange, NodeId, Reply, RequestId, RetryReason, Timestamp, Transaction,
    TransactionError, TxnId,
};
use rockpool_proto::engine::v1::transport_server::TransportServer;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long a shutdown waits for another node to take the leadership, and then for open requests.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(3);
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);
/// How often old versions are collected and the folder is measured.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(30);

/// A node's engine. Clones are handles on the same one.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    group: GroupId,
    store: Mutex<Option<Arc<dyn StateStore>>>,
    inbox: Arc<Inbox>,
    failure: Arc<Failure>,
    transport: Arc<Transport>,
    status: watch::Receiver<Arc<EngineStatus>>,
    next_request: AtomicU64,
    /// Requests that have not been answered.
    open_requests: AtomicUsize,
    request_ended: Notify,
    shutting_down: AtomicBool,
    stop: CancellationToken,
    /// Joined by the first shutdown.
    threads: Mutex<Vec<JoinHandle<()>>>,
    folder: Mutex<Option<Arc<Folder>>>,
}

impl Engine {
    /// Opens the engine. Returns when the stores are open and the machine runs; whether there is a leader shows in the
    /// status.
    pub async fn open(options: EngineOptions) -> Result<Engine, EngineError> {
        Engine::open_on(options, open::stores).await
    }

    /// Opens the engine on stores of the caller's choice.
    pub(crate) async fn open_on(
        options: EngineOptions,
        stores: impl FnOnce(&Folder, &EngineOptions) -> Result<Stores, EngineError> + Send + 'static,
    ) -> Result<Engine, EngineError> {
        let (data_dir, keep_versions) = (options.data_dir.clone(), options.keep_versions);
        let inbox = Arc::new(Inbox::new(options.requests_max));
        let transport = Transport::new(options.node, options.transport.clone(), inbox.clone());
        let opening = tokio::task::spawn_blocking({
            let (inbox, transport) = (inbox.clone(), transport.clone());
            move || {
                let folder = Arc::new(Folder::open(&options.data_dir)?);
                let stores = stores(&folder, &options)?;
                let running = open::start(&options, &folder, stores, &inbox, &transport);
                if running.is_err() {
                    // Ends what was started.
                    inbox.close();
                }
                Ok((running?, folder))
            }
        });
        let (running, folder) = opening.await.map_err(|error| EngineError::Open {
            folder: data_dir,
            why: format!("opening it failed halfway: {error}"),
        })??;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            group: Config::FIRST_GROUP,
            store: Mutex::new(Some(running.state)),
            inbox,
            failure: running.failure,
            transport,
            status: running.status,
            next_request: AtomicU64::new(1),
            open_requests: AtomicUsize::new(0),
            request_ended: Notify::new(),
            shutting_down: AtomicBool::new(false),
            stop: stop.clone(),
            threads: Mutex::new(running.threads),
            folder: Mutex::new(Some(folder.clone())),
        });
        let weak = Arc::downgrade(&shared);
        let (disk_bytes, stores) = (running.disk_bytes, folder.stores());
        tokio::spawn(async move {
            let mut period = tokio::time::interval(HOUSEKEEPING_PERIOD);
            let mut past = Past::default();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = period.tick() => {}
                }
                let Some(shared) = weak.upgrade() else { return };
                Engine { shared }.keep_house(&mut past, keep_versions, &disk_bytes, &stores).await;
            }
        });
        Ok(Engine { shared })
    }

    /// Begins a transaction that sees everything committed before the call, on whichever node.
    pub async fn begin(&self) -> Result<Transaction, EngineError> {
        let group = self.shared.group;
        match self.request(|request| Input::Begin { request, group }).await? {
            Reply::Begun { read_timestamp } => {
                // Taken after the reply, as the machine asks.
                let store = self.shared.store.lock().clone().ok_or(EngineError::ShuttingDown)?;
                let view = store.view().map_err(|error| self.store_failed(&error))?;
                let transaction =
                    Transaction::new(view, group, read_timestamp).map_err(|error| self.not_begun(error))?;
                let failure = self.shared.failure.clone();
                Ok(transaction.with_alarm(move |error| failure.store("the state", error)))
            }
            other => Err(unexpected(other)),
        }
    }

    /// Commits a transaction. Returns its timestamp, or nothing for one that wrote nothing: it saw a consistent picture,
    /// and that is all.
    pub async fn commit(&self, transaction: Transaction) -> Result<Option<Timestamp>, EngineError> {
        if transaction.is_read_only() {
            return Ok(None);
        }
        let txn = TxnId(crate::random_bytes()?);
        let commit = transaction.into_commit(txn);
        let (group, read_timestamp) = (commit.group, commit.read_timestamp);
        match self.ask(|request| Input::Commit { request, commit }).await? {
            Some(Reply::Committed { timestamp }) => Ok(Some(timestamp)),
            Some(Reply::Unknown) => {
                match self.ask(|request| Input::QueryOutcome { request, group, txn, read_timestamp }).await {
                    Ok(Some(Reply::Committed { timestamp })) => Ok(Some(timestamp)),
                    Ok(Some(Reply::Aborted)) => Err(EngineError::Aborted),
                    // Whatever kept the question from being answered, it was the commit's outcome that was asked for.
                    Ok(_) | Err(_) => Err(self.unknown_outcome()),
                }
            }
            // The machine stopped with the commit on its way: another node may carry it out.
            None => Err(self.unknown_outcome()),
            Some(other) => Err(unexpected(other)),
        }
    }

    fn unknown_outcome(&self) -> EngineError {
        let why = self.shared.failure.text().unwrap_or_else(|| "nobody who knows answered in time".into());
        EngineError::Unknown(why)
    }

    /// Adds a node, which listens at `address`: it becomes a voter once it has caught up. Any node may be asked.
    pub async fn add_node(&self, node: NodeId, address: String) -> Result<(), EngineError> {
        self.shared.transport.add_peer(node, address)?;
        self.change_membership(MembershipChange::Add(node)).await
    }

    /// Removes a node, voter or learner. Any node may be asked.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), EngineError> {
        self.change_membership(MembershipChange::Remove(node)).await
    }

    async fn change_membership(&self, change: MembershipChange) -> Result<(), EngineError> {
        let group = self.shared.group;
        done(self.request(|request| Input::ChangeMembership { request, group, change }).await?)
    }

    /// Hands leadership over if this node has it, to `to` or to whoever is most up to date. Returns when another leads.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), EngineError> {
        let group = self.shared.group;
        done(self.request(|request| Input::TransferLeadership { request, group, to }).await?)
    }

    /// How the engine is doing.
    pub fn status(&self) -> Arc<EngineStatus> {
        let status = self.shared.status.borrow().clone();
        match self.shared.failure.text() {
            // A machine that died could not say so itself.
            Some(text) if status.failure.is_none() => {
                Arc::new(EngineStatus { failure: Some(text), ..EngineStatus::clone(&status) })
            }
            _ => status,
        }
    }

    /// The status as it changes; leaders, members and failures without delay.
    pub fn subscribe(&self) -> watch::Receiver<Arc<EngineStatus>> {
        self.shared.status.clone()
    }

    /// Takes over where the nodes listen, "host:port". Its own entry is ignored.
    pub fn set_peers(&self, addresses: &BTreeMap<NodeId, String>) -> Result<(), EngineError> {
        self.shared.transport.set_peers(addresses)
    }

    /// The service that takes other nodes' messages, to be mounted on the node's gRPC listener. That listener asks for
    /// client certificates; the service refuses callers without one. It should turn Nagle's algorithm off and open HTTP/2
    /// windows of some MiB, or log entries wait for acknowledgements.
    pub fn grpc_service(&self) -> TransportServer<TransportService> {
        TransportService::server(self.shared.transport.clone())
    }

    /// Stops in order: leadership first, then open requests, then the threads; the state is flushed and the folder let
    /// go. Returns when all that is done; a second call waits for nothing.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        if shared.shutting_down.swap(true, Ordering::SeqCst) {
            return;
        }
        let status = self.status();
        if status.failure.is_none()
            && status.leads(shared.group)
            && status.group(shared.group).is_some_and(|group| group.voters.len() > 1)
        {
            let group = shared.group;
            let transfer = self.put(|request| Input::TransferLeadership { request, group, to: None });
            let hand_over = tokio::time::timeout(HAND_OVER_DEADLINE, transfer).await;
            tracing::info!(?hand_over, "leadership handed over");
        }
        let drained = async {
            loop {
                let ended = shared.request_ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if shared.open_requests.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            tracing::warn!("requests were still open when the engine stopped");
        }
        shared.inbox.close();
        shared.stop.cancel();
        shared.transport.stop().await;
        let threads = std::mem::take(&mut *shared.threads.lock());
        let store = shared.store.lock().take();
        let failed = self.shared.failure.text().is_some();
        let stopping = tokio::task::spawn_blocking(move || {
            join(threads);
            if let Some(store) = store
                && !failed
                && let Err(error) = store.flush()
            {
                tracing::error!(%error, "the last flush failed; the Raft log has what it would have written");
            }
        });
        if stopping.await.is_err() {
            tracing::error!("stopping the engine's threads failed");
        }
        shared.folder.lock().take();
    }

    /// Asks the machine and waits for its answer.
    async fn request(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Reply, EngineError> {
        self.ask(input).await?.ok_or_else(|| self.shared.failure.error())
    }

    /// Asks the machine, unless the engine is being shut down, and waits. No answer when the machine stopped meanwhile.
    async fn ask(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Option<Reply>, EngineError> {
        if self.shared.shutting_down.load(Ordering::SeqCst) {
            return Err(EngineError::ShuttingDown);
        }
        self.put(input).await
    }

    async fn put(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Option<Reply>, EngineError> {
        let shared = &self.shared;
        let request = RequestId(shared.next_request.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        let _open = OpenRequest::new(shared);
        match shared.inbox.push_request(request, input(request), sender) {
            // The machine answers every request by a deadline of its own, or stops.
            Ok(()) => Ok(receiver.await.ok()),
            Err(Refused::Full) => Err(EngineError::Retry(RetryReason::Overloaded)),
            Err(Refused::Closed) => Err(shared.failure.error()),
        }
    }

    fn store_failed(&self, error: &StoreError) -> EngineError {
        self.shared.failure.store("the state", error);
        self.shared.failure.error()
    }

    /// The state can't be read, or not there.
    fn not_begun(&self, error: TransactionError) -> EngineError {
        match error {
            TransactionError::Store(error) => self.store_failed(&error),
            other => EngineError::Transaction(other),
        }
    }

    /// Lets old versions go, if this node leads, and measures the folder.
    async fn keep_house(&self, past: &mut Past, keep_versions: Duration, disk_bytes: &AtomicU64, stores: &[PathBuf]) {
        let group = self.shared.group;
        let (status, now) = (self.status(), clock::now().time);
        // A node that has to catch up first knows an old commit, which is on the safe side.
        if let Some(replica) = status.group(group) {
            past.note(now, replica.last_commit);
        }
        let keep_us = u64::try_from(keep_versions.as_micros()).unwrap_or(u64::MAX);
        if status.leads(group)
            && let Some(safe_point) = past.before(now, keep_us)
        {
            let collected = self.request(|request| Input::Collect { request, group, safe_point }).await;
            tracing::debug!(?collected, "old versions");
        }
        let stores = stores.to_vec();
        if let Ok(bytes) = tokio::task::spawn_blocking(move || size_bytes(&stores)).await {
            disk_bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

/// Counts a request while it is open.
struct OpenRequest<'a>(&'a Shared);

impl<'a> OpenRequest<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.open_requests.fetch_add(1, Ordering::SeqCst);
        OpenRequest(shared)
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        if self.0.open_requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.request_ended.notify_waiters();
        }
    }
}

/// The last handle is gone without a shutdown: everything ends as after a kill, and is found again at the next start. Waits
/// for the threads, each of which is at most one write away from its end: the folder is free afterwards, and no thread is
/// inside RocksDB when the process ends.
impl Drop for Shared {
    fn drop(&mut self) {
        self.inbox.close();
        self.stop.cancel();
        self.transport.cancel();
        join(std::mem::take(self.threads.get_mut()));
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("one of the engine's threads had panicked");
        }
    }
}

fn done(reply: Reply) -> Result<(), EngineError> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// A reply that is not the good one.
fn unexpected(reply: Reply) -> EngineError {
    match reply {
        Reply::Conflict { key } => EngineError::Conflict { key },
        Reply::Retry(reason) => EngineError::Retry(reason),
        Reply::Aborted => EngineError::Aborted,
        Reply::Refused(refusal) => EngineError::Refused(refusal),
        // The good replies, where another was due, tell as little as none.
        Reply::Unknown | Reply::Begun { .. } | Reply::Committed { .. } | Reply::Done => {
            EngineError::Unknown("the answer was to another question".into())
        }
    }
}
