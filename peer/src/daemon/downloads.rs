//! Downloads: what is on disk, what is remembered, and who waits.
//!
//! A download is remembered from the moment it is asked for, so that asking again after a crash resumes it. What the
//! journal of an earlier run claims is compared with the disk first ([`audit`]): a `.part` file that is gone loses its
//! claims, and a file that was given its name just before the crash counts as finished. The same comparison makes a fresh
//! download skip what lies in the folder already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rockpool_peer_core::transfer::ItemProgress;
use rockpool_peer_core::{DownloadJournal, EntryId, ItemKind, Manifest, Root};

use super::caller::Caller;
use crate::api::{ApiError, ErrorCode, ProgressView};
use crate::files::{Audit, DiskError, Download, SourceFile};
use crate::store::{DownloadRecord, DownloadState, RootRecord, SourceRecord};

/// A download under way.
pub(super) struct Running {
    pub(super) offer: EntryId,
    pub(super) root: Root,
    pub(super) to: PathBuf,
    /// `None` until the manifest has come and the folder is open.
    pub(super) disk: Option<Arc<Download>>,
    /// Who wants to hear of progress and end.
    pub(super) waiters: Vec<Caller>,
    pub(super) started: Instant,
    pub(super) received_bytes: u64,
    pub(super) paused: bool,
    pub(super) speed: Speed,
    /// The last thing that was told.
    pub(super) shown: Option<ProgressView>,
}

/// What was found out about an earlier run's download.
pub(super) struct Audited {
    pub(super) offer: EntryId,
    pub(super) root: Root,
    pub(super) to: PathBuf,
    pub(super) caller: Caller,
    pub(super) found: Result<Option<(Arc<Download>, DownloadJournal)>, ApiError>,
}

/// A download's folder, ready to be written.
pub(super) struct Opened {
    pub(super) disk: Arc<Download>,
    /// Set when part of the offer lies in the folder already: what need not come.
    pub(super) there: Option<DownloadJournal>,
}

/// A download that is complete.
pub(super) struct Completion {
    pub(super) result: Result<Vec<PathBuf>, ApiError>,
    /// What can be served now.
    pub(super) source: Option<crate::files::Source>,
}

/// Bytes a second, lately.
#[derive(Debug, Default)]
pub(super) struct Speed {
    last: Option<(Instant, u64)>,
    bytes_per_second: f64,
}

impl Speed {
    /// Takes a new count and gives the speed.
    pub(super) fn update(&mut self, now: Instant, done_bytes: u64) -> f64 {
        match self.last {
            None => self.last = Some((now, done_bytes)),
            Some((then, before)) => {
                let seconds = now.duration_since(then).as_secs_f64();
                if seconds > 0.05 {
                    let lately = done_bytes.saturating_sub(before) as f64 / seconds;
                    // About the last second counts.
                    let weight = if self.bytes_per_second == 0.0 { 1.0 } else { seconds.min(1.0) };
                    self.bytes_per_second += weight * (lately - self.bytes_per_second);
                    self.last = Some((now, done_bytes));
                }
            }
        }
        self.bytes_per_second
    }
}

/// A refusal of the disk as callers hear it.
pub(super) fn disk_error(error: DiskError) -> ApiError {
    let code = match &error {
        DiskError::InTheWay { .. } => ErrorCode::Invalid,
        _ => ErrorCode::Disk,
    };
    ApiError::new(code, error.to_string())
}

/// Compares what is remembered of a download with the disk. Blocks, and reads what is finished.
pub(super) fn audit(record: &DownloadRecord) -> Result<Option<(Arc<Download>, DownloadJournal)>, ApiError> {
    let encoded = Bytes::copy_from_slice(&record.manifest);
    let Ok(manifest) = Manifest::decode(Root::of(&encoded), encoded) else { return Ok(None) };
    let known = DownloadJournal::decode(Bytes::copy_from_slice(&record.journal)).ok();
    let known = known.filter(|journal| journal.manifest_root == manifest.root());
    let disk = Arc::new(Download::open(&record.to_path(), Arc::new(manifest)).map_err(disk_error)?);
    let journal = compare(&disk, known.as_ref())?;
    Ok(Some((disk, journal)))
}

/// What lies in the folder already, whoever put it there. Blocks, and reads every file that could be one of the download.
pub(super) fn compare(disk: &Download, known: Option<&DownloadJournal>) -> Result<DownloadJournal, ApiError> {
    let mut journal = DownloadJournal::new(disk.manifest().root());
    for (position, item) in (0u32..).zip(disk.manifest().items()) {
        if item.kind == ItemKind::Folder {
            continue;
        }
        let claimed = known.and_then(|known| known.items.get(&position));
        let progress = match disk.audit(position).map_err(disk_error)? {
            Audit::Finished => Some(ItemProgress::Finished),
            Audit::Kept => claimed.filter(|claimed| matches!(claimed, ItemProgress::Partial(_))).cloned(),
            Audit::Lost => None,
        };
        if let Some(progress) = progress {
            journal.items.insert(position, progress);
        }
    }
    Ok(journal)
}

/// The record of a download that begins.
pub(super) fn record(offer: EntryId, to: &std::path::Path) -> DownloadRecord {
    DownloadRecord {
        offer_device: offer.device.as_bytes().to_vec(),
        offer_counter: offer.counter,
        to: to.as_os_str().as_encoded_bytes().to_vec(),
        ..Default::default()
    }
}

/// Turns a record into that of a finished download, with where its files lie, so that they can be served.
pub(super) fn finish(record: &mut DownloadRecord, files: &[Option<SourceFile>]) {
    record.state = DownloadState::Finished as i32;
    record.journal.clear();
    record.sources = files
        .iter()
        .map(|file| match file {
            None => SourceRecord::default(),
            Some(file) => SourceRecord {
                path: file.path.as_os_str().as_encoded_bytes().to_vec(),
                seen: Some(RootRecord::new(&file.stamp, file.root)),
            },
        })
        .collect();
}
