//! A SQL session as a machine: what a statement does to the transaction block, the settings and the prepared
//! statements. It owns no socket and no transaction of the store; the connection that drives it (`pg::connection`) does.
//!
//! ```text
//!                      statement                    error
//!   Idle ------------------------------> Implicit ---------> Idle      (rolled back)
//!    |  ^          end of the query         | BEGIN
//!    |  +-----------------------------------+   |
//!    | BEGIN                                    v      error
//!    +---------------------------------------> Open ---------> Failed
//!    ^                COMMIT, ROLLBACK          | ^              |  |
//!    +------------------------------------------+ +--------------+  |
//!    |                                            ROLLBACK TO       |
//!    +--------------------------------------------------------------+
//!                     COMMIT (which rolls back), ROLLBACK
//! ```
//!
//! [`SqlSession::plan`] answers what is to be done for a statement; the driver does it and reports how it went. BEGIN
//! opens nothing: the store's transaction begins with the first statement that reads, as PostgreSQL's view does, so an
//! empty block costs nothing. Every isolation level is served as SERIALIZABLE, which the standard allows.

mod settings;

use std::sync::Arc;

use rockpool_sql::{Savepoint, SessionInfo, SetValue, SqlError, SqlState, StatementKind};

pub use settings::{DEFAULT_SEARCH_PATH, Reported, Settings};

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No transaction.
    Idle,
    /// A transaction that ends with what the client sent.
    Implicit,
    /// A transaction block.
    Open,
    /// A block in which a statement failed: nothing but its end is taken.
    Failed,
}

/// What the driver does for a statement.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Run it inside the transaction, which is begun first if there is none.
    Run,
    /// Done already; answer with this tag.
    Done(&'static str),
    /// Answer one row with one column.
    Show {
        /// The column's name.
        name: String,
        /// The value.
        value: String,
    },
    /// `SHOW ALL`.
    ShowAll,
    /// Commit the store's transaction, then call [`SqlSession::ended`].
    Commit,
    /// Drop the store's transaction, then call [`SqlSession::ended`].
    Rollback {
        /// What to answer.
        tag: &'static str,
    },
    /// Mark the writes of the store's transaction, then call [`SqlSession::marked`].
    Mark(String),
    /// Return to this mark of the writes.
    RollbackTo(Savepoint),
    /// Drop prepared statements and portals: one by name, or all.
    Deallocate(Option<String>),
    /// Roll nothing back, drop everything that the session holds.
    DiscardAll,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its writes are there.
    Committed,
    /// They are not.
    RolledBack,
}

/// A remark for the client that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its code.
    pub state: SqlState,
    /// The sentence.
    pub message: String,
}

#[derive(Debug)]
struct Mark {
    name: String,
    writes: Savepoint,
    settings: Settings,
}

/// One session.
#[derive(Debug)]
pub struct SqlSession {
    phase: Phase,
    marks: Vec<Mark>,
    settings: Settings,
    /// Settings as they were before the transaction.
    settings_before: Option<Settings>,
    read_only: bool,
    read_only_default: bool,
    /// `AND CHAIN`: the next block opens at once.
    chain: bool,
    notices: Vec<Notice>,
    info: SessionInfo,
    superuser: bool,
    settings_version: u64,
}

fn warning(state: SqlState, message: &str) -> Notice {
    Notice { state, message: message.to_owned() }
}

fn only_in_blocks(what: &str) -> SqlError {
    SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, format!("{what} can only be used in transaction blocks"))
}

impl SqlSession {
    /// A session of that role, which may be a superuser, in that database.
    pub fn new(user: &str, superuser: bool, database: &str, settings: Settings) -> Self {
        let mut info = SessionInfo::new(user, database);
        info.settings = settings.exported();
        info.search_path = settings.search_path(user);
        SqlSession {
            phase: Phase::Idle,
            marks: Vec::new(),
            settings,
            settings_before: None,
            read_only: false,
            read_only_default: false,
            chain: false,
            notices: Vec::new(),
            info,
            superuser,
            settings_version: 0,
        }
    }

    /// Decides what is to be done for a statement.
    pub fn plan(&mut self, kind: &StatementKind) -> Result<Step, SqlError> {
        use StatementKind as Kind;
        if self.phase == Phase::Failed
            && !matches!(kind, Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_))
        {
            return Err(aborted());
        }
        match kind {
            Kind::Begin { read_only, .. } => Ok(self.begin(*read_only)),
            Kind::Commit { chain } => Ok(self.commit(*chain)),
            Kind::Rollback { chain } => Ok(self.rollback(*chain)),
            Kind::Savepoint(name) if self.phase == Phase::Open => Ok(Step::Mark(name.clone())),
            Kind::Savepoint(_) => Err(only_in_blocks("SAVEPOINT")),
            Kind::RollbackTo(name) => self.rollback_to(name),
            Kind::Release(name) => self.release(name),
            Kind::Set { name, value, local } => self.set(name, value, *local),
            Kind::SetTransaction { read_only, session, .. } => Ok(self.set_transaction(*read_only, *session)),
            Kind::Show(name) if name == "all" => Ok(Step::ShowAll),
            Kind::Show(name) => {
                let value = self.show(name)?;
                Ok(Step::Show { name: name.clone(), value })
            }
            Kind::Reset(name) => {
                self.change_settings(|settings| settings.reset(name.as_deref()))?;
                Ok(Step::Done("RESET"))
            }
            Kind::Deallocate(name) => Ok(Step::Deallocate(name.clone())),
            Kind::Discard if self.phase == Phase::Open => Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            )),
            Kind::Discard => {
                self.change_settings(|settings| settings.reset(None))?;
                Ok(Step::DiscardAll)
            }
            Kind::Dml | Kind::Ddl | Kind::Role(_) if self.read_only => {
                Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot write in a read-only transaction"))
            }
            Kind::Copy(copy) if copy.is_from_client() && self.read_only => {
                Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot write in a read-only transaction"))
            }
            Kind::Copy(_) => {
                self.enter();
                Ok(Step::Run)
            }
            Kind::Nothing(tag) => Ok(Step::Done(tag)),
            Kind::Query { .. } | Kind::Dml | Kind::Ddl | Kind::Explain | Kind::Role(_) | Kind::Unsupported(_) => {
                self.enter();
                Ok(Step::Run)
            }
            Kind::Prepare(_) => Err(SqlError::unsupported("PREPARE as a statement")
                .with_hint("Prepare with the protocol's Parse message, as drivers do.")),
            Kind::Execute(_) => Err(SqlError::unsupported("EXECUTE as a statement")
                .with_hint("Execute with the protocol's Bind and Execute messages, as drivers do.")),
        }
    }

    /// Something is about to read the store outside a statement (a Parse message): a transaction is needed.
    pub fn enter(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Implicit;
            self.settings_before = Some(self.settings.clone());
            self.read_only = self.read_only_default;
        }
    }

    fn begin(&mut self, read_only: Option<bool>) -> Step {
        match self.phase {
            Phase::Open => {
                self.notices
                    .push(warning(SqlState::ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress"));
            }
            _ => {
                self.enter();
                self.phase = Phase::Open;
            }
        }
        self.read_only = read_only.unwrap_or(self.read_only);
        Step::Done("BEGIN")
    }

    fn commit(&mut self, chain: bool) -> Step {
        match self.phase {
            Phase::Idle => {
                self.no_transaction();
                Step::Done("COMMIT")
            }
            Phase::Implicit => {
                self.no_transaction();
                Step::Commit
            }
            Phase::Open => {
                self.chain = chain;
                Step::Commit
            }
            Phase::Failed => {
                self.chain = chain;
                Step::Rollback { tag: "ROLLBACK" }
            }
        }
    }

    fn rollback(&mut self, chain: bool) -> Step {
        match self.phase {
            Phase::Idle => {
                self.no_transaction();
                Step::Done("ROLLBACK")
            }
            Phase::Implicit => {
                self.no_transaction();
                Step::Rollback { tag: "ROLLBACK" }
            }
            Phase::Open | Phase::Failed => {
                self.chain = chain;
                Step::Rollback { tag: "ROLLBACK" }
            }
        }
    }

    fn no_transaction(&mut self) {
        self.notices.push(warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress"));
    }

    fn mark_named(&self, name: &str) -> Result<usize, SqlError> {
        self.marks.iter().rposition(|mark| mark.name == name).ok_or_else(|| {
            SqlError::new(SqlState::INVALID_SAVEPOINT_SPECIFICATION, format!("savepoint \"{name}\" does not exist"))
        })
    }

    fn rollback_to(&mut self, name: &str) -> Result<Step, SqlError> {
        if !matches!(self.phase, Phase::Open | Phase::Failed) {
            return Err(only_in_blocks("ROLLBACK TO SAVEPOINT"));
        }
        let index = self.mark_named(name)?;
        self.marks.truncate(index + 1);
        let mark = &self.marks[index];
        let (writes, settings) = (mark.writes, mark.settings.clone());
        self.put_settings(settings);
        self.phase = Phase::Open;
        Ok(Step::RollbackTo(writes))
    }

    fn release(&mut self, name: &str) -> Result<Step, SqlError> {
        if self.phase != Phase::Open {
            return Err(only_in_blocks("RELEASE SAVEPOINT"));
        }
        let index = self.mark_named(name)?;
        self.marks.truncate(index);
        Ok(Step::Done("RELEASE"))
    }

    /// The store's answer to [`Step::Mark`].
    pub fn marked(&mut self, name: String, writes: Savepoint) {
        self.marks.push(Mark { name, writes, settings: self.settings.clone() });
    }

    fn set(&mut self, name: &str, value: &SetValue, local: bool) -> Result<Step, SqlError> {
        if name == "transaction_read_only" || name == "default_transaction_read_only" {
            let SetValue::Values(values) = value else { return Ok(Step::Done("SET")) };
            let read_only = values.first().is_some_and(|text| matches!(text.as_str(), "on" | "true" | "yes" | "1"));
            return Ok(self.set_transaction(Some(read_only), name.starts_with("default")));
        }
        if local && self.phase != Phase::Open {
            self.notices
                .push(warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, "SET LOCAL can only be used in transaction blocks"));
            return Ok(Step::Done("SET"));
        }
        self.change_settings(|settings| settings.set(name, value, local))?;
        Ok(Step::Done("SET"))
    }

    fn set_transaction(&mut self, read_only: Option<bool>, session: bool) -> Step {
        if session {
            self.read_only_default = read_only.unwrap_or(self.read_only_default);
        } else if self.phase == Phase::Open {
            self.read_only = read_only.unwrap_or(self.read_only);
        } else {
            self.notices.push(warning(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ));
        }
        Step::Done("SET")
    }

    fn show(&self, name: &str) -> Result<String, SqlError> {
        let on_off = |truth: bool| if truth { "on" } else { "off" }.to_owned();
        match name {
            "transaction_read_only" => Ok(on_off(self.read_only)),
            "default_transaction_read_only" => Ok(on_off(self.read_only_default)),
            "session_authorization" => Ok(self.info.user.clone()),
            "is_superuser" => Ok(on_off(self.superuser)),
            _ => self.settings.show(name),
        }
    }

    /// Takes over what `set_config()` changed during a statement.
    pub fn take_changed_settings(&mut self) -> Result<(), SqlError> {
        let changed = {
            let mut state = self.info.state.lock().map_err(|_| SqlError::internal("a statement broke off"))?;
            std::mem::take(&mut state.changed_settings)
        };
        for (name, value, local) in changed {
            self.set(&name, &SetValue::Values(vec![value]), local)?;
        }
        Ok(())
    }

    fn change_settings(&mut self, change: impl FnOnce(&mut Settings) -> Result<(), SqlError>) -> Result<(), SqlError> {
        let mut settings = self.settings.clone();
        change(&mut settings)?;
        self.put_settings(settings);
        Ok(())
    }

    fn put_settings(&mut self, settings: Settings) {
        self.settings_version += 1;
        self.settings = settings;
        self.info.settings = self.settings.exported();
        self.info.search_path = self.settings.search_path(&self.info.user);
    }

    /// A statement failed: an implicit transaction is to be dropped, a block can only be ended.
    pub fn failed(&mut self) {
        match self.phase {
            Phase::Open => self.phase = Phase::Failed,
            Phase::Implicit => self.ended(Outcome::RolledBack),
            Phase::Idle | Phase::Failed => {}
        }
    }

    /// The transaction is over.
    pub fn ended(&mut self, outcome: Outcome) {
        let before = self.settings_before.take();
        match (outcome, before) {
            (Outcome::RolledBack, Some(before)) => self.put_settings(before),
            _ => {
                let mut settings = self.settings.clone();
                if settings.end_local() {
                    self.put_settings(settings);
                }
            }
        }
        self.marks.clear();
        self.phase = Phase::Idle;
        let read_only = self.read_only;
        self.read_only = self.read_only_default;
        if std::mem::take(&mut self.chain) {
            self.enter();
            self.phase = Phase::Open;
            self.read_only = read_only;
        }
    }

    /// Where the session stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Adds a remark for the client.
    pub fn remark(&mut self, state: SqlState, message: String) {
        self.notices.push(Notice { state, message });
    }

    /// Remarks that arose; each is handed out once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What statements are told of the session. The driver fills in time and chance.
    pub fn info_mut(&mut self) -> &mut SessionInfo {
        &mut self.info
    }

    /// What statements are told of the session.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Grows with every change of a setting.
    pub fn settings_version(&self) -> u64 {
        self.settings_version
    }

    /// What the client is told of its settings.
    pub fn reported(&self) -> Vec<Reported> {
        let mut reported = self.settings.reported();
        for one in &mut reported {
            match one.name {
                "session_authorization" => one.value.clone_from(&self.info.user),
                "is_superuser" if !self.superuser => "off".clone_into(&mut one.value),
                _ => {}
            }
        }
        reported
    }

    /// The setting `TimeZone`.
    pub fn time_zone(&self) -> &str {
        self.settings.get("timezone").unwrap_or("UTC")
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// 25P02: nothing but the end of the block is taken.
pub fn aborted() -> SqlError {
    SqlError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// A statement that a session has prepared, by the protocol's Parse.
#[derive(Clone, Debug)]
pub struct PreparedStatement {
    /// The statement; `None` for an empty one.
    pub statement: Option<Arc<rockpool_sql::Statement>>,
    /// Bound and planned, where it runs in a transaction.
    pub prepared: Option<Arc<rockpool_sql::Prepared>>,
    /// Types that the client declared for its parameters.
    pub param_hints: Vec<Option<rockpool_sql::Type>>,
}

#[cfg(test)]
mod tests;
