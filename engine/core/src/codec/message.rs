//! Messages between nodes.

use super::CodecError;
use super::frame::{open_message, seal_message};
use super::meta::StateMeta;
use crate::input::MembershipChange;
use crate::output::Refusal;
use crate::txn::{CommitRequest, ReadSet, Span, Timestamp, TxnId};
use bytes::Bytes;
use rockpool_proto::engine::v1 as wire;
use rockpool_proto::{GroupId, NodeId, limits};

/// A request on its way to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Validate, order, write.
    Commit(CommitRequest),
    /// Settle a transaction.
    Resolve {
        /// Which.
        txn: TxnId,
        /// What it had seen.
        read_timestamp: Timestamp,
    },
    /// Change the membership.
    Membership(MembershipChange),
    /// Move the safe point.
    Collect {
        /// To where.
        safe_point: Timestamp,
    },
}

impl Forwarded {
    /// About what it takes up while it waits.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Forwarded::Commit(commit) => commit.size_bytes(),
            Forwarded::Resolve { .. } | Forwarded::Membership(_) | Forwarded::Collect { .. } => 0,
        }
    }
}

/// The leader's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Took effect.
    Committed(Timestamp),
    /// Took none: somebody wrote this key.
    Conflict(Vec<u8>),
    /// Never will take effect.
    Aborted,
    /// Never will take effect: too old to validate.
    TooOld,
    /// Too old for its outcome to be known: it took no effect, unless a copy of the request did.
    Forgotten,
    /// Done.
    Done,
    /// Not done.
    Refused(Refusal),
    /// Not decided: ask again.
    Again,
}

/// Names a snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId {
    /// Term of the leader that sends it.
    pub(crate) term: u64,
    /// Counts up at that leader.
    pub(crate) number: u64,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SnapshotChunk {
    /// Of which.
    pub(crate) stream: StreamId,
    /// From 0.
    pub(crate) seq: u64,
    /// Keys behind the generation, and payloads.
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
    /// In chunk 0: the library's announcement.
    pub(crate) announcement: Bytes,
    /// In the last chunk.
    pub(crate) meta: Option<StateMeta>,
}

/// How far a snapshot was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotAck {
    /// Which.
    pub(crate) stream: StreamId,
    /// All chunks before this are written.
    pub(crate) next: u64,
    /// The receiver can't go on with it.
    pub(crate) refused: bool,
}

/// What one node says to another about one group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeMessage {
    /// The consensus library's.
    Raft(Bytes),
    /// A request for the leader.
    Forward {
        /// Which life of the sender.
        boot: u64,
        /// Its number there.
        id: u64,
        /// What is wanted.
        request: Box<Forwarded>,
    },
    /// The leader's answer.
    ForwardReply {
        /// From the request.
        boot: u64,
        /// From the request.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// A piece of a snapshot.
    SnapshotChunk(Box<SnapshotChunk>),
    /// The receiver's word about it.
    SnapshotAck(SnapshotAck),
}

/// A message's bytes.
pub(crate) fn encode(group: GroupId, message: NodeMessage) -> Bytes {
    use wire::node_message::Body;
    let body = match message {
        NodeMessage::Raft(bytes) => Body::Raft(bytes),
        NodeMessage::Forward { boot, id, request } => {
            Body::Forward(wire::Forward { boot, id, request: Some(forwarded_to_wire(*request)) })
        }
        NodeMessage::ForwardReply { boot, id, answer } => {
            Body::ForwardReply(wire::ForwardReply { boot, id, answer: Some(answer_to_wire(answer)) })
        }
        NodeMessage::SnapshotChunk(chunk) => Body::SnapshotChunk(wire::SnapshotChunk {
            term: chunk.stream.term,
            stream: chunk.stream.number,
            seq: chunk.seq,
            pairs: chunk.pairs.into_iter().map(|(key, value)| wire::Pair { key, value }).collect(),
            announcement: chunk.announcement,
            meta: chunk.meta.map(|meta| meta.to_wire()),
        }),
        NodeMessage::SnapshotAck(ack) => Body::SnapshotAck(wire::SnapshotAck {
            term: ack.stream.term,
            stream: ack.stream.number,
            next: ack.next,
            refused: ack.refused,
        }),
    };
    seal_message(&wire::NodeMessage { group: group.0, body: Some(body) })
}

/// Reads a message's bytes, whoever sent them.
pub(crate) fn decode(frame: Bytes) -> Result<(GroupId, NodeMessage), CodecError> {
    use wire::node_message::Body;
    let message: wire::NodeMessage = open_message(frame, limits::NODE_MESSAGE_BYTES_MAX)?;
    let group = GroupId(message.group);
    let body = match message.body.ok_or_else(|| CodecError::new("a message of an unknown kind"))? {
        Body::Raft(bytes) => NodeMessage::Raft(bytes),
        Body::Forward(forward) => NodeMessage::Forward {
            boot: forward.boot,
            id: forward.id,
            request: Box::new(forwarded_from_wire(group, forward.request)?),
        },
        Body::ForwardReply(reply) => {
            NodeMessage::ForwardReply { boot: reply.boot, id: reply.id, answer: answer_from_wire(reply.answer)? }
        }
        Body::SnapshotChunk(chunk) => NodeMessage::SnapshotChunk(Box::new(SnapshotChunk {
            stream: StreamId { term: chunk.term, number: chunk.stream },
            seq: chunk.seq,
            pairs: chunk.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            announcement: chunk.announcement,
            meta: match chunk.meta {
                Some(meta) => Some(StateMeta::from_wire(meta).ok_or_else(|| CodecError::new("an incomplete meta"))?),
                None => None,
            },
        })),
        Body::SnapshotAck(ack) => NodeMessage::SnapshotAck(SnapshotAck {
            stream: StreamId { term: ack.term, number: ack.stream },
            next: ack.next,
            refused: ack.refused,
        }),
    };
    Ok((group, body))
}

pub(super) fn txn_id(bytes: &[u8]) -> Result<TxnId, CodecError> {
    let id = bytes.try_into().map_err(|_| CodecError::new("a transaction id of the wrong length"))?;
    Ok(TxnId(id))
}

pub(super) fn write_to_wire((key, value): (Vec<u8>, Option<Vec<u8>>)) -> wire::Write {
    wire::Write { key: key.into(), value: value.map(Into::into) }
}

pub(super) fn write_from_wire(write: wire::Write) -> (Vec<u8>, Option<Vec<u8>>) {
    (write.key.into(), write.value.map(Into::into))
}

fn forwarded_to_wire(request: Forwarded) -> wire::forward::Request {
    use wire::forward::Request;
    match request {
        Forwarded::Commit(commit) => Request::Commit(wire::CommitRequest {
            txn: Bytes::copy_from_slice(&commit.txn.0),
            read_timestamp: commit.read_timestamp.0,
            read_keys: commit.reads.keys.into_iter().map(Into::into).collect(),
            read_spans: commit
                .reads
                .spans
                .into_iter()
                .map(|span| wire::Span { start: span.start.into(), end: span.end.into() })
                .collect(),
            writes: commit.writes.into_iter().map(write_to_wire).collect(),
        }),
        Forwarded::Resolve { txn, read_timestamp } => Request::Resolve(wire::ResolveRequest {
            txn: Bytes::copy_from_slice(&txn.0),
            read_timestamp: read_timestamp.0,
        }),
        Forwarded::Membership(change) => {
            use wire::membership_request::Change;
            let change = match change {
                MembershipChange::Add(node) => Change::Add(node.0),
                MembershipChange::Remove(node) => Change::Remove(node.0),
            };
            Request::Membership(wire::MembershipRequest { change: Some(change) })
        }
        Forwarded::Collect { safe_point } => Request::Collect(wire::CollectRequest { safe_point: safe_point.0 }),
    }
}

fn forwarded_from_wire(group: GroupId, request: Option<wire::forward::Request>) -> Result<Forwarded, CodecError> {
    use wire::forward::Request;
    match request {
        Some(Request::Commit(commit)) => {
            let commit = CommitRequest {
                group,
                txn: txn_id(&commit.txn)?,
                read_timestamp: Timestamp(commit.read_timestamp),
                reads: ReadSet {
                    keys: commit.read_keys.into_iter().map(Into::into).collect(),
                    spans: commit
                        .read_spans
                        .into_iter()
                        .map(|span| Span { start: span.start.into(), end: span.end.into() })
                        .collect(),
                },
                writes: commit.writes.into_iter().map(write_from_wire).collect(),
            };
            check_limits(&commit)?;
            Ok(Forwarded::Commit(commit))
        }
        Some(Request::Resolve(resolve)) => {
            Ok(Forwarded::Resolve { txn: txn_id(&resolve.txn)?, read_timestamp: Timestamp(resolve.read_timestamp) })
        }
        Some(Request::Membership(change)) => {
            use wire::membership_request::Change;
            match change.change {
                Some(Change::Add(node)) if node != 0 => Ok(Forwarded::Membership(MembershipChange::Add(NodeId(node)))),
                Some(Change::Remove(node)) if node != 0 => {
                    Ok(Forwarded::Membership(MembershipChange::Remove(NodeId(node))))
                }
                _ => Err(CodecError::new("a change of membership of no node")),
            }
        }
        Some(Request::Collect(collect)) => Ok(Forwarded::Collect { safe_point: Timestamp(collect.safe_point) }),
        None => Err(CodecError::new("a request of an unknown kind")),
    }
}

/// Who sends has checked already; who receives does too.
fn check_limits(commit: &CommitRequest) -> Result<(), CodecError> {
    let fits = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
        key.len() <= limits::KEY_BYTES_MAX && value.as_ref().is_none_or(|value| value.len() <= limits::VALUE_BYTES_MAX)
    };
    if commit.writes_size_bytes() > limits::TRANSACTION_WRITES_BYTES_MAX || !commit.writes.iter().all(fits) {
        return Err(CodecError::new("a transaction beyond the limits"));
    }
    Ok(())
}

fn answer_to_wire(answer: Answer) -> wire::forward_reply::Answer {
    use wire::forward_reply::Answer as Wire;
    let nothing = wire::Nothing {};
    match answer {
        Answer::Committed(timestamp) => Wire::Committed(timestamp.0),
        Answer::Conflict(key) => Wire::Conflict(key.into()),
        Answer::Aborted => Wire::Aborted(nothing),
        Answer::TooOld => Wire::TooOld(nothing),
        Answer::Forgotten => Wire::Forgotten(nothing),
        Answer::Done => Wire::Done(nothing),
        Answer::Refused(refusal) => Wire::Refused(match refusal {
            Refusal::ChangePending => wire::Refusal::ChangePending,
            Refusal::LastVoter => wire::Refusal::LastVoter,
            Refusal::NotVoter => wire::Refusal::NotVoter,
            Refusal::NoGroup | Refusal::NoLeader | Refusal::NotLeader | Refusal::Overloaded => {
                return Wire::Again(nothing);
            }
        } as i32),
        Answer::Again => Wire::Again(nothing),
    }
}

fn answer_from_wire(answer: Option<wire::forward_reply::Answer>) -> Result<Answer, CodecError> {
    use wire::forward_reply::Answer as Wire;
    Ok(match answer.ok_or_else(|| CodecError::new("an answer of an unknown kind"))? {
        Wire::Committed(timestamp) => Answer::Committed(Timestamp(timestamp)),
        Wire::Conflict(key) => Answer::Conflict(key.into()),
        Wire::Aborted(_) => Answer::Aborted,
        Wire::TooOld(_) => Answer::TooOld,
        Wire::Forgotten(_) => Answer::Forgotten,
        Wire::Done(_) => Answer::Done,
        Wire::Refused(refusal) => Answer::Refused(match wire::Refusal::try_from(refusal) {
            Ok(wire::Refusal::ChangePending) => Refusal::ChangePending,
            Ok(wire::Refusal::LastVoter) => Refusal::LastVoter,
            Ok(wire::Refusal::NotVoter) => Refusal::NotVoter,
            Ok(wire::Refusal::Unspecified) | Err(_) => return Err(CodecError::new("a refusal of an unknown kind")),
        }),
        Wire::Again(_) => Answer::Again,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn check(message: NodeMessage) {
        let group = GroupId(3);
        assert_eq!(decode(encode(group, message.clone())), Ok((group, message)));
    }

    #[test]
    fn messages_come_back() {
        check(NodeMessage::Raft(Bytes::from_static(b"opaque")));
        let commit = CommitRequest {
            group: GroupId(3),
            txn: TxnId([1; 16]),
            read_timestamp: Timestamp(4),
            reads: ReadSet {
                keys: BTreeSet::from([b"a".to_vec()]),
                spans: vec![Span { start: b"b".to_vec(), end: b"c".to_vec() }],
            },
            writes: BTreeMap::from([(b"x".to_vec(), None), (b"y".to_vec(), Some(Vec::new()))]),
        };
        for request in [
            Forwarded::Commit(commit),
            Forwarded::Resolve { txn: TxnId([2; 16]), read_timestamp: Timestamp(5) },
            Forwarded::Membership(MembershipChange::Add(NodeId(4))),
            Forwarded::Membership(MembershipChange::Remove(NodeId(4))),
            Forwarded::Collect { safe_point: Timestamp(6) },
        ] {
            check(NodeMessage::Forward { boot: 7, id: 8, request: Box::new(request) });
        }
        for answer in [
            Answer::Committed(Timestamp(1)),
            Answer::Conflict(b"k".to_vec()),
            Answer::Aborted,
            Answer::TooOld,
            Answer::Forgotten,
            Answer::Done,
            Answer::Refused(Refusal::LastVoter),
            Answer::Again,
        ] {
            check(NodeMessage::ForwardReply { boot: 7, id: 8, answer });
        }
        let stream = StreamId { term: 2, number: 3 };
        check(NodeMessage::SnapshotChunk(Box::new(SnapshotChunk {
            stream,
            seq: 1,
            pairs: vec![(Bytes::from_static(b"k"), Bytes::from_static(b"v"))],
            announcement: Bytes::from_static(b"snap"),
            meta: Some(StateMeta::bootstrap(NodeId(1))),
        })));
        check(NodeMessage::SnapshotAck(SnapshotAck { stream, next: 2, refused: true }));
    }

    #[test]
    fn what_writes_count_covers_what_they_take_up_in_a_message() {
        for value in [None, Some(Vec::new()), Some(vec![1; 200])] {
            let writes = (0..10_000u32).map(|number| (number.to_be_bytes()[1..].to_vec(), value.clone())).collect();
            let commit = CommitRequest {
                group: GroupId(1),
                txn: TxnId([1; 16]),
                read_timestamp: Timestamp(4),
                reads: ReadSet::default(),
                writes,
            };
            let counted = commit.writes_size_bytes();
            let request = Box::new(Forwarded::Commit(commit));
            let sent = encode(GroupId(1), NodeMessage::Forward { boot: u64::MAX, id: u64::MAX, request }).len();
            assert!(sent <= counted, "{sent} bytes for what counts {counted}");
        }
    }

    #[test]
    fn writes_beyond_the_limits_are_refused() {
        let commit = CommitRequest {
            group: GroupId(1),
            txn: TxnId([1; 16]),
            read_timestamp: Timestamp(4),
            reads: ReadSet::default(),
            writes: BTreeMap::from([(vec![0; limits::KEY_BYTES_MAX + 1], None)]),
        };
        let request = Box::new(Forwarded::Commit(commit));
        decode(encode(GroupId(1), NodeMessage::Forward { boot: 1, id: 1, request })).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(bytes.clone().into());
            let sum = super::super::checksum(&[&bytes]).to_le_bytes();
            let _ = decode([&sum[..], &bytes].concat().into());
        }
    }
}
