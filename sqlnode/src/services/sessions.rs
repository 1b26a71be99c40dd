//! Login sessions: one row for each login, whose tokens change and which ends once.

use rockpool_proto::{AccountId, DeviceId};
use rockpool_sql::Value;

use super::secrets::{Token, token_hash};
use crate::database::{DbError, Environment, Refusal, RefusalKind, Tx, time, uuid};
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

/// Begins a login session; those that the device had before end.
pub fn begin(
    tx: &mut Tx<'_>,
    id: SessionId,
    account: AccountId,
    device: DeviceId,
    tokens: &Tokens,
) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "UPDATE meta.sessions SET ended_at = $2, end_reason = 'replaced' WHERE device_id = $1 AND ended_at IS NULL",
        &[uuid(device.as_bytes()), now.clone()],
    )?;
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
    Ok(())
}

fn unauthenticated(text: &str) -> DbError {
    Refusal::new(RefusalKind::Unauthenticated, text).into()
}

/// Whose access token it is. One point read: an ended session is refused from its commit on, on every node.
pub fn caller(tx: &mut Tx<'_>, access: &[u8]) -> Result<Caller, DbError> {
    let row = tx.query_opt(
        "SELECT session_id, account_id, device_id, access_expires_at, ended_at, end_reason \
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
    let hash = Value::bytes(token_hash(refresh));
    let now_us = tx.now_us();
    let row = tx.query_opt(
        "SELECT session_id, device_id, refresh_expires_at, ended_at, end_reason FROM meta.sessions WHERE refresh_hash = $1",
        std::slice::from_ref(&hash),
    )?;
    let Some(row) = row else {
        let spent = tx.query_opt(
            "SELECT session_id FROM meta.spent_refresh_tokens WHERE refresh_hash = $1",
            std::slice::from_ref(&hash),
        )?;
        return match spent {
            Some(spent) => Ok(Refreshed::Replayed(end(tx, SessionId(spent.uuid(0)?), "replayed")?)),
            None => Err(unauthenticated("The refresh token is not known. Log in again.")),
        };
    };
    if row.time_us_opt(3)?.is_some() {
        return Err(unauthenticated(ended_text(row.text(4)?)));
    }
    if row.time_us(2)? <= now_us {
        return Err(unauthenticated("The refresh token has expired. Log in again."));
    }
    let (session, device) = (uuid(&row.uuid(0)?), uuid(&row.uuid(1)?));
    tx.execute(
        "UPDATE meta.sessions SET access_hash = $2, access_expires_at = $3, refresh_hash = $4, refresh_expires_at = $5 \
         WHERE session_id = $1",
        &[
            session.clone(),
            Value::bytes(token_hash(&next.access)),
            time(next.access_expires_us),
            Value::bytes(token_hash(&next.refresh)),
            time(next.refresh_expires_us),
        ],
    )?;
    tx.execute(
        "INSERT INTO meta.spent_refresh_tokens (refresh_hash, session_id, spent_at) VALUES ($1, $2, $3)",
        &[hash, session.clone(), time(now_us)],
    )?;
    // Older ones have expired: shown again they are merely unknown.
    tx.execute(
        "DELETE FROM meta.spent_refresh_tokens WHERE session_id = $1 AND spent_at < $2",
        &[session, time(now_us.saturating_sub(REFRESH_US))],
    )?;
    tx.execute("UPDATE meta.devices SET last_seen_at = $2 WHERE device_id = $1", &[device, time(now_us)])?;
    Ok(Refreshed::Continued)
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
