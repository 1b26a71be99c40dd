//! What waits for the machine: one queue with one bound per kind of sender.
//!
//! ```text
//!   disk, apply, flush   answers to what the machine handed out          never refused: the machine bounds them
//!   other nodes          urgent | log and bulk, by bytes                 the stream waits, so TCP pushes back
//!   callers              begins, commits, ...                            refused when too many wait
//! ```
//!
//! The machine's thread takes everything at once, urgent messages first: one lock and one wake-up per batch, however
//! many senders there are.

use crate::clock;
use parking_lot::{Condvar, Mutex};
use rockpool_engine::{Class, Input, Reply, RequestId, Time};
use tokio::sync::{Notify, oneshot};

/// Where a request's answer goes.
pub(crate) type Answer = oneshot::Sender<Reply>;

/// Bytes of messages from other nodes that may wait, per kind.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// An input, and for requests where the answer goes.
pub(crate) struct Event {
    pub(crate) input: Input,
    pub(crate) answer: Option<(RequestId, Answer)>,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too much is waiting.
    Full,
    /// The machine has stopped.
    Closed,
}

/// The queue in front of the machine.
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    /// The machine's thread sleeps here.
    wake: Condvar,
    /// Streams from other nodes wait here for space.
    space: Notify,
    requests_max: usize,
}

#[derive(Default)]
struct Queues {
    urgent: Vec<Event>,
    others: Vec<Event>,
    /// Bytes of urgent messages, and of others.
    message_bytes: [usize; 2],
    requests: usize,
    sleeping: bool,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(requests_max: usize) -> Self {
        Inbox { queues: Mutex::default(), wake: Condvar::new(), space: Notify::new(), requests_max }
    }

    /// An answer to something the machine handed out.
    pub(crate) fn push_answer(&self, input: Input) {
        let mut queues = self.queues.lock();
        queues.others.push(Event { input, answer: None });
        self.wake(queues);
    }

    /// A caller's request.
    pub(crate) fn push_request(&self, request: RequestId, input: Input, answer: Answer) -> Result<(), Refused> {
        let mut queues = self.queues.lock();
        if queues.closed {
            return Err(Refused::Closed);
        }
        if queues.requests >= self.requests_max {
            return Err(Refused::Full);
        }
        queues.requests += 1;
        queues.others.push(Event { input, answer: Some((request, answer)) });
        self.wake(queues);
        Ok(())
    }

    /// Messages of one frame from another node; waits while too much is there.
    pub(crate) async fn push_messages(&self, class: Class, inputs: Vec<(Input, usize)>) -> Result<(), Refused> {
        let kind = usize::from(class != Class::Urgent);
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            // From here on a wake-up is not missed, even one before the await.
            space.as_mut().enable();
            {
                let mut queues = self.queues.lock();
                if queues.closed {
                    return Err(Refused::Closed);
                }
                if queues.message_bytes[kind] < MESSAGE_BYTES_MAX {
                    for (input, bytes) in inputs {
                        queues.message_bytes[kind] += bytes;
                        let event = Event { input, answer: None };
                        match class {
                            Class::Urgent => queues.urgent.push(event),
                            Class::Log | Class::Bulk => queues.others.push(event),
                        }
                    }
                    self.wake(queues);
                    return Ok(());
                }
            }
            space.await;
        }
    }

    fn wake(&self, queues: parking_lot::MutexGuard<'_, Queues>) {
        let sleeping = queues.sleeping;
        drop(queues);
        if sleeping {
            self.wake.notify_one();
        }
    }

    /// Moves everything that waits into `events`, urgent messages first; sleeps until there is something, or until
    /// `deadline`. False once the inbox is closed.
    pub(crate) fn take(&self, deadline: Option<Time>, events: &mut Vec<Event>) -> bool {
        let mut queues = self.queues.lock();
        while queues.urgent.is_empty() && queues.others.is_empty() && !queues.closed {
            queues.sleeping = true;
            let late = match deadline {
                Some(deadline) => self.wake.wait_for(&mut queues, clock::until(deadline)).timed_out(),
                None => {
                    self.wake.wait(&mut queues);
                    false
                }
            };
            queues.sleeping = false;
            if late {
                break;
            }
        }
        events.append(&mut queues.urgent);
        events.append(&mut queues.others);
        let was_full = queues.message_bytes.iter().any(|bytes| *bytes >= MESSAGE_BYTES_MAX);
        queues.message_bytes = [0; 2];
        queues.requests = 0;
        let open = !queues.closed;
        drop(queues);
        if was_full {
            self.space.notify_waiters();
        }
        open
    }

    /// Takes nothing more. What waits is forgotten with the answers that callers wait for, which tells them.
    pub(crate) fn close(&self) {
        let mut queues = self.queues.lock();
        queues.closed = true;
        queues.urgent.clear();
        queues.others.clear();
        drop(queues);
        self.wake.notify_one();
        self.space.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rockpool_engine::NodeId;

    fn message(bytes: usize) -> (Input, usize) {
        (Input::Message { from: NodeId(2), bytes: Bytes::from(vec![0; bytes]) }, bytes)
    }

    #[tokio::test]
    async fn urgent_messages_come_first_and_a_full_queue_makes_the_stream_wait() {
        let inbox = std::sync::Arc::new(Inbox::new(10));
        inbox.push_messages(Class::Log, vec![message(MESSAGE_BYTES_MAX)]).await.unwrap();
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.push_messages(Class::Bulk, vec![message(1)]).await }
        });
        inbox.push_messages(Class::Urgent, vec![message(7)]).await.unwrap();
        let mut events = Vec::new();
        assert!(inbox.take(None, &mut events));
        let sizes = |events: &[Event]| -> Vec<_> { events.iter().map(|event| event.input.to_string()).collect() };
        assert_eq!(sizes(&events)[0], "message from n2 7 bytes");
        waiting.await.unwrap().unwrap();
        events.clear();
        // The waiting frame either made it into the first take or is here now.
        inbox.push_answer(Input::Timeout);
        assert!(inbox.take(None, &mut events));
        inbox.close();
        assert!(!inbox.take(None, &mut events));
        assert_eq!(inbox.push_messages(Class::Log, vec![message(1)]).await, Err(Refused::Closed));
    }

    #[test]
    fn too_many_requests_are_refused() {
        let inbox = Inbox::new(1);
        let (answer, _kept) = oneshot::channel();
        inbox.push_request(RequestId(1), Input::Timeout, answer).unwrap();
        let (answer, _kept) = oneshot::channel();
        assert_eq!(inbox.push_request(RequestId(1), Input::Timeout, answer), Err(Refused::Full));
    }
}
