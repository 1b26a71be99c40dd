//! The tables that hold the metadata, made by plain SQL that anyone may look at with `psql`.
//!
//! Each entry of [`MIGRATIONS`] runs once, in order, and leaves a row in `meta.migrations` in the same transaction.
//! Nodes may start together: the transactions conflict and the later one finds nothing left to do. Entries are only ever
//! added. `system.settings` holds what the cluster itself must remember.

use rockpool_sql::Value;

use crate::database::{Database, DbError, Tx, time};

/// Where migrations are noted, and the cluster's own settings.
const GROUND: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS system",
    "CREATE SCHEMA IF NOT EXISTS meta",
    "CREATE TABLE IF NOT EXISTS system.settings (
        name text PRIMARY KEY,
        value bytea NOT NULL,
        changed_at timestamptz NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS meta.migrations (
        version integer PRIMARY KEY,
        title text NOT NULL,
        applied_at timestamptz NOT NULL
    )",
];

struct Migration {
    title: &'static str,
    statements: &'static [&'static str],
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        title: "accounts, credentials, devices and login sessions",
        statements: &[
            "CREATE TABLE meta.accounts (
                account_id uuid PRIMARY KEY,
                login_name text NOT NULL,
                login_key text NOT NULL UNIQUE,
                display_name text NOT NULL,
                created_at timestamptz NOT NULL
            )",
            "CREATE TABLE meta.credentials (
                account_id uuid PRIMARY KEY REFERENCES meta.accounts (account_id),
                algorithm text NOT NULL,
                memory_kib integer NOT NULL,
                passes integer NOT NULL,
                salt bytea NOT NULL,
                hash bytea NOT NULL,
                changed_at timestamptz NOT NULL
            )",
            "CREATE TABLE meta.devices (
                device_id uuid PRIMARY KEY,
                account_id uuid NOT NULL REFERENCES meta.accounts (account_id),
                name text NOT NULL,
                kind text NOT NULL,
                signing_key bytea NOT NULL,
                exchange_key bytea NOT NULL,
                created_at timestamptz NOT NULL,
                revoked_at timestamptz,
                last_seen_at timestamptz
            )",
            "CREATE INDEX devices_by_account ON meta.devices (account_id)",
            // One row for each login: the tokens change, the session stays. Tokens themselves are nowhere.
            "CREATE TABLE meta.sessions (
                session_id uuid PRIMARY KEY,
                account_id uuid NOT NULL REFERENCES meta.accounts (account_id),
                device_id uuid NOT NULL REFERENCES meta.devices (device_id),
                access_hash bytea NOT NULL UNIQUE,
                access_expires_at timestamptz NOT NULL,
                refresh_hash bytea NOT NULL UNIQUE,
                refresh_expires_at timestamptz NOT NULL,
                created_at timestamptz NOT NULL,
                ended_at timestamptz,
                end_reason text
            )",
            "CREATE INDEX sessions_by_device ON meta.sessions (device_id)",
            // Refresh tokens that were traded in: one that is shown again was stolen from somebody.
            "CREATE TABLE meta.spent_refresh_tokens (
                refresh_hash bytea PRIMARY KEY,
                session_id uuid NOT NULL REFERENCES meta.sessions (session_id),
                spent_at timestamptz NOT NULL
            )",
            "CREATE INDEX spent_refresh_tokens_by_session ON meta.spent_refresh_tokens (session_id, spent_at)",
            "CREATE TABLE meta.login_attempts (
                subject text PRIMARY KEY,
                failures integer NOT NULL,
                last_failure_at timestamptz NOT NULL,
                blocked_until timestamptz NOT NULL
            )",
            "CREATE INDEX login_attempts_by_time ON meta.login_attempts (last_failure_at)",
        ],
    },
    Migration {
        title: "pools, members and invites",
        statements: &[
            "CREATE TABLE meta.pools (
                pool_id uuid PRIMARY KEY,
                name text NOT NULL,
                created_by uuid NOT NULL REFERENCES meta.accounts (account_id),
                created_at timestamptz NOT NULL,
                change_number bigint NOT NULL
            )",
            "CREATE TABLE meta.members (
                pool_id uuid NOT NULL REFERENCES meta.pools (pool_id),
                account_id uuid NOT NULL REFERENCES meta.accounts (account_id),
                role text NOT NULL,
                joined_at timestamptz NOT NULL,
                PRIMARY KEY (pool_id, account_id)
            )",
            "CREATE INDEX members_by_account ON meta.members (account_id)",
            "CREATE TABLE meta.invites (
                invite_id uuid PRIMARY KEY,
                pool_id uuid NOT NULL REFERENCES meta.pools (pool_id),
                secret_hash bytea NOT NULL,
                created_by uuid NOT NULL REFERENCES meta.accounts (account_id),
                created_at timestamptz NOT NULL,
                expires_at timestamptz NOT NULL,
                uses_allowed integer NOT NULL,
                uses_left integer NOT NULL
            )",
            "CREATE INDEX invites_by_pool ON meta.invites (pool_id)",
        ],
    },
    Migration {
        title: "presence and the coordinators of pools",
        statements: &[
            // One row for each device that was ever present; `pool_id` is NULL while it is in none.
            "CREATE TABLE meta.presence (
                device_id uuid PRIMARY KEY REFERENCES meta.devices (device_id),
                account_id uuid NOT NULL,
                pool_id uuid,
                presence_epoch bigint NOT NULL,
                session_id uuid NOT NULL,
                node_id bigint NOT NULL,
                since timestamptz NOT NULL
            )",
            "CREATE INDEX presence_by_pool ON meta.presence (pool_id)",
            "CREATE INDEX presence_by_account ON meta.presence (account_id)",
            "CREATE TABLE meta.presence_intervals (
                device_id uuid NOT NULL REFERENCES meta.devices (device_id),
                presence_epoch bigint NOT NULL,
                account_id uuid NOT NULL,
                pool_id uuid NOT NULL REFERENCES meta.pools (pool_id),
                joined_at timestamptz NOT NULL,
                left_at timestamptz,
                PRIMARY KEY (device_id, presence_epoch)
            )",
            "CREATE INDEX presence_intervals_by_pool ON meta.presence_intervals (pool_id, joined_at)",
            // A node that owns pools moves its beat on; who sees it stand still may take them over.
            "CREATE TABLE meta.coordinators (
                node_id bigint PRIMARY KEY,
                incarnation uuid NOT NULL,
                beat bigint NOT NULL,
                beat_at timestamptz NOT NULL
            )",
            "CREATE TABLE meta.coordinator_leases (
                pool_id uuid PRIMARY KEY REFERENCES meta.pools (pool_id),
                node_id bigint,
                incarnation uuid,
                lease_epoch bigint NOT NULL,
                acquired_at timestamptz NOT NULL
            )",
            "CREATE INDEX coordinator_leases_by_node ON meta.coordinator_leases (node_id)",
        ],
    },
    Migration {
        title: "refresh tokens whose answer may have been lost, and when a device was last heard",
        statements: &[
            // The token that was traded last, until something of what was answered for it is used.
            "ALTER TABLE meta.sessions ADD COLUMN unconfirmed_hash bytea",
            // The device was there until then for certain; `left_at` is when that was noticed.
            "ALTER TABLE meta.presence_intervals ADD COLUMN heard_at timestamptz",
            "CREATE INDEX presence_intervals_by_end ON meta.presence_intervals (pool_id, left_at)",
        ],
    },
];

/// Brings the tables to this version's shape; does nothing when they have it.
pub async fn migrate(database: &Database) -> Result<(), DbError> {
    database
        .transaction(|tx| {
            for statement in GROUND {
                tx.execute_script(statement)?;
            }
            Ok(())
        })
        .await?;
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        let version = i32::try_from(index + 1).expect("there are fewer migrations than that");
        let applied = database.transaction(|tx| apply(tx, version, migration)).await?;
        if applied {
            tracing::info!(version, title = migration.title, "the metadata tables were changed");
        }
    }
    Ok(())
}

fn apply(tx: &mut Tx<'_>, version: i32, migration: &Migration) -> Result<bool, DbError> {
    let known = "SELECT version FROM meta.migrations WHERE version = $1";
    if tx.query_opt(known, &[Value::Int4(version)])?.is_some() {
        return Ok(false);
    }
    for statement in migration.statements {
        tx.execute_script(statement)?;
    }
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO meta.migrations (version, title, applied_at) VALUES ($1, $2, $3)",
        &[Value::Int4(version), Value::text(migration.title), now],
    )?;
    Ok(true)
}

/// A secret that all nodes share, made by the first that asks for it.
pub async fn cluster_secret(database: &Database, name: &'static str) -> Result<[u8; 32], DbError> {
    let fresh: [u8; 32] = database.environment().random();
    database
        .transaction(|tx| {
            let known = tx.query_opt("SELECT value FROM system.settings WHERE name = $1", &[Value::text(name)])?;
            if let Some(row) = known {
                return row.array(0);
            }
            let now = time(tx.now_us());
            tx.execute(
                "INSERT INTO system.settings (name, value, changed_at) VALUES ($1, $2, $3)",
                &[Value::text(name), Value::bytes(fresh), now],
            )?;
            Ok(fresh)
        })
        .await
}
