//! Setting up links: one machine for all connections of this device.
//!
//! A link to a device is two connections, Control and Bulk. Each goes through:
//!
//! ```text
//!              wanted, we offer                  answer signed, accepted            DTLS up, fingerprint right
//!   Idle ------------------------> Offering -----------------------> Connecting --------------------------> Up
//!    |   wanted, they offer                         offer signed, accepted   ^        lost for 5 s, or network  |
//!    +-----------------> Waiting -------------------------------------------+        changed: ICE restart      |
//!                         (asks for an offer now and then)                            (round + 1) <-------------+
//!   any failure or deadline -> Backoff (1 s doubling to 30 s) -> Offering or Waiting with a new generation
//! ```
//!
//! * The higher placement number offers. If rosters differ for a moment and both do, the higher device id wins.
//! * Every attempt has a generation, higher than any known; signals and driver events of another are stale and ignored.
//! * A connection that stands is never closed because the cluster or the roster forgot the other side: only failure,
//!   goodbye or revocation end it.
//! * Candidates that come before the description wait, within bounds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use rockpool_proto::DeviceId;

use crate::overlay::{Role, WantedLink};
use crate::signal::{Candidate, Fingerprint, Purpose, Signal, SignalKind, fingerprint_of_sdp};
use crate::time::{Now, Time};

/// From the first signal to DTLS.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// How long an answering side waits for an offer before it asks.
const OFFER_WAIT: Duration = Duration::from_secs(4);
/// How long ICE may look for the path by itself.
const DISCONNECTED_MAX: Duration = Duration::from_secs(5);
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
    role: Option<Role>,
    generation: u64,
    round: u32,
    /// The other side's presence when this generation began.
    remote_epoch: u64,
    expected: Option<Fingerprint>,
    /// The remote description of this round has been handed to the driver.
    described: bool,
    early: Vec<Option<Candidate>>,
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
            expected: None,
            described: false,
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
    cluster: bool,
    actions: VecDeque<Action>,
}

impl Negotiation {
    pub(crate) fn new(me: DeviceId) -> Negotiation {
        Negotiation { me, sessions: BTreeMap::new(), wanted: BTreeMap::new(), cluster: false, actions: VecDeque::new() }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.sessions.values().filter_map(Session::deadline).min()
    }

    /// Whether DTLS is up for this connection.
    pub(crate) fn is_up(&self, device: DeviceId, purpose: Purpose) -> bool {
        self.sessions.get(&(device, purpose)).is_some_and(Session::is_up)
    }

    /// The cluster takes signals, or doesn't.
    pub(crate) fn set_cluster(&mut self, now: Now, reachable: bool) {
        self.cluster = reachable;
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
    }

    fn can_signal(&self, key: &Key) -> bool {
        self.cluster || (key.1 == Purpose::Bulk && self.is_up(key.0, Purpose::Control))
    }

    /// Starts what is wanted and rests what isn't, standing connections excepted.
    fn settle(&mut self, now: Now) {
        let mut keys: Vec<Key> = self.sessions.keys().copied().collect();
        for device in self.wanted.keys() {
            keys.extend([(*device, Purpose::Control), (*device, Purpose::Bulk)]);
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let mut session = self.sessions.remove(&key).unwrap_or_else(Session::new);
            self.settle_one(now, &key, &mut session);
            if session.state != State::Idle || session.role.is_some() {
                self.sessions.insert(key, session);
            }
        }
    }

    fn settle_one(&mut self, now: Now, key: &Key, session: &mut Session) {
        let link = self.wanted.get(&key.0).copied();
        session.role = link.map(|link| link.role);
        // Bulk follows Control: two handshakes at once take longer than one after the other.
        let wanted = match key.1 {
            Purpose::Control => link.is_some(),
            Purpose::Bulk => self.is_up(key.0, Purpose::Control) && (link.is_some() || session.remote_epoch > 0),
        };
        match session.state {
            State::Idle if wanted && self.can_signal(key) => self.begin(now, key, session),
            State::Waiting { .. } | State::Backoff { .. } if !wanted || !self.can_signal(key) => {
                session.state = State::Idle;
            }
            _ => {}
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
        session.remote_epoch = self.wanted.get(&key.0).map_or(session.remote_epoch, |link| link.presence_epoch);
        session.expected = None;
        session.described = false;
        session.early.clear();
        session.state = State::Offering { deadline: now.time.after(ATTEMPT_MAX) };
        let connection = connection_id(key, session);
        self.command(LinkCommand::CreateOffer { connection, ice_restart: false });
    }

    fn restart(&mut self, now: Now, key: &Key, session: &mut Session) {
        session.state = State::Up { restart_at: None, restart_deadline: Some(now.time.after(RESTART_MAX)) };
        if !self.can_signal(key) {
            return;
        }
        if session.role == Some(Role::Answers) {
            // The other side restarts by itself; should it not have noticed, this tells it.
            let kind = SignalKind::OfferRequest;
            return self.signal(key, session.generation, session.round, kind);
        }
        session.round = session.round.saturating_add(1);
        session.described = false;
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
        session.early.clear();
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
            let offers = matches!(session.state, State::Offering { .. })
                || (session.is_up() && session.round > 0 && !session.described);
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
        // Bulk may begin.
        self.settle(now);
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
                        this.signal(&key, session.generation, 0, SignalKind::OfferRequest);
                        session.failures = session.failures.saturating_add(1);
                        let wait = OFFER_WAIT.saturating_mul(1 << session.failures.min(3)).min(BACKOFF_MAX);
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
                let current = session.generation == signal.generation && session.round == signal.round;
                if current && session.is_open() {
                    if session.described {
                        let (connection, candidate) = (connection_id(&key, &session), candidate.clone());
                        self.command(LinkCommand::AddCandidate { connection, candidate });
                    } else if session.early.len() < EARLY_CANDIDATES_MAX {
                        session.early.push(candidate.clone());
                    }
                }
            }
            SignalKind::OfferRequest => self.requested(now, &key, &mut session, &signal),
        }
        self.sessions.insert(key, session);
    }

    fn accept_offer(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal, sdp: &str) {
        let restart = session.is_open()
            && session.generation == signal.generation
            && session.role != Some(Role::Offers)
            && signal.round > session.round;
        let newer = signal.generation > session.generation || signal.from_epoch > session.remote_epoch;
        let glare = matches!(session.state, State::Offering { .. });
        if glare && self.me > key.0 {
            return; // Ours wins; the other side drops its own when it sees ours.
        }
        if !(restart || newer || glare) {
            return;
        }
        let Some(fingerprint) = fingerprint_of_sdp(sdp) else { return };
        if restart {
            if session.expected != Some(fingerprint) {
                // A restart keeps the certificate; another one means another connection.
                return self.fail(now, key, session);
            }
            session.round = signal.round;
        } else {
            self.close(key, session);
            session.generation = signal.generation;
            session.round = signal.round;
            session.remote_epoch = signal.from_epoch;
            session.expected = Some(fingerprint);
            session.state = State::Connecting { deadline: now.time.after(ATTEMPT_MAX) };
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
            State::Offering { deadline } => {
                session.expected = Some(fingerprint);
                session.state = State::Connecting { deadline };
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
        for candidate in session.early.drain(..) {
            self.actions.push_back(Action::Command(LinkCommand::AddCandidate { connection, candidate }));
        }
    }

    /// The answering side says that it has no working connection of this generation or later.
    fn requested(&mut self, now: Now, key: &Key, session: &mut Session, signal: &Signal) {
        let reborn = signal.from_epoch > session.remote_epoch;
        let stale = signal.generation < session.generation && !reborn;
        match session.state {
            State::Up { restart_deadline: None, .. }
                if signal.generation == session.generation && session.role == Some(Role::Offers) =>
            {
                self.restart(now, key, session);
            }
            State::Up { .. } | State::Connecting { .. } | State::Offering { .. } if !reborn || stale => {}
            _ => {
                let known = self.wanted.contains_key(&key.0) || session.is_up();
                self.close(key, session);
                session.remote_epoch = signal.from_epoch;
                session.role = Some(Role::Offers);
                if known && self.can_signal(key) {
                    self.offer(now, key, session);
                    session.remote_epoch = signal.from_epoch;
                }
            }
        }
    }
}

fn connection_id(key: &Key, session: &Session) -> ConnectionId {
    ConnectionId { device: key.0, purpose: key.1, generation: session.generation }
}
