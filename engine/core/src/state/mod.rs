//! The state that the log's commands build: versions of keys, outcomes of transactions, a meta key.
//!
//! Everything here is a function of the state and the commands, so that replicas which applied the same entries hold the
//! same state ([`fingerprint`] compares them). It runs on the driver's apply thread, inside an [`ApplyTask`].

mod apply;
mod collect;
mod fingerprint;
#[cfg(test)]
mod model;
mod mvcc;
mod outcome;
mod task;

pub(crate) use apply::{ApplyItem, Effect, ItemKind};
pub use fingerprint::{Fingerprint, fingerprint};
pub use mvcc::{MvccScan, MvccView};
pub(crate) use outcome::{Outcome, read_outcome};
pub use task::{ApplyDone, ApplyTask};
pub(crate) use task::{Done, clear_others, put_meta};
