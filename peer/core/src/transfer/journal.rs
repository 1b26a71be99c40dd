//! What a download has on disk, in few bytes: the part that survives a crash.
//!
//! ```text
//!   "rpj1" | manifest root (32) | items (varint) | for each item that has something:
//!          item - previous item (varint) | 0 = finished, or n+1 ranges: gap, length (varints) ... | BLAKE3 (8 bytes)
//! ```
//!
//! It names ranges, so a file that is half there takes a few bytes, whatever its size. The driver writes it only after
//! what it names was synced, so what it names can be trusted after a power cut. Zeros on disk don't count as missing and
//! don't count as there: only the journal counts.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use super::{GroupRange, GroupSet, Root};

const MAGIC: &[u8; 4] = b"rpj1";
const CHECK_BYTES: usize = 8;

/// State of one item that has been begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemProgress {
    /// Complete, synced and under its name.
    Finished,
    /// These groups are in the `.part` file.
    Partial(GroupSet),
}

/// What a download has on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadJournal {
    /// Of which manifest.
    pub manifest_root: Root,
    /// Items that are begun, by position.
    pub items: BTreeMap<u32, ItemProgress>,
}

/// Bytes that are not a journal, or a damaged one. The download begins afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a download's journal")]
pub struct JournalError;

impl DownloadJournal {
    /// Of a download that has nothing yet.
    pub fn new(manifest_root: Root) -> DownloadJournal {
        DownloadJournal { manifest_root, items: BTreeMap::new() }
    }

    /// To keep on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.manifest_root.0);
        put_varint(&mut out, self.items.len() as u64);
        let mut next = 0;
        for (item, progress) in &self.items {
            put_varint(&mut out, u64::from(*item) - next);
            next = u64::from(*item) + 1;
            match progress {
                ItemProgress::Finished => put_varint(&mut out, 0),
                ItemProgress::Partial(groups) => {
                    put_varint(&mut out, groups.ranges().len() as u64 + 1);
                    let mut at = 0;
                    for (first, end) in groups.ranges() {
                        put_varint(&mut out, first - at);
                        put_varint(&mut out, end - first);
                        at = *end;
                    }
                }
            }
        }
        let check = blake3::hash(&out);
        out.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        out
    }

    /// From disk.
    pub fn decode(bytes: Bytes) -> Result<DownloadJournal, JournalError> {
        let checked = bytes.len().checked_sub(CHECK_BYTES).ok_or(JournalError)?;
        let (body, check) = bytes.split_at(checked);
        if blake3::hash(body).as_bytes()[..CHECK_BYTES] != *check || !body.starts_with(MAGIC) {
            return Err(JournalError);
        }
        let mut body = &body[MAGIC.len()..];
        let (root, rest) = body.split_first_chunk().ok_or(JournalError)?;
        let mut journal = DownloadJournal::new(Root(*root));
        body = rest;
        let items = take_varint(&mut body)?;
        let mut next = 0;
        for _ in 0..items {
            let item = take_varint(&mut body)?.checked_add(next).ok_or(JournalError)?;
            next = item + 1;
            let item = u32::try_from(item).map_err(|_| JournalError)?;
            let progress = match take_varint(&mut body)? {
                0 => ItemProgress::Finished,
                ranges => ItemProgress::Partial(take_groups(&mut body, ranges - 1)?),
            };
            journal.items.insert(item, progress);
        }
        if body.is_empty() { Ok(journal) } else { Err(JournalError) }
    }
}

fn take_groups(body: &mut &[u8], ranges: u64) -> Result<GroupSet, JournalError> {
    let mut groups = GroupSet::new();
    let mut at: u64 = 0;
    for _ in 0..ranges {
        let mut first = take_varint(body)?.checked_add(at).ok_or(JournalError)?;
        let mut left = take_varint(body)?;
        at = first.checked_add(left).ok_or(JournalError)?;
        while left > 0 {
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            groups.insert(GroupRange { first, count });
            first += u64::from(count);
            left -= u64::from(count);
        }
    }
    Ok(groups)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, JournalError> {
    let mut value: u64 = 0;
    for shift in (0..63).step_by(7) {
        if bytes.is_empty() {
            return Err(JournalError);
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(JournalError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_survives_and_damage_is_noticed() {
        let mut groups = GroupSet::new();
        groups.insert(GroupRange { first: 0, count: 64 });
        groups.insert(GroupRange { first: 100_000, count: 3 });
        let mut journal = DownloadJournal::new(Root([7; 32]));
        journal.items.insert(0, ItemProgress::Finished);
        journal.items.insert(70_000, ItemProgress::Partial(groups));
        journal.items.insert(70_001, ItemProgress::Partial(GroupSet::new()));
        let bytes = journal.encode();
        assert!(bytes.len() < 80);
        assert_eq!(DownloadJournal::decode(Bytes::from(bytes.clone())), Ok(journal));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(DownloadJournal::decode(damaged.into()), Err(JournalError));
            assert_eq!(DownloadJournal::decode(Bytes::copy_from_slice(&bytes[..at])), Err(JournalError));
        }
    }
}
