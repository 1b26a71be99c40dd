//! A cluster in one process: engines on loopback ports under mutual TLS, each with a folder of its own.

#![allow(dead_code, reason = "each test program uses a part")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rockpool_runtime::{
    Class, Direction, Engine, EngineError, EngineOptions, EngineStatus, GroupId, NodeId, Timestamp, TlsOptions,
    Transaction, TransportOptions,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

pub const GROUP: GroupId = GroupId(1);
/// Nothing that these tests wait for takes longer, even on a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
const SERVER_NAME: &str = "rockpool.internal";

/// A certificate authority and what it issues.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, node: NodeId) -> TlsOptions {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("node {}", node.0));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsOptions {
            authority_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            server_name: SERVER_NAME.to_owned(),
            node_of,
        }
    }
}

fn node_of(certificate: &[u8]) -> Option<NodeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("node ")?.parse().ok().map(NodeId)
}

/// One node: its folder and address stay, its engine comes and goes.
pub struct TestNode {
    pub id: NodeId,
    pub address: SocketAddr,
    options: EngineOptions,
    running: Option<(Engine, JoinHandle<()>, CancellationToken)>,
}

impl TestNode {
    pub fn engine(&self) -> &Engine {
        &self.running.as_ref().expect("the node runs").0
    }

    pub fn status(&self) -> std::sync::Arc<EngineStatus> {
        self.engine().status()
    }

    async fn start(&mut self, listener: TcpListener, peers: &BTreeMap<NodeId, String>) {
        // After a kill, the threads of the engine before need a moment to let go of the folder.
        let started = Instant::now();
        let engine = loop {
            match Engine::open(self.options.clone()).await {
                Ok(engine) => break engine,
                Err(error) => assert!(started.elapsed() < DEADLINE, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        engine.set_peers(peers).unwrap();
        let stop = CancellationToken::new();
        let mut server = Server::builder();
        if let Some(tls) = &self.options.transport.tls {
            let config = ServerTlsConfig::new()
                .identity(Identity::from_pem(&tls.certificate_pem, &tls.key_pem))
                .client_ca_root(Certificate::from_pem(&tls.authority_pem))
                .client_auth_optional(true);
            server = server.tls_config(config).unwrap();
        }
        let service = server.add_service(engine.grpc_service());
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            tokio::select! {
                result = service.serve_with_incoming(incoming) => result.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        self.running = Some((engine, serving, stop));
    }

    /// As SIGKILL: nothing is handed over, drained or flushed.
    pub async fn kill(&mut self) {
        let (engine, serving, stop) = self.running.take().expect("the node runs");
        drop(engine);
        stop.cancel();
        serving.await.unwrap();
    }

    /// As SIGTERM.
    pub async fn stop(&mut self) {
        let (engine, serving, stop) = self.running.take().expect("the node runs");
        engine.shutdown().await;
        stop.cancel();
        serving.await.unwrap();
    }
}

pub struct Cluster {
    pub nodes: Vec<TestNode>,
    pub authority: Authority,
    folder: tempfile::TempDir,
    tune: fn(&mut EngineOptions),
}

impl Cluster {
    /// Node 1 bootstraps, the others join one after the other.
    pub async fn start(size: u64) -> Cluster {
        Cluster::start_tuned(size, |_| {}).await
    }

    pub async fn start_tuned(size: u64, tune: fn(&mut EngineOptions)) -> Cluster {
        // RUST_LOG=rockpool_runtime=debug shows what went on in a test that failed.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { nodes: Vec::new(), authority: Authority::new(), folder, tune };
        for _ in 0..size {
            cluster.join().await;
        }
        cluster
    }

    pub fn folder(&self, id: NodeId) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    pub fn peers(&self) -> BTreeMap<NodeId, String> {
        self.nodes.iter().map(|node| (node.id, node.address.to_string())).collect()
    }

    /// Starts one more node and returns when it votes.
    pub async fn join(&mut self) -> NodeId {
        let id = NodeId(self.nodes.len() as u64 + 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = EngineOptions::new(self.folder(id), id);
        options.bootstrap = id == NodeId(1);
        options.transport = TransportOptions { tls: Some(self.authority.issue(id)) };
        (self.tune)(&mut options);
        let mut node = TestNode { id, address, options, running: None };
        node.start(listener, &self.peers()).await;
        self.nodes.push(node);
        let peers = self.peers();
        for node in &self.nodes {
            node.engine().set_peers(&peers).unwrap();
        }
        if id != NodeId(1) {
            let started = Instant::now();
            loop {
                let leader = self.leader().await;
                match self.node(leader).engine().add_node(id, address.to_string()).await {
                    Ok(()) => break,
                    Err(error) => {
                        assert!(error.class() == Class::Retry && started.elapsed() < DEADLINE, "{error}")
                    }
                }
            }
        }
        // Not before the joint state is left: until then the old voters' majority counts as well.
        self.wait_for(id, "it votes", |status| {
            status
                .group(GROUP)
                .is_some_and(|group| group.voters.contains(&status.node) && group.voters_outgoing.is_empty())
        })
        .await;
        id
    }

    pub fn node(&self, id: NodeId) -> &TestNode {
        &self.nodes[id.0 as usize - 1]
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut TestNode {
        &mut self.nodes[id.0 as usize - 1]
    }

    fn running(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.iter().filter(|node| node.running.is_some())
    }

    /// Starts a node that was stopped or killed.
    pub async fn restart(&mut self, id: NodeId) {
        let peers = self.peers();
        let node = self.node_mut(id);
        let listener = TcpListener::bind(node.address).await.unwrap();
        node.start(listener, &peers).await;
    }

    /// A leader that knows it; waits for one.
    pub async fn leader(&self) -> NodeId {
        let waiting = self.running().map(|node| {
            let mut status = node.engine().subscribe();
            Box::pin(async move { status.wait_for(|status| status.leads(GROUP)).await.map(|status| status.node) })
        });
        let waiting: Vec<_> = waiting.collect();
        let any = async {
            let mut waiting = waiting;
            std::future::poll_fn(|context| {
                for future in &mut waiting {
                    if let std::task::Poll::Ready(Ok(node)) = future.as_mut().poll(context) {
                        return std::task::Poll::Ready(node);
                    }
                }
                std::task::Poll::Pending
            })
            .await
        };
        tokio::time::timeout(DEADLINE, any).await.expect("somebody leads")
    }

    pub async fn wait_for(&self, id: NodeId, what: &str, condition: impl FnMut(&std::sync::Arc<EngineStatus>) -> bool) {
        let mut status = self.node(id).engine().subscribe();
        let waiting = status.wait_for(condition);
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(found) => drop(found.expect("the machine runs")),
            Err(_) => panic!("{id}: not true in time: {what}. {:?}", self.node(id).status()),
        }
    }
}

/// Runs a transaction until it commits; conflicts and elections are part of life.
pub async fn transact<T>(
    engine: &Engine,
    mut run: impl FnMut(&mut Transaction) -> T,
) -> Result<(T, Option<Timestamp>), EngineError> {
    let started = Instant::now();
    loop {
        let attempt = async {
            let mut transaction = engine.begin().await?;
            let result = run(&mut transaction);
            Ok((result, engine.commit(transaction).await?))
        };
        match attempt.await {
            Err(error @ EngineError::ShuttingDown) => return Err(error),
            Err(error) => {
                let retry: &EngineError = &error;
                if retry.class() != Class::Retry || started.elapsed() > DEADLINE {
                    return Err(error);
                }
            }
            Ok(result) => return Ok(result),
        }
    }
}

pub async fn put(engine: &Engine, key: &str, value: &str) -> Timestamp {
    let write = |transaction: &mut Transaction| transaction.put(key.into(), value.into()).unwrap();
    transact(engine, write).await.unwrap().1.expect("it wrote")
}

pub async fn get(engine: &Engine, key: &str) -> Option<String> {
    let read = |transaction: &mut Transaction| transaction.get(key.as_bytes()).unwrap();
    transact(engine, read).await.unwrap().0.map(|value| String::from_utf8(value).unwrap())
}

pub async fn count(engine: &Engine, start: &str, end: &str) -> usize {
    let scan = |transaction: &mut Transaction| {
        transaction.scan(start.as_bytes(), end.as_bytes(), Direction::Forward).map(Result::unwrap).count()
    };
    transact(engine, scan).await.unwrap().0
}
