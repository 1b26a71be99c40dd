//! Hybrid timestamps: milliseconds of wall clock in the upper bits, a counter in the lower sixteen.
//!
//! Within a group they increase strictly in log order, because the leader gives each transaction the larger of its wall
//! clock and "one more than the last". A clock that goes back, or a leader whose clock is behind, only makes the counter run.

use std::fmt;

/// Bits of the counter.
const COUNTER_BITS: u32 = 16;
/// A clock beyond this (it is the year 6429) counts as standing here, so that timestamps never run out.
const WALL_MS_MAX: u64 = 1 << 47;

/// When a transaction's writes took effect, or up to when a reader looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before every commit.
    pub const ZERO: Timestamp = Timestamp(0);
    /// After every commit.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The first timestamp of a wall clock's millisecond.
    pub fn from_wall_us(wall_us: u64) -> Timestamp {
        Timestamp((wall_us / 1000).min(WALL_MS_MAX) << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The timestamp right after this one.
    pub fn next(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1))
    }

    /// The timestamp of a commit made at this wall clock, after every one up to `self`.
    pub fn advance(self, wall_us: u64) -> Timestamp {
        self.next().max(Timestamp::from_wall_us(wall_us))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_only_makes_the_counter_run() {
        let first = Timestamp::ZERO.advance(5_000_000);
        assert_eq!(first.to_string(), "5000.0");
        let second = first.advance(1_000_000);
        assert_eq!(second.to_string(), "5000.1");
        assert_eq!(second.advance(5_001_999).to_string(), "5001.0");
    }

    #[test]
    fn a_clock_at_the_end_of_time_leaves_room_for_more_commits() {
        let first = Timestamp::ZERO.advance(u64::MAX);
        let second = first.advance(u64::MAX);
        assert!(first < second && second < second.advance(0), "{first} {second}");
    }
}
