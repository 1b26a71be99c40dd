//! Carries out the machine's file commands: each becomes a job of a worker, whose result becomes an input.

use std::sync::Arc;

use rockpool_peer_core::{Command, DownloadId, DownloadJournal, FileCommand, Input, Manifest, Root};
use rockpool_proto::PoolId;

use super::Happening;
use super::caller::Caller;
use super::downloads::{self, Completion, Opened};
use super::running::{Pending, Running};
use crate::api::{ApiError, DownloadView, ErrorCode, Reply};
use crate::files::{Download, Source};
use crate::store::{DownloadRecord, Store};

impl Running {
    pub(super) fn file_command(&mut self, command: FileCommand) {
        let happenings = self.happenings.clone();
        match command {
            FileCommand::Read(ticket, range) => {
                let sources = self.sources.clone();
                self.workers.quick(move || {
                    let read = sources.read(&range);
                    let _ = happenings.blocking_send(Happening::Input(Input::RangeRead(ticket, read)));
                });
            }
            FileCommand::Store(ticket, range) => {
                let Some(download) = self.downloads.get_mut(&range.download) else { return };
                let Some(disk) = download.disk.clone() else { return };
                let bytes =
                    range.pieces.iter().flat_map(|piece| &piece.data).map(|data| data.len() as u64).sum::<u64>();
                download.received_bytes += bytes;
                self.workers.quick(move || {
                    let stored = disk.store(&range);
                    // The frames' memory goes before the machine lets more come.
                    drop(range);
                    let _ = happenings.blocking_send(Happening::Input(Input::RangeStored(ticket, stored)));
                });
            }
            FileCommand::Prepare { download: id, manifest } => self.prepare(id, manifest),
            FileCommand::Finish { download, items } => {
                let Some(disk) = self.disk(download) else { return };
                self.workers.in_order(move || {
                    let failed = disk.finish(&items).into_iter().find_map(|(_, finished)| finished.err());
                    let result = failed.map_or(Ok(()), |error| Err(error.to_string()));
                    let input = Input::FilesFinished { download, items, result };
                    let _ = happenings.blocking_send(Happening::Input(input));
                });
            }
            FileCommand::Checkpoint(download, journal) => {
                let Some(disk) = self.disk(download) else { return };
                let (store, pool) = (self.store.clone(), self.pool);
                self.workers.in_order(move || {
                    let kept = disk.sync().map_err(|error| error.to_string()).and_then(|()| {
                        update_record(&store, pool, journal.manifest_root, |record| record.journal = journal.encode())
                    });
                    if let Err(error) = kept {
                        tracing::warn!(
                            error,
                            "a journal cannot be kept; a crash now would cost what came since the last"
                        );
                    }
                });
            }
            FileCommand::Complete(download) => {
                let (Some(disk), Some(running)) = (self.disk(download), self.downloads.get(&download)) else { return };
                let (store, pool, root) = (self.store.clone(), self.pool, running.root);
                self.workers.in_order(move || {
                    let completion = complete(&disk, &store, pool, root);
                    let _ = happenings.blocking_send(Happening::Completed(download, completion));
                });
            }
            FileCommand::Discard(download) => {
                let Some(running) = self.downloads.get(&download) else { return };
                let (disk, store, pool, root) = (running.disk.clone(), self.store.clone(), self.pool, running.root);
                self.workers.in_order(move || {
                    if let Some(disk) = disk {
                        disk.discard();
                    }
                    if let Err(error) = store.put_download(pool, root, None) {
                        tracing::warn!(%error, "a download that was given up is still remembered");
                    }
                });
            }
        }
    }

    fn disk(&self, id: DownloadId) -> Option<Arc<Download>> {
        self.downloads.get(&id)?.disk.clone()
    }

    fn prepare(&mut self, id: DownloadId, manifest: Arc<Manifest>) {
        let Some(download) = self.downloads.get(&id) else { return };
        let (known, to, happenings) = (download.disk.clone(), download.to.clone(), self.happenings.clone());
        let (store, pool) = (self.store.clone(), self.pool);
        self.workers.in_order(move || {
            let opened = (|| {
                let root = manifest.root();
                update_record(&store, pool, root, |record| record.manifest = manifest.encoded().to_vec())
                    .map_err(|error| ApiError::new(ErrorCode::Disk, error))?;
                let disk = match known {
                    Some(disk) => disk,
                    None => {
                        let disk = Arc::new(Download::open(&to, manifest).map_err(downloads::disk_error)?);
                        let there = downloads::compare(&disk, None)?;
                        if !there.items.is_empty() {
                            return Ok(Opened { disk, there: Some(there) });
                        }
                        disk
                    }
                };
                disk.prepare().map_err(downloads::disk_error)?;
                Ok(Opened { disk, there: None })
            })();
            let _ = happenings.blocking_send(Happening::Opened(id, opened));
        });
    }

    pub(super) fn opened(&mut self, id: DownloadId, opened: Result<Opened, ApiError>) {
        let prepared = match opened {
            Ok(Opened { disk, there: Some(there) }) => return self.begin_anew(id, disk, there),
            Ok(Opened { disk, there: None }) => {
                if let Some(download) = self.downloads.get_mut(&id) {
                    download.disk = Some(disk);
                }
                Ok(())
            }
            Err(error) => {
                // The machine's failure carries a text only; whoever waits gets the code too.
                let message = error.message.clone();
                if let Some(download) = self.downloads.get_mut(&id) {
                    download.waiters.drain(..).for_each(|waiter| waiter.answer(Err(error.clone())));
                }
                Err(message)
            }
        };
        self.input(Input::DownloadPrepared(id, prepared));
    }

    /// Begins a download once more as if an earlier run had left what lies in the folder.
    fn begin_anew(&mut self, id: DownloadId, disk: Arc<Download>, there: DownloadJournal) {
        let Some(mut download) = self.forget_download(id) else { return };
        download.disk = Some(disk);
        let command = Command::Get { offer: download.offer, journal: Some(there) };
        self.command(command, Pending::Get(Box::new(download)));
    }

    /// Ends a download in the machine, and nowhere else: what it has on disk stays.
    pub(super) fn forget_download(&mut self, id: DownloadId) -> Option<downloads::Running> {
        let download = self.downloads.remove(&id)?;
        self.command(Command::Cancel(id), Pending::Plain(Caller::nobody()));
        Some(download)
    }

    pub(super) fn completed(&mut self, id: DownloadId, completion: Completion) {
        let Some(download) = self.downloads.remove(&id) else { return };
        if let Some(source) = completion.source
            && !self.sources.contains(download.root)
        {
            self.sources.share(download.root, Arc::new(source));
        }
        let renamed = download.disk.as_ref().map(|disk| disk.renamed()).unwrap_or_default();
        let answer = completion.result.map(|paths| {
            let manifest = download.disk.as_ref().map(|disk| disk.manifest().clone());
            Reply::Downloaded(DownloadView {
                offer: download.root.to_string(),
                paths,
                renamed,
                files: manifest.as_ref().map_or(0, |manifest| u64::from(manifest.file_count())),
                bytes: manifest.as_ref().map_or(0, |manifest| manifest.size_bytes()),
                received_bytes: download.received_bytes,
                elapsed_ms: u64::try_from(download.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        });
        download.waiters.iter().for_each(|waiter| waiter.answer(answer.clone()));
    }
}

/// Changes what is remembered of a download. On the thread that keeps order, so nobody else does at the same time.
fn update_record(
    store: &Store,
    pool: PoolId,
    root: Root,
    change: impl FnOnce(&mut DownloadRecord),
) -> Result<(), String> {
    let mut record = store.download(pool, root).map_err(|error| error.to_string())?.unwrap_or_default();
    change(&mut record);
    store.put_download(pool, root, Some(&record)).map_err(|error| error.to_string())
}

fn complete(disk: &Download, store: &Store, pool: PoolId, root: Root) -> Completion {
    let synced = disk.sync_folders().map_err(downloads::disk_error);
    let files = disk.sources();
    let kept = synced.and_then(|()| {
        update_record(store, pool, root, |record| downloads::finish(record, files.as_deref().unwrap_or_default()))
            .map_err(|error| ApiError::new(ErrorCode::Disk, error))
    });
    Completion { result: kept.map(|()| disk.top_paths()), source: files.map(|files| Source { files }) }
}
