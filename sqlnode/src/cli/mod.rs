//! The command line: which commands there are, and what the process answers.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | something broke: disk, certificates, the store |
//! | 2 | the command or the settings are wrong |
//! | 3 | the data folder or the cluster refuses |
//! | 4 | may work later: a port is taken, nobody answers |

mod folder;
mod remove;
mod start;
mod status;
mod token;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::SETTINGS;
use crate::error::StartError;

const ABOUT: &str =
    "A node of a Rockpool cluster: accounts, devices, pools and presence, kept in a replicated SQL database";

const AFTER: &str = "\
First steps:
  rockpool-node start                                       a cluster of one node, in ./rockpool-data
  rockpool-node token --data ./rockpool-data                what lets one more node in
  rockpool-node start --data ./two --grpc 127.0.0.1:7401 --pg 127.0.0.1:7433 --http 127.0.0.1:7481 \\
      --join 127.0.0.1:7400 --token rockpool-join:...       the second node
  rockpool-node status --data ./rockpool-data               who belongs, who leads, who is behind";

const START_AFTER: &str = "\
Settings come from a TOML file (--config, or rockpool.toml in the data folder), from the environment and from flags; the
later win. A line of the file is the flag's name with underscores, as in

  grpc = \"10.0.0.5:7400\"
  advertise = \"node1.example.org\"
  pg_connections_max = 200

The first start of an empty folder makes a new cluster, or joins one with --join and --token. Later starts go on with
what the folder holds. The first start prints the address for people (rockpool://...) and a psql command that works.

SIGTERM, SIGINT and SIGHUP stop the node within ten seconds: leadership is handed over, open requests finish. A second signal
stops it at once.";

/// Runs the program.
pub fn run() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout and are no failure. If the terminal is gone there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match matches.subcommand() {
        Some(("start", matches)) => start::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("remove", matches)) => remove::run(matches),
        Some(("status", matches)) => status::run(matches),
        _ => unreachable!("clap refuses what isn't listed in command()"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody reads it, the exit code says as much.
            let _ = writeln!(std::io::stderr(), "rockpool-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn command() -> Command {
    let data = || {
        Arg::new("data")
            .long("data")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .env("ROCKPOOL_DATA")
            .default_value("rockpool-data")
            .help("The data folder of a node on this machine")
    };
    let mut start = Command::new("start").about("Runs a node until it is told to stop").after_help(START_AFTER);
    for setting in SETTINGS {
        let flag = setting.key.replace('_', "-");
        let help = format!("{} [env: {}]", setting.help, setting.variable());
        start = start.arg(Arg::new(setting.key).long(flag).value_name(setting.value_name).help(help));
    }
    let config = Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
    start = start.arg(
        config
            .env("ROCKPOOL_CONFIG")
            .help("TOML file with settings; without it, rockpool.toml in --data is read if it is there"),
    );

    Command::new("rockpool-node")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(start)
        .subcommand(
            Command::new("token").about("Prints a token with which one more node may join, once").arg(data()).arg(
                Arg::new("ttl")
                    .long("ttl")
                    .value_name("DURATION")
                    .help("How long it is good, as 30min or 2h; at most seven days [default: 1h]"),
            ),
        )
        .subcommand(
            Command::new("remove")
                .about("Takes a node out of the cluster for good, as when its disk is lost")
                .arg(Arg::new("node").value_name("NODE").required(true).help("Its number, as status shows it: n2"))
                .arg(data()),
        )
        .subcommand(
            Command::new("status")
                .about("Shows members, leader, terms, applied indexes, lag and disk")
                .arg(data())
                .arg(
                    Arg::new("json").long("json").action(ArgAction::SetTrue).help("One JSON object instead of a table"),
                ),
        )
}

/// Writes to stdout. That nobody reads on is no failure: `| head` took what it wanted.
fn say(text: &str) -> Result<(), StartError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(StartError::Io { action: "write", path: PathBuf::from("standard output"), source })
        }
        _ => Ok(()),
    }
}

fn data_of(matches: &ArgMatches) -> PathBuf {
    matches.get_one::<PathBuf>("data").cloned().unwrap_or_else(|| PathBuf::from("rockpool-data"))
}

/// Runs something that waits for the network.
fn block_on<T>(work: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError::Store(format!("no threads can be started: {error}")))?;
    let result = runtime.block_on(work);
    // What has not ended by now has had its time.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent_and_help_names_every_setting() {
        let mut command = command();
        command.clone().debug_assert();
        let help = command.find_subcommand_mut("start").unwrap().render_long_help().to_string();
        for setting in SETTINGS {
            assert!(help.contains(&setting.flag()) && help.contains(&setting.variable()), "{}", setting.key);
        }
    }
}
