//! What a statement is, for the session machine: transaction control, settings and roles are its own business.

use sqlparser::ast::{self, Expr, Ident, ObjectName, Statement as Ast, Value as Literal};

use crate::copy::CopyStatement;
use crate::error::{Result, SqlError, SqlState};
use crate::parse::Source;

/// An isolation level as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// What SET assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// Back to the default.
    Default,
    /// These words, numbers and strings, unquoted.
    Values(Vec<String>),
}

/// What is done to a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleAction {
    /// `CREATE ROLE` or `CREATE USER`
    Create,
    /// `ALTER ROLE`
    Alter,
    /// `DROP ROLE`
    Drop,
}

/// A statement about a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStatement {
    /// What is done.
    pub action: RoleAction,
    /// To whom.
    pub names: Vec<String>,
    /// `IF EXISTS` or `IF NOT EXISTS`
    pub tolerant: bool,
    /// `PASSWORD 'x'`; the inner `None` is `PASSWORD NULL`.
    pub password: Option<Option<String>>,
    /// `LOGIN`, `NOLOGIN`
    pub login: Option<bool>,
    /// `SUPERUSER`, `NOSUPERUSER`
    pub superuser: Option<bool>,
}

/// What a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// `BEGIN`, `START TRANSACTION`
    Begin {
        /// The level asked for.
        isolation: Option<Isolation>,
        /// `READ ONLY` (true) or `READ WRITE`.
        read_only: Option<bool>,
    },
    /// `COMMIT`, `END`
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `SAVEPOINT name`
    Savepoint(String),
    /// `ROLLBACK TO name`
    RollbackTo(String),
    /// `RELEASE name`
    Release(String),
    /// `SET [LOCAL] name = value`
    Set {
        /// The setting, in lower case.
        name: String,
        /// What to.
        value: SetValue,
        /// Until the transaction's end.
        local: bool,
    },
    /// `SET TRANSACTION ...`, or `SET SESSION CHARACTERISTICS AS TRANSACTION ...`
    SetTransaction {
        /// The level asked for.
        isolation: Option<Isolation>,
        /// `READ ONLY` (true) or `READ WRITE`.
        read_only: Option<bool>,
        /// For all later transactions too.
        session: bool,
    },
    /// `SHOW name`; `all` is a name too.
    Show(String),
    /// `RESET name`, or everything.
    Reset(Option<String>),
    /// `SELECT`, `VALUES`, `TABLE`: returns rows.
    Query {
        /// `FOR UPDATE` or `FOR SHARE` is asked for somewhere at the top.
        locks: bool,
    },
    /// `INSERT`, `UPDATE`, `DELETE`
    Dml,
    /// `TRUNCATE`, `CREATE ...`, `DROP ...`, `ALTER ...`, `COMMENT`
    Ddl,
    /// `EXPLAIN`
    Explain,
    /// `PREPARE name AS ...`
    Prepare(String),
    /// `EXECUTE name(...)`
    Execute(String),
    /// `DEALLOCATE name`, or all.
    Deallocate(Option<String>),
    /// `DISCARD ALL` and its parts.
    Discard,
    /// `COPY`, between a table and the client.
    Copy(Box<CopyStatement>),
    /// Roles are kept by whoever keeps passwords.
    Role(RoleStatement),
    /// Accepted and without effect here: `VACUUM`, `ANALYZE`, ...; the command tag.
    Nothing(&'static str),
    /// Known syntax that nothing here carries out; [`prepare`](crate::prepare) answers 0A000 with this name.
    Unsupported(String),
}

/// An identifier as PostgreSQL folds it.
pub(crate) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The parts of a qualified name, folded.
pub(crate) fn name_parts(name: &ObjectName) -> Result<Vec<String>> {
    let part = |part: &ast::ObjectNamePart| match part.as_ident() {
        Some(ident) => Ok(fold(ident)),
        None => Err(SqlError::unsupported("a computed name")),
    };
    name.0.iter().map(part).collect()
}

fn setting_name(name: &ObjectName) -> Result<String> {
    Ok(name_parts(name)?.join(".").to_lowercase())
}

/// The text of a literal or word, for settings and passwords.
fn plain_text(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        Expr::Value(value) => match &value.value {
            Literal::Number(digits, _) => Ok(digits.clone()),
            Literal::Boolean(truth) => Ok(if *truth { "on" } else { "off" }.to_string()),
            Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => Ok(text.clone()),
            Literal::DollarQuotedString(quoted) => Ok(quoted.value.clone()),
            other => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\""))),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => Ok(format!("-{}", plain_text(expr)?)),
        Expr::UnaryOp { op: ast::UnaryOperator::Plus, expr } => plain_text(expr),
        other => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\""))),
    }
}

fn set_value(values: &[Expr]) -> Result<SetValue> {
    if let [Expr::Identifier(ident)] = values
        && ident.quote_style.is_none()
        && ident.value.eq_ignore_ascii_case("default")
    {
        return Ok(SetValue::Default);
    }
    Ok(SetValue::Values(values.iter().map(plain_text).collect::<Result<_>>()?))
}

fn modes(modes: &[ast::TransactionMode]) -> Result<(Option<Isolation>, Option<bool>)> {
    let (mut isolation, mut read_only) = (None, None);
    for mode in modes {
        match mode {
            ast::TransactionMode::AccessMode(mode) => {
                read_only = Some(*mode == ast::TransactionAccessMode::ReadOnly);
            }
            ast::TransactionMode::IsolationLevel(level) => {
                isolation = Some(match level {
                    ast::TransactionIsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
                    ast::TransactionIsolationLevel::ReadCommitted => Isolation::ReadCommitted,
                    ast::TransactionIsolationLevel::RepeatableRead => Isolation::RepeatableRead,
                    ast::TransactionIsolationLevel::Serializable => Isolation::Serializable,
                    ast::TransactionIsolationLevel::Snapshot => {
                        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"SNAPSHOT\""));
                    }
                });
            }
        }
    }
    Ok((isolation, read_only))
}

fn set_kind(set: &ast::Set) -> Result<StatementKind> {
    Ok(match set {
        ast::Set::SingleAssignment { scope, variable, values, .. } => StatementKind::Set {
            name: setting_name(variable)?,
            value: set_value(values)?,
            local: matches!(scope, Some(ast::ContextModifier::Local)),
        },
        ast::Set::SetTimeZone { local, value } => {
            let value = match value {
                Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("local") => {
                    SetValue::Default
                }
                value => set_value(std::slice::from_ref(value))?,
            };
            StatementKind::Set { name: "timezone".to_string(), value, local: *local }
        }
        ast::Set::SetNames { charset_name, .. } => StatementKind::Set {
            name: "client_encoding".to_string(),
            value: SetValue::Values(vec![charset_name.value.clone()]),
            local: false,
        },
        ast::Set::SetNamesDefault {} => {
            StatementKind::Set { name: "client_encoding".to_string(), value: SetValue::Default, local: false }
        }
        ast::Set::SetTransaction { modes: list, session, snapshot: None } => {
            let (isolation, read_only) = modes(list)?;
            StatementKind::SetTransaction { isolation, read_only, session: *session }
        }
        ast::Set::SetRole { context_modifier, role_name } => StatementKind::Set {
            name: "role".to_string(),
            value: SetValue::Values(vec![role_name.as_ref().map_or("none".to_string(), fold)]),
            local: matches!(context_modifier, Some(ast::ContextModifier::Local)),
        },
        _ => StatementKind::Unsupported("this form of SET".to_string()),
    })
}

fn password(password: &ast::Password) -> Result<Option<String>> {
    match password {
        ast::Password::Password(expr) => plain_text(expr).map(Some),
        ast::Password::NullPassword => Ok(None),
    }
}

fn create_role(role: &ast::CreateRole) -> Result<StatementKind> {
    let mut names = Vec::new();
    for name in &role.names {
        names.push(setting_name(name)?);
    }
    Ok(StatementKind::Role(RoleStatement {
        action: RoleAction::Create,
        names,
        tolerant: role.if_not_exists,
        password: role.password.as_ref().map(password).transpose()?,
        login: role.login,
        superuser: role.superuser,
    }))
}

fn alter_role(name: &Ident, operation: &ast::AlterRoleOperation) -> Result<StatementKind> {
    let ast::AlterRoleOperation::WithOptions { options } = operation else {
        return Ok(StatementKind::Unsupported("this form of ALTER ROLE".to_string()));
    };
    let mut role = RoleStatement {
        action: RoleAction::Alter,
        names: vec![fold(name)],
        tolerant: false,
        password: None,
        login: None,
        superuser: None,
    };
    for option in options {
        match option {
            ast::RoleOption::Password(given) => role.password = Some(password(given)?),
            ast::RoleOption::Login(login) => role.login = Some(*login),
            ast::RoleOption::SuperUser(superuser) => role.superuser = Some(*superuser),
            other => return Ok(StatementKind::Unsupported(format!("the role option {other}"))),
        }
    }
    Ok(StatementKind::Role(role))
}

pub(crate) fn kind_of(statement: &Ast, _source: &Source) -> Result<StatementKind> {
    use StatementKind as Kind;
    Ok(match statement {
        Ast::StartTransaction { modes: list, modifier: None, statements, exception: None, .. }
            if statements.is_empty() =>
        {
            let (isolation, read_only) = modes(list)?;
            Kind::Begin { isolation, read_only }
        }
        Ast::Commit { chain, modifier: None, .. } => Kind::Commit { chain: *chain },
        Ast::Rollback { chain, savepoint: None } => Kind::Rollback { chain: *chain },
        Ast::Rollback { savepoint: Some(name), .. } => Kind::RollbackTo(fold(name)),
        Ast::Savepoint { name } => Kind::Savepoint(fold(name)),
        Ast::ReleaseSavepoint { name } => Kind::Release(fold(name)),
        Ast::Set(set) => set_kind(set)?,
        Ast::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["time", "zone"] => Kind::Show("timezone".to_string()),
                ["transaction", "isolation", "level"] => Kind::Show("transaction_isolation".to_string()),
                ["session", "authorization"] => Kind::Show("session_authorization".to_string()),
                _ => Kind::Show(words.join(".")),
            }
        }
        Ast::Reset(reset) => match &reset.reset {
            ast::Reset::ALL => Kind::Reset(None),
            ast::Reset::SessionAuthorization => Kind::Reset(Some("session_authorization".to_string())),
            ast::Reset::ConfigurationParameter(name) => Kind::Reset(Some(setting_name(name)?)),
        },
        // A change may have a WITH before it.
        Ast::Query(query)
            if matches!(
                query.body.as_ref(),
                ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_)
            ) =>
        {
            Kind::Dml
        }
        Ast::Query(query) => Kind::Query { locks: !query.locks.is_empty() },
        Ast::Insert(_) | Ast::Update(_) | Ast::Delete(_) => Kind::Dml,
        Ast::CreateTable(_)
        | Ast::CreateIndex(_)
        | Ast::AlterTable(_)
        | Ast::AlterIndex { .. }
        | Ast::CreateSchema { .. }
        | Ast::CreateSequence { .. }
        | Ast::Comment { .. }
        | Ast::Truncate(_) => Kind::Ddl,
        Ast::Drop { object_type: ast::ObjectType::Role | ast::ObjectType::User, if_exists, names, .. } => {
            let names = names.iter().map(setting_name).collect::<Result<_>>()?;
            let (action, tolerant) = (RoleAction::Drop, *if_exists);
            Kind::Role(RoleStatement { action, names, tolerant, password: None, login: None, superuser: None })
        }
        Ast::Drop { .. } => Kind::Ddl,
        Ast::Explain { .. } => Kind::Explain,
        Ast::Prepare { name, .. } => Kind::Prepare(fold(name)),
        Ast::Execute { name: Some(name), .. } => Kind::Execute(setting_name(name)?),
        Ast::Deallocate { name, .. } if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") => {
            Kind::Deallocate(None)
        }
        Ast::Deallocate { name, .. } => Kind::Deallocate(Some(fold(name))),
        Ast::Discard { .. } => Kind::Discard,
        Ast::CreateRole(role) => create_role(role)?,
        Ast::AlterRole { name, operation } => alter_role(name, operation)?,
        Ast::Copy { source, to, target, options, legacy_options, .. } => {
            Kind::Copy(Box::new(CopyStatement::of(source, *to, target, options, legacy_options)?))
        }
        Ast::Vacuum(_) => Kind::Nothing("VACUUM"),
        Ast::Analyze(_) => Kind::Nothing("ANALYZE"),
        // There are neither cursors nor channels, so none is left open: pools say so before they lend a connection again.
        Ast::Close { cursor: ast::CloseCursor::All } => Kind::Nothing("CLOSE CURSOR ALL"),
        Ast::UNLISTEN { .. } => Kind::Nothing("UNLISTEN"),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            Kind::Unsupported(words.join(" "))
        }
    })
}
