//! Requests to a seeder, and the frames that answer them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::manifest::Manifest;
use crate::time::Time;
use crate::transfer::tree::{self, GroupHash, check_proof, range_bytes};
use crate::transfer::{GroupRange, StorePiece};

const WINDOW_BYTES_START: u64 = 4 << 20;
const REST_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct SeederState {
    pub(super) requests: BTreeMap<u32, Request>,
    pub(super) in_flight_bytes: u64,
    pub(super) window_bytes: u64,
    pub(super) progress_at: Time,
    /// Fruitless attempts in a row.
    pub(super) failures: u32,
    pub(super) rest_until: Option<Time>,
    pub(super) blamed: bool,
    /// Its link stands.
    pub(super) reachable: bool,
}

impl SeederState {
    pub(super) fn new(now: Time) -> SeederState {
        SeederState {
            requests: BTreeMap::new(),
            in_flight_bytes: 0,
            window_bytes: WINDOW_BYTES_START,
            progress_at: now,
            failures: 0,
            rest_until: None,
            blamed: false,
            reachable: false,
        }
    }

    pub(super) fn usable(&self, now: Time) -> bool {
        self.reachable && !self.blamed && self.rest_until.is_none_or(|until| until <= now)
    }

    pub(super) fn rest(&mut self, now: Time) {
        let rest = Duration::from_secs(1 << self.failures.min(5)).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rest_until = Some(now.after(rest));
    }
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: GroupRange,
    /// Known once the proof has come.
    pub(super) hashes: Option<Vec<GroupHash>>,
    pub(super) next: u64,
    pub(super) data: Vec<Bytes>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) issued: Time,
    pub(super) bytes: u64,
    /// By file and first group. Goes empty.
    pub(super) pieces: BTreeMap<(u32, u64), Piece>,
}

impl Request {
    pub(super) fn new(issued: Time, bytes: u64, pieces: &[(u32, GroupRange)]) -> Request {
        let piece = |range: GroupRange| Piece { range, hashes: None, next: range.first, data: Vec::new() };
        let pieces = pieces.iter().map(|(file, range)| ((*file, range.first), piece(*range))).collect();
        Request { issued, bytes, pieces }
    }
}

/// A proof of a piece that was asked for. `None`: to blame.
pub(super) fn take_proof(
    manifest: &Manifest,
    request: &mut Request,
    file: u32,
    range: GroupRange,
    hashes: &[u8],
) -> Option<()> {
    let piece = request.pieces.get_mut(&(file, range.first))?;
    if piece.range != range || piece.hashes.is_some() {
        return None;
    }
    let (size_bytes, root) = manifest.file(file)?;
    piece.hashes = Some(check_proof(root, size_bytes, range, hashes)?);
    Some(())
}

/// The next groups of a proven piece; the whole piece once it is complete. `None`: to blame.
pub(super) fn take_data(
    manifest: &Manifest,
    request: &mut Request,
    file: u32,
    range: GroupRange,
    data: Bytes,
) -> Option<Vec<StorePiece>> {
    let (size_bytes, _) = manifest.file(file)?;
    let (key, piece) = request.pieces.range_mut(..=(file, range.first)).next_back()?;
    let key = *key;
    let follows = key.0 == file && piece.next == range.first && range.end() <= piece.range.end();
    if !follows || piece.hashes.is_none() || data.len() as u64 != range_bytes(range, size_bytes) {
        return None;
    }
    piece.data.push(data);
    piece.next = range.end();
    if piece.next < piece.range.end() {
        return Some(Vec::new());
    }
    let piece = request.pieces.remove(&key)?;
    Some(vec![StorePiece { file, range: piece.range, hashes: piece.hashes?, data: piece.data }])
}

/// Whole files of one group. `None`: to blame, and nothing was taken.
pub(super) fn take_small(
    manifest: &Manifest,
    request: &mut Request,
    files: Vec<(u32, Bytes)>,
) -> Option<Vec<StorePiece>> {
    let mut done: Vec<StorePiece> = Vec::with_capacity(files.len());
    for (file, data) in files {
        let expected = manifest
            .file(file)
            .filter(|(size_bytes, _)| tree::group_count(*size_bytes) == 1 && data.len() as u64 == *size_bytes);
        let piece = expected.and_then(|_| request.pieces.remove(&(file, 0)));
        let (Some((_, root)), Some(piece)) = (expected, piece) else {
            // What was taken from this frame is asked for again, of somebody else.
            let again: Vec<_> = done.iter().map(|piece| (piece.file, piece.range)).collect();
            request.pieces.extend(Request::new(request.issued, 0, &again).pieces);
            return None;
        };
        done.push(StorePiece { file, range: piece.range, hashes: vec![root.0], data: vec![data] });
    }
    Some(done)
}
