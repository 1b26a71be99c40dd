//! Transactions: reading and writing over a view, and what the leader checks before it commits.

mod reads;
mod request;
mod timestamp;
mod transaction;
mod validate;
mod window;

pub use request::{CommitRequest, ReadSet, Span, TxnId};
pub use timestamp::Timestamp;
pub use transaction::{Savepoint, Transaction, TransactionScan};
pub(crate) use validate::{Verdict, validate};
pub(crate) use window::Window;
