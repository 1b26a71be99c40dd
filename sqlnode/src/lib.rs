//! `rockpool-node`: what an operator runs.
//!
//! ```text
//!   cli         commands, exit codes                 config      flags over environment over file
//!   node        puts a node together, stops it       identity    data folder, authority, keys
//!   cluster     joining, members, status             listen      gRPC and HTTP
//!   pg          PostgreSQL's protocol                session     what a statement does to a session: a machine
//!   roles       who may log in                       metrics     what is counted
//!   database    transactions for our own use         backend_engine   the replicated engine behind them
//!   services    accounts, devices, pools             rooms       presence, roster, signalling
//! ```
//!
//! RocksDB's and raft's types stop below the engine; pgwire's stay in `pg`.

pub mod backend_engine;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod database;
pub mod error;
pub mod identity;
pub mod listen;
pub mod metrics;
pub mod node;
pub mod pg;
pub mod roles;
pub mod rooms;
pub mod services;
pub mod session;
