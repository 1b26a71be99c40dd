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

use crate::codec::{StateKeys, Version, damaged, decode_data_suffix, open};
use crate::kv::{Direction, Pair, Scan, StoreError, View};
use crate::txn::Timestamp;
use std::sync::Arc;

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
        let versions: Scan<'a> = if start < end {
            self.view.scan(&self.keys.data_from(start), &self.keys.data_from(end), direction)
        } else {
            Box::new(std::iter::empty())
        };
        MvccScan { keys: self.keys, at: self.at, direction, versions, current: None, ended: false }
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
}

/// Pairs of an [`MvccView`], in the scan's direction.
pub struct MvccScan<'a> {
    keys: StateKeys,
    at: Timestamp,
    direction: Direction,
    versions: Scan<'a>,
    current: Option<Current>,
    ended: bool,
}

impl MvccScan<'_> {
    /// The pair of a key whose versions have all been seen, unless it has none.
    fn finish(current: Option<Current>) -> Result<Option<Pair>, StoreError> {
        let Some(Current { key, found: Some((full, stored)) }) = current else { return Ok(None) };
        Ok(value_of(&full, &stored)?.map(|value| (key, value.to_vec())))
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
                _ => self.current.replace(Current { key, found: None }),
            };
            if let Some(current) = self.current.as_mut()
                && timestamp <= self.at
                && (self.direction == Direction::Backward || current.found.is_none())
            {
                current.found = Some((full, stored));
            }
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
