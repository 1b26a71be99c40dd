//! Why a node does not start, or a command of the operator fails: sentences that say what to do.
//!
//! The exit code follows from the variant, in one place ([`StartError::exit_code`]).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::ConfigError;
use crate::database::DbError;

/// Why a node does not start, or an operator's command fails.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bad settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process holds the data folder.
    #[error(
        "{} is in use by another rockpool-node process{}; stop that one first, or start this one with another --data",
        path.display(), process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, when it left its number.
        process: Option<u32>,
    },
    /// Something in the data folder can't be read or written.
    #[error("{}", io_sentence(action, path, source))]
    Io {
        /// What was tried: "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The data folder can't be what it says.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The folder, the token or the address belongs elsewhere.
    #[error("{0}")]
    Foreign(String),
    /// A listener can't be opened.
    #[error("{}", listen_sentence(flag, address, source))]
    Listen {
        /// The flag that chose the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another node can't be reached or answered no.
    #[error("{0}")]
    Unreachable(String),
    /// A node answered, but too few do for the cluster to decide anything.
    #[error("{0}")]
    Undecided(String),
    /// The cluster refused.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// The node was taken out of its cluster.
    #[error("the cluster refuses: {0}")]
    Removed(String),
    /// The store failed.
    #[error("the store can't be opened: {0}")]
    Store(String),
    /// A transaction failed while starting.
    #[error("{0}")]
    Database(#[from] DbError),
    /// The running node failed; others hold the reason too.
    #[error("{0}")]
    Failed(Arc<StartError>),
    /// Certificates can't be made or read.
    #[error("TLS: {0}")]
    Tls(String),
}

impl StartError {
    /// An error about a file, for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError + use<> {
        let path = path.to_owned();
        move |source| StartError::Io { action, path, source }
    }

    /// What the process answers to its caller: 2 for bad settings, 3 for what the folder or the cluster refuses, 4 for
    /// what may work later, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_) => 2,
            StartError::Failed(error) => error.exit_code(),
            StartError::Locked { .. }
            | StartError::Damaged { .. }
            | StartError::Foreign(_)
            | StartError::Removed(_)
            | StartError::Refused(_) => 3,
            StartError::Listen { .. } | StartError::Unreachable(_) | StartError::Undecided(_) => 4,
            StartError::Database(DbError::Stopping) => 4,
            StartError::Database(error) if error.is_retryable() => 4,
            StartError::Database(_) | StartError::Io { .. } | StartError::Store(_) | StartError::Tls(_) => 1,
        }
    }
}

fn io_sentence(action: &str, path: &Path, source: &io::Error) -> String {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("can't {action} {path}: the disk is full; free some space there and start again")
        }
        io::ErrorKind::PermissionDenied => {
            format!("can't {action} {path}: permission denied; run as the folder's owner, or choose another --data")
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            format!("can't {action} {path}: a file is in its way; choose another --data")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("can't {action} {path}: the file system is read-only; choose another --data")
        }
        _ => format!("can't {action} {path}: {source}"),
    }
}

fn listen_sentence(flag: &str, address: &SocketAddr, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; choose another address with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{address} is not an address of this machine; choose one of its own with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "listening on {address} is not permitted (ports below 1024 need rights); choose another with {flag}"
            )
        }
        _ => format!("can't listen on {address} ({flag}): {source}"),
    }
}
