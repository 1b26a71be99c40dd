//! Why the engine stopped, once and for everybody.

use crate::error::EngineError;
use crate::inbox::Inbox;
use rockpool_engine::Fatal;
use rockpool_engine::kv::StoreError;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The first failure that stopped the engine.
pub(crate) struct Failure {
    data_dir: PathBuf,
    inbox: Arc<Inbox>,
    text: OnceLock<Arc<str>>,
}

impl Failure {
    pub(crate) fn new(data_dir: PathBuf, inbox: Arc<Inbox>) -> Self {
        Failure { data_dir, inbox, text: OnceLock::new() }
    }

    /// A store failed.
    pub(crate) fn store(&self, what: &str, error: &StoreError) {
        self.stop(describe(&self.data_dir, what, error));
    }

    /// The machine, or a task of its, can't go on.
    pub(crate) fn fatal(&self, error: &Fatal) {
        match error {
            Fatal::Store(error) => self.store("the state", error),
            other => self.stop(other.to_string()),
        }
    }

    /// A thread of the engine died of a fault of our own.
    pub(crate) fn fault(&self, thread: &str) {
        self.stop(format!(
            "a fault in its own code ({thread}; the message is on standard error). Start the node again; nothing that was \
             acknowledged is lost. If it comes back, please report it"
        ));
    }

    fn stop(&self, text: String) {
        tracing::error!(%text, "the engine stops");
        // Whoever is second failed because of the first, or as well: one sentence is enough.
        let _ = self.text.set(text.into());
        self.inbox.close();
    }

    /// The sentence, once there is one.
    pub(crate) fn text(&self) -> Option<Arc<str>> {
        self.text.get().cloned()
    }

    /// What a caller is told whose request got no answer.
    pub(crate) fn error(&self) -> EngineError {
        self.text().map_or(EngineError::ShuttingDown, EngineError::Stopped)
    }
}

/// A sentence that helps.
pub(crate) fn describe(data_dir: &std::path::Path, what: &str, error: &StoreError) -> String {
    let folder = data_dir.display();
    match error {
        StoreError::Io { full: true, .. } => format!(
            "the disk is full, {what} in {folder} can't be written. Make room and start the node again; \
             nothing that was acknowledged is lost"
        ),
        StoreError::Io { text, .. } => format!(
            "{what} in {folder} can't be written or read: {text}. Check the disk, then start the node again; \
             nothing that was acknowledged is lost"
        ),
        StoreError::Corrupt { what: place } => format!(
            "{what} in {folder} is damaged: {place}. Remove this node from the cluster, then let it join again with an \
             empty folder, so that it is repaired from the others"
        ),
    }
}
