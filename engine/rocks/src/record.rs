//! Bytes of the Raft log's records.
//!
//! ```text
//!   key     group 8 | kind 1 | index 8          numbers big-endian, so that a group's entries lie in order
//!   value   payload | crc32 of key and payload, 4
//!
//!   kind 0  hard state   term 8, vote 8, commit 8                       index 0
//!   kind 1  truncation   index 8, term 8                                index 0
//!   kind 2  entry        term 8, kind 1, context length 4, context, data
//! ```
//!
//! The checksum covers the key as well: a record that is found under another's key is damage too. RocksDB checks its
//! blocks; this one travels with the record through memory, write-ahead log and compactions.

use crate::error::corrupt;
use bytes::Bytes;
use rockpool_engine::kv::{EntryKind, HardState, LogEntry, StoreError};
use rockpool_proto::GroupId;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HardState = 0,
    Truncation = 1,
    Entry = 2,
}

const KEY_BYTES: usize = 17;
const CHECKSUM_BYTES: usize = 4;

/// The key of a record.
pub(crate) fn key(group: GroupId, kind: Kind, index: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&group.0.to_be_bytes());
    key[8] = kind as u8;
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Takes a key apart.
pub(crate) fn parse_key(key: &[u8]) -> Result<(GroupId, Kind, u64), StoreError> {
    let bad = || corrupt(format!("Raft log: no record has the key {key:02x?}"));
    let bytes: &[u8; KEY_BYTES] = key.try_into().map_err(|_| bad())?;
    let kind = match bytes[8] {
        0 => Kind::HardState,
        1 => Kind::Truncation,
        2 => Kind::Entry,
        _ => return Err(bad()),
    };
    let mut parts = Parts(bytes);
    let group = parts.u64().ok_or_else(bad)?;
    parts.take(1);
    Ok((GroupId(group), kind, parts.u64().ok_or_else(bad)?))
}

/// Appends the checksum to a payload.
fn seal(key: &[u8], mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend_from_slice(&checksum(key, &payload).to_be_bytes());
    payload
}

/// Checks and removes the checksum.
fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let payload = value.len().checked_sub(CHECKSUM_BYTES).map(|at| value.split_at(at));
    match payload {
        Some((payload, sum)) if checksum(key, payload).to_be_bytes() == sum => Ok(payload),
        _ => Err(damaged(key, "its checksum does not hold")),
    }
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// Damage of a record, named.
pub(crate) fn damaged(key: &[u8], why: &str) -> StoreError {
    match parse_key(key) {
        Ok((group, Kind::Entry, index)) => corrupt(format!("Raft log of {group}, entry {index}: {why}")),
        Ok((group, kind, _)) => corrupt(format!("Raft log of {group}, {kind:?}: {why}")),
        Err(error) => error,
    }
}

/// The value of a hard state.
pub(crate) fn encode_hard_state(key: &[u8], state: &HardState) -> Vec<u8> {
    seal(key, [state.term, state.vote, state.commit].iter().flat_map(|number| number.to_be_bytes()).collect())
}

pub(crate) fn decode_hard_state(key: &[u8], value: &[u8]) -> Result<HardState, StoreError> {
    let mut parts = Parts(open(key, value)?);
    let numbers = (parts.u64(), parts.u64(), parts.u64());
    match numbers {
        (Some(term), Some(vote), Some(commit)) => Ok(HardState { term, vote, commit }),
        _ => Err(damaged(key, "it is too short")),
    }
}

/// The value of a truncation: index and term of the last entry dropped.
pub(crate) fn encode_truncation(key: &[u8], (index, term): (u64, u64)) -> Vec<u8> {
    seal(key, [index, term].iter().flat_map(|number| number.to_be_bytes()).collect())
}

pub(crate) fn decode_truncation(key: &[u8], value: &[u8]) -> Result<(u64, u64), StoreError> {
    let mut parts = Parts(open(key, value)?);
    parts.u64().zip(parts.u64()).ok_or_else(|| damaged(key, "it is too short"))
}

/// The value of an entry.
pub(crate) fn encode_entry(key: &[u8], entry: &LogEntry) -> Vec<u8> {
    let mut payload = Vec::with_capacity(13 + entry.context.len() + entry.data.len() + CHECKSUM_BYTES);
    payload.extend_from_slice(&entry.term.to_be_bytes());
    payload.push(match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::Membership => 1,
    });
    let context_length = u32::try_from(entry.context.len()).expect("raft's contexts are a few bytes");
    payload.extend_from_slice(&context_length.to_be_bytes());
    payload.extend_from_slice(&entry.context);
    payload.extend_from_slice(&entry.data);
    seal(key, payload)
}

pub(crate) fn decode_entry(key: &[u8], index: u64, value: &[u8]) -> Result<LogEntry, StoreError> {
    let mut parts = Parts(open(key, value)?);
    let mut decode = || {
        let term = parts.u64()?;
        let kind = match parts.take(1)? {
            [0] => EntryKind::Normal,
            [1] => EntryKind::Membership,
            _ => return None,
        };
        let context_length = u32::from_be_bytes(parts.take(4)?.try_into().ok()?);
        let context = Bytes::copy_from_slice(parts.take(context_length as usize)?);
        Some(LogEntry { index, term, kind, data: Bytes::copy_from_slice(parts.0), context })
    };
    decode().ok_or_else(|| damaged(key, "it can't be read"))
}

/// Bytes not read yet.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(index: u64, data: Vec<u8>) -> LogEntry {
        let context = Bytes::from_static(b"ctx");
        LogEntry { index, term: 7, kind: EntryKind::Membership, data: data.into(), context }
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let key = key(GroupId(3), Kind::Entry, 9);
        let value = encode_entry(&key, &entry(9, b"data".to_vec()));
        assert_eq!(decode_entry(&key, 9, &value), Ok(entry(9, b"data".to_vec())));
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode_entry(&key, 9, &damaged).unwrap_err();
            assert!(error.to_string().contains("g3, entry 9"), "{error}");
        }
        let other = super::key(GroupId(3), Kind::Entry, 10);
        assert!(decode_entry(&other, 10, &value).is_err(), "a record under another's key is damage");
    }

    proptest! {
        #[test]
        fn entries_come_back(index in 1u64.., data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = key(GroupId(1), Kind::Entry, index);
            prop_assert_eq!(parse_key(&key).unwrap(), (GroupId(1), Kind::Entry, index));
            let entry = entry(index, data);
            prop_assert_eq!(decode_entry(&key, index, &encode_entry(&key, &entry)).unwrap(), entry);
        }

        #[test]
        fn arbitrary_bytes_never_panic(key in proptest::collection::vec(any::<u8>(), 0..20),
                                       value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_key(&key);
            let _ = decode_entry(&key, 1, &seal(&key, value.clone()));
            let _ = decode_hard_state(&key, &seal(&key, value.clone()));
            let _ = decode_truncation(&key, &value);
        }
    }
}
