//! The beginning of a PostgreSQL connection: encryption, the startup packet, the password.
//!
//! ```text
//!   client                         node
//!   SSLRequest            ------>  'S', then TLS
//!   GSSENCRequest         ------>  'N'
//!   CancelRequest         ------>  (acts, closes, says nothing)
//!   StartupMessage        ------>  AuthenticationSASL
//!   SASLInitialResponse   ------>  AuthenticationSASLContinue
//!   SASLResponse          ------>  AuthenticationSASLFinal, AuthenticationOk
//! ```
//!
//! All of it has one deadline, and every message before the password a small limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::Authentication;
use rockpool_proto::limits::PG_STARTUP_BYTES_MAX;
use rockpool_sql::{SqlError, SqlState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frontend::{self, Body, Frontend, Opening, StartupPacket};
use super::respond::{Output, Severity};
use super::scram::{Binding, Exchange, ScramError, Verifier};
use super::{Ended, PgShared, Stream};
use crate::config::Plaintext;
use crate::roles;

const MECHANISM: &str = "SCRAM-SHA-256";
/// The same, bound to the TLS connection.
const MECHANISM_BOUND: &str = "SCRAM-SHA-256-PLUS";
/// How long whoever gave a wrong password waits for the answer: guessing is slow, a slip of the finger costs little.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_secs(1);
/// SSLRequest, GSSENCRequest, and one of each again inside TLS are what a sane client can send before its packet.
const OPENINGS_MAX: usize = 4;

/// A client that has logged in.
pub(super) struct LoggedIn {
    pub(super) stream: Box<dyn Stream>,
    /// Bytes that came with the last message.
    pub(super) input: BytesMut,
    pub(super) user: String,
    /// Whether that was a superuser at the login.
    pub(super) superuser: bool,
    pub(super) database: String,
    /// Settings from the startup packet.
    pub(super) settings: Vec<(String, String)>,
    /// Sent together with the first ReadyForQuery.
    pub(super) output: Output,
}

/// Takes a connection up to its login.
pub(super) async fn log_in(socket: TcpStream, from: SocketAddr, shared: &Arc<PgShared>) -> Result<LoggedIn, Ended> {
    let mut stream: Box<dyn Stream> = Box::new(socket);
    let mut input = BytesMut::with_capacity(1024);
    let mut secure = false;
    for _ in 0..OPENINGS_MAX {
        let opening = match read_opening(&mut stream, &mut input).await {
            Ok(opening) => opening,
            Err(Ended::Refused(error)) => return refuse(&mut stream, error).await,
            Err(ended) => return Err(ended),
        };
        match opening {
            Opening::Cancel { process, secret } => {
                shared.cancels.request(process, &secret);
                return Err(Ended::Closed);
            }
            Opening::Tls if !secure => {
                // Bytes behind the request were sent in the clear by somebody in between, or by mistake.
                if !input.is_empty() {
                    return Err(Ended::protocol("received unencrypted data after SSL request"));
                }
                stream.write_all(b"S").await?;
                stream.flush().await?;
                stream = Box::new(shared.tls.accept(stream).await?);
                secure = true;
            }
            Opening::Tls | Opening::Gss => {
                stream.write_all(b"N").await?;
                stream.flush().await?;
            }
            Opening::Startup(packet) => {
                let plain_allowed = shared.plaintext == Plaintext::Loopback && from.ip().is_loopback();
                if !secure && !plain_allowed {
                    let error = SqlError::new(
                        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                        "this node takes encrypted connections only",
                    );
                    let error =
                        error.with_hint("Use sslmode=require, or sslmode=verify-full with the cluster's ca.crt.");
                    return refuse(&mut stream, error).await;
                }
                return authenticate(stream, input, packet, secure, shared).await;
            }
        }
    }
    Err(Ended::protocol("too many requests before the startup packet"))
}

async fn refuse<T>(stream: &mut Box<dyn Stream>, error: SqlError) -> Result<T, Ended> {
    let mut output = Output::default();
    output.error(Severity::Fatal, &error);
    stream.write_all(&output.buffer).await?;
    stream.shutdown().await?;
    Err(Ended::Refused(error))
}

async fn read_opening(stream: &mut Box<dyn Stream>, input: &mut BytesMut) -> Result<Opening, Ended> {
    loop {
        if let Some(opening) = frontend::opening(input, PG_STARTUP_BYTES_MAX)? {
            return Ok(opening);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(Ended::Closed);
        }
    }
}

async fn authenticate(
    mut stream: Box<dyn Stream>,
    mut input: BytesMut,
    packet: StartupPacket,
    secure: bool,
    shared: &Arc<PgShared>,
) -> Result<LoggedIn, Ended> {
    let mut output = Output::default();
    negotiate(&packet, &mut output);
    let mut user = String::new();
    let mut database = None;
    let mut settings = Vec::new();
    for (name, value) in packet.parameters {
        match name.as_str() {
            "user" => user = value,
            "database" => database = Some(value),
            "options" => settings.extend(options(&value)),
            "replication" if value != "false" => {
                let error = SqlError::unsupported("the replication protocol");
                return refuse(&mut stream, error).await;
            }
            name if name.starts_with("_pq_.") || name == "replication" => {}
            _ => settings.push((name, value)),
        }
    }
    if user.is_empty() {
        let error = SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        );
        return refuse(&mut stream, error).await;
    }
    let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());

    let superuser = match check_password(&mut stream, &mut input, &mut output, &user, secure, shared).await {
        Ok(superuser) => superuser,
        Err(Ended::Refused(error)) => return refuse(&mut stream, error).await,
        Err(ended) => return Err(ended),
    };
    if database != roles::DATABASE {
        let error = SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist"));
        let error = error.with_hint(format!("A cluster holds one database: {}.", roles::DATABASE));
        return refuse(&mut stream, error).await;
    }
    output.authentication(Authentication::Ok);
    Ok(LoggedIn { stream, input, user, superuser, database, settings, output })
}

/// Protocol 3.0 is what is spoken; a client that asks for more is told so.
fn negotiate(packet: &StartupPacket, output: &mut Output) {
    use bytes::BufMut;
    let unknown: Vec<&String> =
        packet.parameters.iter().map(|(name, _)| name).filter(|name| name.starts_with("_pq_.")).collect();
    if packet.minor == 0 && unknown.is_empty() {
        return;
    }
    let texts: usize = unknown.iter().map(|name| name.len() + 1).sum();
    output.buffer.put_u8(b'v');
    output.buffer.put_i32((12 + texts) as i32);
    output.buffer.put_i32(3 << 16);
    output.buffer.put_i32(unknown.len() as i32);
    for name in unknown {
        output.buffer.put_slice(name.as_bytes());
        output.buffer.put_u8(0);
    }
}

/// `-c name=value` and `--name=value`, as in `PGOPTIONS`.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = text.split_whitespace();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(rest) => Some(rest),
            None => word.strip_prefix("--"),
        };
        if let Some((name, value)) = assignment.and_then(|assignment| assignment.split_once('=')) {
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    settings
}

/// Checks the password; answers whether the role is a superuser.
async fn check_password(
    stream: &mut Box<dyn Stream>,
    input: &mut BytesMut,
    output: &mut Output,
    user: &str,
    secure: bool,
    shared: &Arc<PgShared>,
) -> Result<bool, Ended> {
    let malformed = |_| Ended::protocol("malformed SCRAM message");
    let known = roles::login(&shared.database, user).await?;
    let (verifier, superuser) = known.unwrap_or_else(|| (Verifier::of_nobody(user, &shared.nobody_secret), false));

    let offered: &[&str] = if secure { &[MECHANISM_BOUND, MECHANISM] } else { &[MECHANISM] };
    output.authentication(Authentication::SASL(offered.iter().map(|name| (*name).to_owned()).collect()));
    let mut body = Body(exchange(stream, input, output).await?);
    let mechanism = body.text()?;
    let binding = match mechanism.as_str() {
        MECHANISM_BOUND if secure => Binding::Bound(&shared.certificate_hash),
        MECHANISM if secure => Binding::Declined,
        MECHANISM => Binding::None,
        _ => return Err(Ended::protocol("the client chose an authentication mechanism that was not offered")),
    };
    let first = body.value()?.unwrap_or_default();
    let nonce = shared.database.environment().random();
    let (scram, answer) = Exchange::begin(&first, verifier, nonce, binding).map_err(malformed)?;
    output.authentication(Authentication::SASLContinue(Bytes::from(answer)));
    let last = exchange(stream, input, output).await?;
    match scram.finish(&last) {
        Ok(answer) => output.authentication(Authentication::SASLFinal(Bytes::from(answer))),
        Err(ScramError::Malformed) => return Err(malformed(ScramError::Malformed)),
        Err(ScramError::Refused) => {
            tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
            let message = format!("password authentication failed for user \"{user}\"");
            return Err(Ended::Refused(SqlError::new(SqlState::INVALID_PASSWORD, message)));
        }
    }
    Ok(superuser)
}

/// Sends what has gathered and waits for the next password message.
async fn exchange(stream: &mut Box<dyn Stream>, input: &mut BytesMut, output: &mut Output) -> Result<Bytes, Ended> {
    stream.write_all(&output.buffer).await?;
    stream.flush().await?;
    output.buffer.clear();
    loop {
        match frontend::next_message(input, PG_STARTUP_BYTES_MAX)? {
            Some(Frontend::Password(body)) => return Ok(body),
            Some(Frontend::Terminate) => return Err(Ended::Closed),
            Some(_) => return Err(Ended::protocol("expected a password message")),
            None => {}
        }
        if stream.read_buf(input).await? == 0 {
            return Err(Ended::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_options_are_settings() {
        let parsed = options("-c statement_timeout=5s --search-path=a,b -cjit=off rubbish");
        let expected = [("statement_timeout", "5s"), ("search_path", "a,b"), ("jit", "off")];
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parsed, expected);
    }
}
