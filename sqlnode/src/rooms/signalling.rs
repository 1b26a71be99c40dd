//! The stream of one device, on the node that accepted it.
//!
//! It checks who the device is, records its presence, finds the room, and then carries messages to and fro until either
//! side ends it. What is decided about the roster is decided in the room.

use std::time::Duration;

use rockpool_proto::PoolId;
use rockpool_proto::limits::{CLIENT_RPC_BYTES_MAX, SIGNAL_BYTES_MAX};
use rockpool_proto::meta::v1::signalling_server::{Signalling, SignallingServer};
use rockpool_proto::meta::v1::{FromCluster, Open, Ping, ToCluster, from_cluster, to_cluster};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::line::{Line, Ticket};
use super::room::{EndReason, Identity, SILENCE_MAX, end_text};
use super::{Rooms, convert, presence};
use crate::database::{DbError, Refusal, RefusalKind};
use crate::services::sessions::Caller;
use crate::services::validate;

/// How long a device may take to say which pool it wants.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a room is looked for.
const ROOM_WITHIN: Duration = Duration::from_secs(12);
/// How long the room may leave a ping unanswered before the line counts as dead.
const PONG_WITHIN: Duration = Duration::from_secs(4);
/// Messages on the way to the device.
const DOWNWARD_MAX: usize = 64;

type Downward = mpsc::Sender<Result<FromCluster, Status>>;

impl Rooms {
    /// The service for devices, to be mounted with the others.
    pub fn signalling_server(&self) -> SignallingServer<Rooms> {
        SignallingServer::new(self.clone()).max_decoding_message_size(CLIENT_RPC_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Signalling for Rooms {
    type AttachStream = ReceiverStream<Result<FromCluster, Status>>;

    async fn attach(&self, request: Request<Streaming<ToCluster>>) -> Result<Response<Self::AttachStream>, Status> {
        let caller = crate::services::caller(self.database(), request.metadata()).await?;
        let up = request.into_inner();
        let (down, stream) = mpsc::channel(DOWNWARD_MAX);
        let rooms = self.clone();
        tokio::spawn(async move {
            // Everything about the device's end of the stream ends with this task, so a device that hangs up while its room
            // is being looked for is let go of at once.
            let hung_up = down.clone();
            tokio::select! {
                outcome = rooms.serve(caller, up, &down) => if let Err(status) = outcome {
                    down.send(Err(status)).await.ok();
                },
                () = hung_up.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Rooms {
    async fn serve(&self, caller: Caller, mut up: Streaming<ToCluster>, down: &Downward) -> Result<(), Status> {
        let open = first_message(&mut up).await?;
        let pool = PoolId(validate::bytes("pool's id", &open.pool_id).map_err(DbError::from)?);
        let me = self.nodes().me();
        if self.stopping().is_cancelled() {
            return end(down, EndReason::Moved).await;
        }
        let opened = self.database().transaction(|tx| presence::open(tx, &caller, pool, me)).await?;
        self.evict_withdrawn(opened.elsewhere, EndReason::Fenced);
        let identity = Identity { account: caller.account, device: caller.device };
        let presence_epoch = opened.presence_epoch;
        let ticket = Ticket { pool, identity, presence_epoch, last_place: open.last_place };
        let line = tokio::select! {
            // First, because a node that is stopping finds no rooms either.
            biased;
            () = self.stopping().cancelled() => return end(down, EndReason::Moved).await,
            line = timeout(ROOM_WITHIN, self.line(&ticket)) => line,
        };
        let line = line.map_err(|_| no_room())??;
        self.carry(line, up, down).await
    }

    /// Carries messages until one side ends.
    async fn carry(&self, mut line: Line, mut up: Streaming<ToCluster>, down: &Downward) -> Result<(), Status> {
        let mut ping_unanswered_since: Option<Instant> = None;
        let mut heard_at = Instant::now();
        loop {
            let line_dies_at = ping_unanswered_since.map(|since| since + PONG_WITHIN);
            tokio::select! {
                message = up.message() => match message {
                    Ok(Some(message)) => {
                        heard_at = Instant::now();
                        check(&message)?;
                        if matches!(message.kind, Some(to_cluster::Kind::Ping(_))) {
                            ping_unanswered_since.get_or_insert_with(Instant::now);
                        }
                        if !line.send(message).await {
                            return end(down, EndReason::Moved).await;
                        }
                    }
                    Ok(None) => {
                        line.leave().await;
                        return Ok(());
                    }
                    // Malformed or oversized, or the connection broke: either way this stream is over.
                    Err(status) => return Err(status),
                },
                message = line.next() => match message {
                    Some(message) => {
                        if matches!(message.kind, Some(from_cluster::Kind::Pong(_))) {
                            ping_unanswered_since = None;
                        }
                        let last = matches!(message.kind, Some(from_cluster::Kind::Ended(_)));
                        if down.send(Ok(message)).await.is_err() || last {
                            return Ok(());
                        }
                    }
                    None => return end(down, EndReason::Moved).await,
                },
                () = tokio::time::sleep_until(line_dies_at.unwrap_or(heard_at)), if line_dies_at.is_some() => {
                    return end(down, EndReason::Moved).await;
                }
                // The room does the same; this is for a device whose line was lost on the way there.
                () = tokio::time::sleep_until(heard_at + SILENCE_MAX + PONG_WITHIN) => {
                    return end(down, EndReason::Moved).await;
                }
                () = self.stopping().cancelled() => return end(down, EndReason::Moved).await,
            }
        }
    }
}

async fn first_message(up: &mut Streaming<ToCluster>) -> Result<Open, Status> {
    let first = timeout(OPEN_WITHIN, up.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("No Open came. Send it as the first message."))??;
    match first.and_then(|message| message.kind) {
        Some(to_cluster::Kind::Open(open)) => Ok(open),
        _ => Err(Status::invalid_argument(
            "The first message of this stream has to be Open. Send it, then wait for Welcome.",
        )),
    }
}

/// Refuses what no client of ours would send.
fn check(message: &ToCluster) -> Result<(), Status> {
    match &message.kind {
        Some(to_cluster::Kind::Signal(signal)) if signal.payload.len() > SIGNAL_BYTES_MAX => {
            Err(Status::invalid_argument(format!(
                "A signal has {} bytes. Send at most {SIGNAL_BYTES_MAX}.",
                signal.payload.len()
            )))
        }
        Some(to_cluster::Kind::Signal(_) | to_cluster::Kind::Ping(Ping { .. })) => Ok(()),
        Some(to_cluster::Kind::Open(_)) => Err(Status::invalid_argument(
            "Open was sent twice. Use another stream for another pool; it takes this one's place.",
        )),
        None => Err(Status::invalid_argument("A message of a kind that this node does not know. Update the node.")),
    }
}

async fn end(down: &Downward, reason: EndReason) -> Result<(), Status> {
    down.send(Ok(convert::ended(reason, end_text(reason)))).await.ok();
    Ok(())
}

fn no_room() -> DbError {
    let text = "The node that keeps this pool's roster can't be reached and could not be replaced in time. Try again.";
    Refusal::for_now(RefusalKind::Unavailable, text, Duration::from_millis(500)).into()
}
