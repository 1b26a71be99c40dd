//! `rockpool-node start`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use tokio::signal::unix::{SignalKind, signal};

use super::block_on;
use crate::config::{Config, SETTINGS};
use crate::error::StartError;
use crate::node::Node;

pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let config = gather(matches)?;
    let filter = config.log.parse::<tracing_subscriber::EnvFilter>().unwrap_or_default();
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
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
    let mut told = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let node = tokio::select! {
        started = Node::start(config) => started?,
        () = told() => return Ok(()),
    };
    tokio::select! {
        ready = node.ready() => match ready {
            Ok(()) => print!("{}", banner(&node)),
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

/// What the operator needs next, ready to paste.
fn banner(node: &Node) -> String {
    let addresses = node.addresses();
    let (host, port) = addresses.pg.rsplit_once(':').unwrap_or((&addresses.pg, "7432"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let folder = std::path::absolute(node.folder().path()).unwrap_or_else(|_| node.folder().path().to_owned());
    let folder = folder.display();
    format!(
        "node {} of cluster {} is ready\n\
         \n  for people    rockpool://{}/#{}\n  for SQL       PGPASSFILE={folder}/pgpass psql \"host={host} port={port} \
         user=root dbname=rockpool sslmode=verify-full sslrootcert={folder}/ca.crt\"\n  for watchers  http://{}/metrics\n\
         \x20 more nodes    rockpool-node token --data {folder}\n\n",
        node.identity().node_id,
        node.identity().cluster_id,
        addresses.grpc,
        node.fingerprint(),
        addresses.http,
    )
}
