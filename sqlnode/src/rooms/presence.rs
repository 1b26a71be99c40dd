//! Presence in the tables: which device is in which pool, under which epoch, and the intervals behind.
//!
//! A device is in one pool at most. Each connection gets the next presence epoch in the transaction that records it, so
//! of two connections everybody can tell which is newer, on whatever nodes they arrived.

use std::collections::BTreeMap;

use rockpool_proto::{DeviceId, NodeId, PoolId};

use super::room::{Facts, PresenceFact};
use crate::database::{DbError, Refusal, RefusalKind, Tx, count, time, uuid};
use crate::services::accounts::touch_pool;
use crate::services::pools;
use crate::services::sessions::{Caller, SessionId};

/// A device's present presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// In which pool.
    pub pool: PoolId,
    /// Under which login session.
    pub session: SessionId,
}

/// A presence that has ended in the tables, and now has to end in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Whose.
    pub device: DeviceId,
    /// In which pool.
    pub pool: PoolId,
    /// Which.
    pub presence_epoch: u64,
}

/// A presence that has begun in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Higher than any before of this device.
    pub presence_epoch: u64,
    /// The presence that this one ended, if it was in another pool.
    pub elsewhere: Option<Withdrawn>,
}

/// Begins a device's presence in a pool and ends the one that it had.
pub fn open(tx: &mut Tx<'_>, caller: &Caller, pool: PoolId, node: NodeId) -> Result<Opened, DbError> {
    let session =
        tx.query_one("SELECT ended_at FROM meta.sessions WHERE session_id = $1", &[uuid(&caller.session.0)])?;
    if session.time_us_opt(0)?.is_some() {
        let text = "The login session ended while you connected. Log in again.";
        return Err(Refusal::new(RefusalKind::Unauthenticated, text).into());
    }
    pools::must_belong(tx, pool, caller.account)?;
    let device = uuid(caller.device.as_bytes());
    let now = time(tx.now_us());
    let older = tx.query_opt(
        "SELECT pool_id, presence_epoch FROM meta.presence WHERE device_id = $1",
        std::slice::from_ref(&device),
    )?;
    let mut elsewhere = None;
    let mut presence_epoch = 1;
    if let Some(older) = &older {
        let older_epoch = older.count(1)?;
        presence_epoch = older_epoch + 1;
        if let Some(other) = older.uuid_opt(0)? {
            close_interval(tx, caller.device, older_epoch)?;
            let withdrawn = Withdrawn { device: caller.device, pool: PoolId(other), presence_epoch: older_epoch };
            elsewhere = (withdrawn.pool != pool).then_some(withdrawn);
        }
    }
    if let Some(withdrawn) = elsewhere {
        touch_pool(tx, withdrawn.pool)?;
    }
    let params = [
        device.clone(),
        uuid(caller.account.as_bytes()),
        uuid(pool.as_bytes()),
        count(presence_epoch),
        uuid(&caller.session.0),
        count(node.0),
        now.clone(),
    ];
    let sql = if older.is_some() {
        "UPDATE meta.presence SET account_id = $2, pool_id = $3, presence_epoch = $4, session_id = $5, node_id = $6, \
         since = $7 WHERE device_id = $1"
    } else {
        "INSERT INTO meta.presence (device_id, account_id, pool_id, presence_epoch, session_id, node_id, since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    };
    tx.execute(sql, &params)?;
    tx.execute(
        "INSERT INTO meta.presence_intervals (device_id, presence_epoch, account_id, pool_id, joined_at) \
         VALUES ($1, $2, $3, $4, $5)",
        &[device.clone(), count(presence_epoch), uuid(caller.account.as_bytes()), uuid(pool.as_bytes()), now.clone()],
    )?;
    tx.execute("UPDATE meta.devices SET last_seen_at = $2 WHERE device_id = $1", &[device, now])?;
    Ok(Opened { presence_epoch, elsewhere })
}

/// Ends a device's presence, if it has one that `concerns` says yes to. Its room's owner hears of it at the latest with
/// its next beat.
pub fn withdraw(
    tx: &mut Tx<'_>,
    device: DeviceId,
    concerns: impl Fn(&Present) -> bool,
) -> Result<Option<Withdrawn>, DbError> {
    let row = tx.query_opt(
        "SELECT pool_id, presence_epoch, session_id FROM meta.presence WHERE device_id = $1",
        &[uuid(device.as_bytes())],
    )?;
    let Some(row) = row else { return Ok(None) };
    let Some(pool) = row.uuid_opt(0)? else { return Ok(None) };
    let present = Present { pool: PoolId(pool), session: SessionId(row.uuid(2)?) };
    if !concerns(&present) {
        return Ok(None);
    }
    let presence_epoch = row.count(1)?;
    clear(tx, device, presence_epoch)?;
    touch_pool(tx, present.pool)?;
    Ok(Some(Withdrawn { device, pool: present.pool, presence_epoch }))
}

/// Notes that a presence ended in its room; nothing where a newer one began, or it ended already.
pub fn depart(tx: &mut Tx<'_>, device: DeviceId, presence_epoch: u64) -> Result<(), DbError> {
    let row = tx.query_opt(
        "SELECT pool_id, presence_epoch FROM meta.presence WHERE device_id = $1",
        &[uuid(device.as_bytes())],
    )?;
    if let Some(row) = row
        && row.count(1)? == presence_epoch
        && row.uuid_opt(0)?.is_some()
    {
        clear(tx, device, presence_epoch)?;
    }
    Ok(())
}

fn clear(tx: &mut Tx<'_>, device: DeviceId, presence_epoch: u64) -> Result<(), DbError> {
    tx.execute("UPDATE meta.presence SET pool_id = NULL WHERE device_id = $1", &[uuid(device.as_bytes())])?;
    close_interval(tx, device, presence_epoch)
}

fn close_interval(tx: &mut Tx<'_>, device: DeviceId, presence_epoch: u64) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "UPDATE meta.presence_intervals SET left_at = $3 WHERE device_id = $1 AND presence_epoch = $2 AND left_at IS NULL",
        &[uuid(device.as_bytes()), count(presence_epoch), now],
    )?;
    Ok(())
}

/// What a room has to know of its pool, in one reading. A pool that is gone has no members and will have no others.
pub fn facts(tx: &mut Tx<'_>, pool: PoolId) -> Result<Facts, DbError> {
    let key = [uuid(pool.as_bytes())];
    let Some(row) = tx.query_opt("SELECT change_number FROM meta.pools WHERE pool_id = $1", &key)? else {
        return Ok(Facts { change_number: u64::MAX, ..Facts::default() });
    };
    let members = pools::members(tx, pool)?;
    let mut presence = BTreeMap::new();
    // By account: a device that has gone elsewhere since must be found as well.
    let rows = tx.query(
        "SELECT p.device_id, p.presence_epoch, p.pool_id FROM meta.members m \
         JOIN meta.presence p ON p.account_id = m.account_id WHERE m.pool_id = $1",
        &key,
    )?;
    for row in rows {
        let here = row.uuid_opt(2)? == Some(pool.0);
        presence.insert(DeviceId(row.uuid(0)?), PresenceFact { epoch: row.count(1)?, here });
    }
    Ok(Facts { change_number: row.count(0)?, members, presence })
}
