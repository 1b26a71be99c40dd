//! The PostgreSQL protocol: who may connect, and one task for each connection.
//!
//! ```text
//!   accept --> startup      TLS, startup packet, SCRAM                      (one deadline)
//!          --> connection   messages in, messages out                       (the loop)
//!                |-- session::SqlSession   what a statement does to the transaction block: a machine
//!                |-- run                   begins, executes, commits, tries again
//!                |-- respond, encoding     rows on their way out
//! ```
//!
//! pgwire's types stay inside this folder.

mod bind;
mod cancel;
mod connection;
mod copy;
mod encoding;
mod frontend;
mod portal;
mod privileges;
mod respond;
mod run;
mod scram;
mod startup;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rockpool_sql::{SqlError, SqlState};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Plaintext;
use crate::database::{Database, DbError};
use crate::identity::RootPassword;
use crate::metrics::Metrics;

pub use scram::Verifier;

use cancel::Cancels;

/// How long a client may take from connecting to its login.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Logins that may be under way at once besides one for each connection that may be served.
const LOGINS_SPARE: usize = 256;
/// A connection that is silent for so long is asked whether its client still lives: a host that lost its power says no
/// goodbye, and would keep its place for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions until it is gone.
const KEEPALIVE_QUESTIONS: u32 = 4;
/// A pause after the system refused to accept a connection (no more file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's bytes, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What the listener proves to its clients.
pub struct PgSecrets {
    /// Certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
    /// SHA-256 of the certificate, to which clients may bind their login.
    pub certificate_hash: [u8; 32],
    /// Makes the salts of roles that are not there. The same on every node and after every start, as those of roles that
    /// are: or it would show which is which.
    pub nobody_secret: [u8; 32],
    /// Where root's password is kept for this machine's users, where it is.
    pub root_password: Option<Arc<RootPassword>>,
}

/// Settings of the listener.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Who may go without TLS.
    pub plaintext: Plaintext,
    /// Connections served at once.
    pub connections_max: usize,
    /// How long a statement may run, unless its session says otherwise; zero: no limit.
    pub statement_timeout: Duration,
    /// How long an open block may wait for its client; zero: no limit.
    pub idle_in_transaction_timeout: Duration,
}

/// What all connections share.
pub(crate) struct PgShared {
    pub(crate) database: Database,
    pub(crate) tls: TlsAcceptor,
    pub(crate) plaintext: Plaintext,
    pub(crate) options: PgOptions,
    pub(crate) cancels: Arc<Cancels>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) certificate_hash: [u8; 32],
    pub(crate) nobody_secret: [u8; 32],
    pub(crate) root_password: Option<Arc<RootPassword>>,
    /// Connections that are being served.
    connections: AtomicUsize,
    logins: Logins,
    pub(crate) stopping: CancellationToken,
}

/// The listener.
pub struct PgServer {
    shared: Arc<PgShared>,
    tasks: TaskTracker,
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client left.
    #[error("closed by the client")]
    Closed,
    /// The network failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The client was told why, or will be.
    #[error("{0}")]
    Refused(SqlError),
}

impl Ended {
    /// The client broke the protocol.
    pub(crate) fn protocol(message: &str) -> Ended {
        Ended::Refused(SqlError::new(SqlState::PROTOCOL_VIOLATION, message))
    }
}

impl From<frontend::FrameError> for Ended {
    fn from(error: frontend::FrameError) -> Self {
        Ended::protocol(&error.to_string())
    }
}

impl From<DbError> for Ended {
    fn from(error: DbError) -> Self {
        Ended::Refused(sql_error(error))
    }
}

/// What a client is told of a failed transaction.
pub(crate) fn sql_error(error: DbError) -> SqlError {
    let state = match &error {
        DbError::Sql(error) => return error.clone(),
        DbError::Conflict(_) => SqlState::SERIALIZATION_FAILURE,
        DbError::Unavailable(_) => SqlState::CANNOT_CONNECT_NOW,
        DbError::Stopping => SqlState::ADMIN_SHUTDOWN,
        DbError::OutcomeUnknown(_) => SqlState::STATEMENT_COMPLETION_UNKNOWN,
        DbError::Limit(_) => SqlState::PROGRAM_LIMIT_EXCEEDED,
        DbError::Fatal(_) | DbError::Refused(_) => SqlState::INTERNAL_ERROR,
    };
    let described = SqlError::new(state, error.to_string());
    match error {
        DbError::Conflict(_) => described.with_hint("The transaction might succeed if retried."),
        _ => described,
    }
}

impl PgServer {
    /// A listener that is not yet listening.
    pub fn new(database: Database, secrets: PgSecrets, options: PgOptions, metrics: Arc<Metrics>) -> PgServer {
        let shared = PgShared {
            database,
            tls: TlsAcceptor::from(secrets.tls),
            plaintext: options.plaintext,
            options,
            cancels: Arc::default(),
            metrics,
            certificate_hash: secrets.certificate_hash,
            nobody_secret: secrets.nobody_secret,
            root_password: secrets.root_password,
            connections: AtomicUsize::new(0),
            logins: Logins::default(),
            stopping: CancellationToken::new(),
        };
        PgServer { shared: Arc::new(shared), tasks: TaskTracker::new() }
    }

    /// Accepts until [`PgServer::stop`].
    pub async fn serve(&self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, from)) => self.accept(socket, from),
                Err(error) => {
                    tracing::warn!(%error, "can't accept a PostgreSQL connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn accept(&self, socket: TcpStream, from: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        let login = shared.logins.begin(shared.options.connections_max + LOGINS_SPARE);
        self.tasks.spawn(async move {
            if let Err(error) = prepare(&socket) {
                tracing::debug!(%from, %error, "the options of a connection could not be set");
            }
            let logged_in = tokio::select! {
                logged_in = tokio::time::timeout(STARTUP_TIMEOUT, startup::log_in(socket, from, &shared)) => logged_in,
                () = shared.stopping.cancelled() => return,
                () = login.pushed_out.cancelled() => {
                    tracing::debug!(%from, "a PostgreSQL client that was slow to log in made room for others");
                    return;
                }
            };
            shared.logins.end(&login);
            let logged_in = match logged_in {
                Ok(Ok(logged_in)) => logged_in,
                Ok(Err(ended)) => {
                    tracing::debug!(%from, %ended, "a PostgreSQL connection ended before its login");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%from, "a PostgreSQL client took too long to log in");
                    return;
                }
            };
            let most = shared.options.connections_max;
            let Some(_place) = Place::take(&shared, most) else {
                too_many(logged_in.stream, most).await;
                return;
            };
            let ended = connection::serve(logged_in, &shared).await;
            tracing::debug!(%from, %ended, "a PostgreSQL connection ended");
        });
    }

    /// Stops accepting; idle connections end at once, those in a transaction may finish.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
        self.tasks.close();
    }

    /// Waits until the last connection is gone; when `deadline` passes first, running statements are stopped.
    pub async fn drained(&self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            self.shared.cancels.cancel_all();
            let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
    }

    /// Connections that are being served.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

async fn too_many(mut stream: Box<dyn Stream>, most: usize) {
    let error = SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .with_hint(format!("This node takes {most}; see pg_connections_max, or connect to another node."));
    let mut output = respond::Output::default();
    output.error(respond::Severity::Fatal, &error);
    // The client may be gone; there is nobody else to tell.
    let _ = stream.write_all(&output.buffer).await;
    let _ = stream.shutdown().await;
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt::{
        set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
    };
    set_tcp_nodelay(socket, true)?;
    set_socket_keepalive(socket, true)?;
    set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    Ok(set_tcp_keepcnt(socket, KEEPALIVE_QUESTIONS)?)
}

/// A connection's place in the count.
struct Place(Arc<PgShared>);

impl Place {
    fn take(shared: &Arc<PgShared>, most: usize) -> Option<Place> {
        let place = Place(Arc::clone(shared));
        (shared.connections.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The logins that are under way, by age. Whoever connects and says nothing holds no place that others need: when too
/// many are under way, the oldest goes.
#[derive(Default)]
struct Logins {
    under_way: Mutex<(u64, BTreeMap<u64, CancellationToken>)>,
}

struct Login {
    number: u64,
    pushed_out: CancellationToken,
}

impl Logins {
    fn begin(&self, most: usize) -> Login {
        let mut under_way = self.under_way.lock();
        under_way.0 += 1;
        let login = Login { number: under_way.0, pushed_out: CancellationToken::new() };
        under_way.1.insert(login.number, login.pushed_out.clone());
        if under_way.1.len() > most
            && let Some((_, oldest)) = under_way.1.pop_first()
        {
            oldest.cancel();
        }
        login
    }

    fn end(&self, login: &Login) {
        self.under_way.lock().1.remove(&login.number);
    }
}
