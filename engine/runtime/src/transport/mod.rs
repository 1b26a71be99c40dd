//! Messages between nodes: one gRPC stream per sender, receiver and class, under mutual TLS.
//!
//! ```text
//!   machine --send--> SendQueue(node, class) --frames--> stream ~~~ network ~~~ Service --inputs--> Inbox
//!              |  full: dropped                  broken: forgotten, again after a pause
//!              +-- the machine hears Unreachable
//! ```
//!
//! A stream per class, each on a connection of its own, so that a heartbeat waits neither for a snapshot nor for log
//! entries. Whatever waits when the connection can take more travels as one frame.
//!
//! The runtime is told addresses with [`Engine::set_peers`](crate::Engine::set_peers) and knows nothing of membership.

mod queue;
mod sender;
mod service;

pub use service::TransportService;

use crate::error::EngineError;
use crate::inbox::Inbox;
use crate::status::PeerStatus;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use queue::{Pushed, SendQueue};
use rockpool_engine::{Class, NodeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;

/// How nodes reach each other.
#[derive(Clone, Debug, Default)]
pub struct TransportOptions {
    /// Certificates. Without them messages travel in the clear and anybody may send some: for tests and measurements.
    pub tls: Option<TlsOptions>,
}

/// What a node shows to others and checks them against.
#[derive(Clone)]
pub struct TlsOptions {
    /// The cluster's certificate authority, PEM.
    pub authority_pem: String,
    /// This node's certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
    /// The name that every node's certificate carries, whatever its address.
    pub server_name: String,
    /// Which node a verified certificate (DER) belongs to.
    pub node_of: fn(&[u8]) -> Option<NodeId>,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsOptions({})", self.server_name)
    }
}

const CLASSES: [Class; 3] = [Class::Urgent, Class::Log, Class::Bulk];

/// The ways to all other nodes.
pub(crate) struct Transport {
    node: NodeId,
    tls: Option<TlsOptions>,
    inbox: Arc<Inbox>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Ends every stream, in both directions.
    stop: CancellationToken,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

/// The way to one node.
struct Peer {
    node: NodeId,
    address: String,
    endpoint: Endpoint,
    queues: [SendQueue; CLASSES.len()],
    connected: AtomicBool,
    last_error: Mutex<Option<String>>,
    stop: CancellationToken,
}

impl Transport {
    /// Must be called on a tokio runtime, which then carries the streams.
    pub(crate) fn new(node: NodeId, options: TransportOptions, inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Transport {
            node,
            tls: options.tls,
            inbox,
            peers: RwLock::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Takes over who listens where. Streams to nodes that stay where they are go on.
    pub(crate) fn set_peers(self: &Arc<Self>, addresses: &BTreeMap<NodeId, String>) -> Result<(), EngineError> {
        // Checked as a whole before anything changes.
        let mut endpoints = BTreeMap::new();
        for (node, address) in addresses.iter().filter(|(node, _)| **node != self.node) {
            let endpoint = sender::endpoint(address, self.tls.as_ref())
                .map_err(|error| EngineError::Address { node: *node, why: format!("{address}: {error}") })?;
            endpoints.insert(*node, (address, endpoint));
        }
        let mut peers = self.peers.write();
        peers.retain(|node, peer| {
            let stays = endpoints.get(node).is_some_and(|(address, _)| **address == peer.address);
            if !stays {
                peer.stop.cancel();
            }
            stays
        });
        for (node, (address, endpoint)) in endpoints {
            peers.entry(node).or_insert_with(|| {
                let peer = Arc::new(Peer {
                    node,
                    address: address.clone(),
                    endpoint,
                    queues: CLASSES.map(SendQueue::new),
                    connected: AtomicBool::new(false),
                    last_error: Mutex::default(),
                    stop: self.stop.child_token(),
                });
                for class in CLASSES {
                    let (transport, peer) = (self.clone(), peer.clone());
                    self.tasks.spawn_on(async move { sender::run(&transport, &peer, class).await }, &self.runtime);
                }
                peer
            });
        }
        Ok(())
    }

    /// Adds one node to those that are known.
    pub(crate) fn add_peer(self: &Arc<Self>, node: NodeId, address: String) -> Result<(), EngineError> {
        let mut addresses: BTreeMap<_, _> =
            self.peers.read().iter().map(|(node, peer)| (*node, peer.address.clone())).collect();
        addresses.insert(node, address);
        self.set_peers(&addresses)
    }

    /// Hands a message over. False when the machine should know that messages to this node get lost.
    pub(crate) fn send(&self, to: NodeId, class: Class, message: Bytes) -> bool {
        let peers = self.peers.read();
        // A node whose address is not known yet: the machine tries again by itself.
        let Some(peer) = peers.get(&to) else { return true };
        peer.queues[class as usize].push(message) != Pushed::DroppedFirst
    }

    pub(crate) fn status(&self) -> BTreeMap<NodeId, PeerStatus> {
        let peers = self.peers.read();
        peers.iter().map(|(node, peer)| (*node, peer.status())).collect()
    }

    /// Ends all streams.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends all streams and waits until they have.
    pub(crate) async fn stop(&self) {
        self.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Peer {
    fn status(&self) -> PeerStatus {
        PeerStatus {
            address: self.address.clone(),
            connected: self.connected.load(Ordering::Relaxed),
            messages_dropped: self.queues.iter().map(SendQueue::dropped).sum(),
            last_error: self.last_error.lock().clone(),
        }
    }
}
