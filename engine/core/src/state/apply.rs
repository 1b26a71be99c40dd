//! Applying log entries: a pure function from the state and the entries to a batch and what came of each command.
//!
//! Whatever can fail on one replica as on every other (a transaction that ended before, one that is too old) is an
//! [`Effect`]. What fails on this one alone is [`Fatal`].

use super::collect::collect_step;
use super::outcome::{Outcome, read_outcome, write_outcome};
use crate::codec::{Command, CommitCommand, LogRecord, Membership, StateKeys, StateMeta, Version, seal};
use crate::error::Fatal;
use crate::kv::{View, WriteBatch};
use crate::txn::{Timestamp, TxnId};
use bytes::Bytes;
use rockpool_proto::GroupId;
use std::collections::BTreeMap;

/// A committed log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplyItem {
    /// Its index.
    pub(crate) index: u64,
    /// Its term.
    pub(crate) term: u64,
    /// What it does.
    pub(crate) kind: ItemKind,
}

impl ApplyItem {
    /// About what it takes up in the log.
    pub(crate) fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 64;
        match &self.kind {
            ItemKind::Record(bytes) => bytes.len() + OVERHEAD_BYTES,
            ItemKind::Empty | ItemKind::Membership(_) => OVERHEAD_BYTES,
        }
    }
}

/// What a committed log entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// Nothing: a new leader's first entry, or a change of membership that was refused.
    Empty,
    /// A [`LogRecord`].
    Record(Bytes),
    /// The membership is now this.
    Membership(Membership),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A transaction's writes took effect.
    Committed {
        /// Whose.
        txn: TxnId,
        /// When.
        timestamp: Timestamp,
        /// Which keys.
        keys: Vec<Vec<u8>>,
    },
    /// The transaction had ended before, or was ended by this.
    Ended {
        /// Which.
        txn: TxnId,
        /// How.
        outcome: Outcome,
    },
    /// The transaction lies behind the safe point: nothing happened.
    TooOld {
        /// Which.
        txn: TxnId,
    },
    /// The safe point stands.
    SafePoint,
    /// A step of the collection was done.
    Collected,
}

/// A state on its way through entries.
pub(super) struct Applier<'a> {
    view: &'a dyn View,
    group: GroupId,
    keys: StateKeys,
    meta: StateMeta,
    batch: WriteBatch,
    /// Outcomes in `batch`, which `view` does not show.
    fresh: BTreeMap<TxnId, Outcome>,
}

/// What a step makes: the state's writes, its new meta, and the effects with the index of their entry.
pub(super) struct Step {
    pub(super) batch: WriteBatch,
    pub(super) meta: StateMeta,
    pub(super) effects: Vec<(u64, Effect)>,
}

/// Whether an entry must see all entries before it in the view: a collection scans it.
pub(super) fn needs_own_view(record: &LogRecord) -> bool {
    record.commands.iter().any(|command| matches!(command, Command::CollectStep { .. }))
}

/// An entry as read.
pub(super) struct DecodedItem {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) kind: DecodedKind,
}

pub(super) enum DecodedKind {
    Empty,
    Record(LogRecord),
    Membership(Membership),
}

/// Reads an entry. One that can't be read was damaged: it had been checked before it was proposed.
pub(super) fn decode_item(group: GroupId, item: ApplyItem) -> Result<DecodedItem, Fatal> {
    let kind = match item.kind {
        ItemKind::Empty => DecodedKind::Empty,
        ItemKind::Membership(membership) => DecodedKind::Membership(membership),
        ItemKind::Record(bytes) => DecodedKind::Record(
            LogRecord::decode(bytes)
                .map_err(|error| Fatal::Log { group, what: format!("entry {}: {error}", item.index) })?,
        ),
    };
    Ok(DecodedItem { index: item.index, term: item.term, kind })
}

/// Applies entries in order.
pub(super) fn apply(view: &dyn View, group: GroupId, meta: StateMeta, items: Vec<DecodedItem>) -> Result<Step, Fatal> {
    let keys = StateKeys { group, generation: meta.generation };
    let mut applier = Applier { view, group, keys, meta, batch: WriteBatch::new(), fresh: BTreeMap::new() };
    let mut effects = Vec::new();
    for item in items {
        let expected = applier.meta.applied_index + 1;
        if item.index != expected {
            let what = format!("entry {} is to be applied where {expected} was expected", item.index);
            return Err(Fatal::Log { group, what });
        }
        match item.kind {
            DecodedKind::Empty => {}
            DecodedKind::Membership(membership) => applier.meta.membership = membership,
            DecodedKind::Record(record) => {
                for command in record.commands {
                    effects.push((item.index, applier.command(command)?));
                }
            }
        }
        applier.meta.applied_index = item.index;
        applier.meta.applied_term = item.term;
    }
    let Applier { meta, batch, .. } = applier;
    Ok(Step { batch, meta, effects })
}

impl Applier<'_> {
    fn command(&mut self, command: Command) -> Result<Effect, Fatal> {
        match command {
            Command::Commit(commit) => self.commit(commit),
            Command::Resolve { txn, read_timestamp } => {
                if let Some(outcome) = self.outcome(&txn)? {
                    return Ok(Effect::Ended { txn, outcome });
                }
                if read_timestamp < self.meta.safe_point {
                    return Ok(Effect::TooOld { txn });
                }
                self.record(&txn, Outcome::Aborted, read_timestamp);
                Ok(Effect::Ended { txn, outcome: Outcome::Aborted })
            }
            Command::Collect { safe_point } => {
                let safe_point = safe_point.min(self.meta.last_commit);
                if safe_point > self.meta.safe_point {
                    self.meta.safe_point = safe_point;
                    // A collection under way goes on where it is: one that began anew each time would never come to the
                    // end of a large state, where the outcomes are.
                    self.meta.collect_from.get_or_insert_default();
                }
                Ok(Effect::SafePoint)
            }
            Command::CollectStep { versions_max } => {
                collect_step(self.view, self.keys, &mut self.meta, versions_max, &mut self.batch)?;
                Ok(Effect::Collected)
            }
        }
    }

    fn commit(&mut self, commit: CommitCommand) -> Result<Effect, Fatal> {
        let CommitCommand { txn, timestamp, read_timestamp, writes } = commit;
        // A forward that was retried may stand in the log twice.
        if let Some(outcome) = self.outcome(&txn)? {
            return Ok(Effect::Ended { txn, outcome });
        }
        if read_timestamp < self.meta.safe_point {
            return Ok(Effect::TooOld { txn });
        }
        if timestamp <= self.meta.last_commit || timestamp <= read_timestamp {
            let what = format!("commit at {timestamp} after one at {}", self.meta.last_commit);
            return Err(Fatal::Log { group: self.group, what });
        }
        for (key, value) in &writes {
            let full = self.keys.data(key, timestamp);
            let stored = seal(&full, &Version::of(value.as_deref()).encode());
            self.batch.put(full, stored);
        }
        self.record(&txn, Outcome::Committed(timestamp), timestamp);
        self.meta.last_commit = timestamp;
        Ok(Effect::Committed { txn, timestamp, keys: writes.into_keys().collect() })
    }

    fn outcome(&self, txn: &TxnId) -> Result<Option<Outcome>, Fatal> {
        if let Some(&outcome) = self.fresh.get(txn) {
            return Ok(Some(outcome));
        }
        Ok(read_outcome(self.view, self.keys, txn)?)
    }

    fn record(&mut self, txn: &TxnId, outcome: Outcome, marked: Timestamp) {
        write_outcome(&mut self.batch, self.keys, txn, outcome, marked);
        self.fresh.insert(*txn, outcome);
    }
}
