//! Two stores that must agree: every write goes to both, every answer of one is compared with the other's.
//!
//! A difference is our own mistake and panics with both answers. So whatever runs on a mirror of the memory store and
//! RocksDB (scripts, random operations, a whole engine) shows that what the simulator found true holds in production.
//! What would survive a crash is not compared but for the durable answer of the first: flushing is each store's own
//! business, and RocksDB flushes when it likes.

use super::{Direction, LogBatch, LogImage, LogStore, Pair, Scan, StateStore, StoreError, View, WriteBatch};
use std::sync::Arc;

/// Two state stores with the same content.
pub struct Mirror<A, B> {
    /// The one whose answers are handed out.
    pub first: A,
    /// The one that must agree.
    pub second: B,
}

impl<A: StateStore, B: StateStore> StateStore for Mirror<A, B> {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        Ok(Arc::new(MirrorView { first: self.first.view()?, second: self.second.view()? }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.first.write(batch)?;
        self.second.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.first.flush()?;
        self.second.flush()
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.first.get_durable(key)
    }
}

struct MirrorView {
    first: Arc<dyn View>,
    second: Arc<dyn View>,
}

impl View for MirrorView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (first, second) = (self.first.get(key)?, self.second.get(key)?);
        assert_eq!(first, second, "the stores differ at key {key:02x?}");
        Ok(first)
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Scan<'a> {
        let mut first = self.first.scan(start, end, direction);
        let mut second = self.second.scan(start, end, direction);
        Box::new(std::iter::from_fn(move || {
            let pair: Option<Result<Pair, StoreError>> = first.next();
            assert_eq!(pair, second.next(), "the stores differ in a scan");
            pair
        }))
    }
}

impl<A: LogStore, B: LogStore> LogStore for Mirror<A, B> {
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError> {
        let (first, second) = (self.first.load()?, self.second.load()?);
        assert_eq!(first, second, "the log stores differ");
        Ok(first)
    }

    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        self.first.write(batches)?;
        self.second.write(batches)
    }
}
