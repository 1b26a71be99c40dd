//! Keys of the state store.
//!
//! ```text
//!   [group: 8][0: 8]['m']                                   meta: applied index, membership, current generation
//!   [group: 8][generation: 8]['d'][escaped key][!time: 8]   a version of a key
//!   [group: 8][generation: 8]['o'][transaction id: 16]      a transaction's outcome
//! ```
//!
//! Numbers are big-endian. A key's zero bytes are written `00 ff` and it ends in `00 00`, so that keys sort as they did and
//! none is the prefix of another; the time is inverted, so that newer versions come first. A Raft snapshot is received
//! into the next generation, beside the state in use; one write to the meta key then changes over.

use super::CodecError;
use crate::txn::{Timestamp, TxnId};
use rockpool_proto::GroupId;

const DATA: u8 = b'd';
const OUTCOME: u8 = b'o';
const META: u8 = b'm';
/// Bytes in front of what belongs to one generation.
const PREFIX_BYTES: usize = 16;

fn prefix(group: GroupId, generation: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(&generation.to_be_bytes());
    key
}

/// The key of a group's meta.
pub(crate) fn meta_key(group: GroupId) -> Vec<u8> {
    let mut key = prefix(group, 0);
    key.push(META);
    key
}

/// Appends a key's escaped form with its end mark.
fn escape(key: &[u8], into: &mut Vec<u8>) {
    for &byte in key {
        into.push(byte);
        if byte == 0 {
            into.push(0xff);
        }
    }
    into.extend_from_slice(&[0, 0]);
}

/// What stands behind the generation for a version.
pub(crate) fn encode_data_suffix(key: &[u8], timestamp: Timestamp) -> Vec<u8> {
    let mut suffix = Vec::with_capacity(key.len() + 16);
    suffix.push(DATA);
    escape(key, &mut suffix);
    suffix.extend_from_slice(&(!timestamp.0).to_be_bytes());
    suffix
}

/// The key and timestamp of a version.
pub(crate) fn decode_data_suffix(suffix: &[u8]) -> Result<(Vec<u8>, Timestamp), CodecError> {
    let damaged = || CodecError::new("not the key of a version");
    let (&kind, rest) = suffix.split_first().ok_or_else(damaged)?;
    if kind != DATA {
        return Err(damaged());
    }
    let (escaped, time) = rest.split_last_chunk::<8>().ok_or_else(damaged)?;
    let body = escaped.strip_suffix(&[0, 0]).ok_or_else(damaged)?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&0xff) {
            return Err(damaged());
        }
    }
    Ok((key, Timestamp(!u64::from_be_bytes(*time))))
}

/// The keys of one generation of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateKeys {
    /// The group.
    pub(crate) group: GroupId,
    /// The generation, from 1.
    pub(crate) generation: u64,
}

impl StateKeys {
    /// The full key of what stands behind the generation.
    pub(crate) fn join(&self, suffix: &[u8]) -> Vec<u8> {
        let mut key = prefix(self.group, self.generation);
        key.extend_from_slice(suffix);
        key
    }

    /// What stands behind the generation.
    pub(crate) fn suffix<'a>(&self, key: &'a [u8]) -> Result<&'a [u8], CodecError> {
        if key.len() < PREFIX_BYTES || key[..PREFIX_BYTES] != prefix(self.group, self.generation)[..] {
            return Err(CodecError::new("the key of another group or generation"));
        }
        Ok(&key[PREFIX_BYTES..])
    }

    /// The key of a version.
    pub(crate) fn data(&self, key: &[u8], timestamp: Timestamp) -> Vec<u8> {
        self.join(&encode_data_suffix(key, timestamp))
    }

    /// Where the versions of `key` and of all keys after it begin.
    pub(crate) fn data_from(&self, key: &[u8]) -> Vec<u8> {
        let mut full = prefix(self.group, self.generation);
        full.push(DATA);
        let mut escaped = Vec::with_capacity(key.len() + 2);
        escape(key, &mut escaped);
        full.extend_from_slice(&escaped);
        full
    }

    /// After all versions of `key`, before those of the next key.
    pub(crate) fn data_after(&self, key: &[u8]) -> Vec<u8> {
        let mut full = self.data_from(key);
        full.extend_from_slice(&[0xff; 9]);
        full
    }

    /// The key of a transaction's outcome.
    pub(crate) fn outcome(&self, txn: &TxnId) -> Vec<u8> {
        let mut full = self.outcomes_start();
        full.extend_from_slice(&txn.0);
        full
    }

    /// Before all outcomes.
    pub(crate) fn outcomes_start(&self) -> Vec<u8> {
        let mut full = prefix(self.group, self.generation);
        full.push(OUTCOME);
        full
    }

    /// Before and after everything in this generation.
    pub(crate) fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        (prefix(self.group, self.generation), prefix(self.group, self.generation + 1))
    }

    /// Before and after every generation of the group but this one: two ranges.
    pub(crate) fn other_generations(&self) -> [(Vec<u8>, Vec<u8>); 2] {
        let mut end = self.group.0.to_be_bytes().to_vec();
        end.extend_from_slice(&[0xff; 17]);
        [(prefix(self.group, 1), prefix(self.group, self.generation)), (prefix(self.group, self.generation + 1), end)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: StateKeys = StateKeys { group: GroupId(7), generation: 2 };

    proptest! {
        #[test]
        fn versions_sort_by_key_then_newest_first(
            a in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6),
            b in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6),
            at in any::<u64>(),
            bt in any::<u64>(),
        ) {
            let (ka, kb) = (KEYS.data(&a, Timestamp(at)), KEYS.data(&b, Timestamp(bt)));
            prop_assert_eq!(ka.cmp(&kb), a.cmp(&b).then(bt.cmp(&at)));
            let decoded = decode_data_suffix(KEYS.suffix(&ka).unwrap()).unwrap();
            prop_assert_eq!(decoded, (a.clone(), Timestamp(at)));
            prop_assert!(KEYS.data_from(&a) <= ka && ka < KEYS.data_after(&a) && KEYS.data_after(&a) < KEYS.outcomes_start());
            if a < b {
                prop_assert!(KEYS.data_after(&a) <= KEYS.data_from(&b));
            }
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_data_suffix(&bytes);
            let _ = KEYS.suffix(&bytes);
        }
    }

    #[test]
    fn other_generations_leave_meta_and_this_one_alone() {
        let inside = |key: &[u8]| {
            KEYS.other_generations().iter().any(|(start, end)| start.as_slice() <= key && key < end.as_slice())
        };
        assert!(!inside(&meta_key(KEYS.group)));
        assert!(!inside(&KEYS.data(b"k", Timestamp(1))));
        assert!(!inside(&KEYS.outcome(&TxnId([0xff; 16]))));
        for generation in [1, 3, u64::MAX] {
            assert!(inside(&StateKeys { generation, ..KEYS }.data(b"k", Timestamp(1))));
        }
        assert!(!inside(&StateKeys { group: GroupId(8), generation: 1 }.data(b"k", Timestamp(1))));
    }
}
