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
//!
//! The cluster is a [`ClusterPort`]: in production the signalling stream, in tests a relay in this process.

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

use std::sync::Arc;

use bytes::Bytes;
use rockpool_peer_core::{DownloadId, Input};
use rockpool_proto::{DeviceId, PoolId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{ApiError, ErrorCode, Event, Reply, ReplyBody, ReplyLine, Request};
use crate::client::{Cluster, ClusterEvent, Signalling, SignallingHandle};
use crate::home::Home;
use crate::link::LinkConfig;
use crate::store::Written;

/// Things that happened and wait for the loop. While it is full, links are not read and workers wait.
const HAPPENINGS_QUEUED_MAX: usize = 1024;
/// Requests that wait for the loop.
const CALLS_QUEUED_MAX: usize = 64;
/// Events that wait for one slow subscriber within this process.
const REPLIES_QUEUED_MAX: usize = 1024;

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

    /// Ends the presence.
    async fn close(self: Box<Self>);
}

#[async_trait::async_trait]
impl ClusterPort for SignallingHandle {
    fn signal(&self, to: DeviceId, payload: Bytes) -> bool {
        SignallingHandle::signal(self, to.as_bytes(), payload.to_vec())
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
        let (replies, receiver) = mpsc::channel(REPLIES_QUEUED_MAX);
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
    pub async fn wait(self) -> Result<(), ApiError> {
        self.task
            .await
            .unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, format!("the daemon died: {error}"))))
    }
}

/// A request with whoever waits for its answer.
pub(crate) struct Call {
    request: Request,
    caller: Caller,
}

/// Whoever waits for an answer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller {
    way: Arc<Way>,
}

enum Way {
    Line {
        id: u64,
        lines: mpsc::Sender<ReplyLine>,
    },
    Queue(mpsc::Sender<ReplyBody>),
    /// Nobody: the daemon asked itself.
    Nobody,
}

impl Caller {
    fn line(id: u64, lines: mpsc::Sender<ReplyLine>) -> Caller {
        Caller { way: Arc::new(Way::Line { id, lines }) }
    }

    fn queue(replies: mpsc::Sender<ReplyBody>) -> Caller {
        Caller { way: Arc::new(Way::Queue(replies)) }
    }

    fn nobody() -> Caller {
        Caller { way: Arc::new(Way::Nobody) }
    }

    /// Says something. Whoever does not read does not hold up the loop: false when the queue is full or gone.
    fn say(&self, body: ReplyBody) -> bool {
        match &*self.way {
            Way::Line { id, lines } => lines.try_send(ReplyLine { id: *id, body }).is_ok(),
            Way::Queue(replies) => replies.try_send(body).is_ok(),
            Way::Nobody => true,
        }
    }

    fn event(&self, event: Event) -> bool {
        self.say(ReplyBody::Event(event))
    }

    fn answer(&self, answer: Result<Reply, ApiError>) {
        let body = match answer {
            Ok(reply) => ReplyBody::Ok(reply),
            Err(error) => ReplyBody::Error(error),
        };
        if !self.say(body) {
            tracing::debug!("an answer that nobody reads");
        }
    }

    /// Whether anybody still listens.
    fn is_gone(&self) -> bool {
        match &*self.way {
            Way::Line { lines, .. } => lines.is_closed(),
            Way::Queue(replies) => replies.is_closed(),
            Way::Nobody => false,
        }
    }
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
    Opened(DownloadId, Result<Arc<crate::files::Download>, ApiError>),
    /// A download is complete and durable.
    Completed(DownloadId, downloads::Completion),
}
