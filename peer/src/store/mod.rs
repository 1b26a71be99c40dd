//! What survives a crash: one redb file in the home.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries` | pool, device, counter | an encoded `Entry` of the message log |
//! | `members` | pool, account | an encoded `Member`, so that old entries verify while the cluster is away |
//! | `offers` | pool, counter of our own entry | [`OfferRecord`]: where the files of an own offer lie |
//! | `downloads` | pool, manifest root | [`DownloadRecord`]: where to, what of it is there |
//! | `roots` | path | [`RootRecord`]: what a file's hash was when it looked like this |
//! | `facts` | name | single values, first of all the format's version |
//!
//! redb commits with one fsync and needs no recovery after `kill -9`. Entries of the log go through [`Writer`], a thread of
//! its own that puts everything that waits into one commit, so that a burst of messages costs one fsync.

mod record;
mod writer;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rockpool_peer_core::{Root, StoredEntry};
use rockpool_proto::meta::v1 as meta;
use rockpool_proto::{AccountId, PoolId};

use crate::files::{FileStamp, RootCache};

pub use record::{DownloadRecord, DownloadState, OfferRecord, RootRecord, SourceRecord};
pub use writer::{Writer, Written};

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const ENTRIES: Table = TableDefinition::new("entries");
const MEMBERS: Table = TableDefinition::new("members");
const OFFERS: Table = TableDefinition::new("offers");
const DOWNLOADS: Table = TableDefinition::new("downloads");
const ROOTS: Table = TableDefinition::new("roots");
const FACTS: Table = TableDefinition::new("facts");

const FORMAT_KEY: &[u8] = b"format";
const FORMAT: &[u8] = b"1";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("the local store: {0}")]
    Database(#[from] redb::Error),
    /// It was written by a later version of this program.
    #[error("the local store was written by a later version of rockpool: use that one")]
    LaterFormat,
    /// A record does not decode.
    #[error("the local store holds a damaged {0}")]
    Damaged(&'static str),
}

macro_rules! database_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                StoreError::Database(error.into())
            }
        }
    )*};
}
database_errors!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

type Result<T> = std::result::Result<T, StoreError>;

/// The local store. Cheap to clone; all calls block.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
}

impl Store {
    /// Opens or makes the file, which is for its owner only.
    pub fn open(path: &Path) -> Result<Store> {
        let owned = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        owned.and_then(|file| file.set_permissions(Permissions::from_mode(0o600))).map_err(redb::StorageError::Io)?;
        let database = Arc::new(Database::create(path)?);
        let transaction = database.begin_write()?;
        {
            for table in [ENTRIES, MEMBERS, OFFERS, DOWNLOADS, ROOTS] {
                transaction.open_table(table)?;
            }
            let mut facts = transaction.open_table(FACTS)?;
            let format = facts.get(FORMAT_KEY)?.map(|format| format.value().to_vec());
            match format.as_deref() {
                Some(FORMAT) => {}
                Some(_) => return Err(StoreError::LaterFormat),
                None => drop(facts.insert(FORMAT_KEY, FORMAT)?),
            }
        }
        transaction.commit()?;
        Ok(Store { database })
    }

    /// All entries of a pool, ordered by device and counter.
    pub fn entries(&self, pool: PoolId) -> Result<Vec<StoredEntry>> {
        let entries = self.scan(ENTRIES, pool.as_bytes())?;
        let decode = |(_, bytes): (Vec<u8>, Vec<u8>)| {
            StoredEntry::from_bytes(pool, Bytes::from(bytes)).map_err(|_| StoreError::Damaged("message"))
        };
        entries.into_iter().map(decode).collect()
    }

    /// Makes entries durable.
    pub fn put_entries<'a>(&self, pool: PoolId, entries: impl IntoIterator<Item = &'a StoredEntry>) -> Result<()> {
        let entries = entries.into_iter().map(|entry| {
            let mut key = pool.as_bytes().to_vec();
            key.extend_from_slice(entry.id.device.as_bytes());
            key.extend_from_slice(&entry.id.counter.to_be_bytes());
            (key, Some(entry.to_bytes()))
        });
        self.write(ENTRIES, entries)
    }

    /// The members of a pool as last seen.
    pub fn members(&self, pool: PoolId) -> Result<Vec<meta::Member>> {
        let members = self.scan(MEMBERS, pool.as_bytes())?;
        members.into_iter().map(|(_, bytes)| decode(&bytes, "member")).collect()
    }

    /// Remembers members. One that has left stays known: what it wrote must stay verifiable.
    pub fn put_members<'a>(
        &self,
        pool: PoolId,
        members: impl IntoIterator<Item = (AccountId, &'a meta::Member)>,
    ) -> Result<()> {
        let members = members
            .into_iter()
            .map(|(account, member)| (joined(pool, account.as_bytes()), Some(member.encode_to_vec())));
        self.write(MEMBERS, members)
    }

    /// Our own open offers in a pool, by the counter of the entry that offers them.
    pub fn offers(&self, pool: PoolId) -> Result<Vec<(u64, OfferRecord)>> {
        let offers = self.scan(OFFERS, pool.as_bytes())?;
        offers
            .into_iter()
            .map(|(key, bytes)| {
                let counter = key[PoolId::LENGTH..].try_into().map_err(|_| StoreError::Damaged("offer"))?;
                Ok((u64::from_be_bytes(counter), decode(&bytes, "offer")?))
            })
            .collect()
    }

    /// Remembers where an own offer's files lie; `None` forgets.
    pub fn put_offer(&self, pool: PoolId, counter: u64, offer: Option<&OfferRecord>) -> Result<()> {
        self.write(OFFERS, [(joined(pool, &counter.to_be_bytes()), offer.map(OfferRecord::encode_to_vec))])
    }

    /// Downloads of a pool, finished ones too.
    pub fn downloads(&self, pool: PoolId) -> Result<Vec<DownloadRecord>> {
        let downloads = self.scan(DOWNLOADS, pool.as_bytes())?;
        downloads.into_iter().map(|(_, bytes)| decode(&bytes, "download")).collect()
    }

    /// One download.
    pub fn download(&self, pool: PoolId, manifest_root: Root) -> Result<Option<DownloadRecord>> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(DOWNLOADS)?;
        let found = table.get(joined(pool, &manifest_root.0).as_slice())?;
        found.map(|bytes| decode(bytes.value(), "download")).transpose()
    }

    /// Remembers a download; `None` forgets.
    pub fn put_download(&self, pool: PoolId, manifest_root: Root, download: Option<&DownloadRecord>) -> Result<()> {
        self.write(DOWNLOADS, [(joined(pool, &manifest_root.0), download.map(DownloadRecord::encode_to_vec))])
    }

    /// Remembers the roots of files.
    pub fn put_roots<'a>(&self, roots: impl IntoIterator<Item = (&'a Path, FileStamp, Root)>) -> Result<()> {
        let roots = roots.into_iter().map(|(path, stamp, root)| {
            let record = RootRecord::new(&stamp, root).encode_to_vec();
            (path.as_os_str().as_encoded_bytes().to_vec(), Some(record))
        });
        self.write(ROOTS, roots)
    }

    fn scan(&self, table: Table, prefix: &[u8; 16]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(table)?;
        let mut found = Vec::new();
        for row in table.range(prefix.as_slice()..)? {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// One durable transaction; `None` removes.
    fn write(&self, table: Table, rows: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(table)?;
            for (key, value) in rows {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl RootCache for Store {
    fn root(&self, path: &Path, stamp: &FileStamp) -> Option<Root> {
        let transaction = self.database.begin_read().ok()?;
        let table = transaction.open_table(ROOTS).ok()?;
        let found = table.get(path.as_os_str().as_encoded_bytes()).ok()??;
        let record: RootRecord = decode(found.value(), "root").ok()?;
        (record.stamp() == *stamp).then(|| record.root()).flatten()
    }
}

fn joined(pool: PoolId, rest: &[u8]) -> Vec<u8> {
    [pool.as_bytes(), rest].concat()
}

fn decode<M: prost::Message + Default>(bytes: &[u8], what: &'static str) -> Result<M> {
    M::decode(bytes).map_err(|_| StoreError::Damaged(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rockpool_peer_core::entry::HybridTime;
    use rockpool_peer_core::{Body, DeviceKeys};

    fn entry(pool: PoolId, counter: u64) -> StoredEntry {
        let keys = DeviceKeys::from_secret(&[1; 32]);
        let text = Body::Text(format!("message {counter}"));
        let previous = (counter > 1).then(|| entry(pool, counter - 1).hash());
        StoredEntry::write(&keys, pool, counter, previous, HybridTime { ms: counter, counter: 0 }, counter, text)
    }

    #[test]
    fn what_was_said_is_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(Store::open(&path).unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(Store::open(&path).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn pools_are_kept_apart_and_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let (one, other) = (PoolId([1; 16]), PoolId([2; 16]));
        {
            let store = Store::open(&path).unwrap();
            store.put_entries(one, &[entry(one, 1), entry(one, 2)]).unwrap();
            store.put_entries(other, &[entry(other, 1)]).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.entries(one).unwrap(), [entry(one, 1), entry(one, 2)]);
        assert_eq!(store.entries(other).unwrap(), [entry(other, 1)]);
        assert!(store.entries(PoolId([3; 16])).unwrap().is_empty());
    }

    #[test]
    fn offers_and_downloads_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let (pool, root) = (PoolId([1; 16]), Root([9; 32]));
        let offer = OfferRecord { manifest: vec![1], sources: vec![SourceRecord::default()], withdrawn: false };
        store.put_offer(pool, 7, Some(&offer)).unwrap();
        assert_eq!(store.offers(pool).unwrap(), [(7, offer)]);
        store.put_offer(pool, 7, None).unwrap();
        assert!(store.offers(pool).unwrap().is_empty());
        let download = DownloadRecord { to: b"/tmp".to_vec(), ..Default::default() };
        store.put_download(pool, root, Some(&download)).unwrap();
        assert_eq!(store.download(pool, root).unwrap(), Some(download));
        store.put_download(pool, root, None).unwrap();
        assert!(store.downloads(pool).unwrap().is_empty());
    }

    #[test]
    fn a_root_counts_while_the_file_looks_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let stamp = FileStamp { size_bytes: 5, mtime_ns: -3, inode: 1, device: 2 };
        store.put_roots([(Path::new("/a"), stamp, Root([3; 32]))]).unwrap();
        assert_eq!(store.root(Path::new("/a"), &stamp), Some(Root([3; 32])));
        assert_eq!(store.root(Path::new("/a"), &FileStamp { mtime_ns: -2, ..stamp }), None);
        assert_eq!(store.root(Path::new("/b"), &stamp), None);
    }
}
