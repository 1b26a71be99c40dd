//! What nodes ask of each other about rooms. Every call has to come from a node of the cluster.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use rockpool_proto::cluster::v1::rooms_server::{Rooms as RoomsService, RoomsServer};
use rockpool_proto::cluster::v1::{EvictReply, EvictRequest, RefreshReply, RefreshRequest, RoomUp, room_up};
use rockpool_proto::limits::CLIENT_RPC_BYTES_MAX;
use rockpool_proto::meta::v1::FromCluster;
use rockpool_proto::{AccountId, DeviceId, IdError, PoolId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Rooms;
use super::host::Attachment;
use super::line::{Line, Ticket};
use super::nodes::require_node;
use super::room::{EndReason, Identity};

/// How long another node may take to say whom it brings.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Messages on the way to the other node.
const DOWNWARD_MAX: usize = 64;
/// What nodes carry for a client, and the frame round it.
const BETWEEN_BYTES_MAX: usize = CLIENT_RPC_BYTES_MAX + 1024;

impl Rooms {
    /// The service for other nodes, to be mounted on the listener on which nodes show their certificates.
    pub fn node_server(&self) -> RoomsServer<Rooms> {
        RoomsServer::new(self.clone()).max_decoding_message_size(BETWEEN_BYTES_MAX)
    }
}

fn malformed(error: IdError) -> Status {
    Status::invalid_argument(format!("A node sent {error}."))
}

#[tonic::async_trait]
impl RoomsService for Rooms {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<FromCluster, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<RoomUp>>) -> Result<Response<Self::AttachStream>, Status> {
        require_node(&**self.nodes(), &request)?;
        let mut up = request.into_inner();
        let first = timeout(OPEN_WITHIN, up.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("A node opened a line and said nothing."))??;
        let Some(room_up::Kind::Open(open)) = first.and_then(|message| message.kind) else {
            return Err(Status::invalid_argument("The first message of a line between nodes has to be RoomOpen."));
        };
        let identity = Identity {
            account: AccountId::try_from(&open.account_id[..]).map_err(malformed)?,
            device: DeviceId::try_from(&open.device_id[..]).map_err(malformed)?,
        };
        let pool = PoolId::try_from(&open.pool_id[..]).map_err(malformed)?;
        let ticket = Ticket { pool, identity, presence_epoch: open.presence_epoch, last_place: open.last_place };
        let Some(attachment) = self.attach_here(&ticket, None).await? else {
            return Err(Status::failed_precondition("This node does not own that room. Look its owner up again."));
        };
        let (down, stream) = mpsc::channel(DOWNWARD_MAX);
        tokio::spawn(carry(attachment, up, down));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn evict(&self, request: Request<EvictRequest>) -> Result<Response<EvictReply>, Status> {
        require_node(&**self.nodes(), &request)?;
        let request = request.into_inner();
        let reason = EndReason::from(request.reason());
        let pool = PoolId::try_from(&request.pool_id[..]).map_err(malformed)?;
        let device = DeviceId::try_from(&request.device_id[..]).map_err(malformed)?;
        self.evict_here(pool, device, request.presence_epoch_max, reason).await;
        Ok(Response::new(EvictReply {}))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshReply>, Status> {
        require_node(&**self.nodes(), &request)?;
        let pool = PoolId::try_from(&request.into_inner().pool_id[..]).map_err(malformed)?;
        self.refresh_here(pool).await;
        Ok(Response::new(RefreshReply {}))
    }
}

/// Carries messages between a room here and the node that accepted the device's stream.
async fn carry(attachment: Attachment, mut up: Streaming<RoomUp>, down: mpsc::Sender<Result<FromCluster, Status>>) {
    let mut line = Line::Here(attachment);
    loop {
        tokio::select! {
            message = up.message() => match message.ok().flatten().and_then(|message| message.kind) {
                Some(room_up::Kind::Message(message)) => {
                    if !line.send(message).await {
                        return;
                    }
                }
                Some(room_up::Kind::Leave(_)) => return line.leave().await,
                // Broken off, or nothing that a node sends.
                Some(room_up::Kind::Open(_)) | None => return,
            },
            message = line.next() => match message {
                Some(message) => {
                    if down.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}
