//! From the paths that a person names to the list of files to offer.
//!
//! A link is never followed: what is offered is what lies under the name, not what the name points to, so that nobody
//! offers `/etc` because of a link in a downloaded folder. Links, sockets, devices and pipes, names that are not UTF-8 and
//! what may not be read are left out, each with a sentence; where one was named by the person itself, the offer is
//! refused instead.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rockpool_proto::limits;
use rustix::fs::OFlags;

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
}

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

/// Lists what lies under `paths`. Blocks; `cancelled` ends it.
pub fn walk(paths: &[PathBuf], cancelled: &AtomicBool) -> Result<Walk, WalkError> {
    let mut walk = Walk::default();
    for path in paths {
        let unfit = |why: String| WalkError::Unfit { path: path.clone(), why };
        let metadata = std::fs::symlink_metadata(path).map_err(|error| unfit(error.to_string()))?;
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
            name.push(component);
            if metadata.is_dir() {
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
        let walk = walk(std::slice::from_ref(&root), &AtomicBool::new(false)).unwrap();
        assert_eq!(names(&walk), ["share/a.txt", "share/sub/b.txt", "share/sub/empty"]);
        assert_eq!(walk.warnings.len(), 4, "{:?}", walk.warnings);
    }

    #[test]
    fn what_a_person_names_is_refused_instead() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let error = walk(&[link], &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        let error = walk(&[folder.path().join("nothing")], &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, WalkError::Unfit { .. }));
    }

    #[test]
    fn a_walk_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"a").unwrap();
        assert!(matches!(walk(&[folder.path().to_owned()], &AtomicBool::new(true)), Err(WalkError::Cancelled)));
    }
}
