//! Login sessions: one row for each login, whose tokens change and which ends once.
//!
//! A refresh token is traded once. Its answer can be lost, though, and a device that could not ask again would be logged
//! out by a bad network. So the token that was traded last stays good until its successor is *used*, as an access or a
//! refresh token: whoever shows it again gets another pair, and the pair that nobody used becomes worthless. Once a
//! successor was used somebody holds it, and the token before is a replay that ends the family:
//!
//! ```text
//!   R0 -> R1 (answer lost)   R0 -> R2, R1 is spent       the device goes on
//!   R0 -> R1, A1 used        R0: replayed                 two hold R0; everything ends
//!   R0 -> R1 (with a thief)  R0 -> R2, then R1: replayed  the same, whoever comes second
//! ```

use rockpool_proto::{AccountId, DeviceId};
use rockpool_sql::Value;

use super::secrets::{Token, same, token_hash};
use crate::database::{DbError, Environment, Refusal, RefusalKind, Row, Tx, time, uuid};
use crate::rooms::presence::{self, Withdrawn};

/// How long an access token is good for.
pub const ACCESS_US: i64 = 15 * 60 * 1_000_000;
/// How long a refresh token is good for.
pub const REFRESH_US: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// A login session's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(pub [u8; 16]);

/// Who calls, as their access token shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The login session.
    pub session: SessionId,
}

/// A fresh pair of tokens, as its owner gets it.
#[derive(Clone)]
pub struct Tokens {
    /// Shown with every call.
    pub access: Token,
    /// Traded once for the next pair.
    pub refresh: Token,
    /// End of the first.
    pub access_expires_us: i64,
    /// End of the second.
    pub refresh_expires_us: i64,
}

impl Tokens {
    /// A pair that begins now.
    pub fn fresh(environment: &dyn Environment) -> Self {
        let now_us = environment.now_us();
        Self {
            access: environment.random(),
            refresh: environment.random(),
            access_expires_us: now_us.saturating_add(ACCESS_US),
            refresh_expires_us: now_us.saturating_add(REFRESH_US),
        }
    }
}

/// Begins a login session; those that the device had before end, and with them the presence that one of them opened.
pub fn begin(
    tx: &mut Tx<'_>,
    id: SessionId,
    account: AccountId,
    device: DeviceId,
    tokens: &Tokens,
) -> Result<Option<Withdrawn>, DbError> {
    let now = time(tx.now_us());
    forget_one(tx, device)?;
    tx.execute(
        "UPDATE meta.sessions SET ended_at = $2, end_reason = 'replaced' WHERE device_id = $1 AND ended_at IS NULL",
        &[uuid(device.as_bytes()), now.clone()],
    )?;
    let withdrawn = presence::withdraw(tx, device, |_| true)?;
    tx.execute(
        "INSERT INTO meta.sessions (session_id, account_id, device_id, access_hash, access_expires_at, \
         refresh_hash, refresh_expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            uuid(&id.0),
            uuid(account.as_bytes()),
            uuid(device.as_bytes()),
            Value::bytes(token_hash(&tokens.access)),
            time(tokens.access_expires_us),
            Value::bytes(token_hash(&tokens.refresh)),
            time(tokens.refresh_expires_us),
            now,
        ],
    )?;
    Ok(withdrawn)
}

/// Forgets a session of a device that ended so long ago that its tokens would have expired, so that a device that logs in
/// again and again doesn't fill the tables.
fn forget_one(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), DbError> {
    let stale = tx.query_opt(
        "SELECT session_id FROM meta.sessions WHERE device_id = $1 AND ended_at < $2 LIMIT 1",
        &[uuid(device.as_bytes()), time(tx.now_us().saturating_sub(REFRESH_US))],
    )?;
    if let Some(stale) = stale {
        let session = [uuid(&stale.uuid(0)?)];
        tx.execute("DELETE FROM meta.spent_refresh_tokens WHERE session_id = $1", &session)?;
        tx.execute("DELETE FROM meta.sessions WHERE session_id = $1", &session)?;
    }
    Ok(())
}

fn unauthenticated(text: &str) -> DbError {
    Refusal::new(RefusalKind::Unauthenticated, text).into()
}

/// Whose access token it is. One point read: an ended session is refused from its commit on, on every node. The first
/// use of a pair also writes: from then on the token that it was traded for is spent for good.
pub fn caller(tx: &mut Tx<'_>, access: &[u8]) -> Result<Caller, DbError> {
    let row = tx.query_opt(
        "SELECT session_id, account_id, device_id, access_expires_at, ended_at, end_reason, unconfirmed_hash \
         FROM meta.sessions WHERE access_hash = $1",
        &[Value::bytes(token_hash(access))],
    )?;
    let Some(row) = row else {
        return Err(unauthenticated("The access token is not known (any more). Refresh the session, or log in."));
    };
    if row.time_us_opt(4)?.is_some() {
        return Err(unauthenticated(ended_text(row.text(5)?)));
    }
    if row.time_us(3)? <= tx.now_us() {
        return Err(unauthenticated("The access token has expired. Refresh the session."));
    }
    if !row.value(6)?.is_null() {
        tx.execute("UPDATE meta.sessions SET unconfirmed_hash = NULL WHERE session_id = $1", &[uuid(&row.uuid(0)?)])?;
    }
    Ok(Caller { session: SessionId(row.uuid(0)?), account: AccountId(row.uuid(1)?), device: DeviceId(row.uuid(2)?) })
}

fn ended_text(reason: &str) -> &'static str {
    match reason {
        "revoked" => "This device was revoked, so its sessions are over. Log in with a new device key.",
        "replayed" => {
            "A refresh token of this session was used twice, so somebody else may have had it; the session was ended. Log in again."
        }
        _ => "This session was ended. Log in again.",
    }
}

/// What showing a refresh token came to.
pub enum Refreshed {
    /// The session goes on under the new pair.
    Continued,
    /// The token had been traded in before: the session is over, and so is its presence. This has to be committed.
    Replayed(Option<Withdrawn>),
}

/// Trades a refresh token for a new pair.
pub fn refresh(tx: &mut Tx<'_>, refresh: &[u8], next: &Tokens) -> Result<Refreshed, DbError> {
    let shown = token_hash(refresh);
    let now_us = tx.now_us();
    let current = tx.query_opt(
        "SELECT session_id, device_id, refresh_hash, refresh_expires_at, ended_at, end_reason \
         FROM meta.sessions WHERE refresh_hash = $1",
        &[Value::bytes(shown)],
    )?;
    let row = match current {
        Some(row) => row,
        None => match spent(tx, shown)? {
            Spent::Unknown => return Err(unauthenticated("The refresh token is not known. Log in again.")),
            Spent::Replayed(session) => return Ok(Refreshed::Replayed(end(tx, session, "replayed")?)),
            Spent::AnswerLost(row) => row,
        },
    };
    if row.time_us_opt(4)?.is_some() {
        return Err(unauthenticated(ended_text(row.text(5)?)));
    }
    if row.time_us(3)? <= now_us {
        return Err(unauthenticated("The refresh token has expired. Log in again."));
    }
    let (session, device) = (uuid(&row.uuid(0)?), uuid(&row.uuid(1)?));
    tx.execute(
        "UPDATE meta.sessions SET access_hash = $2, access_expires_at = $3, refresh_hash = $4, refresh_expires_at = $5, \
         unconfirmed_hash = $6 WHERE session_id = $1",
        &[
            session.clone(),
            Value::bytes(token_hash(&next.access)),
            time(next.access_expires_us),
            Value::bytes(token_hash(&next.refresh)),
            time(next.refresh_expires_us),
            Value::bytes(shown),
        ],
    )?;
    // The token that was current until now: the one shown, or the successor of it that nobody used.
    tx.execute(
        "INSERT INTO meta.spent_refresh_tokens (refresh_hash, session_id, spent_at) VALUES ($1, $2, $3)",
        &[row.value(2)?.clone(), session.clone(), time(now_us)],
    )?;
    // Older ones have expired: shown again they are merely unknown.
    tx.execute(
        "DELETE FROM meta.spent_refresh_tokens WHERE session_id = $1 AND spent_at < $2",
        &[session, time(now_us.saturating_sub(REFRESH_US))],
    )?;
    tx.execute("UPDATE meta.devices SET last_seen_at = $2 WHERE device_id = $1", &[device, time(now_us)])?;
    Ok(Refreshed::Continued)
}

/// What is known of a refresh token that is not a session's current one.
enum Spent {
    /// Nothing.
    Unknown,
    /// It was traded, and its successor was used or traded in turn.
    Replayed(SessionId),
    /// It was traded last, and nobody has shown anything of what was answered: the session's row, as [`refresh`] reads it.
    AnswerLost(Row),
}

fn spent(tx: &mut Tx<'_>, shown: [u8; 32]) -> Result<Spent, DbError> {
    let row = tx.query_opt(
        "SELECT session_id FROM meta.spent_refresh_tokens WHERE refresh_hash = $1",
        &[Value::bytes(shown)],
    )?;
    let Some(row) = row else { return Ok(Spent::Unknown) };
    let session = row.uuid(0)?;
    let row = tx.query_one(
        "SELECT session_id, device_id, refresh_hash, refresh_expires_at, ended_at, end_reason, unconfirmed_hash \
         FROM meta.sessions WHERE session_id = $1",
        &[uuid(&session)],
    )?;
    let lost = !row.value(6)?.is_null() && same(row.bytes(6)?, &shown);
    Ok(if lost { Spent::AnswerLost(row) } else { Spent::Replayed(SessionId(session)) })
}

/// Ends a session, and the presence that was opened under it.
pub fn end(tx: &mut Tx<'_>, session: SessionId, reason: &str) -> Result<Option<Withdrawn>, DbError> {
    let row = tx.query_opt("SELECT device_id FROM meta.sessions WHERE session_id = $1", &[uuid(&session.0)])?;
    let Some(row) = row else { return Ok(None) };
    tx.execute(
        "UPDATE meta.sessions SET ended_at = $2, end_reason = $3 WHERE session_id = $1 AND ended_at IS NULL",
        &[uuid(&session.0), time(tx.now_us()), Value::text(reason)],
    )?;
    presence::withdraw(tx, DeviceId(row.uuid(0)?), |present| present.session == session)
}

/// Ends every session of a device.
pub fn end_all(tx: &mut Tx<'_>, device: DeviceId, reason: &str) -> Result<(), DbError> {
    tx.execute(
        "UPDATE meta.sessions SET ended_at = $2, end_reason = $3 WHERE device_id = $1 AND ended_at IS NULL",
        &[uuid(device.as_bytes()), time(tx.now_us()), Value::text(reason)],
    )?;
    Ok(())
}
