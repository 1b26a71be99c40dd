//! The state store: RocksDB without a write-ahead log, in one column family.
//!
//! A batch is atomic in the memtable, a flush carries whole memtables, and memtables are flushed in the order they were
//! filled. So what a crash leaves is always a prefix of the batches, and one value in them (the applied index) says how
//! long the prefix is. A second column family would flush on its own and break that; whoever adds one turns atomic flush
//! on as well.

use crate::error::{open_error, store_error};
use rockpool_engine::kv::{Direction, Scan, StateStore, StoreError, View, WriteBatch, WriteOp};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, FlushOptions, IteratorMode, Options, ReadOptions, ReadTier,
    Snapshot, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// Sizes of a [`RocksState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// Bytes of uncompressed blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Bytes of writes gathered before they are flushed.
    pub write_buffer_bytes: usize,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { block_cache_bytes: 128 << 20, write_buffer_bytes: 32 << 20 }
    }
}

/// Bits per key of the bloom filters: about one wrong answer in a hundred.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// An ordered key/value store on disk.
pub struct RocksState {
    db: Arc<DB>,
}

impl RocksState {
    /// Opens the store in `folder`, which is made when it does not exist.
    pub fn open(folder: &Path, options: StateOptions) -> Result<Self, StoreError> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(5);

        let mut db = common_options();
        db.set_block_based_table_factory(&table);
        db.set_compression_type(DBCompressionType::Lz4);
        db.set_write_buffer_size(options.write_buffer_bytes);
        db.set_max_write_buffer_number(4);
        db.set_level_compaction_dynamic_level_bytes(true);
        let db = DB::open(&db, folder).map_err(|error| open_error(folder, error))?;
        Ok(Self { db: Arc::new(db) })
    }
}

/// What both databases have in common.
pub(crate) fn common_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_open_files(512);
    // RocksDB's own diary, not a write-ahead log.
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 << 20);
    options
}

impl StateStore for RocksState {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        Ok(Arc::new(RocksView { cell: SnapshotCell::new(self.db.clone(), |db| db.snapshot()) }))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        let mut writes = rocksdb::WriteBatch::with_capacity_bytes(batch.size_bytes() + 16 * batch.ops().len());
        for op in batch.ops() {
            match op {
                WriteOp::Put(key, value) => writes.put(key, value),
                WriteOp::Delete(key) => writes.delete(key),
                // RocksDB refuses bounds in the wrong order; to us they are an empty range.
                WriteOp::DeleteRange(start, end) if start < end => writes.delete_range(start, end),
                WriteOp::DeleteRange(..) => {}
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(writes, &options).map_err(store_error)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(store_error)
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.db.get_opt(key, &options).map_err(store_error)
    }
}

self_cell::self_cell!(
    /// A snapshot together with the database that it borrows.
    struct SnapshotCell {
        owner: Arc<DB>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// A consistent picture: a RocksDB snapshot that keeps its database open.
struct RocksView {
    cell: SnapshotCell,
}

impl View for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.cell.borrow_dependent().get(key).map_err(store_error)
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Scan<'a> {
        if start >= end {
            return Box::new(std::iter::empty());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        let mode = match direction {
            Direction::Forward => IteratorMode::Start,
            Direction::Backward => IteratorMode::End,
        };
        let pairs = self.cell.borrow_dependent().iterator_opt(mode, options);
        Box::new(pairs.map(|pair| pair.map(|(key, value)| (key.into_vec(), value.into_vec())).map_err(store_error)))
    }
}
