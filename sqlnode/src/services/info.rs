//! What a client may know of the cluster without logging in.

use bytes::Bytes;
use rockpool_proto::meta::v1::{self as wire, cluster_info_server::ClusterInfo};
use tonic::{Request, Response, Status};

use super::Services;

#[tonic::async_trait]
impl ClusterInfo for Services {
    async fn describe(
        &self,
        _request: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeReply>, Status> {
        let nodes = self.rooms().nodes();
        Ok(Response::new(wire::DescribeReply {
            cluster_id: Bytes::copy_from_slice(&nodes.cluster_id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: nodes.addresses(),
            now_us: self.database().environment().now_us(),
        }))
    }
}
