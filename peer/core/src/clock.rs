//! The hybrid clock: follows the wall clock, never goes back, and never falls behind what it has seen.
//!
//! An answer sorts behind what it answers, also where clocks disagree: whatever is seen pulls our clock forward. A clock
//! that is an hour off is pulled along and does no harm. One that is off by more than `AHEAD_MS_MAX` doesn't pull, or one
//! device set to the year 2100 would take everybody there; its entries still sort by what they say, the same way on every
//! device.

use crate::entry::HybridTime;

/// How far ahead of our wall clock an entry may pull our hybrid clock: clocks may be a day apart, and time zones differ by
/// 26 hours at most.
pub(crate) const AHEAD_MS_MAX: u64 = 26 * 3600 * 1000;

#[derive(Debug, Default)]
pub(crate) struct HybridClock {
    latest: HybridTime,
}

impl HybridClock {
    /// A time for a new entry: later than all before.
    pub(crate) fn tick(&mut self, wall_ms: u64) -> HybridTime {
        let next = HybridTime { ms: wall_ms, counter: 0 };
        self.latest = if next > self.latest { next } else { successor(self.latest) };
        self.latest
    }

    /// Takes note of an entry's time.
    pub(crate) fn observe(&mut self, time: HybridTime, wall_ms: u64) {
        if time.ms <= wall_ms.saturating_add(AHEAD_MS_MAX) {
            self.latest = self.latest.max(time);
        }
    }

    /// Takes note of an own entry: our own chain must grow, whatever our clock says now.
    pub(crate) fn observe_own(&mut self, time: HybridTime) {
        self.latest = self.latest.max(time);
    }
}

fn successor(time: HybridTime) -> HybridTime {
    match time.counter.checked_add(1) {
        Some(counter) => HybridTime { ms: time.ms, counter },
        None => HybridTime { ms: time.ms.saturating_add(1), counter: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ms: u64, counter: u32) -> HybridTime {
        HybridTime { ms, counter }
    }

    #[test]
    fn times_grow_when_the_wall_clock_stands_or_goes_back() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.tick(100), time(100, 0));
        assert_eq!(clock.tick(100), time(100, 1));
        assert_eq!(clock.tick(90), time(100, 2));
        assert_eq!(clock.tick(101), time(101, 0));
        clock.observe_own(time(101, u32::MAX));
        assert_eq!(clock.tick(50), time(102, 0));
    }

    #[test]
    fn a_clock_an_hour_ahead_pulls_and_one_a_year_ahead_does_not() {
        let (hour, year) = (3_600_000, 365 * 24 * 3_600_000);
        let mut clock = HybridClock::default();
        clock.observe(time(hour + 5, 3), 5);
        assert_eq!(clock.tick(6), time(hour + 5, 4), "an answer sorts behind what it answers");
        clock.observe(time(year, 0), 7);
        assert_eq!(clock.tick(8), time(hour + 5, 5));
    }
}
