//! Who belongs to the cluster, as SQL: `system.nodes`, `system.join_tokens`, `system.cluster`.
//!
//! A node number is given once and never again: the counter only grows, and rows of former nodes stay. A node that was
//! given a number but never came up does not keep its address: whoever joins from there next takes it over.
//!
//! Each change of the list counts its revision up, in the same transaction, so that whoever holds two lists knows the later
//! one: a node that went back to an old one would call members where they are no more, and perhaps miss a majority.

use std::time::Duration;

use rockpool_proto::NodeId;
use rockpool_sql::Value;

use super::convert::{Addresses, MemberList};
use super::token::JoinToken;
use crate::database::{Database, DbError, Refusal, RefusalKind, Tx, count, time};
use crate::identity::{ClusterId, Fingerprint};
use crate::pg::Verifier;
use crate::roles;

/// How long a token is good when nobody says.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3_600);
/// How long a token may be good.
pub(crate) const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Tokens that may be open at once.
const TOKENS_MAX: u64 = 100;
/// Nodes of a cluster.
const NODES_MAX: usize = 64;

const SCHEMA: &str = "
    CREATE SCHEMA IF NOT EXISTS system;
    CREATE TABLE IF NOT EXISTS system.cluster (
        name text PRIMARY KEY,
        value text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS system.nodes (
        node_id int8 PRIMARY KEY,
        grpc text NOT NULL,
        pg text NOT NULL,
        http text NOT NULL,
        version text NOT NULL,
        joined_at timestamptz NOT NULL,
        announced_at timestamptz,
        removed_at timestamptz
    );
    CREATE TABLE IF NOT EXISTS system.join_tokens (
        token_id bytea PRIMARY KEY,
        secret_hash bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        created_by int8 NOT NULL
    );
";

/// Makes the tables that the node itself needs, the first node's row and the role `root`. The first node does this at
/// every start; doing it again changes nothing.
pub async fn prepare_database(
    database: &Database,
    cluster_id: ClusterId,
    first: &Addresses,
    root: &Verifier,
) -> Result<(), DbError> {
    database
        .transaction(|tx| {
            tx.execute_script(SCHEMA)?;
            tx.execute_script(roles::SCHEMA)
        })
        .await?;
    database
        .transaction(|tx| {
            roles::ensure_root(tx, root)?;
            tx.execute(
                "INSERT INTO system.cluster (name, value) VALUES ('id', $1), ('next_node', $2)
                 ON CONFLICT (name) DO NOTHING",
                &[Value::text(cluster_id.to_string()), Value::text((first.node_id.0 + 1).to_string())],
            )?;
            let known = tx.query_opt("SELECT 1 FROM system.nodes WHERE node_id = $1", &[count(first.node_id.0)])?;
            if known.is_none() { insert(tx, first) } else { Ok(()) }
        })
        .await
}

/// The members, over the database.
#[derive(Clone)]
pub struct Members {
    database: Database,
    cluster_id: ClusterId,
}

fn refuse(kind: RefusalKind, text: impl Into<String>) -> DbError {
    Refusal::new(kind, text).into()
}

impl Members {
    /// The members of that cluster.
    pub fn new(database: Database, cluster_id: ClusterId) -> Members {
        Members { database, cluster_id }
    }

    /// Which cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// Everybody who belongs to it and has been up.
    pub async fn list(&self) -> Result<MemberList, DbError> {
        self.database.transaction(list).await
    }

    /// Those who belonged to it once. Their numbers are never given again.
    pub async fn removed(&self) -> Result<Vec<NodeId>, DbError> {
        self.database
            .transaction(|tx| {
                let rows = tx.query("SELECT node_id FROM system.nodes WHERE removed_at IS NOT NULL", &[])?;
                rows.iter().map(|row| row.count(0).map(NodeId)).collect()
            })
            .await
    }

    /// Takes a member out for good; answers those who are left.
    pub async fn remove(&self, node: NodeId) -> Result<MemberList, DbError> {
        self.database
            .transaction(|tx| {
                let members = list(tx)?.nodes;
                if !members.iter().any(|member| member.node_id == node) {
                    return Err(refuse(RefusalKind::NotFound, format!("{node} is no member of this cluster")));
                }
                if members.len() == 1 {
                    let text =
                        "the last member can't be removed; to end a cluster, stop its nodes and delete their folders";
                    return Err(refuse(RefusalKind::FailedPrecondition, text));
                }
                let now = time(tx.now_us());
                tx.execute("UPDATE system.nodes SET removed_at = $2 WHERE node_id = $1", &[count(node.0), now])?;
                count_change(tx)?;
                list(tx)
            })
            .await
    }

    /// A token with which one more node may join; answers it and when it expires (microseconds since 1970).
    pub async fn create_token(
        &self,
        fingerprint: Fingerprint,
        ttl: Option<Duration>,
        by: NodeId,
    ) -> Result<(JoinToken, i64), DbError> {
        let ttl = ttl.unwrap_or(TOKEN_TTL_DEFAULT);
        if ttl.is_zero() || ttl > TOKEN_TTL_MAX {
            return Err(refuse(RefusalKind::Invalid, "a token is good for one second to seven days"));
        }
        let environment = self.database.environment();
        let token = JoinToken { fingerprint, id: environment.random(), secret: environment.random() };
        let hash = JoinToken::hash(&token.secret);
        let ttl_us = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let expires_at_us = self
            .database
            .transaction(|tx| {
                let now = tx.now_us();
                tx.execute("DELETE FROM system.join_tokens WHERE expires_at <= $1", &[time(now)])?;
                let open = tx.query_one("SELECT count(*) FROM system.join_tokens", &[])?.count(0)?;
                if open >= TOKENS_MAX {
                    let text = format!("{TOKENS_MAX} tokens are open; wait until some are used or expire");
                    return Err(refuse(RefusalKind::Exhausted, text));
                }
                let expires_at = now.saturating_add(ttl_us);
                tx.execute(
                    "INSERT INTO system.join_tokens (token_id, secret_hash, expires_at, created_by)
                     VALUES ($1, $2, $3, $4)",
                    &[Value::bytes(token.id), Value::bytes(hash), time(expires_at), count(by.0)],
                )?;
                Ok(expires_at)
            })
            .await?;
        Ok((token, expires_at_us))
    }

    /// Uses a token up and gives a number to the node that brings it; answers the number and the members so far.
    pub async fn admit(
        &self,
        token_id: &[u8],
        secret: &[u8],
        addresses: &Addresses,
        version: &str,
    ) -> Result<(NodeId, Vec<Addresses>), DbError> {
        let hash = JoinToken::hash(secret);
        self.database
            .transaction(|tx| {
                use_token(tx, token_id, &hash)?;
                let members = list(tx)?.nodes;
                if members.len() >= NODES_MAX {
                    return Err(refuse(RefusalKind::Exhausted, format!("a cluster has at most {NODES_MAX} nodes")));
                }
                free_addresses(tx, addresses, None)?;
                let next: u64 = tx
                    .query_one("SELECT value FROM system.cluster WHERE name = 'next_node'", &[])?
                    .text(0)?
                    .parse()
                    .map_err(|_| DbError::Fatal("system.cluster holds no next node number".to_owned()))?;
                tx.execute(
                    "UPDATE system.cluster SET value = $1 WHERE name = 'next_node'",
                    &[Value::text((next + 1).to_string())],
                )?;
                let now = time(tx.now_us());
                tx.execute(
                    "INSERT INTO system.nodes (node_id, grpc, pg, http, version, joined_at)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                    &[
                        count(next),
                        Value::text(&addresses.grpc),
                        Value::text(&addresses.pg),
                        Value::text(&addresses.http),
                        Value::text(version),
                        now,
                    ],
                )?;
                Ok((NodeId(next), members))
            })
            .await
    }

    /// A member says where it listens; answers the members.
    pub async fn announce(
        &self,
        cluster_id: ClusterId,
        addresses: &Addresses,
        version: &str,
    ) -> Result<MemberList, DbError> {
        if cluster_id != self.cluster_id {
            let text = format!("this is cluster {}, and the node belongs to {cluster_id}", self.cluster_id);
            return Err(refuse(RefusalKind::FailedPrecondition, text));
        }
        self.database
            .transaction(|tx| {
                let node = addresses.node_id;
                let row = tx.query_opt(
                    "SELECT removed_at, announced_at, grpc, pg, http, version FROM system.nodes WHERE node_id = $1",
                    &[count(node.0)],
                )?;
                let unknown = || refuse(RefusalKind::NotFound, no_member(node));
                let row = row.ok_or_else(unknown)?;
                if row.time_us_opt(0)?.is_some() {
                    return Err(unknown());
                }
                let same = row.time_us_opt(1)?.is_some()
                    && (row.text(2)?, row.text(3)?, row.text(4)?, row.text(5)?)
                        == (&addresses.grpc, &addresses.pg, &addresses.http, version);
                if !same {
                    free_addresses(tx, addresses, Some(node))?;
                    let now = time(tx.now_us());
                    tx.execute(
                        "UPDATE system.nodes SET grpc = $2, pg = $3, http = $4, version = $5, announced_at = $6
                         WHERE node_id = $1",
                        &[
                            count(node.0),
                            Value::text(&addresses.grpc),
                            Value::text(&addresses.pg),
                            Value::text(&addresses.http),
                            Value::text(version),
                            now,
                        ],
                    )?;
                    count_change(tx)?;
                }
                list(tx)
            })
            .await
    }
}

/// What a node is told that was removed, or never was there.
pub(crate) fn no_member(node: NodeId) -> String {
    format!(
        "node {node} doesn't belong to this cluster (any more); move its data folder away and join again with a new token"
    )
}

fn revision(tx: &mut Tx<'_>) -> Result<u64, DbError> {
    let row = tx.query_opt("SELECT value FROM system.cluster WHERE name = 'members_revision'", &[])?;
    let Some(row) = row else { return Ok(0) };
    row.text(0)?.parse().map_err(|_| DbError::Fatal("system.cluster holds no revision of the members".to_owned()))
}

fn count_change(tx: &mut Tx<'_>) -> Result<(), DbError> {
    let next = Value::text((revision(tx)? + 1).to_string());
    tx.execute(
        "INSERT INTO system.cluster (name, value) VALUES ('members_revision', $1)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        &[next],
    )?;
    Ok(())
}

fn list(tx: &mut Tx<'_>) -> Result<MemberList, DbError> {
    let revision = revision(tx)?;
    let rows = tx.query(
        "SELECT node_id, grpc, pg, http FROM system.nodes
         WHERE removed_at IS NULL AND announced_at IS NOT NULL ORDER BY node_id",
        &[],
    )?;
    let address = |row: crate::database::Row| {
        Ok(Addresses {
            node_id: NodeId(row.count(0)?),
            grpc: row.text(1)?.to_owned(),
            pg: row.text(2)?.to_owned(),
            http: row.text(3)?.to_owned(),
        })
    };
    Ok(MemberList { revision, nodes: rows.into_iter().map(address).collect::<Result<_, DbError>>()? })
}

fn insert(tx: &mut Tx<'_>, addresses: &Addresses) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO system.nodes (node_id, grpc, pg, http, version, joined_at, announced_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        &[
            count(addresses.node_id.0),
            Value::text(&addresses.grpc),
            Value::text(&addresses.pg),
            Value::text(&addresses.http),
            Value::text(env!("CARGO_PKG_VERSION")),
            now,
        ],
    )?;
    Ok(())
}

/// Deletes the token, or says that there is none such. Nobody learns which part was wrong.
fn use_token(tx: &mut Tx<'_>, token_id: &[u8], hash: &[u8; 32]) -> Result<(), DbError> {
    use subtle::ConstantTimeEq;
    let text = "the token is unknown, used or expired; ask for a new one with `rockpool-node token` on a member";
    let wrong = || refuse(RefusalKind::Unauthenticated, text);
    let row = tx.query_opt(
        "SELECT secret_hash, expires_at FROM system.join_tokens WHERE token_id = $1",
        &[Value::bytes(token_id)],
    )?;
    let row = row.ok_or_else(wrong)?;
    let fits: bool = row.bytes(0)?.ct_eq(hash).into();
    if !fits || row.time_us(1)? <= tx.now_us() {
        return Err(wrong());
    }
    tx.execute("DELETE FROM system.join_tokens WHERE token_id = $1", &[Value::bytes(token_id)])?;
    Ok(())
}

/// Refuses addresses that another member listens on. One that never came up loses its row instead.
fn free_addresses(tx: &mut Tx<'_>, addresses: &Addresses, own: Option<NodeId>) -> Result<(), DbError> {
    let rows =
        tx.query("SELECT node_id, announced_at, grpc, pg, http FROM system.nodes WHERE removed_at IS NULL", &[])?;
    for row in rows {
        let node = NodeId(row.count(0)?);
        let wanted = [&addresses.grpc, &addresses.pg, &addresses.http];
        let theirs = [row.text(2)?, row.text(3)?, row.text(4)?];
        let Some(shared) = wanted.into_iter().find(|wanted| theirs.contains(&wanted.as_str())) else { continue };
        if Some(node) == own {
            continue;
        }
        if row.time_us_opt(1)?.is_some() {
            let text = format!(
                "{shared} belongs to node {node}, which is a member: start that node with its own data folder, or give \
                 this one other addresses"
            );
            return Err(refuse(RefusalKind::FailedPrecondition, text));
        }
        let now = time(tx.now_us());
        tx.execute("UPDATE system.nodes SET removed_at = $2 WHERE node_id = $1", &[count(node.0), now])?;
    }
    Ok(())
}
