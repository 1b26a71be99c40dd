//! Where time and chance come from.
//!
//! One trait, so that a test can move the clock of a whole node by an hour and the simulator can own both.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clock and the randomness that a node uses for what it stores.
pub trait Environment: Send + Sync {
    /// Wall time in microseconds since 1970-01-01 UTC.
    fn now_us(&self) -> i64;

    /// Fills `bytes` with bytes that nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]);
}

impl dyn Environment + '_ {
    /// An array of bytes that nobody can guess.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }
}

/// The operating system's clock and generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now_us(&self) -> i64 {
        // A clock before 1970 reads as 1970: such a node issues tokens that are expired everywhere, and harms nobody.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("a kernel that gives no randomness can't run a node that hands out secrets");
    }
}

/// The system's clock, moved by a distance that can be changed while the node runs.
#[derive(Debug, Default)]
pub struct ShiftedEnvironment {
    shift_us: AtomicI64,
}

impl ShiftedEnvironment {
    /// Moves the clock by so much more, forward or back.
    pub fn shift_by_us(&self, distance_us: i64) {
        self.shift_us.fetch_add(distance_us, Ordering::SeqCst);
    }
}

impl Environment for ShiftedEnvironment {
    fn now_us(&self) -> i64 {
        SystemEnvironment.now_us().saturating_add(self.shift_us.load(Ordering::SeqCst))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        SystemEnvironment.fill_random(bytes);
    }
}
