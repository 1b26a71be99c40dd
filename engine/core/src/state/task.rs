//! Work for the apply thread.

use crate::error::Fatal;
use crate::kv::StateStore;
use rockpool_proto::GroupId;
use std::fmt;

/// Work on the state store, to be run in order.
#[derive(Clone, Debug)]
pub struct ApplyTask {
    group: GroupId,
}

impl ApplyTask {
    /// Runs it. Plain blocking calls on the store; no other side effect.
    pub fn run(self, _store: &dyn StateStore) -> Result<ApplyDone, Fatal> {
        Ok(ApplyDone { group: self.group })
    }
}

impl fmt::Display for ApplyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)
    }
}

/// What came of an [`ApplyTask`].
#[derive(Clone, Debug)]
pub struct ApplyDone {
    group: GroupId,
}

impl fmt::Display for ApplyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)
    }
}
