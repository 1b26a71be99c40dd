//! What happened, line by line, and a hash of all of it.

use rockpool_engine::Time;
use std::collections::BTreeMap;
use std::fmt::{Arguments, Write};

/// The lines of a run.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
    print: bool,
    text: String,
    /// How often each rare thing happened, to see what the seeds never visit.
    marks: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// An empty trace. `print` writes each line to standard output as well.
    pub(crate) fn new(print: bool) -> Trace {
        Trace { hasher: blake3::Hasher::new(), lines: 0, print, text: String::new(), marks: BTreeMap::new() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: Time, who: impl std::fmt::Display, what: Arguments<'_>) {
        self.text.clear();
        let _ = write!(self.text, "{:>12} {who:<4} {what}", now.0);
        self.hasher.update(self.text.as_bytes()).update(b"\n");
        self.lines += 1;
        if self.print {
            println!("{}  {}", self.text, &self.hash()[..8]);
        }
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
