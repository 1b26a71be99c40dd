//! The receiving end, mounted on the node's one gRPC listener.

use super::Transport;
use crate::inbox::Refused;
use rockpool_engine::{Class, Input, NodeId};
use rockpool_proto::engine::v1 as wire;
use rockpool_proto::engine::v1::transport_server::{Transport as TransportRpc, TransportServer};
use rockpool_proto::limits::{NODE_FRAME_MESSAGES_MAX, NODE_MESSAGE_BYTES_MAX};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Takes other nodes' messages. Refuses whoever shows no certificate of the cluster, or another node's.
#[derive(Clone)]
pub struct TransportService {
    transport: Arc<Transport>,
}

impl TransportService {
    pub(crate) fn server(transport: Arc<Transport>) -> TransportServer<TransportService> {
        TransportServer::new(TransportService { transport }).max_decoding_message_size(NODE_MESSAGE_BYTES_MAX)
    }

    /// The node that a certificate names; nothing where nodes don't use any.
    fn certified(&self, request: &Request<Streaming<wire::Frame>>) -> Result<Option<NodeId>, Status> {
        let Some(tls) = &self.transport.tls else { return Ok(None) };
        // rustls has verified the chain against the authority, or there is none.
        let certificates = request.peer_certs().ok_or_else(|| Status::unauthenticated("nodes of the cluster only"))?;
        let node = certificates.first().and_then(|certificate| (tls.node_of)(certificate));
        node.map(Some).ok_or_else(|| Status::unauthenticated("the certificate names no node"))
    }
}

#[tonic::async_trait]
impl TransportRpc for TransportService {
    async fn deliver(&self, request: Request<Streaming<wire::Frame>>) -> Result<Response<wire::DeliverReply>, Status> {
        let certified = self.certified(&request)?;
        let mut frames = request.into_inner();
        let mut sender = None;
        let receive = async {
            while let Some(frame) = frames.message().await? {
                let (from, class) = match sender {
                    Some(sender) => sender,
                    None => *sender.insert(greet(frame.hello.as_ref(), self.transport.node, certified)?),
                };
                if frame.messages.len() > NODE_FRAME_MESSAGES_MAX {
                    return Err(Status::invalid_argument("too many messages in a frame"));
                }
                let inputs = frame.messages.into_iter().map(|bytes| {
                    let length = bytes.len();
                    (Input::Message { from, bytes }, length)
                });
                match self.transport.inbox.push_messages(class, inputs.collect()).await {
                    Ok(()) => {}
                    Err(Refused::Closed | Refused::Full) => return Err(Status::unavailable("the engine has stopped")),
                }
            }
            Ok(Response::new(wire::DeliverReply {}))
        };
        tokio::select! {
            () = self.transport.stop.cancelled() => Err(Status::unavailable("the node is shutting down")),
            result = receive => result,
        }
    }
}

/// Checks who speaks to whom.
fn greet(hello: Option<&wire::Hello>, me: NodeId, certified: Option<NodeId>) -> Result<(NodeId, Class), Status> {
    let hello = hello.ok_or_else(|| Status::invalid_argument("the first frame says who is speaking"))?;
    let from = NodeId(hello.from);
    if certified.is_some_and(|node| node != from) {
        return Err(Status::permission_denied(format!("the certificate is not {from}'s")));
    }
    if NodeId(hello.to) != me {
        return Err(Status::failed_precondition(format!("this is {me}, not n{}", hello.to)));
    }
    if from == me || from.0 == 0 {
        return Err(Status::invalid_argument(format!("{from} can't be the sender")));
    }
    match hello.class() {
        wire::Class::Urgent => Ok((from, Class::Urgent)),
        wire::Class::Log => Ok((from, Class::Log)),
        wire::Class::Bulk => Ok((from, Class::Bulk)),
        wire::Class::Unspecified => Err(Status::invalid_argument("the first frame names a class")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn who_speaks_to_whom_is_checked() {
        let hello = |from, to, class: wire::Class| wire::Hello { from, to, class: class as i32 };
        let check = |hello: Option<wire::Hello>, certified| {
            greet(hello.as_ref(), NodeId(1), certified).map_err(|status| status.code())
        };
        assert_eq!(check(Some(hello(2, 1, wire::Class::Log)), Some(NodeId(2))), Ok((NodeId(2), Class::Log)));
        assert_eq!(check(Some(hello(2, 1, wire::Class::Log)), None), Ok((NodeId(2), Class::Log)));
        assert_eq!(check(Some(hello(2, 1, wire::Class::Log)), Some(NodeId(3))), Err(Code::PermissionDenied));
        assert_eq!(check(Some(hello(2, 3, wire::Class::Log)), None), Err(Code::FailedPrecondition));
        assert_eq!(check(Some(hello(1, 1, wire::Class::Log)), None), Err(Code::InvalidArgument));
        assert_eq!(check(Some(hello(0, 1, wire::Class::Log)), None), Err(Code::InvalidArgument));
        assert_eq!(check(Some(hello(2, 1, wire::Class::Unspecified)), None), Err(Code::InvalidArgument));
        assert_eq!(
            check(Some(wire::Hello { class: 77, ..hello(2, 1, wire::Class::Log) }), None),
            Err(Code::InvalidArgument)
        );
        assert_eq!(check(None, None), Err(Code::InvalidArgument));
    }
}
