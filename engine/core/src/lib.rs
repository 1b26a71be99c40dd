//! The replicated transactional store as a sans-IO machine.

pub mod kv;

mod codec;
mod config;
mod error;
mod input;
mod node;
mod output;
mod raft;
mod state;
mod status;
mod time;
mod txn;

pub use config::{Config, NodeLimits, Start, Timing, Validation};
pub use error::{Fatal, TransactionError};
pub use input::{Input, MembershipChange, RequestId};
pub use node::Node;
pub use output::{Class, Notice, Output, Refusal, Reply, RetryReason};
pub use rockpool_proto::{GroupId, NodeId};
pub use state::{ApplyDone, ApplyTask, Fingerprint, MvccScan, MvccView, fingerprint};
pub use status::{FollowerStatus, GroupStatus, Role, Status};
pub use time::{Now, Time};
pub use txn::{CommitRequest, ReadSet, Savepoint, Span, Timestamp, Transaction, TransactionScan, TxnId};
