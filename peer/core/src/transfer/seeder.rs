//! Seeding: whom to serve next.
//!
//! ```text
//!   requests of ann  [r1: 4 blocks] [r2: 300 small files]     one part of one request is read at a time,
//!   requests of bob  [r9: 1 block ]                           devices in turn
//! ```
//!
//! What is read for a device and not yet taken by its channel is bounded, so a slow link holds little memory and delays
//! nobody else. A device that asks for too much at once is told to ask later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rockpool_proto::DeviceId;

use super::download::Numbers;
use super::tree::{is_block_range, range_bytes};
use super::{GroupRange, ReadFailure, ReadPiece, ReadRange, Root, Ticket};
use crate::frame::RefusedReason;
use crate::manifest::Manifest;

/// Bytes read for one device and not yet taken by its channel.
const UNSENT_BYTES_MAX: u64 = 8 << 20;
/// Reads under way at once, of all devices.
const READS_MAX: usize = 8;
/// Bytes in one read, about.
const READ_BYTES: u64 = 1 << 20;
/// Files in one read.
const READ_PIECES_MAX: usize = 256;
/// Requests of one device that may wait.
const REQUESTS_PER_DEVICE_MAX: usize = 64;

#[derive(Debug)]
struct Waiting {
    request: u32,
    root: Root,
    pieces: VecDeque<ReadPiece>,
}

#[derive(Debug, Default)]
struct Line {
    requests: VecDeque<Waiting>,
    unsent_bytes: u64,
}

#[derive(Debug)]
struct Reading {
    device: DeviceId,
    request: u32,
    root: Root,
    bytes: u64,
    cancelled: bool,
}

/// All that this device serves in the pool.
#[derive(Debug, Default)]
pub(crate) struct Seeder {
    manifests: BTreeMap<Root, Arc<Manifest>>,
    lines: BTreeMap<DeviceId, Line>,
    /// The device served last.
    turn: Option<DeviceId>,
    reads: BTreeMap<Ticket, Reading>,
}

/// What comes of a read.
#[derive(Debug)]
pub(crate) enum Served {
    Frames(DeviceId, Vec<Bytes>),
    Failed { device: DeviceId, request: u32, root: Root, failure: ReadFailure },
    Nothing,
}

impl Seeder {
    pub(crate) fn add(&mut self, manifest: Arc<Manifest>) {
        self.manifests.insert(manifest.root(), manifest);
    }

    /// Stops serving it; gives the requests that will not be answered.
    pub(crate) fn remove(&mut self, root: Root) -> Vec<(DeviceId, u32)> {
        self.manifests.remove(&root);
        let mut refused = Vec::new();
        for (device, line) in &mut self.lines {
            line.requests.retain(|waiting| {
                if waiting.root == root {
                    refused.push((*device, waiting.request));
                }
                waiting.root != root
            });
        }
        self.reads.values_mut().filter(|reading| reading.root == root).for_each(|reading| reading.cancelled = true);
        refused
    }

    pub(crate) fn manifest(&self, root: Root) -> Option<&Arc<Manifest>> {
        self.manifests.get(&root)
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = Root> {
        self.manifests.keys().copied()
    }

    pub(crate) fn handle_request(
        &mut self,
        device: DeviceId,
        request: u32,
        root: Root,
        pieces: Vec<(u32, GroupRange)>,
    ) -> Result<(), RefusedReason> {
        let manifest = self.manifests.get(&root).ok_or(RefusedReason::NotSeeded)?;
        let piece = |(file, range): (u32, GroupRange)| {
            let (size_bytes, root) = manifest.file(file).ok_or(RefusedReason::Invalid)?;
            match size_bytes > 0 && is_block_range(range, size_bytes) {
                true => Ok(ReadPiece { file, range, size_bytes, root }),
                false => Err(RefusedReason::Invalid),
            }
        };
        let pieces = pieces.into_iter().map(piece).collect::<Result<VecDeque<_>, _>>()?;
        let line = self.lines.entry(device).or_default();
        if line.requests.len() >= REQUESTS_PER_DEVICE_MAX {
            return Err(RefusedReason::Busy);
        }
        line.requests.push_back(Waiting { request, root, pieces });
        Ok(())
    }

    /// The requester has changed its mind.
    pub(crate) fn handle_cancel(&mut self, device: DeviceId, request: u32) {
        if let Some(line) = self.lines.get_mut(&device) {
            line.requests.retain(|waiting| waiting.request != request);
        }
        let reads = self.reads.values_mut().filter(|reading| reading.device == device && reading.request == request);
        reads.for_each(|reading| reading.cancelled = true);
    }

    /// Its bulk connection is gone, with all that was on it.
    pub(crate) fn drop_device(&mut self, device: DeviceId) {
        self.lines.remove(&device);
        for reading in self.reads.values_mut().filter(|reading| reading.device == device) {
            // Its bytes were counted in the line that is gone.
            (reading.cancelled, reading.bytes) = (true, 0);
        }
    }

    /// The device's channel has taken so many bytes.
    pub(crate) fn handle_sent(&mut self, device: DeviceId, bytes: u64) {
        if let Some(line) = self.lines.get_mut(&device) {
            line.unsent_bytes = line.unsent_bytes.saturating_sub(bytes);
        }
    }

    /// The next read to start, if there is room for one. A device whose bulk channel does not stand (`carries_bulk`) waits:
    /// what was read for it could not be sent, and would count as unsent for good.
    pub(crate) fn poll_read(
        &mut self,
        numbers: &mut Numbers,
        carries_bulk: impl Fn(DeviceId) -> bool,
    ) -> Option<(Ticket, ReadRange)> {
        if self.reads.len() >= READS_MAX {
            return None;
        }
        let ready = |(device, line): &(&DeviceId, &Line)| {
            !line.requests.is_empty() && line.unsent_bytes < UNSENT_BYTES_MAX && carries_bulk(**device)
        };
        let after = self.lines.iter().filter(|(device, _)| Some(**device) > self.turn);
        let device = *after.chain(self.lines.iter()).find(ready)?.0;
        self.turn = Some(device);
        let line = self.lines.get_mut(&device)?;
        let waiting = line.requests.front_mut()?;
        let (request, root) = (waiting.request, waiting.root);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < READ_BYTES && pieces.len() < READ_PIECES_MAX {
            let Some(piece) = waiting.pieces.pop_front() else { break };
            bytes += range_bytes(piece.range, piece.size_bytes);
            pieces.push(piece);
        }
        if waiting.pieces.is_empty() {
            line.requests.pop_front();
        }
        line.unsent_bytes += bytes;
        let ticket = numbers.ticket();
        self.reads.insert(ticket, Reading { device, request, root, bytes, cancelled: false });
        Some((ticket, ReadRange { manifest_root: root, request, pieces }))
    }

    pub(crate) fn handle_read(&mut self, ticket: Ticket, result: Result<Vec<Bytes>, ReadFailure>) -> Served {
        let Some(reading) = self.reads.remove(&ticket) else { return Served::Nothing };
        let Some(line) = self.lines.get_mut(&reading.device) else { return Served::Nothing };
        line.unsent_bytes = line.unsent_bytes.saturating_sub(reading.bytes);
        if reading.cancelled {
            return Served::Nothing;
        }
        match result {
            Ok(frames) => {
                line.unsent_bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
                Served::Frames(reading.device, frames)
            }
            Err(failure) => {
                line.requests.retain(|waiting| waiting.request != reading.request);
                Served::Failed { device: reading.device, request: reading.request, root: reading.root, failure }
            }
        }
    }
}
