//! Collecting versions that nobody can read any more, a bounded piece per command.
//!
//! Behind the safe point only the newest version of a key can be seen; older ones go, and so does that one itself when it
//! is a tombstone. Outcomes go when the safe point has passed them. Where to go on stands in the meta, so that every
//! replica does the same piece at the same log index.

use crate::codec::{
    StateKeys, StateMeta, Version, damaged, decode_data_suffix, decode_outcome, encode_data_suffix, open,
};
use crate::kv::{Direction, StoreError, View, WriteBatch};

/// Carries out one step over at most `versions_max` pairs: deletions go into `batch`, the place to go on into `meta`.
pub(super) fn collect_step(
    view: &dyn View,
    keys: StateKeys,
    meta: &mut StateMeta,
    versions_max: u32,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let Some(from) = meta.collect_from.take() else { return Ok(()) };
    let start = keys.join(&from);
    let (_, end) = keys.bounds();
    let mut seen = 0;
    // The key whose newest visible version has been found: what follows of it can go.
    let mut settled: Option<Vec<u8>> = None;
    for pair in view.scan(&start, &end, Direction::Forward) {
        let (full, value) = pair?;
        let in_generation = |error: crate::codec::CodecError| damaged(&full, &error.to_string());
        let suffix = keys.suffix(&full).map_err(in_generation)?;
        if full >= keys.outcomes_start() {
            if seen >= versions_max {
                meta.collect_from = Some(suffix.to_vec());
                return Ok(());
            }
            let (_, marked) = decode_outcome(&full, open(&full, &value)?)?;
            if marked < meta.safe_point {
                batch.delete(full);
            }
            seen += 1;
            continue;
        }
        let (key, timestamp) = decode_data_suffix(suffix).map_err(in_generation)?;
        if seen >= versions_max {
            meta.collect_from = Some(match &settled {
                Some(settled) if *settled == key => {
                    let after = keys.data_after(&key);
                    let next = keys.suffix(&after).expect("a key just made with this prefix").to_vec();
                    batch.delete_range(full, after);
                    next
                }
                // Versions newer than the safe point stay: go on behind them.
                _ => encode_data_suffix(&key, timestamp.min(meta.safe_point)),
            });
            return Ok(());
        }
        seen += 1;
        if settled.as_ref() == Some(&key) {
            batch.delete(full);
        } else if timestamp <= meta.safe_point {
            if Version::decode(&full, open(&full, &value)?)? == Version::Tombstone {
                batch.delete(full);
            }
            settled = Some(key);
        }
    }
    Ok(())
}
