//! The data folder: its layout, its lock, and files that are written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rockpool_proto::NodeId;

use super::{ClusterId, Identity};
use crate::error::StartError;

/// The layout's version; a newer one is refused.
const FORMAT: u32 = 1;
/// Bytes in any of the small files of a folder.
const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A data folder that this process holds.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Holds the advisory lock while it is open.
    _lock: File,
}

/// Whether the store has been opened under the folder's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Not yet: the node got its identity and stopped before its store was there.
    Absent,
    /// It has: from now on an empty store means lost data.
    Opened,
}

/// What `identity.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRecord {
    /// Who the node is.
    pub identity: Identity,
    /// Whether its store exists.
    pub store: StoreState,
}

impl DataFolder {
    /// Opens the folder, making it if needed, and locks it.
    pub fn open(path: &Path) -> Result<DataFolder, StartError> {
        make_folder(path)?;
        make_folder(&path.join("tls"))?;
        // For its owner only, even below a folder that somebody else made for everybody.
        let store = path.join("store");
        make_folder(&store)?;
        fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).map_err(StartError::io("protect", &store))?;
        let lock_path = path.join("LOCK");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&lock_path).map_err(StartError::io("open", &lock_path))?;
        if let Err(error) = lock.try_lock() {
            return Err(match error {
                fs::TryLockError::WouldBlock => {
                    let mut text = String::new();
                    let _ = (&mut lock).take(32).read_to_string(&mut text);
                    StartError::Locked { path: path.to_owned(), process: text.trim().parse().ok() }
                }
                fs::TryLockError::Error(source) => StartError::Io { action: "lock", path: lock_path, source },
            });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(StartError::io("write", &lock_path))?;
        Ok(DataFolder { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's part of it.
    pub fn store_path(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Who the node is, if it has been somebody.
    pub fn read_identity(&self) -> Result<Option<IdentityRecord>, StartError> {
        read_identity(&self.path)
    }

    /// Writes who the node is.
    pub fn write_identity(&self, record: &IdentityRecord) -> Result<(), StartError> {
        let store = match record.store {
            StoreState::Absent => "absent",
            StoreState::Opened => "opened",
        };
        let text = format!(
            "# This folder belongs to one node of one cluster. Written by rockpool-node; do not edit, do not copy.\n\
             format = {FORMAT}\ncluster = \"{}\"\nnode = {}\nstore = \"{store}\"\n",
            record.identity.cluster_id, record.identity.node_id.0
        );
        write_whole(&self.path.join("identity.toml"), text.as_bytes(), 0o644)
    }

    /// Refuses a folder whose identity has acknowledged things that its store no longer holds.
    pub fn check_store(&self, record: &IdentityRecord) -> Result<(), StartError> {
        let empty = !holds_data(&self.store_path());
        if record.store == StoreState::Opened && empty {
            return Err(StartError::Damaged {
                path: self.path.clone(),
                reason: format!(
                    "this was node {} of cluster {}, but its store is gone. A node that forgot its votes must not come \
                     back under its old number: move this folder away and join again with a new token (`rockpool-node \
                     token` on another member)",
                    record.identity.node_id, record.identity.cluster_id
                ),
            });
        }
        if record.store == StoreState::Absent && !empty {
            // The process died between making the store and noting it. What the store holds decides.
            return self.write_identity(&IdentityRecord { store: StoreState::Opened, ..record.clone() });
        }
        Ok(())
    }
}

/// Whether any of a store's own folders holds a file. What lies beside them (locks) is no data.
fn holds_data(store: &Path) -> bool {
    let folders = fs::read_dir(store).into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter_map(|folder| fs::read_dir(folder).ok()).any(|mut entries| entries.next().is_some())
}

/// Reads `identity.toml` of a folder that another process may hold.
pub(crate) fn read_identity(folder: &Path) -> Result<Option<IdentityRecord>, StartError> {
    let path = folder.join("identity.toml");
    let Some(text) = read_small(&path)? else {
        if holds_data(&folder.join("store")) {
            return Err(StartError::Damaged {
                path: folder.to_owned(),
                reason:
                    "it holds a store but no identity.toml, so nobody can say which node it belongs to; restore that \
                         file, or choose an empty folder and join again"
                        .to_owned(),
            });
        }
        return Ok(None);
    };
    let damaged = |reason: &str| StartError::Damaged {
        path: path.clone(),
        reason: format!("{reason}; restore the file from a copy, or choose an empty folder and join again"),
    };
    let table: toml::Table = text.parse().map_err(|_| damaged("it can't be read"))?;
    let format = table.get("format").and_then(toml::Value::as_integer);
    if format != Some(i64::from(FORMAT)) {
        return Err(damaged("it was written by another version of rockpool-node"));
    }
    let cluster = table.get("cluster").and_then(toml::Value::as_str).and_then(|text| hex::decode(text).ok());
    let cluster_id = cluster.and_then(|bytes| ClusterId::try_from(&bytes[..]).ok());
    let node = table.get("node").and_then(toml::Value::as_integer).and_then(|id| u64::try_from(id).ok());
    let node_id = node.filter(|id| *id > 0).map(NodeId);
    let store = match table.get("store").and_then(toml::Value::as_str) {
        Some("absent") => Some(StoreState::Absent),
        Some("opened") => Some(StoreState::Opened),
        _ => None,
    };
    match (cluster_id, node_id, store) {
        (Some(cluster_id), Some(node_id), Some(store)) => {
            Ok(Some(IdentityRecord { identity: Identity { cluster_id, node_id }, store }))
        }
        _ => Err(damaged("it is incomplete")),
    }
}

/// The text of a small file; `None` when there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<String>, StartError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StartError::Io { action: "read", path: path.to_owned(), source }),
    };
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text).map_err(StartError::io("read", path))?;
    Ok(Some(text))
}

/// Replaces a file whole: a crash leaves the old one or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StartError> {
    let temporary = path.with_extension("new");
    let failed = || StartError::io("write", path);
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&temporary).map_err(failed())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed())?;
    fs::rename(&temporary, path).map_err(failed())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(StartError::io("make the folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(store: StoreState) -> IdentityRecord {
        IdentityRecord { identity: Identity { cluster_id: ClusterId([7; 16]), node_id: NodeId(3) }, store }
    }

    #[test]
    fn a_second_process_is_refused_and_told_who_holds_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let held = DataFolder::open(&path).unwrap();
        let error = DataFolder::open(&path).unwrap_err();
        assert!(matches!(&error, StartError::Locked { process: Some(id), .. } if *id == std::process::id()), "{error}");
        drop(held);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn an_identity_survives_and_its_damage_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        assert_eq!(folder.read_identity().unwrap(), None);
        folder.write_identity(&record(StoreState::Opened)).unwrap();
        assert_eq!(folder.read_identity().unwrap(), Some(record(StoreState::Opened)));
        for text in ["", "format = 2\n", "format = 1\ncluster = \"07\"\nnode = 3\nstore = \"opened\"\n", "\0"] {
            fs::write(parent.path().join("identity.toml"), text).unwrap();
            assert!(matches!(folder.read_identity(), Err(StartError::Damaged { .. })), "{text:?}");
        }
    }

    #[test]
    fn an_old_identity_does_not_start_on_an_empty_store() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        folder.check_store(&record(StoreState::Absent)).unwrap();
        assert!(folder.check_store(&record(StoreState::Opened)).unwrap_err().to_string().contains("join again"));
        fs::create_dir_all(folder.store_path().join("log")).unwrap();
        fs::write(folder.store_path().join("lock"), "").unwrap();
        assert!(folder.check_store(&record(StoreState::Opened)).is_err());
        fs::write(folder.store_path().join("log/1"), "x").unwrap();
        folder.check_store(&record(StoreState::Opened)).unwrap();
        assert!(folder.read_identity().unwrap_err().to_string().contains("no identity.toml"));
    }
}
