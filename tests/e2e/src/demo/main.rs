//! `make demo`: the whole of Rockpool once, with real processes, and a verdict.
//!
//! ```text
//!   three nodes  ->  two people, three devices, a pool  ->  talk  ->  a folder on its way
//!        kill -9 of the leader while it travels  ->  talk and transfer go on
//!        third device joins through the survivors  ->  history and folder  ->  fingerprints, tables, summary
//! ```
//!
//! Exit status 0 only if every check of the summary holds. Whatever ends it, nothing that it started goes on.

mod outage;
mod story;
mod summary;

use anyhow::{Context, Result};
use clap::Parser;
use rockpool_e2e::process;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The story is told, and everything is being left running: an interruption is the way to end it.
static TOLD: AtomicBool = AtomicBool::new(false);

fn run(args: Args) -> Result<bool> {
    let _mark = take_folder(&args.data)?;
    let data = args.data.canonicalize()?;
    process::on_interrupt(|| {
        let told = TOLD.load(Ordering::SeqCst);
        println!("\n   {}; nodes and devices have ended", if told { "Done" } else { "Interrupted" });
        if told { 0 } else { 130 }
    })?;
    let story = story::Story::tell(&args, &data)?;
    let passed = story.summary.print();
    if args.keep {
        story.tell_how_to_join(&data)?;
        TOLD.store(passed, Ordering::SeqCst);
        loop {
            std::thread::park();
        }
    }
    Ok(passed)
}

/// Makes `folder` this demonstration's, and empties it if it was an earlier one's. Whoever holds what is answered has it.
fn take_folder(folder: &Path) -> Result<File> {
    let mark = folder.join(story::MARK);
    if folder.exists() {
        anyhow::ensure!(
            mark.exists(),
            "{} exists and is not from an earlier demonstration; it is left alone. Name another with --data",
            folder.display()
        );
        match File::open(&mark).with_context(|| mark.display().to_string())?.try_lock() {
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "another demonstration is using {}: end it with Ctrl-C in its terminal, or name another folder with --data",
                folder.display()
            ),
            locked => locked.with_context(|| mark.display().to_string())?,
        }
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(&mark, "made by make demo; removed by the next one\n").with_context(|| mark.display().to_string())?;
    let mark = File::open(&mark)?;
    mark.try_lock()?;
    Ok(mark)
}
