//! The loop: one task that owns the machine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rockpool_peer_core::{
    Body, Command, CommandId, DownloadId, EntryId, Input, Member, Now, Output, Peer, Refusal, Reply as CoreReply, Root,
    Roster, RosterChange, Time,
};
use rockpool_proto::meta::v1::{self as meta, ended::Reason, from_cluster};
use rockpool_proto::{AccountId, DeviceId, PoolId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::caller::{Caller, Subscriber};
use super::downloads;
use super::links::Links;
use super::{Call, ClusterPort, Happening, offers, view};
use crate::api::{ApiError, ErrorCode, Event, Reply};
use crate::client::ClusterEvent;
use crate::files::{Source, Sources, Workers};
use crate::home::{DaemonLock, Home};
use crate::store::{OfferRecord, Store, Writer, Written};

/// How often own offers are compared with their files.
const SOURCES_INTERVAL: Duration = Duration::from_secs(10);

/// How long after a change of addresses a new way to the cluster means that links are to be looked at once more: what was
/// signalled in between may have been lost.
const NETWORK_SETTLES: Duration = Duration::from_secs(30);

/// How long closing waits for slow readers of the socket.
const SOCKET_FLUSH_MAX: Duration = Duration::from_secs(1);

/// An own offer that can be served.
pub(super) struct OwnOffer {
    pub(super) root: Root,
    pub(super) source: Arc<Source>,
}

/// What is done when the machine answers a command.
pub(super) enum Pending {
    Say(Caller),
    /// Answered with `Done`.
    Plain(Caller),
    Offer(Caller, Box<(OfferRecord, OwnOffer)>),
    /// Whoever asked is among its waiters.
    Get(Box<downloads::Running>),
}

impl Pending {
    fn refuse(self, error: &ApiError) {
        match self {
            Pending::Say(caller) | Pending::Plain(caller) | Pending::Offer(caller, _) => {
                caller.answer(Err(error.clone()));
            }
            Pending::Get(download) => {
                download.waiters.iter().for_each(|waiter| waiter.answer(Err(error.clone())));
            }
        }
    }
}

/// The one place that looks at clocks.
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        let micros = u64::try_from(self.started.elapsed().as_micros()).expect("half a million years");
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { time: Time(micros), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    fn instant(&self, Time(micros): Time) -> Instant {
        self.started + Duration::from_micros(micros)
    }
}

/// Why the loop ends.
pub(super) struct Ending {
    reason: &'static str,
    text: String,
    outcome: Result<(), ApiError>,
}

/// A pool that is open.
pub(super) struct Running {
    pub(super) home: Home,
    pub(super) pool: PoolId,
    pub(super) pool_name: String,
    /// Held until everything else is let go of.
    lock: DaemonLock,
    pub(super) peer: Peer,
    links: Links,
    pub(super) workers: Workers,
    pub(super) store: Store,
    writer: Writer,
    pub(super) sources: Arc<Sources>,
    port: Box<dyn ClusterPort>,
    cluster_events: mpsc::Receiver<ClusterEvent>,
    pub(super) happenings: mpsc::Sender<Happening>,
    happenings_rx: mpsc::Receiver<Happening>,
    serving: JoinHandle<()>,
    stop_serving: watch::Sender<bool>,
    clock: Clock,
    commands: BTreeMap<CommandId, Pending>,
    next_command: u64,
    pub(super) own_offers: HashMap<EntryId, OwnOffer>,
    pub(super) downloads: HashMap<DownloadId, downloads::Running>,
    /// Downloads whose place on disk is being looked at before they begin, and whether they were cancelled meanwhile.
    pub(super) auditing: HashMap<Root, bool>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) cluster_connected: bool,
    network_changed_at: Option<Instant>,
    /// Tells of changed addresses; ends with this.
    watching: JoinHandle<()>,
    pub(super) ending: Option<Ending>,
    /// Whoever asked to close waits for the end.
    pub(super) closers: Vec<Caller>,
}

impl Running {
    #[allow(clippy::too_many_arguments)] // Called once, by `start`.
    pub(super) fn new(
        home: Home,
        pool: PoolId,
        pool_name: String,
        lock: DaemonLock,
        clock: Clock,
        peer: Peer,
        links: Links,
        workers: Workers,
        store: Store,
        writer: Writer,
        sources: Arc<Sources>,
        port: Box<dyn ClusterPort>,
        cluster_events: mpsc::Receiver<ClusterEvent>,
        happenings: mpsc::Sender<Happening>,
        happenings_rx: mpsc::Receiver<Happening>,
        serving: JoinHandle<()>,
        stop_serving: watch::Sender<bool>,
    ) -> Running {
        let watching = tokio::spawn(watch_network(happenings.clone()));
        Running {
            home,
            pool,
            pool_name,
            lock,
            peer,
            links,
            workers,
            store,
            writer,
            sources,
            port,
            cluster_events,
            happenings,
            happenings_rx,
            serving,
            stop_serving,
            clock,
            commands: BTreeMap::new(),
            next_command: 0,
            own_offers: HashMap::new(),
            downloads: HashMap::new(),
            auditing: HashMap::new(),
            subscribers: Vec::new(),
            cluster_connected: false,
            network_changed_at: None,
            watching,
            ending: None,
            closers: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>) -> Result<(), ApiError> {
        let mut sources_due = tokio::time::interval(SOURCES_INTERVAL);
        sources_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What the machine wanted done at once, of what an earlier run left.
        self.drain();
        while self.ending.is_none() {
            let timeout = self.peer.poll_timeout().map(|time| self.clock.instant(time));
            let timer = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(happening) = self.happenings_rx.recv() => self.happened(happening),
                event = self.cluster_events.recv() => match event {
                    Some(event) => self.cluster_said(event),
                    None => self.end("asked", "the way to the cluster was closed", Ok(())),
                },
                Some(call) = calls.recv() => self.called(call),
                () = timer => self.input(Input::Timeout),
                _ = sources_due.tick() => {
                    self.look_at_sources();
                    self.subscribers.retain_mut(Subscriber::catch_up);
                }
            }
        }
        let ending = self.ending.take().expect("the loop ends with a reason");
        self.close(ending).await
    }

    async fn close(mut self, ending: Ending) -> Result<(), ApiError> {
        self.command(Command::Leave, Pending::Plain(Caller::nobody()));
        // Nobody reads it any more, so nobody may wait for room in it.
        self.happenings_rx.close();
        self.watching.abort();
        self.links.close().await;
        for subscriber in self.subscribers.drain(..) {
            subscriber.tell_last(Event::Closed { reason: ending.reason.into(), text: ending.text.clone() });
        }
        // What cannot be carried out any more: because the disk refused, if that is why it ends.
        let gone = match &ending.outcome {
            Err(error) => error.clone(),
            Ok(()) => ApiError::new(ErrorCode::Unavailable, format!("the pool was closed: {}", ending.text)),
        };
        std::mem::take(&mut self.commands).into_values().for_each(|pending| pending.refuse(&gone));
        for waiter in self.downloads.values().flat_map(|download| &download.waiters) {
            waiter.answer(Err(gone.clone()));
        }
        self.closers.iter().for_each(|closer| closer.answer(Ok(Reply::Done)));
        // With the last caller every connection's queue ends, and what is in it is still written.
        drop((self.downloads, self.closers));
        self.port.close().await;
        self.stop_serving.send_replace(true);
        let _ = tokio::time::timeout(SOCKET_FLUSH_MAX, &mut self.serving).await;
        self.serving.abort();
        // Syncs and writes that are under way end before the lock is given up.
        let (workers, writer, peer) = (self.workers, self.writer, self.peer);
        let _ = tokio::task::spawn_blocking(move || drop((workers, writer, peer))).await;
        // The store last but one: whoever gets the lock must be able to open it.
        drop((self.sources, self.own_offers, self.store));
        drop(self.lock);
        ending.outcome
    }

    pub(super) fn end(&mut self, reason: &'static str, text: &str, outcome: Result<(), ApiError>) {
        if self.ending.is_none() {
            self.ending = Some(Ending { reason, text: text.to_owned(), outcome });
        }
    }

    /// Gives the machine an input and carries out all that it says.
    pub(super) fn input(&mut self, input: Input) {
        self.peer.handle_input(self.clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            self.carry_out(output);
        }
    }

    pub(super) fn command(&mut self, command: Command, pending: Pending) {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.commands.insert(id, pending);
        self.input(Input::Command(id, command));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::SendSignal { to, payload } => {
                if !self.port.signal(to, payload) {
                    tracing::debug!(%to, "a signal that found no room");
                }
            }
            Output::Link(command) => self.links.command(command),
            Output::Send(connection, frames) => self.links.send(connection, frames),
            Output::Persist { sequence, entries } => self.writer.persist(sequence, entries),
            Output::Files(command) => self.file_command(command),
            Output::Reply(id, reply) => self.replied(id, reply),
            Output::Event(event) => self.tell(event),
        }
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Input(input) => {
                match &input {
                    Input::RangeStored(_, Err(error)) => tracing::warn!(%error, "storing"),
                    Input::RangeRead(_, Err(error)) => tracing::warn!(%error, "reading"),
                    _ => {}
                }
                self.input(input);
            }
            Happening::Written(Written::UpTo(sequence)) => self.input(Input::Persisted(sequence)),
            Happening::Written(Written::Failed(error)) => {
                let text = format!("nothing can be kept any more: {error}");
                self.end("disk", &text, Err(ApiError::new(ErrorCode::Disk, text.clone())));
            }
            Happening::Hashed(prepared) => self.hashed(*prepared),
            Happening::SourcesChanged(ids) => ids.into_iter().for_each(|id| self.withdraw(id, Caller::nobody())),
            Happening::Audited(audited) => self.audited(*audited),
            Happening::Opened(id, opened) => self.opened(id, opened),
            Happening::Completed(id, completion) => self.completed(id, completion),
            Happening::NetworkChanged => {
                tracing::info!("the addresses of this device changed");
                self.network_changed_at = Some(Instant::now());
                self.port.probe();
                self.input(Input::NetworkChanged);
            }
        }
    }

    fn cluster_said(&mut self, event: ClusterEvent) {
        match event {
            ClusterEvent::Up(welcome) => {
                self.remember_members(&welcome.members);
                let members = welcome.members.iter().filter_map(|member| Member::from_wire(member).ok()).collect();
                match welcome.roster.as_ref().map(Roster::from_wire) {
                    Some(Ok(roster)) => {
                        let presence_epoch = welcome.presence_epoch;
                        self.input(Input::Attached { presence_epoch, roster, members });
                    }
                    _ => tracing::warn!("a welcome without a roster that can be read"),
                }
                if self.network_changed_at.take().is_some_and(|at| at.elapsed() < NETWORK_SETTLES) {
                    self.input(Input::NetworkChanged);
                }
                self.cluster_is(true, "the cluster is in reach");
            }
            ClusterEvent::Message(from_cluster::Kind::Roster(event)) => match RosterChange::from_wire(&event) {
                Ok(change) => self.input(Input::RosterChanged(change)),
                Err(error) => tracing::warn!(%error, "a change of the roster"),
            },
            ClusterEvent::Message(from_cluster::Kind::Member(member)) => {
                self.remember_members(std::slice::from_ref(&member));
                match Member::from_wire(&member) {
                    Ok(member) => self.input(Input::MemberChanged(member)),
                    Err(error) => tracing::warn!(%error, "a change of a member"),
                }
            }
            ClusterEvent::Message(from_cluster::Kind::Signal(signal)) => {
                match DeviceId::try_from(signal.from_device_id.as_ref()) {
                    Ok(from) => self.input(Input::Signal { from, payload: signal.payload }),
                    Err(error) => tracing::warn!(%error, "a signal"),
                }
            }
            ClusterEvent::Message(_) => {}
            ClusterEvent::Lost { text } => {
                self.input(Input::Detached);
                self.cluster_is(false, &text);
            }
            ClusterEvent::Ended { reason, text } => {
                let (name, code) = match reason {
                    Reason::Fenced => ("fenced", ErrorCode::Denied),
                    Reason::Revoked => ("revoked", ErrorCode::Denied),
                    Reason::Left => ("left", ErrorCode::Denied),
                    _ => ("expired", ErrorCode::Denied),
                };
                if reason == Reason::Revoked
                    && let Err(error) = self.home.forget_session()
                {
                    tracing::warn!(%error, "the login session of a revoked device");
                }
                self.end(name, &text, Err(ApiError::new(code, text.clone())));
            }
        }
    }

    fn cluster_is(&mut self, connected: bool, text: &str) {
        if std::mem::replace(&mut self.cluster_connected, connected) != connected {
            self.publish(Event::Cluster { connected, text: text.to_owned() });
        }
    }

    fn remember_members(&self, members: &[meta::Member]) {
        let (store, pool) = (self.store.clone(), self.pool);
        let members: Vec<(AccountId, meta::Member)> = members
            .iter()
            .filter_map(|member| {
                let account = member.account.as_ref()?;
                Some((AccountId::try_from(account.account_id.as_ref()).ok()?, member.clone()))
            })
            .collect();
        self.workers.in_order(move || {
            let members = members.iter().map(|(account, member)| (*account, member));
            if let Err(error) = store.put_members(pool, members) {
                tracing::warn!(%error, "the members cannot be remembered");
            }
        });
    }

    fn replied(&mut self, id: CommandId, reply: Result<CoreReply, Refusal>) {
        let Some(pending) = self.commands.remove(&id) else { return };
        match (pending, reply) {
            (Pending::Say(caller), Ok(CoreReply::Appended(id))) => {
                let entry = self.peer.log().entry(id).cloned();
                let message = entry.and_then(|entry| view::message(&self.peer, &entry));
                let missing = || ApiError::new(ErrorCode::Internal, "the message is not in the log");
                caller.answer(message.map(Reply::Message).ok_or_else(missing));
            }
            (Pending::Offer(caller, parts), Ok(CoreReply::Appended(id))) => self.offered(caller, id, *parts),
            (Pending::Get(download), Ok(CoreReply::Download(id))) => {
                let paused = download.paused;
                self.downloads.insert(id, *download);
                if paused {
                    // Stopped while its folder was looked at.
                    self.command(Command::Pause(id), Pending::Plain(Caller::nobody()));
                }
            }
            (Pending::Plain(caller), Ok(_)) => caller.answer(Ok(Reply::Done)),
            (pending, Err(refusal)) => {
                if let Pending::Offer(_, parts) = &pending {
                    self.forget_source(parts.1.root);
                }
                pending.refuse(&refused(&refusal));
            }
            (pending, Ok(other)) => {
                let text = format!("an answer to something else: {other:?}");
                pending.refuse(&ApiError::new(ErrorCode::Internal, text));
            }
        }
    }

    fn offered(&mut self, caller: Caller, id: EntryId, (record, own): (OfferRecord, OwnOffer)) {
        self.own_offers.insert(id, own);
        let (store, pool) = (self.store.clone(), self.pool);
        let view = match self.peer.log().entry(id).map(|entry| &entry.body) {
            Some(Body::FileOffer(offer)) => Ok(Reply::Offered(view::offer(&self.peer, id, offer))),
            _ => Err(ApiError::new(ErrorCode::Internal, "the offer is not in the log")),
        };
        self.workers.in_order(move || {
            let kept = store.put_offer(pool, id.counter, Some(&record));
            caller.answer(match kept {
                Ok(()) => view,
                Err(error) => Err(super::start::store_error(error)),
            });
        });
    }

    /// Takes an own offer back.
    pub(super) fn withdraw(&mut self, id: EntryId, caller: Caller) {
        self.command(Command::Withdraw(id), Pending::Plain(caller));
    }

    pub(super) fn withdrawn(&mut self, id: EntryId) {
        if id.device != self.peer.device_id() {
            return;
        }
        if let Some(own) = self.own_offers.remove(&id) {
            self.forget_source(own.root);
        }
        let (store, pool) = (self.store.clone(), self.pool);
        self.workers.in_order(move || {
            if let Err(error) = store.put_offer(pool, id.counter, None) {
                tracing::warn!(%error, "a withdrawn offer is still remembered");
            }
        });
    }

    fn forget_source(&self, root: Root) {
        if !self.own_offers.values().any(|own| own.root == root) {
            self.sources.remove(root);
        }
    }

    fn look_at_sources(&self) {
        let own: Vec<_> = self.own_offers.iter().map(|(id, own)| (*id, own.source.clone())).collect();
        if own.is_empty() {
            return;
        }
        let happenings = self.happenings.clone();
        self.workers.in_order(move || {
            let changed = offers::changed(own);
            if !changed.is_empty() {
                let _ = happenings.blocking_send(Happening::SourcesChanged(changed));
            }
        });
    }
}

/// Tells of changed addresses for as long as anybody listens.
async fn watch_network(happenings: mpsc::Sender<Happening>) {
    let mut network = crate::link::Network::new();
    loop {
        network.changed().await;
        if happenings.send(Happening::NetworkChanged).await.is_err() {
            return;
        }
    }
}

fn refused(refusal: &Refusal) -> ApiError {
    let code = match refusal {
        Refusal::TextLength { .. } | Refusal::Manifest(_) => ErrorCode::Invalid,
        Refusal::TooMany { .. } => ErrorCode::Limit,
        Refusal::NotFound(_) | Refusal::Withdrawn => ErrorCode::NotFound,
        Refusal::NotYours | Refusal::Forked(_) => ErrorCode::Denied,
        Refusal::Left => ErrorCode::Unavailable,
    };
    ApiError::new(code, refusal.to_string())
}
