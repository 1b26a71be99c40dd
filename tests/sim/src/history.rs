//! What clients did and were told.

use rockpool_engine::kv::Pair;
use rockpool_engine::{RequestId, Time, Timestamp, TxnId};
use std::fmt;

/// Something that a transaction saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One key.
    Key(Vec<u8>, Option<Vec<u8>>),
    /// All keys from a start to an end.
    Span(Vec<u8>, Vec<u8>, Vec<Pair>),
}

/// What became of a transaction, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It took effect at this timestamp.
    Committed(Timestamp),
    /// It wrote nothing and saw the state at this timestamp.
    Read(Timestamp),
    /// It took no effect.
    Aborted,
    /// The client does not know (yet).
    Unknown,
}

/// One transaction.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which client.
    pub client: u64,
    /// What it was for.
    pub what: &'static str,
    /// Its id.
    pub txn: TxnId,
    /// Its read timestamp.
    pub read_timestamp: Timestamp,
    /// When the client asked for it to begin.
    pub invoked: Time,
    /// When the client had its outcome.
    pub returned: Option<Time>,
    /// What it saw.
    pub reads: Vec<Read>,
    /// What it wrote.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Read::Key(key, seen) => write!(f, "{}={}", text(key), option(seen.as_ref())),
            Read::Span(start, end, seen) => write!(f, "{}..{} [{}]", text(start), text(end), pairs(seen)),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {} read", self.what, self.txn, self.read_timestamp)?;
        self.reads.iter().try_for_each(|read| write!(f, " {read}"))?;
        write!(f, "; wrote")?;
        self.writes.iter().try_for_each(|(key, value)| write!(f, " {}={}", text(key), option(value.as_ref())))?;
        match self.fate {
            Fate::Committed(at) => write!(f, "; committed@{at}"),
            Fate::Read(_) => Ok(()),
            Fate::Aborted => write!(f, "; aborted"),
            Fate::Unknown => write!(f, "; unknown"),
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn option(value: Option<&Vec<u8>>) -> String {
    value.map_or("nothing".into(), |value| text(value))
}

pub(crate) fn pairs(pairs: &[Pair]) -> String {
    pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
}

/// Numbers for requests: never used twice in a run.
#[derive(Debug, Default)]
pub(crate) struct Requests(u64);

impl Requests {
    pub(crate) fn next(&mut self) -> RequestId {
        self.0 += 1;
        RequestId(self.0)
    }
}
