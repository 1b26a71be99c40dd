//! `rockpool-node start`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use tokio::signal::unix::{SignalKind, signal};

use super::{block_on, say};
use crate::config::{Config, SETTINGS, log_filter};
use crate::error::StartError;
use crate::node::Node;

pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let config = gather(matches)?;
    let filter = log_filter(&config.log).unwrap_or_default();
    // https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = std::io::stderr().is_terminal() && !plain;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A terminal that is gone takes no lines, nor the complaint about them; the node goes on.
    log.log_internal_errors(false).init();
    allow_open_files(config.pg_connections_max);
    // One provider for whatever TLS library code asks for the process's own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    block_on(serve(config))
}

fn gather(matches: &ArgMatches) -> Result<Config, StartError> {
    let flags: Vec<(&'static str, String)> = SETTINGS
        .iter()
        .filter(|setting| matches.value_source(setting.key) == Some(ValueSource::CommandLine))
        .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
        .collect();
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(named) = matches.get_one::<PathBuf>("config") {
        return Ok(Config::gather(&flags, environment, Some(named))?);
    }
    let config = Config::gather(&flags, environment, None)?;
    let beside = config.data.join("rockpool.toml");
    if beside.is_file() { Ok(Config::gather(&flags, environment, Some(&beside))?) } else { Ok(config) }
}

async fn serve(config: Config) -> Result<(), StartError> {
    let broken = |error: std::io::Error| StartError::Store(format!("signals can't be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    // The terminal was closed: that is no reason to break off.
    let mut hang_up = signal(SignalKind::hangup()).map_err(broken)?;
    let mut told = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    let node = tokio::select! {
        started = Node::start(config) => started?,
        () = told() => return Ok(()),
    };
    tokio::select! {
        ready = node.ready() => match ready {
            Ok(()) => {
                // Nobody may be reading; the node serves all the same.
                let _ = say(&banner(&node));
            }
            Err(error) => {
                let failed = StartError::Failed(error);
                node.stop().await;
                return Err(failed);
            }
        },
        () = told() => {
            stop(node, told).await;
            return Ok(());
        }
    }
    let failure = tokio::select! {
        error = node.failed() => Some(StartError::Failed(error)),
        () = told() => None,
    };
    stop(node, told).await;
    failure.map_or(Ok(()), Err)
}

async fn stop(node: Node, mut told: impl AsyncFnMut()) {
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = node.stop() => tracing::info!("stopped"),
        () = told() => tracing::warn!("stopped at once"),
    }
}

/// Raises the number of files and connections that may be open to what the system allows: the usual soft limit of 1,024
/// is for programs of the seventies, and the store alone keeps half of it open.
fn allow_open_files(pg_connections_max: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        if let Err(error) = raised {
            tracing::debug!(%error, "the limit of open files could not be raised");
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = OPEN_FILES_OF_STORE + pg_connections_max as u64;
    if allowed < needed {
        tracing::warn!(
            "only {allowed} files and connections may be open at once, and the node may need {needed}: raise the limit \
             (LimitNOFILE in systemd, `ulimit -Hn` in a shell)"
        );
    }
}

/// More files and connections than this are not asked for.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// What the store and the other listeners keep open.
const OPEN_FILES_OF_STORE: u64 = 1_024;

/// A word for a shell, quoted where that is needed.
fn shell_word(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_-./:@%+=,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A value in psql's connection string.
fn connection_value(text: &str) -> String {
    let plain = !text.contains([' ', '\'', '\\', '\t']);
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")) }
}

/// What the operator needs next, ready to paste.
fn banner(node: &Node) -> String {
    let addresses = node.addresses();
    let (host, port) = addresses.pg.rsplit_once(':').unwrap_or((&addresses.pg, "7432"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let folder = std::path::absolute(node.folder().path()).unwrap_or_else(|_| node.folder().path().to_owned());
    let in_folder = |name: &str| folder.join(name).display().to_string();
    let root = connection_value(&in_folder("ca.crt"));
    let connection =
        format!("host={host} port={port} user=root dbname=rockpool sslmode=verify-full sslrootcert={root}");
    let in_quotes = !connection.contains(['"', '$', '`', '\\']);
    let connection = if in_quotes { format!("\"{connection}\"") } else { shell_word(&connection) };
    let pgpass = shell_word(&in_folder("pgpass"));
    let folder = shell_word(&folder.display().to_string());
    format!(
        "node {} of cluster {} is ready\n\
         \n  for people    rockpool://{}/#{}\n  for SQL       PGPASSFILE={pgpass} psql {connection}\n\
         \x20 for watchers  http://{}/metrics\n  more nodes    rockpool-node token --data {folder}\n\n",
        node.identity().node_id,
        node.identity().cluster_id,
        addresses.grpc,
        node.fingerprint(),
        addresses.http,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_pasted_survives_strange_folders() {
        assert_eq!(shell_word("/var/lib/rockpool"), "/var/lib/rockpool");
        assert_eq!(shell_word("/with space/it's"), r"'/with space/it'\''s'");
        assert_eq!(connection_value("/var/lib/ca.crt"), "/var/lib/ca.crt");
        assert_eq!(connection_value(r"/a b/it's\ca"), r"'/a b/it\'s\\ca'");
    }
}
