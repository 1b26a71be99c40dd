//! The process that has a pool open: runs the core's machine and serves the local socket.
//!
//! ```text
//!   cluster ----.                                      .----> cluster
//!   links   -----\      +--------------------+        /-----> links
//!   files   ------>---- | one task: the Peer | ------>------> files, store
//!   store   -----/      +--------------------+        \-----> callers, subscribers
//!   calls   ----/        Input        Output
//! ```
//!
//! One task owns the machine. Whatever happens becomes an input with the time; the outputs are handed out without
//! waiting: to tasks (links), threads (files, store) and queues (callers). Nothing here decides: which device is linked, what
//! is asked of whom, what is believed and when something is given up is all in `rockpool-peer-core`.
//!
//! | file | |
//! |---|---|
//! | `running` | the loop: inputs in, outputs out |
//! | `start` | what an earlier run left: entries, members, offers, downloads |
//! | `calls` | requests of the local socket |
//! | `offers` | hashing and offering, withdrawing what changed |
//! | `downloads` | what is remembered of downloads, and who waits for them |
//! | `disk` | the machine's file commands |
//! | `links` | WebRTC connections |
//! | `telling`, `view` | what people are told, and how it looks |
//! | `caller` | whoever is told |
//!
//! The cluster is a [`ClusterPort`]: in production the signalling stream, in tests a relay in this process.

mod caller;
mod calls;
mod disk;
mod downloads;
mod links;
mod offers;
mod running;
mod socket;
mod start;
mod telling;
mod view;

use bytes::Bytes;
use rockpool_peer_core::{DownloadId, Input};
use rockpool_proto::{DeviceId, PoolId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{ApiError, ErrorCode, ReplyBody, Request};
use crate::client::{Cluster, ClusterEvent, Signalling, SignallingHandle};
use crate::home::Home;
use crate::link::LinkConfig;
use crate::store::Written;
use caller::Caller;

/// Things that happened and wait for the loop. While it is full, links are not read and workers wait.
const HAPPENINGS_QUEUED_MAX: usize = 1024;
/// Requests that wait for the loop.
const CALLS_QUEUED_MAX: usize = 64;
/// What a daemon is started with.
pub struct DaemonOptions {
    /// The device's folder.
    pub home: Home,
    /// The cluster.
    pub cluster: Cluster,
    /// The pool to be present in.
    pub pool: PoolId,
    /// Its name.
    pub pool_name: String,
}

/// The way to the other devices before a link stands.
#[async_trait::async_trait]
pub trait ClusterPort: Send {
    /// Hands a signal over, if there is room. It may be lost.
    fn signal(&self, to: DeviceId, payload: Bytes) -> bool;

    /// Addresses of this device changed: finds out soon whether the way still works, and makes it anew if it does not.
    fn probe(&self) {}

    /// Ends the presence.
    async fn close(self: Box<Self>);
}

#[async_trait::async_trait]
impl ClusterPort for SignallingHandle {
    fn signal(&self, to: DeviceId, payload: Bytes) -> bool {
        SignallingHandle::signal(self, to.as_bytes(), payload.to_vec())
    }

    fn probe(&self) {
        SignallingHandle::probe(self);
    }

    async fn close(self: Box<Self>) {
        SignallingHandle::close(*self).await;
    }
}

/// Both directions of the way to the cluster.
pub type ClusterWay = (Box<dyn ClusterPort>, mpsc::Receiver<ClusterEvent>);

/// A daemon's parts, for whoever has another cluster than [`Cluster`] or other links than the usual.
pub struct DaemonParts {
    /// The device's folder.
    pub home: Home,
    /// The pool to be present in.
    pub pool: PoolId,
    /// Its name.
    pub pool_name: String,
    /// How links are made.
    pub links: LinkConfig,
    /// Starts the way to the cluster for this device, once the home is locked.
    pub connect: Box<dyn FnOnce(DeviceId) -> ClusterWay + Send>,
}

/// A pool that is open in this process.
pub struct Daemon {
    calls: mpsc::Sender<Call>,
    task: JoinHandle<Result<(), ApiError>>,
}

impl Daemon {
    /// Opens a pool. Works alone while the cluster is out of reach.
    pub async fn start(options: DaemonOptions) -> Result<Daemon, ApiError> {
        let DaemonOptions { home, cluster, pool, pool_name } = options;
        let connect = Box::new(move |me| {
            let (handle, events) = Signalling::start(cluster, pool, me);
            (Box::new(handle) as Box<dyn ClusterPort>, events)
        });
        Daemon::start_parts(DaemonParts { home, pool, pool_name, links: LinkConfig::default(), connect }).await
    }

    /// Opens a pool over any way to the others.
    pub async fn start_parts(parts: DaemonParts) -> Result<Daemon, ApiError> {
        let (calls, calls_rx) = mpsc::channel(CALLS_QUEUED_MAX);
        let running = start::start(parts, calls.clone()).await?;
        Ok(Daemon { calls, task: tokio::spawn(running.run(calls_rx)) })
    }

    /// Asks something, as a line on the socket would; what is answered arrives on the queue, `Ok` or `Error` last.
    pub async fn ask(&self, request: Request) -> mpsc::Receiver<ReplyBody> {
        let (replies, receiver) = mpsc::channel(caller::QUEUED_MAX);
        // A daemon that has ended drops the caller, and the queue ends without an answer.
        let _ = self.calls.send(Call { request, caller: Caller::queue(replies) }).await;
        receiver
    }

    /// Leaves the pool and waits until everything is closed. The error is why the daemon had ended before, if it had.
    pub async fn stop(self) -> Result<(), ApiError> {
        let _ = self.ask(Request::Close).await;
        self.wait().await
    }

    /// Waits until the pool is closed, by whatever side.
    pub async fn wait(mut self) -> Result<(), ApiError> {
        self.ended().await
    }

    /// The same for whoever may want to do something else with it meanwhile. Once it has answered, it is not asked again.
    pub async fn ended(&mut self) -> Result<(), ApiError> {
        (&mut self.task)
            .await
            .unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, format!("the daemon died: {error}"))))
    }
}

/// A request with whoever waits for its answer.
struct Call {
    request: Request,
    caller: Caller,
}

/// Something that the loop has to know.
enum Happening {
    /// For the machine.
    Input(Input),
    /// From the store's writer.
    Written(Written),
    /// Files were read for an offer, or could not be.
    Hashed(Box<offers::Prepared>),
    /// Own offers whose sources are no longer what was offered.
    SourcesChanged(Vec<rockpool_peer_core::EntryId>),
    /// What an earlier run left of a download was looked at.
    Audited(Box<downloads::Audited>),
    /// A download's folder is ready, or is not.
    Opened(DownloadId, Result<downloads::Opened, ApiError>),
    /// A download is complete and durable.
    Completed(DownloadId, downloads::Completion),
    /// Addresses of this device changed.
    NetworkChanged,
}
