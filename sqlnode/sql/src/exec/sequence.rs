//! Counting sequences: one key each, holding the value given last. Unlike PostgreSQL's, a sequence belongs to the
//! transaction: one that fails gives its numbers back, and two that count at once conflict.

use crate::catalog::{Sequence, sequence_key};
use crate::error::{Result, SqlError, SqlState};
use crate::store::Store;

pub(super) fn read(store: &dyn Store, id: u32) -> Result<Option<i64>> {
    match store.get(&sequence_key(id))? {
        None => Ok(None),
        Some(bytes) => {
            let bytes = bytes.as_slice().try_into().map_err(|_| SqlError::corrupted("a sequence is damaged"))?;
            Ok(Some(i64::from_be_bytes(bytes)))
        }
    }
}

pub(super) fn write(store: &mut dyn Store, id: u32, last: i64) -> Result<()> {
    Ok(store.put(sequence_key(id), last.to_be_bytes().to_vec())?)
}

pub(super) fn next(sequence: &Sequence, before: Option<i64>) -> Result<i64> {
    let Some(before) = before else { return Ok(sequence.start) };
    let up = sequence.increment > 0;
    match before.checked_add(sequence.increment) {
        Some(next) if up && next <= sequence.max => Ok(next),
        Some(next) if !up && next >= sequence.min => Ok(next),
        _ if sequence.cycle => Ok(if up { sequence.min } else { sequence.max }),
        _ => {
            let (word, bound) = if up { ("maximum", sequence.max) } else { ("minimum", sequence.min) };
            let message = format!("nextval: reached {word} value of sequence \"{}\" ({bound})", sequence.name);
            Err(SqlError::new(SqlState::SEQUENCE_EXHAUSTED, message))
        }
    }
}
