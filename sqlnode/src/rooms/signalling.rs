//! The stream of one device, on the node that accepted it.
//!
//! It checks who the device is, records its presence, finds the room, and then carries messages to and fro until either
//! side ends it. What is decided about the roster is decided in the room.
//!
//! Neither end of a stream can hold others up. What the room says is always taken at once, because the lines of all devices
//! between two nodes share one connection: a device that doesn't read loses its stream, and signals to it are dropped
//! before that. A device that sends too much is read more slowly.

use std::time::Duration;

use rockpool_proto::limits::{
    CLIENT_MESSAGES_BURST_MAX, CLIENT_MESSAGES_PER_SECOND_MAX, CLIENT_RPC_BYTES_MAX, SIGNAL_BYTES_MAX,
    SIGNALS_BYTES_BURST_MAX, SIGNALS_BYTES_PER_SECOND_MAX,
};
use rockpool_proto::meta::v1::signalling_server::{Signalling, SignallingServer};
use rockpool_proto::meta::v1::{FromCluster, Open, Ping, ToCluster, from_cluster, to_cluster};
use rockpool_proto::{DeviceId, PoolId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::line::{Line, Ticket};
use super::presence::Absence;
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
/// Messages that wait for the device before it counts as too slow.
const DOWNWARD_MAX: usize = 1_024;
/// Messages that wait for the device before further signals to it are dropped.
const DOWNWARD_SIGNALS_MAX: usize = 128;

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
                // First, so that a goodbye counts before the hanging up behind it.
                biased;
                outcome = rooms.serve(caller, up, &down) => if let Err(status) = outcome {
                    down.try_send(Err(status)).ok();
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
        let rooms = self.clone();
        // A task of its own, so that a presence that begins while the device hangs up is noticed, and ends.
        let opening = tokio::spawn(async move {
            let opened = rooms.database().transaction(|tx| presence::open(tx, &caller, pool, me)).await?;
            let presence_epoch = opened.presence_epoch;
            Ok::<_, DbError>((opened, Arriving { rooms, device: caller.device, presence_epoch, seated: false }))
        });
        let (opened, arriving) = opening.await.map_err(|_| DbError::Stopping)??;
        self.evict_withdrawn(opened.elsewhere, EndReason::Fenced);
        let identity = Identity { account: caller.account, device: caller.device };
        let presence_epoch = opened.presence_epoch;
        let ticket = Ticket { pool, identity, presence_epoch, last_place: open.last_place };
        let absence = self.database().transaction(|tx| presence::absence(tx, caller.device, pool, &opened));
        let (line, absence) = tokio::select! {
            // First, because a node that is stopping finds no rooms either.
            biased;
            () = self.stopping().cancelled() => return end(down, EndReason::Moved).await,
            found = async { tokio::join!(timeout(ROOM_WITHIN, self.line(&ticket)), timeout(ROOM_WITHIN, absence)) } => found,
        };
        let line = line.map_err(|_| no_room())??;
        arriving.seat();
        // It is only for people to know: who can't be told is not kept waiting.
        let absence = absence.ok().and_then(Result::ok);
        self.carry(line, absence, up, down).await
    }

    /// Carries messages until one side ends.
    async fn carry(
        &self,
        mut line: Line,
        mut absence: Option<Absence>,
        mut up: Streaming<ToCluster>,
        down: &Downward,
    ) -> Result<(), Status> {
        let mut ping_unanswered_since: Option<Instant> = None;
        let mut heard_at = Instant::now();
        let mut allowance = Allowance::full(heard_at);
        loop {
            let line_dies_at = ping_unanswered_since.map(|since| since + PONG_WITHIN);
            let read_again_at = allowance.ready_at();
            tokio::select! {
                message = up.message(), if read_again_at.is_none() => match message {
                    Ok(Some(message)) => {
                        heard_at = Instant::now();
                        check(&message)?;
                        let bytes = match &message.kind {
                            Some(to_cluster::Kind::Signal(signal)) => signal.payload.len(),
                            _ => 0,
                        };
                        allowance.spend(heard_at, bytes);
                        if matches!(message.kind, Some(to_cluster::Kind::Ping(_))) {
                            ping_unanswered_since.get_or_insert(heard_at);
                        }
                        if !line.send(message).await {
                            return end(down, EndReason::Moved).await;
                        }
                    }
                    Ok(None) => {
                        // A task of its own: a device that is done doesn't wait for this, and must not call it off.
                        tokio::spawn(line.leave()).await.ok();
                        return Ok(());
                    }
                    // Malformed or oversized, or the connection broke: either way this stream is over.
                    Err(status) => return Err(status),
                },
                message = line.next() => match message {
                    Some(mut message) => {
                        let mut last = false;
                        match &mut message.kind {
                            Some(from_cluster::Kind::Welcome(welcome)) => {
                                welcome.absence = absence.take().map(convert::absence);
                            }
                            Some(from_cluster::Kind::Pong(_)) => ping_unanswered_since = None,
                            Some(from_cluster::Kind::Ended(_)) => last = true,
                            _ => {}
                        }
                        if !offer(down, message) || last {
                            return Ok(());
                        }
                    }
                    None => return end(down, EndReason::Moved).await,
                },
                () = sleep_until(read_again_at), if read_again_at.is_some() => allowance.refill(Instant::now()),
                () = sleep_until(line_dies_at), if line_dies_at.is_some() => {
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

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// A presence that has begun in the database and has no room yet. Dropped before it got one, it ends: nobody else knows.
struct Arriving {
    rooms: Rooms,
    device: DeviceId,
    presence_epoch: u64,
    seated: bool,
}

impl Arriving {
    /// From now on its room answers for it.
    fn seat(mut self) {
        self.seated = true;
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        // Without a runtime the node is gone; the next owner of the room finds the presence.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.seated {
            return;
        }
        let (rooms, device, presence_epoch) = (self.rooms.clone(), self.device, self.presence_epoch);
        runtime.spawn(async move {
            let ended =
                rooms.insist(|tx| presence::withdraw(tx, device, |present| present.presence_epoch == presence_epoch));
            match ended.await {
                Ok(withdrawn) => rooms.evict_withdrawn(withdrawn, EndReason::Moved),
                // The device's next connection closes the interval.
                Err(error) => tracing::debug!(%device, %error, "the end of a presence could not be recorded"),
            }
        });
    }
}

/// What a device may still send before it is read more slowly: messages, and the bytes of signals.
struct Allowance {
    messages: f64,
    bytes: f64,
    refilled_at: Instant,
}

impl Allowance {
    fn full(now: Instant) -> Self {
        Self { messages: CLIENT_MESSAGES_BURST_MAX.into(), bytes: SIGNALS_BYTES_BURST_MAX.into(), refilled_at: now }
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.duration_since(self.refilled_at).as_secs_f64();
        let refilled = |left: f64, rate: u32, most: u32| (left + seconds * f64::from(rate)).min(most.into());
        self.messages = refilled(self.messages, CLIENT_MESSAGES_PER_SECOND_MAX, CLIENT_MESSAGES_BURST_MAX);
        self.bytes = refilled(self.bytes, SIGNALS_BYTES_PER_SECOND_MAX, SIGNALS_BYTES_BURST_MAX);
        self.refilled_at = now;
    }

    fn spend(&mut self, now: Instant, bytes: usize) {
        self.refill(now);
        self.messages -= 1.0;
        self.bytes -= bytes as f64;
    }

    /// When the next message may be read; none when it may be at once.
    fn ready_at(&self) -> Option<Instant> {
        let owed = (-self.messages / f64::from(CLIENT_MESSAGES_PER_SECOND_MAX))
            .max(-self.bytes / f64::from(SIGNALS_BYTES_PER_SECOND_MAX));
        (owed > 0.0).then(|| self.refilled_at + Duration::from_secs_f64(owed) + Duration::from_millis(1))
    }
}

/// Hands a message to the device's end of the stream. False: the device is too slow, and must not miss this one.
fn offer(down: &Downward, message: FromCluster) -> bool {
    let waiting = down.max_capacity() - down.capacity();
    let signal = matches!(message.kind, Some(from_cluster::Kind::Signal(_)));
    (signal && waiting >= DOWNWARD_SIGNALS_MAX) || down.try_send(Ok(message)).is_ok()
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

/// Says why, if the device still listens, and closes.
async fn end(down: &Downward, reason: EndReason) -> Result<(), Status> {
    down.try_send(Ok(convert::ended(reason, end_text(reason)))).ok();
    Ok(())
}

fn no_room() -> DbError {
    let text = "The node that keeps this pool's roster can't be reached and could not be replaced in time. Try again.";
    Refusal::for_now(RefusalKind::Unavailable, text, Duration::from_millis(500)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_come_in_bursts_and_then_as_fast_as_the_limits_say() {
        let start = Instant::now();
        let mut small = Allowance::full(start);
        for _ in 0..CLIENT_MESSAGES_BURST_MAX {
            assert_eq!(small.ready_at(), None);
            small.spend(start, 100);
        }
        small.spend(start, 100);
        let pause = small.ready_at().unwrap() - start;
        assert!(pause <= Duration::from_millis(20), "{pause:?}");
        small.refill(start + pause);
        assert_eq!(small.ready_at(), None, "after the pause there is one more");
        small.refill(start + Duration::from_secs(3_600));
        assert_eq!(small.messages, f64::from(CLIENT_MESSAGES_BURST_MAX), "silence saves up no more than a burst");

        let mut large = Allowance::full(start);
        while large.ready_at().is_none() {
            large.spend(start, SIGNAL_BYTES_MAX);
        }
        let pause = large.ready_at().unwrap() - start;
        assert!(pause <= Duration::from_millis(130), "{pause:?}");
        assert!(large.messages > f64::from(CLIENT_MESSAGES_BURST_MAX) - 70.0, "bytes count by themselves");
    }
}
