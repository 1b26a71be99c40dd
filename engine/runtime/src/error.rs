//! Why the engine did not do what it was asked, sorted by what the caller does about it.

use rockpool_engine::{NodeId, Refusal, RetryReason, TransactionError};
use std::path::PathBuf;
use std::sync::Arc;

/// What a caller does about an [`EngineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing happened: run the transaction, or the request, again.
    Retry,
    /// A commit that may have taken effect, or may not.
    Unknown,
    /// A bound was met, or the request makes no sense here: again as it is, it will fail again.
    Limit,
    /// The engine has stopped, or is about to.
    Fatal,
}

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Something that the transaction read or writes was changed by another since it began.
    #[error("another transaction changed what this one used, at key \"{}\"", key.escape_ascii())]
    Conflict {
        /// A key that was changed.
        key: Vec<u8>,
    },
    /// The transaction took no effect and should be run again.
    #[error("{}", retry_text(*.0))]
    Retry(RetryReason),
    /// The commit was never carried out and never will be.
    #[error("the commit was lost on the way and has been called off")]
    Aborted,
    /// Nobody could say what became of the commit, and why.
    #[error("the commit may have taken effect or not: {0}")]
    Unknown(Arc<str>),
    /// The request was refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The transaction can't be begun or read here.
    #[error(transparent)]
    Transaction(TransactionError),
    /// The engine is being shut down.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The engine stopped; the sentence says why and what helps.
    #[error("the storage engine has stopped: {0}")]
    Stopped(Arc<str>),
    /// Another process, or another engine in this one, has the data folder open.
    #[error("{} is in use by another process: stop that one first, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// The data folder can't be opened.
    #[error("can't open {}: {why}", folder.display())]
    Open {
        /// Which folder.
        folder: PathBuf,
        /// What stands in the way.
        why: String,
    },
    /// An address or a certificate for reaching other nodes can't be used.
    #[error("can't reach {node}: {why}")]
    Address {
        /// Which node.
        node: NodeId,
        /// What is wrong.
        why: String,
    },
}

fn retry_text(reason: RetryReason) -> &'static str {
    match reason {
        RetryReason::TooOld => "the transaction ran for too long to be checked",
        RetryReason::Overloaded => "too much is waiting",
        RetryReason::NoLeader => "no leader answered in time",
    }
}

impl EngineError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            EngineError::Conflict { .. } | EngineError::Retry(_) | EngineError::Aborted => Class::Retry,
            EngineError::Unknown(_) => Class::Unknown,
            EngineError::Refused(refusal) => match refusal {
                Refusal::NoLeader | Refusal::NotLeader | Refusal::ChangePending | Refusal::Overloaded => Class::Retry,
                _ => Class::Limit,
            },
            EngineError::Transaction(error) => match error {
                TransactionError::TooOld | TransactionError::NoState(_) => Class::Retry,
                TransactionError::Store(_) => Class::Fatal,
                _ => Class::Limit,
            },
            EngineError::Address { .. } => Class::Limit,
            EngineError::ShuttingDown | EngineError::Stopped(_) | EngineError::InUse(_) | EngineError::Open { .. } => {
                Class::Fatal
            }
        }
    }
}
