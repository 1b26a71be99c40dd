//! The message log of one pool: every device's chain, and their merge.
//!
//! ```text
//!   chain of ann:  1 <- 2 <- 3 <- 4            have() = {ann: 4, bob: 2}
//!   chain of bob:  1 <- 2    [4 waits: 3 is missing]
//!   shown:         by (hybrid clock, device, counter), the same on every device
//! ```
//!
//! * An entry enters when its signature fits, it follows the last one of its chain (counter, hash, clock), and its author
//!   is a device of a member. Then it stays: nothing leaves the log.
//! * What comes early waits, within bounds; what comes twice is dropped. Two entries with one counter are evidence against
//!   their author: the first one known is kept. If the author is this device, its store was copied or set back.
//! * Retractions and withdrawals are entries too. They hold from the moment they are known, whether what they speak of
//!   came before or comes later.
//! * Own entries count in [`MessageLog::have`] only once durable: what others saw, a crash can't take from us, so no
//!   counter is ever used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rockpool_proto::{DeviceId, PoolId, limits};

use crate::clock::HybridClock;
use crate::entry::{Body, EntryHash, EntryId, FileOffer, OrderKey, StoredEntry};
use crate::identity::DeviceKeys;
use crate::roster::Directory;

/// Entries of one chain that may wait for an earlier one.
pub(crate) const EARLY_ENTRIES_MAX: usize = 256;

/// What became of an entry.
#[derive(Debug)]
pub(crate) enum Inserted {
    /// It is in, and with it those that waited for it.
    Entries(Vec<Arc<StoredEntry>>),
    /// It was in already.
    Known,
    /// Entries before it are missing.
    Early,
    /// Nobody known has this device; may change.
    UnknownAuthor,
    /// Its author has signed another one with this counter, or another one before it.
    Equivocation(EntryId),
    /// Written after its device was revoked, by what is known here. Who passes it on may not have known.
    Revoked,
    /// Breaks a rule; its sender is to blame.
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct Chain {
    /// Entry `n` has counter `n + 1`.
    entries: Vec<Arc<StoredEntry>>,
    early: BTreeMap<u64, StoredEntry>,
    /// The author has signed two entries with this counter.
    forked_at: Option<u64>,
}

impl Chain {
    fn length(&self) -> u64 {
        self.entries.len() as u64
    }
}

/// All that was said in a pool, as far as this device knows.
#[derive(Debug)]
pub struct MessageLog {
    pool: PoolId,
    me: DeviceId,
    chains: BTreeMap<DeviceId, Chain>,
    order: BTreeMap<OrderKey, Arc<StoredEntry>>,
    /// Retracted entry -> devices that retracted it. Which of them may is asked when it matters.
    retractions: BTreeMap<EntryId, BTreeSet<DeviceId>>,
    withdrawn: BTreeSet<EntryId>,
    /// File offers by author and counter.
    offers: BTreeSet<EntryId>,
    clock: HybridClock,
    /// Own entries up to here survive a crash.
    own_durable: u64,
}

impl MessageLog {
    pub(crate) fn new(pool: PoolId, me: DeviceId) -> MessageLog {
        MessageLog {
            pool,
            me,
            chains: BTreeMap::new(),
            order: BTreeMap::new(),
            retractions: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            offers: BTreeSet::new(),
            clock: HybridClock::default(),
            own_durable: 0,
        }
    }

    /// Takes in what an earlier run had verified and stored. Only an unbroken beginning of each chain counts: the rest
    /// is asked for again.
    pub(crate) fn restore(&mut self, mut entries: Vec<StoredEntry>, wall_ms: u64) {
        entries.sort_by_key(|entry| entry.id);
        for entry in entries {
            if self.follows(&entry).is_ok() {
                self.push(entry, wall_ms);
            }
        }
        self.own_durable = self.length_of(self.me);
    }

    /// Writes an own entry. It is shown and sent once durable.
    pub(crate) fn append(&mut self, keys: &DeviceKeys, wall_ms: u64, body: Body) -> Arc<StoredEntry> {
        let time = self.clock.tick(wall_ms);
        let (counter, previous) = (self.length_of(self.me) + 1, self.head_of(self.me));
        let entry = StoredEntry::write(keys, self.pool, counter, previous, time, wall_ms, body);
        self.push(entry, wall_ms)
    }

    /// Own entries up to this counter are durable.
    pub(crate) fn set_durable(&mut self, counter: u64) {
        self.own_durable = self.own_durable.max(counter.min(self.length_of(self.me)));
    }

    /// Takes in an entry from another device.
    pub(crate) fn insert(&mut self, directory: &Directory, entry: StoredEntry, wall_ms: u64) -> Inserted {
        let id = entry.id;
        let Some(author) = directory.device(id.device) else { return Inserted::UnknownAuthor };
        if author.revoked_at_ms.is_some_and(|revoked_at_ms| entry.time.ms > revoked_at_ms) {
            return Inserted::Revoked;
        }
        let chain = self.chains.entry(id.device).or_default();
        let place = usize::try_from(id.counter - 1).unwrap_or(usize::MAX);
        if let Some(known) = chain.entries.get(place) {
            if known.hash() == entry.hash() {
                return Inserted::Known;
            }
            return match entry.verify(&author.key) {
                Ok(()) => self.forked(id),
                Err(_) => Inserted::Refused("its signature doesn't fit"),
            };
        }
        if entry.verify(&author.key).is_err() {
            return Inserted::Refused("its signature doesn't fit");
        }
        if id.counter > chain.length() + 1 {
            // Far ahead ones come again when asked for.
            if id.counter <= chain.length() + EARLY_ENTRIES_MAX as u64 {
                chain.early.insert(id.counter, entry);
            }
            return Inserted::Early;
        }
        match self.follows(&entry) {
            Ok(()) => {}
            Err(Broken::Link) => return self.forked(EntryId { counter: id.counter - 1, ..id }),
            Err(Broken::Clock) => return Inserted::Refused("its clock went back along its chain"),
        }
        let mut entered = vec![self.push(entry, wall_ms)];
        while let Some(next) = self.take_early(id.device) {
            entered.push(self.push(next, wall_ms));
        }
        Inserted::Entries(entered)
    }

    fn forked(&mut self, id: EntryId) -> Inserted {
        self.chains.entry(id.device).or_default().forked_at.get_or_insert(id.counter);
        Inserted::Equivocation(id)
    }

    /// Where this device's chain was seen to part into two.
    pub fn forked_at(&self, device: DeviceId) -> Option<u64> {
        self.chains.get(&device)?.forked_at
    }

    /// The highest counter of this device that is proven to exist: its signature is here, if not all before it.
    pub(crate) fn proven_of(&self, device: DeviceId) -> u64 {
        let early = |chain: &Chain| chain.early.last_key_value().map_or(0, |(counter, _)| *counter);
        self.chains.get(&device).map_or(0, |chain| early(chain).max(chain.length()))
    }

    /// The next entry that waited, if it follows.
    fn take_early(&mut self, device: DeviceId) -> Option<StoredEntry> {
        let chain = self.chains.get_mut(&device)?;
        let next = chain.early.remove(&(chain.length() + 1))?;
        self.follows(&next).is_ok().then_some(next)
    }

    fn follows(&self, entry: &StoredEntry) -> Result<(), Broken> {
        let last = self.chains.get(&entry.id.device).and_then(|chain| chain.entries.last());
        if entry.id.counter != last.map_or(0, |last| last.id.counter) + 1
            || entry.previous != last.map(|last| last.hash())
        {
            return Err(Broken::Link);
        }
        if last.is_some_and(|last| entry.time <= last.time) {
            return Err(Broken::Clock);
        }
        Ok(())
    }

    fn push(&mut self, entry: StoredEntry, wall_ms: u64) -> Arc<StoredEntry> {
        let entry = Arc::new(entry);
        match entry.id.device == self.me {
            true => self.clock.observe_own(entry.time),
            false => self.clock.observe(entry.time, wall_ms),
        }
        match &entry.body {
            Body::Retract(target) => {
                self.retractions.entry(*target).or_default().insert(entry.id.device);
            }
            Body::FileWithdraw { counter } => {
                self.withdrawn.insert(EntryId { counter: *counter, ..entry.id });
            }
            Body::FileOffer(_) => {
                self.offers.insert(entry.id);
            }
            Body::Text(_) | Body::Unknown => {}
        }
        self.chains.entry(entry.id.device).or_default().entries.push(entry.clone());
        self.order.insert(entry.order_key(), entry.clone());
        entry
    }

    /// Whose log this is.
    pub(crate) fn me(&self) -> DeviceId {
        self.me
    }

    /// Entries of a chain that are here, durable or not.
    pub(crate) fn length_of(&self, device: DeviceId) -> u64 {
        self.chains.get(&device).map_or(0, Chain::length)
    }

    fn head_of(&self, device: DeviceId) -> Option<EntryHash> {
        Some(self.chains.get(&device)?.entries.last()?.hash())
    }

    /// How many entries of a device's chain may be told and given to others.
    pub fn have_of(&self, device: DeviceId) -> u64 {
        if device == self.me { self.own_durable } else { self.length_of(device) }
    }

    /// The same for every device, those with none left out.
    pub fn have(&self) -> impl Iterator<Item = (DeviceId, u64)> {
        self.chains.keys().map(|device| (*device, self.have_of(*device))).filter(|(_, counter)| *counter > 0)
    }

    /// Entries of one chain for others, from a counter on.
    pub(crate) fn chain_from(&self, device: DeviceId, first_counter: u64) -> &[Arc<StoredEntry>] {
        let Some(chain) = self.chains.get(&device) else { return &[] };
        let have = self.have_of(device) as usize;
        let first = usize::try_from(first_counter.max(1) - 1).unwrap_or(usize::MAX).min(have);
        &chain.entries[first..have]
    }

    /// One entry.
    pub fn entry(&self, id: EntryId) -> Option<&Arc<StoredEntry>> {
        let counter = usize::try_from(id.counter.checked_sub(1)?).ok()?;
        self.chains.get(&id.device)?.entries.get(counter)
    }

    /// Whether this entry was taken back by somebody who may: its author's account.
    pub fn is_retracted(&self, directory: &Directory, id: EntryId) -> bool {
        let by = self.retractions.get(&id);
        by.is_some_and(|devices| devices.iter().any(|device| directory.same_account(*device, id.device)))
    }

    /// Whether this file offer holds no longer.
    pub fn is_withdrawn(&self, directory: &Directory, id: EntryId) -> bool {
        self.withdrawn.contains(&id) || self.is_retracted(directory, id)
    }

    /// All entries before a place (or all there are), newest first.
    pub fn before(&self, place: Option<OrderKey>) -> impl Iterator<Item = &Arc<StoredEntry>> {
        let end = place.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.order.range((std::ops::Bound::Unbounded, end)).rev().map(|(_, entry)| entry)
    }

    /// All entries in the order in which every device shows them, from a place on.
    pub fn in_order(&self, from: Option<OrderKey>) -> impl DoubleEndedIterator<Item = &Arc<StoredEntry>> {
        let from = from.unwrap_or(OrderKey {
            time: Default::default(),
            id: EntryId { device: DeviceId([0; DeviceId::LENGTH]), counter: 0 },
        });
        self.order.range(from..).map(|(_, entry)| entry)
    }

    /// File offers that hold: of each device the newest `OFFERS_PER_DEVICE_MAX`.
    pub fn offers(&self, directory: &Directory) -> Vec<(EntryId, &FileOffer)> {
        let mut open: Vec<(EntryId, &FileOffer)> = Vec::new();
        let (mut device, mut count) = (None, 0);
        for id in self.offers.iter().rev() {
            if device.replace(id.device) != Some(id.device) {
                count = 0;
            }
            if count == limits::OFFERS_PER_DEVICE_MAX || self.is_withdrawn(directory, *id) {
                continue;
            }
            if let Some(Body::FileOffer(offer)) = self.entry(*id).map(|entry| &entry.body) {
                count += 1;
                open.push((*id, offer));
            }
        }
        open.sort_by_key(|(id, _)| self.entry(*id).map(|entry| entry.order_key()));
        open
    }
}

enum Broken {
    Link,
    Clock,
}

#[cfg(test)]
mod tests;
