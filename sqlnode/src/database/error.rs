//! Why a transaction did not happen, by what the caller does next.

use std::time::Duration;

use rockpool_sql::{SqlError, StoreError};

/// Why a transaction did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// Another transaction was faster; nothing was written. Run it again from its start.
    #[error("the transaction must be run again: {0}")]
    Conflict(String),
    /// The cluster can't serve just now (no leader, no majority); nothing was written. Try later.
    #[error("the cluster can't serve this now: {0}")]
    Unavailable(String),
    /// This node is stopping; nothing was written. Another node may serve; here nothing will come of trying again.
    #[error("this node is stopping")]
    Stopping,
    /// The commit was sent and its answer lost, and its outcome could not be found out.
    #[error("the commit's outcome is not known: {0}")]
    OutcomeUnknown(String),
    /// A limit of the store was reached; the text names it.
    #[error("a limit is reached: {0}")]
    Limit(String),
    /// Damage, or our own mistake.
    #[error("the database failed: {0}")]
    Fatal(String),
    /// A statement failed and would fail again: a constraint, or a mistake in it.
    #[error("{0}")]
    Sql(SqlError),
    /// The work itself decided against it; the transaction is rolled back.
    #[error("{0}")]
    Refused(Refusal),
}

impl From<StoreError> for DbError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retry(text) => Self::Conflict(text),
            StoreError::Limit(text) => Self::Limit(text),
            StoreError::Fatal(text) => Self::Fatal(text),
        }
    }
}

impl From<Refusal> for DbError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl DbError {
    /// True where nothing was written and the same work may succeed when run again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Unavailable(_))
    }
}

/// What kind of no a service says. The gRPC codes of `services::status` follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was sent is malformed or too long.
    Invalid,
    /// Who asks is not known: wrong password, unknown or expired token.
    Unauthenticated,
    /// Who asks is known and may not.
    Forbidden,
    /// What was named is not there.
    NotFound,
    /// What was to be made is there already.
    AlreadyExists,
    /// Not in the present state of things.
    FailedPrecondition,
    /// A limit; `retry_after` says when to come back, where time helps.
    Exhausted,
    /// Another connection or node took over.
    Aborted,
    /// The part of the cluster that is needed can't be reached now.
    Unavailable,
}

/// A no for people: what happened, what it means, what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of no it is.
    pub kind: RefusalKind,
    /// The sentence.
    pub text: String,
    /// When asking again makes sense.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal of that kind with that sentence.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None }
    }

    /// A refusal that ends by itself after that time.
    pub fn for_now(kind: RefusalKind, text: impl Into<String>, retry_after: Duration) -> Self {
        Self { kind, text: text.into(), retry_after: Some(retry_after) }
    }
}
