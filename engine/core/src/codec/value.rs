//! Stored values: four bytes of CRC-32 over key and payload, then the payload. The key is part of the sum so that a value
//! read from the wrong place is noticed too.

use super::frame::checksum;
use crate::kv::StoreError;
use crate::txn::Timestamp;

/// A payload with its checksum, as it stands under `key`.
pub(crate) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(4 + payload.len());
    value.extend_from_slice(&checksum(&[key, payload]).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// The payload of what stands under `key`; damage names the key.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match value.split_first_chunk::<4>() {
        Some((sum, payload)) if u32::from_le_bytes(*sum) == checksum(&[key, payload]) => Ok(payload),
        _ => Err(damaged(key, "the checksum does not hold")),
    }
}

/// Damage found under a key.
pub(crate) fn damaged(key: &[u8], what: &str) -> StoreError {
    StoreError::Corrupt { what: format!("\"{}\": {what}", key.escape_ascii()) }
}

/// One version of a key, as a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version<'a> {
    /// The value.
    Value(&'a [u8]),
    /// The key was removed.
    Tombstone,
}

impl<'a> Version<'a> {
    /// The version that a write makes.
    pub(crate) fn of(write: Option<&'a [u8]>) -> Self {
        write.map_or(Version::Tombstone, Version::Value)
    }

    /// Its payload.
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Version::Tombstone => vec![0],
            Version::Value(value) => {
                let mut payload = Vec::with_capacity(1 + value.len());
                payload.push(1);
                payload.extend_from_slice(value);
                payload
            }
        }
    }

    /// Reads a payload that stood under `key`.
    pub(crate) fn decode(key: &[u8], payload: &'a [u8]) -> Result<Self, StoreError> {
        match payload.split_first() {
            Some((0, [])) => Ok(Version::Tombstone),
            Some((1, value)) => Ok(Version::Value(value)),
            _ => Err(damaged(key, "not a version")),
        }
    }
}

/// How a transaction ended, as a payload: nothing was written at a timestamp of zero.
pub(crate) fn encode_outcome(committed: Option<Timestamp>, marked: Timestamp) -> Vec<u8> {
    let mut payload = committed.unwrap_or(Timestamp::ZERO).0.to_be_bytes().to_vec();
    payload.extend_from_slice(&marked.0.to_be_bytes());
    payload
}

/// The commit timestamp (none: aborted) and the timestamp behind which the record may be collected.
pub(crate) fn decode_outcome(key: &[u8], payload: &[u8]) -> Result<(Option<Timestamp>, Timestamp), StoreError> {
    let (Some((at, marked)), 16) = (payload.split_first_chunk::<8>(), payload.len()) else {
        return Err(damaged(key, "not an outcome"));
    };
    let at = Timestamp(u64::from_be_bytes(*at));
    let marked = Timestamp(u64::from_be_bytes(marked.try_into().expect("sixteen less eight bytes")));
    Ok(((at != Timestamp::ZERO).then_some(at), marked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_names_the_key() {
        let mut value = seal(b"k", &Version::Value(b"v").encode());
        assert_eq!(Version::decode(b"k", open(b"k", &value).unwrap()), Ok(Version::Value(b"v")));
        assert!(open(b"other", &value).is_err(), "a value under another key");
        value[5] ^= 1;
        let StoreError::Corrupt { what } = open(b"k", &value).unwrap_err() else { panic!("not damage") };
        assert!(what.contains("\"k\""), "{what}");
        assert!(open(b"k", b"").is_err());
        assert!(Version::decode(b"k", b"\x02").is_err());
    }

    #[test]
    fn outcomes_come_back() {
        for at in [None, Some(Timestamp(9))] {
            let payload = encode_outcome(at, Timestamp(4));
            assert_eq!(decode_outcome(b"k", &payload), Ok((at, Timestamp(4))));
        }
        assert!(decode_outcome(b"k", b"short").is_err());
    }
}
