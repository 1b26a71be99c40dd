//! `/health`, `/ready`, `/metrics`: plain HTTP, read only, nothing secret.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Whether the node can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyState {
    /// A transaction can be begun and the services are open.
    Ready,
    /// It can't; the sentence says why.
    NotReady(String),
}

/// What the endpoints ask of the node.
#[tonic::async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Whether it can do its work now.
    async fn ready(&self) -> ReadyState;

    /// Why it never will again without help, if so.
    fn failure(&self) -> Option<String>;

    /// Everything counted, in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// The three endpoints.
pub fn router(probe: Arc<dyn Probe>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(probe)
}

async fn health(State(probe): State<Arc<dyn Probe>>) -> impl IntoResponse {
    match probe.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
    }
}

async fn ready(State(probe): State<Arc<dyn Probe>>) -> impl IntoResponse {
    match probe.ready().await {
        ReadyState::Ready => (StatusCode::OK, "ready\n".to_owned()),
        ReadyState::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(probe): State<Arc<dyn Probe>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], probe.metrics())
}
