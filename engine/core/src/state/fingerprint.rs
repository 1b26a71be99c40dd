//! A short name for a group's state, to compare replicas by.

use crate::codec::{StateKeys, StateMeta, checksum, damaged, open};
use crate::error::Fatal;
use crate::kv::{Direction, View};
use crate::txn::Timestamp;
use rockpool_proto::GroupId;
use std::fmt;

/// A group's state in short. Replicas with the same applied index have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Log index applied.
    pub applied_index: u64,
    /// Last commit timestamp.
    pub last_commit: Timestamp,
    /// Versions and outcomes.
    pub pairs: u64,
    /// A running checksum over them.
    pub checksum: u32,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied={} pairs={} sum={:08x}", self.applied_index, self.pairs, self.checksum)
    }
}

/// Reads a group's whole state, checking every value on the way. None when the node holds no state of it.
pub fn fingerprint(view: &dyn View, group: GroupId) -> Result<Option<Fingerprint>, Fatal> {
    let Some(meta) = StateMeta::read(view, group)? else { return Ok(None) };
    let keys = StateKeys { group, generation: meta.generation };
    let (start, end) = keys.bounds();
    let mut print =
        Fingerprint { applied_index: meta.applied_index, last_commit: meta.last_commit, pairs: 0, checksum: 0 };
    for pair in view.scan(&start, &end, Direction::Forward) {
        let (key, value) = pair?;
        let payload = open(&key, &value)?;
        let suffix = keys.suffix(&key).map_err(|error| damaged(&key, &error.to_string()))?;
        print.pairs += 1;
        print.checksum = checksum(&[&print.checksum.to_le_bytes(), suffix, payload]);
    }
    Ok(Some(print))
}
