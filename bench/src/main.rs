//! `rockpool-bench`: what Rockpool does in a second, measured on real processes.
//!
//! ```text
//!   sql        durable single-row inserts and point selects over pgwire, one or three nodes, several connections
//!   failover   how long no write is acknowledged when the leader is killed
//!   transfer   file to file between two devices, straight over WebRTC
//!   idle       memory of a node and of a peer that have nothing to do
//!   all        all of them, as docs/performance.md states them
//! ```
//!
//! Every report begins with the machine and with what its disk takes to make a write durable: without that, no figure of
//! inserts a second means anything. `--json` prints the same as one JSON value.

mod failover;
mod idle;
mod machine;
mod report;
mod sql;
mod transfer;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure Rockpool on this machine.
#[derive(Parser, Debug)]
#[command(name = "rockpool-bench", version, about, max_term_width = 100)]
struct Cli {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// Where nodes and homes are kept while measuring: the disk that is measured [default: a temporary folder here]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Durable single-row inserts and point selects over the PostgreSQL protocol
    Sql(SqlArgs),
    /// The pause in acknowledged writes when the leader is killed with SIGKILL
    Failover {
        /// How often the leader is killed
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// A file from one device to another
    Transfer {
        /// The file's size
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// How often
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Resident memory of an idle node and an idle peer
    Idle,
    /// All of the above with their defaults
    All,
}

#[derive(Args, Debug)]
struct SqlArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How many connections, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    connections: Vec<usize>,
    /// How long each run lasts
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(report) => {
            if cli.json {
                println!("{}", report.json());
            } else {
                report.print();
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rockpool-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Report> {
    let here = match &cli.data {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            tempfile::tempdir_in(folder)?
        }
        None => tempfile::tempdir_in(".")?,
    };
    let root = here.path().canonicalize()?;
    let mut report = Report::new();
    machine::describe(&root, &mut report)?;
    match &cli.command {
        Command::Sql(args) => {
            sql::run(&root, args.nodes, &args.connections, Duration::from_secs(args.seconds), &mut report)?
        }
        Command::Failover { rounds } => failover::run(&root, *rounds, &mut report)?,
        Command::Transfer { mib, rounds } => transfer::run(&root, *mib, *rounds, &mut report)?,
        Command::Idle => idle::run(&root, &mut report)?,
        Command::All => {
            for nodes in [1, 3] {
                sql::run(&root.join(format!("sql{nodes}")), nodes, &[1, 16, 64], Duration::from_secs(10), &mut report)?;
            }
            failover::run(&root.join("failover"), 5, &mut report)?;
            transfer::run(&root.join("transfer"), 1024, 3, &mut report)?;
            idle::run(&root.join("idle"), &mut report)?;
        }
    }
    Ok(report)
}
