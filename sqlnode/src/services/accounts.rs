//! Accounts and their devices in the tables: what several services read and change.

use rockpool_proto::limits::{DEVICES_PER_ACCOUNT_EVER_MAX, DEVICES_PER_ACCOUNT_MAX};
use rockpool_proto::{AccountId, DeviceId, PoolId};
use rockpool_sql::Value;

use super::model::{Account, Device, DeviceKind};
use super::secrets::{DeviceProof, PASSWORD_ALGORITHM, PasswordHash};
use super::validate::LoginName;
use crate::database::{DbError, Refusal, RefusalKind, Row, Tx, time, uuid};

/// The columns of [`device_from_row`], in its order.
macro_rules! device_columns {
    () => {
        "d.device_id, d.account_id, d.name, d.kind, d.signing_key, d.exchange_key, d.created_at, d.revoked_at, d.last_seen_at"
    };
}
pub(super) use device_columns;

/// A device from a row of [`device_columns`].
pub fn device_from_row(row: &Row) -> Result<Device, DbError> {
    Ok(Device {
        id: DeviceId(row.uuid(0)?),
        account: AccountId(row.uuid(1)?),
        name: row.text(2)?.to_owned(),
        kind: DeviceKind::from_word(row.text(3)?),
        signing_key: row.array(4)?,
        exchange_key: row.array(5)?,
        created_at_us: row.time_us(6)?,
        revoked_at_us: row.time_us_opt(7)?,
        last_seen_us: row.time_us_opt(8)?,
    })
}

/// An account that must be there.
pub fn account(tx: &mut Tx<'_>, id: AccountId) -> Result<Account, DbError> {
    let row = tx.query_one(
        "SELECT login_name, display_name FROM meta.accounts WHERE account_id = $1",
        &[uuid(id.as_bytes())],
    )?;
    Ok(Account { id, login_name: row.text(0)?.to_owned(), display_name: row.text(1)?.to_owned() })
}

/// An account and the hash of its password, by its name.
pub fn account_to_log_in(tx: &mut Tx<'_>, login: &LoginName) -> Result<Option<(AccountId, PasswordHash)>, DbError> {
    let row = tx.query_opt(
        "SELECT a.account_id, c.memory_kib, c.passes, c.salt, c.hash \
         FROM meta.accounts a JOIN meta.credentials c ON c.account_id = a.account_id WHERE a.login_key = $1",
        &[Value::text(&login.key)],
    )?;
    let Some(row) = row else { return Ok(None) };
    let cost = |column| -> Result<u32, DbError> {
        u32::try_from(row.int(column)?).map_err(|_| DbError::Fatal("a password's cost is out of range".into()))
    };
    let hash = PasswordHash {
        memory_kib: cost(1)?,
        passes: cost(2)?,
        salt: row.bytes(3)?.to_vec(),
        hash: row.bytes(4)?.to_vec(),
    };
    Ok(Some((AccountId(row.uuid(0)?), hash)))
}

/// Adds an account with its password.
pub fn insert_account(
    tx: &mut Tx<'_>,
    id: AccountId,
    login: &LoginName,
    display_name: &str,
    password: &PasswordHash,
) -> Result<(), DbError> {
    let taken =
        tx.query_opt("SELECT account_id FROM meta.accounts WHERE login_key = $1", &[Value::text(&login.key)])?;
    if taken.is_some() {
        let text = format!("The login name {} is taken. Choose another, or log in if it is yours.", login.name);
        return Err(Refusal::new(RefusalKind::AlreadyExists, text).into());
    }
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO meta.accounts (account_id, login_name, login_key, display_name, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        &[
            uuid(id.as_bytes()),
            Value::text(&login.name),
            Value::text(&login.key),
            Value::text(display_name),
            now.clone(),
        ],
    )?;
    let cost = |number: u32| Value::Int4(i32::try_from(number).unwrap_or(i32::MAX));
    tx.execute(
        "INSERT INTO meta.credentials (account_id, algorithm, memory_kib, passes, salt, hash, changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            uuid(id.as_bytes()),
            Value::text(PASSWORD_ALGORITHM),
            cost(password.memory_kib),
            cost(password.passes),
            Value::bytes(&password.salt),
            Value::bytes(&password.hash),
            now,
        ],
    )?;
    Ok(())
}

/// A device by its id, whosever it is.
pub fn device(tx: &mut Tx<'_>, id: DeviceId) -> Result<Option<Device>, DbError> {
    let sql = concat!("SELECT ", device_columns!(), " FROM meta.devices d WHERE d.device_id = $1");
    tx.query_opt(sql, &[uuid(id.as_bytes())])?.as_ref().map(device_from_row).transpose()
}

/// A device of that account, for its owner.
pub fn own_device(tx: &mut Tx<'_>, owner: AccountId, id: DeviceId) -> Result<Device, DbError> {
    device(tx, id)?.filter(|device| device.account == owner).ok_or_else(|| {
        let text = "Your account has no such device. List your devices to see which there are.";
        Refusal::new(RefusalKind::NotFound, text).into()
    })
}

/// An account's devices, the oldest first.
pub fn devices(tx: &mut Tx<'_>, owner: AccountId) -> Result<Vec<Device>, DbError> {
    let sql = concat!(
        "SELECT ",
        device_columns!(),
        " FROM meta.devices d WHERE d.account_id = $1 ORDER BY d.created_at, d.device_id"
    );
    tx.query(sql, &[uuid(owner.as_bytes())])?.iter().map(device_from_row).collect()
}

/// Takes in a device that has proved its key: a known one keeps its name, a new one is added. Also says in which pools
/// somebody has to hear of it.
pub fn admit_device(
    tx: &mut Tx<'_>,
    owner: AccountId,
    proof: &DeviceProof,
    name: &str,
    kind: DeviceKind,
) -> Result<(Device, Vec<PoolId>), DbError> {
    let now_us = tx.now_us();
    if let Some(known) = device(tx, proof.id)? {
        let refused = |kind, text| Err(Refusal::new(kind, text).into());
        if known.account != owner {
            let text =
                "This device key belongs to another account. Make a new one for this account (another home folder).";
            return refused(RefusalKind::FailedPrecondition, text);
        }
        if known.revoked_at_us.is_some() {
            let text = "This device was revoked and stays so. Log in with a new device key.";
            return refused(RefusalKind::Forbidden, text);
        }
        tx.execute(
            "UPDATE meta.devices SET exchange_key = $2, last_seen_at = $3 WHERE device_id = $1",
            &[uuid(proof.id.as_bytes()), Value::bytes(proof.exchange_key), time(now_us)],
        )?;
        let news = if known.exchange_key == proof.exchange_key { Vec::new() } else { touch_pools(tx, owner)? };
        let device = Device { exchange_key: proof.exchange_key, last_seen_us: Some(now_us), ..known };
        return Ok((device, news));
    }
    let ever = tx.query_one(
        "SELECT count(*), count(revoked_at) FROM meta.devices WHERE account_id = $1",
        &[uuid(owner.as_bytes())],
    )?;
    let (ever, revoked) = (ever.count(0)?, ever.count(1)?);
    if ever - revoked >= DEVICES_PER_ACCOUNT_MAX as u64 {
        let text = format!("This account has {DEVICES_PER_ACCOUNT_MAX} devices, which is the most. Revoke one first.");
        return Err(Refusal::new(RefusalKind::Exhausted, text).into());
    }
    if ever >= DEVICES_PER_ACCOUNT_EVER_MAX as u64 {
        let text = format!(
            "This account has had {DEVICES_PER_ACCOUNT_EVER_MAX} devices, which is the most: its pools keep the keys of \
             revoked ones as well. Log in from one of its devices, or sign up for another account."
        );
        return Err(Refusal::new(RefusalKind::Exhausted, text).into());
    }
    tx.execute(
        "INSERT INTO meta.devices (device_id, account_id, name, kind, signing_key, exchange_key, created_at, last_seen_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        &[
            uuid(proof.id.as_bytes()),
            uuid(owner.as_bytes()),
            Value::text(name),
            Value::text(kind.as_str()),
            Value::bytes(proof.signing_key),
            Value::bytes(proof.exchange_key),
            time(now_us),
        ],
    )?;
    let device = Device {
        id: proof.id,
        account: owner,
        name: name.to_owned(),
        kind,
        signing_key: proof.signing_key,
        exchange_key: proof.exchange_key,
        created_at_us: now_us,
        revoked_at_us: None,
        last_seen_us: Some(now_us),
    };
    Ok((device, touch_pools(tx, owner)?))
}

/// Marks every pool of an account as changed, which its room's owner notices at the latest with its next beat.
pub fn touch_pools(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<PoolId>, DbError> {
    let rows = tx.query("SELECT pool_id FROM meta.members WHERE account_id = $1", &[uuid(account.as_bytes())])?;
    let pools: Vec<PoolId> = rows.iter().map(|row| row.uuid(0).map(PoolId)).collect::<Result<_, _>>()?;
    for pool in &pools {
        touch_pool(tx, *pool)?;
    }
    Ok(pools)
}

/// Marks a pool as changed.
pub fn touch_pool(tx: &mut Tx<'_>, pool: PoolId) -> Result<(), DbError> {
    tx.execute("UPDATE meta.pools SET change_number = change_number + 1 WHERE pool_id = $1", &[uuid(pool.as_bytes())])?;
    Ok(())
}
