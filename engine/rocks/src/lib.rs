//! RocksDB behind the engine's two storage contracts.
//!
//! ```text
//!   DATA/state    RocksState   no write-ahead log: durable by flush, atomic per batch    the applied index says how far
//!   DATA/log      RocksLog     write-ahead log, synced before a write returns            replayed from there at start
//! ```
//!
//! Two databases rather than two column families of one: the log is synced many times a second, and in a shared database
//! each of these syncs would drag state to the disk that nobody waits for.
//!
//! This crate knows nothing of Raft or transactions. It alone names `rocksdb`; what RocksDB reports becomes a
//! [`StoreError`](rockpool_engine::kv::StoreError) here, sorted by what the caller does about it.

mod error;
mod log;
mod record;
mod state;

pub use log::RocksLog;
pub use state::{RocksState, StateOptions};
