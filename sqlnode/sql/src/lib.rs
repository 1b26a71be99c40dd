//! The SQL language: binder, catalog, planner, optimizer, executor, over a [`Store`].

mod bind;
mod catalog;
pub mod codec;
mod ddl;
mod error;
mod exec;
pub mod func;
mod kind;
mod optimize;
mod parse;
mod plan;
mod prepare;
mod session;
pub mod store;
mod system;
pub mod types;

pub use error::{Class, ErrorFields, Result, SqlError, SqlState};
pub use kind::{Isolation, RoleAction, RoleStatement, SetValue, StatementKind};
pub use parse::{Statement, parse};
pub use prepare::{Caches, Column, Prepared, execute, prepare};
pub use session::{BATCH_ROWS, CommandTag, Limits, Row, RowSink, SessionInfo, SessionState};
pub use store::{Direction, MemoryStore, Pair, Savepoint, Scan, Store, StoreError};
pub use types::{Type, Value};
