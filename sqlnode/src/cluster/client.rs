//! Calls to other nodes: joining with a token, and everything else with this node's certificate.

use std::time::Duration;

use rockpool_proto::NodeId;
use rockpool_proto::cluster::v1 as wire;
use rockpool_proto::cluster::v1::admin_client::AdminClient;
use rockpool_proto::cluster::v1::membership_client::MembershipClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use tonic::{Code, Status};

use super::convert::{Addresses, Joined, MemberList, NodeReport, StatusReport};
use super::token::JoinToken;
use super::trust;
use crate::error::StartError;
use crate::identity::{ClusterId, Fingerprint, INTERNAL_NAME, NodeKey, NodeTls};

/// How long connecting to a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take that changes something.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a node may take to report on itself.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to one node.
#[derive(Clone)]
pub struct NodeClient {
    address: String,
    channel: Channel,
}

fn endpoint(address: &str, tls: ClientTlsConfig) -> Result<Endpoint, StartError> {
    let invalid = |error: tonic::transport::Error| StartError::Unreachable(format!("{address}: {error}"));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(invalid)?;
    endpoint
        .tls_config(tls.domain_name(INTERNAL_NAME))
        .map_err(|error| StartError::Tls(error.to_string()))
        .map(|endpoint| endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT))
}

/// Why a call failed. What happened here stands at the end of the chain of sources; before it stand the names of layers.
fn cause(status: &Status) -> String {
    let mut deepest: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(source) = deepest.and_then(std::error::Error::source) {
        deepest = Some(source);
    }
    deepest.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn refused(address: &str, status: &Status) -> StartError {
    match status.code() {
        // Without a source, the status came over the wire: the node is there.
        Code::Unavailable if std::error::Error::source(status).is_none() => {
            StartError::Undecided(format!("{address} answers: {}", status.message()))
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            StartError::Unreachable(format!("{address} doesn't answer: {}", cause(status)))
        }
        _ => StartError::Refused(status.message().to_owned()),
    }
}

impl NodeClient {
    /// A connection that is made with the first call.
    pub fn new(address: &str, tls: &NodeTls) -> Result<NodeClient, StartError> {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(tls.authority_pem()))
            .identity(TlsIdentity::from_pem(tls.chain_pem(), tls.key_pem().as_bytes()));
        Ok(NodeClient { address: address.to_owned(), channel: endpoint(address, config)?.connect_lazy() })
    }

    /// The channel itself, for other services on it.
    pub fn into_channel(self) -> Channel {
        self.channel
    }

    /// Tells the cluster where this node listens; answers the members.
    pub async fn announce(&self, cluster_id: ClusterId, own: &Addresses) -> Result<MemberList, StartError> {
        let request = wire::AnnounceRequest {
            cluster_id: cluster_id.0.to_vec().into(),
            addresses: Some(own.clone().into()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let reply = MembershipClient::new(self.channel.clone()).announce(request).await;
        let reply = reply.map_err(|status| match status.code() {
            Code::NotFound | Code::PermissionDenied => StartError::Removed(status.message().to_owned()),
            _ => refused(&self.address, &status),
        })?;
        let reply = reply.into_inner();
        Ok(MemberList { revision: reply.revision, nodes: reply.nodes.into_iter().map(Addresses::from).collect() })
    }

    /// What the node says of itself.
    pub async fn report(&self) -> Result<NodeReport, String> {
        let mut client = MembershipClient::new(self.channel.clone());
        let call = client.report(wire::ReportRequest {});
        match tokio::time::timeout(REPORT_TIMEOUT, call).await {
            Ok(Ok(reply)) => NodeReport::try_from(reply.into_inner()),
            Ok(Err(status)) => Err(cause(&status)),
            Err(_) => Err(format!("no answer within {} s", REPORT_TIMEOUT.as_secs())),
        }
    }

    /// Root's password as that node knows it.
    pub async fn root_password(&self) -> Result<zeroize::Zeroizing<String>, StartError> {
        let mut client = MembershipClient::new(self.channel.clone());
        let call = client.root_password(wire::RootPasswordRequest {});
        let reply = tokio::time::timeout(REPORT_TIMEOUT, call).await;
        let silent = |_| StartError::Unreachable(format!("{} doesn't answer", self.address));
        let reply = reply.map_err(silent)?.map_err(|status| refused(&self.address, &status))?;
        Ok(reply.into_inner().password.into())
    }

    /// Asks for a join token; answers its text and when it expires (microseconds since 1970).
    pub async fn create_token(&self, ttl: Option<Duration>) -> Result<(String, i64), StartError> {
        let request = wire::CreateTokenRequest { ttl_seconds: ttl.map_or(0, |ttl| ttl.as_secs()) };
        let reply = AdminClient::new(self.channel.clone()).create_token(request).await;
        let reply = reply.map_err(|status| refused(&self.address, &status))?.into_inner();
        Ok((reply.token, reply.expires_at_us))
    }

    /// Takes a member out of the cluster for good.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), StartError> {
        let request = wire::RemoveNodeRequest { node_id: node.0 };
        let reply = AdminClient::new(self.channel.clone()).remove_node(request).await;
        reply.map(drop).map_err(|status| refused(&self.address, &status))
    }

    /// Asks the node about every member.
    pub async fn status(&self) -> Result<StatusReport, StartError> {
        let reply = AdminClient::new(self.channel.clone()).status(wire::StatusRequest {}).await;
        let reply = reply.map_err(|status| refused(&self.address, &status))?;
        StatusReport::try_from(reply.into_inner()).map_err(StartError::Unreachable)
    }
}

/// Joins a cluster: from a token to an identity.
pub async fn join(address: &str, token: &JoinToken, key: &NodeKey, own: &Addresses) -> Result<Joined, StartError> {
    let authority = trust::fetch_authority(address, token.fingerprint).await?;
    let pem = NodeTls::pem_of(&authority);
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    let channel = endpoint(address, config)?.connect().await.map_err(|error| {
        StartError::Unreachable(format!(
            "can't reach {address} to join: {error}; is a node of the cluster running there?"
        ))
    })?;
    let request = wire::JoinRequest {
        token_id: token.id.to_vec().into(),
        token_secret: token.secret.to_vec().into(),
        certificate_request: key.request.clone().into(),
        addresses: Some(own.clone().into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let reply = MembershipClient::new(channel).join(request).await.map_err(|status| refused(address, &status))?;
    let joined = Joined::try_from(reply.into_inner()).map_err(StartError::Unreachable)?;
    if Fingerprint::of(&joined.authority_certificate) != token.fingerprint {
        return Err(StartError::Foreign("the node handed out an authority other than the token's".to_owned()));
    }
    Ok(joined)
}
