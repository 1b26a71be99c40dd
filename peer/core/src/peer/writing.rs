//! Writing own entries, and keeping all entries.
//!
//! ```text
//!   command -> waiting until our own chain is known -> appended -> Persist -> Persisted -> shown, answered, pushed
//! ```
//!
//! Nobody sees an own entry before it is durable, so a crash never makes two entries with one counter. A device whose
//! store is empty may have lost it: it writes only after all who are present said what they have of our chain, or after it
//! is clear that nobody more can be asked. What the peer writes by itself (withdrawals) waits for that in any case: the store may
//! be an old copy. Should two branches of our own chain exist all the same, others refuse all that follows the second, so
//! nothing more is written here, and people are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rockpool_proto::DeviceId;

use super::Peer;
use super::links::CONTROL_BUSY_BYTES;
use crate::entry::{Body, EntryId, StoredEntry};
use crate::event::Warning;
use crate::input::CommandId;
use crate::manifest::Manifest;
use crate::output::{Output, Refusal, Reply};
use crate::time::{Now, Time};

/// How long a device with an empty store waits for links to all who are present before it writes.
const ALONE_AFTER: Duration = Duration::from_secs(10);
/// Entries that may wait to be written.
const DRAFTS_MAX: usize = 256;

/// An entry to write.
#[derive(Debug)]
pub(super) struct Draft {
    /// Whose answer is due; none for what the peer writes by itself.
    pub(super) command: Option<CommandId>,
    pub(super) body: Body,
    /// Of a file offer: to be served.
    pub(super) manifest: Option<Arc<Manifest>>,
}

#[derive(Debug)]
struct Written {
    entry: Arc<StoredEntry>,
    command: Option<CommandId>,
}

/// Own entries on their way to the disk, and others' too.
#[derive(Debug)]
pub(super) struct Writing {
    drafts: VecDeque<Draft>,
    /// Our store was not empty, or we have compared.
    settled: bool,
    /// All who are present told us what they have, or had their time to.
    compared: bool,
    /// Something was written in this run: it is too late to be behind.
    begun: bool,
    /// Our chain has two branches from here on.
    forked: Option<EntryId>,
    alone_at: Time,
    /// To be persisted with the next batch.
    batch: Vec<Arc<StoredEntry>>,
    written: Vec<Written>,
    /// Given to the driver, with the own entries in it.
    batches: VecDeque<(u64, Vec<Written>, u64)>,
    sequence: u64,
}

impl Writing {
    pub(super) fn new(now: Now, own_entries: u64) -> Writing {
        Writing {
            drafts: VecDeque::new(),
            settled: own_entries > 0,
            compared: false,
            begun: false,
            forked: None,
            alone_at: now.time.after(ALONE_AFTER),
            batch: Vec::new(),
            written: Vec::new(),
            batches: VecDeque::new(),
            sequence: 0,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.compared).then_some(self.alone_at)
    }

    /// Keeps an entry from another device.
    pub(super) fn keep(&mut self, entry: Arc<StoredEntry>) {
        self.batch.push(entry);
    }
}

impl Peer {
    /// Queues an entry to write.
    pub(super) fn write(&mut self, draft: Draft) -> Result<(), Refusal> {
        if let Some(id) = self.writing.forked {
            return Err(Refusal::Forked(id));
        }
        if self.writing.drafts.len() >= DRAFTS_MAX {
            return Err(Refusal::TooMany { what: "messages waiting", max: DRAFTS_MAX });
        }
        self.writing.drafts.push_back(draft);
        Ok(())
    }

    /// Writes what may be written.
    pub(super) fn settle_writing(&mut self, now: Now) -> bool {
        let me = self.device_id();
        if !self.writing.compared {
            // Some may lack the end of our chain, so one is not enough.
            let mut others = self.overlay.wanted_links(&self.roster, me).into_iter().map(|link| link.device);
            let all = self.attached && others.all(|device| self.exchange.has_compared(device));
            self.writing.compared = all || self.writing.alone_at <= now.time;
            self.writing.settled |= self.writing.compared;
        }
        // Others know more of our chain than we do: our store was lost or is an old copy. It comes back first.
        let behind = !self.writing.begun && self.exchange.knows_more_of_us(me, &self.log);
        if self.writing.compared && !behind {
            self.reclaim_offers(now.time);
        }
        if !self.writing.settled || behind || self.writing.drafts.is_empty() {
            return false;
        }
        let drafts = std::mem::take(&mut self.writing.drafts);
        let (ready, later) = drafts.into_iter().partition(|draft| self.writing.compared || draft.command.is_some());
        self.writing.drafts = later;
        let ready: VecDeque<Draft> = ready;
        if ready.is_empty() {
            return false;
        }
        self.writing.begun = true;
        for draft in ready {
            let entry = self.log.append(&self.config.keys, now.wall_ms, draft.body);
            if let Some(manifest) = draft.manifest {
                self.seed_offer(entry.id, manifest);
            }
            self.writing.batch.push(entry.clone());
            self.writing.written.push(Written { entry, command: draft.command });
        }
        true
    }

    /// Another branch of our own chain exists.
    pub(super) fn stop_writing(&mut self, id: EntryId) {
        if self.writing.forked.is_some() {
            return;
        }
        self.writing.forked = Some(id);
        self.warn(Warning::OwnChainForked(id));
        for draft in std::mem::take(&mut self.writing.drafts) {
            if let Some(command) = draft.command {
                self.outputs.push_back(Output::Reply(command, Err(Refusal::Forked(id))));
            }
        }
    }

    pub(super) fn flush_persist(&mut self) {
        if self.writing.batch.is_empty() {
            return;
        }
        let me = self.device_id();
        let entries = std::mem::take(&mut self.writing.batch);
        let written = std::mem::take(&mut self.writing.written);
        let own = entries.iter().filter(|entry| entry.id.device == me).map(|entry| entry.id.counter).max();
        self.writing.sequence += 1;
        let sequence = self.writing.sequence;
        self.writing.batches.push_back((sequence, written, own.unwrap_or(0)));
        self.outputs.push_back(Output::Persist { sequence, entries });
    }

    pub(super) fn handle_persisted(&mut self, sequence: u64) {
        let mut durable = Vec::new();
        while self.writing.batches.front().is_some_and(|(first, _, _)| *first <= sequence) {
            let Some((_, written, own)) = self.writing.batches.pop_front() else { break };
            self.log.set_durable(own);
            for Written { entry, command } in written {
                self.tell_entry(&entry);
                if let Some(command) = command {
                    self.outputs.push_back(Output::Reply(command, Ok(Reply::Appended(entry.id))));
                }
                durable.push(entry);
            }
        }
        if !durable.is_empty() {
            let targets = self.push_targets();
            self.exchange.push(&targets, &durable);
        }
    }

    /// Links on which a new entry goes out at once. A busy one gets it by comparison, once it has caught up.
    fn push_targets(&mut self) -> Vec<DeviceId> {
        let mut idle = Vec::new();
        for (device, link) in self.links.iter_mut().filter(|(_, link)| link.is_up()) {
            let Some(channel) = &mut link.control else { continue };
            channel.owes_entries |= channel.unsent_bytes >= CONTROL_BUSY_BYTES;
            if !channel.owes_entries {
                idle.push(*device);
            }
        }
        self.overlay.broadcast_targets(idle, None)
    }
}
