//! A pool's room: the machine that owns the tree of who is present, and through which signals pass.
//!
//! A plain value. It is told of connections, pings, signals, and of what the database says ([`Facts`]); it answers with
//! messages to connections. Time comes in as an argument. The driver is in `host`.
//!
//! * **Order.** Each change of the table is one event with the lease epoch and the next sequence number, sent to everybody
//!   in that order. Who newly sits gets the whole table instead. A device whose connection breaks without a word keeps
//!   its seat for [`SILENCE_MAX`], so that losing a node between costs nobody a link; when it returns in time, with a
//!   higher presence epoch, it finds its seat.
//! * **Fencing.** Of two connections of a device the one with the higher presence epoch stays. Epochs are given by the
//!   database, so it does not matter in which order the connections arrive here.
//! * **Gathering.** An owner that takes over from one that vanished lets the devices sit down where they claim to have
//!   sat, for [`GATHER_FOR`]; then the tree is settled and holes are filled again. Whoever comes first gets the seat.
//!
//! Left out on purpose: content never comes by here, and nothing in it is stored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rockpool_proto::limits::{POOL_PRESENT_DEVICES_MAX, SIGNAL_BYTES_MAX};
use rockpool_proto::meta::v1::FromCluster;
use rockpool_proto::{AccountId, DeviceId, PoolId};

use super::convert;
use super::tree::{Address, Seated, Tree};
use crate::services::model::Member;

/// How long a device may be silent before its presence ends: three pings missed.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a new owner lets devices return to the seats that they had.
pub const GATHER_FOR: Duration = Duration::from_secs(3);
/// How long an empty room is kept, for somebody who comes straight back.
pub const VACANT_MAX: Duration = Duration::from_secs(10);

/// Time since the driver's start.
pub type Time = Duration;

/// One stream of one device, as the owner knows it. Never reused within a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Whose connection it is, as the node that accepted it has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// Where a device says that it sat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The seat.
    pub address: Address,
    /// Its join number then.
    pub join_number: u64,
    /// Under which owner.
    pub lease_epoch: u64,
}

/// Why the cluster ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// No reason that a program could act on; the text says it.
    Unspecified,
    /// The device connected again.
    Fenced,
    /// The device was thrown out.
    Revoked,
    /// The account left the pool.
    Left,
    /// The node or the owner is stopping.
    Moved,
    /// The login session ended.
    Expired,
}

/// How a connection ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The device closed it.
    Closed,
    /// It broke; the device may not know yet.
    Broken,
}

/// A device's presence, as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceFact {
    /// The newest epoch given to the device.
    pub epoch: u64,
    /// Whether that epoch is a presence in this pool.
    pub here: bool,
}

impl PresenceFact {
    /// What holds of two readings: a presence begins with its epoch, and ends once.
    fn newer(self, other: PresenceFact) -> PresenceFact {
        match self.epoch.cmp(&other.epoch) {
            Ordering::Less => other,
            Ordering::Equal => PresenceFact { epoch: self.epoch, here: self.here && other.here },
            Ordering::Greater => self,
        }
    }
}

/// What the database says about a pool, read in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Grows with every change of members and their devices.
    pub change_number: u64,
    /// The members with all their devices.
    pub members: BTreeMap<AccountId, Member>,
    /// The presence of the members' devices.
    pub presence: BTreeMap<DeviceId, PresenceFact>,
}

/// What a room is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// What the database says now.
    Facts(Facts),
    /// What it says of one device, where nothing else has changed.
    Presence {
        /// Whose.
        device: DeviceId,
        /// Its presence.
        fact: PresenceFact,
    },
    /// A device's stream arrived.
    Attach {
        /// A fresh id.
        connection: ConnectionId,
        /// Whose.
        identity: Identity,
        /// Given by the database for this connection.
        presence_epoch: u64,
        /// Where it sat before.
        claim: Option<Claim>,
    },
    /// A sign of life.
    Ping {
        /// From whom.
        connection: ConnectionId,
        /// To be answered.
        nonce: u64,
    },
    /// Something for another device.
    Signal {
        /// From whom.
        connection: ConnectionId,
        /// For whom.
        to: DeviceId,
        /// Signed between the two, opaque here.
        payload: Bytes,
    },
    /// A stream ended.
    Detach {
        /// Whose.
        connection: ConnectionId,
        /// How.
        ending: Ending,
    },
    /// A device must go, up to that presence epoch.
    Evict {
        /// Who.
        device: DeviceId,
        /// A newer connection stays.
        presence_epoch_max: u64,
        /// Why.
        reason: EndReason,
    },
    /// Everybody must go: the owner stops, or has lost its lease.
    Close,
}

/// What a room wants done.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, and each is drained at once")]
pub enum Output {
    /// Send this.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What.
        message: FromCluster,
    },
    /// Close the stream, after what was sent.
    Drop {
        /// Whose.
        connection: ConnectionId,
    },
    /// A presence ended here: let the database know, unless it knows already.
    Departed {
        /// Whose.
        device: DeviceId,
        /// Which.
        presence_epoch: u64,
        /// How long ago the device was last heard; none where this owner never heard it.
        silent_for: Option<Duration>,
    },
    /// Nobody has been here for a while: the lease can be given up and the room closed.
    Vacated,
}

/// A device in the room.
#[derive(Debug)]
struct Occupant {
    account: AccountId,
    presence_epoch: u64,
    /// None: the stream broke and the seat is held for its return.
    connection: Option<ConnectionId>,
    heard_at: Time,
}

/// A device's seat and presence, as the roster shows it.
pub struct Standing<'a> {
    /// The newest connection's epoch.
    pub presence_epoch: u64,
    /// Where it sits.
    pub seated: &'a Seated,
}

/// Presences that an owner inherited, by their epochs. Nobody else would note that they ended.
#[derive(Debug)]
struct Awaited {
    until: Time,
    /// None until the first facts say who they are.
    devices: Option<BTreeMap<DeviceId, u64>>,
}

/// The room of one pool.
#[derive(Debug)]
pub struct Room {
    pool: PoolId,
    lease_epoch: u64,
    sequence: u64,
    tree: Tree,
    occupants: BTreeMap<DeviceId, Occupant>,
    connections: BTreeMap<ConnectionId, DeviceId>,
    facts: Facts,
    /// The newest that was read of each device's presence.
    presence: BTreeMap<DeviceId, PresenceFact>,
    gathering_until: Option<Time>,
    /// Those whom the owner before had in its room, and until when they may come back.
    awaited: Option<Awaited>,
    vacant_since: Option<Time>,
    outputs: VecDeque<Output>,
}

impl Room {
    /// An empty room under a lease. `succeeds` says that the owner before vanished, so devices may come back with claims.
    pub fn new(now: Time, pool: PoolId, lease_epoch: u64, succeeds: bool) -> Self {
        Self {
            pool,
            lease_epoch,
            sequence: 0,
            tree: Tree::default(),
            occupants: BTreeMap::new(),
            connections: BTreeMap::new(),
            facts: Facts::default(),
            presence: BTreeMap::new(),
            gathering_until: succeeds.then(|| now + GATHER_FOR),
            awaited: succeeds.then(|| Awaited { until: now + SILENCE_MAX, devices: None }),
            vacant_since: Some(now),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input; drain [`Room::poll_output`] afterwards. Nothing that a device sends can make it fail.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        match input {
            Input::Facts(facts) => self.handle_facts(now, facts),
            Input::Presence { device, fact } => {
                let known = self.presence.entry(device).or_insert(fact);
                *known = known.newer(fact);
            }
            Input::Attach { connection, identity, presence_epoch, claim } => {
                self.handle_attach(now, connection, identity, presence_epoch, claim);
            }
            Input::Ping { connection, nonce } => {
                if self.hear(now, connection).is_some() {
                    self.send(connection, convert::pong(nonce));
                }
            }
            Input::Signal { connection, to, payload } => self.handle_signal(now, connection, to, payload),
            Input::Detach { connection, ending } => self.handle_detach(now, connection, ending),
            Input::Evict { device, presence_epoch_max, reason } => {
                if self.occupants.get(&device).is_some_and(|it| it.presence_epoch <= presence_epoch_max) {
                    self.evict(now, device, reason);
                }
            }
            Input::Close => {
                for connection in self.connections.keys().copied().collect::<Vec<_>>() {
                    self.end(connection, EndReason::Moved);
                }
                self.connections.clear();
                self.occupants.values_mut().for_each(|occupant| occupant.connection = None);
            }
        }
        self.note_vacancy(now);
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.gathering_until.is_some_and(|until| until <= now) {
            self.gathering_until = None;
            if self.tree.settle() {
                self.sequence += 1;
                let whole = convert::whole(self.roster());
                self.send_all(None, &whole);
            }
        }
        if self.awaited.as_ref().is_some_and(|awaited| awaited.until <= now) {
            self.give_up_awaited();
        }
        let silent = |occupant: &Occupant| occupant.heard_at + SILENCE_MAX <= now;
        let gone: Vec<_> = self.occupants.iter().filter(|(_, it)| silent(it)).map(|(device, _)| *device).collect();
        for device in gone {
            self.evict(now, device, EndReason::Moved);
        }
        self.note_vacancy(now);
        if self.vacant_until().is_some_and(|until| until <= now) {
            self.vacant_since = None;
            self.outputs.push_back(Output::Vacated);
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Room::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let silence = self.occupants.values().map(|occupant| occupant.heard_at + SILENCE_MAX).min();
        let vacancy = self.vacant_until();
        let awaited = self.awaited.as_ref().map(|awaited| awaited.until);
        [self.gathering_until, awaited, silence, vacancy].into_iter().flatten().min()
    }

    /// When an empty room may go: not before it has dealt with those that the owner before left behind.
    fn vacant_until(&self) -> Option<Time> {
        let awaited = self.awaited.as_ref().map_or(Time::ZERO, |awaited| awaited.until);
        self.vacant_since.map(|since| (since + VACANT_MAX).max(awaited))
    }

    fn handle_facts(&mut self, now: Time, facts: Facts) {
        // Two readings can overtake each other. Members are ordered by the change number; presence orders itself.
        let known = std::mem::replace(&mut self.presence, facts.presence);
        for (device, known) in known {
            if let Some(read) = self.presence.get_mut(&device) {
                *read = read.newer(known);
            }
        }
        if facts.change_number >= self.facts.change_number {
            for member in facts.members.values() {
                if self.facts.members.get(&member.account.id) != Some(member) {
                    self.send_all(None, &convert::member(member));
                }
            }
            for (account, former) in &self.facts.members {
                if !facts.members.contains_key(account) {
                    let former = convert::former_member(former);
                    for connection in self.connections.keys() {
                        let message = former.clone();
                        self.outputs.push_back(Output::Send { connection: *connection, message });
                    }
                }
            }
            self.facts.change_number = facts.change_number;
            self.facts.members = facts.members;
        }
        if let Some(Awaited { devices: devices @ None, .. }) = &mut self.awaited {
            let here = self.presence.iter().filter(|(_, fact)| fact.here);
            *devices = Some(here.map(|(device, fact)| (*device, fact.epoch)).collect());
        }
        let (mut unwelcome, mut fenced) = (Vec::new(), Vec::new());
        for (device, occupant) in &self.occupants {
            let identity = Identity { account: occupant.account, device: *device };
            let presence = self.presence.get(device);
            let superseded = presence.filter(|fact| fact.epoch > occupant.presence_epoch);
            // Its newer connection is on the way here and will want the seat.
            let returns = superseded.is_some_and(|fact| fact.here);
            let withdrawn = presence.is_some_and(|fact| fact.epoch == occupant.presence_epoch && !fact.here);
            let reason = match self.admission(identity) {
                Err(reason) => Some(reason),
                Ok(()) if returns => {
                    fenced.extend(occupant.connection);
                    None
                }
                Ok(()) if superseded.is_some() => Some(EndReason::Fenced),
                Ok(()) if withdrawn => Some(EndReason::Expired),
                Ok(()) => None,
            };
            unwelcome.extend(reason.map(|reason| (*device, reason)));
        }
        for (device, reason) in unwelcome {
            self.evict(now, device, reason);
        }
        for connection in fenced {
            self.end(connection, EndReason::Fenced);
            self.handle_detach(now, connection, Ending::Broken);
        }
    }

    /// Lets the database know of those who did not come back.
    fn give_up_awaited(&mut self) {
        let devices = self.awaited.take().and_then(|awaited| awaited.devices).unwrap_or_default();
        for (device, presence_epoch) in devices {
            if !self.occupants.contains_key(&device) {
                self.outputs.push_back(Output::Departed { device, presence_epoch, silent_for: None });
            }
        }
    }

    /// Whether a device may be here at all.
    fn admission(&self, identity: Identity) -> Result<(), EndReason> {
        let Some(member) = self.facts.members.get(&identity.account) else { return Err(EndReason::Left) };
        match member.devices.iter().find(|device| device.id == identity.device) {
            Some(device) if device.revoked_at_us.is_none() => Ok(()),
            _ => Err(EndReason::Revoked),
        }
    }

    fn handle_attach(
        &mut self,
        now: Time,
        connection: ConnectionId,
        identity: Identity,
        presence_epoch: u64,
        claim: Option<Claim>,
    ) {
        let device = identity.device;
        if let Err(reason) = self.admission(identity).and_then(|()| self.is_newest(device, presence_epoch)) {
            return self.turn_away(connection, device, presence_epoch, reason);
        }
        match self.occupants.get(&device).map(|older| (older.presence_epoch, older.connection)) {
            Some((epoch, _)) if epoch > presence_epoch => return self.end(connection, EndReason::Fenced),
            // The same stream again: the node that carries it gave up waiting for its first line.
            Some((epoch, Some(older))) if epoch == presence_epoch => {
                self.connections.remove(&older);
                self.outputs.push_back(Output::Drop { connection: older });
            }
            Some((_, Some(older))) => {
                self.connections.remove(&older);
                self.end(older, EndReason::Fenced);
            }
            Some((_, None)) => {}
            None => {
                let full = self.occupants.len() >= POOL_PRESENT_DEVICES_MAX;
                if full || !self.take_seat(device, claim) {
                    return self.turn_away(connection, device, presence_epoch, EndReason::Unspecified);
                }
            }
        }
        let occupant =
            Occupant { account: identity.account, presence_epoch, connection: Some(connection), heard_at: now };
        self.occupants.insert(device, occupant);
        self.sequence += 1;
        if let Some(node) = self.roster_node(device) {
            self.send_all(None, &convert::joined(self.lease_epoch, self.sequence, node));
        }
        self.connections.insert(connection, device);
        let welcome = convert::welcome(presence_epoch, self.roster(), self.facts.members.values());
        self.send(connection, welcome);
    }

    /// Whether a presence still stands. Between its beginning in the database and its arrival here the device may have
    /// connected to another pool, whose notice found nobody here to end.
    fn is_newest(&self, device: DeviceId, presence_epoch: u64) -> Result<(), EndReason> {
        match self.presence.get(&device) {
            Some(fact) if fact.epoch > presence_epoch => Err(EndReason::Fenced),
            Some(fact) if fact.epoch == presence_epoch && !fact.here => Err(EndReason::Expired),
            _ => Ok(()),
        }
    }

    /// Ends a connection that got no seat; nobody else would note that its presence is over.
    fn turn_away(&mut self, connection: ConnectionId, device: DeviceId, presence_epoch: u64, reason: EndReason) {
        self.end(connection, reason);
        self.outputs.push_back(Output::Departed { device, presence_epoch, silent_for: Some(Duration::ZERO) });
    }

    fn take_seat(&mut self, device: DeviceId, claim: Option<Claim>) -> bool {
        let gathering = self.gathering_until.is_some();
        let reclaimed = claim.is_some_and(|claim| {
            claim.lease_epoch <= self.lease_epoch
                && self.tree.reclaim(device, claim.address, claim.join_number, gathering)
        });
        reclaimed || self.tree.join(device).is_some()
    }

    fn handle_signal(&mut self, now: Time, connection: ConnectionId, to: DeviceId, payload: Bytes) {
        let Some(from) = self.hear(now, connection) else { return };
        // Signals may be lost, and peers repeat them: who is not here just now gets none.
        let receiver = self.occupants.get(&to).and_then(|occupant| occupant.connection);
        if let Some(receiver) = receiver.filter(|_| payload.len() <= SIGNAL_BYTES_MAX) {
            self.send(receiver, convert::signal(from, to, payload));
        }
    }

    fn handle_detach(&mut self, now: Time, connection: ConnectionId, ending: Ending) {
        let Some(device) = self.connections.remove(&connection) else { return };
        let Some(occupant) = self.occupants.get_mut(&device) else { return };
        match ending {
            Ending::Closed => {
                occupant.heard_at = now;
                self.unseat(now, device);
            }
            Ending::Broken => occupant.connection = None,
        }
    }

    /// Notes a sign of life: whose it is, if the connection still counts.
    fn hear(&mut self, now: Time, connection: ConnectionId) -> Option<DeviceId> {
        let device = *self.connections.get(&connection)?;
        self.occupants.get_mut(&device)?.heard_at = now;
        Some(device)
    }

    fn evict(&mut self, now: Time, device: DeviceId, reason: EndReason) {
        if let Some(connection) = self.occupants.get(&device).and_then(|occupant| occupant.connection) {
            self.connections.remove(&connection);
            self.end(connection, reason);
        }
        self.unseat(now, device);
    }

    /// Takes a device out of the room and tells the others.
    fn unseat(&mut self, now: Time, device: DeviceId) {
        let Some(occupant) = self.occupants.remove(&device) else { return };
        let moved = self.tree.remove(device, self.gathering_until.is_some());
        let moved = moved.into_iter().filter_map(|device| self.roster_node(device)).collect();
        self.sequence += 1;
        self.send_all(Some(device), &convert::removed(self.lease_epoch, self.sequence, device, moved));
        let Occupant { presence_epoch, heard_at, .. } = occupant;
        let silent_for = Some(now.saturating_sub(heard_at));
        self.outputs.push_back(Output::Departed { device, presence_epoch, silent_for });
    }

    /// Says why, and closes.
    fn end(&mut self, connection: ConnectionId, reason: EndReason) {
        self.send(connection, convert::ended(reason, end_text(reason)));
        self.outputs.push_back(Output::Drop { connection });
    }

    fn send(&mut self, connection: ConnectionId, message: FromCluster) {
        self.outputs.push_back(Output::Send { connection, message });
    }

    fn send_all(&mut self, except: Option<DeviceId>, message: &FromCluster) {
        for (connection, device) in &self.connections {
            if Some(*device) != except {
                self.outputs.push_back(Output::Send { connection: *connection, message: message.clone() });
            }
        }
    }

    fn roster_node(&self, device: DeviceId) -> Option<rockpool_proto::meta::v1::RosterNode> {
        let presence_epoch = self.occupants.get(&device)?.presence_epoch;
        let standing = Standing { presence_epoch, seated: self.tree.nodes().get(&device)? };
        Some(convert::roster_node(device, &standing, self.lease_epoch))
    }

    fn roster(&self) -> rockpool_proto::meta::v1::Roster {
        let nodes = self.occupants.keys().filter_map(|device| self.roster_node(*device)).collect();
        convert::roster(self.pool, self.lease_epoch, self.sequence, nodes)
    }

    fn note_vacancy(&mut self, now: Time) {
        if !self.occupants.is_empty() {
            self.vacant_since = None;
        } else if self.vacant_since.is_none() {
            self.vacant_since = Some(now);
        }
    }
}

/// What people are told when the cluster ends their connection.
pub fn end_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Unspecified => {
            "This pool has as many devices present as it can take. Try again when somebody has left."
        }
        EndReason::Fenced => "This device connected again elsewhere, so this connection was ended.",
        EndReason::Revoked => "This device was revoked, so it can't be in any pool. Log in with a new device key.",
        EndReason::Left => "This account does not belong to the pool (any more). Ask for an invite to join.",
        EndReason::Moved => "This connection has to be made again, to any node.",
        EndReason::Expired => "The login session of this device ended. Refresh it or log in, then connect again.",
    }
}
