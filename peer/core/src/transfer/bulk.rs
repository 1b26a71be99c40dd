//! The byte layout of bulk frames. Not protobuf: payloads are slices of the message they came in.
//!
//! ```text
//!   0      1      2             4                    8                    12                   16
//!   | kind | zero | count (u16) | request (u32)      | file (u32)         | first group (u32)  | payload ...
//! ```
//!
//! Numbers are big-endian. What the fields mean in each kind, `-` being zero:
//!
//! | kind | count | request | file | first group | payload |
//! |---|---|---|---|---|---|
//! | 1 HELLO | protocol version | - | - | - | none; the first message of either side, repeated until answered |
//! | 2 HELLO_ACK | protocol version | - | - | - | none; nothing else is sent before it has come |
//! | 3 PROOF | groups proven | request | position in the manifest | first group | hashes, 32 bytes each |
//! | 4 DATA | groups, 1 to 3 | request | position | first group | their bytes |
//! | 5 SMALL | files | request | - | - | for each: position (u32), length (u32), bytes |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rockpool_proto::limits;

use super::GroupRange;
use super::tree::{GROUP_BYTES, GroupHash, HASH_BYTES};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
/// Whole groups that fit into one frame.
pub const DATA_GROUPS_MAX: u32 = ((limits::PEER_FRAME_BYTES_MAX - HEADER_BYTES) / GROUP_BYTES) as u32;
/// Bytes before each small file.
const SMALL_HEADER_BYTES: usize = 8;
/// Of this protocol.
pub const BULK_VERSION: u16 = 1;

/// What a bulk frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table above.
pub enum BulkKind {
    Hello = 1,
    HelloAck = 2,
    Proof = 3,
    Data = 4,
    Small = 5,
}

/// The first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table above.
pub struct BulkHeader {
    pub kind: BulkKind,
    pub count: u16,
    pub request: u32,
    pub file: u32,
    pub first: u64,
}

impl BulkHeader {
    pub(super) fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_u8(self.kind as u8);
        buffer.put_u8(0);
        buffer.put_u16(self.count);
        buffer.put_u32(self.request);
        buffer.put_u32(self.file);
        buffer.put_u32(u32::try_from(self.first).expect("manifests bound the size of files"));
    }
}

/// A bulk frame, taken apart. Its slices share the message's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The table above.
pub enum BulkFrame {
    Hello { version: u16 },
    HelloAck { version: u16 },
    Proof { request: u32, file: u32, range: GroupRange, hashes: Bytes },
    Data { request: u32, file: u32, range: GroupRange, data: Bytes },
    Small { request: u32, files: Vec<(u32, Bytes)> },
}

/// Bytes that are not a bulk frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed bulk frame: {0}")]
pub struct BadBulkFrame(&'static str);

impl BulkFrame {
    /// Takes a message apart. Never panics, whatever it holds.
    pub fn decode(mut message: Bytes) -> Result<BulkFrame, BadBulkFrame> {
        if message.len() > limits::PEER_FRAME_BYTES_MAX {
            return Err(BadBulkFrame("too long"));
        }
        if message.len() < HEADER_BYTES {
            return Err(BadBulkFrame("too short"));
        }
        let (kind, zero, count) = (message.get_u8(), message.get_u8(), message.get_u16());
        let (request, file, first) = (message.get_u32(), message.get_u32(), u64::from(message.get_u32()));
        if zero != 0 {
            return Err(BadBulkFrame("a reserved byte is used"));
        }
        let range = GroupRange { first, count: u32::from(count) };
        Ok(match kind {
            1 => BulkFrame::Hello { version: count },
            2 => BulkFrame::HelloAck { version: count },
            3 | 4 if count == 0 => return Err(BadBulkFrame("no groups")),
            3 => BulkFrame::Proof { request, file, range, hashes: message },
            4 => BulkFrame::Data { request, file, range, data: message },
            5 => BulkFrame::Small { request, files: small_files(count, message)? },
            _ => return Err(BadBulkFrame("an unknown kind")),
        })
    }
}

fn small_files(count: u16, mut payload: Bytes) -> Result<Vec<(u32, Bytes)>, BadBulkFrame> {
    // Each takes eight bytes at least, so the count can't make us keep more room than the message's length.
    if usize::from(count) * SMALL_HEADER_BYTES > payload.len() {
        return Err(BadBulkFrame("more files than fit"));
    }
    let mut files = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        if payload.remaining() < SMALL_HEADER_BYTES {
            return Err(BadBulkFrame("a small file is cut off"));
        }
        let (file, length) = (payload.get_u32(), payload.get_u32() as usize);
        if length > payload.remaining() {
            return Err(BadBulkFrame("a small file is cut off"));
        }
        files.push((file, payload.split_to(length)));
    }
    if payload.has_remaining() { Err(BadBulkFrame("bytes behind the last file")) } else { Ok(files) }
}

fn bare(kind: BulkKind, count: u16, request: u32) -> Bytes {
    let mut buffer = BytesMut::with_capacity(HEADER_BYTES);
    BulkHeader { kind, count, request, file: 0, first: 0 }.encode(&mut buffer);
    buffer.freeze()
}

/// A HELLO frame.
pub fn encode_hello() -> Bytes {
    bare(BulkKind::Hello, BULK_VERSION, 0)
}

/// A HELLO_ACK frame.
pub fn encode_hello_ack() -> Bytes {
    bare(BulkKind::HelloAck, BULK_VERSION, 0)
}

/// A PROOF frame.
pub fn encode_proof(request: u32, file: u32, range: GroupRange, proof: &[GroupHash]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(HEADER_BYTES + proof.len() * HASH_BYTES);
    let count = u16::try_from(range.count).expect("a range lies within a block");
    BulkHeader { kind: BulkKind::Proof, count, request, file, first: range.first }.encode(&mut buffer);
    proof.iter().for_each(|hash| buffer.extend_from_slice(hash));
    buffer.freeze()
}

/// Gathers small files into frames.
#[derive(Debug)]
pub(super) struct SmallBatch {
    request: u32,
    count: u16,
    buffer: BytesMut,
}

impl SmallBatch {
    pub(super) fn new(request: u32) -> SmallBatch {
        SmallBatch { request, count: 0, buffer: BytesMut::new() }
    }

    /// Room for a file's bytes, to be filled. Frames that are full go to `frames`.
    pub(super) fn room(&mut self, file: u32, length: usize, frames: &mut Vec<Bytes>) -> &mut [u8] {
        debug_assert!(length <= GROUP_BYTES);
        if self.buffer.len() + SMALL_HEADER_BYTES + length > limits::PEER_FRAME_BYTES_MAX {
            self.flush(frames);
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(limits::PEER_FRAME_BYTES_MAX.min(4 * GROUP_BYTES));
            self.buffer.put_bytes(0, HEADER_BYTES);
        }
        self.count += 1;
        self.buffer.put_u32(file);
        self.buffer.put_u32(u32::try_from(length).expect("at most a group"));
        let start = self.buffer.len();
        self.buffer.put_bytes(0, length);
        &mut self.buffer[start..]
    }

    pub(super) fn flush(&mut self, frames: &mut Vec<Bytes>) {
        if self.count == 0 {
            return;
        }
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        BulkHeader { kind: BulkKind::Small, count: self.count, request: self.request, file: 0, first: 0 }
            .encode(&mut header);
        self.buffer[..HEADER_BYTES].copy_from_slice(&header);
        self.count = 0;
        frames.push(std::mem::take(&mut self.buffer).freeze());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let range = GroupRange { first: 7, count: 2 };
        let proof = encode_proof(9, 4, range, &[[1; 32], [2; 32]]);
        let expected = [[1u8; 32], [2; 32]].concat();
        let decoded = BulkFrame::Proof { request: 9, file: 4, range, hashes: expected.into() };
        assert_eq!(BulkFrame::decode(proof), Ok(decoded));
        assert_eq!(BulkFrame::decode(encode_hello()), Ok(BulkFrame::Hello { version: BULK_VERSION }));
        assert_eq!(BulkFrame::decode(encode_hello_ack()), Ok(BulkFrame::HelloAck { version: BULK_VERSION }));
    }

    #[test]
    fn small_files_share_frames_that_are_never_too_long() {
        let mut frames = Vec::new();
        let mut batch = SmallBatch::new(5);
        let files: Vec<(u32, Vec<u8>)> =
            (0..500).map(|n| (n, vec![n as u8; (n as usize * 97) % GROUP_BYTES])).collect();
        for (file, content) in &files {
            batch.room(*file, content.len(), &mut frames).copy_from_slice(content);
        }
        batch.flush(&mut frames);
        assert!(frames.iter().all(|frame| frame.len() <= limits::PEER_FRAME_BYTES_MAX));
        let mut received = Vec::new();
        for frame in frames {
            let Ok(BulkFrame::Small { request: 5, files }) = BulkFrame::decode(frame) else { panic!("a small frame") };
            received.extend(files.into_iter().map(|(file, content)| (file, content.to_vec())));
        }
        assert_eq!(received, files);
    }

    /// Hole of others: a negative or huge length in a frame (Syncthing CVE-2021-21404, croc#1217).
    #[test]
    fn lengths_that_lie_are_refused() {
        let small = |count: u16, length: u32, payload: &[u8]| {
            let mut buffer = BytesMut::new();
            BulkHeader { kind: BulkKind::Small, count, request: 0, file: 0, first: 0 }.encode(&mut buffer);
            buffer.put_u32(0);
            buffer.put_u32(length);
            buffer.extend_from_slice(payload);
            BulkFrame::decode(buffer.freeze())
        };
        assert!(small(1, 3, b"abc").is_ok());
        for (count, length, payload) in [
            (1, u32::MAX, &b"abc"[..]),
            (1, 4, b"abc"),
            (u16::MAX, 0, b""),
            (1, 2, b"abc"),
            (0, 0, b""),
            (2, 3, b"abc"),
        ] {
            assert!(small(count, length, payload).is_err(), "{count} {length}");
        }
        assert!(BulkFrame::decode(Bytes::from(vec![0; limits::PEER_FRAME_BYTES_MAX + 1])).is_err());
    }

    proptest! {
        #[test]
        fn no_message_panics(kind in 0u8..8, mut message: Vec<u8>) {
            let _ = BulkFrame::decode(Bytes::from(message.clone()));
            if let Some(first) = message.first_mut() {
                *first = kind;
            }
            if let Some(second) = message.get_mut(1) {
                *second = 0;
            }
            let _ = BulkFrame::decode(Bytes::from(message));
        }
    }
}
