//! Two machines over a network that loses, repeats and reorders signals, cuts paths, stops the cluster and kills
//! either side: what they ask of WebRTC always makes sense, and in the end both connections stand.
//!
//! The connections here are what a WebRTC library makes of the same commands: a pair stands once the offering end has
//! the answer that was made for its offer, and dies when its path does.

mod cases;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rockpool_proto::PoolId;

use super::*;
use crate::seeds::for_each_seed;
use crate::signal::ReplayWindow;

const SECOND: u64 = 1_000_000;
/// When ICE says that it misses the path, and when it gives it up.
const MISSED: u64 = 5 * SECOND;
const LOST: u64 = 15 * SECOND;

/// A connection of one end.
#[derive(Clone, Debug, Default)]
struct Wire {
    /// Names it among all that ever were.
    token: u64,
    round: u32,
    has_local_offer: bool,
    has_remote: bool,
    /// The other end, once this one knows that they fit: its token, and the path over which they met.
    peer: Option<(u64, u64)>,
    disconnected: bool,
    /// When its last description is ready: they are made in order.
    described_at: u64,
}

struct End {
    device: DeviceId,
    negotiation: Negotiation,
    /// Grows with each start of the process: what was under way for an earlier one is dropped.
    run: u64,
    certificate: u8,
    own_epochs: Vec<u64>,
    other_epoch: u64,
    window: ReplayWindow,
    sequence: u64,
    wires: BTreeMap<ConnectionId, Wire>,
    up: BTreeSet<ConnectionId>,
    clock_off_ms: i64,
}

#[derive(Debug)]
enum Later {
    Signal(usize, Signal),
    /// From this end, over this connection: kept until its path works, lost with it.
    OverLink(usize, ConnectionId, Signal),
    Probe(usize, ConnectionId),
    Description(usize, u64, ConnectionId, u64, String),
    Candidate(usize, u64, ConnectionId),
    Connected(usize, u64, ConnectionId, u64),
    Ready(usize, u64),
    Closed(usize, u64, ConnectionId),
    /// Looks whether this connection's path works.
    Look(usize, u64, ConnectionId, u64, bool),
    /// The other's presence, as the cluster tells it.
    Roster(usize, u64),
    Timeout(usize),
}

struct Net {
    rng: ChaCha8Rng,
    now: u64,
    sequence: u64,
    later: BTreeMap<(u64, u64), Later>,
    ends: Vec<End>,
    /// Which end offers by the roster.
    offers: usize,
    epochs: u64,
    tokens: u64,
    cluster: bool,
    loss: f64,
    path_up: bool,
    /// Grows when addresses change: connections made before have to restart.
    path: u64,
    offers_made: u64,
}

fn device(n: usize) -> DeviceId {
    DeviceId([n as u8 + 1; 16])
}

impl Net {
    fn new(seed: u64, offers: usize) -> Net {
        let end = |n: usize| End {
            device: device(n),
            negotiation: Negotiation::new(device(n)),
            run: 0,
            certificate: 10 * n as u8,
            own_epochs: Vec::new(),
            other_epoch: 0,
            window: ReplayWindow::default(),
            sequence: 0,
            wires: BTreeMap::new(),
            up: BTreeSet::new(),
            clock_off_ms: 0,
        };
        Net {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: SECOND,
            sequence: 0,
            later: BTreeMap::new(),
            ends: vec![end(0), end(1)],
            offers,
            epochs: 0,
            tokens: 0,
            cluster: true,
            loss: 0.0,
            path_up: true,
            path: 0,
            offers_made: 0,
        }
    }

    fn push(&mut self, after: u64, later: Later) {
        self.sequence += 1;
        self.later.insert((self.now + after, self.sequence), later);
    }

    fn now_of(&self, n: usize) -> Now {
        let wall = (1_800_000_000_000 + self.now / 1000).cast_signed() + self.ends[n].clock_off_ms;
        Now { time: Time(self.now), wall_ms: wall.cast_unsigned() }
    }

    /// A new process: nothing of the old one is left, and nobody was told.
    fn start(&mut self, n: usize) {
        let end = &mut self.ends[n];
        end.negotiation = Negotiation::new(end.device);
        end.run += 1;
        end.certificate = end.certificate / 10 * 10 + (end.run % 10) as u8;
        end.own_epochs.clear();
        end.other_epoch = 0;
        end.window = ReplayWindow::default();
        end.sequence = 0;
        end.wires.clear();
        end.up.clear();
        self.look_at_all();
        self.attach(n);
    }

    fn kill(&mut self, n: usize) {
        self.ends[n].run += 1;
        self.ends[n].wires.clear();
        self.ends[n].up.clear();
        self.ends[n].own_epochs.clear();
        self.look_at_all();
    }

    /// The end's stream to the cluster is (again) there.
    fn attach(&mut self, n: usize) {
        if !self.cluster {
            return;
        }
        self.epochs += 1;
        let epoch = self.epochs;
        self.ends[n].own_epochs.push(epoch);
        let other = self.ends[1 - n].own_epochs.last().copied();
        self.roster(n, other);
        let now = self.now_of(n);
        self.ends[n].negotiation.set_cluster(now, true);
        self.carry_out(n);
        if other.is_some() {
            let delay = self.rng.random_range(1_000..500_000);
            self.push(delay, Later::Roster(1 - n, epoch));
        }
    }

    fn roster(&mut self, n: usize, other: Option<u64>) {
        let role = if self.offers == n { Role::Offers } else { Role::Answers };
        let now = self.now_of(n);
        let wanted = other.map(|epoch| {
            self.ends[n].other_epoch = self.ends[n].other_epoch.max(epoch);
            WantedLink { device: device(1 - n), presence_epoch: epoch, role }
        });
        self.ends[n].negotiation.set_wanted(now, wanted.into_iter().collect());
        self.carry_out(n);
    }

    fn stop_cluster(&mut self) {
        self.cluster = false;
        for n in 0..2 {
            let now = self.now_of(n);
            self.ends[n].negotiation.set_cluster(now, false);
            self.carry_out(n);
        }
    }

    fn start_cluster(&mut self) {
        self.cluster = true;
        (0..2).for_each(|n| self.attach(n));
    }

    fn is_running(&self, n: usize) -> bool {
        !self.ends[n].own_epochs.is_empty()
    }

    /// The other end of a connection, if both fit and the path works.
    fn other(&self, n: usize, connection: ConnectionId) -> Option<ConnectionId> {
        let there = ConnectionId { device: device(n), ..connection };
        let (wire, other) = (self.ends[n].wires.get(&connection)?, self.ends[1 - n].wires.get(&there)?);
        let (token, path) = wire.peer?;
        (self.path_up && path == self.path && other.token == token && other.peer?.0 == wire.token).then_some(there)
    }

    fn look_at_all(&mut self) {
        for n in 0..2 {
            for (connection, token) in
                self.ends[n].wires.iter().map(|(connection, wire)| (*connection, wire.token)).collect::<Vec<_>>()
            {
                let run = self.ends[n].run;
                self.push(MISSED, Later::Look(n, run, connection, token, false));
                self.push(LOST, Later::Look(n, run, connection, token, true));
            }
        }
    }

    fn cut(&mut self, is_new_path: bool) {
        self.path_up = false;
        self.path += u64::from(is_new_path);
        self.look_at_all();
    }

    fn heal(&mut self) {
        self.path_up = true;
        for n in 0..2 {
            for connection in self.ends[n].up.iter().copied().collect::<Vec<_>>() {
                if self.other(n, connection).is_some() {
                    if let Some(wire) = self.ends[n].wires.get_mut(&connection) {
                        wire.disconnected = false;
                    }
                    // Whatever was unsent comes through now.
                    self.ends[n].negotiation.handle_alive(connection);
                }
            }
            self.carry_out(n);
        }
    }

    fn sdp(&self, n: usize, what: &str, token: u64, to: u64, round: u32) -> String {
        let octet = format!("{:02X}", self.ends[n].certificate);
        format!("v=0\r\na=fingerprint:sha-256 {}\r\na=x:{what} {token} {to} {round}\r\n", vec![octet; 32].join(":"))
    }

    fn carry_out(&mut self, n: usize) {
        while let Some(action) = self.ends[n].negotiation.poll_action() {
            match action {
                Action::Command(command) => self.link(n, command),
                Action::Signal { to, purpose, generation, round, kind } => {
                    assert_eq!(to, device(1 - n));
                    let Some(from_epoch) = self.ends[n].own_epochs.last().copied() else { continue };
                    self.ends[n].sequence += 1;
                    let signal = Signal {
                        pool: PoolId([1; 16]),
                        from: device(n),
                        to,
                        from_epoch,
                        to_epoch: self.ends[n].other_epoch,
                        sequence: self.ends[n].sequence,
                        purpose,
                        generation,
                        round,
                        kind,
                    };
                    self.send(n, signal);
                }
                Action::Up(connection) => assert!(self.ends[n].up.insert(connection), "up twice"),
                Action::Down(connection) => assert!(self.ends[n].up.remove(&connection), "down, and was not up"),
                Action::Probe(connection) => {
                    assert!(self.ends[n].up.contains(&connection));
                    self.push(20_000, Later::Probe(n, connection));
                }
                Action::Mismatch(_) => panic!("nobody sits in the middle"),
            }
        }
        let open = |purpose| self.ends[n].wires.keys().filter(|connection| connection.purpose == purpose).count();
        assert!(open(Purpose::Control) <= 1 && open(Purpose::Bulk) <= 1, "{:?}", self.ends[n].wires);
        if let Some(at) = self.ends[n].negotiation.poll_timeout() {
            self.push(at.0.saturating_sub(self.now), Later::Timeout(n));
        }
    }

    fn send(&mut self, n: usize, signal: Signal) {
        if signal.purpose == Purpose::Bulk {
            let control = self.ends[n].up.iter().find(|connection| connection.purpose == Purpose::Control).copied();
            if let Some(control) = control {
                self.push(20_000, Later::OverLink(n, control, signal));
            }
            return;
        }
        if !self.cluster || self.rng.random_bool(self.loss) {
            return;
        }
        // Reordered by up to a second where signals get lost, and repeated now and then.
        let most = if self.loss > 0.0 { SECOND } else { 100_000 };
        for _ in 0..=u32::from(self.loss > 0.0 && self.rng.random_bool(0.2)) {
            let delay = self.rng.random_range(1_000..most);
            self.push(delay, Later::Signal(1 - n, signal.clone()));
        }
    }

    fn link(&mut self, n: usize, command: LinkCommand) {
        match command {
            LinkCommand::CreateOffer { connection, ice_restart } => {
                self.offers_made += 1;
                if !ice_restart {
                    assert!(!self.ends[n].wires.contains_key(&connection), "an attempt's id is used once");
                    self.tokens += 1;
                    let wire = Wire { token: self.tokens, ..Default::default() };
                    self.ends[n].wires.insert(connection, wire);
                }
                let wire = self.ends[n].wires.get_mut(&connection).expect("a restart needs a connection");
                assert!(!ice_restart || wire.peer.is_some(), "a restart needs a connection that stands");
                wire.round += u32::from(ice_restart);
                (wire.has_local_offer, wire.has_remote) = (true, false);
                let (token, round) = (wire.token, wire.round);
                let sdp = self.sdp(n, "offer", token, 0, round);
                self.describe(n, connection, sdp);
            }
            LinkCommand::AcceptOffer { connection, sdp } => {
                let (what, theirs, _, round) = parse(&sdp);
                assert_eq!(what, "offer");
                if !self.ends[n].wires.contains_key(&connection) {
                    assert_eq!(round, 0, "a restart's offer fits no new connection");
                    self.tokens += 1;
                    let wire = Wire { token: self.tokens, ..Default::default() };
                    self.ends[n].wires.insert(connection, wire);
                }
                let path = self.path;
                let wire = self.ends[n].wires.get_mut(&connection).expect("it was just made");
                assert!(!wire.has_local_offer, "an offer for an end that has offered itself");
                wire.has_remote = true;
                wire.peer = Some((theirs, path));
                let token = wire.token;
                let sdp = self.sdp(n, "answer", token, theirs, round);
                self.describe(n, connection, sdp);
            }
            LinkCommand::AcceptAnswer { connection, sdp } => {
                let (what, theirs, to, round) = parse(&sdp);
                let path = self.path;
                let wire = self.ends[n].wires.get_mut(&connection).expect("an answer needs a connection");
                assert!(what == "answer" && wire.has_local_offer, "an answer to nothing");
                assert_eq!((to, round), (wire.token, wire.round), "an answer to another offer");
                (wire.has_local_offer, wire.has_remote) = (false, true);
                wire.peer = Some((theirs, path));
                let there = ConnectionId { device: device(n), ..connection };
                if let Some(other) = self.ends[1 - n].wires.get_mut(&there)
                    && other.token == theirs
                {
                    other.peer = other.peer.map(|(token, _)| (token, path));
                }
                for (end, connection) in [(n, connection), (1 - n, there)] {
                    let Some(token) = self.ends[end].wires.get(&connection).map(|wire| wire.token) else { continue };
                    let (run, delay) = (self.ends[end].run, self.rng.random_range(5_000..200_000));
                    self.push(delay, Later::Connected(end, run, connection, token));
                    self.push(LOST, Later::Look(end, run, connection, token, true));
                }
            }
            LinkCommand::AddCandidate { connection, .. } => {
                let wire = self.ends[n].wires.get(&connection).expect("a candidate needs a connection");
                assert!(wire.has_remote, "a candidate before its description");
            }
            LinkCommand::Close(connection) => {
                let other = self.other(n, connection);
                self.ends[n].wires.remove(&connection).expect("it was open");
                if let Some(there) = other {
                    let run = self.ends[1 - n].run;
                    self.push(50_000, Later::Closed(1 - n, run, there));
                } else {
                    self.look_at_all();
                }
            }
        }
    }

    fn describe(&mut self, n: usize, connection: ConnectionId, sdp: String) {
        let (run, ready_at) = (self.ends[n].run, self.now + self.rng.random_range(1_000..50_000));
        let wire = self.ends[n].wires.get_mut(&connection).expect("a description is of a connection");
        wire.described_at = wire.described_at.max(ready_at);
        let (delay, token) = (wire.described_at - self.now, wire.token);
        self.push(delay, Later::Description(n, run, connection, token, sdp));
        self.push(delay + 1_000, Later::Candidate(n, run, connection));
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), later)) = self.later.pop_first() else { return false };
        self.now = self.now.max(at);
        let n = match later {
            Later::OverLink(n, control, signal) => {
                match self.other(n, control) {
                    Some(_) => self.push(0, Later::Signal(1 - n, signal)),
                    None if self.ends[n].up.contains(&control) => {
                        self.push(200_000, Later::OverLink(n, control, signal));
                    }
                    None => {}
                }
                return true;
            }
            Later::Probe(n, connection) => {
                if let Some(there) = self.other(n, connection) {
                    self.ends[n].negotiation.handle_alive(connection);
                    self.ends[1 - n].negotiation.handle_alive(there);
                } else if self.ends[n].up.contains(&connection) {
                    self.push(200_000, Later::Probe(n, connection));
                }
                n
            }
            Later::Signal(n, signal) => {
                let end = &mut self.ends[n];
                let fits = end.own_epochs.contains(&signal.to_epoch)
                    && signal.from_epoch >= end.other_epoch
                    && end.window.admit(signal.from_epoch, signal.sequence);
                if fits {
                    end.other_epoch = signal.from_epoch;
                    let now = self.now_of(n);
                    self.ends[n].negotiation.handle_signal(now, signal);
                }
                n
            }
            Later::Description(n, run, connection, token, sdp) => {
                let end = &mut self.ends[n];
                if end.run == run && end.wires.get(&connection).is_some_and(|wire| wire.token == token) {
                    end.negotiation.handle_local_description(connection, sdp);
                }
                n
            }
            Later::Candidate(n, run, connection) => {
                if self.ends[n].run == run {
                    self.ends[n].negotiation.handle_local_candidate(connection, None);
                }
                n
            }
            Later::Connected(n, run, connection, token) => {
                let fits = self.ends[n].run == run
                    && self.ends[n].wires.get(&connection).is_some_and(|wire| wire.token == token);
                // The library tells once that DTLS is up, not that a restart found a path.
                let is_told = self.ends[n].up.contains(&connection);
                if fits && self.other(n, connection).is_some() {
                    self.ends[n].wires.get_mut(&connection).expect("it fits").disconnected = false;
                }
                if fits && !is_told && self.other(n, connection).is_some() {
                    let remote = Fingerprint([self.ends[1 - n].certificate; 32]);
                    let now = self.now_of(n);
                    self.ends[n].negotiation.handle_connected(now, connection, remote);
                    if connection.purpose == Purpose::Control {
                        let delay = self.rng.random_range(10_000..100_000);
                        self.push(delay, Later::Ready(n, connection.generation));
                    }
                }
                n
            }
            Later::Ready(n, generation) => {
                let connection = ConnectionId { device: device(1 - n), purpose: Purpose::Control, generation };
                let both = |net: &Net| {
                    let there = net.other(n, connection)?;
                    (net.ends[n].up.contains(&connection) && net.ends[1 - n].up.contains(&there)).then_some(())
                };
                if both(self).is_some() {
                    let now = self.now_of(n);
                    self.ends[n].negotiation.set_ready(now, device(1 - n));
                } else if self.ends[n].up.contains(&connection) {
                    self.push(50_000, Later::Ready(n, generation));
                }
                n
            }
            Later::Closed(n, run, connection) => {
                if self.ends[n].run == run {
                    let now = self.now_of(n);
                    self.ends[n].negotiation.handle_closed(now, connection);
                }
                n
            }
            Later::Look(n, run, connection, token, is_end) => {
                let fits = self.ends[n].run == run
                    && self.ends[n].wires.get(&connection).is_some_and(|wire| wire.token == token);
                if fits && self.other(n, connection).is_none() {
                    let now = self.now_of(n);
                    let wire = self.ends[n].wires.get_mut(&connection).expect("it fits");
                    if !is_end {
                        wire.disconnected = true;
                        self.ends[n].negotiation.handle_disconnected(now, connection);
                    } else if wire.disconnected {
                        self.ends[n].negotiation.handle_closed(now, connection);
                    }
                }
                n
            }
            Later::Roster(n, epoch) => {
                if self.is_running(n) && self.ends[1 - n].own_epochs.last() == Some(&epoch) {
                    self.roster(n, Some(epoch));
                }
                n
            }
            Later::Timeout(n) => {
                let now = self.now_of(n);
                let due = self.ends[n].negotiation.poll_timeout().is_some_and(|at| at <= now.time);
                if !self.is_running(n) || !due {
                    return true;
                }
                self.ends[n].negotiation.handle_timeout(now);
                let next = self.ends[n].negotiation.poll_timeout();
                assert!(next.is_none_or(|at| at > now.time), "it asks to be woken in the past");
                n
            }
        };
        if self.is_running(n) {
            self.carry_out(n);
        }
        true
    }

    fn run_for(&mut self, us: u64) {
        let end = self.now + us;
        while self.later.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Both connections stand at both ends, and are the same.
    fn is_linked(&self) -> bool {
        let stands = |purpose| {
            let here = self.ends[0].up.iter().find(|connection| connection.purpose == purpose);
            here.is_some_and(|here| self.other(0, *here).is_some_and(|there| self.ends[1].up.contains(&there)))
        };
        stands(Purpose::Control) && stands(Purpose::Bulk)
    }

    /// Virtual microseconds until both connections stand.
    fn until_linked(&mut self, most: u64) -> u64 {
        let begin = self.now;
        while !self.is_linked() {
            assert!(self.step() && self.now <= begin + most, "not linked after {} s: {self:?}", most / SECOND);
        }
        self.now - begin
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ends.iter().try_for_each(|end| write!(f, "\n{:?}\n{:?}", end.negotiation.sessions, end.wires))
    }
}

/// What a description is: offer or answer, whose, to which offer, of which round.
fn parse(sdp: &str) -> (&str, u64, u64, u32) {
    let line = sdp.lines().find_map(|line| line.strip_prefix("a=x:")).expect("one of ours");
    let words: Vec<&str> = line.split(' ').collect();
    (words[0], words[1].parse().unwrap(), words[2].parse().unwrap(), words[3].parse().unwrap())
}

fn linked(seed: u64, offers: usize) -> Net {
    let mut net = Net::new(seed, offers);
    net.start(0);
    net.start(1);
    net.until_linked(5 * SECOND);
    net
}
