//! Exchange of entries: who lacks what, and asking for it.
//!
//! ```text
//!   link up, and every 20 s:   Have{ann: 4, bob: 2, ...}     both ways
//!   whoever has less asks:     EntriesRequest{ann, 3..4}  ->  Entries{ann 3, ann 4}     one frame for each request
//!   a new entry:               its author pushes it over every link
//!   caught up over a link:     Have about those chains, soon, to the others: they may lack them too
//! ```
//!
//! Only what is missing travels, in pages smaller than a frame, and what an absent author said comes from anybody who
//! has it, each page from the next. A claim that brings nothing is forgotten until it is made again, so a liar costs one
//! request for each claim; one about our own chain isn't believed again. What somebody had who left before giving it is
//! known to be missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rockpool_proto::DeviceId;

use crate::entry::{EntryId, StoredEntry};
use crate::frame::{Frame, HEADS_PER_FRAME_MAX};
use crate::log::MessageLog;
use crate::roster::Directory;
use crate::time::Time;

const COMPARE_EVERY: Duration = Duration::from_secs(20);
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Entries caught up are announced together.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(300);
/// Requests under way on one link.
const ASKED_PER_LINK_MAX: usize = 4;
/// Entries asked for at once; the answer holds as many as fit into a frame.
const ENTRIES_PER_REQUEST: u64 = 512;

#[derive(Debug)]
struct Side {
    /// What the other end said it has.
    has: BTreeMap<DeviceId, u64>,
    compare_at: Time,
    /// A Have of theirs has come.
    compared: bool,
}

#[derive(Debug)]
struct Asked {
    from: DeviceId,
    until: Time,
}

#[derive(Debug, Default)]
pub(crate) struct Exchange {
    sides: BTreeMap<DeviceId, Side>,
    /// By author.
    asked: BTreeMap<DeviceId, Asked>,
    /// By author: who was asked last. The next page is asked of another one, if there is one.
    asked_last: BTreeMap<DeviceId, DeviceId>,
    /// By author: what those said they have who left before giving it.
    missed: BTreeMap<DeviceId, u64>,
    /// Said that they have more of our own chain, and didn't give it.
    disbelieved: BTreeSet<DeviceId>,
    announce: BTreeSet<DeviceId>,
    announce_at: Option<Time>,
    frames: VecDeque<(DeviceId, Frame)>,
}

impl Exchange {
    pub(crate) fn poll_frame(&mut self) -> Option<(DeviceId, Frame)> {
        self.frames.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let asked = self.asked.values().map(|asked| asked.until);
        self.sides.values().map(|side| side.compare_at).chain(asked).chain(self.announce_at).min()
    }

    /// Whether this device has told us what it has.
    pub(crate) fn has_compared(&self, device: DeviceId) -> bool {
        self.sides.get(&device).is_some_and(|side| side.compared)
    }

    /// The longest chain of this author that a linked device says it has.
    fn claimed(&self, author: DeviceId) -> u64 {
        self.sides.values().filter_map(|side| side.has.get(&author)).copied().max().unwrap_or(0)
    }

    /// Whether somebody who can be believed has more of our own chain than we do.
    pub(crate) fn knows_more_of_us(&self, me: DeviceId, log: &MessageLog) -> bool {
        let believed = self.sides.iter().filter(|(device, _)| !self.disbelieved.contains(device));
        believed.filter_map(|(_, side)| side.has.get(&me)).any(|has| *has > log.length_of(me))
    }

    /// Entries of this author that are known to exist and are not here.
    pub(crate) fn missing_of(&self, author: DeviceId, log: &MessageLog) -> u64 {
        if log.forked_at(author).is_some() {
            // What follows another branch never comes.
            return 0;
        }
        let missed = self.missed.get(&author).copied().unwrap_or(0);
        self.claimed(author).max(missed).max(log.proven_of(author)).saturating_sub(log.length_of(author))
    }

    pub(crate) fn link_up(&mut self, now: Time, device: DeviceId, log: &MessageLog) {
        let side = Side { has: BTreeMap::new(), compare_at: now.after(COMPARE_EVERY), compared: false };
        self.sides.insert(device, side);
        self.send_have(device, log);
    }

    pub(crate) fn link_down(&mut self, now: Time, device: DeviceId, log: &MessageLog) {
        for (author, has) in self.sides.remove(&device).map(|side| side.has).unwrap_or_default() {
            if has > log.length_of(author) {
                let missed = self.missed.entry(author).or_default();
                *missed = (*missed).max(has);
            }
        }
        self.asked.retain(|_, asked| asked.from != device);
        self.ask(now, log);
    }

    fn send_have(&mut self, to: DeviceId, log: &MessageLog) {
        let mut heads: Vec<_> = log.have().collect();
        // Its own chain first: a device that lost its store must hear of it before it writes.
        heads.sort_by_key(|(author, _)| (*author != to, *author));
        if heads.is_empty() {
            self.frames.push_back((to, Frame::Have(Vec::new())));
        }
        for heads in heads.chunks(HEADS_PER_FRAME_MAX) {
            self.frames.push_back((to, Frame::Have(heads.to_vec())));
        }
    }

    pub(crate) fn handle_have(
        &mut self,
        now: Time,
        from: DeviceId,
        heads: Vec<(DeviceId, u64)>,
        log: &MessageLog,
        directory: &Directory,
    ) {
        let Some(side) = self.sides.get_mut(&from) else { return };
        side.compared = true;
        // Authors that nobody knows are left out, which also bounds the table.
        side.has.extend(heads.into_iter().filter(|(author, _)| directory.device(*author).is_some()));
        self.ask(now, log);
    }

    /// The answer to a request: one frame.
    pub(crate) fn handle_request(&mut self, from: DeviceId, author: DeviceId, first: u64, last: u64, log: &MessageLog) {
        let entries = log.chain_from(author, first).iter().take_while(|entry| entry.id.counter <= last);
        let (frame, _) = Frame::entries(entries.map(Arc::as_ref), Some(author));
        self.frames.push_back((from, frame));
    }

    /// After an Entries frame was taken in. `entered` are those that are new here.
    pub(crate) fn handle_entries(
        &mut self,
        now: Time,
        from: DeviceId,
        answers: Option<DeviceId>,
        entered: &[Arc<StoredEntry>],
        log: &MessageLog,
    ) {
        for entry in entered {
            let author = entry.id.device;
            if let Some(side) = self.sides.get_mut(&from) {
                let has = side.has.entry(author).or_default();
                *has = (*has).max(entry.id.counter);
            }
            if author != from {
                self.announce.insert(author);
                self.announce_at.get_or_insert(now.after(ANNOUNCE_AFTER));
            }
        }
        if let Some(author) = answers
            && self.asked.get(&author).is_some_and(|asked| asked.from == from)
        {
            self.asked.remove(&author);
            if !entered.iter().any(|entry| entry.id.device == author) {
                self.forget_claim(from, author, log);
            }
        }
        self.ask(now, log);
    }

    /// Tells one device what we have: it may have been passed over.
    pub(crate) fn compare(&mut self, device: DeviceId, log: &MessageLog) {
        if self.sides.contains_key(&device) {
            self.send_have(device, log);
        }
    }

    /// An entry came that can't enter before earlier ones do.
    pub(crate) fn handle_early(&mut self, from: DeviceId, id: EntryId) {
        if let Some(side) = self.sides.get_mut(&from) {
            let has = side.has.entry(id.device).or_default();
            *has = (*has).max(id.counter);
        }
    }

    fn forget_claim(&mut self, from: DeviceId, author: DeviceId, log: &MessageLog) {
        if author == log.me() {
            self.disbelieved.insert(from);
        }
        if let Some(has) = self.sides.get_mut(&from).and_then(|side| side.has.get_mut(&author)) {
            *has = (*has).min(log.length_of(author));
        }
    }

    /// Own entries are durable: push them to these devices.
    pub(crate) fn push(&mut self, to: &[DeviceId], entries: &[Arc<StoredEntry>]) {
        for device in to {
            let mut left = entries;
            while !left.is_empty() {
                let (frame, count) = Frame::entries(left.iter().map(Arc::as_ref), None);
                if count == 0 {
                    break; // An entry is always smaller than a frame.
                }
                self.frames.push_back((*device, frame));
                left = &left[count..];
            }
        }
    }

    /// Members changed: what was claimed of authors unknown then is compared again.
    pub(crate) fn compare_again(&mut self, now: Time, log: &MessageLog) {
        for device in self.sides.keys().copied().collect::<Vec<_>>() {
            self.send_have(device, log);
        }
        self.ask(now, log);
    }

    /// Asks for what is missing, of one link for each author.
    fn ask(&mut self, now: Time, log: &MessageLog) {
        let mut room: BTreeMap<DeviceId, usize> = self.sides.keys().map(|side| (*side, ASKED_PER_LINK_MAX)).collect();
        for asked in self.asked.values() {
            room.entry(asked.from).and_modify(|room| *room = room.saturating_sub(1));
        }
        let lacking = |(author, has): (&DeviceId, &u64)| (*has > log.length_of(*author)).then_some(*author);
        let authors: BTreeSet<DeviceId> =
            self.sides.values().flat_map(|side| side.has.iter().filter_map(lacking)).collect();
        for author in authors {
            if self.asked.contains_key(&author) {
                continue;
            }
            let length = log.length_of(author);
            let has = |side: &Side| side.has.get(&author).copied().filter(|has| *has > length);
            let able = |(device, side): (&DeviceId, &Side)| Some((*device, has(side)?)).filter(|_| room[device] > 0);
            let last = self.asked_last.get(&author).copied();
            let after = self.sides.iter().filter(|(device, _)| Some(**device) > last);
            let Some((device, has)) = after.chain(self.sides.iter()).find_map(able) else { continue };
            room.entry(device).and_modify(|room| *room -= 1);
            self.asked_last.insert(author, device);
            self.asked.insert(author, Asked { from: device, until: now.after(ANSWER_MAX) });
            let last_counter = has.min(length.saturating_add(ENTRIES_PER_REQUEST));
            let frame = Frame::EntriesRequest { device: author, first_counter: length + 1, last_counter };
            self.frames.push_back((device, frame));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, log: &MessageLog) {
        let late: Vec<(DeviceId, DeviceId)> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= now)
            .map(|(author, asked)| (*author, asked.from))
            .collect();
        for (author, from) in late {
            self.asked.remove(&author);
            self.forget_claim(from, author, log);
        }
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_at = None;
            let authors = std::mem::take(&mut self.announce);
            for (device, side) in &self.sides {
                let lacks = |author: &&DeviceId| side.has.get(author).copied().unwrap_or(0) < log.have_of(**author);
                let heads: Vec<_> =
                    authors.iter().filter(lacks).map(|author| (*author, log.have_of(*author))).collect();
                for heads in heads.chunks(HEADS_PER_FRAME_MAX) {
                    self.frames.push_back((*device, Frame::Have(heads.to_vec())));
                }
            }
        }
        for device in self.sides.keys().copied().collect::<Vec<_>>() {
            let side = self.sides.get_mut(&device).expect("its key was just read");
            if side.compare_at <= now {
                side.compare_at = now.after(COMPARE_EVERY);
                self.send_have(device, log);
            }
        }
        self.ask(now, log);
    }
}
