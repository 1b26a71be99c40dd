//! A data channel: its greeting, and what is on it.
//!
//! The first message of a channel may get lost at some WebRTC stacks although the channel says that it is open. So both
//! sides greet, repeat it until answered, and send nothing else before. A channel that gets no answer is given up.

use std::time::Duration;

use crate::negotiation::ConnectionId;
use crate::time::Time;

const GREET_EVERY: Duration = Duration::from_secs(1);
/// From the connection to the greeting's answer.
const READY_MAX: Duration = Duration::from_secs(20);

/// The data channel of one connection whose certificate was right.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) connection: ConnectionId,
    /// May be sent on.
    open: bool,
    /// Their greeting has come.
    greeted: bool,
    /// Ours was answered.
    answered: bool,
    greet_at: Option<Time>,
    ready_until: Time,
    /// New entries were not sent on it, because it was busy.
    pub(super) owes_entries: bool,
    /// Given to the driver and not yet taken by the channel.
    pub(super) unsent_bytes: u64,
}

impl Channel {
    pub(super) fn new(connection: ConnectionId, now: Time) -> Channel {
        Channel {
            connection,
            open: false,
            greeted: false,
            answered: false,
            greet_at: None,
            ready_until: now.after(READY_MAX),
            owes_entries: false,
            unsent_bytes: 0,
        }
    }

    pub(super) fn handle_open(&mut self, now: Time) {
        self.open = true;
        if !self.answered {
            self.greet_at = Some(now);
        }
    }

    /// Whether the greeting is due now.
    pub(super) fn take_greeting(&mut self, now: Time) -> bool {
        let due = self.open && self.greet_at.is_some_and(|at| at <= now);
        if due {
            self.greet_at = Some(now.after(GREET_EVERY));
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let until = (!self.is_ready()).then_some(self.ready_until);
        self.greet_at.filter(|_| self.open).into_iter().chain(until).min()
    }

    /// The other side had its time to answer.
    pub(super) fn is_late(&self, now: Time) -> bool {
        !self.is_ready() && self.ready_until <= now
    }

    /// Marks their greeting; says whether the channel is ready by that.
    pub(super) fn handle_greeting(&mut self) -> bool {
        let before = self.is_ready();
        self.greeted = true;
        !before && self.is_ready()
    }

    /// Marks the answer to ours; says whether the channel is ready by that.
    pub(super) fn handle_answer(&mut self) -> bool {
        let before = self.is_ready();
        self.answered = true;
        self.greet_at = None;
        !before && self.is_ready()
    }

    /// Both directions work: anything may be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.open && self.greeted && self.answered
    }

    /// They greeted: what they say may be looked at.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }
}
