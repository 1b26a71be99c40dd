//! Fetching a download's manifest, and making it ready to run.

use std::sync::Arc;

use rockpool_proto::DeviceId;

use super::{Download, ItemState, Numbers, Phase, Step};
use crate::event::{DownloadFailure, Event};
use crate::frame::{Frame, MANIFEST_PAGE_BYTES_MAX};
use crate::manifest::{ItemKind, Manifest, ManifestError};
use crate::time::Time;
use crate::transfer::tree::group_count;
use crate::transfer::{FileCommand, GroupSet, ItemProgress, Root};

impl Download {
    pub(super) fn ask_manifest(&mut self, now: Time, numbers: &Numbers) {
        let Phase::Manifest { from, received, asked, progress_at } = &mut self.phase else { return };
        if from.is_none() {
            let usable = self.seeders.iter().filter(|(_, seeder)| seeder.usable(now));
            let Some((device, _)) = usable.min_by_key(|(_, seeder)| seeder.failures) else { return };
            (*from, *asked, *progress_at) = (Some(*device), 0, now);
            received.clear();
        }
        let device = from.expect("it was just chosen");
        let page = MANIFEST_PAGE_BYTES_MAX as u64;
        let ahead = received.len() as u64 + numbers.manifest_pages_ahead() * page;
        while *asked < self.manifest_bytes.min(ahead) {
            let frame = Frame::ManifestRequest { root: self.root, offset: *asked };
            self.steps.push_back(Step::Frame(device, frame));
            *asked += page;
        }
    }

    pub(crate) fn handle_manifest_page(
        &mut self,
        now: Time,
        sender: DeviceId,
        offset: u64,
        data: &[u8],
        numbers: &mut Numbers,
    ) {
        let Phase::Manifest { from, received, progress_at, .. } = &mut self.phase else { return };
        if *from != Some(sender) || offset != received.len() as u64 {
            return;
        }
        let left = self.manifest_bytes - offset;
        if data.is_empty() || data.len() as u64 != left.min(MANIFEST_PAGE_BYTES_MAX as u64) {
            // It doesn't have it, or not this one.
            *from = None;
            if let Some(seeder) = self.seeders.get_mut(&sender) {
                seeder.rest(now);
            }
            return self.pump(now, numbers);
        }
        received.extend_from_slice(data);
        *progress_at = now;
        if (received.len() as u64) < self.manifest_bytes {
            return self.ask_manifest(now, numbers);
        }
        let encoded = std::mem::take(received).freeze();
        *from = None;
        if Root::of(&encoded) != self.root {
            self.blame(sender, 0);
            return self.pump(now, numbers);
        }
        // The root fits, so the offer's author is the one who made it so.
        match Manifest::decode(self.root, encoded) {
            Ok(manifest) if (manifest.file_count(), manifest.size_bytes()) != self.told => {
                let (files, bytes) = (manifest.file_count(), manifest.size_bytes());
                self.end(DownloadFailure::BadManifest(ManifestError::NotAsOffered { files, bytes }));
            }
            Ok(manifest) => self.start(manifest),
            Err(error) => self.end(DownloadFailure::BadManifest(error)),
        }
    }

    pub(super) fn start(&mut self, manifest: Manifest) {
        let manifest = Arc::new(manifest);
        self.items = manifest.items().iter().map(|_| ItemState::default()).collect();
        for (item, progress) in self.journal.take().map(|journal| journal.items).unwrap_or_default() {
            let Some((size_bytes, _)) = manifest.file(item) else { continue };
            let state = &mut self.items[item as usize];
            match progress {
                ItemProgress::Finished => {
                    state.stored = GroupSet::whole(size_bytes);
                    state.finished = true;
                    self.finished_items += 1;
                    self.finished_files += 1;
                }
                ItemProgress::Partial(stored) => {
                    let fits = stored.ranges().last().is_none_or(|range| range.1 <= group_count(size_bytes));
                    state.stored = if fits { stored } else { GroupSet::new() };
                }
            }
            self.done_bytes += state.stored.bytes(size_bytes);
        }
        self.manifest = Some(manifest.clone());
        self.phase = Phase::Preparing;
        self.steps.push_back(Step::Event(Event::DownloadStarted { download: self.id, manifest: manifest.clone() }));
        self.steps.push_back(Step::Files(FileCommand::Prepare { download: self.id, manifest }));
    }

    pub(crate) fn handle_prepared(&mut self, now: Time, result: Result<(), String>, numbers: &mut Numbers) {
        if !matches!(self.phase, Phase::Preparing) {
            return;
        }
        if let Err(reason) = result {
            return self.end(DownloadFailure::Disk(reason));
        }
        self.phase = Phase::Running;
        let Some(manifest) = self.manifest.clone() else { return };
        for (index, (item, state)) in manifest.items().iter().zip(&self.items).enumerate() {
            let complete = match item.kind {
                ItemKind::Folder => true,
                ItemKind::File { size_bytes, .. } => size_bytes == 0 || state.stored.is_whole(size_bytes),
            };
            if complete && !state.finished {
                self.to_finish.push(index as u32);
            }
        }
        self.pump(now, numbers);
        self.complete_if_done();
    }
}
