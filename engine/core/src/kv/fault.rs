//! A store whose n-th write or flush fails, and every one after it, as a disk that fills up does.
//!
//! Looping over n walks a failure through each place of whatever runs on top.

use super::{LogBatch, LogImage, LogStore, StateStore, StoreError, View, WriteBatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that works `good_calls` times and then reports `error` for ever.
#[derive(Debug)]
pub struct Fault<S> {
    inner: S,
    good_calls: AtomicU64,
    error: StoreError,
}

impl<S> Fault<S> {
    /// Wraps a store.
    pub fn new(inner: S, good_calls: u64, error: StoreError) -> Self {
        Self { inner, good_calls: AtomicU64::new(good_calls), error }
    }

    fn call(&self) -> Result<(), StoreError> {
        let left = self.good_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| self.error.clone())
    }
}

impl<S: StateStore> StateStore for Fault<S> {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        self.inner.view()
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.call()?;
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.call()?;
        self.inner.flush()
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get_durable(key)
    }
}

impl<S: LogStore> LogStore for Fault<S> {
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError> {
        self.inner.load()
    }

    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        self.call()?;
        self.inner.write(batches)
    }
}
