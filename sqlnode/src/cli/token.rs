//! `rockpool-node token`.

use clap::ArgMatches;

use super::folder::KnownNodes;
use super::{block_on, data_of};
use crate::cluster::TOKEN_TTL_MAX;
use crate::config::{ConfigError, Origin, duration_up_to};
use crate::error::StartError;

/// Prints the token alone on stdout, so that it can be captured; what to do with it goes to stderr.
pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let ttl = match matches.get_one::<String>("ttl") {
        None => None,
        Some(text) => Some(duration_up_to(text, TOKEN_TTL_MAX, "seven days are the most").map_err(|reason| {
            ConfigError::BadValue { origin: Origin::Flag("--ttl".to_owned()), key: "ttl", value: text.clone(), reason }
        })?),
    };
    let nodes = KnownNodes::read(&data_of(matches))?;
    let (token, _) = block_on(nodes.ask(|client| async move { client.create_token(ttl).await }))?;
    println!("{token}");
    eprintln!("One more node may join with it, once: rockpool-node start --data DIR --join HOST:PORT --token TOKEN");
    Ok(())
}
