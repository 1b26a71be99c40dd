//! The SQL language: binder, catalog, planner, optimizer, executor, over a [`Store`].

mod error;
pub mod func;
mod kind;
mod parse;
mod prepare;
mod session;
pub mod store;
pub mod types;

pub use error::{Class, ErrorFields, Result, SqlError, SqlState};
pub use kind::{Isolation, RoleAction, RoleStatement, SetValue, StatementKind};
pub use parse::{Statement, parse};
pub use prepare::{Caches, Column, Prepared, execute, prepare};
pub use session::{BATCH_ROWS, CommandTag, Limits, Row, RowSink, SessionInfo};
pub use store::{Direction, MemoryStore, Pair, Savepoint, Scan, Store, StoreError};
pub use types::{Type, Value};
