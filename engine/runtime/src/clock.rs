//! The operating system's clocks. The only file in the engine that reads them.

use rockpool_engine::{Now, Time};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks, now.
///
/// Deadlines and elections go by `CLOCK_BOOTTIME`: it runs on while the machine sleeps, so a leader that wakes up knows
/// that its time is over, and nobody can set it.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let time = Time(boot.tv_sec as u64 * 1_000_000 + boot.tv_nsec as u64 / 1_000);
    // A wall clock before 1970 reads as 1970: timestamps then run on their counter.
    let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    Now { time, wall_us }
}

/// How long from now until `time`; zero when it has passed.
pub(crate) fn until(time: Time) -> Duration {
    Duration::from_micros(time.since_us(now().time))
}

/// Microseconds since `earlier`.
pub(crate) fn since_us(earlier: Time) -> u64 {
    now().time.since_us(earlier)
}
