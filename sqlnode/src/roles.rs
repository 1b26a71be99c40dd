//! Login roles: who may open a SQL session, kept in `system.roles` with SCRAM verifiers instead of passwords.
//!
//! The first node makes `root`. Only superusers make, change and drop roles. Such a statement is a transaction by itself.
//! What else only they may do is in `pg::privileges`.

use rockpool_sql::{Caches, RoleAction, RoleStatement, SessionInfo, SqlError, SqlState, Store, Value};

use crate::database::{Database, DbError, Tx, time};
use crate::pg::{Verifier, sql_error};

/// The one database of a cluster.
pub const DATABASE: &str = "rockpool";
/// The role that the first node makes.
pub const ROOT: &str = "root";
/// How a password begins that is a verifier already.
pub(crate) const VERIFIER_PREFIX: &str = "SCRAM-SHA-256$";
/// Characters in a role's name: as many as an identifier has.
const NAME_BYTES_MAX: usize = 63;
/// Characters in a password.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Whether a role is a superuser.
const SUPERUSER_OF: &str = "SELECT superuser FROM system.roles WHERE name = $1";

/// The table of roles, as part of the system schema.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS system.roles (
        name text PRIMARY KEY,
        verifier text,
        login bool NOT NULL,
        superuser bool NOT NULL,
        created_at timestamptz NOT NULL
    );
";

/// What a role that wants to log in must prove, and whether it is a superuser; `None` where it may not log in.
pub(crate) async fn login(database: &Database, name: &str) -> Result<Option<(Verifier, bool)>, DbError> {
    let stored = database
        .transaction(|tx| {
            let row = tx.query_opt(
                "SELECT verifier, superuser FROM system.roles WHERE name = $1 AND login AND verifier IS NOT NULL",
                &[Value::text(name)],
            )?;
            row.map(|row| Ok((row.text(0)?.to_owned(), row.bool(1)?))).transpose()
        })
        .await?;
    Ok(stored.and_then(|(verifier, superuser)| Some((Verifier::parse(&verifier)?, superuser))))
}

/// Root's verifier as it is stored; `None` where its password was taken away.
pub(crate) async fn root_verifier(database: &Database) -> Result<Option<String>, DbError> {
    database
        .transaction(|tx| {
            let row = tx.query_opt(
                "SELECT verifier FROM system.roles WHERE name = $1 AND verifier IS NOT NULL",
                &[Value::text(ROOT)],
            )?;
            row.map(|row| row.text(0).map(str::to_owned)).transpose()
        })
        .await
}

/// Makes `root` if it isn't there: at the first start of the first node.
pub(crate) fn ensure_root(tx: &mut Tx<'_>, verifier: &Verifier) -> Result<(), DbError> {
    let now = time(tx.now_us());
    tx.execute(
        "INSERT INTO system.roles (name, verifier, login, superuser, created_at)
         VALUES ($1, $2, true, true, $3) ON CONFLICT (name) DO NOTHING",
        &[Value::text(ROOT), Value::text(verifier.to_string()), now],
    )?;
    Ok(())
}

/// Carries out CREATE, ALTER or DROP ROLE in the name of `user`; answers the command tag.
pub(crate) async fn apply(
    database: &Database,
    user: &str,
    statement: &RoleStatement,
) -> Result<&'static str, SqlError> {
    for name in &statement.names {
        check_name(name, statement.action)?;
    }
    let verifier = match &statement.password {
        Some(Some(password)) => Some(new_verifier(database, password)?.to_string()),
        _ => None,
    };
    let done = database.transaction(|tx| Ok(in_transaction(tx, user, statement, verifier.as_deref()))).await;
    done.map_err(sql_error)??;
    Ok(match statement.action {
        RoleAction::Create => "CREATE ROLE",
        RoleAction::Alter => "ALTER ROLE",
        RoleAction::Drop => "DROP ROLE",
    })
}

/// A verifier with a salt of its own. Hashing takes milliseconds, so it is done outside of any transaction.
pub(crate) fn new_verifier(database: &Database, password: &str) -> Result<Verifier, SqlError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX || password.contains('\0') {
        let message = format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    if password.starts_with(VERIFIER_PREFIX) {
        let malformed = || SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "this is no valid SCRAM verifier");
        return Verifier::parse(password).ok_or_else(malformed);
    }
    Ok(Verifier::of_password(password, database.environment().random()))
}

fn check_name(name: &str, action: RoleAction) -> Result<(), SqlError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let message = format!("a role's name has 1 to {NAME_BYTES_MAX} bytes");
        return Err(SqlError::new(SqlState::INVALID_NAME, message));
    }
    if action == RoleAction::Create && (name.starts_with("pg_") || name == "public" || name == "none") {
        return Err(SqlError::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved")));
    }
    Ok(())
}

/// A refusal is a value here, so that the transaction around it isn't tried again for it.
fn in_transaction(
    tx: &mut Tx<'_>,
    user: &str,
    statement: &RoleStatement,
    verifier: Option<&str>,
) -> Result<(), SqlError> {
    let own = is_superuser(tx, user).map_err(sql_error)?;
    let changes_own_password = statement.action == RoleAction::Alter
        && statement.names == [user]
        && statement.login.is_none()
        && statement.superuser.is_none();
    if own != Some(true) && !changes_own_password {
        let message = "only superusers may make, change and drop roles";
        return Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message));
    }
    for name in &statement.names {
        let exists = is_superuser(tx, name).map_err(sql_error)?.is_some();
        match statement.action {
            RoleAction::Create if exists && statement.tolerant => {}
            RoleAction::Create if exists => {
                return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, format!("role \"{name}\" already exists")));
            }
            RoleAction::Create => create(tx, name, statement, verifier).map_err(sql_error)?,
            RoleAction::Drop if !exists && statement.tolerant => {}
            RoleAction::Alter | RoleAction::Drop if !exists => {
                return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")));
            }
            RoleAction::Alter => alter(tx, name, statement, verifier).map_err(sql_error)?,
            RoleAction::Drop if name == ROOT || name == user => {
                return Err(SqlError::new(SqlState::OBJECT_IN_USE, format!("role \"{name}\" cannot be dropped")));
            }
            RoleAction::Drop => {
                tx.execute("DELETE FROM system.roles WHERE name = $1", &[Value::text(name)]).map_err(sql_error)?;
            }
        }
    }
    Ok(())
}

/// Whether a role is a superuser; `None` when there is no such role.
fn is_superuser(tx: &mut Tx<'_>, name: &str) -> Result<Option<bool>, DbError> {
    let row = tx.query_opt(SUPERUSER_OF, &[Value::text(name)])?;
    row.map(|row| row.bool(0)).transpose()
}

/// Whether a role is there and a superuser, as a session's transaction sees it.
pub(crate) fn is_superuser_in(store: &mut dyn Store, caches: &Caches, name: &str) -> Result<bool, SqlError> {
    let session = SessionInfo::new(ROOT, DATABASE);
    let mut rows: Vec<rockpool_sql::Row> = Vec::new();
    for statement in rockpool_sql::parse(SUPERUSER_OF)? {
        let prepared = rockpool_sql::prepare(&statement, store, &session, caches, &[])?;
        rockpool_sql::execute(&prepared, &[Value::text(name)], store, &session, &mut rows)?;
    }
    Ok(rows.first().is_some_and(|row| row.first() == Some(&Value::Bool(true))))
}

fn create(tx: &mut Tx<'_>, name: &str, statement: &RoleStatement, verifier: Option<&str>) -> Result<(), DbError> {
    let now = time(tx.now_us());
    // CREATE USER is CREATE ROLE with LOGIN; a role with a password is meant to log in.
    let login = statement.login.unwrap_or(verifier.is_some());
    let superuser = statement.superuser.unwrap_or(false);
    tx.execute(
        "INSERT INTO system.roles (name, verifier, login, superuser, created_at) VALUES ($1, $2, $3, $4, $5)",
        &[
            Value::text(name),
            verifier.map_or(Value::Null, Value::text),
            Value::Bool(login),
            Value::Bool(superuser),
            now,
        ],
    )?;
    Ok(())
}

fn alter(tx: &mut Tx<'_>, name: &str, statement: &RoleStatement, verifier: Option<&str>) -> Result<(), DbError> {
    let name = Value::text(name);
    if statement.password.is_some() {
        let verifier = verifier.map_or(Value::Null, Value::text);
        tx.execute("UPDATE system.roles SET verifier = $2 WHERE name = $1", &[name.clone(), verifier])?;
    }
    if let Some(login) = statement.login {
        tx.execute("UPDATE system.roles SET login = $2 WHERE name = $1", &[name.clone(), Value::Bool(login)])?;
    }
    if let Some(superuser) = statement.superuser {
        tx.execute("UPDATE system.roles SET superuser = $2 WHERE name = $1", &[name, Value::Bool(superuser)])?;
    }
    Ok(())
}
