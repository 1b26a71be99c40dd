//! The whole peer: composes the machines and rewrites what they say.
//!
//! ```text
//!   commands ----> |        | --> message log --> exchange ----\
//!   cluster  ----> |  Peer  | --> overlay --> negotiation ------> outputs
//!   links    ----> |        | --> seeder, downloads -----------/
//!   disk     ----> |        |
//! ```
//!
//! Each input goes to the machines it concerns; then [`Peer::settle`] moves what they want to the outputs until nothing
//! moves. The cluster may be gone: nothing here waits for it but links that don't stand yet.

mod channel;
mod commands;
mod files;
mod frames;
mod links;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rockpool_proto::{DeviceId, PoolId};

use self::files::Files;
use self::links::Link;
use self::writing::Writing;
use crate::entry::{Body, EntryId, FileOffer, OrderKey, StoredEntry};
use crate::event::{Event, Warning};
use crate::identity::DeviceKeys;
use crate::input::Input;
use crate::log::MessageLog;
use crate::manifest::Manifest;
use crate::negotiation::Negotiation;
use crate::output::Output;
use crate::overlay::Overlay;
use crate::roster::{Directory, Member, Roster, RosterChange};
use crate::signal::ReplayWindow;
use crate::sync::Exchange;
use crate::time::{Now, Time};

/// What a peer is made of.
#[derive(Debug)]
pub struct Config {
    /// The pool.
    pub pool: PoolId,
    /// This device.
    pub keys: DeviceKeys,
}

/// What an earlier run left in the driver's store.
#[derive(Debug, Default)]
pub struct Restored {
    /// All entries of the pool, in any order; they were verified before they were stored.
    pub entries: Vec<StoredEntry>,
    /// Members as last known, so that talking begins before the cluster answers.
    pub members: Vec<Member>,
    /// Own file offers that still hold: the driver checked path, size and time of each source. Own offers in the log
    /// that are not among these are withdrawn.
    pub offers: Vec<(EntryId, Arc<Manifest>)>,
    /// Downloads of others' offers that are complete and still in place: this device seeds them too.
    pub seeds: Vec<Arc<Manifest>>,
}

/// One device's presence in one pool.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    directory: Directory,
    roster: Roster,
    overlay: Overlay,
    negotiation: Negotiation,
    log: MessageLog,
    exchange: Exchange,
    writing: Writing,
    files: Files,
    links: BTreeMap<DeviceId, Link>,
    /// Newest last. Signals made for any of them are for this process.
    own_epochs: Vec<u64>,
    /// The newest presence epoch known of each device; outlives the roster.
    epochs: BTreeMap<DeviceId, u64>,
    /// Of the newest signal to each device.
    signal_sequences: BTreeMap<DeviceId, u64>,
    windows: BTreeMap<DeviceId, ReplayWindow>,
    attached: bool,
    left: bool,
    present: BTreeSet<DeviceId>,
    /// The roster or a link has changed since `present` was told.
    presence_changed: bool,
    mesh_full: bool,
    /// Authors of two entries with one counter that people were told of.
    forks_told: BTreeSet<DeviceId>,
    /// By device: since when, and how often people were told lately that something of it was refused.
    refusals: BTreeMap<DeviceId, (Time, u32)>,
    now: Time,
    outputs: VecDeque<Output>,
}

impl Peer {
    /// A peer that knows what an earlier run knew.
    pub fn new(now: Now, config: Config, restored: Restored) -> Peer {
        let me = config.keys.device_id();
        let mut directory = Directory::default();
        restored.members.into_iter().for_each(|member| directory.put(member));
        let mut log = MessageLog::new(config.pool, me);
        log.restore(restored.entries, now.wall_ms);
        let writing = Writing::new(now, log.have_of(me));
        let mut peer = Peer {
            negotiation: Negotiation::new(me),
            directory,
            roster: Roster::default(),
            overlay: Overlay::FullMesh,
            log,
            exchange: Exchange::default(),
            writing,
            files: Files::default(),
            links: BTreeMap::new(),
            own_epochs: Vec::new(),
            epochs: BTreeMap::new(),
            signal_sequences: BTreeMap::new(),
            windows: BTreeMap::new(),
            attached: false,
            left: false,
            present: BTreeSet::new(),
            presence_changed: false,
            mesh_full: false,
            forks_told: BTreeSet::new(),
            refusals: BTreeMap::new(),
            now: now.time,
            outputs: VecDeque::new(),
            config,
        };
        peer.restore_offers(now, restored.offers, restored.seeds);
        peer.settle(now);
        peer
    }

    /// Takes one thing that happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.now = now.time;
        match input {
            Input::Command(id, command) => self.handle_command(now, id, command),

            Input::Attached { presence_epoch, roster, members } => {
                self.own_epochs.retain(|epoch| *epoch != presence_epoch);
                self.own_epochs.push(presence_epoch);
                let excess = self.own_epochs.len().saturating_sub(OWN_EPOCHS_MAX);
                self.own_epochs.drain(..excess);
                if !std::mem::replace(&mut self.attached, true) {
                    self.event(Event::ClusterReachable(true));
                }
                members.into_iter().for_each(|member| self.directory.put(member));
                self.roster = roster;
                self.roster_changed(now);
                self.members_changed(now);
                self.negotiation.set_cluster(now, !self.left);
            }
            Input::Detached => {
                if std::mem::replace(&mut self.attached, false) {
                    self.event(Event::ClusterReachable(false));
                }
                self.negotiation.set_cluster(now, false);
            }
            Input::RosterChanged(change) => self.handle_roster(now, change),
            Input::MemberChanged(member) => {
                self.directory.put(member);
                self.members_changed(now);
            }
            Input::Signal { from, payload } => self.handle_signal(now, from, payload),

            Input::LocalDescription { connection, sdp } => self.negotiation.handle_local_description(connection, sdp),
            Input::LocalCandidate { connection, candidate } => {
                self.negotiation.handle_local_candidate(connection, candidate);
            }
            Input::Connected { connection, remote } => self.negotiation.handle_connected(now, connection, remote),
            Input::Disconnected(connection) => self.negotiation.handle_disconnected(now, connection),
            Input::Closed(connection) | Input::ConnectionError { connection, .. } => {
                self.negotiation.handle_closed(now, connection);
            }
            Input::NetworkChanged => self.negotiation.handle_network_changed(now),
            Input::ChannelOpen(connection) => self.handle_channel_open(now, connection),
            Input::Frame(connection, message) => self.handle_message(now, connection, message),
            Input::Sent(connection, bytes) => self.handle_sent(connection, bytes),

            Input::Persisted(sequence) => self.handle_persisted(sequence),
            Input::RangeRead(ticket, result) => self.handle_range_read(now, ticket, result),
            Input::RangeStored(ticket, result) => self.handle_range_stored(now, ticket, result),
            Input::DownloadPrepared(download, result) => self.handle_prepared(now, download, result),
            Input::FilesFinished { download, items, result } => {
                self.handle_files_finished(now, download, &items, result);
            }
            Input::Timeout => {}
        }
        self.handle_timeouts(now);
        self.settle(now);
    }

    /// The next thing to do. Drain to `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        let channels = self.links.values().filter_map(Link::poll_timeout);
        let machines = [
            self.negotiation.poll_timeout(),
            self.exchange.poll_timeout(),
            self.writing.poll_timeout(),
            self.files.poll_timeout(),
        ];
        machines.into_iter().flatten().chain(channels).min()
    }

    fn handle_timeouts(&mut self, now: Now) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now.time);
        if due(self.negotiation.poll_timeout()) {
            self.negotiation.handle_timeout(now);
        }
        self.drop_late_channels(now);
        if due(self.exchange.poll_timeout()) {
            self.exchange.handle_timeout(now.time, &self.log);
        }
        if due(self.files.poll_timeout()) {
            self.files.handle_timeout(now.time);
        }
    }

    /// Moves what the machines want to the outputs, until nothing moves.
    fn settle(&mut self, now: Now) {
        loop {
            let mut moved = self.settle_links(now);
            moved |= self.settle_writing(now);
            while let Some((device, frame)) = self.exchange.poll_frame() {
                self.send_control(device, frame);
                moved = true;
            }
            moved |= self.settle_files();
            if !moved {
                break;
            }
        }
        self.flush_persist();
        self.tell_presence();
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn warn(&mut self, warning: Warning) {
        self.event(Event::Warning(warning));
    }

    // ---- Roster and members ------------------------------------------------------------------------------------------

    fn handle_roster(&mut self, now: Now, change: RosterChange) {
        if self.roster.apply(change) {
            self.roster_changed(now);
        }
    }

    fn roster_changed(&mut self, now: Now) {
        self.presence_changed = true;
        for node in self.roster.nodes() {
            let known = self.epochs.entry(node.device).or_default();
            *known = (*known).max(node.presence_epoch);
        }
        let me = self.device_id();
        let mut wanted = self.overlay.wanted_links(&self.roster, me);
        wanted.retain(|link| !self.is_revoked(link.device) && !self.left);
        let present = self.roster.nodes().count();
        let full = present > rockpool_proto::limits::FULL_MESH_DEVICES_MAX;
        if full && !std::mem::replace(&mut self.mesh_full, full) {
            self.warn(Warning::MeshFull { present });
        }
        self.mesh_full = full;
        self.negotiation.set_wanted(now, wanted);
        self.forget_absent();
        self.refresh_seeders(now.time);
    }

    fn members_changed(&mut self, now: Now) {
        for device in self.links.keys().copied().collect::<Vec<_>>() {
            if self.is_revoked(device) {
                self.negotiation.drop_device(device);
            }
        }
        self.exchange.compare_again(now.time, &self.log);
        self.roster_changed(now);
    }

    fn is_revoked(&self, device: DeviceId) -> bool {
        self.directory.device(device).is_some_and(|device| device.revoked_at_ms.is_some())
    }

    /// A device is present if the roster or a standing link says so.
    fn tell_presence(&mut self) {
        if !std::mem::take(&mut self.presence_changed) {
            return;
        }
        let me = self.device_id();
        let linked = self.links.iter().filter(|(_, link)| link.is_up()).map(|(device, _)| *device);
        let present: BTreeSet<DeviceId> =
            self.roster.nodes().map(|node| node.device).chain(linked).filter(|device| *device != me).collect();
        if present == self.present {
            return;
        }
        let before = std::mem::replace(&mut self.present, present);
        for device in self.present.difference(&before).copied().collect::<Vec<_>>() {
            let account = self.directory.member_of(device).map(|member| member.account);
            self.event(Event::DeviceJoined { device, account });
        }
        for device in before.difference(&self.present).copied().collect::<Vec<_>>() {
            self.event(Event::DeviceLeft(device));
        }
    }

    // ---- Reading -----------------------------------------------------------------------------------------------------

    #[cfg(test)]
    fn brief(&self) -> String {
        format!("{:?} {:?} {:?} {:?}", self.negotiation, self.links, self.exchange, self.writing)
    }

    /// This device.
    pub fn device_id(&self) -> DeviceId {
        self.config.keys.device_id()
    }

    /// Members of the pool, with all devices.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Who is present, as the cluster last said.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Devices present, by roster or link, this one left out.
    pub fn present(&self) -> &BTreeSet<DeviceId> {
        &self.present
    }

    /// Devices to which messages go right now.
    pub fn linked(&self) -> impl Iterator<Item = DeviceId> {
        self.links.iter().filter(|(_, link)| link.is_up()).map(|(device, _)| *device)
    }

    /// Whether the cluster's stream stands.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// All that was said, with what was retracted.
    pub fn log(&self) -> &MessageLog {
        &self.log
    }

    /// The newest entries before a place (or of all), oldest first, without what was retracted.
    pub fn history(&self, before: Option<OrderKey>, limit: usize) -> Vec<Arc<StoredEntry>> {
        let shown = self.log.before(before).filter(|entry| !self.log.is_retracted(&self.directory, entry.id));
        let mut shown: Vec<_> = shown.take(limit).cloned().collect();
        shown.reverse();
        shown
    }

    /// File offers that hold, in order.
    pub fn offers(&self) -> Vec<(EntryId, &FileOffer)> {
        self.log.offers(&self.directory)
    }

    /// How many entries of other devices' chains are known to exist and are not here yet.
    pub fn missing_entries(&self) -> u64 {
        let devices = self.directory.members().flat_map(|member| &member.devices);
        let missing = devices.map(|device| self.missing_of(device.key.device_id()));
        // Claims may be lies of any size.
        missing.fold(0, u64::saturating_add)
    }

    /// The same of one device's chain.
    pub fn missing_of(&self, device: DeviceId) -> u64 {
        self.exchange.missing_of(device, &self.log)
    }

    /// Whether messages that are known to exist and are not here yet may belong right before this entry, that is, behind
    /// the message that is shown before it. Chains enter without holes, so what is missing of a device comes after the
    /// last entry of it that is here.
    pub fn has_gap_before(&self, entry: &StoredEntry) -> bool {
        for earlier in self.log.before(Some(entry.order_key())) {
            let id = earlier.id;
            if id.counter == self.log.length_of(id.device) && self.missing_of(id.device) > 0 {
                return true;
            }
            if matches!(earlier.body, Body::Text(_)) {
                return false;
            }
        }
        let devices = self.directory.members().flat_map(|member| &member.devices).map(|device| device.key.device_id());
        devices.filter(|device| self.log.length_of(*device) == 0).any(|device| self.missing_of(device) > 0)
    }
}

/// Own presence epochs that signals may have been made for.
const OWN_EPOCHS_MAX: usize = 8;
