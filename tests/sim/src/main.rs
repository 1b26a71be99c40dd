//! Runs seeds of the simulator. See the library's head and `docs/simulator.md`.

use clap::{Parser, ValueEnum};
use rockpool_sim::{Mutant, Outcome, Settings, run, say};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Run a simulated cluster from a seed, or many of them.
#[derive(Parser, Debug)]
#[command(name = "rockpool-sim", version, max_term_width = 100)]
struct Cli {
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Print each line of the trace (with --seed)
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run this many seeds
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Run seeds for this long
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// The first seed of many
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Run each seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Make this mistake on purpose; then a run that is not convicted is the failure
    #[arg(long, value_enum)]
    mutant: Option<MutantName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MutantName {
    /// The commit check ignores what was read
    SkipReads,
    /// Reads don't ask the leader how far they have to be
    StaleReads,
    /// Disks say "durable" too early
    LyingDisk,
    /// The leader acknowledges what it has only proposed
    AckEarly,
    /// A client takes a lost answer for a failure and does its work again
    RetryBlindly,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mutant = cli.mutant.map(|name| match name {
        MutantName::SkipReads => Mutant::SkipReads,
        MutantName::StaleReads => Mutant::StaleReads,
        MutantName::LyingDisk => Mutant::LyingDisk,
        MutantName::AckEarly => Mutant::AckEarly,
        MutantName::RetryBlindly => Mutant::RetryBlindly,
    });
    let settings = Settings { mutant, print: cli.trace };
    if let Some(seed) = cli.seed {
        let outcome = run(seed, settings);
        let same = !cli.twice || run(seed, Settings { print: false, ..settings }).trace_hash == outcome.trace_hash;
        say!(
            "seed {seed}: {} transactions, {} trace lines, hash {}",
            outcome.transactions,
            outcome.trace_lines,
            outcome.trace_hash
        );
        let visited = outcome.marks.iter().filter(|(_, count)| **count > 0);
        visited.for_each(|(what, count)| say!("  {count:>8}  {what}"));
        if !same {
            say!("seed {seed} ran differently the second time");
        }
        return match &outcome.failure {
            Some(failure) => {
                say!("FAILED: {failure}");
                ExitCode::FAILURE
            }
            None if same => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        };
    }
    many(&cli, settings)
}

fn many(cli: &Cli, settings: Settings) -> ExitCode {
    let start = Instant::now();
    let budget = cli.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let count = if budget.is_some() { u64::MAX } else { cli.seeds.unwrap_or(200) };
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (sender, outcomes) = std::sync::mpsc::channel::<(Outcome, bool)>();
    let (from, twice) = (cli.from, cli.twice);
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut at = worker;
                while at < count && budget.is_none_or(|budget| start.elapsed() < budget) {
                    let seed = from + at;
                    let outcome = run(seed, settings);
                    let same = !twice || run(seed, settings).trace_hash == outcome.trace_hash;
                    if sender.send((outcome, same)).is_err() {
                        return;
                    }
                    at += workers;
                }
            })
        })
        .collect();
    drop(sender);
    let mut failed = Vec::new();
    let (mut passed, mut transactions) = (0u64, 0usize);
    let mut marks: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (outcome, same) in outcomes {
        transactions += outcome.transactions;
        outcome.marks.iter().for_each(|(what, count)| *marks.entry(what).or_default() += count);
        let trouble = outcome.failure.or_else(|| (!same).then(|| "two runs of the seed differ".to_string()));
        match trouble {
            Some(trouble) => {
                say!("seed {} FAILED: {trouble}", outcome.seed);
                say!("  again: cargo run --release -p rockpool-sim -- --seed {} --trace", outcome.seed);
                failed.push(outcome.seed);
            }
            None => passed += 1,
        }
        if (passed + failed.len() as u64).is_multiple_of(50) {
            eprintln!("  {} seeds, {:.0} s", passed + failed.len() as u64, start.elapsed().as_secs_f64());
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            failed.push(0);
            say!("a run panicked");
        }
    }
    say!("{transactions} transactions in {:.0} s; what was visited:", start.elapsed().as_secs_f64());
    marks.iter().for_each(|(what, count)| say!("  {count:>8}  {what}"));
    if let Some(mutant) = cli.mutant {
        say!("{mutant:?}: convicted by {} of {} seeds", failed.len(), passed + failed.len() as u64);
        return if failed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    say!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
