//! How far back people may look.
//!
//! What was the last commit ten minutes ago? Timestamps can't say: they follow a wall clock that may jump by an hour, or
//! stand still while a wrong one is waited for. So each node notes its last commit now and then, with the time of a clock that
//! nobody sets. A transaction begun since then reads at that commit or later, on whichever node, so all before it may be
//! collected. A node that has not run for so long has nothing to say, and nothing is collected meanwhile.

use rockpool_engine::{Time, Timestamp};
use std::collections::VecDeque;

/// Notes kept at most; with more, the oldest goes, and old versions stay a little longer than they need to.
const NOTES_MAX: usize = 1_024;

/// When this node last saw which commit.
#[derive(Debug, Default)]
pub(crate) struct Past {
    notes: VecDeque<(Time, Timestamp)>,
}

impl Past {
    /// The last commit applied here is this, now.
    pub(crate) fn note(&mut self, now: Time, last_commit: Timestamp) {
        self.notes.push_back((now, last_commit));
        if self.notes.len() > NOTES_MAX {
            // Not the front: that one may be the only one old enough.
            self.notes.remove(1);
        }
    }

    /// A commit that was the last one `keep_us` ago, or longer; nothing when none is known.
    pub(crate) fn before(&mut self, now: Time, keep_us: u64) -> Option<Timestamp> {
        while self.notes.get(1).is_some_and(|(noted, _)| now.since_us(*noted) >= keep_us) {
            self.notes.pop_front();
        }
        let (noted, last_commit) = self.notes.front()?;
        (now.since_us(*noted) >= keep_us).then_some(*last_commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn nothing_younger_than_what_is_kept_is_collected_whatever_the_wall_clock_does() {
        let mut past = Past::default();
        let at = |second: u64| Time(second * SECOND_US);
        // The wall clock jumps by an hour at 300 s, and back at 600 s: from then on the counter runs.
        let hour_ms = 3_600_000;
        let commit = |second: u64| match second {
            0..300 => Timestamp::from_wall_us(second * SECOND_US),
            300..600 => Timestamp::from_wall_us(second * SECOND_US + hour_ms * 1_000),
            _ => Timestamp(Timestamp::from_wall_us(599 * SECOND_US + hour_ms * 1_000).0 + second),
        };
        for second in (0..2_000).step_by(30) {
            past.note(at(second), commit(second));
            let expected = second.checked_sub(600).map(commit);
            assert_eq!(past.before(at(second), 600 * SECOND_US), expected, "at {second} s");
        }
    }

    #[test]
    fn notes_are_bounded() {
        let mut past = Past::default();
        for second in 0..5_000 {
            past.note(Time(second * SECOND_US), Timestamp(second));
        }
        assert_eq!(past.notes.len(), NOTES_MAX);
        assert_eq!(past.before(Time(5_000 * SECOND_US), 5_000 * SECOND_US), Some(Timestamp(0)));
    }
}
