//! Which node owns a pool's room: the lease, and the beat that keeps it.
//!
//! ```text
//!   meta.coordinator_leases   pool -> node, incarnation, lease epoch      written when an owner changes
//!   meta.coordinators         node -> incarnation, beat                   written by each node that owns rooms, every beat
//! ```
//!
//! One row for each node is kept fresh, not one for each pool. No clock of one node is compared with another's: whoever
//! wants to take over watches the beat with its own clock. A lease is anybody's when its node has restarted (another
//! incarnation), has said goodbye (no row), or has not moved its beat while it was watched. Each change of owner raises
//! the lease epoch, by which devices tell the rosters of two owners apart: should an owner that was taken for dead be
//! alive, it is outvoted by the higher epoch until it notices, which is at its next beat.

use std::collections::HashMap;
use std::time::Duration;

use rockpool_proto::{NodeId, PoolId};

use crate::database::{DbError, Refusal, RefusalKind, Tx, count, time, uuid};

/// How often an owner moves its beat on, and looks for changes of its pools.
pub const BEAT_EVERY: Duration = Duration::from_millis(400);
/// An owner that could not beat for so long gives its rooms up.
pub const LEASE_FOR: Duration = Duration::from_secs(5);
/// A beat that stands still for so long, at a node that does not answer, has stopped.
pub const BEAT_STOPPED_AFTER: Duration = Duration::from_millis(1_200);

/// One run of a node's process, told from the runs before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub [u8; 16]);

/// A node in one of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// The run.
    pub incarnation: Incarnation,
}

/// An owner and where its beat stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose.
    pub owner: Owner,
    /// Moves on while the owner lives.
    pub beat: u64,
}

/// Whose room it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This node's, and it hosts the room already.
    Here,
    /// This node's from now on: host it under this epoch. `succeeds` when the owner before vanished without clearing it.
    Taken {
        /// The epoch.
        lease_epoch: u64,
        /// Whether devices may come back with claims.
        succeeds: bool,
    },
    /// Another node's.
    There(Beat),
}

/// Finds a room's owner, and takes the room where there is none. `hosted` is the epoch under which this node hosts it;
/// `stopped` is an owner whose beat was seen to stand still there.
pub fn claim(
    tx: &mut Tx<'_>,
    me: Owner,
    pool: PoolId,
    hosted: Option<u64>,
    stopped: Option<Beat>,
) -> Result<Holder, DbError> {
    let row = tx.query_opt(
        "SELECT node_id, incarnation, lease_epoch FROM meta.coordinator_leases WHERE pool_id = $1",
        &[uuid(pool.as_bytes())],
    )?;
    let (mut epoch_before, mut succeeds) = (0, false);
    if let Some(row) = &row {
        epoch_before = row.count(2)?;
        if let Some(incarnation) = row.uuid_opt(1)? {
            let owner = Owner { node: NodeId(row.count(0)?), incarnation: Incarnation(incarnation) };
            if owner == me && hosted == Some(epoch_before) {
                return Ok(Holder::Here);
            }
            if owner != me
                && let Some(beat) = beat(tx, owner)?
                && stopped != Some(beat)
            {
                return Ok(Holder::There(beat));
            }
            succeeds = true;
        }
    }
    appear(tx, me)?;
    let lease_epoch = epoch_before + 1;
    let sql = if row.is_some() {
        "UPDATE meta.coordinator_leases SET node_id = $2, incarnation = $3, lease_epoch = $4, acquired_at = $5 \
         WHERE pool_id = $1"
    } else {
        if tx.query_opt("SELECT pool_id FROM meta.pools WHERE pool_id = $1", &[uuid(pool.as_bytes())])?.is_none() {
            let text = "There is no such pool (any more).";
            return Err(Refusal::new(RefusalKind::Forbidden, text).into());
        }
        "INSERT INTO meta.coordinator_leases (pool_id, node_id, incarnation, lease_epoch, acquired_at) \
         VALUES ($1, $2, $3, $4, $5)"
    };
    let now = time(tx.now_us());
    let params = [uuid(pool.as_bytes()), count(me.node.0), uuid(&me.incarnation.0), count(lease_epoch), now];
    tx.execute(sql, &params)?;
    Ok(Holder::Taken { lease_epoch, succeeds })
}

/// Who owns a pool's room, if somebody does and lives.
pub fn owner(tx: &mut Tx<'_>, pool: PoolId) -> Result<Option<Owner>, DbError> {
    let row = tx.query_opt(
        "SELECT node_id, incarnation FROM meta.coordinator_leases WHERE pool_id = $1",
        &[uuid(pool.as_bytes())],
    )?;
    let Some(row) = row else { return Ok(None) };
    let Some(incarnation) = row.uuid_opt(1)? else { return Ok(None) };
    Ok(Some(Owner { node: NodeId(row.count(0)?), incarnation: Incarnation(incarnation) }))
}

/// Where the beat of a run stands; none when that run is over.
fn beat(tx: &mut Tx<'_>, owner: Owner) -> Result<Option<Beat>, DbError> {
    let row =
        tx.query_opt("SELECT incarnation, beat FROM meta.coordinators WHERE node_id = $1", &[count(owner.node.0)])?;
    let Some(row) = row else { return Ok(None) };
    if Incarnation(row.uuid(0)?) != owner.incarnation {
        return Ok(None);
    }
    Ok(Some(Beat { owner, beat: row.count(1)? }))
}

/// When the owner of a pool's room last moved its beat, by its own clock; none when that run is over.
pub fn last_beat_us(tx: &mut Tx<'_>, pool: PoolId) -> Result<Option<i64>, DbError> {
    let Some(owner) = owner(tx, pool)? else { return Ok(None) };
    let row =
        tx.query_opt("SELECT incarnation, beat_at FROM meta.coordinators WHERE node_id = $1", &[count(owner.node.0)])?;
    match row {
        Some(row) if Incarnation(row.uuid(0)?) == owner.incarnation => row.time_us(1).map(Some),
        _ => Ok(None),
    }
}

/// Makes sure that this run has a beat.
fn appear(tx: &mut Tx<'_>, me: Owner) -> Result<(), DbError> {
    if beat(tx, me)?.is_some() {
        return Ok(());
    }
    tx.execute("DELETE FROM meta.coordinators WHERE node_id = $1", &[count(me.node.0)])?;
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO meta.coordinators (node_id, incarnation, beat, beat_at) VALUES ($1, $2, 1, $3)",
        &[count(me.node.0), uuid(&me.incarnation.0), now],
    )?;
    Ok(())
}

/// A pool that this node owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Under which epoch.
    pub lease_epoch: u64,
    /// Where the changes of its members and devices stand.
    pub change_number: u64,
}

/// Moves this run's beat on. Touches nothing but its own row: a transaction that also looked at pools would have to be
/// repeated as often as somebody changes one, and whoever changes many of them could stop the beat.
pub fn move_on(tx: &mut Tx<'_>, me: Owner) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "UPDATE meta.coordinators SET beat = beat + 1, beat_at = $3 WHERE node_id = $1 AND incarnation = $2",
        &[count(me.node.0), uuid(&me.incarnation.0), now],
    )?;
    Ok(())
}

/// What this run owns.
pub fn held(tx: &mut Tx<'_>, me: Owner) -> Result<HashMap<PoolId, Held>, DbError> {
    let rows = tx.query(
        "SELECT l.pool_id, l.incarnation, l.lease_epoch, p.change_number FROM meta.coordinator_leases l \
         JOIN meta.pools p ON p.pool_id = l.pool_id WHERE l.node_id = $1",
        &[count(me.node.0)],
    )?;
    let mut held = HashMap::new();
    for row in rows {
        if row.uuid_opt(1)? == Some(me.incarnation.0) {
            let one = Held { lease_epoch: row.count(2)?, change_number: row.count(3)? };
            held.insert(PoolId(row.uuid(0)?), one);
        }
    }
    Ok(held)
}

/// Gives up an empty room: whoever comes next begins afresh.
pub fn release(tx: &mut Tx<'_>, me: Owner, pool: PoolId, lease_epoch: u64) -> Result<(), DbError> {
    tx.execute(
        "UPDATE meta.coordinator_leases SET node_id = NULL, incarnation = NULL \
         WHERE pool_id = $1 AND node_id = $2 AND lease_epoch = $3",
        &[uuid(pool.as_bytes()), count(me.node.0), count(lease_epoch)],
    )?;
    Ok(())
}

/// Says goodbye: every room of this run may be taken over at once, and devices return to their seats.
pub fn depart(tx: &mut Tx<'_>, me: Owner) -> Result<(), DbError> {
    tx.execute(
        "DELETE FROM meta.coordinators WHERE node_id = $1 AND incarnation = $2",
        &[count(me.node.0), uuid(&me.incarnation.0)],
    )?;
    Ok(())
}
