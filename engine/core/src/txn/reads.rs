//! What a transaction read, kept small.
//!
//! Single keys stay single up to a bound; beyond it they are gathered into spans that cover them, and spans into wider ones.
//! That never misses a conflict, it only finds some that were none.

use super::{ReadSet, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Single keys remembered before they are gathered into spans.
const READ_KEYS_MAX: usize = 4_096;
/// Bytes of single keys remembered before they are gathered into spans.
const READ_KEYS_BYTES_MAX: usize = 1 << 20;
/// Spans remembered before neighbours are joined.
const READ_SPANS_MAX: usize = 1_024;
/// Bytes of spans that are handed to the leader.
const READ_SPANS_BYTES_MAX: usize = 4 << 20;
/// Keys in a row that become one span.
const KEYS_PER_SPAN: usize = 64;

/// Gathers what a transaction reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    keys: BTreeSet<Vec<u8>>,
    keys_bytes: usize,
    /// Start to end; disjoint.
    spans: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Reads {
    /// A key was looked up.
    pub(super) fn key(&mut self, key: &[u8]) {
        if self.covered(key) || self.keys.contains(key) {
            return;
        }
        self.keys_bytes += key.len();
        self.keys.insert(key.to_vec());
        if self.keys.len() > READ_KEYS_MAX || self.keys_bytes > READ_KEYS_BYTES_MAX {
            self.gather_keys();
        }
    }

    /// Everything with `start <= key < end` was looked at.
    pub(super) fn span(&mut self, start: Vec<u8>, end: Vec<u8>) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // Join with what overlaps or touches: the one that begins before, and those that begin inside.
        if let Some((before, before_end)) = self.spans.range(..=start.clone()).next_back()
            && *before_end >= start
        {
            start = before.clone();
            end = end.max(before_end.clone());
        }
        while let Some((inside, inside_end)) = self.spans.range(start.clone()..=end.clone()).next() {
            let (inside, inside_end) = (inside.clone(), inside_end.clone());
            self.spans.remove(&inside);
            end = end.max(inside_end);
        }
        self.spans.insert(start, end);
        if self.spans.len() > READ_SPANS_MAX {
            self.join_spans();
        }
    }

    /// The read set: keys that no span covers, and the spans.
    pub(super) fn into_set(mut self) -> ReadSet {
        let keys = std::mem::take(&mut self.keys);
        while self.spans.len() > 1 && self.spans_bytes() > READ_SPANS_BYTES_MAX {
            self.join_spans();
        }
        let keys = keys.into_iter().filter(|key| !self.covered(key)).collect();
        let spans = self.spans.into_iter().map(|(start, end)| Span { start, end }).collect();
        ReadSet { keys, spans }
    }

    fn spans_bytes(&self) -> usize {
        self.spans.iter().map(|(start, end)| start.len() + end.len()).sum()
    }

    fn covered(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        self.spans.range::<[u8], _>(upto).next_back().is_some_and(|(_, end)| key < end.as_slice())
    }

    fn gather_keys(&mut self) {
        let keys: Vec<Vec<u8>> = std::mem::take(&mut self.keys).into_iter().collect();
        self.keys_bytes = 0;
        for run in keys.chunks(KEYS_PER_SPAN) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.span(first.clone(), after(last));
            }
        }
    }

    fn join_spans(&mut self) {
        let spans: Vec<(Vec<u8>, Vec<u8>)> = std::mem::take(&mut self.spans).into_iter().collect();
        for pair in spans.chunks(2) {
            if let (Some((start, _)), Some((_, end))) = (pair.first(), pair.last()) {
                self.spans.insert(start.clone(), end.clone());
            }
        }
    }
}

/// The first key after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_read_set_covers_what_was_read(
            ops in proptest::collection::vec((0u8..40, 0u8..40, any::<bool>()), 0..60),
        ) {
            let mut reads = Reads::default();
            let mut expected = BTreeSet::new();
            for (a, b, single) in ops {
                if single {
                    reads.key(&[a]);
                    expected.insert(a);
                } else {
                    reads.span(vec![a], vec![b]);
                    expected.extend(a..b);
                }
            }
            let set = reads.into_set();
            for window in set.spans.windows(2) {
                prop_assert!(window[0].end < window[1].start, "disjoint and in order");
            }
            for key in 0..40u8 {
                let spanned = set.spans.iter().any(|span| span.start <= vec![key] && vec![key] < span.end);
                prop_assert_eq!(spanned || set.keys.contains(&vec![key]), expected.contains(&key));
                prop_assert!(!(spanned && set.keys.contains(&vec![key])), "said once");
            }
        }
    }

    #[test]
    fn long_spans_become_fewer() {
        let mut reads = Reads::default();
        let key = |number: u16| [&number.to_be_bytes()[..], &[7; 16_000]].concat();
        for number in 0..1_000 {
            reads.span(key(2 * number), key(2 * number + 1));
        }
        let set = reads.into_set();
        let bytes: usize = set.spans.iter().map(|span| span.start.len() + span.end.len()).sum();
        assert!(bytes <= READ_SPANS_BYTES_MAX && set.spans.len() > 1, "{bytes}");
        assert!(
            (0..1_000)
                .all(|number| set.spans.iter().any(|span| span.start <= key(2 * number) && key(2 * number) < span.end))
        );
    }

    #[test]
    fn many_reads_become_few_spans() {
        let mut reads = Reads::default();
        for key in 0..100_000u32 {
            reads.key(&(key * 7).to_be_bytes());
        }
        let set = reads.into_set();
        assert!(set.keys.len() <= READ_KEYS_MAX && set.spans.len() <= READ_SPANS_MAX);
        for key in (0..100_000u32).map(|key| (key * 7).to_be_bytes().to_vec()) {
            let spanned = set.spans.iter().any(|span| span.start <= key && key < span.end);
            assert!(spanned || set.keys.contains(&key));
        }
    }
}
