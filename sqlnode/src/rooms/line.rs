//! A device's line into its pool's room, whichever node owns that.

use rockpool_proto::cluster::v1::{RoomLeave, RoomOpen, RoomUp, room_up};
use rockpool_proto::meta::v1::{FromCluster, Place, ToCluster, to_cluster};
use rockpool_proto::{DeviceId, NodeId, PoolId};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::Rooms;
use super::host::Attachment;
use super::room::{Identity, Input};
use crate::services::convert::id;

/// How long the owner may take to answer before it counts as not answering.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Messages on the way to another node.
const UPWARD_MAX: usize = 64;

/// A device's line into a room.
pub(super) enum Line {
    /// The room is on this node.
    Here(Attachment),
    /// The room is on another.
    There {
        /// Towards the owner. Dropping it without a `leave` counts as broken.
        up: mpsc::Sender<RoomUp>,
        /// From the owner.
        down: Box<Streaming<FromCluster>>,
        /// The first message, by which the owner answered.
        first: Option<Box<FromCluster>>,
    },
}

/// Who wants in, and as what.
#[derive(Clone)]
pub(super) struct Ticket {
    pub(super) pool: PoolId,
    pub(super) identity: Identity,
    pub(super) presence_epoch: u64,
    pub(super) last_place: Option<Place>,
}

/// Why another node gave no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoLine {
    /// It is not the owner (any more).
    NotOwner,
    /// It does not answer.
    Silent,
    /// Nobody listens at its address: its process is gone.
    Gone,
}

impl Line {
    /// A line to another node's room.
    pub(super) async fn to(rooms: &Rooms, node: NodeId, ticket: &Ticket) -> Result<Line, NoLine> {
        let channel = rooms.nodes().channel(node).ok_or(NoLine::Gone)?;
        let (up, upward) = mpsc::channel(UPWARD_MAX);
        let open = RoomOpen {
            pool_id: id(ticket.pool.as_bytes()),
            account_id: id(ticket.identity.account.as_bytes()),
            device_id: id(ticket.identity.device.as_bytes()),
            presence_epoch: ticket.presence_epoch,
            last_place: ticket.last_place.clone(),
        };
        let open = RoomUp { kind: Some(room_up::Kind::Open(open)) };
        up.try_send(open).expect("a fresh channel has room for one message");
        let answered = timeout(ANSWER_WITHIN, async {
            let mut client = rooms.client(channel);
            let mut down = client.attach(ReceiverStream::new(upward)).await?.into_inner();
            let first = down.message().await?;
            Ok::<_, Status>((down, first))
        });
        match answered.await {
            Ok(Ok((down, Some(first)))) => Ok(Line::There { up, down: Box::new(down), first: Some(Box::new(first)) }),
            Ok(Ok((_, None))) => Err(NoLine::NotOwner),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => Err(NoLine::NotOwner),
            Ok(Err(status)) if is_refused(&status) => Err(NoLine::Gone),
            Ok(Err(status)) => {
                tracing::debug!(%node, %status, "the owner of a room did not answer");
                Err(NoLine::Silent)
            }
            Err(_) => Err(NoLine::Silent),
        }
    }

    /// Sends a device's message on. False: the line is dead.
    pub(super) async fn send(&self, message: ToCluster) -> bool {
        match self {
            Line::Here(attachment) => match message.kind {
                Some(to_cluster::Kind::Ping(ping)) => {
                    attachment.send(|connection| Input::Ping { connection, nonce: ping.nonce }).await
                }
                Some(to_cluster::Kind::Signal(signal)) => {
                    // An id that is none belongs to nobody here: signals may be lost.
                    let Ok(to) = DeviceId::try_from(&signal.to_device_id[..]) else { return true };
                    attachment.send(|connection| Input::Signal { connection, to, payload: signal.payload }).await
                }
                Some(to_cluster::Kind::Open(_)) | None => true,
            },
            Line::There { up, .. } => up.send(RoomUp { kind: Some(room_up::Kind::Message(message)) }).await.is_ok(),
        }
    }

    /// The device closed its stream on purpose.
    pub(super) async fn leave(self) {
        match self {
            Line::Here(mut attachment) => attachment.leave().await,
            Line::There { up, mut down, .. } => {
                if up.send(RoomUp { kind: Some(room_up::Kind::Leave(RoomLeave {})) }).await.is_ok() {
                    drop(up);
                    // Dropping the call now could overtake the message: wait until the owner has closed it.
                    let closed = async { while let Ok(Some(_)) = down.message().await {} };
                    timeout(ANSWER_WITHIN, closed).await.ok();
                }
            }
        }
    }

    /// The next message for the device; none when the line is dead.
    pub(super) async fn next(&mut self) -> Option<FromCluster> {
        match self {
            Line::Here(attachment) => attachment.next().await,
            Line::There { down, first, .. } => match first.take() {
                Some(first) => Some(*first),
                None => down.message().await.ok().flatten(),
            },
        }
    }
}

/// Whether the call failed because nobody listens at the address.
fn is_refused(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}
