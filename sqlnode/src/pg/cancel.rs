//! Stopping a statement from outside: by a cancel request on another connection, by its timeout, or by the node's end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use parking_lot::Mutex;
use rockpool_sql::{SqlError, SqlState};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

/// Why a statement is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cause {
    Request = 1,
    Timeout = 2,
    Shutdown = 3,
}

/// The switch of one connection's running statement.
#[derive(Debug, Default)]
pub(crate) struct CancelSlot {
    /// Whether a statement runs: a request that comes late stops nothing.
    running: AtomicBool,
    cause: AtomicU8,
    /// What the executor looks at.
    flag: Arc<AtomicBool>,
    notify: Notify,
}

impl CancelSlot {
    /// A statement begins.
    pub(crate) fn arm(&self) -> Arc<AtomicBool> {
        self.flag.store(false, Ordering::SeqCst);
        self.cause.store(0, Ordering::SeqCst);
        self.running.store(true, Ordering::SeqCst);
        Arc::clone(&self.flag)
    }

    /// It ended.
    pub(crate) fn disarm(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// Stops the statement that runs, if one does.
    pub(crate) fn cancel(&self, cause: Cause) {
        if self.running.load(Ordering::SeqCst) {
            let _ = self.cause.compare_exchange(0, cause as u8, Ordering::SeqCst, Ordering::SeqCst);
            self.flag.store(true, Ordering::SeqCst);
            self.notify.notify_waiters();
        }
    }

    /// Resolves when the running statement is to stop.
    pub(crate) async fn cancelled(&self) {
        loop {
            let notified = self.notify.notified();
            if self.flag.load(Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }

    /// What the client is told.
    pub(crate) fn error(&self) -> SqlError {
        match self.cause.load(Ordering::SeqCst) {
            cause if cause == Cause::Timeout as u8 => {
                SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout")
            }
            cause if cause == Cause::Shutdown as u8 => {
                SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection because the node is stopping")
            }
            _ => SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request"),
        }
    }
}

/// All connections' switches, by process number and secret.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    next_process: AtomicI32,
    slots: Mutex<HashMap<i32, (i32, Arc<CancelSlot>)>>,
}

/// A registered connection; dropping it takes it off the list.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) process: i32,
    pub(crate) secret: i32,
    pub(crate) slot: Arc<CancelSlot>,
    cancels: Arc<Cancels>,
}

impl Cancels {
    /// Registers a connection under a secret that only its client learns.
    pub(crate) fn register(self: &Arc<Self>, secret: i32) -> Registered {
        let slot = Arc::new(CancelSlot::default());
        let mut slots = self.slots.lock();
        let process = loop {
            // Numbers come round after two billion connections, and those still in use are passed over.
            let process = (self.next_process.fetch_add(1, Ordering::Relaxed) & i32::MAX).max(1);
            if !slots.contains_key(&process) {
                break process;
            }
        };
        slots.insert(process, (secret, Arc::clone(&slot)));
        Registered { process, secret, slot, cancels: Arc::clone(self) }
    }

    /// A cancel request. Who doesn't know the secret changes nothing and learns nothing.
    pub(crate) fn request(&self, process: i32, secret: &[u8]) {
        let slot = match self.slots.lock().get(&process) {
            Some((own, slot)) if bool::from(own.to_be_bytes().ct_eq(secret)) => Arc::clone(slot),
            _ => return,
        };
        slot.cancel(Cause::Request);
    }

    /// Stops every running statement: the node ends.
    pub(crate) fn cancel_all(&self) {
        for (_, slot) in self.slots.lock().values() {
            slot.cancel(Cause::Shutdown);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.slots.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_stops_only_a_running_statement() {
        let cancels = Arc::new(Cancels::default());
        let one = cancels.register(7);
        let two = cancels.register(8);
        assert_ne!(one.process, two.process);
        let flag = one.slot.arm();
        cancels.request(one.process, &8i32.to_be_bytes());
        cancels.request(one.process, b"");
        assert!(!flag.load(Ordering::SeqCst));
        cancels.request(one.process, &7i32.to_be_bytes());
        assert!(flag.load(Ordering::SeqCst));
        assert_eq!(one.slot.error().state, SqlState::QUERY_CANCELED);
        let flag = one.slot.arm();
        one.slot.disarm();
        cancels.request(one.process, &7i32.to_be_bytes());
        assert!(!flag.load(Ordering::SeqCst));
        let process = one.process;
        drop(one);
        cancels.request(process, &7i32.to_be_bytes());
        assert_eq!(cancels.slots.lock().len(), 1);
    }
}
