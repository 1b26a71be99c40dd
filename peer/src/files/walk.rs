//! From the paths that a person names to the list of files to offer.
//!
//! A link is never followed: what is offered is what lies under the name, not what the name points to, so that nobody
//! offers `/etc` because of a link in a downloaded folder. Links, sockets, devices and pipes, names that are not UTF-8 and
//! what may not be read are left out, each with a sentence; where one was named by the person itself, the offer is
//! refused instead. This device's own home, with its keys, is never offered, and neither are unfinished downloads.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rockpool_proto::limits;
use rustix::fs::OFlags;

use super::receive::{PART_PREFIX, PART_SUFFIX};

/// Sentences about what was left out that are kept; the rest is counted.
const WARNINGS_MAX: usize = 20;

/// What tells a file from a changed or another one without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Length.
    pub size_bytes: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Inode number.
    pub inode: u64,
    /// File system.
    pub device: u64,
}

impl FileStamp {
    /// Of an open file or a path's metadata.
    pub fn of(metadata: &Metadata) -> FileStamp {
        FileStamp {
            size_bytes: metadata.len(),
            mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// A file or an empty folder to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in the offer, component by component.
    pub name: Vec<String>,
    /// `None` for an empty folder.
    pub stamp: Option<FileStamp>,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Walk {
    /// In no particular order.
    pub found: Vec<Found>,
    /// What was left out, for people.
    pub warnings: Vec<String>,
    /// What was left out beyond those.
    pub warnings_unsaid: usize,
    /// Device and inode of the folder that is never offered.
    home: Option<(u64, u64)>,
}

const HOME: &str = "it holds this device's keys and history, and is not offered";

/// Why nothing can be offered.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A path that the person named cannot be offered.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// More files than an offer may hold.
    #[error("more than {} files: make several offers of it", limits::FILES_PER_OFFER_MAX)]
    TooMany,
    /// Stopped.
    #[error("cancelled")]
    Cancelled,
}

/// Opens a file for reading, and only if it is one: no link, and no pipe that would make us wait.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).expect("open flags fit an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an ordinary file"));
    }
    Ok(file)
}

/// Lists what lies under `paths`, less what lies under `home`. Blocks; `cancelled` ends it.
pub fn walk(paths: &[PathBuf], home: &Path, cancelled: &AtomicBool) -> Result<Walk, WalkError> {
    let home = std::fs::metadata(home).ok().map(|found| (found.dev(), found.ino()));
    let mut walk = Walk { home, ..Walk::default() };
    let mut named_before = BTreeSet::new();
    for path in paths {
        let unfit = |why: String| WalkError::Unfit { path: path.clone(), why };
        let metadata = std::fs::symlink_metadata(path).map_err(|error| unfit(error.to_string()))?;
        if !metadata.is_symlink() && path.canonicalize().is_ok_and(|path| !named_before.insert(path)) {
            continue; // The same once more.
        }
        if walk.is_home(&metadata) {
            return Err(unfit(HOME.into()));
        }
        // `.` and `..` have no name of their own; where they lead has one.
        let named = match path.file_name() {
            Some(_) => path.clone(),
            None => path.canonicalize().map_err(|error| unfit(error.to_string()))?,
        };
        let name = named.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| unfit("it has no name, or one that is not UTF-8".into()))?.to_owned();
        if metadata.is_file() {
            open_regular(path).map_err(|error| unfit(error.to_string()))?;
            walk.push_file(path.clone(), vec![name], &metadata)?;
        } else if metadata.is_dir() {
            walk.folder(path, &mut vec![name], cancelled).map_err(|error| match error {
                FolderError::Unreadable(why) => unfit(why),
                FolderError::Ended(error) => error,
            })?;
        } else {
            return Err(unfit(format!("{} cannot be offered", kind_of(&metadata))));
        }
    }
    Ok(walk)
}

enum FolderError {
    Unreadable(String),
    Ended(WalkError),
}

impl Walk {
    fn folder(&mut self, path: &Path, name: &mut Vec<String>, cancelled: &AtomicBool) -> Result<(), FolderError> {
        if name.len() > limits::FILE_DEPTH_MAX {
            return Err(FolderError::Unreadable(format!("more than {} folders deep", limits::FILE_DEPTH_MAX)));
        }
        let entries = std::fs::read_dir(path).map_err(|error| FolderError::Unreadable(error.to_string()))?;
        let mut empty = true;
        for entry in entries {
            if cancelled.load(Ordering::Relaxed) {
                return Err(FolderError::Ended(WalkError::Cancelled));
            }
            let entry = entry.map_err(|error| FolderError::Unreadable(error.to_string()))?;
            empty = false;
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.warn(&path, &error.to_string());
                    continue;
                }
            };
            let Ok(component) = entry.file_name().into_string() else {
                self.warn(&path, "its name is not UTF-8");
                continue;
            };
            if component.starts_with(PART_PREFIX) && component.ends_with(PART_SUFFIX) {
                self.warn(&path, "an unfinished download is not offered");
                continue;
            }
            name.push(component);
            if self.is_home(&metadata) {
                self.warn(&path, HOME);
            } else if metadata.is_dir() {
                match self.folder(&path, name, cancelled) {
                    Ok(()) => {}
                    Err(FolderError::Unreadable(why)) => self.warn(&path, &why),
                    Err(ended) => return Err(ended),
                }
            } else if !metadata.is_file() {
                self.warn(&path, &format!("{} is not offered", kind_of(&metadata)));
            } else if let Err(error) = open_regular(&path) {
                self.warn(&path, &error.to_string());
            } else {
                self.push_file(path, name.clone(), &metadata).map_err(FolderError::Ended)?;
            }
            name.pop();
        }
        if empty {
            self.push(Found { path: path.to_owned(), name: name.clone(), stamp: None, executable: false })
                .map_err(FolderError::Ended)?;
        }
        Ok(())
    }

    fn is_home(&self, metadata: &Metadata) -> bool {
        self.home == Some((metadata.dev(), metadata.ino()))
    }

    fn push_file(&mut self, path: PathBuf, name: Vec<String>, metadata: &Metadata) -> Result<(), WalkError> {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        self.push(Found { path, name, stamp: Some(FileStamp::of(metadata)), executable })
    }

    fn push(&mut self, found: Found) -> Result<(), WalkError> {
        if self.found.len() == limits::FILES_PER_OFFER_MAX {
            return Err(WalkError::TooMany);
        }
        self.found.push(found);
        Ok(())
    }

    fn warn(&mut self, path: &Path, why: &str) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(format!("{}: {why}", path.display()));
        } else {
            self.warnings_unsaid += 1;
        }
    }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        "a symbolic link (links are not followed)"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    const NO_HOME: &str = "/nowhere/at/all";

    fn names(walk: &Walk) -> Vec<String> {
        let mut names: Vec<String> = walk.found.iter().map(|found| found.name.join("/")).collect();
        names.sort();
        names
    }

    #[test]
    fn links_special_files_and_strange_names_are_left_out_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("share");
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::write(root.join("a.txt"), b"a").unwrap();
        fs::write(root.join("sub/b.txt"), b"b").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("sub/linked")).unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), b"x").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let walk = walk(std::slice::from_ref(&root), NO_HOME.as_ref(), &AtomicBool::new(false)).unwrap();
        assert_eq!(names(&walk), ["share/a.txt", "share/sub/b.txt", "share/sub/empty"]);
        assert_eq!(walk.warnings.len(), 4, "{:?}", walk.warnings);
    }

    #[test]
    fn keys_and_unfinished_downloads_are_never_offered() {
        let folder = tempfile::tempdir().unwrap();
        let (root, home) = (folder.path().join("me"), folder.path().join("me/.rockpool"));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("device.key"), [1; 64]).unwrap();
        fs::write(root.join("a.txt"), b"a").unwrap();
        fs::write(root.join(".rockpool-3f9a01bc-7.part"), b"half").unwrap();
        let never = AtomicBool::new(false);
        let found = walk(std::slice::from_ref(&root), &home, &never).unwrap();
        assert_eq!(names(&found), ["me/a.txt"]);
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
        let error = walk(std::slice::from_ref(&home), &home, &never).unwrap_err();
        assert!(error.to_string().contains("this device's keys"), "{error}");
    }

    #[test]
    fn a_path_that_is_named_twice_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"a").unwrap();
        let paths = [path.clone(), folder.path().join("./a"), path];
        assert_eq!(names(&walk(&paths, NO_HOME.as_ref(), &AtomicBool::new(false)).unwrap()), ["a"]);
    }

    #[test]
    fn what_a_person_names_is_refused_instead() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = walk(&[link], NO_HOME.as_ref(), &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        let error = walk(&[folder.path().join("nothing")], NO_HOME.as_ref(), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, WalkError::Unfit { .. }));
    }

    #[test]
    fn a_walk_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"a").unwrap();
        let walked = walk(&[folder.path().to_owned()], NO_HOME.as_ref(), &AtomicBool::new(true));
        assert!(matches!(walked, Err(WalkError::Cancelled)));
    }
}
