//! What became of a transaction, as recorded in the state.

use crate::codec::{StateKeys, decode_outcome, encode_outcome, open, seal};
use crate::kv::{StoreError, View, WriteBatch};
use crate::txn::{Timestamp, TxnId};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its writes took effect at this timestamp.
    Committed(Timestamp),
    /// It never will take effect.
    Aborted,
}

/// The record of a transaction, if there is one.
pub(crate) fn read_outcome(view: &dyn View, keys: StateKeys, txn: &TxnId) -> Result<Option<Outcome>, StoreError> {
    let key = keys.outcome(txn);
    let Some(value) = view.get(&key)? else { return Ok(None) };
    let (committed, _) = decode_outcome(&key, open(&key, &value)?)?;
    Ok(Some(committed.map_or(Outcome::Aborted, Outcome::Committed)))
}

/// Records an outcome, to be collected once the safe point has passed `marked`.
pub(crate) fn write_outcome(batch: &mut WriteBatch, keys: StateKeys, txn: &TxnId, outcome: Outcome, marked: Timestamp) {
    let key = keys.outcome(txn);
    let committed = match outcome {
        Outcome::Committed(timestamp) => Some(timestamp),
        Outcome::Aborted => None,
    };
    let value = seal(&key, &encode_outcome(committed, marked));
    batch.put(key, value);
}
