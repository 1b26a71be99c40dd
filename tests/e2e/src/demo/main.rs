//! `make demo`: the whole of Rockpool once, with real processes, and a verdict.
//!
//! ```text
//!   three nodes  ->  two people, three devices, a pool  ->  talk  ->  a folder on its way
//!        kill -9 of the leader while it travels  ->  talk and transfer go on
//!        third device joins through the survivors  ->  history and folder  ->  fingerprints, tables, summary
//! ```
//!
//! Exit status 0 only if every check of the summary holds.

mod outage;
mod story;
mod summary;

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show Rockpool at work: three nodes, two people, three devices, one killed leader.
#[derive(Parser, Debug)]
#[command(name = "rockpool-demo")]
pub struct Args {
    /// Leave everything running at the end, and say how to join it
    #[arg(long)]
    keep: bool,
    /// Where data, homes and logs go; emptied at the start
    #[arg(long, value_name = "DIR", default_value = "demo-data")]
    data: PathBuf,
    /// The folder to share beside the generated file
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Size of the generated file
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    size_mib: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nThe demonstration stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<bool> {
    if args.data.exists() {
        anyhow::ensure!(
            args.data.join(story::MARK).exists(),
            "{} exists and is not from an earlier demonstration; it is left alone. Name another with --data",
            args.data.display()
        );
        std::fs::remove_dir_all(&args.data).with_context(|| format!("emptying {}", args.data.display()))?;
    }
    std::fs::create_dir_all(&args.data)?;
    std::fs::write(args.data.join(story::MARK), "made by make demo; removed by the next one\n")?;
    let data = args.data.canonicalize()?;
    let story = story::Story::tell(&args, &data)?;
    let passed = story.summary.print();
    if args.keep {
        story.keep_running(&data)?;
    }
    Ok(passed)
}
