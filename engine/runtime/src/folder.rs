//! The data folder: whose it is, and how large.

use crate::error::EngineError;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A data folder that nobody else has open. The operating system lets go of it when the process ends, however it ends.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder when it does not exist, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Folder, EngineError> {
        let fail = |error: io::Error| EngineError::Open { folder: path.to_owned(), why: error.to_string() };
        std::fs::create_dir_all(path).map_err(fail)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("engine.lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(EngineError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Both stores' folders.
    pub(crate) fn stores(&self) -> Vec<PathBuf> {
        vec![self.state(), self.log()]
    }
}

/// Bytes of all files in both stores. Files come and go meanwhile; what is gone counts nothing.
pub(crate) fn size_bytes(stores: &[PathBuf]) -> u64 {
    let files = stores.iter().filter_map(|store| std::fs::read_dir(store).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}
