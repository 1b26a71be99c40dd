//! Offering: reading files on threads, then one entry in the log; and taking back what is no longer there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::bytes::Bytes;
use rockpool_peer_core::{EntryId, Item, ItemKind, Manifest, Root};
use tokio::sync::mpsc;

use super::Happening;
use super::caller::Caller;
use crate::api::{ApiError, ErrorCode, Event};
use crate::files::{HashProgress, Hashed, Source, SourceFile, WalkError, hash_files, walk};
use crate::store::{OfferRecord, RootRecord, SourceRecord, Store};

/// How often progress is told while files are read.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Files that were read for an offer.
pub(super) struct Prepared {
    pub(super) caller: Caller,
    pub(super) result: Result<Content, ApiError>,
}

/// What is to be offered.
pub(super) struct Content {
    pub(super) manifest: Manifest,
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) record: OfferRecord,
    pub(super) warnings: Vec<String>,
}

/// Reads files on threads of their own, and says how far it is to whoever asked.
pub(super) fn prepare(
    paths: Vec<PathBuf>,
    home: PathBuf,
    store: Store,
    folder: crate::files::OutboardFolder,
    caller: Caller,
    happenings: mpsc::Sender<Happening>,
) {
    let progress = Arc::new(HashProgress::default());
    let (totals, totals_rx) = tokio::sync::watch::channel(None::<(u64, u64)>);
    tokio::spawn(tell(progress.clone(), totals_rx, caller.clone()));
    let asked = caller.clone();
    let read = move || {
        let result = read(&paths, &home, &store, &folder, &progress, &totals);
        drop(totals); // Ends the telling before the answer.
        let _ = happenings.blocking_send(Happening::Hashed(Box::new(Prepared { caller, result })));
    };
    // Not one of the workers: hashing a large folder must not hold up a transfer.
    if let Err(error) = std::thread::Builder::new().name("rockpool-hash".into()).spawn(read) {
        asked.answer(Err(ApiError::new(ErrorCode::Internal, format!("starting a thread: {error}"))));
    }
}

async fn tell(
    progress: Arc<HashProgress>,
    mut totals: tokio::sync::watch::Receiver<Option<(u64, u64)>>,
    caller: Caller,
) {
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = totals.changed() => if changed.is_err() { return },
        }
        if caller.is_gone() {
            progress.cancelled.store(true, Ordering::Relaxed);
            return;
        }
        let Some((total_bytes, total_files)) = *totals.borrow() else { continue };
        caller.event(Event::Hashing {
            done_bytes: progress.done_bytes.load(Ordering::Relaxed),
            total_bytes,
            done_files: progress.done_files.load(Ordering::Relaxed),
            total_files,
        });
    }
}

fn read(
    paths: &[PathBuf],
    home: &Path,
    store: &Store,
    folder: &crate::files::OutboardFolder,
    progress: &HashProgress,
    totals: &tokio::sync::watch::Sender<Option<(u64, u64)>>,
) -> Result<Content, ApiError> {
    let refused = |error: WalkError| {
        let code = match error {
            WalkError::Unfit { .. } => ErrorCode::Invalid,
            WalkError::TooMany => ErrorCode::Limit,
            WalkError::Cancelled => ErrorCode::Cancelled,
        };
        ApiError::new(code, error.to_string())
    };
    let walked = walk(paths, home, &progress.cancelled).map_err(refused)?;
    let sizes = walked.found.iter().filter_map(|found| found.stamp);
    totals.send_replace(Some((sizes.clone().map(|stamp| stamp.size_bytes).sum(), sizes.count() as u64)));
    let hashed = hash_files(walked.found, store, folder, progress).map_err(refused)?;

    let seen = hashed.iter().filter_map(|hashed| {
        Some((hashed.found.path.as_path(), hashed.found.stamp?, hashed.outboard.as_ref()?.root()))
    });
    if let Err(error) = store.put_roots(seen) {
        tracing::warn!(%error, "the hashes cannot be remembered; the files will be read again next time");
    }

    let mut by_name = HashMap::with_capacity(hashed.len());
    let mut items = Vec::with_capacity(hashed.len());
    for Hashed { found, outboard } in hashed {
        let kind = match (&outboard, found.stamp) {
            (Some(outboard), Some(stamp)) => {
                ItemKind::File { size_bytes: stamp.size_bytes, root: outboard.root(), executable: found.executable }
            }
            _ => ItemKind::Folder,
        };
        items.push(Item { path: found.name.clone(), kind });
        by_name.insert(found.name, (found.path, found.stamp, outboard));
    }
    let manifest = Manifest::new(items)
        .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("this cannot be offered: {error}")))?;

    let mut files = Vec::with_capacity(manifest.items().len());
    let mut sources = Vec::with_capacity(manifest.items().len());
    for item in manifest.items() {
        match by_name.remove(&item.path) {
            Some((path, Some(stamp), Some(outboard))) => {
                sources.push(SourceRecord {
                    path: path.as_os_str().as_encoded_bytes().to_vec(),
                    seen: Some(RootRecord::new(&stamp, outboard.root())),
                });
                files.push(Some(SourceFile::hashed(path, stamp, outboard)));
            }
            _ => {
                sources.push(SourceRecord::default());
                files.push(None);
            }
        }
    }
    let mut warnings = walked.warnings;
    if walked.warnings_unsaid > 0 {
        warnings.push(format!("and {} more", walked.warnings_unsaid));
    }
    let record = OfferRecord { manifest: manifest.encoded().to_vec(), sources, withdrawn: false };
    Ok(Content { name: name_of(&manifest), source: Source { files }, record, warnings, manifest })
}

/// What to call an offer.
fn name_of(manifest: &Manifest) -> String {
    let mut tops: Vec<&str> =
        manifest.items().iter().filter_map(|item| item.path.first().map(String::as_str)).collect();
    tops.dedup();
    match tops.as_slice() {
        [only] => (*only).to_owned(),
        several => format!("{} items", several.len()),
    }
}

/// An offer of an earlier run.
pub(super) struct Restored {
    pub(super) manifest: Arc<Manifest>,
    pub(super) source: Source,
}

/// What serves a manifest, from a record; `None` when a file is gone or is not what it was.
pub(super) fn restore(manifest: &[u8], sources: &[SourceRecord]) -> Option<Restored> {
    let encoded = Bytes::copy_from_slice(manifest);
    let manifest = Manifest::decode(Root::of(&encoded), encoded).ok()?;
    if manifest.items().len() != sources.len() {
        return None;
    }
    let mut files = Vec::with_capacity(sources.len());
    for (item, source) in manifest.items().iter().zip(sources) {
        files.push(match item.kind {
            ItemKind::Folder => None,
            ItemKind::File { root, .. } => {
                let seen = source.seen.as_ref().filter(|seen| seen.root() == Some(root))?;
                Some(SourceFile::new(source.path(), seen.stamp(), root))
            }
        });
    }
    let source = Source { files };
    source.is_unchanged().then(|| Restored { manifest: Arc::new(manifest), source })
}

/// Own offers with what serves them, to be looked at now and then.
pub(super) fn changed(offers: Vec<(EntryId, Arc<Source>)>) -> Vec<EntryId> {
    offers.into_iter().filter(|(_, source)| !source.is_unchanged()).map(|(id, _)| id).collect()
}
