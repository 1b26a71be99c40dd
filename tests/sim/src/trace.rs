//! What happened, line by line, and a hash of all of it.

use rockpool_engine::Time;
use std::collections::BTreeMap;
use std::fmt::{Arguments, Write};

/// Prints a line. Ends the program quietly when nobody reads any more, as in `rockpool-sim --seed 1 --trace | head`.
pub fn say(line: Arguments<'_>) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        // As the signal would have it: not a success.
        std::process::exit(141);
    }
}

/// Prints a line, like `println!`; see [`say`](crate::say()).
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::say(format_args!($($words)*)) };
}

/// The lines of a run.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
    print: bool,
    text: String,
    /// How often each rare thing happened, to see what the seeds never visit.
    marks: BTreeMap<&'static str, u64>,
}

/// The rare things that are counted, so that one that never happens is printed as such.
const MARKS: &[&str] = &[
    mark::COLLECTED,
    mark::CONFLICT,
    mark::DEAFENED,
    mark::ELECTED,
    mark::FATE_ASKED,
    mark::FATE_COMMITTED,
    mark::FATE_ABORTED,
    mark::FULL_DISK,
    mark::HANDED_OVER,
    mark::IMPATIENT,
    mark::JOINED,
    mark::JUMPED,
    mark::KILLED,
    mark::LOG_CUT,
    mark::ONE_WAY,
    mark::PARTED,
    mark::PAUSED,
    mark::REMOVED,
    mark::RETRIED,
    mark::SILENCED,
    mark::SLOW_DISK,
    mark::SNAPSHOT_GIVEN_UP,
    mark::SNAPSHOT_INSTALLED,
    mark::SNAPSHOT_SENT,
    mark::STATES_COMPARED,
    mark::TOO_OLD,
    mark::UNREADABLE,
    mark::WRITES_LOST,
];

/// What can be counted.
pub(crate) mod mark {
    pub(crate) const COLLECTED: &str = "old versions were collected";
    pub(crate) const CONFLICT: &str = "a transaction met a conflict";
    pub(crate) const DEAFENED: &str = "a node heard nobody";
    pub(crate) const ELECTED: &str = "a leader was elected";
    pub(crate) const FATE_ASKED: &str = "a lost outcome was asked for";
    pub(crate) const FATE_COMMITTED: &str = "a lost outcome was: committed";
    pub(crate) const FATE_ABORTED: &str = "a lost outcome was: aborted";
    pub(crate) const FULL_DISK: &str = "a full disk stopped a node";
    pub(crate) const HANDED_OVER: &str = "leadership was handed over";
    pub(crate) const IMPATIENT: &str = "a client ran out of patience";
    pub(crate) const JOINED: &str = "a node joined under load";
    pub(crate) const JUMPED: &str = "a clock jumped";
    pub(crate) const KILLED: &str = "a node was killed";
    pub(crate) const LOG_CUT: &str = "a log was cut";
    pub(crate) const ONE_WAY: &str = "a link worked one way only";
    pub(crate) const PARTED: &str = "the network was parted";
    pub(crate) const PAUSED: &str = "a node was paused";
    pub(crate) const REMOVED: &str = "a node was removed under load";
    pub(crate) const RETRIED: &str = "a transaction was told to run again";
    pub(crate) const SILENCED: &str = "a node was heard by nobody";
    pub(crate) const SLOW_DISK: &str = "a disk was slow";
    pub(crate) const SNAPSHOT_GIVEN_UP: &str = "a snapshot was given up";
    pub(crate) const SNAPSHOT_INSTALLED: &str = "a snapshot was installed";
    pub(crate) const SNAPSHOT_SENT: &str = "a snapshot was sent";
    pub(crate) const STATES_COMPARED: &str = "two replicas' states were compared";
    pub(crate) const TOO_OLD: &str = "a transaction came too late to read";
    pub(crate) const UNREADABLE: &str = "a message could not be read";
    pub(crate) const WRITES_LOST: &str = "a kill lost writes";
}

impl Trace {
    /// An empty trace. `print` writes each line to standard output as well.
    pub(crate) fn new(print: bool) -> Trace {
        let marks = MARKS.iter().map(|mark| (*mark, 0)).collect();
        Trace { hasher: blake3::Hasher::new(), lines: 0, print, text: String::new(), marks }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: Time, who: impl std::fmt::Display, what: Arguments<'_>) {
        self.text.clear();
        let _ = write!(self.text, "{:>12} {who:<4} {what}", now.0);
        self.hasher.update(self.text.as_bytes()).update(b"\n");
        self.lines += 1;
        if self.print {
            say(format_args!("{}  {}", self.text, &self.hash()[..8]));
        }
    }

    /// Adds what is too long to print to the hash of the next line.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Counts something rare.
    pub(crate) fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// How often each rare thing happened.
    pub(crate) fn marks(&self) -> &BTreeMap<&'static str, u64> {
        &self.marks
    }

    /// Hex hash of all lines so far.
    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_string()
    }

    /// How many lines.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }
}
