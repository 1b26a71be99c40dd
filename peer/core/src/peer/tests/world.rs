//! A world for peers: cluster, links, disks and files in memory, all from one seed and in virtual time.
//!
//! Connections keep order and lose nothing until they break, as data channels do; signals get lost and overtake each
//! other; disks write late; a crash forgets what was not written. Files are what the driver does: read, encode, verify,
//! write, with the functions that the real driver calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rockpool_proto::{AccountId, DeviceId, PoolId};

use crate::*;

pub(super) const POOL: PoolId = PoolId([0x11; 16]);

/// What happens later.
#[derive(Debug)]
enum Later {
    Input(usize, u64, Input),
    /// Entries reach the disk.
    Write(usize, u64, u64, Vec<Arc<StoredEntry>>),
    /// The other end of a data channel gets a message.
    Deliver(usize, ConnectionId, Bytes),
}

/// A file source as the driver keeps it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) manifest: Arc<Manifest>,
    pub(super) contents: Vec<Vec<u8>>,
    outboards: BTreeMap<u32, Outboard>,
    /// Sends other bytes than it should, below what the machine sees.
    pub(super) lies: bool,
}

impl Source {
    pub(super) fn new(files: &[(&str, Vec<u8>)]) -> Source {
        let item = |(path, content): &(&str, Vec<u8>)| Item {
            path: path.split('/').map(str::to_owned).collect(),
            kind: ItemKind::File { size_bytes: content.len() as u64, root: Root::of(content), executable: false },
        };
        let manifest = Arc::new(Manifest::new(files.iter().map(item).collect()).unwrap());
        let by_path: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, content)| (path.to_string(), content.clone())).collect();
        let contents: Vec<Vec<u8>> =
            manifest.items().iter().map(|item| by_path[&item.path.join("/")].clone()).collect();
        Source::of(manifest, contents)
    }

    fn of(manifest: Arc<Manifest>, contents: Vec<Vec<u8>>) -> Source {
        let outboard = |content: &Vec<u8>| {
            let mut builder = OutboardBuilder::new();
            builder.update(content);
            builder.finish()
        };
        let outboards = (0..).zip(contents.iter().map(outboard)).collect();
        Source { manifest, contents, outboards, lies: false }
    }

    fn read(&self, range: &ReadRange) -> Result<Vec<Bytes>, ReadFailure> {
        let mut frames = encode_range(
            range,
            |file| self.outboards.get(&file),
            |file, offset, buffer| {
                let content = &self.contents[file as usize];
                let offset = offset as usize;
                let end = offset + buffer.len();
                buffer.copy_from_slice(content.get(offset..end).ok_or(ReadFailure::SourceChanged)?);
                Ok(())
            },
        )?;
        if self.lies {
            // The last byte of the last frame: data of its last piece.
            let last = frames.pop().expect("a range has a frame");
            let mut last = last.to_vec();
            *last.last_mut().expect("a frame has a byte") ^= 1;
            frames.push(last.into());
        }
        Ok(frames)
    }
}

/// A download as the driver keeps it.
#[derive(Default)]
pub(super) struct Landing {
    pub(super) manifest: Option<Arc<Manifest>>,
    pub(super) parts: BTreeMap<u32, Vec<u8>>,
    pub(super) finished: BTreeSet<u32>,
    pub(super) journal: Option<DownloadJournal>,
    pub(super) complete: bool,
    pub(super) stored_bytes: u64,
}

/// One device with its driver.
pub(super) struct Node {
    pub(super) keys: [u8; 32],
    pub(super) id: DeviceId,
    pub(super) account: AccountId,
    pub(super) peer: Option<Peer>,
    /// Grows at each start: what was under way for an earlier run is dropped.
    run: u64,
    pub(super) disk: Vec<StoredEntry>,
    pub(super) sources: BTreeMap<Root, Source>,
    pub(super) offers: Vec<(EntryId, Root)>,
    pub(super) landings: BTreeMap<DownloadId, Landing>,
    /// By root: outlives a crash.
    pub(super) parts: BTreeMap<Root, Landing>,
    pub(super) events: Vec<Event>,
    pub(super) replies: BTreeMap<CommandId, Result<Reply, Refusal>>,
    pub(super) clock_off_ms: i64,
    pub(super) disk_full_after: Option<u64>,
    epoch: u64,
    woken: Option<u64>,
    writing_until: u64,
    pub(super) certificate: u8,
    /// Of somebody in the middle, who ends DTLS instead of this device.
    pub(super) intercepted: Option<u8>,
    pub(super) sent_bytes: u64,
    pub(super) link_commands: u64,
}

pub(super) struct World {
    rng: ChaCha8Rng,
    pub(super) now_us: u64,
    sequence: u64,
    later: BTreeMap<(u64, u64), Later>,
    pub(super) nodes: Vec<Node>,
    /// Data channels that stand: both ends' ids for it, by (node, connection).
    channels: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    /// Arrival of the newest message, so that none overtakes.
    arrivals: BTreeMap<(usize, ConnectionId), u64>,
    pub(super) cluster_up: bool,
    pub(super) signal_loss: f64,
    /// Pairs whose links break at once.
    pub(super) cut: BTreeSet<(usize, usize)>,
    roster_sequence: u64,
    placements: u64,
    next_command: u64,
    /// Every signal that was sent: who, to whom, what.
    pub(super) signals: Vec<(usize, usize, Bytes)>,
    pub(super) delay_us: u64,
    /// Of bulk connections, if it is another.
    pub(super) bulk_delay_us: Option<u64>,
}

impl World {
    /// Devices of so many accounts: `owners[i]` is the account of device `i`.
    pub(super) fn new(seed: u64, owners: &[u8]) -> World {
        let mut world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_us: 1_000_000,
            sequence: 0,
            later: BTreeMap::new(),
            nodes: Vec::new(),
            channels: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            cluster_up: true,
            signal_loss: 0.0,
            cut: BTreeSet::new(),
            roster_sequence: 0,
            placements: 0,
            next_command: 0,
            signals: Vec::new(),
            delay_us: 20_000,
            bulk_delay_us: None,
        };
        for (index, owner) in owners.iter().enumerate() {
            let keys = [index as u8 + 1; 32];
            world.nodes.push(Node {
                keys,
                id: DeviceKeys::from_secret(&keys).device_id(),
                account: AccountId([*owner; 16]),
                peer: None,
                run: 0,
                disk: Vec::new(),
                sources: BTreeMap::new(),
                offers: Vec::new(),
                landings: BTreeMap::new(),
                parts: BTreeMap::new(),
                events: Vec::new(),
                replies: BTreeMap::new(),
                clock_off_ms: 0,
                disk_full_after: None,
                epoch: 0,
                woken: None,
                writing_until: 0,
                certificate: index as u8,
                intercepted: None,
                sent_bytes: 0,
                link_commands: 0,
            });
        }
        world
    }

    fn now_of(&self, node: usize) -> Now {
        let wall_ms = (1_800_000_000_000 + self.now_us / 1000).cast_signed() + self.nodes[node].clock_off_ms;
        Now { time: Time(self.now_us), wall_ms: wall_ms.cast_unsigned() }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let mut members: BTreeMap<AccountId, Member> = BTreeMap::new();
        for node in &self.nodes {
            let member = members.entry(node.account).or_insert_with(|| Member {
                account: node.account,
                login_name: format!("user{}", node.account.0[0]),
                display_name: String::new(),
                devices: Vec::new(),
            });
            let key = DeviceKeys::from_secret(&node.keys).public().clone();
            member.devices.push(MemberDevice { key, name: String::new(), revoked_at_ms: None });
        }
        members.into_values().collect()
    }

    /// Starts a device's program from its disk and attaches it.
    pub(super) fn start(&mut self, node: usize) {
        let now = self.now_of(node);
        let members = self.members();
        let this = &mut self.nodes[node];
        let offers = this.offers.iter();
        let offers = offers.filter_map(|(id, root)| Some((*id, this.sources.get(root)?.manifest.clone()))).collect();
        let restored = Restored { entries: this.disk.clone(), members, offers, seeds: Vec::new() };
        let config = Config { pool: POOL, keys: DeviceKeys::from_secret(&this.keys) };
        this.run += 1;
        this.woken = None;
        this.events.clear();
        this.peer = Some(Peer::new(now, config, restored));
        self.carry_out(node);
        if self.cluster_up {
            self.attach(node);
        }
    }

    pub(super) fn attach(&mut self, node: usize) {
        self.nodes[node].epoch += 1;
        self.placements += 1;
        self.roster_sequence += 1;
        let (roster, members) = (self.roster(), self.members());
        let presence_epoch = self.nodes[node].epoch;
        self.input(node, Input::Attached { presence_epoch, roster: roster.clone(), members });
        for other in self.running() {
            if other != node {
                self.input(other, Input::RosterChanged(RosterChange::Whole(roster.clone())));
            }
        }
    }

    fn roster(&self) -> Roster {
        let nodes = self.running().into_iter().map(|node| RosterNode {
            device: self.nodes[node].id,
            presence_epoch: self.nodes[node].epoch,
            placement_number: node as u64 + 1,
        });
        Roster::new(1, self.roster_sequence, nodes)
    }

    fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].peer.is_some()).collect()
    }

    /// The program dies: what was not written is gone, and the others notice after a while.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].peer = None;
        self.nodes[node].run += 1;
        self.nodes[node].landings.clear();
        let gone: Vec<_> = self.channels.keys().filter(|(owner, _)| *owner == node).copied().collect();
        for key in gone {
            if let Some((other, connection)) = self.channels.remove(&key) {
                self.channels.remove(&(other, connection));
                self.later_input(3_000_000, other, Input::Closed(connection));
            }
        }
        if self.cluster_up {
            self.roster_sequence += 1;
            let roster = self.roster();
            for other in self.running() {
                self.later_input(500_000, other, Input::RosterChanged(RosterChange::Whole(roster.clone())));
            }
        }
    }

    pub(super) fn stop_cluster(&mut self) {
        self.cluster_up = false;
        for node in self.running() {
            self.input(node, Input::Detached);
        }
    }

    pub(super) fn start_cluster(&mut self) {
        self.cluster_up = true;
        for node in self.running() {
            self.attach(node);
        }
    }

    /// Breaks the links between two devices and keeps them apart.
    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        let broken: Vec<_> =
            self.channels.iter().filter(|(a, b)| (a.0, b.0) == (one, other)).map(|(a, b)| (*a, *b)).collect();
        for (here, there) in broken {
            self.channels.remove(&here);
            self.channels.remove(&there);
            self.later_input(100_000, here.0, Input::Closed(here.1));
            self.later_input(150_000, there.0, Input::Closed(there.1));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn command(&mut self, node: usize, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.input(node, Input::Command(id, command));
        id
    }

    pub(super) fn say(&mut self, node: usize, text: &str) {
        self.command(node, Command::Say(text.into()));
    }

    /// Offers files and runs until the offer is durable.
    pub(super) fn offer(&mut self, node: usize, source: Source) -> EntryId {
        let manifest = source.manifest.clone();
        self.nodes[node].sources.insert(manifest.root(), source);
        let command = self.command(node, Command::Offer { manifest: (*manifest).clone(), name: "files".into() });
        let end = self.now_us + 30_000_000;
        while !self.nodes[node].replies.contains_key(&command) {
            assert!(self.step() && self.now_us < end, "the offer is not written: {}", self.download(node));
        }
        let Some(Ok(Reply::Appended(offer))) = self.nodes[node].replies.get(&command).cloned() else {
            panic!("the offer was refused: {:?}", self.nodes[node].replies.get(&command))
        };
        self.nodes[node].offers.push((offer, manifest.root()));
        offer
    }

    /// Begins a download, with the journal that an earlier run left.
    pub(super) fn get(&mut self, node: usize, offer: EntryId) -> DownloadId {
        let entry = self.peer(node).log().entry(offer).expect("the offer is known").clone();
        let Body::FileOffer(file_offer) = &entry.body else { panic!("not a file offer") };
        let journal = self.nodes[node].parts.get(&file_offer.manifest_root).and_then(|landing| landing.journal.clone());
        let command = self.command(node, Command::Get { offer, journal });
        match self.nodes[node].replies.get(&command) {
            Some(Ok(Reply::Download(download))) => *download,
            other => panic!("the download was refused: {other:?}"),
        }
    }

    pub(super) fn peer(&self, node: usize) -> &Peer {
        self.nodes[node].peer.as_ref().expect("it runs")
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.now_of(node);
        if let Some(peer) = &mut self.nodes[node].peer {
            let is_timeout = matches!(input, Input::Timeout);
            peer.handle_input(now, input);
            let next = peer.poll_timeout();
            assert!(!is_timeout || next.is_none_or(|at| at > now.time), "it asks to be woken in the past: {next:?}");
            self.carry_out(node);
        }
    }

    fn later_input(&mut self, after_us: u64, node: usize, input: Input) {
        let run = self.nodes[node].run;
        self.push(self.now_us + after_us, Later::Input(node, run, input));
    }

    fn push(&mut self, at: u64, later: Later) {
        self.sequence += 1;
        self.later.insert((at, self.sequence), later);
    }

    fn index_of(&self, device: DeviceId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == device)
    }

    /// The driver: does what the peer says.
    fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].peer.as_mut().and_then(Peer::poll_output) {
            match output {
                Output::SendSignal { to, payload } => {
                    let Some(other) = self.index_of(to) else { continue };
                    self.signals.push((node, other, payload.clone()));
                    if self.cluster_up && !self.rng.random_bool(self.signal_loss) {
                        let delay = self.rng.random_range(1_000..60_000);
                        let from = self.nodes[node].id;
                        self.later_input(delay, other, Input::Signal { from, payload });
                    }
                }
                Output::Link(command) => self.link(node, command),
                Output::Send(connection, frames) => self.send(node, connection, frames),
                Output::Persist { sequence, entries } => {
                    // Written when it is answered, so that a crash in between loses it; in order.
                    let at = self.now_us + self.rng.random_range(500..30_000);
                    let at = at.max(self.nodes[node].writing_until);
                    self.nodes[node].writing_until = at;
                    let run = self.nodes[node].run;
                    self.push(at, Later::Write(node, run, sequence, entries));
                }
                Output::Files(command) => self.files(node, command),
                Output::Reply(id, result) => drop(self.nodes[node].replies.insert(id, result)),
                Output::Event(event) => self.nodes[node].events.push(event),
            }
        }
        let timeout = self.nodes[node].peer.as_ref().and_then(Peer::poll_timeout).map(|at| at.0);
        if let Some(at) = timeout
            && self.nodes[node].woken.is_none_or(|woken| at < woken || woken <= self.now_us)
        {
            self.nodes[node].woken = Some(at.max(self.now_us + 1));
            self.later_input(at.saturating_sub(self.now_us).max(1), node, Input::Timeout);
        }
    }

    // ---- WebRTC ------------------------------------------------------------------------------------------------------

    fn link(&mut self, node: usize, command: LinkCommand) {
        let sdp = |certificate: u8| {
            format!("v=0\r\na=fingerprint:sha-256 {}\r\n", vec![format!("{certificate:02X}"); 32].join(":"))
        };
        let certificate = self.nodes[node].certificate;
        self.nodes[node].link_commands += 1;
        match command {
            LinkCommand::CreateOffer { connection, .. } | LinkCommand::AcceptOffer { connection, .. } => {
                self.later_input(2_000, node, Input::LocalDescription { connection, sdp: sdp(certificate) });
                let candidate =
                    Candidate { candidate: format!("candidate:{node}"), sdp_mid: "0".into(), sdp_mline_index: 0 };
                self.later_input(3_000, node, Input::LocalCandidate { connection, candidate: Some(candidate) });
            }
            LinkCommand::AcceptAnswer { connection, .. } => {
                let Some(other) = self.index_of(connection.device) else { return };
                let there = ConnectionId { device: self.nodes[node].id, ..connection };
                if self.cut.contains(&(node.min(other), node.max(other))) || self.nodes[other].peer.is_none() {
                    return;
                }
                self.channels.insert((node, connection), (other, there));
                self.channels.insert((other, there), (node, connection));
                for (end, connection, remote) in [(node, connection, other), (other, there, node)] {
                    let remote = Fingerprint([self.nodes[remote].real_certificate(); 32]);
                    let delay = self.rng.random_range(5_000..80_000);
                    self.later_input(delay, end, Input::Connected { connection, remote });
                    self.later_input(delay + 1_000, end, Input::ChannelOpen(connection));
                }
            }
            LinkCommand::AddCandidate { .. } => {}
            LinkCommand::Close(connection) => {
                if let Some((other, there)) = self.channels.remove(&(node, connection)) {
                    self.channels.remove(&(other, there));
                    self.later_input(50_000, other, Input::Closed(there));
                }
            }
        }
    }

    fn send(&mut self, node: usize, connection: ConnectionId, frames: Vec<Bytes>) {
        let Some(end) = self.channels.get(&(node, connection)).copied() else { return };
        let most = match connection.purpose {
            Purpose::Bulk => self.bulk_delay_us.unwrap_or(self.delay_us),
            Purpose::Control => self.delay_us,
        };
        let delay = self.rng.random_range(most / 2..most);
        let earliest = self.arrivals.get(&end).copied().unwrap_or(0);
        let at = (self.now_us + delay).max(earliest);
        self.arrivals.insert(end, at);
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        for frame in frames {
            self.push(at, Later::Deliver(end.0, end.1, frame));
        }
        self.nodes[node].sent_bytes += bytes;
        self.later_input(200, node, Input::Sent(connection, bytes));
    }

    // ---- Files -------------------------------------------------------------------------------------------------------

    fn files(&mut self, node: usize, command: FileCommand) {
        let delay = self.rng.random_range(100..5_000);
        let this = &mut self.nodes[node];
        let answer = match command {
            FileCommand::Read(ticket, range) => {
                let source = this.sources.get(&range.manifest_root);
                let result = source.map_or(Err(ReadFailure::SourceChanged), |source| source.read(&range));
                Input::RangeRead(ticket, result)
            }
            FileCommand::Prepare { download, manifest } => {
                let mut landing = this.parts.remove(&manifest.root()).unwrap_or_default();
                for (index, item) in manifest.items().iter().enumerate() {
                    let size = item.size_bytes() as usize;
                    landing.parts.entry(index as u32).or_insert_with(|| vec![0; size]);
                }
                landing.manifest = Some(manifest);
                this.landings.insert(download, landing);
                Input::DownloadPrepared(download, Ok(()))
            }
            FileCommand::Store(ticket, range) => Input::RangeStored(ticket, this.store(&range)),
            FileCommand::Finish { download, items } => {
                this.landings.get_mut(&download).expect("it was prepared").finished.extend(&items);
                Input::FilesFinished { download, items, result: Ok(()) }
            }
            FileCommand::Checkpoint(download, journal) => {
                let landing = this.landings.get_mut(&download).expect("it was prepared");
                // As it comes back from the disk.
                landing.journal = Some(DownloadJournal::decode(journal.encode().into()).unwrap());
                let root = journal.manifest_root;
                let copy = Landing {
                    parts: landing.parts.clone(),
                    finished: landing.finished.clone(),
                    journal: landing.journal.clone(),
                    ..Landing::default()
                };
                this.parts.insert(root, copy);
                return;
            }
            FileCommand::Complete(download) => {
                let landing = this.landings.get_mut(&download).expect("it was prepared");
                landing.complete = true;
                let manifest = landing.manifest.clone().expect("it was prepared");
                let contents = landing.parts.values().cloned().collect();
                this.sources.insert(manifest.root(), Source::of(manifest, contents));
                return;
            }
            FileCommand::Discard(download) => {
                this.landings.remove(&download);
                return;
            }
        };
        self.later_input(delay, node, answer);
    }

    // ---- Time --------------------------------------------------------------------------------------------------------

    /// The next thing happens. False if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), later)) = self.later.pop_first() else { return false };
        self.now_us = self.now_us.max(at);
        match later {
            Later::Input(node, run, input) if self.nodes[node].run == run => {
                if matches!(input, Input::Timeout) {
                    self.nodes[node].woken = None;
                }
                self.input(node, input);
            }
            Later::Write(node, run, sequence, entries) if self.nodes[node].run == run => {
                self.nodes[node].disk.extend(entries.iter().map(|entry| (**entry).clone()));
                self.input(node, Input::Persisted(sequence));
            }
            Later::Deliver(node, connection, frame) if self.channels.contains_key(&(node, connection)) => {
                self.input(node, Input::Frame(connection, frame));
            }
            Later::Input(..) | Later::Write(..) | Later::Deliver(..) => {}
        }
        true
    }

    /// Until the condition holds, for so long at most.
    pub(super) fn run_until(&mut self, limit_us: u64, condition: impl Fn(&World) -> bool) {
        let end = self.now_us + limit_us;
        let mut steps = 0;
        while !condition(self) {
            steps += 1;
            assert!(self.step() && self.now_us <= end, "{} s passed and it didn't happen", limit_us / 1_000_000);
            assert!(steps < 3_000_000, "it runs in circles at {} us", self.now_us);
        }
    }

    pub(super) fn run_for(&mut self, us: u64) {
        let end = self.now_us + us;
        while self.later.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now_us = end;
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }

    /// The links of all devices, for a person.
    pub(super) fn links(&self) -> String {
        let links = |node: &Node| format!("{}: {:?}\n", node.id, node.peer.as_ref().map(Peer::brief));
        self.nodes.iter().map(links).collect()
    }

    /// The state of a device's downloads, for a person.
    pub(super) fn download(&self, node: usize) -> String {
        let progress = self.nodes[node].events.iter().rev().filter(|event| {
            !matches!(event, Event::Entry(_) | Event::DownloadProgress { .. } | Event::DeviceJoined { .. })
        });
        let lately: Vec<_> = progress.take(12).collect();
        format!("lately {lately:?}; {}", self.peer(node).brief())
    }

    /// A device's end of its connection to another one.
    pub(super) fn connection(&self, node: usize, device: DeviceId, purpose: Purpose) -> Option<ConnectionId> {
        let mut ends = self.channels.keys().filter(|(owner, _)| *owner == node).map(|(_, connection)| *connection);
        ends.find(|connection| connection.device == device && connection.purpose == purpose)
    }

    pub(super) fn all_linked(&self) -> bool {
        let running = self.running();
        running.iter().all(|node| self.peer(*node).linked().count() == running.len() - 1)
    }

    /// The texts that this device shows, in order.
    pub(super) fn texts(&self, node: usize) -> Vec<String> {
        let entries = self.peer(node).history(None, usize::MAX).into_iter();
        entries
            .filter_map(|entry| match &entry.body {
                Body::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    pub(super) fn warnings(&self, node: usize) -> Vec<&Warning> {
        let events = self.nodes[node].events.iter();
        events
            .filter_map(|event| match event {
                Event::Warning(warning) => Some(warning),
                _ => None,
            })
            .collect()
    }

    pub(super) fn is_complete(&self, node: usize, download: DownloadId) -> bool {
        self.nodes[node].landings.get(&download).is_some_and(|landing| landing.complete)
    }
}

impl Node {
    fn real_certificate(&self) -> u8 {
        self.intercepted.unwrap_or(self.certificate)
    }

    fn store(&mut self, range: &StoreRange) -> Result<(), StoreFailure> {
        let landing = self.landings.get_mut(&range.download).expect("it was prepared");
        let manifest = landing.manifest.clone().expect("it was prepared");
        for piece in &range.pieces {
            let (size_bytes, _) = manifest.file(piece.file).expect("a file");
            verify_piece(piece, size_bytes)?;
            let part = landing.parts.get_mut(&piece.file).expect("it was prepared");
            let mut at = piece.range.first as usize * transfer::GROUP_BYTES;
            for data in &piece.data {
                if self.disk_full_after.is_some_and(|limit| landing.stored_bytes + data.len() as u64 > limit) {
                    return Err(StoreFailure::Disk("no space left on device".into()));
                }
                part[at..at + data.len()].copy_from_slice(data);
                at += data.len();
                landing.stored_bytes += data.len() as u64;
            }
        }
        Ok(())
    }
}
