//! Links: what the negotiation wants, channels and their greetings, and sending on them.

use std::time::Duration;

use bytes::Bytes;
use rockpool_proto::DeviceId;
use rockpool_proto::limits::{FULL_MESH_DEVICES_MAX, PEER_FRAME_BYTES_MAX};
use rockpool_proto::peer::v1 as wire;

use super::Peer;
use super::channel::Channel;
use crate::event::{Event, Warning};
use crate::frame::{Frame, PROTOCOL_VERSION};
use crate::negotiation::{Action, ConnectionId, LinkCommand};
use crate::output::Output;
use crate::signal::{Purpose, Signal, SignalError};
use crate::time::{Now, Time};
use crate::transfer::bulk;

/// Bytes on a control channel beyond which it is taken for stuck.
const CONTROL_UNSENT_BYTES_MAX: u64 = 8 << 20;
/// Bytes on a control channel beyond which new entries wait for the next comparison.
pub(super) const CONTROL_BUSY_BYTES: u64 = 1 << 20;
/// Devices with which connections may be under way or stand, those of an older roster included.
const OPEN_DEVICES_MAX: usize = 2 * FULL_MESH_DEVICES_MAX;
/// Refusals of one device's doing that people are told of, in so much time.
const REFUSALS_MAX: u32 = 20;
const REFUSALS_EVERY: Duration = Duration::from_secs(60);
/// Devices of which that is counted.
const REFUSED_DEVICES_MAX: usize = 256;
/// Channels that opened before their connection was checked.
const EARLY_CHANNELS_MAX: usize = 64;

/// Both connections to a device.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) control: Option<Channel>,
    pub(super) bulk: Option<Channel>,
    /// Opened before the certificate was checked.
    early: Vec<ConnectionId>,
}

impl Link {
    fn slot(&mut self, purpose: Purpose) -> &mut Option<Channel> {
        match purpose {
            Purpose::Control => &mut self.control,
            Purpose::Bulk => &mut self.bulk,
        }
    }

    /// Messages can be exchanged.
    pub(super) fn is_up(&self) -> bool {
        self.control.as_ref().is_some_and(Channel::is_ready)
    }

    fn is_empty(&self) -> bool {
        self.control.is_none() && self.bulk.is_none() && self.early.is_empty()
    }

    /// Ranges can be exchanged.
    pub(super) fn carries_bulk(&self) -> bool {
        self.is_up() && self.bulk.as_ref().is_some_and(Channel::is_ready)
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let channels = self.control.iter().chain(&self.bulk);
        channels.filter_map(Channel::poll_timeout).min()
    }
}

impl Peer {
    /// Carries out what the negotiation wants, and greets where it is due.
    pub(super) fn settle_links(&mut self, now: Now) -> bool {
        let mut moved = false;
        while let Some(action) = self.negotiation.poll_action() {
            moved = true;
            match action {
                Action::Command(command) => {
                    if let LinkCommand::Close(connection) = &command
                        && let Some(link) = self.links.get_mut(&connection.device)
                    {
                        link.early.retain(|early| early != connection);
                    }
                    self.outputs.push_back(Output::Link(command));
                }
                Action::Signal { to, purpose, generation, round, kind } => {
                    let Some(from_epoch) = self.own_epochs.last().copied() else { continue };
                    let sequence = self.signal_sequences.entry(to).or_default();
                    *sequence += 1;
                    let sequence = *sequence;
                    self.send_signal(Signal {
                        pool: self.config.pool,
                        from: self.config.keys.device_id(),
                        to,
                        from_epoch,
                        to_epoch: self.epochs.get(&to).copied().unwrap_or(0),
                        sequence,
                        purpose,
                        generation,
                        round,
                        kind,
                    });
                }
                Action::Up(connection) => self.connection_up(now, connection),
                Action::Down(connection) => self.connection_down(now, connection),
                Action::Probe(connection) => match connection.purpose {
                    Purpose::Control => self.send_control(connection.device, Frame::Ping { nonce: 0 }),
                    Purpose::Bulk => self.send_bulk(connection.device, vec![bulk::encode_hello()]),
                },
                Action::Mismatch(device) => self.warn(Warning::FingerprintMismatch(device)),
            }
        }
        self.greet(now);
        self.links.retain(|_, link| !link.is_empty());
        moved
    }

    fn send_signal(&mut self, signal: Signal) {
        let over_link = signal.purpose == Purpose::Bulk && self.links.get(&signal.to).is_some_and(Link::is_up);
        if over_link {
            let signed = signal.seal_to_wire(&self.config.keys);
            self.send_control(signal.to, Frame::Signal(signed));
        } else if self.attached {
            let payload = signal.seal(&self.config.keys);
            self.outputs.push_back(Output::SendSignal { to: signal.to, payload });
        }
    }

    pub(super) fn handle_signal(&mut self, now: Now, from: DeviceId, payload: Bytes) {
        let opened = match self.directory.device(from) {
            Some(device) => Signal::open(payload, &device.key),
            None => return self.refuse(from, "a signal of a device that isn't a member's"),
        };
        self.take_signal(now, opened, from);
    }

    pub(super) fn handle_link_signal(&mut self, now: Now, from: DeviceId, signed: wire::SignedSignal) {
        let Some(device) = self.directory.device(from) else { return };
        let opened = Signal::open_wire(signed, &device.key);
        self.take_signal(now, opened, from);
    }

    fn take_signal(&mut self, now: Now, opened: Result<Signal, SignalError>, from: DeviceId) {
        let signal = match opened.and_then(|signal| self.check_signal(signal)) {
            Ok(signal) => signal,
            Err(error) => return self.refuse(from, error.to_string()),
        };
        let open = self.negotiation.open_devices();
        if self.left || self.is_revoked(from) || (open.len() >= OPEN_DEVICES_MAX && !open.contains(&from)) {
            return;
        }
        let known = self.epochs.entry(from).or_default();
        *known = (*known).max(signal.from_epoch);
        if self.roster.node(from).is_some() && !self.negotiation.wants(from) {
            // It said goodbye, and came back before the roster said so.
            self.roster_changed(now);
        }
        self.negotiation.handle_signal(now, signal);
    }

    /// For us, of this pool and presence, and new.
    fn check_signal(&mut self, signal: Signal) -> Result<Signal, SignalError> {
        let me = self.device_id();
        let for_us = signal.pool == self.config.pool
            && signal.to == me
            && signal.from != me
            && self.own_epochs.contains(&signal.to_epoch)
            && self.epochs.get(&signal.from).is_none_or(|known| signal.from_epoch >= *known);
        if !for_us {
            return Err(SignalError::Misdirected);
        }
        match self.windows.entry(signal.from).or_default().admit(signal.from_epoch, signal.sequence) {
            true => Ok(signal),
            false => Err(SignalError::Replayed),
        }
    }

    /// Says that something of this device was not used; not more often than anybody can read.
    pub(super) fn refuse(&mut self, device: DeviceId, reason: impl Into<String>) {
        if self.refusals.len() >= REFUSED_DEVICES_MAX && !self.refusals.contains_key(&device) {
            let now = self.now;
            self.refusals.retain(|_, (since, _)| since.after(REFUSALS_EVERY) > now);
            if self.refusals.len() >= REFUSED_DEVICES_MAX {
                return; // Names that somebody makes up.
            }
        }
        let (since, count) = self.refusals.entry(device).or_insert((self.now, 0));
        if since.after(REFUSALS_EVERY) <= self.now {
            (*since, *count) = (self.now, 0);
        }
        *count += 1;
        if *count > REFUSALS_MAX {
            return;
        }
        self.warn(Warning::Refused { device, reason: reason.into() });
    }

    fn connection_up(&mut self, now: Now, connection: ConnectionId) {
        let link = self.links.entry(connection.device).or_default();
        let mut channel = Channel::new(connection, now.time);
        if link.early.contains(&connection) {
            channel.handle_open(now.time);
        }
        link.early.retain(|early| early.purpose != connection.purpose);
        *link.slot(connection.purpose) = Some(channel);
        if connection.purpose == Purpose::Control {
            self.files.expect_seeding(connection.device);
        }
    }

    fn connection_down(&mut self, now: Now, connection: ConnectionId) {
        let device = connection.device;
        let Some(link) = self.links.get_mut(&device) else { return };
        let was_up = link.is_up();
        let slot = link.slot(connection.purpose);
        if slot.as_ref().is_none_or(|channel| channel.connection != connection) {
            return;
        }
        *slot = None;
        self.presence_changed = true;
        if was_up && connection.purpose == Purpose::Control {
            self.exchange.link_down(now.time, device, &self.log);
            self.event(Event::LinkDown(device));
        }
        if connection.purpose == Purpose::Bulk {
            self.files.seeder.drop_device(device);
        }
        self.forget_absent();
        self.refresh_seeders(now.time);
    }

    pub(super) fn handle_channel_open(&mut self, now: Now, connection: ConnectionId) {
        if !self.negotiation.is_current(connection) {
            return;
        }
        let link = self.links.entry(connection.device).or_default();
        match link.slot(connection.purpose) {
            Some(channel) if channel.connection == connection => return channel.handle_open(now.time),
            _ => {}
        }
        if link.early.len() < EARLY_CHANNELS_MAX {
            link.early.push(connection);
        }
    }

    /// The channel of this connection, if the connection is the current one and was checked.
    fn channel(&mut self, connection: ConnectionId) -> Option<&mut Channel> {
        let slot = self.links.get_mut(&connection.device)?.slot(connection.purpose);
        slot.as_mut().filter(|channel| channel.connection == connection)
    }

    fn greet(&mut self, now: Now) {
        let mut due = Vec::new();
        for link in self.links.values_mut() {
            let channels = link.control.iter_mut().chain(&mut link.bulk);
            due.extend(channels.filter_map(|channel| channel.take_greeting(now.time).then_some(channel.connection)));
        }
        for connection in due {
            let greeting = match connection.purpose {
                Purpose::Bulk => bulk::encode_hello(),
                Purpose::Control => Frame::Hello {
                    version: PROTOCOL_VERSION,
                    device: self.config.keys.device_id(),
                    pool: self.config.pool,
                    frame_bytes_max: PEER_FRAME_BYTES_MAX as u32,
                    wall_ms: now.wall_ms,
                }
                .encode(),
            };
            self.send(connection, vec![greeting]);
        }
    }

    /// Their greeting has come: answer it.
    pub(super) fn greeted(&mut self, now: Now, connection: ConnectionId) {
        let answer = match connection.purpose {
            Purpose::Bulk => bulk::encode_hello_ack(),
            Purpose::Control => Frame::HelloAck { version: PROTOCOL_VERSION }.encode(),
        };
        self.send(connection, vec![answer]);
        if self.channel(connection).is_some_and(Channel::handle_greeting) {
            self.channel_ready(now, connection);
        }
    }

    /// Our greeting was answered.
    pub(super) fn answered(&mut self, now: Now, connection: ConnectionId) {
        if self.channel(connection).is_some_and(Channel::handle_answer) {
            self.channel_ready(now, connection);
        }
    }

    fn channel_ready(&mut self, now: Now, connection: ConnectionId) {
        let device = connection.device;
        if connection.purpose == Purpose::Control {
            self.presence_changed = true;
            self.event(Event::LinkUp(device));
            self.negotiation.set_ready(now, device);
            self.exchange.link_up(now.time, device, &self.log);
            self.send_seeding(device);
        }
        self.refresh_seeders(now.time);
    }

    /// Sends on a channel, ready or not.
    pub(super) fn send(&mut self, connection: ConnectionId, frames: Vec<Bytes>) {
        let Some(channel) = self.channel(connection) else { return };
        channel.unsent_bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        self.outputs.push_back(Output::Send(connection, frames));
    }

    /// Sends a frame to a device whose control channel is ready.
    pub(super) fn send_control(&mut self, device: DeviceId, frame: Frame) {
        let channel = self.links.get(&device).and_then(|link| link.control.as_ref());
        if let Some(channel) = channel.filter(|channel| channel.is_ready()) {
            let connection = channel.connection;
            self.send(connection, vec![frame.encode()]);
        }
    }

    /// Sends bulk frames; dropped if the channel is gone, as the requester asks again then.
    pub(super) fn send_bulk(&mut self, device: DeviceId, frames: Vec<Bytes>) {
        let channel = self.links.get(&device).and_then(|link| link.bulk.as_ref());
        if let Some(connection) = channel.filter(|channel| channel.is_ready()).map(|channel| channel.connection) {
            self.send(connection, frames);
        }
    }

    pub(super) fn handle_sent(&mut self, connection: ConnectionId, bytes: u64) {
        let Some(channel) = self.channel(connection) else { return };
        channel.unsent_bytes = channel.unsent_bytes.saturating_sub(bytes);
        let caught_up = channel.unsent_bytes < CONTROL_BUSY_BYTES;
        match connection.purpose {
            Purpose::Bulk => self.files.seeder.handle_sent(connection.device, bytes),
            Purpose::Control if caught_up && std::mem::take(&mut channel.owes_entries) => {
                self.exchange.compare(connection.device, &self.log);
            }
            Purpose::Control => {}
        }
    }

    /// Gives up channels on which nobody answers.
    pub(super) fn drop_late_channels(&mut self, now: Now) {
        let channels = self.links.values().flat_map(|link| link.control.iter().chain(&link.bulk));
        let late = channels.filter(|channel| channel.is_late(now.time)).map(|channel| channel.connection);
        for connection in late.collect::<Vec<_>>() {
            self.negotiation.handle_closed(now, connection);
        }
    }

    /// A message came on a channel.
    pub(super) fn handle_message(&mut self, now: Now, connection: ConnectionId, message: Bytes) {
        let Some(channel) = self.channel(connection) else { return };
        let (greeted, stuck) = (channel.is_greeted(), channel.unsent_bytes > CONTROL_UNSENT_BYTES_MAX);
        self.negotiation.handle_alive(connection);
        let result = match connection.purpose {
            // It goes on asking and doesn't read the answers.
            Purpose::Control if stuck => Err("it doesn't read what it asked for".to_owned()),
            Purpose::Control => self.handle_control(now, connection, message, greeted),
            Purpose::Bulk => self.handle_bulk(now, connection, message, greeted),
        };
        if let Err(reason) = result {
            self.refuse(connection.device, reason);
            self.negotiation.handle_closed(now, connection);
        }
    }
}
