//! The runtime under WebRTC: tokio, with UDP sockets that can hold a burst.
//!
//! Nothing in the library sizes its sockets. With the kernel's default of 208 KiB a burst of a sender's window overflows
//! the receiver, and SCTP waits a second for each loss: 60 Mbit/s instead of 4 Gbit/s. So every socket is asked for
//! [`SOCKET_BUFFER_BYTES`] before it is used, by force where the process may (root), and what the kernel granted is
//! remembered, because the window that a device grants its peers must fit into it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// Bytes asked for, each way.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Least receive buffer that any socket of this process was granted.
static GRANTED_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tokio's runtime for WebRTC, with larger socket buffers.
#[derive(Debug)]
pub(super) struct TunedRuntime;

/// Sizes one socket and returns its receive buffer. A refusal is no error: the link is slower, not wrong.
fn enlarge(socket: &std::net::UdpSocket) -> usize {
    let _ = sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES));
    let _ = sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES));
    // Linux reports twice the number that was set: the other half is its own bookkeeping.
    sockopt::socket_recv_buffer_size(socket).map_or(0, |reported| reported / 2)
}

/// What a receive buffer of this process holds, found out with a socket of its own when none was made so far.
pub(super) fn granted_receive_bytes() -> usize {
    if GRANTED_BYTES.load(Ordering::Relaxed) == usize::MAX {
        let granted = std::net::UdpSocket::bind("127.0.0.1:0").map_or(SOCKET_BUFFER_BYTES, |socket| enlarge(&socket));
        GRANTED_BYTES.fetch_min(granted, Ordering::Relaxed);
        if granted < SOCKET_BUFFER_BYTES {
            tracing::info!(
                granted_bytes = granted,
                wanted_bytes = SOCKET_BUFFER_BYTES,
                "the kernel limits UDP buffers; transfers are faster with sysctl net.core.rmem_max and wmem_max raised"
            );
        }
    }
    GRANTED_BYTES.load(Ordering::Relaxed)
}

impl Runtime for TunedRuntime {
    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, pool_size: usize, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(pool_size, future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        enlarge(&socket);
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "tokio, large socket buffers"
    }
}
