//! A few seeds, each twice, and the mutants that must be convicted. `make simulate` runs more.

use rockpool_sim::{Mutant, Settings, run};

#[test]
fn seeds_pass_and_repeat_exactly() {
    let mut transactions = 0;
    for seed in 1..=12 {
        let first = run(seed, Settings::default());
        assert_eq!(first.failure, None, "seed {seed}");
        transactions += first.transactions;
        let second = run(seed, Settings::default());
        assert_eq!((first.trace_lines, first.trace_hash), (second.trace_lines, second.trace_hash), "seed {seed}");
    }
    // A single wild one may do little, on slow disks and links that fail.
    assert!(transactions > 5_000, "the seeds did next to nothing: {transactions} transactions");
}

#[test]
fn different_seeds_are_different_runs() {
    assert_ne!(run(1, Settings::default()).trace_hash, run(2, Settings::default()).trace_hash);
}

/// Whether one of the seeds convicts a mistake made on purpose.
fn convicted(mutant: Mutant) -> bool {
    let settings = Settings { mutant: Some(mutant), ..Settings::default() };
    (1..=40).any(|seed| run(seed, settings).failure.is_some())
}

#[test]
fn a_commit_check_that_ignores_reads_is_convicted() {
    assert!(convicted(Mutant::SkipReads));
}

#[test]
fn a_disk_that_lies_about_durability_is_convicted() {
    assert!(convicted(Mutant::LyingDisk));
}

#[test]
fn an_acknowledgement_before_the_commit_is_convicted() {
    assert!(convicted(Mutant::AckEarly));
}

#[test]
fn reads_that_do_not_ask_the_leader_are_convicted() {
    assert!(convicted(Mutant::StaleReads));
}

#[test]
fn work_done_twice_is_convicted() {
    assert!(convicted(Mutant::RetryBlindly));
}
