//! The signalling stream for as long as a pool is open: presence, roster, and signals to other devices.
//!
//! One task keeps a stream on whatever node answers, sends pings, and connects again with growing pauses when it breaks.
//! It decides nothing about pools: what arrives goes on as a [`ClusterEvent`]; only an end that must not be undone
//! (fenced, revoked, left) stops it.
//!
//! ```text
//!   Lost ----> Up(Welcome) ----> Message* ----> Lost ----> Up ...          or  ... ----> Ended
//! ```

use crate::api::{ApiError, ErrorCode};
use crate::client::Cluster;
use rockpool_proto::meta::v1::{self as meta, ended::Reason, from_cluster, to_cluster};
use rockpool_proto::{DeviceId, PoolId};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How often a standing stream sees to the session's tokens.
const KEEP_SESSION_INTERVAL: Duration = Duration::from_secs(12 * 60 * 60);
/// Silence after which the stream counts as broken.
const SILENCE_MAX: Duration = Duration::from_secs(7);
/// How long the node may take to answer after this device's addresses changed: most often the stream is dead.
const PROBE_MAX: Duration = Duration::from_millis(1500);
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);
/// How long the cluster may take to close its half of the stream when this device leaves.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Messages that wait for the stream; more are refused, and negotiation repeats them.
const QUEUE_MESSAGES_MAX: usize = 256;

/// What the stream brings.
#[derive(Debug)]
pub enum ClusterEvent {
    /// A stream stands; what it says replaces all that was known of the roster.
    Up(meta::Welcome),
    /// Anything else that the cluster says.
    Message(from_cluster::Kind),
    /// The stream broke or could not be made. It is tried again by itself.
    Lost {
        /// For people.
        text: String,
    },
    /// The presence has ended and must not come back by itself. The last event.
    Ended {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
}

/// The task that keeps the stream.
#[derive(Debug)]
pub struct Signalling;

/// How to talk to the task. Dropping it ends the presence.
#[derive(Debug)]
pub struct SignallingHandle {
    outgoing: mpsc::Sender<meta::ToCluster>,
    probes: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Signalling {
    /// Starts keeping a stream for this device, `me`, in `pool`.
    pub fn start(cluster: Cluster, pool: PoolId, me: DeviceId) -> (SignallingHandle, mpsc::Receiver<ClusterEvent>) {
        let (outgoing, queue) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let (events, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let (probes, probed) = watch::channel(());
        let task = tokio::spawn(keep(cluster, pool, me, queue, probed, events));
        (SignallingHandle { outgoing, probes, task }, receiver)
    }
}

impl SignallingHandle {
    /// Sends a signal to another device, if there is room. It is lost when no stream stands: negotiation repeats.
    pub fn signal(&self, to_device_id: &[u8], payload: Vec<u8>) -> bool {
        let signal = meta::Signal {
            from_device_id: Default::default(),
            to_device_id: to_device_id.to_vec().into(),
            payload: payload.into(),
        };
        self.outgoing.try_send(meta::ToCluster { kind: Some(to_cluster::Kind::Signal(signal)) }).is_ok()
    }

    /// Asks whether the stream still works; if it does not, it is made anew at once.
    pub fn probe(&self) {
        self.probes.send_replace(());
    }

    /// Ends the stream, and with it the presence.
    pub async fn close(self) {
        drop(self.outgoing);
        let _ = tokio::time::timeout(GOODBYE_DEADLINE, self.task).await;
    }
}

enum StreamEnd {
    /// Broken; to be made again. `worked` when there was a Welcome.
    Broken { text: String, worked: bool },
    /// Over for good.
    Final { reason: Reason, text: String },
    /// Nobody wants it any more.
    Unwanted,
}

async fn keep(
    cluster: Cluster,
    pool: PoolId,
    me: DeviceId,
    mut queue: mpsc::Receiver<meta::ToCluster>,
    mut probed: watch::Receiver<()>,
    events: mpsc::Sender<ClusterEvent>,
) {
    let mut pause = BACK_OFF_MIN;
    let mut place = None;
    loop {
        match run(&cluster, pool, me, &mut place, &mut queue, &mut probed, &events).await {
            StreamEnd::Unwanted => return,
            StreamEnd::Final { reason, text } => {
                let _ = events.send(ClusterEvent::Ended { reason, text }).await;
                return;
            }
            StreamEnd::Broken { text, worked } => {
                if worked {
                    pause = BACK_OFF_MIN;
                }
                if events.send(ClusterEvent::Lost { text }).await.is_err() {
                    return;
                }
                // Signals that pile up now are stale before the stream is back, and a closed queue means: stop.
                let waited = tokio::time::sleep(pause);
                tokio::pin!(waited);
                loop {
                    tokio::select! {
                        () = &mut waited => break,
                        // Another network: what did not work a moment ago may work now.
                        Ok(()) = probed.changed() => {
                            pause = BACK_OFF_MIN;
                            break;
                        }
                        message = queue.recv() => if message.is_none() { return },
                    }
                }
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

async fn run(
    cluster: &Cluster,
    pool: PoolId,
    me: DeviceId,
    place: &mut Option<meta::Place>,
    queue: &mut mpsc::Receiver<meta::ToCluster>,
    probed: &mut watch::Receiver<()>,
    events: &mpsc::Sender<ClusterEvent>,
) -> StreamEnd {
    let (up, outgoing) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let open = meta::Open { pool_id: pool.0.to_vec().into(), last_place: place.clone() };
    up.try_send(meta::ToCluster { kind: Some(to_cluster::Kind::Open(open)) }).expect("the queue is new and has room");
    let attached = tokio::select! {
        attached = cluster.attach(outgoing) => attached,
        Ok(()) = probed.changed() => {
            cluster.rotate();
            return StreamEnd::Broken { text: "this device's addresses changed".into(), worked: true };
        }
    };
    let mut stream = match attached {
        Ok(stream) => stream,
        Err(error) => return refused(error),
    };
    let mut worked = false;
    let mut nonce = 0;
    let mut pings = tokio::time::interval(PING_INTERVAL);
    let mut session = tokio::time::interval(KEEP_SESSION_INTERVAL);
    let mut heard = Instant::now();
    let mut probe_deadline = None;
    loop {
        let silence = heard + if worked { SILENCE_MAX } else { WELCOME_DEADLINE };
        let broken_at = probe_deadline.map_or(silence, |deadline| silence.min(deadline));
        tokio::select! {
            message = stream.message() => {
                (heard, probe_deadline) = (Instant::now(), None);
                let kind = match message {
                    Ok(Some(message)) => message.kind,
                    Ok(None) => {
                        cluster.rotate();
                        return StreamEnd::Broken { text: "the node closed the stream".into(), worked };
                    }
                    Err(status) => {
                        if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled) {
                            cluster.rotate();
                        }
                        return match refused(ApiError::new(classify(&status), status.message())) {
                            StreamEnd::Broken { text, .. } => StreamEnd::Broken { text, worked },
                            end => end,
                        };
                    }
                };
                let event = match kind {
                    Some(from_cluster::Kind::Welcome(welcome)) => {
                        worked = true;
                        let nodes = welcome.roster.iter().flat_map(|roster| &roster.nodes);
                        remember_place(place, me, nodes);
                        ClusterEvent::Up(welcome)
                    }
                    Some(from_cluster::Kind::Pong(_)) | None => continue,
                    Some(from_cluster::Kind::Ended(ended)) => match ended.reason() {
                        reason @ (Reason::Fenced | Reason::Revoked | Reason::Left) => {
                            return StreamEnd::Final { reason, text: ended.text };
                        }
                        Reason::Moved => {
                            cluster.rotate();
                            return StreamEnd::Broken { text: ended.text, worked };
                        }
                        _ => return StreamEnd::Broken { text: ended.text, worked },
                    },
                    Some(from_cluster::Kind::Roster(change)) => {
                        let whole = change.whole.iter().flat_map(|roster| &roster.nodes);
                        remember_place(place, me, change.joined.iter().chain(&change.moved).chain(whole));
                        ClusterEvent::Message(from_cluster::Kind::Roster(change))
                    }
                    Some(kind) => ClusterEvent::Message(kind),
                };
                if events.send(event).await.is_err() {
                    return StreamEnd::Unwanted;
                }
            }
            message = queue.recv() => match message {
                Some(message) => {
                    if up.send(message).await.is_err() {
                        return StreamEnd::Broken { text: "the node closed the stream".into(), worked };
                    }
                }
                None => {
                    // Closing one's own half says goodbye. Hanging up at once would look like a broken connection, for which
                    // the others wait: so the cluster's half is awaited, as long as `close` waits for this task.
                    drop(up);
                    let goodbye = async { while let Ok(Some(_)) = stream.message().await {} };
                    let _ = tokio::time::timeout(GOODBYE_DEADLINE, goodbye).await;
                    return StreamEnd::Unwanted;
                }
            },
            _ = pings.tick() => {
                nonce += 1;
                let _ = up.try_send(meta::ToCluster { kind: Some(to_cluster::Kind::Ping(meta::Ping { nonce })) });
            }
            _ = session.tick() => {
                let cluster = cluster.clone();
                tokio::spawn(async move {
                    if let Err(error) = cluster.keep_session().await {
                        tracing::warn!(%error, "the session's tokens could not be exchanged");
                    }
                });
            }
            Ok(()) = probed.changed() => {
                probe_deadline.get_or_insert(Instant::now() + PROBE_MAX);
                pings.reset_immediately();
            }
            () = tokio::time::sleep_until(broken_at) => {
                cluster.rotate();
                return StreamEnd::Broken { text: "the node fell silent".into(), worked };
            }
        }
    }
}

/// Keeps the seat last given to this device, which it claims when a new owner rebuilds the tree.
fn remember_place<'a>(
    place: &mut Option<meta::Place>,
    me: DeviceId,
    nodes: impl Iterator<Item = &'a meta::RosterNode>,
) {
    for node in nodes.filter(|node| node.device_id == me.0[..]) {
        place.clone_from(&node.place);
    }
}

/// An answer that ends the presence, or one that is worth another try.
fn refused(error: ApiError) -> StreamEnd {
    match error.code {
        ErrorCode::Denied | ErrorCode::NotFound => StreamEnd::Final { reason: Reason::Expired, text: error.message },
        _ => StreamEnd::Broken { text: error.message, worked: false },
    }
}

fn classify(status: &tonic::Status) -> ErrorCode {
    match status.code() {
        tonic::Code::PermissionDenied => ErrorCode::Denied,
        tonic::Code::NotFound => ErrorCode::NotFound,
        _ => ErrorCode::Unavailable,
    }
}
