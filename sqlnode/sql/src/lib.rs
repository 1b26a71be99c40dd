//! The SQL language: binder, catalog, planner, optimizer, executor, over a [`Store`].
//!
//! A pure library: it reads no clock, draws no randomness and does no I/O of its own. A session machine parses what a
//! client sent, keeps transaction control and settings to itself, and hands everything else through two doors:
//!
//! ```text
//!   parse(text)  ->  Statement, kind()
//!   prepare(statement, store, session, caches, hints)  ->  Prepared { params, columns }
//!   execute(prepared, values, store, session, sink)    ->  CommandTag
//! ```
//!
//! The life of a statement:
//!
//! 1. `parse` makes a syntax tree, refusing what is nested too deeply for anybody who walks it.
//! 2. `bind` resolves names against the `catalog` (which lies in the same store as the rows) and decides all types.
//! 3. `optimize` rewrites the plan by a table of rules; with all of them off, the rows are the same.
//! 4. `plan::resolve` says where in the rows each column will be.
//! 5. `exec` pulls rows from the plan, and changes rows after it has read all it needs.
//!
//! ```
//! use rockpool_sql::{Caches, MemoryStore, SessionInfo, Value, execute, parse, prepare};
//!
//! let (mut store, session, caches) = (MemoryStore::new(), SessionInfo::new("root", "rockpool"), Caches::new());
//! let mut rows = Vec::new();
//! for statement in parse("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1); SELECT a + 1 FROM t")? {
//!     let prepared = prepare(&statement, &store, &session, &caches, &[])?;
//!     execute(&prepared, &[], &mut store, &session, &mut rows)?;
//! }
//! assert_eq!(rows, [[Value::Int4(2)]]);
//! # Ok::<(), rockpool_sql::SqlError>(())
//! ```
//!
//! Where it differs from PostgreSQL on purpose: constraints are checked at the end of each statement and can't be deferred;
//! text sorts by bytes; sequences belong to their transaction, unless sessions are given a [`NumberSource`].

mod bind;
mod catalog;
pub mod codec;
mod copy;
mod ddl;
mod error;
mod exec;
pub mod func;
mod kind;
mod numbers;
mod optimize;
mod parse;
mod plan;
mod prepare;
mod session;
pub mod store;
mod system;
pub mod types;

pub use copy::{CopyFormat, CopyReader, CopyRow, CopyStatement};
pub use error::{Class, ErrorFields, Result, SQL_STATES, SqlError, SqlState};
pub use kind::{Isolation, RoleAction, RoleStatement, SetValue, StatementKind};
pub use numbers::{Allotment, NumberSource, Wanted, allot};
pub use parse::{Statement, parse};
pub use prepare::{Caches, Column, Prepared, Touched, execute, prepare, refreshed};
pub use session::{BATCH_ROWS, CommandTag, Limits, Row, RowSink, SessionInfo, SessionState};
pub use store::{Direction, MemoryStore, Pair, Savepoint, Scan, Store, StoreError};
pub use types::{Type, Value};
