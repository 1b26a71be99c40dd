//! The commits that the leader remembers, to check transactions against.
//!
//! Every replica keeps the window as it applies, so that a new leader can validate at once. What the leader has proposed but
//! not applied lies on top; when it is deposed that part is dropped, because the new leader decides what becomes of it.

use super::{Span, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// What remembering a key costs beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 64;

/// Commits with the keys they wrote.
#[derive(Debug, Default)]
struct Layer {
    /// The last commit of each key.
    by_key: BTreeMap<Vec<u8>, Timestamp>,
    /// In order.
    commits: VecDeque<(Timestamp, Vec<Vec<u8>>)>,
    bytes: usize,
}

impl Layer {
    fn push(&mut self, timestamp: Timestamp, keys: Vec<Vec<u8>>) {
        for key in &keys {
            self.bytes += key.len() + KEY_OVERHEAD_BYTES;
            self.by_key.insert(key.clone(), timestamp);
        }
        self.commits.push_back((timestamp, keys));
    }

    fn pop(&mut self) -> Option<(Timestamp, Vec<Vec<u8>>)> {
        let (timestamp, keys) = self.commits.pop_front()?;
        for key in &keys {
            self.bytes -= key.len() + KEY_OVERHEAD_BYTES;
            if self.by_key.get(key) == Some(&timestamp) {
                self.by_key.remove(key);
            }
        }
        Some((timestamp, keys))
    }

    fn written_since(&self, key: &[u8], since: Timestamp) -> bool {
        self.by_key.get(key).is_some_and(|&at| at > since)
    }

    fn span_written_since(&self, span: &Span, since: Timestamp) -> Option<&[u8]> {
        if span.start >= span.end {
            return None;
        }
        let mut range = self.by_key.range::<[u8], _>((
            std::ops::Bound::Included(span.start.as_slice()),
            std::ops::Bound::Excluded(span.end.as_slice()),
        ));
        range.find(|(_, at)| **at > since).map(|(key, _)| key.as_slice())
    }
}

/// Recent commits of a group.
#[derive(Debug)]
pub(crate) struct Window {
    applied: Layer,
    proposed: Layer,
    /// Every commit after this is remembered.
    complete_since: Timestamp,
    commits_max: usize,
    bytes_max: usize,
}

impl Window {
    /// An empty window: nothing is known of commits up to `complete_since`.
    pub(crate) fn new(complete_since: Timestamp, commits_max: usize, bytes_max: usize) -> Self {
        Window { applied: Layer::default(), proposed: Layer::default(), complete_since, commits_max, bytes_max }
    }

    /// A state up to this timestamp was put in place of the one that the window went with.
    pub(crate) fn restart(&mut self, complete_since: Timestamp) {
        *self = Window::new(complete_since, self.commits_max, self.bytes_max);
    }

    /// The leader proposed a commit.
    pub(crate) fn propose(&mut self, timestamp: Timestamp, keys: Vec<Vec<u8>>) {
        self.proposed.push(timestamp, keys);
    }

    /// A commit was applied. Proposals up to its timestamp are decided.
    pub(crate) fn apply(&mut self, timestamp: Timestamp, keys: Vec<Vec<u8>>) {
        while self.proposed.commits.front().is_some_and(|(at, _)| *at <= timestamp) {
            self.proposed.pop();
        }
        self.applied.push(timestamp, keys);
        while self.applied.commits.len() > self.commits_max || self.applied.bytes > self.bytes_max {
            let Some((dropped, _)) = self.applied.pop() else { break };
            self.complete_since = dropped;
        }
    }

    /// The leader was deposed, or its proposals are known to have ended without effect.
    pub(crate) fn drop_proposals(&mut self) {
        self.proposed = Layer::default();
    }

    /// Whether all commits after `since` are remembered.
    pub(super) fn reaches(&self, since: Timestamp) -> bool {
        since >= self.complete_since
    }

    /// Whether an applied commit after `since` wrote the key.
    pub(super) fn key_applied_since(&self, key: &[u8], since: Timestamp) -> bool {
        self.applied.written_since(key, since)
    }

    /// Whether a proposed commit after `since` writes the key.
    pub(super) fn key_proposed_since(&self, key: &[u8], since: Timestamp) -> bool {
        self.proposed.written_since(key, since)
    }

    /// A key of the span that an applied commit after `since` wrote.
    pub(super) fn span_applied_since(&self, span: &Span, since: Timestamp) -> Option<&[u8]> {
        self.applied.span_written_since(span, since)
    }

    /// Whether a proposed commit after `since` writes a key of the span.
    pub(super) fn span_proposed_since(&self, span: &Span, since: Timestamp) -> bool {
        self.proposed.span_written_since(span, since).is_some()
    }
}
