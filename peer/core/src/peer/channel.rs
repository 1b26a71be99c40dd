//! A data channel: its greeting, and what is on it.
//!
//! The first message of a channel may get lost at some WebRTC stacks although the channel says that it is open. So both
//! sides greet, repeat it until answered, and send nothing else before.

use std::time::Duration;

use crate::negotiation::ConnectionId;
use crate::time::Time;

const GREET_EVERY: Duration = Duration::from_secs(1);

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
    /// Given to the driver and not yet taken by the channel.
    pub(super) unsent_bytes: u64,
}

impl Channel {
    pub(super) fn new(connection: ConnectionId) -> Channel {
        Channel { connection, open: false, greeted: false, answered: false, greet_at: None, unsent_bytes: 0 }
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
        self.greet_at.filter(|_| self.open)
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
