//! Reading the versions of keys at a timestamp.
//!
//! A version stands under its key followed by its inverted commit timestamp, so that the versions of a key lie together,
//! newest first. To read at a timestamp is to take, per key, the newest version that is not newer than it.
//!
//! ```text
//!   a@7 = x      reading at 8: a=x c=z        forward: take the first that fits, skip the rest of the key
//!   a@3 = y      reading at 5: a=y b=q c=z    backward: versions come oldest first, take the last that fits
//!   b@8 gone
//!   b@4 = q
//!   c@1 = z
//! ```
//!
//! A key that is written all the time has thousands of versions until they are collected. A scan walks past a few, which
//! costs less than to look for the next key, and then looks for it.

use crate::codec::{StateKeys, Version, damaged, decode_data_suffix, open};
use crate::kv::{Direction, Pair, Scan, StoreError, View};
use crate::txn::Timestamp;
use std::sync::Arc;

/// Versions of one key that a scan walks past before it looks for the next key instead.
const VERSIONS_WALKED_MAX: usize = if cfg!(test) { 2 } else { 16 };

/// A group's keys as they were at a timestamp.
#[derive(Clone)]
pub struct MvccView {
    view: Arc<dyn View>,
    keys: StateKeys,
    at: Timestamp,
}

impl MvccView {
    pub(crate) fn new(view: Arc<dyn View>, keys: StateKeys, at: Timestamp) -> Self {
        MvccView { view, keys, at }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut versions =
            self.view.scan(&self.keys.data(key, self.at), &self.keys.data_after(key), Direction::Forward);
        let Some(version) = versions.next() else { return Ok(None) };
        let (full, value) = version?;
        Ok(value_of(&full, &value)?.map(<[u8]>::to_vec))
    }

    /// Pairs with `start <= key < end`, lazily.
    pub fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> MvccScan<'a> {
        let (from, to) = (self.keys.data_from(start), self.keys.data_from(end));
        let versions: Scan<'a> =
            if start < end { self.view.scan(&from, &to, direction) } else { Box::new(std::iter::empty()) };
        let (view, keys, at) = (&*self.view, self.keys, self.at);
        MvccScan { view, keys, at, from, to, direction, versions, current: None, ended: false }
    }
}

fn value_of<'a>(full_key: &[u8], value: &'a [u8]) -> Result<Option<&'a [u8]>, StoreError> {
    Ok(match Version::decode(full_key, open(full_key, value)?)? {
        Version::Value(value) => Some(value),
        Version::Tombstone => None,
    })
}

/// The key that a scan is at.
struct Current {
    key: Vec<u8>,
    /// The version found for it (full key and stored value); none yet.
    found: Option<Pair>,
    /// Versions seen since it was last looked for something.
    walked: usize,
}

/// Pairs of an [`MvccView`], in the scan's direction.
pub struct MvccScan<'a> {
    view: &'a dyn View,
    keys: StateKeys,
    at: Timestamp,
    from: Vec<u8>,
    to: Vec<u8>,
    direction: Direction,
    versions: Scan<'a>,
    current: Option<Current>,
    ended: bool,
}

impl MvccScan<'_> {
    /// The pair of a key whose versions have all been seen, unless it has none.
    fn finish(current: Option<Current>) -> Result<Option<Pair>, StoreError> {
        let Some(Current { key, found: Some((full, stored)), .. }) = current else { return Ok(None) };
        Ok(value_of(&full, &stored)?.map(|value| (key, value.to_vec())))
    }

    /// Counts a version of the current key, and leaves the rest of them behind when they are many.
    fn walk(&mut self) -> Result<(), StoreError> {
        let Some(current) = self.current.as_mut() else { return Ok(()) };
        current.walked += 1;
        if current.walked < VERSIONS_WALKED_MAX {
            return Ok(());
        }
        current.walked = 0;
        let wanted = self.keys.data(&current.key, self.at);
        let after = self.keys.data_after(&current.key);
        match self.direction {
            Direction::Forward => {
                let next = if current.found.is_some() { &after } else { &wanted };
                self.versions = self.view.scan(next, &self.to, Direction::Forward);
            }
            Direction::Backward => {
                current.found = self.view.scan(&wanted, &after, Direction::Forward).next().transpose()?;
                self.versions = self.view.scan(&self.from, &self.keys.data_from(&current.key), Direction::Backward);
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Pair>, StoreError> {
        loop {
            let Some(version) = self.versions.next() else {
                self.ended = true;
                return Self::finish(self.current.take());
            };
            let (full, stored) = version?;
            let decoded = self.keys.suffix(&full).and_then(decode_data_suffix);
            let (key, timestamp) = decoded.map_err(|error| damaged(&full, &error.to_string()))?;
            let before = match &self.current {
                Some(current) if current.key == key => None,
                _ => self.current.replace(Current { key, found: None, walked: 0 }),
            };
            if let Some(current) = self.current.as_mut()
                && timestamp <= self.at
                && (self.direction == Direction::Backward || current.found.is_none())
            {
                current.found = Some((full, stored));
            }
            self.walk()?;
            if let Some(pair) = Self::finish(before)? {
                return Ok(Some(pair));
            }
        }
    }
}

impl Iterator for MvccScan<'_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.step() {
            Ok(pair) => pair.map(Ok),
            Err(error) => {
                self.ended = true;
                self.current = None;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::seal;
    use crate::kv::{MemoryState, StateStore, WriteBatch};
    use rockpool_proto::GroupId;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts the pairs that are read.
    struct Counted {
        view: Arc<dyn View>,
        read: AtomicUsize,
    }

    impl View for Counted {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.view.get(key)
        }

        fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Scan<'a> {
            let pairs = self.view.scan(start, end, direction);
            Box::new(pairs.inspect(|_| {
                self.read.fetch_add(1, Ordering::Relaxed);
            }))
        }
    }

    #[test]
    fn a_scan_does_not_read_all_versions_of_a_key_that_is_written_all_the_time() {
        let keys = StateKeys { group: GroupId(1), generation: 1 };
        let mut batch = WriteBatch::new();
        let mut put = |key: &str, at: u64| {
            let full = keys.data(key.as_bytes(), Timestamp(at));
            let value = seal(&full, &Version::Value(&at.to_be_bytes()).encode());
            batch.put(full, value);
        };
        put("a", 1);
        (1..=10_000).for_each(|at| put("hot", at));
        put("hotter", 3);
        put("z", 2);
        let store = MemoryState::new();
        store.write(&batch).unwrap();
        for at in [1, 2, 3, 17, 5_000, 9_999, 10_000, 20_000] {
            let counted = Arc::new(Counted { view: store.view().unwrap(), read: AtomicUsize::new(0) });
            let mvcc = MvccView::new(counted.clone(), keys, Timestamp(at));
            let value = |at: u64| at.to_be_bytes().to_vec();
            let mut expected = vec![(b"a".to_vec(), value(1)), (b"hot".to_vec(), value(at.min(10_000)))];
            expected.extend((at >= 3).then(|| (b"hotter".to_vec(), value(3))));
            expected.extend((at >= 2).then(|| (b"z".to_vec(), value(2))));
            let forward: Vec<Pair> = mvcc.scan(b"", b"zz", Direction::Forward).map(Result::unwrap).collect();
            assert_eq!(forward, expected, "at {at}");
            let backward: Vec<Pair> = mvcc.scan(b"", b"zz", Direction::Backward).map(Result::unwrap).collect();
            assert!(backward.iter().rev().eq(&expected), "at {at}: {backward:?}");
            let read = counted.read.load(Ordering::Relaxed);
            assert!(read < 100, "at {at}: {read} of 20,006 versions were read");
        }
    }
}
