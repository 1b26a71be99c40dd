//! The gRPC services of the cluster itself: joining, announcing, reporting; tokens and status for operators.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rockpool_proto::NodeId;
use rockpool_proto::cluster::v1 as wire;
use rockpool_proto::cluster::v1::admin_server::{Admin, AdminServer};
use rockpool_proto::cluster::v1::membership_server::{Membership, MembershipServer};
use rockpool_proto::limits::CLIENT_RPC_BYTES_MAX;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::client::NodeClient;
use super::convert::{Addresses, Joined, MemberList, NodeReport, NodeStatus, StatusReport};
use super::members::{Members, no_member};
use crate::config::host_and_port;
use crate::database::DbError;
use crate::identity::{Authority, ClusterId, Identity, NodeTls, RootPassword};

/// Bytes in one address.
const ADDRESS_BYTES_MAX: usize = 300;

/// What the services need to know of the node they run on.
#[tonic::async_trait]
pub trait LocalNode: Send + Sync + 'static {
    /// Who it is.
    fn identity(&self) -> Identity;

    /// What it says of itself.
    async fn report(&self) -> NodeReport;

    /// Takes over the members as the cluster knows them now.
    fn take_members(&self, members: MemberList);

    /// A member says where it listens for the others, or (`None`) could not have it written down.
    fn hear(&self, node: NodeId, grpc: Option<&str>);

    /// The members as they were last known: an answer even without a majority.
    fn known_members(&self) -> Vec<Addresses>;
}

/// `rockpool.cluster.v1.Membership`.
#[derive(Clone)]
pub struct MembershipService {
    node: Arc<dyn LocalNode>,
    members: Members,
    authority: Arc<Authority>,
    root_password: Arc<RootPassword>,
    /// Rung when somebody announced itself, so that the keeper need not wait for its next round.
    changed: Arc<Notify>,
}

/// `rockpool.cluster.v1.Admin`.
#[derive(Clone)]
pub struct AdminService {
    node: Arc<dyn LocalNode>,
    members: Members,
    authority: Arc<Authority>,
    tls: NodeTls,
    changed: Arc<Notify>,
}

/// The node that makes a call, by the certificate that TLS has verified.
pub fn require_node<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let certificates = request.peer_certs();
    let node = certificates.as_ref().and_then(|chain| chain.first()).and_then(|first| NodeTls::node_of(first));
    node.ok_or_else(|| {
        Status::unauthenticated("this call is for nodes of the cluster, which show a certificate of its authority")
    })
}

/// A member makes the call. A certificate outlives its node's membership, so the members are asked as well.
fn require_member<T>(node: &dyn LocalNode, request: &Request<T>) -> Result<NodeId, Status> {
    let caller = require_node(request)?;
    if node.known_members().iter().any(|member| member.node_id == caller) {
        return Ok(caller);
    }
    Err(Status::permission_denied(no_member(caller)))
}

fn checked(addresses: Option<wire::NodeAddresses>) -> Result<Addresses, Status> {
    let addresses = Addresses::from(addresses.ok_or_else(|| Status::invalid_argument("addresses are missing"))?);
    for address in [&addresses.grpc, &addresses.pg, &addresses.http] {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if address.len() > ADDRESS_BYTES_MAX || port.is_none_or(|port| port == 0) || host_and_port(address).is_err() {
            return Err(Status::invalid_argument("an address is HOST:PORT"));
        }
    }
    Ok(addresses)
}

impl MembershipService {
    /// The service of that node.
    pub fn new(
        node: Arc<dyn LocalNode>,
        members: Members,
        authority: Arc<Authority>,
        root_password: Arc<RootPassword>,
        changed: Arc<Notify>,
    ) -> Self {
        MembershipService { node, members, authority, root_password, changed }
    }

    /// As it is mounted.
    pub fn server(self) -> MembershipServer<Self> {
        MembershipServer::new(self).max_decoding_message_size(CLIENT_RPC_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Membership for MembershipService {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let (from, here) = (request.remote_addr(), request.local_addr());
        let comes_from_afar =
            from.is_some_and(|from| !from.ip().is_loopback() && here.is_none_or(|here| here.ip() != from.ip()));
        let request = request.into_inner();
        let addresses = checked(request.addresses)?;
        if comes_from_afar && is_loopback(&host_of(&addresses.grpc)) {
            let text = format!(
                "the node would be known as {}, where other hosts reach only themselves: start it with --grpc 0.0.0.0:PORT \
                 and --advertise HOST, its name or address for the others",
                addresses.grpc
            );
            return Err(Status::invalid_argument(text));
        }
        // Tried out before the token is used up, so that a request that can't be served costs nothing.
        let host = host_of(&addresses.grpc);
        let issue = |node| self.authority.issue(&request.certificate_request, node, &host);
        issue(NodeId(u64::MAX)).map_err(|error| Status::invalid_argument(error.to_string()))?;

        let admitted = self.members.admit(&request.token_id, &request.token_secret, &addresses, &request.version).await;
        let (node_id, nodes) = admitted?;
        let certificate = issue(node_id).map_err(|error| Status::internal(error.to_string()))?;
        tracing::info!(node = %node_id, grpc = %addresses.grpc, "a node joins");
        let joined = Joined {
            cluster_id: self.members.cluster_id(),
            node_id,
            authority_certificate: self.authority.certificate().to_vec(),
            authority_key: self.authority.key().to_vec().into(),
            certificate: certificate.to_vec(),
            root_password: self.root_password.current(),
            nodes,
        };
        Ok(Response::new(joined.into()))
    }

    async fn announce(&self, request: Request<wire::AnnounceRequest>) -> Result<Response<wire::AnnounceReply>, Status> {
        let caller = require_node(&request)?;
        let request = request.into_inner();
        let cluster_id = ClusterId::try_from(&request.cluster_id[..]).map_err(Status::invalid_argument)?;
        let addresses = checked(request.addresses)?;
        if addresses.node_id != caller {
            return Err(Status::permission_denied(format!("{caller} can't speak for {}", addresses.node_id)));
        }
        // Before it is written down, which may need this very member's vote.
        if cluster_id == self.members.cluster_id() {
            self.node.hear(caller, Some(&addresses.grpc));
        }
        let announced = self.members.announce(cluster_id, &addresses, &request.version).await;
        if let Err(DbError::Refused(_)) = &announced {
            self.node.hear(caller, None);
        }
        let members = announced?;
        // At once: who announced itself may be needed for a majority before the keeper's next look.
        self.node.take_members(members.clone());
        self.changed.notify_one();
        let MemberList { revision, nodes } = members;
        Ok(Response::new(wire::AnnounceReply { nodes: nodes.into_iter().map(Into::into).collect(), revision }))
    }

    async fn report(&self, request: Request<wire::ReportRequest>) -> Result<Response<wire::NodeReport>, Status> {
        require_node(&request)?;
        Ok(Response::new(self.node.report().await.into()))
    }

    async fn root_password(
        &self,
        request: Request<wire::RootPasswordRequest>,
    ) -> Result<Response<wire::RootPasswordReply>, Status> {
        require_member(&*self.node, &request)?;
        Ok(Response::new(wire::RootPasswordReply { password: self.root_password.current().to_string() }))
    }
}

/// The host of `HOST:PORT`, without the brackets of an IPv6 address.
pub(crate) fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl AdminService {
    /// The service of that node.
    pub fn new(
        node: Arc<dyn LocalNode>,
        members: Members,
        authority: Arc<Authority>,
        tls: NodeTls,
        changed: Arc<Notify>,
    ) -> Self {
        AdminService { node, members, authority, tls, changed }
    }

    /// As it is mounted.
    pub fn server(self) -> AdminServer<Self> {
        AdminServer::new(self).max_decoding_message_size(CLIENT_RPC_BYTES_MAX)
    }

    /// Refuses to remove a node without which the rest could decide nothing: there would be no way back.
    async fn check_majority_without(&self, node: NodeId) -> Result<(), Status> {
        let left = self.node.known_members().into_iter().filter(|member| member.node_id != node);
        let asked = join_all(left.map(|addresses| self.ask(addresses))).await;
        let up = |status: &&NodeStatus| status.report.as_ref().is_ok_and(|report| !report.replicas.is_empty());
        let answering = asked.iter().filter(up).count();
        if answering * 2 > asked.len() {
            return Ok(());
        }
        let silent: Vec<String> =
            asked.iter().filter(|status| !up(status)).map(|status| status.addresses.node_id.to_string()).collect();
        Err(Status::failed_precondition(format!(
            "without {node} only {answering} of the remaining {} members would answer, and the cluster could decide nothing \
             any more. Nothing was changed. Bring {} back first, or remove what is lost for good before what runs",
            asked.len(),
            silent.join(" and ")
        )))
    }

    async fn ask(&self, addresses: Addresses) -> NodeStatus {
        let report = if addresses.node_id == self.node.identity().node_id {
            Ok(self.node.report().await)
        } else {
            match NodeClient::new(&addresses.grpc, &self.tls) {
                Ok(client) => client.report().await,
                Err(error) => Err(error.to_string()),
            }
        };
        NodeStatus { addresses, report }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenReply>, Status> {
        let by = require_member(&*self.node, &request)?;
        let seconds = request.into_inner().ttl_seconds;
        let ttl = (seconds > 0).then(|| Duration::from_secs(seconds));
        let (token, expires_at_us) = self.members.create_token(self.authority.fingerprint(), ttl, by).await?;
        Ok(Response::new(wire::CreateTokenReply { token: token.to_string(), expires_at_us }))
    }

    async fn remove_node(
        &self,
        request: Request<wire::RemoveNodeRequest>,
    ) -> Result<Response<wire::RemoveNodeReply>, Status> {
        let by = require_member(&*self.node, &request)?;
        let node = NodeId(request.into_inner().node_id);
        self.check_majority_without(node).await?;
        let left = self.members.remove(node).await?;
        tracing::info!(%node, %by, "a node was removed");
        self.node.take_members(left);
        self.changed.notify_one();
        Ok(Response::new(wire::RemoveNodeReply {}))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        require_member(&*self.node, &request)?;
        let members = self.node.known_members();
        let nodes = join_all(members.into_iter().map(|addresses| self.ask(addresses))).await;
        let identity = self.node.identity();
        let report = StatusReport { cluster_id: identity.cluster_id, answered_by: identity.node_id, nodes };
        Ok(Response::new(report.into()))
    }
}
