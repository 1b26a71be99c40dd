//! Raft snapshots on their way: a leader's state, streamed to a follower whose log the leader no longer has.
//!
//! The library's own message only announces a snapshot. The state goes before it, in chunks from a view:
//!
//! ```text
//!   leader                                         follower
//!   chunk 0 (announcement, pairs)  ───────────►    clears the next generation, writes
//!                                  ◄───────────    ack: next is 1
//!   chunk n (pairs, meta)          ───────────►    writes; all there: steps the announcement
//!                                  ◄───────────    ack: next is n+1       library takes it: one write changes over,
//!   done                                           flush, then the log is reset. It does not: the generation is cleared
//! ```
//!
//! Acks come when a chunk is written, so the window of chunks in flight is the follower's brake. When acks stay away for
//! twice the time that the last one took, the oldest chunk that lacks one is sent again, and no other: on a slow link chunks
//! are late, not lost, and copies of all of them would make it slower still. A
//! stream with a higher (term, number) replaces the one being received; an older one is refused. A follower that restarts
//! refuses the rest of a stream and gets a new one.

use super::Context;
use super::group::Group;
use crate::codec::{NodeMessage, SnapshotAck, SnapshotChunk, StateKeys, StateMeta, StreamId, damaged, open};
use crate::error::Fatal;
use crate::kv::{Direction, StoreError};
use crate::output::{Class, Notice, Output};
use crate::raft::{OutgoingSnapshot, SnapshotSource};
use crate::state::ApplyTask;
use crate::time::Time;
use bytes::Bytes;
use rockpool_proto::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// Chunks kept by a receiver until those before them have come.
const EARLY_CHUNKS_MAX: u64 = 8;

/// A stream to one follower.
struct Sender {
    stream: StreamId,
    announcement: Bytes,
    source: SnapshotSource,
    keys: StateKeys,
    /// The next pair's full key.
    cursor: Vec<u8>,
    all_read: bool,
    next_seq: u64,
    /// Chunks in flight.
    unacked: VecDeque<InFlight>,
    /// How long an ack is waited for.
    retry_us: u64,
    progressed: Time,
}

struct InFlight {
    chunk: SnapshotChunk,
    first_sent: Time,
    last_sent: Time,
}

impl Sender {
    /// Reads the next chunk, at least one pair of it.
    fn read_chunk(&mut self, bytes_max: usize) -> Result<SnapshotChunk, StoreError> {
        let (_, end) = self.keys.bounds();
        let mut pairs = Vec::new();
        let mut bytes = 0;
        self.all_read = true;
        for pair in self.source.view.scan(&self.cursor, &end, Direction::Forward) {
            let (key, value) = pair?;
            if bytes >= bytes_max {
                self.cursor = key;
                self.all_read = false;
                break;
            }
            let payload = open(&key, &value)?;
            let suffix = self.keys.suffix(&key).map_err(|error| damaged(&key, &error.to_string()))?;
            bytes += suffix.len() + payload.len();
            pairs.push((Bytes::copy_from_slice(suffix), Bytes::copy_from_slice(payload)));
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        Ok(SnapshotChunk {
            stream: self.stream,
            seq,
            pairs,
            announcement: if seq == 0 { self.announcement.clone() } else { Bytes::new() },
            meta: self.all_read.then(|| self.source.meta.clone()),
        })
    }
}

/// Streams that are being sent.
#[derive(Default)]
pub(super) struct Senders {
    streams: BTreeMap<NodeId, Sender>,
    last_number: u64,
}

impl Senders {
    /// The lowest index that a follower will go on from.
    pub(super) fn lowest_index(&self) -> Option<u64> {
        self.streams.values().map(|sender| sender.source.meta.applied_index).min()
    }
}

/// A stream that is being received.
struct Receiving {
    from: NodeId,
    stream: StreamId,
    /// The chunk that is to come.
    next: u64,
    /// The chunk that is to be written.
    written: u64,
    announcement: Bytes,
    /// Chunks that overtook others.
    early: BTreeMap<u64, SnapshotChunk>,
    /// Came with the last chunk.
    meta: Option<StateMeta>,
    heard: Time,
}

/// The receiving end.
#[derive(Default)]
pub(super) struct Receiver {
    current: Option<Receiving>,
    /// The last stream that was received whole, and its number of chunks: its last ack may get lost.
    complete: Option<(StreamId, u64)>,
    /// The announcement was stepped; whether the library takes it shows in its next ready.
    announced: bool,
    /// The state of a snapshot that the library took is being put in place.
    installing: bool,
}

impl Group {
    /// The library wants a snapshot sent.
    pub(super) fn start_sending(&mut self, context: &mut Context<'_>, snapshot: OutgoingSnapshot) -> Result<(), Fatal> {
        let OutgoingSnapshot { to, announcement, source } = snapshot;
        self.senders.last_number += 1;
        let stream = StreamId { term: self.replica.term(), number: self.senders.last_number };
        let keys = StateKeys { group: self.id, generation: source.meta.generation };
        let index = source.meta.applied_index;
        context.notice(Notice::SnapshotSending { group: self.id, to, index });
        let sender = Sender {
            stream,
            announcement,
            cursor: keys.bounds().0,
            source,
            keys,
            all_read: false,
            next_seq: 0,
            unacked: VecDeque::new(),
            retry_us: context.config.timing.snapshot_retry_us,
            progressed: context.now.time,
        };
        self.senders.streams.insert(to, sender);
        self.fill_window(context, to)
    }

    /// Sends what the window has room for. Called at every tick and ack.
    fn fill_window(&mut self, context: &mut Context<'_>, to: NodeId) -> Result<(), Fatal> {
        let limits = &context.config.limits;
        let Some(sender) = self.senders.streams.get_mut(&to) else { return Ok(()) };
        while !sender.all_read && sender.unacked.len() < limits.snapshot_chunks_inflight_max {
            let chunk = sender.read_chunk(limits.snapshot_chunk_bytes)?;
            let now = context.now.time;
            sender.unacked.push_back(InFlight { chunk: chunk.clone(), first_sent: now, last_sent: now });
            context.send(self.id, to, Class::Bulk, NodeMessage::SnapshotChunk(Box::new(chunk)));
        }
        Ok(())
    }

    /// A follower says how far it is.
    pub(super) fn snapshot_acked(
        &mut self,
        context: &mut Context<'_>,
        from: NodeId,
        ack: SnapshotAck,
    ) -> Result<(), Fatal> {
        let Some(sender) = self.senders.streams.get_mut(&from) else { return Ok(()) };
        if sender.stream != ack.stream {
            return Ok(());
        }
        if ack.refused {
            self.end_sending(context, from, false);
            return Ok(());
        }
        let (now, timing) = (context.now.time, &context.config.timing);
        while let Some(acked) = sender.unacked.pop_front_if(|sent| sent.chunk.seq < ack.next) {
            sender.progressed = now;
            let patience_us = now.since_us(acked.first_sent).saturating_mul(2);
            let most_us = (timing.snapshot_deadline_us / 2).max(timing.snapshot_retry_us);
            sender.retry_us = patience_us.clamp(timing.snapshot_retry_us, most_us);
        }
        if sender.all_read && sender.unacked.is_empty() {
            self.end_sending(context, from, true);
            return Ok(());
        }
        self.fill_window(context, from)
    }

    fn end_sending(&mut self, context: &mut Context<'_>, to: NodeId, complete: bool) {
        if self.senders.streams.remove(&to).is_some() {
            self.replica.report_snapshot(to, complete);
            context.notice(Notice::SnapshotSent { group: self.id, to, complete });
        }
    }

    /// This node leads no more.
    pub(super) fn stop_sending(&mut self, context: &mut Context<'_>) {
        let streams: Vec<NodeId> = self.senders.streams.keys().copied().collect();
        streams.into_iter().for_each(|to| self.end_sending(context, to, false));
    }

    /// Starts streams, sends again what was lost, gives up on who does not answer.
    pub(super) fn tick_senders(&mut self, context: &mut Context<'_>) -> Result<(), Fatal> {
        let now = context.now.time;
        let timing = &context.config.timing;
        let streams: Vec<NodeId> = self.senders.streams.keys().copied().collect();
        for to in streams {
            let Some(sender) = self.senders.streams.get_mut(&to) else { continue };
            if now.since_us(sender.progressed) >= timing.snapshot_deadline_us {
                self.end_sending(context, to, false);
                continue;
            }
            let retry_us = sender.retry_us;
            if let Some(oldest) = sender.unacked.front_mut().filter(|sent| now.since_us(sent.last_sent) >= retry_us) {
                oldest.last_sent = now;
                context.send(self.id, to, Class::Bulk, NodeMessage::SnapshotChunk(Box::new(oldest.chunk.clone())));
            }
            self.fill_window(context, to)?;
        }
        Ok(())
    }

    /// A chunk came in.
    pub(super) fn receive_chunk(
        &mut self,
        context: &mut Context<'_>,
        from: NodeId,
        chunk: SnapshotChunk,
    ) -> Result<(), String> {
        let receiver = &mut self.receiver;
        if receiver.installing || receiver.announced {
            return Ok(()); // It will be sent again.
        }
        let stream = chunk.stream;
        let refuse = SnapshotAck { stream, next: 0, refused: true };
        if let Some((complete, chunks)) = receiver.complete
            && complete == stream
        {
            let ack = SnapshotAck { stream, next: chunks, refused: false };
            context.send(self.id, from, Class::Log, NodeMessage::SnapshotAck(ack));
            return Ok(());
        }
        let newer = receiver.current.as_ref().is_none_or(|current| current.stream < stream);
        if stream.term < self.replica.term() || (newer && chunk.seq > 0 && receiver.current.is_none()) {
            context.send(self.id, from, Class::Log, NodeMessage::SnapshotAck(refuse));
            return Ok(());
        }
        if newer {
            if chunk.seq > 0 {
                return Ok(()); // Its first chunk is still on the way.
            }
            receiver.current = Some(Receiving {
                from,
                stream,
                next: 0,
                written: 0,
                announcement: chunk.announcement.clone(),
                early: BTreeMap::new(),
                meta: None,
                heard: context.now.time,
            });
        }
        let Some(current) = receiver.current.as_mut().filter(|current| current.stream == stream) else {
            context.send(self.id, from, Class::Log, NodeMessage::SnapshotAck(refuse));
            return Ok(());
        };
        if current.from != from {
            return Err("a chunk of another node's snapshot".to_owned());
        }
        current.heard = context.now.time;
        if chunk.seq < current.next {
            let ack = SnapshotAck { stream, next: current.written, refused: false };
            context.send(self.id, from, Class::Log, NodeMessage::SnapshotAck(ack));
        } else if chunk.seq < current.next + EARLY_CHUNKS_MAX {
            current.early.insert(chunk.seq, chunk);
        }
        while let Some(chunk) = current.early.remove(&current.next) {
            current.next += 1;
            current.meta = chunk.meta;
            let task = ApplyTask::chunk(self.id, stream, chunk.seq, chunk.pairs);
            context.outputs.push_back(Output::Apply(task));
        }
        Ok(())
    }

    /// A chunk is written.
    pub(super) fn chunk_written(&mut self, context: &mut Context<'_>, stream: StreamId, seq: u64) -> Result<(), Fatal> {
        let receiver = &mut self.receiver;
        let Some(current) = receiver.current.as_mut().filter(|current| current.stream == stream) else {
            return Ok(()); // Another stream took its place.
        };
        current.written = seq + 1;
        let (from, next) = (current.from, current.written);
        let ack = SnapshotAck { stream, next, refused: false };
        context.send(self.id, from, Class::Log, NodeMessage::SnapshotAck(ack));
        if let Some(meta) = current.meta.as_ref().filter(|_| current.written == current.next) {
            receiver.complete = Some((stream, next));
            receiver.announced = true;
            let announcement = current.announcement.clone();
            if let Err(what) = self.replica.step_snapshot(from, &announcement, meta)? {
                context.notice(Notice::BadMessage { from, what });
            }
        }
        Ok(())
    }

    /// The library took a snapshot: its state is put in place before anything after it is written.
    pub(super) fn install_received(&mut self, context: &mut Context<'_>, index: u64) -> Result<(), Fatal> {
        let receiver = &mut self.receiver;
        receiver.announced = false;
        match receiver.current.take().and_then(|current| current.meta) {
            Some(meta) if meta.applied_index == index => {
                receiver.installing = true;
                context.outputs.push_back(Output::Apply(ApplyTask::install(self.id, meta)));
                Ok(())
            }
            _ => {
                let what = format!("a snapshot at {index} was taken whose state was not received");
                Err(Fatal::Consensus { node: self.node, group: self.id, what })
            }
        }
    }

    /// The library did not take it: the log has what the snapshot has.
    pub(super) fn settle_receiver(&mut self, context: &mut Context<'_>) {
        if std::mem::take(&mut self.receiver.announced) {
            self.receiver.current = None;
            context.outputs.push_back(Output::Apply(ApplyTask::discard(self.id)));
        }
    }

    /// The state of a snapshot is in place.
    pub(super) fn installed(&mut self) {
        self.receiver.installing = false;
    }

    /// Gives up a stream whose sender fell silent.
    pub(super) fn tick_receiver(&mut self, context: &mut Context<'_>) {
        let patience_us = context.config.timing.snapshot_deadline_us * 2;
        if self.receiver.announced {
            return;
        }
        let silent = |current: &mut Receiving| context.now.time.since_us(current.heard) >= patience_us;
        if self.receiver.current.take_if(silent).is_some() {
            context.outputs.push_back(Output::Apply(ApplyTask::discard(self.id)));
        }
    }
}
