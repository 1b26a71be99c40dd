//! The sending end: one task per node and class, which connects when there is something to say and again when it breaks.

use super::{Peer, TlsOptions, Transport};
use crate::clock;
use rockpool_engine::{Class, Input};
use rockpool_proto::engine::v1 as wire;
use rockpool_proto::engine::v1::transport_client::TransportClient;
use rockpool_proto::limits::NODE_MESSAGE_BYTES_MAX;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Pause after the first failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take, with all handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that is silent this long is asked whether it still lives,
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// and given up when it does not answer in this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes in flight on a stream before the receiver has taken them.
const WINDOW_BYTES: u32 = 4 << 20;

/// Settings of the connections to an address, "host:port".
pub(super) fn endpoint(address: &str, tls: Option<&TlsOptions>) -> Result<Endpoint, tonic::transport::Error> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES);
    if let Some(tls) = tls {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&tls.authority_pem))
            .identity(Identity::from_pem(&tls.certificate_pem, &tls.key_pem))
            .domain_name(&tls.server_name);
        endpoint = endpoint.tls_config(config)?;
    }
    Ok(endpoint)
}

/// Carries one class of messages to one node until either is stopped.
pub(super) async fn run(transport: &Transport, peer: &Peer, class: Class) {
    let queue = &peer.queues[class as usize];
    let mut pause = PAUSE_MIN;
    let work = async {
        loop {
            queue.filled().await;
            // The endpoint's own timeout would end with TCP's handshake, which the system of a node that stands still makes.
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(peer)).await;
            let error = match connected {
                Ok(Ok(client)) => {
                    set_connected(peer, class, None);
                    let begun = clock::now().time;
                    let ended = deliver(transport, peer, class, client).await;
                    // Whoever takes a connection and refuses the stream will do so again.
                    if u128::from(clock::since_us(begun)) >= PAUSE_MAX.as_micros() {
                        pause = PAUSE_MIN;
                    }
                    ended.message().to_owned()
                }
                Ok(Err(error)) => error,
                Err(_) => "no answer to the handshake".to_owned(),
            };
            tracing::debug!(node = %peer.node, address = %peer.address, ?class, error, "stream broken");
            set_connected(peer, class, Some(error));
            queue.clear();
            transport.inbox.push_answer(Input::Unreachable { node: peer.node });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    };
    tokio::select! {
        () = peer.stop.cancelled() => {}
        () = work => {}
    }
    set_connected(peer, class, Some("stopped".to_owned()));
}

fn set_connected(peer: &Peer, class: Class, error: Option<String>) {
    if class == Class::Urgent {
        peer.connected.store(error.is_none(), Ordering::Relaxed);
    }
    *peer.last_error.lock() = error;
}

async fn connect(peer: &Peer) -> Result<TransportClient<tonic::transport::Channel>, String> {
    let channel = peer.endpoint.connect().await.map_err(|error| with_causes(&error))?;
    Ok(TransportClient::new(channel).max_encoding_message_size(NODE_MESSAGE_BYTES_MAX))
}

/// An error with what caused it: tonic's own says "transport error" and no more.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Sends until the stream ends, which it does only by failing.
async fn deliver(
    transport: &Transport,
    peer: &Peer,
    class: Class,
    mut client: TransportClient<tonic::transport::Channel>,
) -> tonic::Status {
    let (frames, receiver) = tokio::sync::mpsc::channel(1);
    let feed = async {
        let mut hello = Some(wire::Hello {
            from: transport.node.0,
            to: peer.node.0,
            class: match class {
                Class::Urgent => wire::Class::Urgent,
                Class::Log => wire::Class::Log,
                Class::Bulk => wire::Class::Bulk,
            } as i32,
        });
        // Frames are made when the connection can take one, so that each holds all that waits by then.
        while let Ok(place) = frames.reserve().await {
            let messages = peer.queues[class as usize].next_frame().await;
            place.send(wire::Frame { hello: hello.take(), messages });
        }
        std::future::pending().await
    };
    let call = client.deliver(tokio_stream::wrappers::ReceiverStream::new(receiver));
    tokio::select! {
        answer = call => match answer {
            Ok(_) => tonic::Status::aborted("the other side ended the stream"),
            Err(status) => status,
        },
        never = feed => never,
    }
}
