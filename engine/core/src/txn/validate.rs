//! The commit check: the one place where a transaction is admitted or turned away.
//!
//! A transaction that read at timestamp R and would commit now is serializable at its commit timestamp if nothing that it
//! read was written between the two: then it would have read the same there. Its writes are checked as well, so that two
//! blind writers of a key do not both think they were first. Only a leader that has applied everything from before its term
//! may ask. What it has proposed since counts as written, but is not decided: a transaction that only that stands against
//! has to wait, because "conflict" is final, and a deposed leader's proposals may come to nothing.

use super::CommitRequest;
use super::window::Window;
use crate::config::Validation;

/// What the check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may commit.
    Admitted,
    /// This key was written since.
    Conflict(Vec<u8>),
    /// Something proposed stands against it: ask again when that is applied.
    Wait,
    /// Its read timestamp lies before what is remembered.
    TooOld,
}

/// Checks a transaction against the commits since its read timestamp.
pub(crate) fn validate(window: &Window, request: &CommitRequest, validation: Validation) -> Verdict {
    let since = request.read_timestamp;
    if !window.reaches(since) {
        return Verdict::TooOld;
    }
    let (keys, spans) = match validation {
        Validation::Full | Validation::BrokenAckEarly => (Some(&request.reads.keys), request.reads.spans.as_slice()),
        Validation::BrokenSkipReads => (None, &[][..]),
    };
    let mut touched = request.writes.keys().chain(keys.into_iter().flatten());
    let conflict = touched
        .clone()
        .find(|key| window.key_applied_since(key, since))
        .map(Vec::as_slice)
        .or_else(|| spans.iter().find_map(|span| window.span_applied_since(span, since)));
    if let Some(key) = conflict {
        return Verdict::Conflict(key.to_vec());
    }
    let undecided = touched.any(|key| window.key_proposed_since(key, since))
        || spans.iter().any(|span| window.span_proposed_since(span, since));
    if undecided { Verdict::Wait } else { Verdict::Admitted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{ReadSet, Span, Timestamp, TxnId};
    use rockpool_proto::GroupId;
    use std::collections::{BTreeMap, BTreeSet};

    fn request(at: u64, keys: &[&str], spans: &[(&str, &str)], writes: &[&str]) -> CommitRequest {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        CommitRequest {
            group: GroupId(1),
            txn: TxnId([0; 16]),
            read_timestamp: Timestamp(at),
            reads: ReadSet {
                keys: keys.iter().map(bytes).collect::<BTreeSet<_>>(),
                spans: spans.iter().map(|(start, end)| Span { start: bytes(start), end: bytes(end) }).collect(),
            },
            writes: writes.iter().map(|key| (bytes(key), None)).collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn what_was_written_since_conflicts() {
        let mut window = Window::new(Timestamp(10), 2, 1 << 20);
        window.apply(Timestamp(11), vec![b"a".to_vec()]);
        window.propose(Timestamp(12), vec![b"m".to_vec()]);
        let conflict = |key: &str| Verdict::Conflict(key.as_bytes().to_vec());
        let full = |request: CommitRequest| validate(&window, &request, Validation::Full);

        assert_eq!(full(request(11, &["a"], &[], &["z"])), Verdict::Admitted, "seen");
        assert_eq!(full(request(10, &["a"], &[], &["z"])), conflict("a"));
        assert_eq!(full(request(10, &[], &[], &["a"])), conflict("a"), "a blind write");
        assert_eq!(full(request(10, &[], &[("a", "b")], &["z"])), conflict("a"));
        assert_eq!(full(request(11, &["m"], &[], &["z"])), Verdict::Wait, "proposed");
        assert_eq!(full(request(11, &[], &[("b", "n")], &["z"])), Verdict::Wait);
        assert_eq!(full(request(10, &["a", "m"], &[], &["z"])), conflict("a"), "what is decided comes first");
        assert_eq!(full(request(11, &[], &[("b", "m")], &["z"])), Verdict::Admitted, "the end is outside");
        assert_eq!(full(request(9, &[], &[], &["z"])), Verdict::TooOld);
        let skewed = request(11, &["m"], &[], &["z"]);
        assert_eq!(validate(&window, &skewed, Validation::BrokenSkipReads), Verdict::Admitted, "the mutant");
    }

    #[test]
    fn the_window_forgets_the_oldest_and_says_so() {
        let mut window = Window::new(Timestamp(0), 2, 1 << 20);
        for at in 1..=3 {
            window.apply(Timestamp(at), vec![vec![at as u8]]);
        }
        assert_eq!(validate(&window, &request(0, &[], &[], &["z"]), Validation::Full), Verdict::TooOld);
        assert_eq!(validate(&window, &request(1, &[], &[], &["z"]), Validation::Full), Verdict::Admitted);
        window.propose(Timestamp(9), vec![b"q".to_vec()]);
        assert!(window.key_proposed_since(b"q", Timestamp(3)));
        window.drop_proposals();
        assert!(!window.key_proposed_since(b"q", Timestamp(3)), "a phantom commit must not conflict for ever");
    }
}
