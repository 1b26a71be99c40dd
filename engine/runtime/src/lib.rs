//! Drives the engine's machine in production.
//!
//! ```text
//!   callers ---begin, commit---> Inbox ---> machine thread ---Persist---> disk thread ---+
//!   other nodes ---streams----->   ^            |  |  |-------Apply-----> apply thread --+--- answers
//!                                  |            |  |                         | Flush     |
//!                                  |            |  |                      flush thread --+
//!                                  +------------|--|-------------------------------------+
//!                    other nodes <---Send-------+  +---Reply---> callers
//! ```
//!
//! One thread owns the machine ([`rockpool_engine::Node`]) and nothing else touches it. Three threads wait for disks. Tokio
//! carries the streams and the callers. None of them decides anything: what to send, write, apply and answer comes out of
//! the machine, and what happened goes in.
//!
//! ```no_run
//! # async fn example() -> Result<(), rockpool_runtime::EngineError> {
//! use rockpool_runtime::{Engine, EngineOptions, NodeId};
//!
//! let options = EngineOptions { bootstrap: true, ..EngineOptions::new("data".into(), NodeId(1)) };
//! let engine = Engine::open(options).await?;
//! let mut transaction = engine.begin().await?;
//! transaction.put(b"key".to_vec(), b"value".to_vec()).map_err(rockpool_runtime::EngineError::Transaction)?;
//! let committed_at = engine.commit(transaction).await?;
//! engine.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! Stopping is one pattern: [`Engine::shutdown`] hands leadership over, waits for open requests, closes the inbox, which
//! ends the machine's thread, which drops the workers' queues, which ends the workers; then the state is flushed and the
//! folder is let go. A failure ([`EngineStatus::failure`]) closes the inbox as well; callers are told the sentence.

mod clock;
mod engine;
mod error;
mod failure;
mod folder;
mod inbox;
mod machine;
mod open;
mod options;
mod past;
mod status;
#[cfg(test)]
mod tests;
mod transport;
mod workers;

pub use engine::Engine;
pub use error::{Class, EngineError};
pub use options::EngineOptions;
pub use rockpool_engine::kv::Direction;
pub use rockpool_engine::{
    FollowerStatus, GroupId, GroupStatus, NodeId, NodeLimits, Refusal, RetryReason, Role, Savepoint, Timestamp, Timing,
    Transaction, TransactionError, TransactionScan,
};
pub use rockpool_proto::engine::v1::transport_server::TransportServer;
pub use rockpool_rocks::StateOptions;
pub use status::{EngineStatus, PeerStatus, WriteCounts};
pub use transport::{TlsOptions, TransportOptions, TransportService};

/// Bytes that nobody can guess, from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    let why = |error| EngineError::Stopped(format!("the system gives no random numbers: {error}").into());
    getrandom::fill(&mut bytes).map_err(why)?;
    Ok(bytes)
}
