//! Downloads: what to ask of whom.
//!
//! ```text
//!   Manifest --checked--> Preparing --folder ready--> Running --all items finished--> done
//!
//!   work:  returned pieces first, then a cursor that walks items and blocks once
//!   each seeder:  requests in flight up to its window, which grows while answers are quick and shrinks while slow
//!   each request: pieces (file, groups); PROOF -> DATA.. -> stored; a piece that doesn't come is returned
//! ```
//!
//! * Blame is exact: a proof that doesn't lead to the root, or a group that doesn't match its proven hash, comes from the
//!   device at the other end of that link. It isn't asked again in this download, and its other pieces are returned.
//! * Bytes asked for and bytes waiting for the disk share one budget, so a slow disk slows asking.
//! * When there is no work left and a seeder idles, it takes over what a slow one has had for long.
//! * Nothing is lost by losing all seeders: the download waits for one.

mod fetching;
mod request;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rockpool_proto::DeviceId;

use self::request::{Request, SeederState, take_data, take_proof, take_small};
use super::Ticket;
use super::bulk::BulkFrame;
use super::journal::ItemProgress;
use super::tree::{group_count, range_bytes};
use super::{DownloadId, DownloadJournal, FileCommand, GroupRange, GroupSet, Root, StoreFailure, StoreRange};
use crate::entry::FileOffer;
use crate::event::{DownloadFailure, Event, Warning};
use crate::frame::{Frame, PIECES_PER_REQUEST_MAX, RefusedReason};
use crate::manifest::Manifest;
use crate::time::Time;

/// Bytes asked for in one request, about.
const REQUEST_BYTES_MAX: u64 = 4 << 20;
/// Bytes that one seeder may owe us.
const WINDOW_BYTES_MAX: u64 = 16 << 20;
const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// Bytes asked for and not yet written, of one download, and of all together.
const UNSTORED_BYTES_MAX: u64 = 64 << 20;
const UNSTORED_TOTAL_BYTES_MAX: u64 = 256 << 20;
/// A seeder that owes and sends nothing for that long is given a rest.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// An answer within this lets the window grow; one that takes longer than the other lets it shrink.
const QUICK: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(2);
/// How often an idle seeder looks whether it can relieve a slow one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes stored between two journals.
const CHECKPOINT_BYTES: u64 = 64 << 20;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Items in one Finish command.
const FINISH_ITEMS_MAX: usize = 256;
/// Manifest pages asked for ahead, of one download, and of all together: they share their links with messages.
const MANIFEST_PAGES_AHEAD: u64 = 8;
const MANIFEST_PAGES_AHEAD_TOTAL: u64 = 64;

/// What the downloads want done.
#[derive(Debug)]
pub(crate) enum Step {
    Frame(DeviceId, Frame),
    Files(FileCommand),
    Event(Event),
    /// Complete: this device can seed it.
    Complete(Arc<Manifest>),
}

/// What all downloads share: counters, so that a number names one thing on every link, and room.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    request: u32,
    ticket: u64,
    /// Downloads under way.
    pub(crate) downloads: u64,
}

impl Numbers {
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }

    fn request(&mut self) -> u32 {
        self.request = self.request.wrapping_add(1);
        self.request
    }

    /// Bytes that one download may have asked for and not yet written.
    fn unstored_bytes_max(&self) -> u64 {
        (UNSTORED_TOTAL_BYTES_MAX / self.downloads.max(1)).clamp(REQUEST_BYTES_MAX, UNSTORED_BYTES_MAX)
    }

    /// Manifest pages that one download may ask for ahead.
    fn manifest_pages_ahead(&self) -> u64 {
        (MANIFEST_PAGES_AHEAD_TOTAL / self.downloads.max(1)).clamp(1, MANIFEST_PAGES_AHEAD)
    }
}

#[derive(Debug, Default)]
struct ItemState {
    stored: GroupSet,
    finished: bool,
    finishing: bool,
}

#[derive(Debug)]
enum Phase {
    Manifest { from: Option<DeviceId>, received: BytesMut, asked: u64, progress_at: Time },
    Preparing,
    Running,
}

#[derive(Debug)]
struct Storing {
    device: DeviceId,
    bytes: u64,
    pieces: Vec<(u32, GroupRange)>,
}

/// One download.
#[derive(Debug)]
pub(crate) struct Download {
    id: DownloadId,
    root: Root,
    manifest_bytes: u64,
    /// What the file offer told people: files and their bytes.
    told: (u32, u64),
    manifest: Option<Arc<Manifest>>,
    journal: Option<DownloadJournal>,
    phase: Phase,
    paused: bool,
    waiting: bool,
    seeders: BTreeMap<DeviceId, SeederState>,
    items: Vec<ItemState>,
    cursor: (u32, u64),
    returned: VecDeque<(u32, GroupRange)>,
    storing: BTreeMap<Ticket, Storing>,
    unstored_bytes: u64,
    to_finish: Vec<u32>,
    done_bytes: u64,
    finished_items: u32,
    finished_files: u32,
    unsaved_bytes: u64,
    saved_at: Time,
    shown_at: Option<Time>,
    unshown: bool,
    looked_at: Time,
    ended: bool,
    pub(crate) steps: VecDeque<Step>,
}

impl Download {
    pub(crate) fn new(id: DownloadId, offer: &FileOffer, journal: Option<DownloadJournal>, now: Time) -> Download {
        let root = offer.manifest_root;
        Download {
            id,
            root,
            manifest_bytes: offer.manifest_bytes,
            told: (offer.file_count, offer.size_bytes),
            manifest: None,
            journal: journal.filter(|journal| journal.manifest_root == root),
            phase: Phase::Manifest { from: None, received: BytesMut::new(), asked: 0, progress_at: now },
            paused: false,
            waiting: false,
            seeders: BTreeMap::new(),
            items: Vec::new(),
            cursor: (0, 0),
            returned: VecDeque::new(),
            storing: BTreeMap::new(),
            unstored_bytes: 0,
            to_finish: Vec::new(),
            done_bytes: 0,
            finished_items: 0,
            finished_files: 0,
            unsaved_bytes: 0,
            saved_at: now,
            shown_at: None,
            unshown: false,
            looked_at: now,
            ended: false,
            steps: VecDeque::new(),
        }
    }

    pub(crate) fn root(&self) -> Root {
        self.root
    }

    /// Finished, failed or cancelled: may be forgotten.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether this request is one of ours to this device.
    pub(crate) fn owns(&self, device: DeviceId, request: u32) -> bool {
        self.seeders.get(&device).is_some_and(|seeder| seeder.requests.contains_key(&request))
    }

    pub(crate) fn owns_ticket(&self, ticket: Ticket) -> bool {
        self.storing.contains_key(&ticket)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        if self.ended {
            return None;
        }
        let manifest = match &self.phase {
            Phase::Manifest { from: Some(_), progress_at, .. } => Some(progress_at.after(SILENCE_MAX)),
            _ => None,
        };
        let seeders = self.seeders.values().filter(|seeder| seeder.reachable && !seeder.blamed);
        let seeders = seeders.filter_map(|seeder| match seeder.requests.is_empty() {
            false => Some(seeder.progress_at.after(SILENCE_MAX)),
            true if self.paused => None,
            true => seeder.rest_until,
        });
        let show = self.shown_at.filter(|_| self.unshown).map(|at| at.after(PROGRESS_EVERY));
        let save = (self.unsaved_bytes > 0).then(|| self.saved_at.after(CHECKPOINT_EVERY));
        // To look whether an idle seeder can help a slow one.
        let help = (self.seeders.len() > 1 && matches!(self.phase, Phase::Running) && !self.paused)
            .then(|| {
                let issued = self.seeders.values().flat_map(|seeder| seeder.requests.values());
                let first = issued.map(|request| request.issued.after(SLOW)).min();
                first.map(|at| at.max(self.looked_at.after(LOOK_EVERY)))
            })
            .flatten();
        seeders.chain(manifest).chain(show).chain(save).chain(help).min()
    }

    /// The devices that have the content and stand at the end of a link.
    pub(crate) fn set_seeders(&mut self, now: Time, devices: &[DeviceId], numbers: &mut Numbers) {
        for device in devices {
            self.seeders.entry(*device).or_insert_with(|| SeederState::new(now));
        }
        for device in self.seeders.keys().copied().collect::<Vec<_>>() {
            let reachable = devices.contains(&device);
            let seeder = self.seeders.get_mut(&device).expect("its key was just read");
            if seeder.reachable && !reachable {
                // The link and what was under way on it are gone.
                self.return_all(device, false);
                if let Phase::Manifest { from, .. } = &mut self.phase
                    && *from == Some(device)
                {
                    *from = None;
                }
            }
            let seeder = self.seeders.get_mut(&device).expect("nothing removes seeders");
            if !seeder.reachable && reachable {
                (seeder.failures, seeder.rest_until) = (0, None);
            }
            seeder.reachable = reachable;
        }
        self.pump(now, numbers);
    }

    /// A device says that it serves this now, whatever it said before.
    pub(crate) fn handle_noted(&mut self, device: DeviceId) {
        if let Some(seeder) = self.seeders.get_mut(&device) {
            (seeder.failures, seeder.rest_until) = (0, None);
        }
    }

    /// Takes back what a seeder owes.
    fn return_all(&mut self, device: DeviceId, tell: bool) {
        let Some(seeder) = self.seeders.get_mut(&device) else { return };
        for (number, request) in std::mem::take(&mut seeder.requests) {
            if tell {
                self.steps.push_back(Step::Frame(device, Frame::RangesCancel { request: number }));
            }
            self.unstored_bytes -= request.bytes;
            for ((file, _), piece) in request.pieces {
                self.returned.push_back((file, piece.range));
            }
        }
        seeder.in_flight_bytes = 0;
    }

    fn blame(&mut self, device: DeviceId, file: u32) {
        self.return_all(device, true);
        if let Some(seeder) = self.seeders.get_mut(&device)
            && !std::mem::replace(&mut seeder.blamed, true)
        {
            let warning = Warning::WrongBytes { device, download: self.id, file };
            self.steps.push_back(Step::Event(Event::Warning(warning)));
        }
    }

    pub(crate) fn set_paused(&mut self, now: Time, paused: bool, numbers: &mut Numbers) {
        self.paused = paused;
        if paused {
            for device in self.seeders.keys().copied().collect::<Vec<_>>() {
                self.return_all(device, true);
            }
            self.save(now);
        }
        self.pump(now, numbers);
    }

    /// Gives up, keeping nothing.
    pub(crate) fn cancel(&mut self) {
        for device in self.seeders.keys().copied().collect::<Vec<_>>() {
            self.return_all(device, true);
        }
        if !matches!(self.phase, Phase::Manifest { .. }) {
            self.steps.push_back(Step::Files(FileCommand::Discard(self.id)));
        }
        self.end(DownloadFailure::Cancelled);
    }

    /// The offer was taken back and nobody else says that they have it.
    pub(crate) fn withdrawn(&mut self, now: Time) {
        if !self.ended && self.lacks_data() {
            self.save(now);
            self.end(DownloadFailure::Withdrawn);
        }
    }

    fn end(&mut self, reason: DownloadFailure) {
        self.ended = true;
        self.steps.push_back(Step::Event(Event::DownloadFailed { download: self.id, reason }));
    }

    /// The disk won't take more: stop, and keep what is there for another try.
    fn fail_disk(&mut self, now: Time, reason: String) {
        for device in self.seeders.keys().copied().collect::<Vec<_>>() {
            self.return_all(device, true);
        }
        self.save(now);
        self.end(DownloadFailure::Disk(reason));
    }

    // ---- Asking ------------------------------------------------------------------------------------------------------

    /// Does whatever can be done now.
    fn pump(&mut self, now: Time, numbers: &mut Numbers) {
        if self.ended {
            return;
        }
        self.flush_finish();
        let any = self.seeders.values().any(|seeder| seeder.usable(now));
        let idle = self.seeders.values().all(|seeder| seeder.requests.is_empty());
        if !any && idle && !self.paused && !self.waiting && self.lacks_data() {
            self.waiting = true;
            self.steps.push_back(Step::Event(Event::DownloadWaiting(self.id)));
        }
        self.waiting &= !any;
        if self.paused {
            return;
        }
        match self.phase {
            Phase::Manifest { .. } => self.ask_manifest(now, numbers),
            Phase::Preparing => {}
            Phase::Running => while self.ask_one(now, numbers) {},
        }
    }

    fn lacks_data(&self) -> bool {
        match &self.manifest {
            None => true,
            Some(manifest) => self.done_bytes < manifest.size_bytes(),
        }
    }

    /// Sends one request to the seeder that owes the smallest part of its window. Says whether there may be more to do.
    fn ask_one(&mut self, now: Time, numbers: &mut Numbers) -> bool {
        let free = self.seeders.iter().filter(|(_, seeder)| {
            seeder.usable(now) && (seeder.in_flight_bytes == 0 || seeder.in_flight_bytes < seeder.window_bytes)
        });
        let Some((device, seeder)) = free.min_by_key(|(_, seeder)| seeder.in_flight_bytes) else { return false };
        let (device, idle) = (*device, seeder.in_flight_bytes == 0);
        let budget = numbers.unstored_bytes_max().saturating_sub(self.unstored_bytes);
        let share = (seeder.window_bytes / 2).clamp(WINDOW_BYTES_MIN, REQUEST_BYTES_MAX);
        if budget < share {
            return false;
        }
        let mut pieces = self.take_work(share);
        if pieces.is_empty() && idle && self.relieve(now, device) {
            pieces = self.take_work(share);
        }
        if pieces.is_empty() {
            return false;
        }
        let Some(manifest) = &self.manifest else { return false };
        let size = |file| manifest.file(file).map_or(0, |(size_bytes, _)| size_bytes);
        let bytes = pieces.iter().map(|(file, range)| range_bytes(*range, size(*file))).sum();
        let number = numbers.request();
        let seeder = self.seeders.get_mut(&device).expect("it was just found");
        if seeder.requests.is_empty() {
            seeder.progress_at = now;
        }
        seeder.in_flight_bytes += bytes;
        self.unstored_bytes += bytes;
        seeder.requests.insert(number, Request::new(now, bytes, &pieces));
        let frame = Frame::RangesRequest { request: number, root: self.root, pieces };
        self.steps.push_back(Step::Frame(device, frame));
        true
    }

    /// The next pieces to ask for: at least one if there is any, then up to so many bytes.
    fn take_work(&mut self, bytes_max: u64) -> Vec<(u32, GroupRange)> {
        let Some(manifest) = self.manifest.clone() else { return Vec::new() };
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while pieces.len() < PIECES_PER_REQUEST_MAX && bytes < bytes_max {
            let Some((file, range)) = self.returned.pop_front().or_else(|| self.advance(&manifest)) else { break };
            let Some((size_bytes, _)) = manifest.file(file) else { continue };
            bytes += range_bytes(range, size_bytes);
            pieces.push((file, range));
        }
        pieces
    }

    /// Moves the cursor over the next missing piece.
    fn advance(&mut self, manifest: &Manifest) -> Option<(u32, GroupRange)> {
        loop {
            let (index, group) = self.cursor;
            let state = self.items.get(index as usize)?;
            let missing = match manifest.file(index) {
                Some((size_bytes, _)) if size_bytes > 0 => state.stored.next_missing(group, group_count(size_bytes)),
                _ => None,
            };
            match missing {
                Some(range) => {
                    self.cursor = (index, range.end());
                    return Some((index, range));
                }
                None => self.cursor = (index + 1, 0),
            }
        }
    }

    /// Takes from the seeder that owes most the request it was given last, if the first one has waited for long.
    fn relieve(&mut self, now: Time, idle: DeviceId) -> bool {
        let slow = self.seeders.iter().filter(|(device, seeder)| {
            **device != idle && seeder.requests.values().any(|request| now.since(request.issued) >= SLOW)
        });
        let Some(device) = slow.max_by_key(|(_, seeder)| seeder.in_flight_bytes).map(|(device, _)| *device) else {
            return false;
        };
        let seeder = self.seeders.get_mut(&device).expect("it was just found");
        let Some((number, request)) = seeder.requests.pop_last() else { return false };
        seeder.in_flight_bytes -= request.bytes;
        seeder.window_bytes = (seeder.window_bytes / 2).max(WINDOW_BYTES_MIN);
        self.unstored_bytes -= request.bytes;
        self.returned.extend(request.pieces.into_iter().map(|((file, _), piece)| (file, piece.range)));
        self.steps.push_back(Step::Frame(device, Frame::RangesCancel { request: number }));
        true
    }

    // ---- Answers -----------------------------------------------------------------------------------------------------

    pub(crate) fn handle_bulk(&mut self, now: Time, device: DeviceId, frame: BulkFrame, numbers: &mut Numbers) {
        let Some(manifest) = self.manifest.clone() else { return };
        let (number, file) = match &frame {
            BulkFrame::Proof { request, file, .. } | BulkFrame::Data { request, file, .. } => (*request, *file),
            BulkFrame::Small { request, files } => (*request, files.first().map_or(0, |(file, _)| *file)),
            BulkFrame::Hello { .. } | BulkFrame::HelloAck { .. } => return,
        };
        let Some(seeder) = self.seeders.get_mut(&device) else { return };
        let Some(request) = seeder.requests.get_mut(&number) else { return };
        seeder.progress_at = now;
        let done = match frame {
            BulkFrame::Proof { file, range, hashes, .. } => {
                take_proof(&manifest, request, file, range, &hashes).map(|()| Vec::new())
            }
            BulkFrame::Data { file, range, data, .. } => take_data(&manifest, request, file, range, data),
            BulkFrame::Small { files, .. } => take_small(&manifest, request, files),
            BulkFrame::Hello { .. } | BulkFrame::HelloAck { .. } => return,
        };
        let Some(done) = done else {
            // Nothing of this can be believed.
            self.blame(device, file);
            return self.pump(now, numbers);
        };
        if done.is_empty() {
            return;
        }
        let size = |file| manifest.file(file).map_or(0, |(size_bytes, _)| size_bytes);
        let bytes: u64 = done.iter().map(|piece| range_bytes(piece.range, size(piece.file))).sum();
        // These bytes leave the request and wait for the disk: the budget is the same.
        request.bytes -= bytes;
        seeder.in_flight_bytes -= bytes;
        if request.pieces.is_empty() {
            let took = now.since(request.issued);
            seeder.requests.remove(&number);
            (seeder.failures, seeder.rest_until) = (0, None);
            if took <= QUICK {
                seeder.window_bytes = (seeder.window_bytes + REQUEST_BYTES_MAX / 2).min(WINDOW_BYTES_MAX);
            } else if took >= SLOW {
                seeder.window_bytes = (seeder.window_bytes / 2).max(WINDOW_BYTES_MIN);
            }
        }
        let ticket = numbers.ticket();
        let pieces = done.iter().map(|piece| (piece.file, piece.range)).collect();
        self.storing.insert(ticket, Storing { device, bytes, pieces });
        let range = StoreRange { download: self.id, pieces: done };
        self.steps.push_back(Step::Files(FileCommand::Store(ticket, range)));
        self.pump(now, numbers);
    }

    pub(crate) fn handle_refused(
        &mut self,
        now: Time,
        device: DeviceId,
        number: u32,
        reason: RefusedReason,
        numbers: &mut Numbers,
    ) {
        if reason == RefusedReason::SourceChanged {
            let warning = Warning::SourceChanged { device, download: self.id };
            self.steps.push_back(Step::Event(Event::Warning(warning)));
        }
        let Some(seeder) = self.seeders.get_mut(&device) else { return };
        if reason == RefusedReason::Busy {
            seeder.window_bytes = (seeder.window_bytes / 2).max(WINDOW_BYTES_MIN);
            seeder.rest(now);
            if let Some(request) = seeder.requests.remove(&number) {
                seeder.in_flight_bytes -= request.bytes;
                self.unstored_bytes -= request.bytes;
                self.returned.extend(request.pieces.into_iter().map(|((file, _), piece)| (file, piece.range)));
            }
        } else {
            // Nothing to be had here; its next seeding note or link may change that.
            seeder.failures = seeder.failures.max(4);
            seeder.rest(now);
            self.return_all(device, true);
        }
        self.pump(now, numbers);
    }

    pub(crate) fn handle_stored(
        &mut self,
        now: Time,
        ticket: Ticket,
        result: Result<(), StoreFailure>,
        numbers: &mut Numbers,
    ) {
        let Some(storing) = self.storing.remove(&ticket) else { return };
        self.unstored_bytes -= storing.bytes;
        if self.ended {
            return;
        }
        match result {
            Ok(()) => {
                let Some(manifest) = self.manifest.clone() else { return };
                for (file, range) in storing.pieces {
                    let Some((size_bytes, _)) = manifest.file(file) else { continue };
                    let state = &mut self.items[file as usize];
                    state.stored.insert(range);
                    if state.stored.is_whole(size_bytes) {
                        self.to_finish.push(file);
                    }
                }
                self.done_bytes += storing.bytes;
                self.unsaved_bytes += storing.bytes;
                self.unshown = true;
                if self.unsaved_bytes >= CHECKPOINT_BYTES {
                    self.save(now);
                }
                self.show(now);
            }
            Err(StoreFailure::WrongBytes { file, .. }) => {
                self.returned.extend(storing.pieces);
                self.blame(storing.device, file);
            }
            Err(StoreFailure::Disk(reason)) => return self.fail_disk(now, reason),
        }
        self.pump(now, numbers);
    }

    fn flush_finish(&mut self) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let mut items = std::mem::take(&mut self.to_finish);
        items.retain(|item| !std::mem::replace(&mut self.items[*item as usize].finishing, true));
        for items in items.chunks(FINISH_ITEMS_MAX) {
            let command = FileCommand::Finish { download: self.id, items: items.to_vec() };
            self.steps.push_back(Step::Files(command));
        }
    }

    pub(crate) fn handle_finished(&mut self, now: Time, items: &[u32], result: Result<(), String>) {
        if self.ended {
            return;
        }
        if let Err(reason) = result {
            return self.fail_disk(now, reason);
        }
        let Some(manifest) = self.manifest.clone() else { return };
        for item in items {
            let Some(state) = self.items.get_mut(*item as usize) else { continue };
            if state.finishing && !std::mem::replace(&mut state.finished, true) {
                self.finished_items += 1;
                self.finished_files += u32::from(manifest.file(*item).is_some());
                self.unshown = true;
            }
        }
        self.show(now);
        self.complete_if_done();
    }

    fn complete_if_done(&mut self) {
        let Some(manifest) = self.manifest.clone() else { return };
        if self.ended || (self.finished_items as usize) < manifest.items().len() {
            return;
        }
        self.ended = true;
        self.show_now();
        self.steps.push_back(Step::Files(FileCommand::Complete(self.id)));
        self.steps.push_back(Step::Event(Event::DownloadFinished(self.id)));
        self.steps.push_back(Step::Complete(manifest));
    }

    // ---- Time --------------------------------------------------------------------------------------------------------

    pub(crate) fn handle_timeout(&mut self, now: Time, numbers: &mut Numbers) {
        if self.ended {
            return;
        }
        self.looked_at = now;
        if let Phase::Manifest { from: from @ Some(_), progress_at, .. } = &mut self.phase
            && progress_at.after(SILENCE_MAX) <= now
            && let Some(seeder) = from.take().and_then(|device| self.seeders.get_mut(&device))
        {
            seeder.rest(now);
        }
        for device in self.seeders.keys().copied().collect::<Vec<_>>() {
            let seeder = self.seeders.get_mut(&device).expect("its key was just read");
            if !seeder.requests.is_empty() && seeder.progress_at.after(SILENCE_MAX) <= now {
                seeder.window_bytes = (seeder.window_bytes / 2).max(WINDOW_BYTES_MIN);
                seeder.rest(now);
                self.return_all(device, true);
            } else if seeder.rest_until.is_some_and(|until| until <= now) {
                seeder.rest_until = None;
            }
        }
        if self.unsaved_bytes > 0 && self.saved_at.after(CHECKPOINT_EVERY) <= now {
            self.save(now);
        }
        self.show(now);
        self.pump(now, numbers);
    }

    fn save(&mut self, now: Time) {
        self.saved_at = now;
        if std::mem::take(&mut self.unsaved_bytes) > 0 {
            let journal = self.journal();
            self.steps.push_back(Step::Files(FileCommand::Checkpoint(self.id, journal)));
        }
    }

    fn journal(&self) -> DownloadJournal {
        let mut journal = DownloadJournal::new(self.root);
        for (index, state) in self.items.iter().enumerate() {
            if state.finished {
                journal.items.insert(index as u32, ItemProgress::Finished);
            } else if !state.stored.is_empty() {
                journal.items.insert(index as u32, ItemProgress::Partial(state.stored.clone()));
            }
        }
        journal
    }

    fn show(&mut self, now: Time) {
        if self.unshown && self.shown_at.is_none_or(|at| at.after(PROGRESS_EVERY) <= now) {
            self.shown_at = Some(now);
            self.show_now();
        }
    }

    fn show_now(&mut self) {
        self.unshown = false;
        let Some(manifest) = &self.manifest else { return };
        self.steps.push_back(Step::Event(Event::DownloadProgress {
            download: self.id,
            done_bytes: self.done_bytes,
            total_bytes: manifest.size_bytes(),
            done_files: self.finished_files,
            seeders: self.seeders.values().filter(|seeder| !seeder.requests.is_empty()).count() as u32,
        }));
    }
}
