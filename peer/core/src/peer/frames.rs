//! Control frames: what each makes happen.

use bytes::Bytes;
use rockpool_proto::DeviceId;
use rockpool_proto::peer::v1 as wire;

use super::Peer;
use crate::entry::{Body, EntryId, StoredEntry};
use crate::event::{Event, Warning};
use crate::frame::{Frame, FrameError, PROTOCOL_VERSION};
use crate::log::Inserted;
use crate::negotiation::ConnectionId;
use crate::time::Now;

/// A difference between clocks that somebody should know of.
const CLOCK_SKEW_MS: i64 = 60_000;

impl Peer {
    /// `Err`: the other side doesn't keep to the protocol, and the connection is closed.
    pub(super) fn handle_control(
        &mut self,
        now: Now,
        connection: ConnectionId,
        message: Bytes,
        greeted: bool,
    ) -> Result<(), String> {
        let device = connection.device;
        let frame = match Frame::decode(message) {
            Ok(frame) => frame,
            Err(FrameError::Unknown) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        if !greeted && !matches!(frame, Frame::Hello { .. } | Frame::HelloAck { .. }) {
            return Err("it spoke before it greeted".into());
        }
        match frame {
            Frame::Hello { version, device: named, pool, wall_ms, .. } => {
                if named != device || pool != self.config.pool {
                    return Err("it greeted as another device, or for another pool".into());
                }
                if version < PROTOCOL_VERSION {
                    return Err(format!("it speaks version {version} of the protocol"));
                }
                let ahead_ms = wall_ms.cast_signed().saturating_sub(now.wall_ms.cast_signed());
                if !greeted && ahead_ms.saturating_abs() > CLOCK_SKEW_MS {
                    self.warn(Warning::ClockSkew { device, ahead_ms });
                }
                self.greeted(now, connection);
            }
            Frame::HelloAck { .. } => self.answered(now, connection),
            Frame::Have(heads) => self.exchange.handle_have(now.time, device, heads, &self.log, &self.directory),
            Frame::EntriesRequest { device: author, first_counter, last_counter } => {
                self.exchange.handle_request(device, author, first_counter, last_counter, &self.log);
            }
            Frame::Entries { entries, answers } => self.handle_entries(now, device, answers, entries),
            Frame::Seeding { roots, stopped } => self.handle_seeding(now.time, device, &roots, &stopped),
            Frame::ManifestRequest { root, offset } => self.serve_manifest(device, root, offset),
            Frame::ManifestPage { root, offset, data, .. } => {
                self.files.handle_manifest_page(now.time, device, root, offset, &data);
            }
            Frame::RangesRequest { request, root, pieces } => self.serve_ranges(device, request, root, pieces),
            Frame::RangesRefused { request, reason } => {
                self.files.handle_refused(now.time, device, request, reason);
            }
            Frame::RangesCancel { request } => self.files.seeder.handle_cancel(device, request),
            Frame::Ping { nonce } => self.send_control(device, Frame::Pong { nonce }),
            Frame::Pong { .. } => {}
            Frame::Signal(signed) => self.handle_link_signal(now, device, signed),
            Frame::Goodbye => self.negotiation.drop_device(device),
        }
        Ok(())
    }

    fn handle_entries(&mut self, now: Now, from: DeviceId, answers: Option<DeviceId>, entries: Vec<wire::Entry>) {
        let mut entered = Vec::new();
        for entry in entries {
            let entry = match StoredEntry::from_wire(self.config.pool, entry) {
                Ok(entry) => entry,
                Err(error) => {
                    self.refuse(from, error.to_string());
                    break;
                }
            };
            let id = entry.id;
            match self.log.insert(&self.directory, entry, now.wall_ms) {
                Inserted::Entries(entries) => entered.extend(entries),
                Inserted::Early => self.exchange.handle_early(from, id),
                Inserted::Known | Inserted::UnknownAuthor | Inserted::Revoked => {}
                Inserted::Equivocation(id) => self.handle_fork(from, id),
                Inserted::Refused(reason) => {
                    self.refuse(from, reason);
                    break;
                }
            }
        }
        for entry in &entered {
            self.writing.keep(entry.clone());
            self.tell_entry(entry);
        }
        self.note_recovered(&entered);
        self.exchange.handle_entries(now.time, from, answers, &entered, &self.log);
        if entered
            .iter()
            .any(|entry| matches!(entry.body, Body::FileOffer(_) | Body::FileWithdraw { .. } | Body::Retract(_)))
        {
            self.refresh_seeders(now.time);
        }
    }

    /// A device has signed two entries with one counter. If it is the one that sent the second, it should know.
    fn handle_fork(&mut self, from: DeviceId, id: EntryId) {
        if id.device == self.device_id() {
            return self.stop_writing(id);
        }
        if self.forks_told.insert(id.device) {
            self.warn(Warning::Equivocation(id));
        }
        if let Some(ours) = self.log.entry(id).filter(|_| id.device == from) {
            let frame = Frame::Entries { entries: vec![ours.to_wire()], answers: None };
            self.send_control(from, frame);
        }
    }

    /// Tells people of an entry that is new in the log.
    pub(super) fn tell_entry(&mut self, entry: &std::sync::Arc<StoredEntry>) {
        let id = entry.id;
        match &entry.body {
            Body::Retract(target) if self.directory.same_account(target.device, id.device) => {
                self.event(Event::Retracted(*target));
            }
            Body::FileWithdraw { counter } => {
                self.event(Event::OfferWithdrawn(crate::EntryId { counter: *counter, ..id }));
            }
            Body::Retract(_) | Body::Unknown => {}
            // Taken back before it came: never shown.
            _ if self.log.is_retracted(&self.directory, id) => {}
            _ => self.event(Event::Entry(entry.clone())),
        }
    }
}
