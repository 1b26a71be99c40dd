//! One connection after its login: messages in, messages out.
//!
//! Answers gather in one buffer, which is sent when a query or pipeline ends, when much has gathered, and before waiting
//! for the client. After an error in the extended protocol everything up to the next Sync is passed over, as the
//! protocol wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rockpool_proto::limits::{PG_MESSAGE_BYTES_MAX, PG_PORTAL_BYTES_MAX, PG_PREPARED_MAX, SQL_STATEMENT_BYTES_MAX};
use rockpool_sql::types::TextContext;
use rockpool_sql::{Column, RoleStatement, SqlError, SqlState, Statement, StatementKind, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bind::columns_of;
use super::cancel::Registered;
use super::encoding::Format;
use super::frontend::{self, Frontend, Target};
use super::portal::{Portal, PortalState};
use super::respond::{Output, Severity};
use super::run::{Failed, RowsTo, Runnable};
use super::startup::LoggedIn;
use super::{Ended, PgShared, Stream};
use crate::database::BackendTransaction;
use crate::roles;
use crate::session::{Outcome, Phase, PreparedStatement, Reported, Settings, SqlSession, Step};

/// An input buffer that grew beyond this is given back when it is empty.
const INPUT_BYTES_KEPT: usize = 256 * 1024;
/// How long a block may go on while the node stops.
const STOPPING_GRACE: Duration = Duration::from_secs(3);

/// One connection.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    input: BytesMut,
    pub(super) output: Output,
    pub(super) session: SqlSession,
    pub(super) transaction: Option<Box<dyn BackendTransaction>>,
    pub(super) statements: BTreeMap<String, PreparedStatement>,
    pub(super) portals: BTreeMap<String, Portal>,
    pub(super) registered: Registered,
    pub(super) shared: Arc<PgShared>,
    /// An error in the extended protocol: everything up to Sync is passed over.
    skipping: bool,
    /// Something was executed in the implicit transaction: it can't be tried again as a whole.
    pub(super) executed: bool,
    /// What the client was told of the settings.
    told: Vec<Reported>,
    told_version: u64,
}

/// Serves a client until it leaves, is told to, or breaks the protocol.
pub(super) async fn serve(logged_in: LoggedIn, shared: &Arc<PgShared>) -> Ended {
    let LoggedIn { mut stream, input, user, superuser, database, settings, mut output } = logged_in;
    let mut session = match open_session(&user, superuser, &database, settings, shared) {
        Ok(session) => session,
        Err(error) => {
            output.error(Severity::Fatal, &error);
            // The client may be gone already; there is nobody else to tell.
            let _ = stream.write_all(&output.buffer).await;
            let _ = stream.shutdown().await;
            return Ended::Refused(error);
        }
    };
    let secret = i32::from_be_bytes(shared.database.environment().random());
    let registered = shared.cancels.register(secret);
    output.key_data(registered.process, registered.secret);
    session.info_mut().backend_pid = registered.process;
    session.info_mut().numbers = Some(shared.database.numbers());
    let mut connection = Connection {
        stream,
        input,
        output,
        session,
        transaction: None,
        statements: BTreeMap::new(),
        portals: BTreeMap::new(),
        registered,
        shared: Arc::clone(shared),
        skipping: false,
        executed: false,
        told: Vec::new(),
        told_version: u64::MAX,
    };
    connection.ready();
    loop {
        let served = match connection.next_message().await {
            Ok(Frontend::Terminate) => return Ended::Closed,
            Ok(message) => connection.handle(message).await,
            Err(ended) => Err(ended),
        };
        if let Err(ended) = served {
            if let Ended::Refused(error) = &ended {
                connection.output.error(Severity::Fatal, error);
                let _ = connection.flush().await;
                let _ = connection.stream.shutdown().await;
            }
            return ended;
        }
    }
}

fn open_session(
    user: &str,
    superuser: bool,
    database: &str,
    asked: Vec<(String, String)>,
    shared: &PgShared,
) -> Result<SqlSession, SqlError> {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let own = [
        ("statement_timeout".to_owned(), milliseconds(shared.options.statement_timeout)),
        ("idle_in_transaction_session_timeout".to_owned(), milliseconds(shared.options.idle_in_transaction_timeout)),
    ];
    let settings = Settings::with_initial(own.into_iter().chain(asked))?;
    Ok(SqlSession::new(user, superuser, database, settings))
}

impl Connection {
    /// The next message; sends what has gathered before it waits.
    pub(super) async fn next_message(&mut self) -> Result<Frontend, Ended> {
        loop {
            if let Some(message) = frontend::next_message(&mut self.input, PG_MESSAGE_BYTES_MAX)? {
                return Ok(message);
            }
            self.flush().await?;
            if self.input.is_empty() && self.input.capacity() > INPUT_BYTES_KEPT {
                self.input = BytesMut::new();
            }
            let in_transaction = self.session.phase() != Phase::Idle;
            let idle_limit = if in_transaction { self.session.settings().idle_in_transaction_timeout() } else { None };
            let stopping = self.shared.stopping.clone();
            let stop = async {
                stopping.cancelled().await;
                if in_transaction {
                    tokio::time::sleep(STOPPING_GRACE).await;
                }
            };
            let idle = async {
                match idle_limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(Ended::Closed);
                    }
                }
                () = stop => {
                    let message = "terminating connection because the node is stopping";
                    return Err(Ended::Refused(SqlError::new(SqlState::ADMIN_SHUTDOWN, message)));
                }
                () = idle => {
                    let message = "terminating connection due to idle-in-transaction timeout";
                    return Err(Ended::Refused(SqlError::new(SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, message)));
                }
            }
        }
    }

    async fn handle(&mut self, message: Frontend) -> Result<(), Ended> {
        if self.skipping && !matches!(message, Frontend::Sync) {
            return Ok(());
        }
        let handled = match message {
            Frontend::Query(sql) => return self.query(&sql).await,
            Frontend::Sync => return self.sync().await,
            Frontend::Flush => return self.flush().await,
            Frontend::Parse { name, sql, types } => self.parse(name, &sql, &types).await.map_err(Failed::Statement),
            Frontend::Bind(bind) => self.bind(bind).map_err(Failed::Statement),
            Frontend::Describe(target, name) => self.describe(target, &name).map_err(Failed::Statement),
            Frontend::Execute { portal, rows_max } => self.execute_portal(portal, rows_max).await,
            Frontend::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                self.output.close_complete();
                Ok(())
            }
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::FunctionCall => {
                // It stands for itself as a query does: the client waits for what follows without a Sync.
                self.fail(&SqlError::unsupported("the function call message"));
                self.ready();
                return self.flush().await;
            }
            Frontend::Password(_) => return Err(Ended::protocol("unexpected password message")),
            Frontend::Terminate => return Err(Ended::Closed),
        };
        match handled {
            Ok(()) => Ok(()),
            Err(Failed::Connection(ended)) => Err(ended),
            Err(Failed::Statement(error)) => {
                self.fail(&error);
                self.skipping = true;
                Ok(())
            }
        }
    }

    /// Tells the client of an error; an implicit transaction ends by it, a block can only be ended.
    fn fail(&mut self, error: &SqlError) {
        self.registered.slot.disarm();
        self.send_notices();
        self.output.error(Severity::Error, error);
        self.shared.metrics.statement_failed(error.state.as_str());
        self.session.failed();
        if self.session.phase() == Phase::Idle {
            self.transaction = None;
            self.executed = false;
        }
    }

    fn send_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.output.notice(&notice);
        }
    }

    /// Reports changed settings and says that the next query may come.
    fn ready(&mut self) {
        if self.session.phase() == Phase::Idle {
            self.portals.clear();
            self.executed = false;
        }
        if self.told_version != self.session.settings_version() {
            let reported = self.session.reported();
            for one in reported.iter().filter(|one| !self.told.contains(one)) {
                self.output.parameter_status(one);
            }
            self.told = reported;
            self.told_version = self.session.settings_version();
        }
        self.output.ready(self.session.phase());
    }

    /// The simple protocol: any number of statements, one transaction unless they say otherwise.
    async fn query(&mut self, sql: &str) -> Result<(), Ended> {
        self.portals.remove("");
        self.statements.remove("");
        match parse_text(sql) {
            Err(error) => self.fail(&error),
            Ok(statements) if statements.is_empty() => self.output.empty_query(),
            Ok(statements) => {
                let count = statements.len();
                for (index, statement) in statements.iter().enumerate() {
                    let place = Place { alone: count == 1, last: index + 1 == count };
                    match self.simple_statement(statement, place).await {
                        Ok(()) => {}
                        Err(Failed::Connection(ended)) => return Err(ended),
                        Err(Failed::Statement(error)) => {
                            self.fail(&error);
                            break;
                        }
                    }
                }
            }
        }
        self.ready();
        self.flush().await
    }

    async fn simple_statement(&mut self, statement: &Statement, place: Place) -> Result<(), Failed> {
        let began = Instant::now();
        let alone = place.alone && self.session.phase() == Phase::Idle;
        let _watch = self.arm();
        let step = self.session.plan(statement.kind())?;
        let tag = match step {
            Step::Run if let StatementKind::Copy(copy) = statement.kind() => self.copy(copy).await?,
            Step::Run if !matches!(statement.kind(), StatementKind::Role(_)) => {
                let runnable = Runnable {
                    statement,
                    prepared: None,
                    params: &[],
                    formats: &[],
                    describe: true,
                    rows: RowsTo::Client,
                    alone,
                };
                let ran = self.run(&runnable).await?;
                if alone {
                    self.session.ended(Outcome::Committed);
                }
                ran.tag.to_string()
            }
            step => self.control(step, statement.kind(), Some(&[])).await?,
        };
        if place.last && self.session.phase() == Phase::Implicit {
            self.finish_implicit().await?;
        }
        self.complete(statement.kind(), &tag, began);
        Ok(())
    }

    /// Answers a finished statement.
    fn complete(&mut self, kind: &StatementKind, tag: &str, began: Instant) {
        self.registered.slot.disarm();
        self.send_notices();
        self.output.command_complete(tag);
        self.shared.metrics.statement_finished(kind, began.elapsed());
    }

    /// Arms the switch of the statement that begins, and its timeout. Dropping the answer ends the timeout.
    fn arm(&mut self) -> Option<Watch> {
        let flag = self.registered.slot.arm();
        self.session.info_mut().limits.cancel = Some(flag);
        let limit = self.session.settings().statement_timeout()?;
        let slot = Arc::clone(&self.registered.slot);
        Some(Watch(tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            slot.cancel(super::cancel::Cause::Timeout);
        })))
    }

    /// Carries out what concerns the session rather than the data. `formats` are given where rows are described too.
    async fn control(
        &mut self,
        step: Step,
        kind: &StatementKind,
        describe: Option<&[Format]>,
    ) -> Result<String, Failed> {
        match step {
            Step::Run => match kind {
                StatementKind::Role(role) => {
                    if self.session.phase() != Phase::Implicit || self.executed {
                        let message = "statements about roles cannot run inside a transaction block";
                        return Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, message).into());
                    }
                    let user = self.session.info().user.clone();
                    let tag = roles::apply(&self.shared.database, &user, role).await?;
                    self.keep_root_password(role);
                    Ok(tag.to_owned())
                }
                _ => Err(SqlError::internal("a statement that reads data was taken for one that does not").into()),
            },
            Step::Done(tag) => Ok(tag.to_owned()),
            Step::Show { name, value } => {
                self.show(&[&name], vec![vec![value]], describe)?;
                Ok("SHOW".to_owned())
            }
            Step::ShowAll => {
                let rows = self.session.settings().all().into_iter();
                let rows = rows.map(|(name, value)| vec![name, value, String::new()]).collect();
                self.show(&["name", "setting", "description"], rows, describe)?;
                Ok("SHOW".to_owned())
            }
            Step::Commit => {
                let committed = self.commit().await;
                let outcome = if committed.is_ok() { Outcome::Committed } else { Outcome::RolledBack };
                self.session.ended(outcome);
                self.executed = false;
                committed?;
                Ok("COMMIT".to_owned())
            }
            Step::Rollback { tag } => {
                self.transaction = None;
                self.session.ended(Outcome::RolledBack);
                self.executed = false;
                Ok(tag.to_owned())
            }
            Step::Mark(name) => {
                self.begin_if_none().await?;
                let transaction = self.transaction.as_mut().ok_or_else(|| SqlError::internal("no transaction"))?;
                let mark = transaction.savepoint();
                self.session.marked(name, mark);
                Ok("SAVEPOINT".to_owned())
            }
            Step::RollbackTo(mark) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.rollback_to(mark);
                }
                Ok("ROLLBACK".to_owned())
            }
            Step::Deallocate(Some(name)) => match self.statements.remove(&name) {
                Some(_) => Ok("DEALLOCATE".to_owned()),
                None => Err(no_statement(&name).into()),
            },
            Step::Deallocate(None) => {
                self.statements.clear();
                Ok("DEALLOCATE ALL".to_owned())
            }
            Step::DiscardAll => {
                self.statements.clear();
                self.portals.clear();
                Ok("DISCARD ALL".to_owned())
            }
        }
    }

    /// What the machine's users find in `pgpass` follows root's password. The other nodes ask this one for it.
    fn keep_root_password(&mut self, role: &RoleStatement) {
        let Some(password) = &role.password else { return };
        if !role.names.iter().any(|name| name == roles::ROOT) {
            return;
        }
        let kept = match (password, &self.shared.root_password) {
            (Some(password), Some(kept)) if !password.starts_with(roles::VERIFIER_PREFIX) => kept.replace(password),
            (_, None) => return,
            _ => Err("it was not given in plain text".to_owned()),
        };
        if let Err(why) = kept {
            let message = format!(
                "root's new password could not be written to the nodes' pgpass files ({why}); the old one stands there \
                 until you write them yourself"
            );
            tracing::warn!("{message}");
            self.session.remark(SqlState::WARNING, message);
        }
    }

    fn show(&mut self, names: &[&str], rows: Vec<Vec<String>>, describe: Option<&[Format]>) -> Result<(), SqlError> {
        let columns = text_columns(names);
        if let Some(formats) = describe {
            self.output.row_description(&columns, formats);
        }
        for row in rows {
            let row: Vec<rockpool_sql::Value> = row.iter().map(rockpool_sql::Value::text).collect();
            self.output.row(&row, &columns, &[], &TextContext::utc())?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Ended> {
        self.skipping = false;
        if self.session.phase() == Phase::Implicit
            && let Err(error) = self.finish_implicit().await
        {
            self.fail(&error);
        }
        self.ready();
        self.flush().await
    }

    async fn parse(&mut self, name: String, sql: &str, types: &[u32]) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message));
        }
        if self.statements.len() >= PG_PREPARED_MAX {
            let message = format!("a session may hold {PG_PREPARED_MAX} prepared statements");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let mut statements = parse_text(sql)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        let param_hints = types.iter().map(|oid| hint(*oid)).collect::<Result<Vec<_>, _>>()?;
        let statement = statements.pop().map(Arc::new);
        let mut prepared = None;
        if let Some(statement) = &statement {
            self.refuse_if_failed(statement.kind())?;
            if reads_data(statement.kind()) {
                let _watch = self.arm();
                self.session.enter();
                prepared = Some(self.prepare(statement, &param_hints).await?);
                self.registered.slot.disarm();
            }
        }
        self.statements.insert(name, PreparedStatement { statement, prepared, param_hints });
        self.output.parse_complete();
        Ok(())
    }

    /// In a failed block only what ends it is taken.
    pub(super) fn refuse_if_failed(&self, kind: &StatementKind) -> Result<(), SqlError> {
        let ends = matches!(
            kind,
            StatementKind::Commit { .. } | StatementKind::Rollback { .. } | StatementKind::RollbackTo(_)
        );
        if self.session.phase() == Phase::Failed && !ends { Err(crate::session::aborted()) } else { Ok(()) }
    }

    async fn execute_portal(&mut self, name: String, rows_max: i32) -> Result<(), Failed> {
        let Some(mut portal) = self.portals.remove(&name) else {
            return Err(no_portal(&name).into());
        };
        let executed = self.execute_taken(&name, &mut portal, usize::try_from(rows_max).unwrap_or(0)).await;
        // A transaction that ended took its portals along.
        if executed.is_ok() {
            self.portals.insert(name, portal);
        }
        executed
    }

    async fn execute_taken(&mut self, name: &str, portal: &mut Portal, rows_max: usize) -> Result<(), Failed> {
        let Some(statement) = portal.statement.statement.clone() else {
            self.output.empty_query();
            return Ok(());
        };
        match &mut portal.state {
            PortalState::Ready => {}
            PortalState::Suspended(waiting) => {
                let taken = waiting.take(rows_max, &mut self.output.buffer);
                if waiting.is_empty() {
                    self.output.command_complete(&waiting.tag(taken));
                    portal.state = PortalState::Done;
                } else {
                    self.output.portal_suspended();
                }
                return Ok(());
            }
            PortalState::Done if columns_of(&portal.statement).is_some() => {
                self.output.command_complete("SELECT 0");
                return Ok(());
            }
            PortalState::Done => {
                let message = format!("portal \"{name}\" cannot be run");
                return Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message).into());
            }
        }
        let began = Instant::now();
        let fresh = match self.session.phase() {
            Phase::Idle => true,
            Phase::Implicit => !self.executed,
            Phase::Open | Phase::Failed => false,
        };
        let _watch = self.arm();
        let step = self.session.plan(statement.kind())?;
        portal.state = PortalState::Done;
        let Step::Run = step else {
            let tag = self.control(step, statement.kind(), None).await?;
            self.complete(statement.kind(), &tag, began);
            return Ok(());
        };
        if let StatementKind::Copy(copy) = statement.kind() {
            self.executed = true;
            let tag = self.copy(copy).await?;
            self.complete(statement.kind(), &tag, began);
            return Ok(());
        }
        if matches!(statement.kind(), StatementKind::Role(_)) {
            let tag = self.control(step, statement.kind(), None).await?;
            self.complete(statement.kind(), &tag, began);
            return Ok(());
        }
        let returns_rows = portal.statement.prepared.as_ref().is_some_and(|prepared| prepared.columns().is_some());
        let suspends = rows_max > 0 && returns_rows;
        let alone = fresh && !suspends && frontend::next_is_sync(&self.input);
        let runnable = Runnable {
            statement: &statement,
            prepared: portal.statement.prepared.as_ref(),
            params: &portal.params,
            formats: &portal.formats,
            describe: false,
            rows: if suspends { RowsTo::Portal { bytes_max: self.portal_bytes_left() } } else { RowsTo::Client },
            alone,
        };
        let mut ran = self.run(&runnable).await?;
        self.executed = true;
        if alone {
            self.session.ended(Outcome::Committed);
        }
        if suspends {
            let taken = ran.waiting.take(rows_max, &mut self.output.buffer);
            if !ran.waiting.is_empty() {
                portal.state = PortalState::Suspended(ran.waiting);
                self.registered.slot.disarm();
                self.output.portal_suspended();
                return Ok(());
            }
            debug_assert!(taken <= rows_max as u64);
        }
        self.complete(statement.kind(), &ran.tag.to_string(), began);
        Ok(())
    }
}

impl Connection {
    /// What one more portal may keep of its rows: all of a session's together have one bound.
    fn portal_bytes_left(&self) -> usize {
        let kept = self.portals.values().map(|portal| match &portal.state {
            PortalState::Suspended(waiting) => waiting.bytes_held,
            PortalState::Ready | PortalState::Done => 0,
        });
        PG_PORTAL_BYTES_MAX.saturating_sub(kept.sum())
    }
}

/// Where a statement stands in what the client sent.
#[derive(Clone, Copy)]
struct Place {
    alone: bool,
    last: bool,
}

/// A statement's timeout; dropping it ends the wait.
struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn parse_text(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if sql.len() > SQL_STATEMENT_BYTES_MAX {
        let message = format!("a statement of {} bytes; {SQL_STATEMENT_BYTES_MAX} are the most", sql.len());
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    }
    rockpool_sql::parse(sql)
}

/// The type that a client declares for a parameter; 0 and `unknown` leave it to us.
fn hint(oid: u32) -> Result<Option<Type>, SqlError> {
    if oid == 0 || oid == Type::Unknown.oid() {
        return Ok(None);
    }
    let known = Type::from_oid(oid, -1);
    known
        .map(Some)
        .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist")))
}

/// Whether a statement is bound against the catalog.
fn reads_data(kind: &StatementKind) -> bool {
    use StatementKind as Kind;
    matches!(kind, Kind::Query { .. } | Kind::Dml | Kind::Ddl | Kind::Explain | Kind::Unsupported(_))
}

pub(super) fn text_columns(names: &[&str]) -> Vec<Column> {
    let column = |name: &&str| Column { name: (*name).to_owned(), ty: Type::Text, table_oid: 0, column_number: 0 };
    names.iter().map(column).collect()
}

pub(super) fn no_statement(name: &str) -> SqlError {
    let state = SqlState::INVALID_SQL_STATEMENT_NAME;
    SqlError::new(state, format!("prepared statement \"{name}\" does not exist"))
}

pub(super) fn no_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}
