//! Transactions: reading and writing over a view, and what is handed to the leader to commit.

mod request;
mod timestamp;
mod transaction;

pub use request::{CommitRequest, ReadSet, Span, TxnId};
pub use timestamp::Timestamp;
pub use transaction::{Savepoint, Transaction, TransactionScan};
