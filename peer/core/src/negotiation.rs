//! Setting up links: one machine for all connections of this device.
//!
//! A link to a device is two connections, Control and Bulk. Each goes through:
//!
//! ```text
//!              wanted, we offer                  answer signed, accepted            DTLS up, fingerprint right
//!   Idle ------------------------> Offering -----------------------> Connecting --------------------------> Up
//!    |   wanted, they offer                         offer signed, accepted   ^        lost for 2 s, or network  |
//!    +-----------------> Waiting -------------------------------------------+        changed: ICE restart      |
//!                         (asks for an offer now and then)                            (round + 1) <-------------+
//!   any failure or deadline -> Backoff (1 s doubling to 30 s) -> Offering or Waiting with a new generation
//! ```
//!
//! * The higher placement number offers. If rosters differ for a moment and both do, the higher device id wins. Who has
//!   offered a connection also restarts it, whatever the roster says by then.
//! * Every attempt has a generation, higher than any known; signals and driver events of another are stale and ignored.
//! * A connection that stands is never closed because the cluster or the roster forgot the other side: only failure,
//!   goodbye or revocation end it.
//! * Who answers asks soon, because a process that was killed and came back is the only one who knows that its
//!   connections are gone. It asks for a generation above the last it had; about one that stands, for a restart.
//! * Bulk is set up once Control is ready, by signals over it, and ends with it: both are there anew after a crash.
//! * Candidates that come before their description wait, within bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use rockpool_proto::DeviceId;

use crate::overlay::{Role, WantedLink};
use crate::signal::{Candidate, Fingerprint, Purpose, Signal, SignalKind, fingerprint_of_sdp};
use crate::time::{Now, Time};

/// From a description of the other side to DTLS.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// From an offer to its answer.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// How long an answering side waits for an offer before it asks.
const OFFER_WAIT: Duration = Duration::from_millis(500);
/// And before it asks again; doubles.
const ASK_EVERY: Duration = Duration::from_secs(4);
/// How long ICE may look for the path by itself, after it has missed it for some seconds.
const DISCONNECTED_MAX: Duration = Duration::from_secs(2);
/// From an ICE restart to a path.
const RESTART_MAX: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Candidates kept for a description that has not come.
const EARLY_CANDIDATES_MAX: usize = 64;

/// One attempt at one connection. The driver keeps its WebRTC connections under these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The other end.
    pub device: DeviceId,
    /// What it is for.
    pub purpose: Purpose,
    /// Higher than of any attempt before.
    pub generation: u64,
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}#{}", &self.device.to_string()[..8], self.purpose, self.generation)
    }
}

/// What the driver does to WebRTC connections. Commands for one connection are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Make the connection with one ordered, reliable data channel labelled `rockpool` (unless it exists: then
    /// `ice_restart` is set), make an offer, set it as local description and answer `LocalDescription`.
    CreateOffer {
        /// Which.
        connection: ConnectionId,
        /// On an existing connection.
        ice_restart: bool,
    },
    /// Make the connection unless it exists, set the remote offer, answer it and give `LocalDescription`.
    AcceptOffer {
        /// Which.
        connection: ConnectionId,
        /// The offer.
        sdp: String,
    },
    /// Set the remote answer.
    AcceptAnswer {
        /// Which.
        connection: ConnectionId,
        /// The answer.
        sdp: String,
    },
    /// Add a remote candidate; `None`: there are no more.
    AddCandidate {
        /// Which.
        connection: ConnectionId,
        /// The candidate.
        candidate: Option<Candidate>,
    },
    /// Close and forget it. No event of it is wanted any more.
    Close(ConnectionId),
}

/// What the negotiation wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Command(LinkCommand),
    Signal {
        to: DeviceId,
        purpose: Purpose,
        generation: u64,
        round: u32,
        kind: SignalKind,
    },
    /// DTLS is up with the right certificate.
    Up(ConnectionId),
    /// It was up and is gone.
    Down(ConnectionId),
    /// Send something that is answered: it is being restarted, and a message tells whether that helped.
    Probe(ConnectionId),
    Mismatch(DeviceId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to do: not wanted, or no way to signal.
    Idle,
    Waiting {
        ask_at: Time,
    },
    Offering {
        deadline: Time,
    },
    Connecting {
        deadline: Time,
    },
    Up {
        /// ICE lost the path: restart then.
        restart_at: Option<Time>,
        /// An ICE restart runs: give up then.
        restart_deadline: Option<Time>,
    },
    Backoff {
        until: Time,
    },
}

#[derive(Debug)]
struct Session {
    state: State,
    /// Our part in this generation once it is open; before, what the overlay says.
    role: Option<Role>,
    generation: u64,
    round: u32,
    /// The other side's presence when this generation began.
    remote_epoch: u64,
    /// The newest presence for which the overlay wanted this connection.
    wanted_epoch: u64,
    expected: Option<Fingerprint>,
    /// The remote description of this round has been handed to the driver.
    described: bool,
    /// Local descriptions that the driver is making. Only the last is for the round that counts.
    describing: u32,
    /// Candidates of descriptions that have not come, by generation and round.
    early: Vec<(u64, u32, Option<Candidate>)>,
    failures: u32,
}

impl Session {
    fn new() -> Session {
        Session {
            state: State::Idle,
            role: None,
            generation: 0,
            round: 0,
            remote_epoch: 0,
            wanted_epoch: 0,
            expected: None,
            described: false,
            describing: 0,
            early: Vec::new(),
            failures: 0,
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether the driver has a connection of this generation.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Offering { .. } | State::Connecting { .. } | State::Up { .. })
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Idle => None,
            State::Waiting { ask_at } => Some(ask_at),
            State::Offering { deadline } | State::Connecting { deadline } => Some(deadline),
            State::Up { restart_at, restart_deadline } => restart_at.into_iter().chain(restart_deadline).min(),
            State::Backoff { until } => Some(until),
        }
    }
}

type Key = (DeviceId, Purpose);

/// All connections of this device.
#[derive(Debug)]
pub(crate) struct Negotiation {
    me: DeviceId,
    sessions: BTreeMap<Key, Session>,
    wanted: BTreeMap<DeviceId, WantedLink>,
    /// Devices with which we talk: Bulk's signals go that way.
    ready: BTreeSet<DeviceId>,
    cluster: bool,
    actions: VecDeque<Action>,
}

impl Negotiation {
    pub(crate) fn new(me: DeviceId) -> Negotiation {
        Negotiation {
            me,
            sessions: BTreeMap::new(),
            wanted: BTreeMap::new(),
            ready: BTreeSet::new(),
            cluster: false,
            actions: VecDeque::new(),
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.sessions.values().filter_map(Session::deadline).min()
    }

    /// Whether this is the attempt under way or standing.
    pub(crate) fn is_current(&self, connection: ConnectionId) -> bool {
        self.sessions
            .get(&(connection.device, connection.purpose))
            .is_some_and(|session| session.generation == connection.generation && session.is_open())
    }

    /// Whether the overlay wants a link to this device.
    pub(crate) fn wants(&self, device: DeviceId) -> bool {
        self.wanted.contains_key(&device)
    }

    /// Devices with which connections are under way or stand.
    pub(crate) fn open_devices(&self) -> BTreeSet<DeviceId> {
        self.sessions.iter().filter(|(_, session)| session.is_open()).map(|(key, _)| key.0).collect()
    }

    /// The cluster takes signals (again), or doesn't.
    pub(crate) fn set_cluster(&mut self, now: Now, reachable: bool) {
        self.cluster = reachable;
        if reachable {
            // What was on its way when the stream ended may be lost, and nobody needs to wait any longer.
            for key in self.keys_of(Purpose::Control) {
                self.with(key, |this, session| match session.state {
                    State::Offering { .. } | State::Waiting { .. } | State::Backoff { .. } => {
                        this.begin_anew(now, &key, session);
                    }
                    State::Up { restart_at: Some(_), .. } => this.restart(now, &key, session),
                    _ => {}
                });
            }
        }
        self.settle(now);
    }

    /// Messages can be exchanged with this device: Bulk may begin.
    pub(crate) fn set_ready(&mut self, now: Now, device: DeviceId) {
        self.ready.insert(device);
        self.settle(now);
    }

    /// The overlay's wish has changed.
    pub(crate) fn set_wanted(&mut self, now: Now, links: Vec<WantedLink>) {
        self.wanted = links.into_iter().map(|link| (link.device, link)).collect();
        self.settle(now);
    }

    /// Ends both connections to a device that left or was thrown out.
    pub(crate) fn drop_device(&mut self, device: DeviceId) {
        self.wanted.remove(&device);
        for purpose in [Purpose::Control, Purpose::Bulk] {
            if let Some(mut session) = self.sessions.remove(&(device, purpose)) {
                self.close(&(device, purpose), &mut session);
            }
        }
        self.ready.remove(&device);
    }

    fn keys_of(&self, purpose: Purpose) -> Vec<Key> {
        self.sessions.keys().filter(|key| key.1 == purpose).copied().collect()
    }

    fn can_signal(&self, key: &Key) -> bool {
        match key.1 {
            Purpose::Control => self.cluster,
            Purpose::Bulk => self.ready.contains(&key.0),
        }
    }

    fn is_wanted(&self, key: &Key) -> bool {
        match key.1 {
            Purpose::Control => self.wanted.contains_key(&key.0),
            Purpose::Bulk => self.ready.contains(&key.0),
        }
    }

    /// Starts what is wanted and rests what isn't, standing connections excepted.
    fn settle(&mut self, now: Now) {
        let mut keys: Vec<Key> = self.sessions.keys().copied().collect();
        keys.extend(self.wanted.keys().map(|device| (*device, Purpose::Control)));
        keys.extend(self.ready.iter().map(|device| (*device, Purpose::Bulk)));
        keys.sort();
        keys.dedup();
        for key in keys {
            let mut session = self.sessions.remove(&key).unwrap_or_else(Session::new);
            self.settle_one(now, &key, &mut session);
            if session.state != State::Idle || self.is_wanted(&key) {
                self.sessions.insert(key, session);
            }
        }
    }

    fn settle_one(&mut self, now: Now, key: &Key, session: &mut Session) {
        let link = self.wanted.get(&key.0).copied();
        if !session.is_open() {
            // Bulk's part is that of the Control connection that carries its signals.
            session.role = match (key.1, self.sessions.get(&(key.0, Purpose::Control))) {
                (Purpose::Bulk, Some(control)) => control.role,
                _ => link.map(|link| link.role).or(session.role),
            };
        }
        let is_new = link.is_some_and(|link| link.presence_epoch > session.wanted_epoch);
        session.wanted_epoch = link.map_or(session.wanted_epoch, |link| link.presence_epoch);
        let possible = self.is_wanted(key) && self.can_signal(key);
        match session.state {
            State::Idle if possible => self.begin(now, key, session),
            State::Waiting { .. } | State::Backoff { .. } if !possible => session.state = State::Idle,
            // It is there anew: what failed with it before says nothing.
            State::Waiting { .. } | State::Backoff { .. } if is_new => self.begin_anew(now, key, session),
            _ => {}
        }
    }

    fn begin_anew(&mut self, now: Now, key: &Key, session: &mut Session) {
        self.close(key, session);
        session.failures = 0;
        if self.is_wanted(key) && self.can_signal(key) {
            self.begin(now, key, session);
        }
    }

    fn begin(&mut self, now: Now, key: &Key, session: &mut Session) {
        match session.role {
            Some(Role::Offers) => self.offer(now, key, session),
            _ => session.state = State::Waiting { ask_at: now.time.after(OFFER_WAIT) },
        }
    }

    fn offer(&mut self, now: Now, key: &Key, session: &mut Session) {
        // Wall time keeps generations growing over a restart; the presence epoch covers a clock set back.
        session.generation = now.wall_ms.max(session.generation.saturating_add(1));
        session.round = 0;
        let known = self.wanted.get(&key.0).map_or(0, |link| link.presence_epoch);
        session.remote_epoch = session.remote_epoch.max(known);
        session.role = Some(Role::Offers);
        session.expected = None;
        (session.described, session.describing) = (false, 1);
        session.state = State::Offering { deadline: now.time.after(ANSWER_MAX) };
        let connection = connection_id(key, session);
        self.command(LinkCommand::CreateOffer { connection, ice_restart: false });
    }

    fn restart(&mut self, now: Now, key: &Key, session: &mut Session) {
        if !self.can_signal(key) {
            // Nobody hears of a restart. The path may come back by itself, and the driver says when it is given up.
            session.state = State::Up { restart_at: Some(now.time.after(DISCONNECTED_MAX)), restart_deadline: None };
            return;
        }
        session.state = State::Up { restart_at: None, restart_deadline: Some(now.time.after(RESTART_MAX)) };
        self.actions.push_back(Action::Probe(connection_id(key, session)));
        if session.role != Some(Role::Offers) {
            // The other side restarts by itself; should it not have noticed, this tells it.
            return self.signal(key, session.generation, session.round, SignalKind::OfferRequest);
        }
        session.round = session.round.saturating_add(1);
        session.described = false;
        session.describing += 1;
        let connection = connection_id(key, session);
        self.command(LinkCommand::CreateOffer { connection, ice_restart: true });
    }

    fn command(&mut self, command: LinkCommand) {
        self.actions.push_back(Action::Command(command));
    }

    fn signal(&mut self, key: &Key, generation: u64, round: u32, kind: SignalKind) {
        self.actions.push_back(Action::Signal { to: key.0, purpose: key.1, generation, round, kind });
    }

    fn close(&mut self, key: &Key, session: &mut Session) {
        if session.is_open() {
            let connection = connection_id(key, session);
            self.command(LinkCommand::Close(connection));
            if session.is_up() {
                self.actions.push_back(Action::Down(connection));
            }
        }
        session.state = State::Idle;
        session.expected = None;
        if key.1 == Purpose::Control {
            self.ready.remove(&key.0);
            self.with((key.0, Purpose::Bulk), |this, bulk| {
                this.close(&(key.0, Purpose::Bulk), bulk);
                bulk.failures = 0;
            });
        }
    }

    /// Closes, and tries again after a while if it is still wanted.
    fn fail(&mut self, now: Now, key: &Key, session: &mut Session) {
        self.close(key, session);
        let wait = BACKOFF_MIN.saturating_mul(1 << session.failures.min(5)).min(BACKOFF_MAX);
        session.failures = session.failures.saturating_add(1);
        session.state = State::Backoff { until: now.time.after(wait) };
        self.settle_one(now, key, session);
    }

    /// Runs `change` on one session, if there is one.
    fn with(&mut self, key: Key, change: impl FnOnce(&mut Negotiation, &mut Session)) {
        if let Some(mut session) = self.sessions.remove(&key) {
            change(self, &mut session);
            self.sessions.insert(key, session);
        }
    }

    /// Runs `change` on the session of this connection, unless that attempt is over.
    fn with_connection(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Negotiation, &Key, &mut Session)) {
        let key = (connection.device, connection.purpose);
        self.with(key, |this, session| {
            if session.generation == connection.generation && session.is_open() {
                change(this, &key, session);
            }
        });
    }

    pub(crate) fn handle_local_description(&mut self, connection: ConnectionId, sdp: String) {
        self.with_connection(connection, |this, key, session| {
            session.describing = session.describing.saturating_sub(1);
            if session.describing > 0 {
                return;
            }
            let offers = session.role == Some(Role::Offers);
            let kind = if offers { SignalKind::Offer(sdp) } else { SignalKind::Answer(sdp) };
            this.signal(key, session.generation, session.round, kind);
        });
    }

    pub(crate) fn handle_local_candidate(&mut self, connection: ConnectionId, candidate: Option<Candidate>) {
        self.with_connection(connection, |this, key, session| {
            this.signal(key, session.generation, session.round, SignalKind::Candidate(candidate));
        });
    }

    pub(crate) fn handle_connected(&mut self, now: Now, connection: ConnectionId, remote: Fingerprint) {
        self.with_connection(connection, |this, key, session| {
            if session.expected != Some(remote) {
                this.actions.push_back(Action::Mismatch(key.0));
                return this.fail(now, key, session);
            }
            let was_up = session.is_up();
            session.state = State::Up { restart_at: None, restart_deadline: None };
            session.failures = 0;
            if !was_up {
                this.actions.push_back(Action::Up(connection));
            }
        });
        self.settle(now);
    }

    /// A message came over it: its path works.
    pub(crate) fn handle_alive(&mut self, connection: ConnectionId) {
        self.with_connection(connection, |_, _, session| {
            if session.is_up() {
                session.state = State::Up { restart_at: None, restart_deadline: None };
            }
        });
    }

    pub(crate) fn handle_disconnected(&mut self, now: Now, connection: ConnectionId) {
        self.with_connection(connection, |_, _, session| {
            if let State::Up { restart_at: at @ None, restart_deadline: None } = &mut session.state {
                *at = Some(now.time.after(DISCONNECTED_MAX));
            }
        });
    }

    /// The connection failed, was closed by the other side, or its description was refused.
    pub(crate) fn handle_closed(&mut self, now: Now, connection: ConnectionId) {
        self.with_connection(connection, |this, key, session| this.fail(now, key, session));
        self.settle(now);
    }

    pub(crate) fn handle_network_changed(&mut self, now: Now) {
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.with(key, |this, session| match session.state {
                State::Up { .. } => this.restart(now, &key, session),
                State::Backoff { .. } => session.state = State::Backoff { until: now.time },
                _ => {}
            });
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.with(key, |this, session| {
                if session.deadline().is_none_or(|deadline| deadline > now.time) {
                    return;
                }
                match session.state {
                    State::Idle => {}
                    State::Waiting { .. } => {
                        let above = session.generation.saturating_add(1);
                        this.signal(&key, above, 0, SignalKind::OfferRequest);
                        let wait = ASK_EVERY.saturating_mul(1 << session.failures.min(3)).min(BACKOFF_MAX);
                        session.failures = session.failures.saturating_add(1);
                        session.state = State::Waiting { ask_at: now.time.after(wait) };
                    }
                    State::Offering { .. } | State::Connecting { .. } => this.fail(now, &key, session),
                    State::Up { restart_deadline: Some(deadline), .. } if deadline <= now.time => {
                        this.fail(now, &key, session);
                    }
                    State::Up { .. } => this.restart(now, &key, session),
                    State::Backoff { .. } => {
                        session.state = State::Idle;
                        this.settle_one(now, &key, session);
                    }
                }
            });
        }
        self.settle(now);
    }

    /// A signal that is signed, meant for us and new. Only devices that we may link to get here.
    pub(crate) fn handle_signal(&mut self, now: Now, signal: Signal) {
        let key = (signal.from, signal.purpose);
        let mut session = self.sessions.remove(&key).unwrap_or_else(Session::new);
        match signal.kind {
            SignalKind::Offer(ref sdp) => self.accept_offer(now, &key, &mut session, &signal, sdp),
            SignalKind::Answer(ref sdp) => self.accept_answer(now, &key, &mut session, &signal, sdp),
            SignalKind::Candidate(ref candidate) => {
                let (theirs, ours) = ((signal.generation, signal.round), (session.generation, session.round));
                if theirs == ours && session.is_open() && session.described {
                    let (connection, candidate) = (connection_id(&key, &session), candidate.clone());
                    self.command(LinkCommand::AddCandidate { connection, candidate });
                } else if theirs > ours || (theirs == ours && session.is_open()) {
                    if session.early.len() == EARLY_CANDIDATES_MAX {
                        session.early.remove(0);
                    }
                    session.early.push((signal.generation, signal.round, candidate.clone()));
                }
            }
            SignalKind::OfferRequest => self.requested(now, &key, &mut session, &signal),
        }
        self.sessions.insert(key, session);
    }

    fn accept_offer(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal, sdp: &str) {
        if signal.round > 0 {
            return self.accept_restart(now, key, session, signal, sdp);
        }
        let glare = matches!(session.state, State::Offering { .. }) && signal.from_epoch <= session.remote_epoch;
        if glare && self.me > key.0 {
            return; // Ours wins; the other side drops its own when it sees ours.
        }
        let newer = signal.generation > session.generation || signal.from_epoch > session.remote_epoch;
        if !(newer || glare || !session.is_open()) {
            return;
        }
        let Some(fingerprint) = fingerprint_of_sdp(sdp) else { return };
        self.close(key, session);
        session.generation = signal.generation;
        session.round = 0;
        session.remote_epoch = session.remote_epoch.max(signal.from_epoch);
        session.role = Some(Role::Answers);
        session.expected = Some(fingerprint);
        session.state = State::Connecting { deadline: now.time.after(ATTEMPT_MAX) };
        session.describing = 1;
        let connection = connection_id(key, session);
        self.command(LinkCommand::AcceptOffer { connection, sdp: sdp.to_owned() });
        self.release_candidates(key, session);
    }

    /// An ICE restart of the connection that stands; of another one it means nothing.
    fn accept_restart(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal, sdp: &str) {
        let fits = session.is_open()
            && session.generation == signal.generation
            && session.role == Some(Role::Answers)
            && signal.round > session.round;
        let Some(fingerprint) = fingerprint_of_sdp(sdp).filter(|_| fits) else { return };
        if session.expected != Some(fingerprint) {
            // A restart keeps the certificate; another one means another connection.
            return self.fail(now, key, session);
        }
        session.round = signal.round;
        session.describing += 1;
        if session.is_up() {
            let deadline = now.time.after(RESTART_MAX);
            session.state = State::Up { restart_at: None, restart_deadline: Some(deadline) };
            self.actions.push_back(Action::Probe(connection_id(key, session)));
        }
        let connection = connection_id(key, session);
        self.command(LinkCommand::AcceptOffer { connection, sdp: sdp.to_owned() });
        self.release_candidates(key, session);
    }

    fn accept_answer(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal, sdp: &str) {
        let current = session.generation == signal.generation && session.round == signal.round && !session.described;
        if !current || !session.is_open() {
            return;
        }
        let Some(fingerprint) = fingerprint_of_sdp(sdp) else { return self.fail(now, key, session) };
        match session.state {
            State::Offering { .. } => {
                session.expected = Some(fingerprint);
                session.state = State::Connecting { deadline: now.time.after(ATTEMPT_MAX) };
            }
            _ if session.expected != Some(fingerprint) => return self.fail(now, key, session),
            _ => {}
        }
        let connection = connection_id(key, session);
        self.command(LinkCommand::AcceptAnswer { connection, sdp: sdp.to_owned() });
        self.release_candidates(key, session);
    }

    fn release_candidates(&mut self, key: &Key, session: &mut Session) {
        session.described = true;
        let connection = connection_id(key, session);
        let current = (session.generation, session.round);
        for (generation, round, candidate) in std::mem::take(&mut session.early) {
            if (generation, round) == current {
                self.command(LinkCommand::AddCandidate { connection, candidate });
            } else if (generation, round) > current {
                session.early.push((generation, round, candidate));
            }
        }
    }

    /// The answering side has no working connection below this generation; or about the one that stands: no path.
    fn requested(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal) {
        let reborn = signal.from_epoch > session.remote_epoch;
        let gone = reborn || signal.generation > session.generation;
        match session.state {
            State::Up { restart_deadline, .. } if signal.generation == session.generation => {
                if restart_deadline.is_none() && session.role == Some(Role::Offers) {
                    self.restart(now, key, session);
                }
            }
            State::Up { .. } | State::Connecting { .. } | State::Offering { .. } if !gone => {}
            // Whoever asks again and again doesn't make us open connections again and again.
            State::Backoff { until } if !reborn => {
                session.state = State::Backoff { until: until.min(now.time.after(BACKOFF_MIN)) };
                session.generation = session.generation.max(signal.generation.saturating_sub(1));
            }
            _ => {
                let known = self.wanted.contains_key(&key.0) || session.is_up() || self.ready.contains(&key.0);
                self.close(key, session);
                session.remote_epoch = session.remote_epoch.max(signal.from_epoch);
                session.generation = session.generation.max(signal.generation.saturating_sub(1));
                session.role = Some(Role::Offers);
                if known && self.can_signal(key) {
                    self.offer(now, key, session);
                }
            }
        }
    }
}

fn connection_id(key: &Key, session: &Session) -> ConnectionId {
    ConnectionId { device: key.0, purpose: key.1, generation: session.generation }
}

#[cfg(test)]
mod tests;
