//! Presence in the tables: which device is in which pool, under which epoch, and the intervals behind.
//!
//! A device is in one pool at most. Each connection gets the next presence epoch in the transaction that records it, so
//! of two connections everybody can tell which is newer, on whatever nodes they arrived.
//!
//! Intervals answer whether messages may have been missed: was another device there while this one was away? So that the
//! answer errs on the honest side, an interval has two ends. `left_at` is when the cluster noticed, which counts for the
//! others' absences; `heard_at` is the last sign of life, which counts for the device's own. Times are those of the nodes'
//! clocks: where these disagree, so do the answers, by as much.

use std::collections::BTreeMap;

use rockpool_proto::{DeviceId, NodeId, PoolId};
use rockpool_sql::Value;

use super::host::News;
use super::leases;
use super::room::{Facts, PresenceFact, SILENCE_MAX};
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
    /// Which.
    pub presence_epoch: u64,
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
    /// When it began.
    pub joined_at_us: i64,
    /// The device's presence in this pool before; none when it was never here.
    pub before: Option<Before>,
}

/// A device's last presence in a pool, as the device's own absence after it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// When it began.
    pub joined_at_us: i64,
    /// Its last sign of life, where a room noted one.
    pub heard_at_us: Option<i64>,
    /// Whether it counted as going on until now, because nobody had noticed its end.
    pub open: bool,
}

/// What a device is told of the time that it was away from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// When it was last there for certain; none when it was never there.
    pub since_us: Option<i64>,
    /// Whether another device was there in between.
    pub others_were_here: bool,
}

/// Intervals that are kept of one device in one pool. The last one would do; the others are for people who look.
const INTERVALS_KEPT: usize = 16;
/// Older ones that one connection clears away.
const INTERVALS_CLEARED_MAX: usize = 64;

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
    let joined_at_us = tx.now_us();
    let now = time(joined_at_us);
    let before = intervals_before(tx, caller.device, pool)?;
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
            close_interval(tx, caller.device, older_epoch, None)?;
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
    Ok(Opened { presence_epoch, elsewhere, joined_at_us, before })
}

/// The last of a device's intervals in a pool. Clears away those that are too many.
fn intervals_before(tx: &mut Tx<'_>, device: DeviceId, pool: PoolId) -> Result<Option<Before>, DbError> {
    let rows = tx.query(
        "SELECT presence_epoch, joined_at, left_at, heard_at FROM meta.presence_intervals \
         WHERE device_id = $1 AND pool_id = $2 ORDER BY presence_epoch DESC",
        &[uuid(device.as_bytes()), uuid(pool.as_bytes())],
    )?;
    for row in rows.iter().skip(INTERVALS_KEPT - 1).take(INTERVALS_CLEARED_MAX) {
        tx.execute(
            "DELETE FROM meta.presence_intervals WHERE device_id = $1 AND presence_epoch = $2",
            &[uuid(device.as_bytes()), row.value(0)?.clone()],
        )?;
    }
    let Some(last) = rows.first() else { return Ok(None) };
    Ok(Some(Before {
        joined_at_us: last.time_us(1)?,
        heard_at_us: last.time_us_opt(3)?,
        open: last.time_us_opt(2)?.is_none(),
    }))
}

/// What happened while a device was away. To be asked in a transaction of its own after [`open`]: what it reads is changed
/// by everybody who comes and goes, so a transaction that also writes would have to be repeated all the time.
pub fn absence(tx: &mut Tx<'_>, device: DeviceId, pool: PoolId, opened: &Opened) -> Result<Absence, DbError> {
    let since_us = match opened.before {
        None => None,
        Some(before) => Some(last_there(tx, pool, before, opened.joined_at_us)?),
    };
    let (pool, device) = (uuid(pool.as_bytes()), uuid(device.as_bytes()));
    let arrived = time(opened.joined_at_us);
    let here = tx.query_opt(
        "SELECT device_id FROM meta.presence WHERE pool_id = $1 AND device_id <> $2 AND since < $3 LIMIT 1",
        &[pool.clone(), device.clone(), arrived.clone()],
    )?;
    let others_were_here = here.is_some() || {
        let left = tx.query_opt(
            "SELECT device_id FROM meta.presence_intervals \
             WHERE pool_id = $1 AND left_at > $2 AND device_id <> $3 AND joined_at < $4 LIMIT 1",
            &[pool, time(since_us.unwrap_or(0)), device, arrived],
        )?;
        left.is_some()
    };
    Ok(Absence { since_us, others_were_here })
}

/// When a device was last in a pool for certain.
fn last_there(tx: &mut Tx<'_>, pool: PoolId, before: Before, now_us: i64) -> Result<i64, DbError> {
    let heard_us = match before {
        Before { heard_at_us: Some(heard_us), .. } => heard_us,
        // A room misses a silent device after `SILENCE_MAX`, as long as it is alive itself.
        Before { open: true, .. } => match leases::last_beat_us(tx, pool)? {
            Some(beat_us) => beat_us.min(now_us).saturating_sub(SILENCE_MAX.as_micros() as i64),
            None => before.joined_at_us,
        },
        Before { .. } => before.joined_at_us,
    };
    Ok(heard_us.max(before.joined_at_us))
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
    let presence_epoch = row.count(1)?;
    let present = Present { pool: PoolId(pool), session: SessionId(row.uuid(2)?), presence_epoch };
    if !concerns(&present) {
        return Ok(None);
    }
    let now_us = tx.now_us();
    clear(tx, device, presence_epoch, Some(now_us))?;
    touch_pool(tx, present.pool)?;
    Ok(Some(Withdrawn { device, pool: present.pool, presence_epoch }))
}

/// Notes that a presence ended in its room, and when the device was last heard there; nothing where a newer one began, or
/// it ended already.
pub fn depart(tx: &mut Tx<'_>, device: DeviceId, presence_epoch: u64, heard_at_us: Option<i64>) -> Result<(), DbError> {
    let row = tx.query_opt(
        "SELECT pool_id, presence_epoch FROM meta.presence WHERE device_id = $1",
        &[uuid(device.as_bytes())],
    )?;
    if let Some(row) = row
        && row.count(1)? == presence_epoch
        && row.uuid_opt(0)?.is_some()
    {
        clear(tx, device, presence_epoch, heard_at_us)?;
    }
    Ok(())
}

fn clear(tx: &mut Tx<'_>, device: DeviceId, presence_epoch: u64, heard_at_us: Option<i64>) -> Result<(), DbError> {
    tx.execute("UPDATE meta.presence SET pool_id = NULL WHERE device_id = $1", &[uuid(device.as_bytes())])?;
    close_interval(tx, device, presence_epoch, heard_at_us)
}

fn close_interval(
    tx: &mut Tx<'_>,
    device: DeviceId,
    presence_epoch: u64,
    heard_at_us: Option<i64>,
) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "UPDATE meta.presence_intervals SET left_at = $3, heard_at = $4 \
         WHERE device_id = $1 AND presence_epoch = $2 AND left_at IS NULL",
        &[uuid(device.as_bytes()), count(presence_epoch), now, heard_at_us.map_or(Value::Null, time)],
    )?;
    Ok(())
}

/// What a room has to know when a device arrives: of that device only, unless its pool has changed since the room was told
/// `change_number`. A pool of hundreds that reconnects would otherwise be read hundreds of times.
pub(super) fn news(
    tx: &mut Tx<'_>,
    pool: PoolId,
    device: DeviceId,
    change_number: u64,
) -> Result<(u64, News), DbError> {
    let row = tx.query_opt("SELECT change_number FROM meta.pools WHERE pool_id = $1", &[uuid(pool.as_bytes())])?;
    let now = row.map(|row| row.count(0)).transpose()?;
    let presence = tx.query_opt(
        "SELECT presence_epoch, pool_id FROM meta.presence WHERE device_id = $1",
        &[uuid(device.as_bytes())],
    )?;
    match presence {
        Some(row) if now == Some(change_number) => {
            let here = row.uuid_opt(1)? == Some(pool.0);
            Ok((change_number, News::Presence(PresenceFact { epoch: row.count(0)?, here })))
        }
        _ => facts(tx, pool).map(|facts| (facts.change_number, News::All(facts))),
    }
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
