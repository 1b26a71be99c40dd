//! What RocksDB reports, sorted by reaction.

use rockpool_engine::kv::StoreError;
use rocksdb::{Error, ErrorKind};
use std::path::Path;

/// Sorts an error: damage, or input/output that failed, with a full disk told apart.
pub(crate) fn store_error(error: Error) -> StoreError {
    let kind = error.kind();
    let text = error.into_string();
    match kind {
        // The message names the file and offset.
        ErrorKind::Corruption => StoreError::Corrupt { what: text },
        _ => StoreError::Io { full: is_full(&text), text },
    }
}

/// Sorts an error of opening `folder`; RocksDB doesn't always say which file it was reading.
pub(crate) fn open_error(folder: &Path, error: Error) -> StoreError {
    match store_error(error) {
        StoreError::Corrupt { what } => corrupt(format!("{}: {what}", folder.display())),
        other => other,
    }
}

/// RocksDB hands errors over as text alone; the operating system's words for ENOSPC and EDQUOT are part of it.
fn is_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

/// Damage that we found ourselves.
pub(crate) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        assert!(is_full("IO error: No space left on device: While appending to file: /x/000012.log"));
        assert!(!is_full("IO error: While lock file: /x/LOCK: Resource temporarily unavailable"));
    }
}
