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
use rockpool_sqlnode::pg::{PgOptions, PgSecrets, PgServer, Verifier};
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
        let secrets = PgSecrets {
            tls: Arc::new(tls.server_config().unwrap()),
            certificate_hash: tls.certificate_hash(),
            nobody_secret: authority.nobody_secret(),
            root_password: None,
        };
        let pg = Arc::new(PgServer::new(database, secrets, options, Arc::clone(&metrics)));
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

/// One message: type and body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Root's connection, for what no driver sends.
pub struct Raw(TlsStream<TcpStream>);

impl Raw {
    pub async fn send(&mut self, messages: &[Vec<u8>]) {
        use tokio::io::AsyncWriteExt;
        self.0.write_all(&messages.concat()).await.unwrap();
    }

    pub async fn receive(&mut self) -> (u8, Vec<u8>) {
        use tokio::io::AsyncReadExt;
        let read = async {
            let kind = self.0.read_u8().await.unwrap();
            let mut body = vec![0; self.0.read_u32().await.unwrap() as usize - 4];
            self.0.read_exact(&mut body).await.unwrap();
            (kind, body)
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("a message in time")
    }

    /// What comes up to the next ReadyForQuery: the types, and the SQLSTATEs of errors.
    pub async fn until_ready(&mut self) -> String {
        let mut seen = String::new();
        loop {
            let (kind, body) = self.receive().await;
            seen.push(char::from(kind));
            if kind == b'E' {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                seen += &format!("({})", String::from_utf8_lossy(code.unwrap_or_default()));
            }
            if kind == b'Z' {
                return seen;
            }
        }
    }
}

impl Server {
    /// A login by hand (RFC 5802).
    pub async fn raw_login(&self) -> Raw {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD as BASE64;
        use hmac::{KeyInit, Mac};
        use sha2::Digest;
        let hmac = |key: &[u8], data: &[u8]| -> Vec<u8> {
            let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        };
        let mut raw = Raw(self.raw().await);
        let startup = b"\0\x03\0\0user\0root\0database\0rockpool\0\0";
        raw.send(&[((startup.len() as u32 + 4).to_be_bytes()).to_vec(), startup.to_vec()]).await;
        assert_eq!(raw.receive().await.0, b'R');
        let bare = "n=,r=nonce";
        let first = [b"SCRAM-SHA-256\0", &(3 + bare.len() as u32).to_be_bytes()[..], b"n,,", bare.as_bytes()].concat();
        raw.send(&[message(b'p', &first)]).await;
        let (_, answer) = raw.receive().await;
        let answer = String::from_utf8(answer[4..].to_vec()).unwrap();
        let field = |name: &str| answer.split(',').find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
        let salt = BASE64.decode(field("s=")).unwrap();
        let mut round = hmac(PASSWORD.as_bytes(), &[&salt[..], &1u32.to_be_bytes()].concat());
        let mut salted = round.clone();
        for _ in 1..field("i=").parse::<u32>().unwrap() {
            round = hmac(PASSWORD.as_bytes(), &round);
            salted.iter_mut().zip(&round).for_each(|(sum, byte)| *sum ^= byte);
        }
        let client_key = hmac(&salted, b"Client Key");
        let unproved = format!("c=biws,r={}", field("r="));
        let signature = hmac(&sha2::Sha256::digest(&client_key), format!("{bare},{answer},{unproved}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(left, right)| left ^ right).collect();
        raw.send(&[message(b'p', format!("{unproved},p={}", BASE64.encode(proof)).as_bytes())]).await;
        let seen = raw.until_ready().await;
        assert!(seen.starts_with("RR") && seen.ends_with('Z'), "{seen}");
        raw
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
