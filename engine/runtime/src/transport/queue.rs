//! Messages that wait for a stream: bounded, and full means dropped. Raft repairs what is lost; it can't repair a machine
//! that waits.

use bytes::Bytes;
use parking_lot::Mutex;
use rockpool_engine::Class;
use rockpool_proto::limits::{NODE_FRAME_GATHER_BYTES_MAX, NODE_FRAME_MESSAGES_MAX};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Bytes that may wait, by class. One message is always taken, however large.
fn bytes_max(class: Class) -> usize {
    match class {
        Class::Urgent => 1 << 20,
        Class::Log => 64 << 20,
        Class::Bulk => 16 << 20,
    }
}

/// One class of messages to one node.
pub(super) struct SendQueue {
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
    /// Whether the machine was told of the loss; it is told once per full queue.
    told: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Taken,
    Dropped,
    /// Dropped, and the first one since the queue was last taken from.
    DroppedFirst,
}

impl SendQueue {
    pub(super) fn new(class: Class) -> Self {
        SendQueue { bytes_max: bytes_max(class), waiting: Mutex::default(), filled: Notify::new() }
    }

    pub(super) fn push(&self, message: Bytes) -> Pushed {
        let mut waiting = self.waiting.lock();
        if waiting.bytes > 0 && waiting.bytes + message.len() > self.bytes_max {
            waiting.dropped += 1;
            let told = std::mem::replace(&mut waiting.told, true);
            return if told { Pushed::Dropped } else { Pushed::DroppedFirst };
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        let first = waiting.messages.len() == 1;
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Pushed::Taken
    }

    /// Returns when something waits.
    pub(super) async fn filled(&self) {
        while self.waiting.lock().messages.is_empty() {
            self.filled.notified().await;
        }
    }

    /// What fits into the next frame, in order; waits until there is something.
    pub(super) async fn next_frame(&self) -> Vec<Bytes> {
        loop {
            self.filled().await;
            let mut waiting = self.waiting.lock();
            let mut frame = Vec::new();
            let mut bytes = 0;
            while let Some(message) = waiting.messages.front() {
                let fits =
                    frame.len() < NODE_FRAME_MESSAGES_MAX && bytes + message.len() <= NODE_FRAME_GATHER_BYTES_MAX;
                if !fits && !frame.is_empty() {
                    break;
                }
                bytes += message.len();
                frame.extend(waiting.messages.pop_front());
            }
            waiting.bytes -= bytes;
            waiting.told = false;
            if !frame.is_empty() {
                return frame;
            }
        }
    }

    /// Forgets what waits: there is no connection, and by the time there is one it is stale.
    pub(super) fn clear(&self) {
        let mut waiting = self.waiting.lock();
        waiting.dropped += waiting.messages.len() as u64;
        waiting.messages.clear();
        waiting.bytes = 0;
        waiting.told = false;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_gather_what_waits_in_order_and_a_full_queue_drops() {
        let queue = SendQueue::new(Class::Urgent);
        let message = |byte: u8, length: usize| Bytes::from(vec![byte; length]);
        for byte in 0..5 {
            assert_eq!(queue.push(message(byte, 300 << 10)), if byte < 3 { Pushed::Taken } else { queue_full(byte) });
        }
        let frame = queue.next_frame().await;
        assert_eq!(frame.iter().map(|message| message[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(queue.dropped(), 2);
        // One too large for any frame or queue travels alone.
        assert_eq!(queue.push(message(7, 3 << 20)), Pushed::Taken);
        assert_eq!(queue.push(message(8, 1)), Pushed::DroppedFirst);
        assert_eq!(queue.next_frame().await.len(), 1);
    }

    fn queue_full(byte: u8) -> Pushed {
        if byte == 3 { Pushed::DroppedFirst } else { Pushed::Dropped }
    }
}
