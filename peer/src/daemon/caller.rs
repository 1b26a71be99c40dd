//! Whoever asked for something, and whoever wants to hear what happens.
//!
//! The loop waits for nobody, so what is said goes into a bounded queue for each connection. Part of it is kept free for
//! answers: an answer is never lost, and who is asked for too much at once is read no further ([`super::socket`]). Events
//! that find no room are counted, and the reader is told how many it missed.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::api::{ApiError, Event, Reply, ReplyBody, ReplyLine};

/// What waits for one slow reader.
pub(super) const QUEUED_MAX: usize = 1024;
/// Of these, kept free for answers.
pub(super) const ANSWERS_RESERVED: usize = 512;
/// Requests under way on one connection: the answers to all of them find room.
pub(super) const REQUESTS_MAX: usize = 256;

/// Whoever waits for an answer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    way: Arc<Way>,
}

enum Way {
    Line {
        id: u64,
        lines: mpsc::Sender<ReplyLine>,
        /// One of [`REQUESTS_MAX`], until the request is done with.
        _one: OwnedSemaphorePermit,
    },
    Queue(mpsc::Sender<ReplyBody>),
    /// Nobody: the daemon asked itself.
    Nobody,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It will be read.
    Yes,
    /// There is no room for it just now.
    Full,
    /// Nobody is there any more.
    Gone,
}

impl Caller {
    pub(super) fn line(id: u64, lines: mpsc::Sender<ReplyLine>, one: OwnedSemaphorePermit) -> Caller {
        Caller { way: Arc::new(Way::Line { id, lines, _one: one }) }
    }

    pub(super) fn queue(replies: mpsc::Sender<ReplyBody>) -> Caller {
        Caller { way: Arc::new(Way::Queue(replies)) }
    }

    pub(super) fn nobody() -> Caller {
        Caller { way: Arc::new(Way::Nobody) }
    }

    /// Says something that must not be lost; there is room for one such thing to each request.
    fn say(&self, body: ReplyBody) -> Said {
        fn said<T>(sent: Result<(), mpsc::error::TrySendError<T>>) -> Said {
            match sent {
                Ok(()) => Said::Yes,
                Err(mpsc::error::TrySendError::Full(_)) => Said::Full,
                Err(mpsc::error::TrySendError::Closed(_)) => Said::Gone,
            }
        }
        match &*self.way {
            Way::Line { id, lines, .. } => said(lines.try_send(ReplyLine { id: *id, body })),
            Way::Queue(replies) => said(replies.try_send(body)),
            Way::Nobody => Said::Yes,
        }
    }

    /// Tells of something on the way, if there is room.
    pub(super) fn event(&self, event: Event) -> Said {
        let room = match &*self.way {
            Way::Line { lines, .. } => lines.capacity(),
            Way::Queue(replies) => replies.capacity(),
            Way::Nobody => return Said::Yes,
        };
        match (self.is_gone(), room > ANSWERS_RESERVED) {
            (true, _) => Said::Gone,
            (false, true) => self.say(ReplyBody::Event(event)),
            (false, false) => Said::Full,
        }
    }

    pub(super) fn answer(&self, answer: Result<Reply, ApiError>) {
        let body = match answer {
            Ok(reply) => ReplyBody::Ok(reply),
            Err(error) => ReplyBody::Error(error),
        };
        if self.say(body) != Said::Yes {
            tracing::debug!("an answer that nobody reads");
        }
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        match &*self.way {
            Way::Line { lines, .. } => lines.is_closed(),
            Way::Queue(replies) => replies.is_closed(),
            Way::Nobody => false,
        }
    }
}

/// Whoever wants to hear everything.
pub(super) struct Subscriber {
    caller: Caller,
    /// Events that found no room since the last one that did.
    skipped: u64,
}

impl Subscriber {
    pub(super) fn new(caller: Caller) -> Subscriber {
        Subscriber { caller, skipped: 0 }
    }

    /// Says how much was missed, once there is room for that. False when nobody is there.
    pub(super) fn catch_up(&mut self) -> bool {
        if self.skipped > 0 && self.caller.event(Event::Skipped { count: self.skipped }) == Said::Yes {
            self.skipped = 0;
        }
        !self.caller.is_gone()
    }

    /// Tells of an event. False when nobody is there.
    pub(super) fn tell(&mut self, event: &Event) -> bool {
        if !self.catch_up() {
            return false;
        }
        let said = if self.skipped > 0 { Said::Full } else { self.caller.event(event.clone()) };
        match said {
            // The next progress says all that this one did.
            Said::Full if !matches!(event, Event::Progress(_)) => self.skipped += 1,
            _ => {}
        }
        said != Said::Gone
    }

    /// The last event, for which there is always room.
    pub(super) fn tell_last(mut self, event: Event) {
        self.catch_up();
        self.caller.say(ReplyBody::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_late_is_told_what_was_missed_and_hears_on() {
        let (replies, mut read) = mpsc::channel(QUEUED_MAX);
        let caller = Caller::queue(replies);
        let mut subscriber = Subscriber::new(caller.clone());
        let event = |number: usize| Event::Warning { text: number.to_string() };
        for number in 0..QUEUED_MAX + 88 {
            assert!(subscriber.tell(&event(number)));
        }
        // However many events wait, an answer finds room.
        caller.answer(Ok(Reply::Done));
        let mut last = None;
        while let Ok(body) = read.try_recv() {
            last = Some(body);
        }
        assert!(matches!(last, Some(ReplyBody::Ok(Reply::Done))));
        assert!(subscriber.tell(&event(7)));
        let missed = (QUEUED_MAX + 88 - (QUEUED_MAX - ANSWERS_RESERVED)) as u64;
        assert!(matches!(read.try_recv(), Ok(ReplyBody::Event(Event::Skipped { count })) if count == missed));
        assert!(matches!(read.try_recv(), Ok(ReplyBody::Event(Event::Warning { text })) if text == "7"));
        drop(read);
        assert!(!subscriber.tell(&event(8)));
    }
}
