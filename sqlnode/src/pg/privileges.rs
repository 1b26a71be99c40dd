//! What a login role may touch of the cluster's own tables.
//!
//! Tables that people make are open to every role. Schemas `system` and `meta` hold what the cluster runs on: verifiers,
//! tokens, hashes, who is superuser. Only superusers may change anything there, and only what bears no secret may be
//! read by the others. The role is looked up when a statement touches these schemas, in the statement's own
//! transaction, so a role that has just lost its rights has lost them in sessions that are open, too.

use rockpool_sql::{Caches, Prepared, SessionInfo, SqlError, SqlState, Store, Touched};

use crate::roles;

/// Tables of `meta` that every role may read: none holds a hash, a token or a secret. New ones are closed at first.
const READABLE: [&str; 9] = [
    "accounts",
    "coordinator_leases",
    "coordinators",
    "devices",
    "members",
    "migrations",
    "pools",
    "presence",
    "presence_intervals",
];

/// Refuses a statement that touches what its session's role may not.
pub(super) fn check(
    prepared: &Prepared,
    store: &mut dyn Store,
    session: &SessionInfo,
    caches: &Caches,
) -> Result<(), SqlError> {
    let touched = prepared.touched(session);
    let Some(guarded) = touched.iter().find(|touched| for_superusers(touched)) else { return Ok(()) };
    if roles::is_superuser_in(store, caches, &session.user)? {
        return Ok(());
    }
    let Touched { schema, name, change } = guarded;
    let what = if name.is_empty() { format!("schema {schema}") } else { format!("table {schema}.{name}") };
    let hint = match (schema.as_str(), *change) {
        ("meta", true) => {
            "Accounts, devices and pools are changed through the services; only superusers change the rows."
        }
        _ => "Only superusers may use it.",
    };
    Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {what}")).with_hint(hint))
}

fn for_superusers(touched: &Touched) -> bool {
    match touched.schema.as_str() {
        "system" => true,
        "meta" => touched.change || !READABLE.contains(&touched.name.as_str()),
        _ => false,
    }
}
