//! Nodes, people and streams for the tests.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use rockpool_proto::NodeId;
use rockpool_proto::limits::SIGN_UPS_PER_HOUR_MAX;
use rockpool_proto::meta::v1::auth_client::AuthClient;
use rockpool_proto::meta::v1::devices_client::DevicesClient;
use rockpool_proto::meta::v1::pools_client::PoolsClient;
use rockpool_proto::meta::v1::signalling_client::SignallingClient;
use rockpool_proto::meta::v1::{self as wire, from_cluster::Kind, to_cluster};
use rockpool_sql::{Caches, Direction, Store};
use rockpool_sqlnode::database::{Backend, BackendTransaction, Database, DbError, MemoryBackend, ShiftedEnvironment};
use rockpool_sqlnode::rooms::nodes::Caller;
use rockpool_sqlnode::rooms::{Nodes, Rooms};
use rockpool_sqlnode::services::Services;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status, Streaming};

/// Longer than anything here should take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const PASSWORD: &str = "correct horse battery";

/// Nodes that share a backend and a clock.
pub struct Cluster {
    pub backend: MemoryBackend,
    /// While it is set the nodes find no majority.
    pub outage: Arc<AtomicBool>,
    pub clock: Arc<ShiftedEnvironment>,
    directory: Arc<Mutex<HashMap<NodeId, SocketAddr>>>,
    /// Where a node finds another at a false address.
    diverted: Arc<Mutex<HashMap<(NodeId, NodeId), SocketAddr>>>,
}

impl Cluster {
    pub fn new() -> Self {
        Self {
            backend: MemoryBackend::new(),
            outage: Arc::default(),
            clock: Arc::default(),
            directory: Arc::default(),
            diverted: Arc::default(),
        }
    }

    /// One node of a new cluster.
    pub async fn single() -> (Self, Node) {
        let cluster = Self::new();
        let node = cluster.start(1).await;
        (cluster, node)
    }

    /// Makes one node look for another where `address` says.
    pub fn divert(&self, from: u64, to: u64, address: SocketAddr) {
        self.diverted.lock().insert((NodeId(from), NodeId(to)), address);
    }

    /// Starts a node whose callers all count as nodes: there are no certificates without TLS.
    pub async fn start(&self, id: u64) -> Node {
        self.start_with(id, true).await
    }

    /// Starts a node.
    pub async fn start_with(&self, id: u64, trusting: bool) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(format!("node-{id}"))
            .enable_all()
            .build()
            .unwrap();
        let nodes = Directory {
            me: NodeId(id),
            trusting,
            addresses: Arc::clone(&self.directory),
            diverted: Arc::clone(&self.diverted),
        };
        let backend = Breakable { backend: self.backend.clone(), outage: Arc::clone(&self.outage) };
        let database = Database::new(Arc::new(backend), Caches::default(), self.clock.clone());
        let (ready, started) = oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let rooms = Rooms::start(database.clone(), Arc::new(nodes));
            let services = Services::open(database.clone(), rooms.clone(), SIGN_UPS_PER_HOUR_MAX).await.unwrap();
            let routes = services.routes();
            ready.send((address, rooms, database)).ok().unwrap();
            Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let (address, rooms, database) = timeout(DEADLINE, started).await.unwrap().unwrap();
        self.directory.lock().insert(NodeId(id), address);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Node { rooms, database, channel, runtime: Some(runtime) }
    }

    /// Everything that the nodes have stored, keys and values.
    pub async fn stored_bytes(&self) -> Vec<Vec<u8>> {
        let transaction = self.backend.begin().await.unwrap();
        let store: &dyn Store = &*transaction;
        let pairs = store.scan(&[], &[0xff; 64], Direction::Forward).unwrap();
        pairs.flat_map(|pair| <[Vec<u8>; 2]>::from(pair.unwrap())).collect()
    }
}

/// A backend that can lose its majority.
struct Breakable {
    backend: MemoryBackend,
    outage: Arc<AtomicBool>,
}

impl Breakable {
    fn check(&self) -> Result<(), DbError> {
        if self.outage.load(Ordering::SeqCst) { Err(DbError::Unavailable("no majority".into())) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl Backend for Breakable {
    async fn begin(&self) -> Result<Box<dyn BackendTransaction>, DbError> {
        self.check()?;
        self.backend.begin().await
    }

    async fn commit(&self, transaction: Box<dyn BackendTransaction>) -> Result<(), DbError> {
        self.check()?;
        self.backend.commit(transaction).await
    }
}

struct Directory {
    me: NodeId,
    trusting: bool,
    addresses: Arc<Mutex<HashMap<NodeId, SocketAddr>>>,
    diverted: Arc<Mutex<HashMap<(NodeId, NodeId), SocketAddr>>>,
}

impl Nodes for Directory {
    fn me(&self) -> NodeId {
        self.me
    }

    fn channel(&self, node: NodeId) -> Option<Channel> {
        let diverted = self.diverted.lock().get(&(self.me, node)).copied();
        let address = diverted.or_else(|| self.addresses.lock().get(&node).copied())?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Some(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy())
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.lock().values().map(ToString::to_string).collect()
    }

    fn cluster_id(&self) -> [u8; 16] {
        [7; 16]
    }

    fn require_node(&self, caller: Caller) -> Result<(), Status> {
        match caller {
            Caller::Anonymous if !self.trusting => Err(Status::permission_denied("not a node")),
            _ => Ok(()),
        }
    }
}

/// A running node. Dropping it kills it.
pub struct Node {
    pub rooms: Rooms,
    pub database: Database,
    pub channel: Channel,
    runtime: Option<Runtime>,
}

impl Node {
    /// Ends everything that the node does, at once and without a word.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn pools(&self) -> PoolsClient<Channel> {
        PoolsClient::new(self.channel.clone())
    }

    pub fn devices(&self) -> DevicesClient<Channel> {
        DevicesClient::new(self.channel.clone())
    }

    pub fn signalling(&self) -> SignallingClient<Channel> {
        SignallingClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// A new account with its first device.
    pub async fn sign_up(&self, name: &str) -> Login {
        let device = TestDevice::new(&format!("{name}'s laptop"));
        let request = wire::SignUpRequest {
            login_name: name.into(),
            display_name: name.to_uppercase(),
            password: PASSWORD.into(),
            device: Some(device.claim(self).await),
        };
        let reply = self.auth().sign_up(request).await.unwrap().into_inner();
        Login::new(device, reply)
    }

    /// Logs a device in.
    pub async fn login(&self, name: &str, password: &str, device: &TestDevice) -> Result<Login, Status> {
        let request = wire::LoginRequest {
            login_name: name.into(),
            password: password.into(),
            device: Some(device.claim(self).await),
        };
        let reply = self.auth().login(request).await?.into_inner();
        Ok(Login::new(device.clone(), reply))
    }

    /// A pool made by `owner`, to which `others` belong as well.
    pub async fn pool(&self, owner: &Login, others: &[&Login]) -> Vec<u8> {
        let request = owner.asks(wire::CreatePoolRequest { name: "Kitchen".into() });
        let pool_id = self.pools().create(request).await.unwrap().into_inner().pool_id;
        for other in others {
            let request = owner.asks(wire::InviteRequest { pool_id: pool_id.clone(), ..Default::default() });
            let invite = self.pools().invite(request).await.unwrap().into_inner().invite;
            self.pools().join(other.asks(wire::JoinRequest { invite })).await.unwrap();
        }
        pool_id.to_vec()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A device's keys.
#[derive(Clone)]
pub struct TestDevice {
    pub name: String,
    pub key: SigningKey,
    pub exchange_key: [u8; 32],
}

impl TestDevice {
    pub fn new(name: &str) -> Self {
        let (mut seed, mut exchange_key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut seed).unwrap();
        getrandom::fill(&mut exchange_key).unwrap();
        Self { name: name.into(), key: SigningKey::from_bytes(&seed), exchange_key }
    }

    /// What the device says of itself, for a challenge of that node.
    pub async fn claim(&self, node: &Node) -> wire::DeviceClaim {
        let challenge = node.auth().challenge(wire::ChallengeRequest {}).await.unwrap().into_inner().challenge;
        let signed = [&b"rockpool 2026 device registration v1\0"[..], &challenge, &self.exchange_key].concat();
        wire::DeviceClaim {
            name: self.name.clone(),
            r#type: wire::DeviceType::Desktop.into(),
            signing_key: self.key.verifying_key().to_bytes().to_vec().into(),
            exchange_key: self.exchange_key.to_vec().into(),
            challenge,
            proof: self.key.sign(&signed).to_bytes().to_vec().into(),
        }
    }
}

/// A device that has logged in.
#[derive(Clone)]
pub struct Login {
    pub keys: TestDevice,
    pub account: wire::Account,
    pub device: wire::Device,
    pub tokens: wire::SessionTokens,
}

impl Login {
    fn new(keys: TestDevice, reply: wire::LoginReply) -> Self {
        Self { keys, account: reply.account.unwrap(), device: reply.device.unwrap(), tokens: reply.tokens.unwrap() }
    }

    pub fn device_id(&self) -> Vec<u8> {
        self.device.device_id.to_vec()
    }

    /// A request that shows this login's access token.
    pub fn asks<T>(&self, message: T) -> Request<T> {
        bearer(&self.tokens.access_token, message)
    }

    /// Connects to a pool and waits for the welcome.
    pub async fn open(&self, node: &Node, pool: &[u8]) -> Result<Stream, Status> {
        self.open_at(node, pool, None).await
    }

    /// Connects to a pool, saying where the device sat.
    pub async fn open_at(&self, node: &Node, pool: &[u8], last_place: Option<wire::Place>) -> Result<Stream, Status> {
        let (up, messages) = mpsc::channel(16);
        let open = wire::Open { pool_id: pool.to_vec().into(), last_place };
        up.send(wire::ToCluster { kind: Some(to_cluster::Kind::Open(open)) }).await.unwrap();
        let attach = async {
            let mut down = node.signalling().attach(self.asks(ReceiverStream::new(messages))).await?.into_inner();
            let first = down.message().await?;
            Ok::<_, Status>((down, first))
        };
        let (down, first) = timeout(DEADLINE, attach).await.expect("an answer to Open")?;
        match first.and_then(|message| message.kind) {
            Some(Kind::Welcome(welcome)) => Ok(Stream::new(up, down, welcome)),
            Some(Kind::Ended(ended)) => Err(Status::aborted(format!("{:?}: {}", ended.reason(), ended.text))),
            other => panic!("the first message down is {other:?}"),
        }
    }
}

/// A request that shows that access token.
pub fn bearer<T>(token: &[u8], message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", hex::encode(token)).parse().unwrap());
    request
}

/// A device's stream, which follows the roster as a peer does.
pub struct Stream {
    pub up: mpsc::Sender<wire::ToCluster>,
    pub down: Streaming<wire::FromCluster>,
    pub presence_epoch: u64,
    pub members: Vec<wire::Member>,
    pub absence: Option<wire::Absence>,
    pub roster: BTreeMap<Vec<u8>, wire::RosterNode>,
    pub lease_epoch: u64,
    pub sequence: u64,
}

impl Stream {
    fn new(up: mpsc::Sender<wire::ToCluster>, down: Streaming<wire::FromCluster>, welcome: wire::Welcome) -> Self {
        let roster = welcome.roster.unwrap();
        Self {
            up,
            down,
            presence_epoch: welcome.presence_epoch,
            members: welcome.members,
            absence: welcome.absence,
            lease_epoch: roster.lease_epoch,
            sequence: roster.sequence,
            roster: roster.nodes.into_iter().map(|node| (node.device_id.to_vec(), node)).collect(),
        }
    }

    pub async fn send(&self, kind: to_cluster::Kind) {
        self.up.send(wire::ToCluster { kind: Some(kind) }).await.unwrap();
    }

    /// Answers once the room has taken everything that was sent before.
    pub async fn ping(&mut self, nonce: u64) {
        self.send(to_cluster::Kind::Ping(wire::Ping { nonce })).await;
        self.until("a pong", |kind, _| matches!(kind, Kind::Pong(pong) if pong.nonce == nonce).then_some(())).await;
    }

    pub async fn signal(&self, to: &[u8], payload: &[u8]) {
        let signal =
            wire::Signal { to_device_id: to.to_vec().into(), payload: payload.to_vec().into(), ..Default::default() };
        self.send(to_cluster::Kind::Signal(signal)).await;
    }

    /// The next message, with the roster and the members kept up to date.
    pub async fn next(&mut self) -> Result<Option<Kind>, Status> {
        let message = timeout(DEADLINE, self.down.message()).await.expect("another message in time")?;
        let kind = message.map(|message| message.kind.expect("the node sends no empty messages"));
        match &kind {
            Some(Kind::Roster(event)) => self.apply(event.clone()),
            Some(Kind::Member(member)) => self.members.push(member.clone()),
            _ => {}
        }
        Ok(kind)
    }

    fn apply(&mut self, event: wire::RosterEvent) {
        assert_eq!(event.lease_epoch, self.lease_epoch, "a stream belongs to one owner");
        assert_eq!(event.sequence, self.sequence + 1, "no roster event is missing");
        self.sequence = event.sequence;
        if let Some(whole) = event.whole {
            self.roster = whole.nodes.into_iter().map(|node| (node.device_id.to_vec(), node)).collect();
            return;
        }
        if !event.removed_device_id.is_empty() {
            assert!(self.roster.remove(&event.removed_device_id[..]).is_some(), "who was there is removed");
        }
        for node in event.joined.into_iter().chain(event.moved) {
            self.roster.insert(node.device_id.to_vec(), node);
        }
    }

    /// Reads on until a message (or the stream's state after it) is what is waited for.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Kind, &Self) -> Option<T>) -> T {
        loop {
            match self.next().await {
                Ok(Some(kind)) => {
                    if let Some(found) = wanted(&kind, self) {
                        return found;
                    }
                }
                ended => panic!("{what} was expected, and the stream ended: {ended:?}"),
            }
        }
    }

    /// Reads on until exactly these devices are present.
    pub async fn until_present(&mut self, devices: &[&Login]) {
        let mut wanted: Vec<Vec<u8>> = devices.iter().map(|login| login.device_id()).collect();
        wanted.sort();
        while !self.roster.keys().eq(wanted.iter()) {
            self.until("a roster event", |kind, _| matches!(kind, Kind::Roster(_)).then_some(())).await;
        }
    }

    /// Reads on until the cluster ends the stream; why.
    pub async fn until_ended(&mut self) -> wire::ended::Reason {
        let reason = self
            .until("an end", |kind, _| if let Kind::Ended(ended) = kind { Some(ended.reason()) } else { None })
            .await;
        assert!(matches!(self.next().await, Ok(None)), "nothing follows the end");
        reason
    }

    pub fn place(&self, login: &Login) -> wire::Place {
        self.roster[&login.device_id()].place.clone().unwrap()
    }
}
