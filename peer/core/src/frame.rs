//! Control frames: what two devices say on the control channel, decoded with every bound checked.

use bytes::Bytes;
use prost::Message as _;
use rockpool_proto::peer::v1 as wire;
use rockpool_proto::peer::v1::peer_frame::Kind;
use rockpool_proto::{DeviceId, PoolId, limits};

use crate::entry::StoredEntry;
use crate::transfer::{GroupRange, Root};

/// Of control frames.
pub(crate) const PROTOCOL_VERSION: u32 = 1;
/// Heads in one Have frame.
pub(crate) const HEADS_PER_FRAME_MAX: usize = 1_500;
/// Bytes of entries in one Entries frame.
pub(crate) const ENTRIES_FRAME_BYTES_MAX: usize = limits::PEER_FRAME_BYTES_MAX - 4 * 1024;
/// Bytes of a manifest in one page.
pub(crate) const MANIFEST_PAGE_BYTES_MAX: usize = 48 * 1024;
/// Pieces in one ranges request.
pub(crate) const PIECES_PER_REQUEST_MAX: usize = 1_024;
/// Roots in one Seeding frame.
pub(crate) const ROOTS_PER_FRAME_MAX: usize = 1_500;

/// A control frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Hello { version: u32, device: DeviceId, pool: PoolId, frame_bytes_max: u32, wall_ms: u64 },
    HelloAck { version: u32 },
    Have(Vec<(DeviceId, u64)>),
    EntriesRequest { device: DeviceId, first_counter: u64, last_counter: u64 },
    Entries { entries: Vec<wire::Entry>, answers: Option<DeviceId> },
    Seeding { roots: Vec<Root>, stopped: Vec<Root> },
    ManifestRequest { root: Root, offset: u64 },
    ManifestPage { root: Root, offset: u64, total_bytes: u64, data: Bytes },
    RangesRequest { request: u32, root: Root, pieces: Vec<(u32, GroupRange)> },
    RangesRefused { request: u32, reason: RefusedReason },
    RangesCancel { request: u32 },
    Ping { nonce: u64 },
    Pong { nonce: u64 },
    Signal(wire::SignedSignal),
    Goodbye,
}

/// Why a seeder doesn't serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedReason {
    NotSeeded,
    SourceChanged,
    Busy,
    Invalid,
    ReadFailed,
}

/// Bytes that are not a frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a malformed frame: {0}")]
    Malformed(&'static str),
    /// A kind of a later version. Not an error of the sender's.
    #[error("a frame of an unknown kind")]
    Unknown,
}

impl Frame {
    pub(crate) fn decode(message: Bytes) -> Result<Frame, FrameError> {
        if message.len() > limits::PEER_FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(message.len()));
        }
        let frame = wire::PeerFrame::decode(message).map_err(|_| FrameError::Malformed("protobuf"))?;
        Ok(match frame.kind.ok_or(FrameError::Unknown)? {
            Kind::Hello(hello) => Frame::Hello {
                version: hello.protocol_version,
                device: device(&hello.device_id)?,
                pool: PoolId::try_from(hello.pool_id.as_ref()).map_err(|_| FrameError::Malformed("pool id"))?,
                frame_bytes_max: hello.frame_bytes_max,
                wall_ms: hello.wall_ms,
            },
            Kind::HelloAck(ack) => Frame::HelloAck { version: ack.protocol_version },
            Kind::Have(have) => {
                let heads = have.heads.iter().map(|head| Ok((device(&head.device_id)?, head.counter)));
                Frame::Have(heads.collect::<Result<_, FrameError>>()?)
            }
            Kind::EntriesRequest(request) => Frame::EntriesRequest {
                device: device(&request.device_id)?,
                first_counter: request.first_counter,
                last_counter: request.last_counter,
            },
            Kind::Entries(entries) => Frame::Entries {
                entries: entries.entries,
                answers: match entries.device_id.len() {
                    0 => None,
                    _ => Some(device(&entries.device_id)?),
                },
            },
            Kind::Seeding(seeding) => Frame::Seeding {
                roots: roots(&seeding.manifest_roots)?,
                stopped: roots(&seeding.stopped_manifest_roots)?,
            },
            Kind::ManifestRequest(request) => {
                Frame::ManifestRequest { root: root(&request.manifest_root)?, offset: request.offset }
            }
            Kind::ManifestPage(page) => Frame::ManifestPage {
                root: root(&page.manifest_root)?,
                offset: page.offset,
                total_bytes: page.total_bytes,
                data: page.data,
            },
            Kind::RangesRequest(request) => {
                if request.items.is_empty() || request.items.len() > PIECES_PER_REQUEST_MAX {
                    return Err(FrameError::Malformed("number of pieces"));
                }
                let piece = |item: &wire::RangeItem| {
                    (item.file_index, GroupRange { first: item.first_group, count: item.group_count })
                };
                Frame::RangesRequest {
                    request: request.request_id,
                    root: root(&request.manifest_root)?,
                    pieces: request.items.iter().map(piece).collect(),
                }
            }
            Kind::RangesRefused(refused) => {
                Frame::RangesRefused { request: refused.request_id, reason: reason_from_wire(refused.reason()) }
            }
            Kind::RangesCancel(cancel) => Frame::RangesCancel { request: cancel.request_id },
            Kind::Ping(ping) => Frame::Ping { nonce: ping.nonce },
            Kind::Pong(pong) => Frame::Pong { nonce: pong.nonce },
            Kind::Signal(signal) => Frame::Signal(signal),
            Kind::Goodbye(_) => Frame::Goodbye,
        })
    }

    pub(crate) fn encode(self) -> Bytes {
        let id = |device: DeviceId| Bytes::copy_from_slice(device.as_bytes());
        let hash = |root: Root| Bytes::copy_from_slice(&root.0);
        let kind = match self {
            Frame::Hello { version, device, pool, frame_bytes_max, wall_ms } => Kind::Hello(wire::Hello {
                protocol_version: version,
                device_id: id(device),
                pool_id: Bytes::copy_from_slice(pool.as_bytes()),
                frame_bytes_max,
                wall_ms,
            }),
            Frame::HelloAck { version } => Kind::HelloAck(wire::HelloAck { protocol_version: version }),
            Frame::Have(heads) => {
                let head = |(device, counter)| wire::ChainHead { device_id: id(device), counter };
                Kind::Have(wire::Have { heads: heads.into_iter().map(head).collect() })
            }
            Frame::EntriesRequest { device, first_counter, last_counter } => {
                Kind::EntriesRequest(wire::EntriesRequest { device_id: id(device), first_counter, last_counter })
            }
            Frame::Entries { entries, answers } => {
                Kind::Entries(wire::Entries { entries, device_id: answers.map(id).unwrap_or_default() })
            }
            Frame::Seeding { roots, stopped } => Kind::Seeding(wire::Seeding {
                manifest_roots: roots.into_iter().map(hash).collect(),
                stopped_manifest_roots: stopped.into_iter().map(hash).collect(),
            }),
            Frame::ManifestRequest { root, offset } => {
                Kind::ManifestRequest(wire::ManifestRequest { manifest_root: hash(root), offset })
            }
            Frame::ManifestPage { root, offset, total_bytes, data } => {
                Kind::ManifestPage(wire::ManifestPage { manifest_root: hash(root), offset, total_bytes, data })
            }
            Frame::RangesRequest { request, root, pieces } => {
                let item = |(file_index, range): (u32, GroupRange)| wire::RangeItem {
                    file_index,
                    first_group: range.first,
                    group_count: range.count,
                };
                Kind::RangesRequest(wire::RangesRequest {
                    request_id: request,
                    manifest_root: hash(root),
                    items: pieces.into_iter().map(item).collect(),
                })
            }
            Frame::RangesRefused { request, reason } => {
                let mut refused = wire::RangesRefused { request_id: request, reason: 0 };
                refused.set_reason(reason_to_wire(reason));
                Kind::RangesRefused(refused)
            }
            Frame::RangesCancel { request } => Kind::RangesCancel(wire::RangesCancel { request_id: request }),
            Frame::Ping { nonce } => Kind::Ping(wire::Ping { nonce }),
            Frame::Pong { nonce } => Kind::Pong(wire::Pong { nonce }),
            Frame::Signal(signal) => Kind::Signal(signal),
            Frame::Goodbye => Kind::Goodbye(wire::Goodbye {}),
        };
        Bytes::from(wire::PeerFrame { kind: Some(kind) }.encode_to_vec())
    }

    /// As many of these entries as fit into one frame; says how many.
    pub(crate) fn entries<'a>(
        entries: impl IntoIterator<Item = &'a StoredEntry>,
        answers: Option<DeviceId>,
    ) -> (Frame, usize) {
        let mut bytes = 0;
        let fitting = entries.into_iter().take_while(|entry| {
            bytes += entry.wire_bytes();
            bytes <= ENTRIES_FRAME_BYTES_MAX
        });
        let entries: Vec<wire::Entry> = fitting.map(StoredEntry::to_wire).collect();
        let count = entries.len();
        (Frame::Entries { entries, answers }, count)
    }
}

fn device(bytes: &Bytes) -> Result<DeviceId, FrameError> {
    DeviceId::try_from(bytes.as_ref()).map_err(|_| FrameError::Malformed("device id"))
}

fn root(bytes: &Bytes) -> Result<Root, FrameError> {
    Root::try_from(bytes.as_ref()).map_err(|_| FrameError::Malformed("root"))
}

fn roots(bytes: &[Bytes]) -> Result<Vec<Root>, FrameError> {
    bytes.iter().map(root).collect()
}

fn reason_to_wire(reason: RefusedReason) -> wire::ranges_refused::Reason {
    match reason {
        RefusedReason::NotSeeded => wire::ranges_refused::Reason::NotSeeded,
        RefusedReason::SourceChanged => wire::ranges_refused::Reason::SourceChanged,
        RefusedReason::Busy => wire::ranges_refused::Reason::Busy,
        RefusedReason::Invalid => wire::ranges_refused::Reason::Invalid,
        RefusedReason::ReadFailed => wire::ranges_refused::Reason::ReadFailed,
    }
}

fn reason_from_wire(reason: wire::ranges_refused::Reason) -> RefusedReason {
    match reason {
        wire::ranges_refused::Reason::NotSeeded => RefusedReason::NotSeeded,
        wire::ranges_refused::Reason::SourceChanged => RefusedReason::SourceChanged,
        wire::ranges_refused::Reason::Busy => RefusedReason::Busy,
        wire::ranges_refused::Reason::Invalid => RefusedReason::Invalid,
        wire::ranges_refused::Reason::ReadFailed | wire::ranges_refused::Reason::Unspecified => {
            RefusedReason::ReadFailed
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<Frame> {
        let (device, root) = (DeviceId([3; 16]), Root([4; 32]));
        vec![
            Frame::Hello { version: 1, device, pool: PoolId([1; 16]), frame_bytes_max: 65536, wall_ms: 5 },
            Frame::HelloAck { version: 1 },
            Frame::Have(vec![(device, 7)]),
            Frame::EntriesRequest { device, first_counter: 1, last_counter: 9 },
            Frame::Entries { entries: vec![wire::Entry::default()], answers: Some(device) },
            Frame::Seeding { roots: vec![root], stopped: vec![] },
            Frame::ManifestRequest { root, offset: 48 },
            Frame::ManifestPage { root, offset: 48, total_bytes: 99, data: Bytes::from_static(b"data") },
            Frame::RangesRequest { request: 1, root, pieces: vec![(2, GroupRange { first: 3, count: 4 })] },
            Frame::RangesRefused { request: 1, reason: RefusedReason::Busy },
            Frame::RangesCancel { request: 1 },
            Frame::Ping { nonce: 1 },
            Frame::Pong { nonce: 1 },
            Frame::Signal(wire::SignedSignal::default()),
            Frame::Goodbye,
        ]
    }

    #[test]
    fn frames_survive_the_wire() {
        for frame in samples() {
            assert_eq!(Frame::decode(frame.clone().encode()), Ok(frame));
        }
    }

    #[test]
    fn oversized_and_unknown_frames_are_refused() {
        let long = Bytes::from(vec![0; limits::PEER_FRAME_BYTES_MAX + 1]);
        assert_eq!(Frame::decode(long), Err(FrameError::TooLong(limits::PEER_FRAME_BYTES_MAX + 1)));
        assert_eq!(Frame::decode(Bytes::new()), Err(FrameError::Unknown));
        let request = |pieces: usize| {
            let piece = (0, GroupRange { first: 0, count: 1 });
            Frame::RangesRequest { request: 1, root: Root([1; 32]), pieces: vec![piece; pieces] }.encode()
        };
        for pieces in [0, PIECES_PER_REQUEST_MAX + 1] {
            assert_eq!(Frame::decode(request(pieces)), Err(FrameError::Malformed("number of pieces")));
        }
        // Field 1000, as a later version might send.
        assert_eq!(Frame::decode(Bytes::from_static(&[0xc0, 0x3e, 1])), Err(FrameError::Unknown));
    }

    #[test]
    fn the_largest_frames_of_ours_fit() {
        let heads = Frame::Have(vec![(DeviceId([0xff; 16]), u64::MAX); HEADS_PER_FRAME_MAX]);
        let roots = Frame::Seeding { roots: vec![Root([0xff; 32]); ROOTS_PER_FRAME_MAX], stopped: vec![] };
        let piece = (u32::MAX, GroupRange { first: u64::MAX >> 1, count: u32::MAX });
        let pieces = vec![piece; PIECES_PER_REQUEST_MAX];
        let request = Frame::RangesRequest { request: u32::MAX, root: Root([0xff; 32]), pieces };
        for frame in [heads, roots, request] {
            assert!(frame.encode().len() <= limits::PEER_FRAME_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(message: Vec<u8>) {
            let _ = Frame::decode(Bytes::from(message));
        }

        #[test]
        fn no_altered_frame_panics(which in 0usize..15, at: usize, by: u8) {
            let mut message = samples().swap_remove(which).encode().to_vec();
            if !message.is_empty() {
                let at = at % message.len();
                message[at] ^= by;
            }
            let _ = Frame::decode(Bytes::from(message));
        }
    }
}
