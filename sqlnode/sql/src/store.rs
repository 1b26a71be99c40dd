//! The wall under SQL: one transaction's view of an ordered key space, and its own writes on top.
//!
//! SQL execution is synchronous code over a `Store`. What is behind it (MVCC, Raft, a map in memory) is not known here;
//! beginning and committing belong to whoever hands the store in. Keys sort as unsigned bytes.
//!
//! Reading sees the transaction's own writes. Every read, found or not, counts as read for serializability; a scan counts
//! for the keys from its start to the last one taken, or to its end when it ran out.

use std::collections::BTreeMap;

/// Key and value bytes of one pair.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Pairs of a scan, in its direction.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + 'a>;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the start, upwards.
    Forward,
    /// From the end, downwards.
    Backward,
}

/// Why a store could not answer, by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction can't go on and should be run again from its start (SQLSTATE 40001).
    #[error("the transaction must be retried: {0}")]
    Retry(String),
    /// A limit of the store is reached (SQLSTATE 54000 or 53xxx); the text names it.
    #[error("a limit is reached: {0}")]
    Limit(String),
    /// The store is damaged or gone (SQLSTATE XX001 or 57P01).
    #[error("the store failed: {0}")]
    Fatal(String),
}

/// A mark in the transaction's writes to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub usize);

/// One transaction's view and write set.
pub trait Store {
    /// The value of `key`, if there is one.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Pairs with `start <= key < end`, lazily.
    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Result<Scan<'a>, StoreError>;

    /// Writes a pair into the write set.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError>;

    /// Removes a key in the write set; removing what is not there is no error.
    fn delete(&mut self, key: Vec<u8>) -> Result<(), StoreError>;

    /// Marks the present state of the write set.
    fn savepoint(&mut self) -> Savepoint;

    /// Undoes the writes made since `savepoint`, which stays valid. Reads made since still count.
    fn rollback_to(&mut self, savepoint: Savepoint);
}

/// A store in memory: a map, and an undo list for savepoints. The second implementation that tests run against.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    undo: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes what was written permanent: older savepoints are gone.
    pub fn commit(&mut self) {
        self.undo.clear();
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Result<Scan<'a>, StoreError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let range = self.pairs.range(start.to_vec()..end.to_vec());
        let pairs = range.map(|(key, value)| Ok((key.clone(), value.clone())));
        Ok(match direction {
            Direction::Forward => Box::new(pairs),
            Direction::Backward => Box::new(pairs.rev()),
        })
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let before = self.pairs.insert(key.clone(), value);
        self.undo.push((key, before));
        Ok(())
    }

    fn delete(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        let before = self.pairs.remove(&key);
        self.undo.push((key, before));
        Ok(())
    }

    fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    fn rollback_to(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0 {
            let Some((key, before)) = self.undo.pop() else { return };
            match before {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_back_restores_what_was_overwritten_and_removed() {
        let mut store = MemoryStore::new();
        store.put(b"a".to_vec(), b"1".to_vec()).unwrap();
        store.put(b"b".to_vec(), b"2".to_vec()).unwrap();
        let mark = store.savepoint();
        store.put(b"a".to_vec(), b"9".to_vec()).unwrap();
        store.delete(b"b".to_vec()).unwrap();
        store.put(b"c".to_vec(), b"3".to_vec()).unwrap();
        store.rollback_to(mark);
        let all: Result<Vec<Pair>, _> = store.scan(b"", b"z", Direction::Backward).unwrap().collect();
        assert_eq!(all.unwrap(), [(b"b".to_vec(), b"2".to_vec()), (b"a".to_vec(), b"1".to_vec())]);
    }
}
