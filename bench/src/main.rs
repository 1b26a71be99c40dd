//! `rockpool-bench`: what Rockpool does in a second, measured on real processes.
//!
//! ```text
//!   sql        durable single-row inserts and point selects over pgwire, several connections; --against another server
//!   failover   how long no write is acknowledged when the leader is killed
//!   transfer   file to file between two devices, straight over WebRTC
//!   idle       memory of a node and of a peer that have nothing to do
//!   all        all of them, as docs/performance.md states them
//! ```
//!
//! Every report begins with the machine and with what its disk takes to make a write durable: without that, no figure of
//! inserts a second means anything. Everything is measured in rounds; a figure is their median, with the least and the
//! largest beside it. `--json` prints the same as one JSON value. What is started ends, and what is written goes, when the
//! measurement does, interrupted or not.

mod failover;
mod idle;
mod machine;
mod report;
mod sql;
mod transfer;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, value_parser};
use report::Report;
use rockpool_e2e::process;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Files that `transfer` may be asked to send, in MiB: a TiB is more than anybody waits for.
const TRANSFER_MIB_MAX: u64 = 1 << 20;
/// Nodes of one cluster.
const NODES_MAX: u64 = 7;

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
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
    /// A file from one device to another
    Transfer {
        /// The file's size
        #[arg(long, default_value_t = 1024, value_parser = value_parser!(u64).range(1..=TRANSFER_MIB_MAX))]
        mib: u64,
        /// How often
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
    /// Resident memory of an idle node and an idle peer
    Idle,
    /// All of the above with their defaults, one node and three: what docs/performance.md states
    All,
}

#[derive(Args, Debug)]
struct SqlArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=NODES_MAX))]
    nodes: u64,
    /// How many connections, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64], value_parser = value_parser!(u64).range(1..=1000))]
    connections: Vec<u64>,
    /// How long each run lasts
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How often each run is repeated
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Have this server do the very same in turn: postgres://user@host:5432/database. It makes and drops the table
    /// rockpool_bench. The password may stand in $PGPASSWORD; `sslmode=require` uses TLS without checking the certificate
    #[arg(long, value_name = "URL")]
    against: Option<String>,
}

impl SqlArgs {
    fn settings(&self) -> sql::Settings {
        sql::Settings {
            nodes: self.nodes as usize,
            connections: self.connections.iter().map(|count| *count as usize).collect(),
            time: Duration::from_secs(self.seconds),
            rounds: self.rounds,
            against: self.against.clone(),
        }
    }
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
    process::binary("rockpool-node")?;
    process::binary("rockpool")?;
    let folder = cli.data.clone().unwrap_or_else(|| PathBuf::from("."));
    let place = || format!("{} can't be measured on", folder.display());
    std::fs::create_dir_all(&folder).with_context(place)?;
    let here = tempfile::Builder::new().prefix("rockpool-bench-").tempdir_in(&folder).with_context(place)?;
    let root = here.path().canonicalize()?;
    process::on_interrupt({
        let root = root.clone();
        move || {
            process::remove_folder(&root);
            eprintln!("rockpool-bench: interrupted; what it started has ended, what it wrote is gone");
            130
        }
    })?;
    let mut report = Report::new();
    machine::describe(&root, &mut report)?;
    match &cli.command {
        Command::Sql(args) => sql::run(&root.join("sql"), &args.settings(), &mut report)?,
        Command::Failover { rounds } => failover::run(&root.join("failover"), *rounds, &mut report)?,
        Command::Transfer { mib, rounds } => transfer::run(&root.join("transfer"), *mib, *rounds, &mut report)?,
        Command::Idle => idle::run(&root.join("idle"), &mut report)?,
        Command::All => {
            for nodes in [1, 3] {
                let settings = sql::Settings {
                    nodes,
                    connections: vec![1, 16, 64],
                    time: Duration::from_secs(5),
                    rounds: 3,
                    against: None,
                };
                sql::run(&root.join(format!("sql{nodes}")), &settings, &mut report)?;
            }
            failover::run(&root.join("failover"), 5, &mut report)?;
            transfer::run(&root.join("transfer"), 1024, 3, &mut report)?;
            idle::run(&root.join("idle"), &mut report)?;
        }
    }
    machine::note_load("load after", &mut report);
    Ok(report)
}
