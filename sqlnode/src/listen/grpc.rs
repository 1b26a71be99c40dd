//! The gRPC listener: one port for devices and nodes, TLS always, client certificates for nodes.
//!
//! The engine's messages must flow before there is a majority, and the metadata services need a majority before they
//! can look at their tables. So the listener starts with the former, and the latter are put in when they are ready; until
//! then their callers are told UNAVAILABLE.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::Service;
use tonic::service::Routes;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig};

use crate::cluster::{MemberTable, no_member};
use crate::error::StartError;
use crate::identity::NodeTls;

/// A client that is silent for so long is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is gone when it doesn't answer within this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls of one connection at once. A device has one stream and a few calls, but a node carries a stream for each of its
/// devices to the owners of their rooms, and all of those to one owner on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 16_384;
/// Bytes of headers in one call.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Routes that are put in while the listener runs.
#[derive(Clone, Default)]
pub struct LateRoutes(Arc<OnceLock<Router>>);

impl LateRoutes {
    /// Puts them in, once.
    pub fn put(&self, routes: Routes) {
        let put = self.0.set(routes.prepare().into_axum_router());
        debug_assert!(put.is_ok(), "late routes are put in once");
    }

    async fn serve(self, request: Request) -> Response {
        match self.0.get() {
            Some(router) => match router.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None => {
                let text = "this node is starting and waits for a majority of the cluster; try another, or again soon";
                Status::unavailable(text).into_http::<tonic::body::Body>().into_response()
            }
        }
    }
}

/// A certificate outlives its node's membership; what it opens does not.
async fn refuse_former(State(table): State<Arc<MemberTable>>, request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let node = certificates.as_ref().and_then(|chain| chain.first()).and_then(|first| NodeTls::node_of(first));
    match node {
        Some(node) if table.is_former(node) => {
            Status::permission_denied(no_member(node)).into_http::<tonic::body::Body>().into_response()
        }
        _ => next.run(request).await,
    }
}

/// The listener's settings.
pub struct GrpcServer {
    routes: Routes,
    tls: ServerTlsConfig,
}

impl GrpcServer {
    /// `routes` from the start, `late` when they are ready; neither for nodes that `table` knows as former ones.
    pub fn new(routes: Routes, late: LateRoutes, tls: &NodeTls, table: Arc<MemberTable>) -> GrpcServer {
        let router = routes
            .into_axum_router()
            .fallback(move |request: Request| late.clone().serve(request))
            .layer(axum::middleware::from_fn_with_state(table, refuse_former));
        let tls = ServerTlsConfig::new()
            .identity(TlsIdentity::from_pem(tls.chain_pem(), tls.key_pem().as_bytes()))
            .client_ca_root(Certificate::from_pem(tls.authority_pem()))
            .client_auth_optional(true);
        GrpcServer { routes: Routes::from(router), tls }
    }

    /// Serves until `stop`, then until open calls have ended.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), StartError> {
        let tls_error = |error: tonic::transport::Error| StartError::Tls(error.to_string());
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder()
            .tls_config(self.tls)
            .map_err(tls_error)?
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
            .map_err(|error| StartError::Unreachable(format!("the gRPC listener failed: {error}")))
    }
}
