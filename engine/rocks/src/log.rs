//! The Raft log store: RocksDB with a synced write-ahead log. The simplest store that is right.
//!
//! Everything in a [`LogStore::write`] is one RocksDB batch, so one sync for however many groups and entries were waiting.
//! It is skipped when only commit indexes moved or a flushed prefix is dropped: losing either loses nothing, and the next
//! synced write carries them along, because the write-ahead log keeps its order.
//!
//! A load reads every record, checks its checksum and that entries have no holes. RocksDB is told to tolerate a torn
//! record at the end of its log (nobody was told of it) and to refuse any other damage.

use crate::error::{corrupt, open_error, store_error};
use crate::record::{self, Kind};
use crate::state::common_options;
use rockpool_engine::kv::{HardState, LogBatch, LogImage, LogStore, StoreError, check_entries};
use rockpool_proto::GroupId;
use rocksdb::{DB, DBCompressionType, DBRecoveryMode, IteratorMode, WriteBatch, WriteOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes gathered before RocksDB writes a table of them.
const WRITE_BUFFER_BYTES: usize = 64 << 20;

/// The Raft logs of a node's groups, on disk.
pub struct RocksLog {
    db: DB,
    groups: BTreeMap<GroupId, Bounds>,
    /// What opening read and checked, for the load that follows.
    opened: Option<Vec<LogImage>>,
    /// Why an earlier write failed. What a failed sync left on the disk is unknown, so nothing is written after it.
    failed: Option<StoreError>,
}

/// What is known of a group's log without reading it.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    hard_state: HardState,
    truncated_to: (u64, u64),
    last_index: u64,
    /// Term of the last entry, for truncations at the very end.
    last_term: u64,
}

impl Bounds {
    fn of(image: &LogImage) -> Self {
        Bounds {
            hard_state: image.hard_state,
            truncated_to: image.truncated_to,
            last_index: image.last_index(),
            last_term: image.entries.last().map_or(image.truncated_to.1, |entry| entry.term),
        }
    }
}

impl RocksLog {
    /// Opens the store in `folder`, which is made when it does not exist, and checks all of it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut options = common_options();
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        let db = DB::open(&options, folder).map_err(|error| open_error(folder, error))?;
        let mut log = Self { db, groups: BTreeMap::new(), opened: None, failed: None };
        let images = log.images()?;
        log.groups = images.iter().map(|image| (image.group, Bounds::of(image))).collect();
        log.opened = Some(images);
        Ok(log)
    }

    /// Reads and checks every group's log.
    fn images(&self) -> Result<Vec<LogImage>, StoreError> {
        let mut images: Vec<LogImage> = Vec::new();
        // Keys ascend by group, then by kind: the truncation is known before the first entry.
        for pair in self.db.iterator(IteratorMode::Start) {
            let (key, value) = pair.map_err(store_error)?;
            let (group, kind, index) = record::parse_key(&key)?;
            if images.last().is_none_or(|image| image.group != group) {
                images.push(LogImage::new(group));
            }
            let image = images.last_mut().expect("one was just pushed when there was none");
            match kind {
                Kind::HardState => image.hard_state = record::decode_hard_state(&key, &value)?,
                Kind::Truncation => image.truncated_to = record::decode_truncation(&key, &value)?,
                Kind::Entry => {
                    let due = image.last_index() + 1;
                    if index != due {
                        return Err(corrupt(format!("Raft log of {group}: entry {index} stands where {due} should")));
                    }
                    image.entries.push(record::decode_entry(&key, index, &value)?);
                }
            }
        }
        Ok(images)
    }

    fn write_all(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        self.opened = None;
        let mut writes = WriteBatch::default();
        let mut must_sync = false;
        // Groups with entries in `writes`, where a truncation could not look them up.
        let mut staged = BTreeSet::new();
        for batch in batches {
            if batch.truncate_to.is_some() && staged.contains(&batch.group) {
                self.commit(std::mem::take(&mut writes), false)?;
                staged.clear();
            }
            let mut bounds = self.groups.get(&batch.group).copied().unwrap_or_default();
            must_sync |= self.stage(&mut writes, &mut bounds, batch)?;
            self.groups.insert(batch.group, bounds);
            if !batch.entries.is_empty() {
                staged.insert(batch.group);
            }
        }
        self.commit(writes, must_sync)
    }

    fn commit(&self, writes: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(writes, &options).map_err(store_error)
    }

    /// Translates a batch and says whether somebody relies on it once it is written.
    fn stage(&self, writes: &mut WriteBatch, bounds: &mut Bounds, batch: &LogBatch) -> Result<bool, StoreError> {
        let group = batch.group;
        let mut must_sync = !batch.entries.is_empty();
        if let Some(hard_state) = batch.hard_state {
            must_sync |= (hard_state.term, hard_state.vote) != (bounds.hard_state.term, bounds.hard_state.vote);
            bounds.hard_state = hard_state;
            let key = record::key(group, Kind::HardState, 0);
            writes.put(key, record::encode_hard_state(&key, &hard_state));
        }
        if let Some((index, term)) = batch.truncate_to
            && index > bounds.truncated_to.0
        {
            let keeps_rest = self.term_at(group, bounds, index)? == Some(term);
            let end = if keeps_rest { index } else { bounds.last_index };
            let from = record::key(group, Kind::Entry, bounds.truncated_to.0 + 1);
            writes.delete_range(from, record::key(group, Kind::Entry, end + 1));
            if !keeps_rest {
                (bounds.last_index, bounds.last_term) = (index, term);
                must_sync = true;
            }
            bounds.truncated_to = (index, term);
            let key = record::key(group, Kind::Truncation, 0);
            writes.put(key, record::encode_truncation(&key, (index, term)));
        }
        check_entries(batch, bounds.truncated_to.0, bounds.last_index)?;
        for entry in &batch.entries {
            let key = record::key(group, Kind::Entry, entry.index);
            writes.put(key, record::encode_entry(&key, entry));
        }
        if let Some(last) = batch.entries.last() {
            if last.index < bounds.last_index {
                let from = record::key(group, Kind::Entry, last.index + 1);
                writes.delete_range(from, record::key(group, Kind::Entry, bounds.last_index + 1));
            }
            (bounds.last_index, bounds.last_term) = (last.index, last.term);
        }
        Ok(must_sync)
    }

    /// The term of an entry, if the log holds it.
    fn term_at(&self, group: GroupId, bounds: &Bounds, index: u64) -> Result<Option<u64>, StoreError> {
        if index >= bounds.last_index {
            return Ok((index == bounds.last_index).then_some(bounds.last_term));
        }
        let key = record::key(group, Kind::Entry, index);
        let Some(value) = self.db.get_pinned(key).map_err(store_error)? else {
            return Ok(None);
        };
        Ok(Some(record::decode_entry(&key, index, &value)?.term))
    }
}

impl LogStore for RocksLog {
    fn load(&mut self) -> Result<Vec<LogImage>, StoreError> {
        match self.opened.take() {
            Some(images) => Ok(images),
            None => self.images(),
        }
    }

    fn write(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.write_all(batches);
        self.failed = result.as_ref().err().cloned();
        result
    }
}
