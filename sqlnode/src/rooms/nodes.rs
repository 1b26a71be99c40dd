//! How one node finds and recognizes the others. The node's outer layer implements [`Nodes`].

use rockpool_proto::NodeId;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The cluster as a node sees it.
pub trait Nodes: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;

    /// A channel to another node's gRPC listener, on which this node shows its node certificate. May connect lazily, and
    /// is expected to give up connecting after a second or so. None when there is no such node (any more).
    fn channel(&self, node: NodeId) -> Option<Channel>;

    /// `HOST:PORT` of every node's gRPC listener, this one first.
    fn addresses(&self) -> Vec<String>;

    /// The cluster's identity.
    fn cluster_id(&self) -> [u8; 16];

    /// Whether a caller is a node of this cluster. By default: it showed a certificate, and the listener has checked it
    /// against the cluster's authority.
    fn require_node(&self, caller: Caller) -> Result<(), Status> {
        match caller {
            Caller::Certified => Ok(()),
            Caller::Anonymous => Err(Status::permission_denied(
                "This call is for nodes of the cluster, which show their certificate. Clients have no use for it.",
            )),
        }
    }
}

/// What is known of who calls on the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Showed a certificate that the listener accepted.
    Certified,
    /// Showed none.
    Anonymous,
}

impl Caller {
    /// Who makes a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        match request.peer_certs() {
            Some(certificates) if !certificates.is_empty() => Self::Certified,
            _ => Self::Anonymous,
        }
    }
}

/// Refuses a request that does not come from a node of the cluster.
pub fn require_node<T>(nodes: &dyn Nodes, request: &Request<T>) -> Result<(), Status> {
    nodes.require_node(Caller::of(request))
}
