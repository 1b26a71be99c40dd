//! The listeners besides PostgreSQL's: gRPC for devices and nodes, HTTP for whoever watches the node.

mod grpc;
mod http;

pub use grpc::{GrpcServer, LateRoutes};
pub use http::{Probe, ReadyState, router};

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::StartError;

/// Opens a listener. Its address is the real one when port 0 was asked for.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
