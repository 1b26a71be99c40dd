//! What this device can serve: the files behind each manifest, and whether they are still what was offered.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;
use rockpool_peer_core::{Outboard, ReadFailure, ReadRange, Root, encode_range};

use super::hash::{HashProgress, OutboardFolder, hash_file};
use super::walk::{FileStamp, open_regular};

/// One file that can be served.
#[derive(Debug)]
pub struct SourceFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it looked like when it was hashed.
    pub stamp: FileStamp,
    /// Its root.
    pub root: Root,
    outboard: OnceLock<Outboard>,
}

impl SourceFile {
    /// A file whose outboard is loaded or computed when it is first asked for.
    pub fn new(path: PathBuf, stamp: FileStamp, root: Root) -> SourceFile {
        SourceFile { path, stamp, root, outboard: OnceLock::new() }
    }

    /// A file that has just been hashed.
    pub fn hashed(path: PathBuf, stamp: FileStamp, outboard: Outboard) -> SourceFile {
        let root = outboard.root();
        SourceFile { path, stamp, root, outboard: OnceLock::from(outboard) }
    }

    /// Whether the file is still there and looks the same.
    pub fn is_unchanged(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file() && FileStamp::of(&found) == self.stamp)
    }

    fn open(&self) -> Result<std::fs::File, ReadFailure> {
        let file = open_regular(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => ReadFailure::SourceChanged,
            // A link in its place.
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => ReadFailure::SourceChanged,
            _ => ReadFailure::Failed(error.to_string()),
        })?;
        let found = file.metadata().map_err(|error| ReadFailure::Failed(error.to_string()))?;
        if FileStamp::of(&found) != self.stamp {
            return Err(ReadFailure::SourceChanged);
        }
        Ok(file)
    }

    fn outboard(&self, folder: &OutboardFolder) -> Option<&Outboard> {
        if self.outboard.get().is_none() {
            let outboard = match folder.load(self.root, self.stamp.size_bytes) {
                Some(outboard) => outboard,
                None => {
                    let outboard = hash_file(&self.path, &self.stamp, &HashProgress::default()).ok()?;
                    folder.keep(&outboard);
                    outboard
                }
            };
            let _ = self.outboard.set(outboard);
        }
        self.outboard.get().filter(|outboard| outboard.root() == self.root)
    }
}

/// The files of one manifest, by position; `None` for folders.
#[derive(Debug)]
pub struct Source {
    /// In the manifest's order.
    pub files: Vec<Option<SourceFile>>,
}

impl Source {
    /// Whether all files are still what was offered.
    pub fn is_unchanged(&self) -> bool {
        self.files.iter().flatten().all(SourceFile::is_unchanged)
    }
}

/// All that can be served, by manifest.
#[derive(Debug)]
pub struct Sources {
    folder: OutboardFolder,
    known: RwLock<HashMap<Root, Arc<Source>>>,
}

impl Sources {
    /// Nothing yet.
    pub fn new(folder: OutboardFolder) -> Sources {
        Sources { folder, known: RwLock::new(HashMap::new()) }
    }

    /// Where outboards are kept.
    pub fn folder(&self) -> &OutboardFolder {
        &self.folder
    }

    /// Adds or replaces what serves a manifest.
    pub fn share(&self, manifest_root: Root, source: Arc<Source>) {
        self.known.write().insert(manifest_root, source);
    }

    /// Whether something serves it.
    pub fn contains(&self, manifest_root: Root) -> bool {
        self.known.read().contains_key(&manifest_root)
    }

    /// Serves a manifest no longer.
    pub fn remove(&self, manifest_root: Root) {
        self.known.write().remove(&manifest_root);
    }

    /// Reads a part of a request into frames. Blocks.
    pub fn read(&self, range: &ReadRange) -> Result<Vec<Bytes>, ReadFailure> {
        let source = self.known.read().get(&range.manifest_root).cloned().ok_or(ReadFailure::SourceChanged)?;
        let file = |position: u32| source.files.get(position as usize).and_then(Option::as_ref);
        // One open file at a time: pieces of a range come file by file.
        let mut open: Option<(u32, std::fs::File)> = None;
        encode_range(
            range,
            |position| file(position).and_then(|file| file.outboard(&self.folder)),
            |position, offset, buffer| {
                if open.as_ref().is_none_or(|(known, _)| *known != position) {
                    let file = file(position).ok_or_else(|| ReadFailure::Failed("no such file".into()))?;
                    open = Some((position, file.open()?));
                }
                let (_, file) = open.as_ref().expect("it was opened above");
                file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => ReadFailure::SourceChanged,
                    _ => ReadFailure::Failed(error.to_string()),
                })
            },
        )
    }
}
