//! The threads that wait for the disk so that the machine need not.
//!
//! ```text
//!   machine --Persist--> disk thread    gathers what waits, writes it, syncs once, answers all
//!           --Apply----> apply thread   runs tasks on the state store, in order
//!           --Flush----> apply thread --> flush thread, so that applying goes on while memtables are written
//! ```
//!
//! Their queues have no bound of their own: the machine hands out no more than its limits allow before the answers come.

use crate::clock;
use crate::failure::Failure;
use crate::inbox::Inbox;
use crate::status::WriteStats;
use rockpool_engine::kv::{LogBatch, LogStore, StateStore};
use rockpool_engine::{ApplyTask, GroupId, Input};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

/// Bytes of entries after which the disk thread stops gathering and writes.
const GATHER_BYTES_MAX: usize = 4 << 20;

/// What the disk thread is handed.
pub(crate) struct PersistWork {
    pub(crate) seq: u64,
    pub(crate) batches: Vec<LogBatch>,
}

impl PersistWork {
    fn entry_bytes(&self) -> usize {
        self.batches.iter().flat_map(|batch| &batch.entries).map(|entry| entry.data.len()).sum()
    }
}

/// The disk thread: ends when the machine drops its sender, with everything handed over written.
pub(crate) fn persist(
    mut log: Box<dyn LogStore>,
    work: Receiver<PersistWork>,
    inbox: Arc<Inbox>,
    failure: Arc<Failure>,
    stats: Arc<WriteStats>,
) {
    while let Ok(first) = work.recv() {
        let mut gathered_bytes = first.entry_bytes();
        let PersistWork { mut seq, mut batches } = first;
        while gathered_bytes < GATHER_BYTES_MAX {
            let Ok(next) = work.try_recv() else { break };
            gathered_bytes += next.entry_bytes();
            seq = next.seq;
            batches.extend(next.batches);
        }
        let begun = clock::now().time;
        if let Err(error) = log.write(&batches) {
            failure.store("the Raft log", &error);
            return;
        }
        stats.record(clock::since_us(begun), gathered_bytes);
        inbox.push_answer(Input::Persisted { seq });
    }
}

/// What the apply thread is handed.
pub(crate) enum StateWork {
    Apply(ApplyTask),
    Flush(GroupId),
}

/// The apply thread.
pub(crate) fn apply(
    store: Arc<dyn StateStore>,
    work: Receiver<StateWork>,
    flushes: Sender<GroupId>,
    inbox: Arc<Inbox>,
    failure: Arc<Failure>,
) {
    while let Ok(work) = work.recv() {
        match work {
            StateWork::Apply(task) => match task.run(&*store) {
                Ok(done) => inbox.push_answer(Input::Applied(done)),
                Err(error) => return failure.fatal(&error),
            },
            StateWork::Flush(group) => {
                if flushes.send(group).is_err() {
                    return;
                }
            }
        }
    }
}

/// The flush thread.
pub(crate) fn flush(store: Arc<dyn StateStore>, work: Receiver<GroupId>, inbox: Arc<Inbox>, failure: Arc<Failure>) {
    while let Ok(group) = work.recv() {
        if let Err(error) = store.flush() {
            return failure.store("the state", &error);
        }
        inbox.push_answer(Input::Flushed { group });
    }
}
