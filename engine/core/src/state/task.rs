//! Work for the driver's apply thread.
//!
//! The machine hands out [`ApplyTask`]s, the driver runs them in order and hands the [`ApplyDone`]s back. A task touches
//! nothing but the store it is given. Each writes its data and the meta that describes it in one batch.

use super::apply::{ApplyItem, DecodedItem, DecodedKind, Effect, apply, decode_item, needs_own_view};
use crate::codec::{StateKeys, StateMeta, StreamId, meta_key, seal};
use crate::error::Fatal;
use crate::kv::{StateStore, WriteBatch};
use bytes::Bytes;
use rockpool_proto::GroupId;
use std::fmt;

/// Work on the state store, to be run in the order in which it was handed out.
#[derive(Clone, Debug)]
pub struct ApplyTask {
    group: GroupId,
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    /// Apply committed entries.
    Entries(Vec<ApplyItem>),
    /// Write a snapshot's chunk into the next generation; the first one clears it.
    Chunk { stream: StreamId, seq: u64, pairs: Vec<(Bytes, Bytes)> },
    /// Change over to the next generation and make that durable.
    Install { meta: StateMeta },
    /// Clear the next generation.
    Discard,
}

/// What came of an [`ApplyTask`].
#[derive(Clone, Debug)]
pub struct ApplyDone {
    pub(crate) group: GroupId,
    pub(crate) done: Done,
}

#[derive(Clone, Debug)]
pub(crate) enum Done {
    Entries { meta: StateMeta, effects: Vec<(u64, Effect)> },
    Chunk { stream: StreamId, seq: u64 },
    Installed { meta: StateMeta },
    Discarded,
}

impl ApplyTask {
    pub(crate) fn entries(group: GroupId, items: Vec<ApplyItem>) -> Self {
        ApplyTask { group, work: Work::Entries(items) }
    }

    pub(crate) fn chunk(group: GroupId, stream: StreamId, seq: u64, pairs: Vec<(Bytes, Bytes)>) -> Self {
        ApplyTask { group, work: Work::Chunk { stream, seq, pairs } }
    }

    pub(crate) fn install(group: GroupId, meta: StateMeta) -> Self {
        ApplyTask { group, work: Work::Install { meta } }
    }

    pub(crate) fn discard(group: GroupId) -> Self {
        ApplyTask { group, work: Work::Discard }
    }

    /// Whose state it works on. Tasks of different groups may run at the same time.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Runs it: plain blocking calls on the store, no other effect. What it fails with stops the node.
    pub fn run(self, store: &dyn StateStore) -> Result<ApplyDone, Fatal> {
        let group = self.group;
        let done = match self.work {
            Work::Entries(items) => apply_entries(store, group, items)?,
            Work::Chunk { stream, seq, pairs } => {
                let keys = next_generation(store, group)?;
                let mut batch = WriteBatch::new();
                if seq == 0 {
                    let (start, end) = keys.bounds();
                    batch.delete_range(start, end);
                }
                for (suffix, payload) in pairs {
                    let key = keys.join(&suffix);
                    let value = seal(&key, &payload);
                    batch.put(key, value);
                }
                store.write(&batch)?;
                Done::Chunk { stream, seq }
            }
            Work::Install { mut meta } => {
                let keys = next_generation(store, group)?;
                meta.generation = keys.generation;
                let mut batch = WriteBatch::new();
                put_meta(&mut batch, group, &meta);
                store.write(&batch)?;
                // The log is reset only after this: a log without the state that it continues would be lost for good.
                store.flush()?;
                store.write(&clear_others(keys))?;
                Done::Installed { meta }
            }
            Work::Discard => {
                let (start, end) = next_generation(store, group)?.bounds();
                let mut batch = WriteBatch::new();
                batch.delete_range(start, end);
                store.write(&batch)?;
                Done::Discarded
            }
        };
        Ok(ApplyDone { group, done })
    }
}

/// Adds the meta to the batch that it describes.
pub(crate) fn put_meta(batch: &mut WriteBatch, group: GroupId, meta: &StateMeta) {
    let key = meta_key(group);
    let value = seal(&key, &meta.encode());
    batch.put(key, value);
}

/// Removes what a replaced state or a snapshot given up left behind.
pub(crate) fn clear_others(keys: StateKeys) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for (start, end) in keys.other_generations() {
        if start < end {
            batch.delete_range(start, end);
        }
    }
    batch
}

/// Where a snapshot is received.
fn next_generation(store: &dyn StateStore, group: GroupId) -> Result<StateKeys, Fatal> {
    let meta = StateMeta::read(&*store.view()?, group)?;
    Ok(StateKeys { group, generation: meta.map_or(0, |meta| meta.generation) + 1 })
}

fn apply_entries(store: &dyn StateStore, group: GroupId, items: Vec<ApplyItem>) -> Result<Done, Fatal> {
    let no_state = || Fatal::Log { group, what: "entries are committed, but there is no state".to_owned() };
    let mut view = store.view()?;
    let mut meta = StateMeta::read(&*view, group)?.ok_or_else(no_state)?;
    let mut effects = Vec::new();
    let mut gathered: Vec<DecodedItem> = Vec::new();
    let mut items = items.into_iter().peekable();
    while let Some(item) = items.next() {
        let item = decode_item(group, item)?;
        let alone = matches!(&item.kind, DecodedKind::Record(record) if needs_own_view(record));
        // A collection looks at the state, so what it sees must not depend on how entries were gathered here.
        let segments = if alone {
            vec![std::mem::take(&mut gathered), vec![item]]
        } else {
            gathered.push(item);
            if items.peek().is_some() {
                continue;
            }
            vec![std::mem::take(&mut gathered)]
        };
        for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
            let mut step = apply(&*view, group, meta, segment)?;
            put_meta(&mut step.batch, group, &step.meta);
            store.write(&step.batch)?;
            meta = step.meta;
            effects.append(&mut step.effects);
            view = store.view()?;
        }
    }
    Ok(Done::Entries { meta, effects })
}

impl fmt::Display for ApplyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Entries(items) => {
                let ends = items.first().zip(items.last()).map_or((0, 0), |(first, last)| (first.index, last.index));
                write!(f, "{} entries {}..{}", self.group, ends.0, ends.1)
            }
            Work::Chunk { stream, seq, pairs } => {
                write!(f, "{} chunk {seq} of {}.{}, {} pairs", self.group, stream.term, stream.number, pairs.len())
            }
            Work::Install { meta } => write!(f, "{} install snapshot@{}", self.group, meta.applied_index),
            Work::Discard => write!(f, "{} discard snapshot", self.group),
        }
    }
}

impl fmt::Display for ApplyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.done {
            Done::Entries { meta, .. } => write!(f, "{} to {}", self.group, meta.applied_index),
            Done::Chunk { stream, seq } => {
                write!(f, "{} chunk {seq} of {}.{}", self.group, stream.term, stream.number)
            }
            Done::Installed { meta } => write!(f, "{} installed snapshot@{}", self.group, meta.applied_index),
            Done::Discarded => write!(f, "{} discarded snapshot", self.group),
        }
    }
}
