//! The SQL language: binder, catalog, planner, optimizer, executor, over a [`Store`].

pub mod store;

pub use store::{Direction, MemoryStore, Pair, Savepoint, Scan, Store, StoreError};
