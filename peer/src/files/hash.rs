//! Reading what is to be offered: each file once, on all cores, into its hash tree.
//!
//! A hash tree that was computed before is used again while size, time and inode are the same. What is cached is not
//! believed: group hashes that do not lead to the remembered root are computed anew, and the sender compares every group
//! with its hash once more when it sends.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rayon::prelude::*;
use rockpool_peer_core::{Outboard, OutboardBuilder, Root};

use super::walk::{FileStamp, Found, WalkError, open_regular};

/// Bytes read at a time: whole groups.
const READ_BYTES: usize = 1024 * 1024;
/// Files smaller than this have no outboard on disk: hashing them is as fast as reading it.
const KEPT_SIZE_BYTES_MIN: u64 = 1024 * 1024;

/// How far hashing is. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct HashProgress {
    /// Set to stop.
    pub cancelled: AtomicBool,
    /// Bytes read.
    pub done_bytes: AtomicU64,
    /// Files read.
    pub done_files: AtomicU64,
}

/// Remembers the roots of files seen before.
pub trait RootCache: Sync {
    /// The root of the file at `path` when it looked like `stamp`.
    fn root(&self, path: &Path, stamp: &FileStamp) -> Option<Root>;
}

/// A file with its hash tree.
#[derive(Debug)]
pub struct Hashed {
    /// The file.
    pub found: Found,
    /// `None` for an empty folder.
    pub outboard: Option<Outboard>,
}

/// The folder of outboards.
#[derive(Clone, Debug)]
pub struct OutboardFolder {
    path: PathBuf,
}

impl OutboardFolder {
    /// Makes the folder if need be.
    pub fn open(path: PathBuf) -> io::Result<OutboardFolder> {
        fs::create_dir_all(&path)?;
        Ok(OutboardFolder { path })
    }

    /// The outboard of a file with this root, if there is a sound one.
    pub fn load(&self, root: Root, size_bytes: u64) -> Option<Outboard> {
        let hashes = fs::read(self.path.join(root.to_string())).ok()?;
        Outboard::new(size_bytes, root, Bytes::from(hashes)).ok()
    }

    /// Keeps an outboard. It need not survive a crash: what is missing or damaged is computed again.
    pub fn keep(&self, outboard: &Outboard) {
        if outboard.size_bytes() < KEPT_SIZE_BYTES_MIN {
            return;
        }
        let path = self.path.join(outboard.root().to_string());
        let neighbour = path.with_extension("new");
        let kept = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&neighbour)
            .and_then(|mut file| file.write_all(outboard.group_hashes()))
            .and_then(|()| fs::rename(&neighbour, &path));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "an outboard could not be kept; the file will be read again");
        }
    }
}

/// Hashes files, several at a time. The order stays.
pub fn hash_files(
    found: Vec<Found>,
    cache: &dyn RootCache,
    folder: &OutboardFolder,
    progress: &HashProgress,
) -> Result<Vec<Hashed>, WalkError> {
    found
        .into_par_iter()
        .map(|found| {
            let Some(stamp) = found.stamp else { return Ok(Hashed { found, outboard: None }) };
            let known = cache.root(&found.path, &stamp).and_then(|root| folder.load(root, stamp.size_bytes));
            let outboard = match known {
                Some(outboard) => {
                    progress.done_bytes.fetch_add(stamp.size_bytes, Ordering::Relaxed);
                    outboard
                }
                None => {
                    let outboard = hash_file(&found.path, &stamp, progress)?;
                    folder.keep(&outboard);
                    outboard
                }
            };
            progress.done_files.fetch_add(1, Ordering::Relaxed);
            Ok(Hashed { found, outboard: Some(outboard) })
        })
        .collect()
}

/// Hashes one file, which must be what `stamp` says from the first byte to the last.
pub fn hash_file(path: &Path, stamp: &FileStamp, progress: &HashProgress) -> Result<Outboard, WalkError> {
    let unfit = |why: String| WalkError::Unfit { path: path.to_owned(), why };
    let failed = |error: io::Error| unfit(error.to_string());
    let changed = || unfit("it is being changed while it is read; offer it when it is complete".into());
    let mut file = open_regular(path).map_err(failed)?;
    let mut builder = OutboardBuilder::new();
    let length = usize::try_from(stamp.size_bytes).unwrap_or(READ_BYTES).clamp(1, READ_BYTES);
    let mut buffer = vec![0; length];
    let mut left = stamp.size_bytes;
    while left > 0 {
        if progress.cancelled.load(Ordering::Relaxed) {
            return Err(WalkError::Cancelled);
        }
        let part = &mut buffer[..usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES)];
        file.read_exact(part).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => failed(error),
        })?;
        builder.update(part);
        left -= part.len() as u64;
        progress.done_bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    if FileStamp::of(&file.metadata().map_err(failed)?) != *stamp {
        return Err(changed());
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Known(HashMap<PathBuf, (FileStamp, Root)>);

    impl RootCache for Known {
        fn root(&self, path: &Path, stamp: &FileStamp) -> Option<Root> {
            self.0.get(path).filter(|(known, _)| known == stamp).map(|(_, root)| *root)
        }
    }

    fn found(path: &Path) -> Found {
        let stamp = FileStamp::of(&fs::metadata(path).unwrap());
        Found { path: path.to_owned(), name: vec!["f".into()], stamp: Some(stamp), executable: false }
    }

    #[test]
    fn roots_are_blake3_and_cached_outboards_are_used_and_distrusted() {
        let folder = tempfile::tempdir().unwrap();
        let outboards = OutboardFolder::open(folder.path().join("outboards")).unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..3_000_001u32).map(|at| (at % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let root = Root::of(&content);
        let mut cache = Known(HashMap::new());
        let hash = |cache: &Known| {
            let progress = HashProgress::default();
            hash_files(vec![found(&path)], cache, &outboards, &progress).unwrap().pop().unwrap().outboard.unwrap()
        };
        assert_eq!(hash(&cache).root(), root);

        // A cached root is taken for the file without reading it: shown by a cache that names another sound outboard.
        let other = folder.path().join("other");
        fs::write(&other, vec![7; content.len()]).unwrap();
        let other = hash_file(&other, &found(&other).stamp.unwrap(), &HashProgress::default()).unwrap();
        outboards.keep(&other);
        cache.0.insert(path.clone(), (found(&path).stamp.unwrap(), other.root()));
        assert_eq!(hash(&cache).root(), other.root());

        // A damaged one is not.
        let kept = folder.path().join("outboards").join(other.root().to_string());
        let mut bytes = fs::read(&kept).unwrap();
        bytes[40] ^= 1;
        fs::write(&kept, bytes).unwrap();
        assert_eq!(hash(&cache).root(), root);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"before").unwrap();
        let stamp = found(&path).stamp.unwrap();
        fs::write(&path, b"longer than before").unwrap();
        let error = hash_file(&path, &stamp, &HashProgress::default()).unwrap_err();
        assert!(error.to_string().contains("being changed"), "{error}");
    }
}
