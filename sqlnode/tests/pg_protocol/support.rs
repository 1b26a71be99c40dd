//! A listener with its own certificate authority, and the ways to connect to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rockpool_proto::NodeId;
use rockpool_sql::Caches;
use rockpool_sqlnode::cluster::{Addresses, prepare_database};
use rockpool_sqlnode::config::Plaintext;
use rockpool_sqlnode::database::{Database, MemoryBackend, SystemEnvironment};
use rockpool_sqlnode::identity::{Authority, ClusterId, NodeKey};
use rockpool_sqlnode::metrics::Metrics;
use rockpool_sqlnode::pg::{PgOptions, PgServer, Verifier};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const PASSWORD: &str = "correct horse";

pub struct Server {
    pub pg: Arc<PgServer>,
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    authority: CertificateDer<'static>,
}

pub fn options() -> PgOptions {
    PgOptions {
        plaintext: Plaintext::Refused,
        connections_max: 16,
        statement_timeout: Duration::ZERO,
        idle_in_transaction_timeout: Duration::ZERO,
    }
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with(options()).await
    }

    pub async fn start_with(options: PgOptions) -> Server {
        let backend = Arc::new(MemoryBackend::new());
        let database = Database::new(backend, Caches::default(), Arc::new(SystemEnvironment));
        let first = Addresses {
            node_id: NodeId(1),
            grpc: "127.0.0.1:1".to_owned(),
            pg: "127.0.0.1:2".to_owned(),
            http: "127.0.0.1:3".to_owned(),
        };
        let verifier = Verifier::of_password(PASSWORD, [7; 16]);
        prepare_database(&database, ClusterId([1; 16]), &first, &verifier).await.expect("the system tables");

        let authority = Authority::generate("test").unwrap();
        let key = NodeKey::generate().unwrap();
        let certificate = authority.issue(&key.request, NodeId(1), "127.0.0.1").unwrap();
        let tls = key.with_certificate(&authority, certificate);
        let metrics = Arc::new(Metrics::new());
        let tls_config = Arc::new(tls.server_config().unwrap());
        let pg = Arc::new(PgServer::new(database, tls_config, options, Arc::clone(&metrics)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&pg);
        tokio::spawn(async move { serving.serve(listener).await });
        Server { pg, address, metrics, authority: authority.certificate().clone() }
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.address.port()).user("root").password(PASSWORD).dbname("rockpool");
        config.ssl_mode(SslMode::Require);
        config
    }

    pub fn tls(&self) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A connection as root.
    pub async fn connect(&self) -> Client {
        self.connect_with(&self.config()).await.expect("the login")
    }

    pub async fn connect_with(&self, config: &Config) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = config.connect(MakeRustlsConnect::new(self.tls())).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A TLS connection that has said nothing yet.
    pub async fn raw(&self) -> TlsStream<TcpStream> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"S");
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(self.tls())).connect(name, socket).await.unwrap()
    }
}

/// The SQLSTATE of a failed call.
pub fn code<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> String {
    let error = result.unwrap_err();
    error.code().map_or_else(|| format!("no code: {error}"), |code| code.code().to_owned())
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
