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

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rockpool_sql::{SqlError, SqlState};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Plaintext;
use crate::database::{Database, DbError};
use crate::metrics::Metrics;

pub use scram::Verifier;

use cancel::Cancels;

/// How long a client may take from connecting to its login.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections accepted beyond the limit at once, only to be told of it.
const REFUSED_CONNECTIONS_MAX: usize = 64;
/// A pause after the system refused to accept a connection (no more file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's bytes, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

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
    /// Makes the salts of roles that are not there.
    pub(crate) nobody_secret: [u8; 32],
    /// Connections that are being served.
    pub(crate) connections: AtomicUsize,
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
    pub fn new(
        database: Database,
        tls: Arc<rustls::ServerConfig>,
        options: PgOptions,
        metrics: Arc<Metrics>,
    ) -> PgServer {
        let nobody_secret = database.environment().random();
        let shared = PgShared {
            database,
            tls: TlsAcceptor::from(tls),
            plaintext: options.plaintext,
            options,
            cancels: Arc::default(),
            metrics,
            nobody_secret,
            connections: AtomicUsize::new(0),
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
        let taken = shared.connections.fetch_add(1, Ordering::SeqCst);
        let place = Place(Arc::clone(&shared));
        let most = shared.options.connections_max;
        if taken >= most + REFUSED_CONNECTIONS_MAX {
            return;
        }
        self.tasks.spawn(async move {
            let _place = place;
            let _ = socket.set_nodelay(true);
            let logged_in = match tokio::time::timeout(STARTUP_TIMEOUT, startup::log_in(socket, from, &shared)).await {
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
            if taken >= most {
                too_many(logged_in.stream, most).await;
                return;
            }
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

/// A connection's place in the count.
struct Place(Arc<PgShared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
