//! The thread that makes entries of the message log durable.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use rockpool_peer_core::StoredEntry;
use rockpool_proto::PoolId;

use super::{Store, StoreError};

/// Entries to make durable, and the number that says so.
struct Batch {
    sequence: u64,
    entries: Vec<Arc<StoredEntry>>,
}

/// What the thread has to say.
#[derive(Debug)]
pub enum Written {
    /// All batches up to this number are durable.
    UpTo(u64),
    /// The disk refuses. Nothing more is written.
    Failed(StoreError),
}

/// Hands batches to the thread. Dropping it ends the thread after the last one.
#[derive(Debug)]
pub struct Writer {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; `written` is called on it.
    pub fn start(store: Store, pool: PoolId, written: impl Fn(Written) + Send + 'static) -> std::io::Result<Writer> {
        let (batches, waiting) = mpsc::channel::<Batch>();
        let thread = thread::Builder::new().name("rockpool-store".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut last = first.sequence;
                let mut entries = first.entries;
                // Whatever came during the last fsync shares the next one.
                while let Ok(next) = waiting.try_recv() {
                    last = next.sequence;
                    entries.extend(next.entries);
                }
                match store.put_entries(pool, entries.iter().map(Arc::as_ref)) {
                    Ok(()) => written(Written::UpTo(last)),
                    Err(error) => return written(Written::Failed(error)),
                }
            }
        })?;
        Ok(Writer { batches: Some(batches), thread: Some(thread) })
    }

    /// Makes entries durable, in order. The machine bounds how many wait.
    pub fn persist(&self, sequence: u64, entries: Vec<Arc<StoredEntry>>) {
        // A thread that failed has said so; what comes after is lost with it, and never acknowledged.
        let _ = self.batches.as_ref().expect("taken by drop only").send(Batch { sequence, entries });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
