//! Time as the machine is given it: one clock that only goes forward for deadlines, one wall clock for timestamps.

use std::fmt;

/// A moment on the driver's monotonic clock, in microseconds since some start of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The moment `us` microseconds later.
    pub fn plus_us(self, us: u64) -> Time {
        Time(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment; zero when it lies in the future.
    pub fn since_us(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}ms", self.0 / 1000, self.0 % 1000)
    }
}

/// What the driver knows about time when it hands in an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock. Deadlines and elections go by it alone.
    pub time: Time,
    /// The wall clock, in microseconds since 1970. Only commit timestamps look at it, and only to move forward: a wrong one
    /// makes timestamps odd, never results wrong.
    pub wall_us: u64,
}
