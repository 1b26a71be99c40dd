//! What people are told: the machine's events as lines of the local API.

use std::time::Instant;

use rockpool_peer_core::{Body, DownloadFailure, DownloadId, Event as CoreEvent, Warning};

use super::caller::{Caller, Said};
use super::running::Running;
use super::view;
use crate::api::{ApiError, ErrorCode, Event, ProgressView, StatusView};

impl Running {
    /// Tells subscribers, and those who wait for a download, what the machine says.
    pub(super) fn tell(&mut self, event: CoreEvent) {
        let event = match event {
            CoreEvent::Entry(entry) => match &entry.body {
                Body::Text(_) => view::message(&self.peer, &entry).map(Event::Message),
                Body::FileOffer(offer) => Some(Event::Offer(view::offer(&self.peer, entry.id, offer))),
                _ => None,
            },
            CoreEvent::Retracted(id) => Some(Event::Retracted { message: view::message_id(id) }),
            CoreEvent::OfferWithdrawn(id) => {
                let offer = match self.peer.log().entry(id).map(|entry| &entry.body) {
                    Some(Body::FileOffer(offer)) => offer.manifest_root.to_string(),
                    _ => String::new(),
                };
                self.withdrawn(id);
                let by = view::device(&self.peer, id.device);
                let reason = format!("{} on {} took it back, or its files changed", by.author, by.device);
                Some(Event::Withdrawn { offer, reason })
            }
            CoreEvent::DeviceJoined { device, .. } => Some(Event::Joined(view::device(&self.peer, device))),
            CoreEvent::DeviceLeft(device) => Some(Event::Left(view::device(&self.peer, device))),
            CoreEvent::LinkUp(device) => Some(Event::Linked(view::device(&self.peer, device))),
            CoreEvent::LinkDown(device) => Some(Event::Unlinked(view::device(&self.peer, device))),
            CoreEvent::ClusterReachable(_) => None,
            CoreEvent::DownloadStarted { .. } => None,
            CoreEvent::DownloadProgress { download, done_bytes, total_bytes, done_files, seeders } => {
                self.progressed(download, done_bytes, total_bytes, done_files, seeders);
                None
            }
            CoreEvent::DownloadWaiting(id) => {
                self.waits(id);
                None
            }
            // Answered once it is durable: see `completed`.
            CoreEvent::DownloadFinished(_) => None,
            CoreEvent::DownloadFailed { download, reason } => {
                self.failed(download, &reason);
                None
            }
            CoreEvent::Warning(warning) => {
                if let Warning::OwnSourceChanged { offer } = warning {
                    self.withdraw(offer, Caller::nobody());
                }
                Some(Event::Warning { text: warning.to_string() })
            }
        };
        if let Some(event) = event {
            self.publish(event);
        }
    }

    fn progressed(&mut self, id: DownloadId, done_bytes: u64, total_bytes: u64, done_files: u32, seeders: u32) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let total_files = download.disk.as_ref().map_or(0, |disk| u64::from(disk.manifest().file_count()));
        // What was on its way to the disk is still told of when everybody has gone.
        let waiting = download.shown.as_ref().and_then(|shown| shown.waiting.clone()).filter(|_| seeders == 0);
        let progress = ProgressView {
            offer: download.root.to_string(),
            done_bytes,
            total_bytes,
            done_files: u64::from(done_files),
            total_files,
            bytes_per_second: download.speed.update(Instant::now(), done_bytes),
            seeders: seeders as usize,
            waiting: waiting.filter(|_| done_bytes < total_bytes),
        };
        self.show(id, progress);
    }

    fn waits(&mut self, id: DownloadId) {
        let Some(download) = self.downloads.get(&id) else { return };
        let empty = ProgressView {
            offer: download.root.to_string(),
            done_bytes: 0,
            total_bytes: 0,
            done_files: 0,
            total_files: 0,
            bytes_per_second: 0.0,
            seeders: 0,
            waiting: None,
        };
        let mut progress = download.shown.clone().unwrap_or(empty);
        progress.waiting = Some("nobody in reach has it".into());
        (progress.seeders, progress.bytes_per_second) = (0, 0.0);
        self.show(id, progress);
    }

    fn show(&mut self, id: DownloadId, progress: ProgressView) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.shown = Some(progress.clone());
        download.waiters.retain(|waiter| waiter.event(Event::Progress(progress.clone())) != Said::Gone);
        self.publish(Event::Progress(progress));
    }

    fn failed(&mut self, id: DownloadId, reason: &DownloadFailure) {
        let Some(download) = self.downloads.remove(&id) else { return };
        let code = match reason {
            DownloadFailure::Cancelled => ErrorCode::Cancelled,
            DownloadFailure::Withdrawn => ErrorCode::NotFound,
            DownloadFailure::BadManifest(_) => ErrorCode::Damaged,
            DownloadFailure::Disk(_) => ErrorCode::Disk,
        };
        let error = ApiError::new(code, reason.to_string());
        download.waiters.iter().for_each(|waiter| waiter.answer(Err(error.clone())));
    }

    /// Tells every subscriber.
    pub(super) fn publish(&mut self, event: Event) {
        self.subscribers.retain_mut(|subscriber| subscriber.tell(&event));
    }

    pub(super) fn status(&self) -> StatusView {
        let me = self.peer.device_id();
        let present = self.peer.present().iter().chain([&me]);
        StatusView {
            pool_id: self.pool.to_string(),
            pool: self.pool_name.clone(),
            me: view::device(&self.peer, me),
            cluster_connected: self.cluster_connected,
            present: present.map(|device| view::device(&self.peer, *device)).collect(),
            linked: self.peer.linked().map(|device| device.to_string()).collect(),
            messages: self.peer.log().in_order(None).filter(|entry| matches!(entry.body, Body::Text(_))).count() as u64,
            gaps: self.peer.missing_entries() > 0,
            offers: view::open_offers(&self.peer).len() as u64,
            downloads: {
                let under_way = self.downloads.values().filter(|download| !download.paused);
                under_way.map(|download| download.root.to_string()).collect()
            },
            pid: std::process::id(),
        }
    }
}
