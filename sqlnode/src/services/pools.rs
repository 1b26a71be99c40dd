//! Pools, who belongs to them, and invites.
//!
//! An invite is 16 bytes of id and 16 of secret; the secret is stored as a hash and compared in constant time. Whoever
//! holds it may join until it expires or is used up. Leaving ends presence in the same transaction, and the last one to
//! leave takes the pool along.

use std::collections::BTreeMap;

use bytes::Bytes;
use rockpool_proto::limits::{
    INVITE_TTL_SECONDS_MAX, INVITE_USES_MAX, POOL_MEMBERS_MAX, POOL_OPEN_INVITES_MAX, POOLS_PER_ACCOUNT_MAX,
};
use rockpool_proto::meta::v1::{self as wire, pools_server::Pools};
use rockpool_proto::{AccountId, PoolId};
use rockpool_sql::Value;
use tonic::{Request, Response, Status};

use super::accounts::{device_columns, device_from_row, devices, touch_pool};
use super::model::{Account, Member, Pool, Role};
use super::{Services, secrets, validate};
use crate::database::{DbError, Refusal, RefusalKind, Tx, time, uuid};
use crate::rooms::{EndReason, presence};

/// How long an invite lives unless its maker says otherwise.
const INVITE_TTL_SECONDS: u64 = 24 * 60 * 60;

#[tonic::async_trait]
impl Pools for Services {
    async fn create(&self, request: Request<wire::CreatePoolRequest>) -> Result<Response<wire::Pool>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let name = validate::display_name("pool's name", &request.into_inner().name).map_err(DbError::from)?;
        let id = PoolId(self.database().environment().random());
        let made = self.database().transaction(|tx| {
            must_have_room_for_a_pool(tx, caller.account)?;
            let now_us = tx.now_us();
            tx.execute(
                "INSERT INTO meta.pools (pool_id, name, created_by, created_at, change_number) VALUES ($1, $2, $3, $4, 1)",
                &[uuid(id.as_bytes()), Value::text(&name), uuid(caller.account.as_bytes()), time(now_us)],
            )?;
            insert_member(tx, id, caller.account, Role::Owner)?;
            pool_of(tx, id, caller.account)
        });
        Ok(Response::new(made.await?.into()))
    }

    async fn list(&self, request: Request<wire::ListPoolsRequest>) -> Result<Response<wire::ListPoolsReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let listed = self.database().transaction(|tx| {
            let rows = tx.query(
                "SELECT m.pool_id FROM meta.members m WHERE m.account_id = $1 ORDER BY m.joined_at, m.pool_id",
                &[uuid(caller.account.as_bytes())],
            )?;
            rows.iter().map(|row| pool_of(tx, PoolId(row.uuid(0)?), caller.account)).collect::<Result<Vec<_>, _>>()
        });
        let pools = listed.await?.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::ListPoolsReply { pools }))
    }

    async fn members(&self, request: Request<wire::MembersRequest>) -> Result<Response<wire::MembersReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let pool = pool_id(&request.into_inner().pool_id)?;
        let read = self.database().transaction(|tx| {
            must_belong(tx, pool, caller.account)?;
            members(tx, pool)
        });
        let members = read.await?.into_values().map(Into::into).collect();
        Ok(Response::new(wire::MembersReply { members }))
    }

    async fn invite(&self, request: Request<wire::InviteRequest>) -> Result<Response<wire::InviteReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let request = request.into_inner();
        let pool = pool_id(&request.pool_id)?;
        let uses = if request.uses == 0 { 1 } else { request.uses };
        if uses > INVITE_USES_MAX {
            return Err(
                invalid(format!("An invite can be used at most {INVITE_USES_MAX} times. Ask for fewer.")).into()
            );
        }
        let ttl_seconds = if request.ttl_seconds == 0 { INVITE_TTL_SECONDS } else { request.ttl_seconds };
        if ttl_seconds > INVITE_TTL_SECONDS_MAX {
            let days = INVITE_TTL_SECONDS_MAX / 86_400;
            return Err(invalid(format!("An invite can live at most {days} days. Ask for less.")).into());
        }
        let ttl_us = i64::try_from(ttl_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let environment = self.database().environment();
        let (id, secret): ([u8; 16], [u8; 16]) = (environment.random(), environment.random());
        let made = self.database().transaction(|tx| {
            must_belong(tx, pool, caller.account)?;
            let now_us = tx.now_us();
            let open = count_open_and_clear(tx, pool, now_us)?;
            if open >= POOL_OPEN_INVITES_MAX {
                let text = format!(
                    "This pool has {POOL_OPEN_INVITES_MAX} open invites, which is the most. Let some be used or expire."
                );
                return Err(Refusal::new(RefusalKind::Exhausted, text).into());
            }
            let expires_us = now_us.saturating_add(ttl_us);
            let uses = Value::Int4(i32::try_from(uses).unwrap_or(i32::MAX));
            tx.execute(
                "INSERT INTO meta.invites (invite_id, pool_id, secret_hash, created_by, created_at, expires_at, \
                 uses_allowed, uses_left) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
                &[
                    uuid(&id),
                    uuid(pool.as_bytes()),
                    Value::bytes(secrets::invite_hash(&secret)),
                    uuid(caller.account.as_bytes()),
                    time(now_us),
                    time(expires_us),
                    uses,
                ],
            )?;
            Ok(expires_us)
        });
        let expires_at_us = made.await?;
        let invite = Bytes::from([id, secret].concat());
        Ok(Response::new(wire::InviteReply { invite, expires_at_us, uses }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::Pool>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let invite: [u8; 32] = validate::bytes("invite", &request.into_inner().invite).map_err(DbError::from)?;
        let joined = self.database().transaction(|tx| join(tx, &invite, caller.account)).await?;
        self.rooms().refresh(vec![joined.id]);
        Ok(Response::new(joined.into()))
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let pool = pool_id(&request.into_inner().pool_id)?;
        let left = self.database().transaction(|tx| {
            must_belong(tx, pool, caller.account)?;
            let mut withdrawn = Vec::new();
            for device in devices(tx, caller.account)? {
                withdrawn.extend(presence::withdraw(tx, device.id, |present| present.pool == pool)?);
            }
            tx.execute(
                "DELETE FROM meta.members WHERE pool_id = $1 AND account_id = $2",
                &[uuid(pool.as_bytes()), uuid(caller.account.as_bytes())],
            )?;
            inherit_or_delete(tx, pool)?;
            Ok(withdrawn)
        });
        for withdrawn in left.await? {
            self.rooms().evict_withdrawn(Some(withdrawn), EndReason::Left);
        }
        self.rooms().refresh(vec![pool]);
        Ok(Response::new(wire::LeaveReply {}))
    }
}

/// How long an expired invite is kept, so that who comes late hears that it expired.
const INVITE_KEPT_US: i64 = 30 * 24 * 60 * 60 * 1_000_000;
/// Invites of one pool that are kept although nobody can use them any more.
const INVITES_SPENT_KEPT_MAX: usize = 256;
/// Such invites that making one clears away.
const INVITES_CLEARED_MAX: usize = 64;

/// How many invites of a pool can still be used. Clears others away, the oldest first, when they are too old or too many.
fn count_open_and_clear(tx: &mut Tx<'_>, pool: PoolId, now_us: i64) -> Result<usize, DbError> {
    let rows = tx.query(
        "SELECT invite_id, uses_left, expires_at FROM meta.invites WHERE pool_id = $1 ORDER BY expires_at DESC",
        &[uuid(pool.as_bytes())],
    )?;
    let (mut open, mut spent) = (0, Vec::new());
    for row in &rows {
        let expires_us = row.time_us(2)?;
        if row.count(1)? > 0 && expires_us > now_us {
            open += 1;
        } else {
            spent.push((row.uuid(0)?, expires_us));
        }
    }
    let old = |expires_us: i64| expires_us < now_us.saturating_sub(INVITE_KEPT_US);
    let cleared = spent.iter().enumerate().rev();
    let cleared = cleared.filter(|(newer, (_, expires_us))| *newer >= INVITES_SPENT_KEPT_MAX || old(*expires_us));
    for (_, (id, _)) in cleared.take(INVITES_CLEARED_MAX) {
        tx.execute("DELETE FROM meta.invites WHERE invite_id = $1", &[uuid(id)])?;
    }
    Ok(open)
}

fn invalid(text: String) -> DbError {
    Refusal::new(RefusalKind::Invalid, text).into()
}

fn pool_id(bytes: &[u8]) -> Result<PoolId, DbError> {
    Ok(PoolId(validate::bytes("pool's id", bytes)?))
}

/// What an account may do in a pool; a refusal for who does not belong to it, or when there is no such pool.
pub fn must_belong(tx: &mut Tx<'_>, pool: PoolId, account: AccountId) -> Result<Role, DbError> {
    let row = tx.query_opt(
        "SELECT role FROM meta.members WHERE pool_id = $1 AND account_id = $2",
        &[uuid(pool.as_bytes()), uuid(account.as_bytes())],
    )?;
    let Some(row) = row else {
        let text = "You do not belong to such a pool. Ask one of its members for an invite.";
        return Err(Refusal::new(RefusalKind::Forbidden, text).into());
    };
    Ok(Role::from_word(row.text(0)?))
}

fn must_have_room_for_a_pool(tx: &mut Tx<'_>, account: AccountId) -> Result<(), DbError> {
    let sql = "SELECT count(*) FROM meta.members WHERE account_id = $1";
    if tx.query_one(sql, &[uuid(account.as_bytes())])?.count(0)? >= POOLS_PER_ACCOUNT_MAX as u64 {
        let text = format!("You belong to {POOLS_PER_ACCOUNT_MAX} pools, which is the most. Leave one first.");
        return Err(Refusal::new(RefusalKind::Exhausted, text).into());
    }
    Ok(())
}

fn insert_member(tx: &mut Tx<'_>, pool: PoolId, account: AccountId, role: Role) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO meta.members (pool_id, account_id, role, joined_at) VALUES ($1, $2, $3, $4)",
        &[uuid(pool.as_bytes()), uuid(account.as_bytes()), Value::text(role.as_str()), now],
    )?;
    Ok(())
}

fn member_count(tx: &mut Tx<'_>, pool: PoolId) -> Result<u64, DbError> {
    tx.query_one("SELECT count(*) FROM meta.members WHERE pool_id = $1", &[uuid(pool.as_bytes())])?.count(0)
}

/// A pool as one of its members sees it.
fn pool_of(tx: &mut Tx<'_>, pool: PoolId, account: AccountId) -> Result<Pool, DbError> {
    let my_role = must_belong(tx, pool, account)?;
    let row = tx.query_one("SELECT name, created_at FROM meta.pools WHERE pool_id = $1", &[uuid(pool.as_bytes())])?;
    let member_count = u32::try_from(member_count(tx, pool)?).unwrap_or(u32::MAX);
    Ok(Pool { id: pool, name: row.text(0)?.to_owned(), my_role, member_count, created_at_us: row.time_us(1)? })
}

/// A pool's members with all their devices.
pub fn members(tx: &mut Tx<'_>, pool: PoolId) -> Result<BTreeMap<AccountId, Member>, DbError> {
    let rows = tx.query(
        "SELECT a.account_id, a.login_name, a.display_name, m.role, m.joined_at \
         FROM meta.members m JOIN meta.accounts a ON a.account_id = m.account_id WHERE m.pool_id = $1",
        &[uuid(pool.as_bytes())],
    )?;
    let mut members = BTreeMap::new();
    for row in rows {
        let id = AccountId(row.uuid(0)?);
        let account = Account { id, login_name: row.text(1)?.to_owned(), display_name: row.text(2)?.to_owned() };
        let role = Role::from_word(row.text(3)?);
        members.insert(id, Member { account, role, joined_at_us: row.time_us(4)?, devices: Vec::new() });
    }
    let sql = concat!(
        "SELECT ",
        device_columns!(),
        " FROM meta.members m JOIN meta.devices d ON d.account_id = m.account_id WHERE m.pool_id = $1 \
         ORDER BY d.created_at, d.device_id"
    );
    for row in tx.query(sql, &[uuid(pool.as_bytes())])? {
        // When a device last spoke to the cluster is its owner's affair.
        let device = super::model::Device { last_seen_us: None, ..device_from_row(&row)? };
        if let Some(member) = members.get_mut(&device.account) {
            member.devices.push(device);
        }
    }
    Ok(members)
}

fn join(tx: &mut Tx<'_>, invite: &[u8; 32], account: AccountId) -> Result<Pool, DbError> {
    let (mut id, mut secret) = ([0; 16], [0; 16]);
    id.copy_from_slice(&invite[..16]);
    secret.copy_from_slice(&invite[16..]);
    let unknown = || {
        let text = "This invite is not known, or has been used up. Check that it is complete, or ask for a new one.";
        DbError::from(Refusal::new(RefusalKind::NotFound, text))
    };
    let row = tx.query_opt(
        "SELECT pool_id, secret_hash, expires_at, uses_left FROM meta.invites WHERE invite_id = $1",
        &[uuid(&id)],
    )?;
    let row = row.ok_or_else(unknown)?;
    if !secrets::same(row.bytes(1)?, &secrets::invite_hash(&secret)) {
        return Err(unknown());
    }
    let pool = PoolId(row.uuid(0)?);
    match must_belong(tx, pool, account) {
        Ok(_) => return pool_of(tx, pool, account),
        Err(DbError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    if row.time_us(2)? <= tx.now_us() {
        let text = "This invite has expired. Ask a member of the pool for a new one.";
        return Err(Refusal::new(RefusalKind::FailedPrecondition, text).into());
    }
    let left = row.count(3)?;
    if left == 0 {
        return Err(unknown());
    }
    must_have_room_for_a_pool(tx, account)?;
    if member_count(tx, pool)? >= POOL_MEMBERS_MAX as u64 {
        let text = format!("This pool has {POOL_MEMBERS_MAX} members, which is the most it can have.");
        return Err(Refusal::new(RefusalKind::Exhausted, text).into());
    }
    tx.execute("UPDATE meta.invites SET uses_left = uses_left - 1 WHERE invite_id = $1", &[uuid(&id)])?;
    insert_member(tx, pool, account, Role::Member)?;
    touch_pool(tx, pool)?;
    pool_of(tx, pool, account)
}

/// After somebody left: a pool without an owner gets one, the first by rank and then by time; one without members goes.
fn inherit_or_delete(tx: &mut Tx<'_>, pool: PoolId) -> Result<(), DbError> {
    let key = [uuid(pool.as_bytes())];
    let mut left = Vec::new();
    let sql = "SELECT account_id, role FROM meta.members WHERE pool_id = $1 ORDER BY joined_at, account_id";
    for row in tx.query(sql, &key)? {
        left.push((row.uuid(0)?, Role::from_word(row.text(1)?)));
    }
    if left.is_empty() {
        for sql in [
            "DELETE FROM meta.invites WHERE pool_id = $1",
            "DELETE FROM meta.presence_intervals WHERE pool_id = $1",
            "DELETE FROM meta.coordinator_leases WHERE pool_id = $1",
            "DELETE FROM meta.pools WHERE pool_id = $1",
        ] {
            tx.execute(sql, &key)?;
        }
        return Ok(());
    }
    if left.iter().all(|(_, role)| *role != Role::Owner) {
        let heir = left.iter().find(|(_, role)| *role == Role::Admin).or(left.first());
        if let Some((heir, _)) = heir {
            tx.execute(
                "UPDATE meta.members SET role = 'owner' WHERE pool_id = $1 AND account_id = $2",
                &[uuid(pool.as_bytes()), uuid(heir)],
            )?;
        }
    }
    touch_pool(tx, pool)
}
