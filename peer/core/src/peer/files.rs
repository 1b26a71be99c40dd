//! Files: who seeds what, serving, and the downloads under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rockpool_proto::DeviceId;

use super::Peer;
use super::links::Link;
use super::writing::Draft;
use crate::entry::{Body, EntryId, FileOffer, StoredEntry};
use crate::event::Warning;
use crate::frame::{Frame, MANIFEST_PAGE_BYTES_MAX, ROOTS_PER_FRAME_MAX, RefusedReason};
use crate::manifest::Manifest;
use crate::negotiation::ConnectionId;
use crate::output::{Output, Refusal};
use crate::time::{Now, Time};
use crate::transfer::bulk::{BULK_VERSION, BulkFrame};
use crate::transfer::download::{Download, Numbers, Step};
use crate::transfer::seeder::{Seeder, Served};
use crate::transfer::{DownloadId, DownloadJournal, FileCommand, GroupRange, ReadFailure, Root, StoreFailure, Ticket};

/// Downloads under way at once.
const DOWNLOADS_MAX: usize = 64;
/// Roots remembered of one device's seeding notes.
const SEEDS_PER_DEVICE_MAX: usize = 4_096;

/// Everything about files.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) seeder: Seeder,
    own_offers: BTreeMap<EntryId, Root>,
    /// The driver could serve these, but the log doesn't hold the offers: it may get them back from others.
    unclaimed: BTreeMap<EntryId, Arc<Manifest>>,
    /// Own offers that came back from others.
    recovered: BTreeSet<EntryId>,
    /// Complete downloads that are seeded, whatever becomes of the offers.
    seeds: BTreeSet<Root>,
    /// What linked devices say they have.
    noted: BTreeMap<DeviceId, BTreeSet<Root>>,
    /// Of these, what they said is from an earlier link.
    renewing: BTreeSet<DeviceId>,
    downloads: BTreeMap<DownloadId, (EntryId, Download)>,
    numbers: Numbers,
    last_download: u64,
}

impl Files {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.downloads.values().filter_map(|(_, download)| download.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        for (_, download) in self.downloads.values_mut() {
            download.handle_timeout(now, &mut self.numbers);
        }
    }

    /// Begins a download.
    pub(super) fn start(
        &mut self,
        now: Time,
        offer: EntryId,
        file_offer: &FileOffer,
        journal: Option<DownloadJournal>,
    ) -> Result<DownloadId, Refusal> {
        if self.downloads.len() >= DOWNLOADS_MAX {
            return Err(Refusal::TooMany { what: "downloads", max: DOWNLOADS_MAX });
        }
        self.last_download += 1;
        let id = DownloadId(self.last_download);
        let download = Download::new(id, file_offer, journal, now);
        self.downloads.insert(id, (offer, download));
        self.numbers.downloads = self.downloads.len() as u64;
        Ok(id)
    }

    pub(super) fn set_paused(&mut self, now: Time, id: DownloadId, paused: bool) -> Result<(), Refusal> {
        let (_, download) = self.downloads.get_mut(&id).ok_or(Refusal::NotFound("download"))?;
        download.set_paused(now, paused, &mut self.numbers);
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: DownloadId) -> Result<(), Refusal> {
        let (_, download) = self.downloads.get_mut(&id).ok_or(Refusal::NotFound("download"))?;
        download.cancel();
        Ok(())
    }

    /// It will say anew what it has; until then what it said before counts.
    pub(super) fn expect_seeding(&mut self, device: DeviceId) {
        self.renewing.insert(device);
    }

    pub(super) fn handle_manifest_page(&mut self, now: Time, from: DeviceId, root: Root, offset: u64, data: &[u8]) {
        for (_, download) in self.downloads.values_mut().filter(|(_, download)| download.root() == root) {
            download.handle_manifest_page(now, from, offset, data, &mut self.numbers);
        }
    }

    pub(super) fn handle_refused(&mut self, now: Time, from: DeviceId, request: u32, reason: RefusedReason) {
        if let Some((_, download)) = self.downloads.values_mut().find(|(_, download)| download.owns(from, request)) {
            download.handle_refused(now, from, request, reason, &mut self.numbers);
        }
    }
}

impl Peer {
    /// Takes up the offers and seeds of an earlier run; own offers whose source is gone are withdrawn.
    pub(super) fn restore_offers(
        &mut self,
        now: Now,
        offers: Vec<(EntryId, Arc<Manifest>)>,
        seeds: Vec<Arc<Manifest>>,
    ) {
        let me = self.device_id();
        for (id, manifest) in offers {
            let is_that =
                self.offers().iter().any(|(open, offer)| *open == id && offer.manifest_root == manifest.root());
            if id.device == me && is_that {
                self.seed_offer(id, manifest);
            } else if id.device == me && self.log.entry(id).is_none() {
                self.files.unclaimed.insert(id, manifest);
            }
        }
        for manifest in seeds {
            self.files.seeds.insert(manifest.root());
            self.files.seeder.add(manifest);
        }
        let open = self.offers().into_iter().map(|(id, _)| id).filter(|id| id.device == me);
        let lost: Vec<EntryId> = open.filter(|id| !self.files.own_offers.contains_key(id)).collect();
        for offer in lost {
            self.withdraw_changed(now.time, offer);
        }
    }

    /// Entries of our own chain came from others: our store was lost or is an old copy.
    pub(super) fn note_recovered(&mut self, entries: &[Arc<StoredEntry>]) {
        let me = self.device_id();
        let offers = entries.iter().filter(|entry| matches!(entry.body, Body::FileOffer(_)));
        self.files.recovered.extend(offers.map(|entry| entry.id).filter(|id| id.device == me));
    }

    /// Once all of our chain is back: serves again what can be served, and withdraws the rest.
    pub(super) fn reclaim_offers(&mut self, now: Time) {
        for id in std::mem::take(&mut self.files.recovered) {
            let root = match self.log.entry(id).map(|entry| &entry.body) {
                Some(Body::FileOffer(offer)) if !self.log.is_withdrawn(&self.directory, id) => offer.manifest_root,
                _ => continue,
            };
            match self.files.unclaimed.remove(&id).filter(|manifest| manifest.root() == root) {
                Some(manifest) => self.seed_offer(id, manifest),
                None => self.withdraw_changed(now, id),
            }
        }
    }

    /// Writes that an own offer's source is gone.
    fn withdraw_changed(&mut self, now: Time, offer: EntryId) {
        self.warn(Warning::OwnSourceChanged { offer });
        let body = Body::FileWithdraw { counter: offer.counter };
        // Should the queue be full, the next start finds it again.
        let _ = self.write(Draft { command: None, body, manifest: None });
        self.stop_offer(now, offer);
    }

    pub(super) fn seed_offer(&mut self, id: EntryId, manifest: Arc<Manifest>) {
        self.files.own_offers.insert(id, manifest.root());
        self.seed(manifest);
    }

    fn seed(&mut self, manifest: Arc<Manifest>) {
        let root = manifest.root();
        self.files.seeder.add(manifest);
        self.tell_seeding(vec![root], Vec::new());
    }

    /// Stops serving an own offer.
    pub(super) fn stop_offer(&mut self, now: Time, id: EntryId) {
        let Some(root) = self.files.own_offers.remove(&id) else { return self.refresh_seeders(now) };
        if self.files.own_offers.values().any(|open| *open == root) || self.files.seeds.contains(&root) {
            return;
        }
        self.stop_serving(root, RefusedReason::NotSeeded);
    }

    fn stop_serving(&mut self, root: Root, reason: RefusedReason) {
        for (device, request) in self.files.seeder.remove(root) {
            self.send_control(device, Frame::RangesRefused { request, reason });
        }
        self.tell_seeding(Vec::new(), vec![root]);
    }

    fn tell_seeding(&mut self, roots: Vec<Root>, stopped: Vec<Root>) {
        for device in self.linked().collect::<Vec<_>>() {
            self.send_control(device, Frame::Seeding { roots: roots.clone(), stopped: stopped.clone() });
        }
    }

    /// Tells a new link all that this device serves.
    pub(super) fn send_seeding(&mut self, device: DeviceId) {
        let roots: Vec<Root> = self.files.seeder.roots().collect();
        if roots.is_empty() {
            // That is news, too, for who knew of more.
            self.send_control(device, Frame::Seeding { roots: Vec::new(), stopped: Vec::new() });
        }
        for roots in roots.chunks(ROOTS_PER_FRAME_MAX) {
            self.send_control(device, Frame::Seeding { roots: roots.to_vec(), stopped: Vec::new() });
        }
    }

    pub(super) fn handle_seeding(&mut self, now: Time, device: DeviceId, roots: &[Root], stopped: &[Root]) {
        if self.files.renewing.remove(&device) {
            self.files.noted.remove(&device);
        }
        let noted = self.files.noted.entry(device).or_default();
        stopped.iter().for_each(|root| {
            noted.remove(root);
        });
        let room = SEEDS_PER_DEVICE_MAX.saturating_sub(noted.len());
        let roots: BTreeSet<Root> = roots.iter().take(room).copied().collect();
        noted.extend(&roots);
        for (_, download) in self.files.downloads.values_mut().filter(|(_, download)| roots.contains(&download.root()))
        {
            download.handle_noted(device);
        }
        self.refresh_seeders(now);
    }

    /// Forgets what devices have that are gone for good, as far as we know. While one is present a broken link may come
    /// back, and with it the last copy of what was withdrawn.
    pub(super) fn forget_absent(&mut self) {
        let (roster, links) = (&self.roster, &self.links);
        let is_linked = |device: &DeviceId| links.get(device).is_some_and(Link::is_up);
        self.files.noted.retain(|device, _| roster.node(*device).is_some() || is_linked(device));
        let noted = &self.files.noted;
        self.files.renewing.retain(|device| noted.contains_key(device));
    }

    /// Tells the downloads whom they can ask.
    pub(super) fn refresh_seeders(&mut self, now: Time) {
        let mut downloads = std::mem::take(&mut self.files.downloads);
        for (offer, download) in downloads.values_mut() {
            let open = !self.log.is_withdrawn(&self.directory, *offer);
            let has = |device: &DeviceId| {
                let noted = self.files.noted.get(device).is_some_and(|noted| noted.contains(&download.root()));
                noted || (open && *device == offer.device)
            };
            let linked = self.links.iter().filter(|(_, link)| link.carries_bulk()).map(|(device, _)| *device);
            let devices: Vec<DeviceId> = linked.filter(has).collect();
            if !open && !self.files.noted.values().any(|noted| noted.contains(&download.root())) {
                download.withdrawn(now);
            }
            download.set_seeders(now, &devices, &mut self.files.numbers);
        }
        self.files.downloads = downloads;
    }

    /// How many devices serve this content and can be asked now: who offers it, who says that they have it, and this one.
    pub fn seeders_in_reach(&self, root: Root) -> usize {
        let offers = self.offers();
        let has = |device: &DeviceId| {
            let noted = self.files.noted.get(device).is_some_and(|noted| noted.contains(&root));
            noted || offers.iter().any(|(id, offer)| id.device == *device && offer.manifest_root == root)
        };
        let own = usize::from(self.files.seeder.manifest(root).is_some());
        own + self.linked().filter(has).count()
    }

    pub(super) fn serve_manifest(&mut self, device: DeviceId, root: Root, offset: u64) {
        let encoded = self.files.seeder.manifest(root).map(|manifest| manifest.encoded().clone()).unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(encoded.len());
        let end = (start + MANIFEST_PAGE_BYTES_MAX).min(encoded.len());
        let (total_bytes, data) = (encoded.len() as u64, encoded.slice(start..end));
        self.send_control(device, Frame::ManifestPage { root, offset, total_bytes, data });
    }

    pub(super) fn serve_ranges(&mut self, device: DeviceId, request: u32, root: Root, pieces: Vec<(u32, GroupRange)>) {
        if let Err(reason) = self.files.seeder.handle_request(device, request, root, pieces) {
            self.send_control(device, Frame::RangesRefused { request, reason });
        }
    }

    pub(super) fn handle_bulk(
        &mut self,
        now: Now,
        connection: ConnectionId,
        message: Bytes,
        greeted: bool,
    ) -> Result<(), String> {
        let device = connection.device;
        match BulkFrame::decode(message).map_err(|error| error.to_string())? {
            BulkFrame::Hello { version } if version < BULK_VERSION => {
                return Err(format!("it speaks version {version} of the bulk protocol"));
            }
            BulkFrame::Hello { .. } => self.greeted(now, connection),
            BulkFrame::HelloAck { .. } => self.answered(now, connection),
            _ if !greeted => return Err("it spoke before it greeted".into()),
            frame => {
                let (BulkFrame::Proof { request, .. }
                | BulkFrame::Data { request, .. }
                | BulkFrame::Small { request, .. }) = &frame
                else {
                    return Ok(());
                };
                let owner = self.files.downloads.values_mut().find(|(_, download)| download.owns(device, *request));
                // Nobody's: cancelled while it was on its way.
                if let Some((_, download)) = owner {
                    download.handle_bulk(now.time, device, frame, &mut self.files.numbers);
                }
            }
        }
        Ok(())
    }

    pub(super) fn handle_range_read(&mut self, now: Now, ticket: Ticket, result: Result<Vec<Bytes>, ReadFailure>) {
        match self.files.seeder.handle_read(ticket, result) {
            Served::Nothing => {}
            Served::Frames(device, frames) => self.send_bulk(device, frames),
            Served::Failed { device, request, root, failure } => {
                let reason = match &failure {
                    ReadFailure::SourceChanged => RefusedReason::SourceChanged,
                    ReadFailure::Failed(_) => RefusedReason::ReadFailed,
                };
                self.send_control(device, Frame::RangesRefused { request, reason });
                if failure == ReadFailure::SourceChanged {
                    self.source_changed(now.time, root);
                }
            }
        }
    }

    /// What we serve under this root isn't there any more.
    fn source_changed(&mut self, now: Time, root: Root) {
        self.files.seeds.remove(&root);
        self.stop_serving(root, RefusedReason::SourceChanged);
        let offers: Vec<EntryId> =
            self.files.own_offers.iter().filter(|(_, open)| **open == root).map(|(id, _)| *id).collect();
        for offer in offers {
            self.withdraw_changed(now, offer);
        }
    }

    pub(super) fn handle_range_stored(&mut self, now: Now, ticket: Ticket, result: Result<(), StoreFailure>) {
        let owner = self.files.downloads.values_mut().find(|(_, download)| download.owns_ticket(ticket));
        if let Some((_, download)) = owner {
            download.handle_stored(now.time, ticket, result, &mut self.files.numbers);
        }
    }

    pub(super) fn handle_prepared(&mut self, now: Now, id: DownloadId, result: Result<(), String>) {
        if let Some((_, download)) = self.files.downloads.get_mut(&id) {
            download.handle_prepared(now.time, result, &mut self.files.numbers);
        }
    }

    pub(super) fn handle_files_finished(
        &mut self,
        now: Now,
        id: DownloadId,
        items: &[u32],
        result: Result<(), String>,
    ) {
        if let Some((_, download)) = self.files.downloads.get_mut(&id) {
            download.handle_finished(now.time, items, result);
        }
    }

    /// Carries out what seeder and downloads want.
    pub(super) fn settle_files(&mut self) -> bool {
        let mut moved = false;
        let links = &self.links;
        let carries_bulk = |device| links.get(&device).is_some_and(Link::carries_bulk);
        while let Some((ticket, range)) = self.files.seeder.poll_read(&mut self.files.numbers, carries_bulk) {
            self.outputs.push_back(Output::Files(FileCommand::Read(ticket, range)));
            moved = true;
        }
        let mut complete = Vec::new();
        let mut steps = Vec::new();
        self.files.downloads.retain(|_, (_, download)| {
            steps.extend(download.steps.drain(..));
            !download.is_ended()
        });
        self.files.numbers.downloads = self.files.downloads.len() as u64;
        moved |= !steps.is_empty();
        for step in steps {
            match step {
                Step::Frame(device, frame) => self.send_control(device, frame),
                Step::Files(command) => self.outputs.push_back(Output::Files(command)),
                Step::Event(event) => self.event(event),
                Step::Complete(manifest) => complete.push(manifest),
            }
        }
        for manifest in complete {
            self.files.seeds.insert(manifest.root());
            self.seed(manifest);
        }
        moved
    }
}
