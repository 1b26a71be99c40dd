//! `rockpool-node token`.

use std::io::Write;

use clap::ArgMatches;

use super::folder::KnownNodes;
use super::{block_on, data_of, say};
use crate::cluster::TOKEN_TTL_MAX;
use crate::config::{ConfigError, Origin, duration_up_to};
use crate::error::StartError;

/// Prints the token alone on stdout, so that it can be captured; what to do with it goes to stderr.
pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let ttl = match matches.get_one::<String>("ttl") {
        None => None,
        Some(text) => {
            let ttl = duration_up_to(text, TOKEN_TTL_MAX, "seven days are the most");
            let ttl = ttl.and_then(|ttl| match ttl.as_secs() {
                0 => Err("one second is the least".to_owned()),
                _ => Ok(ttl),
            });
            Some(ttl.map_err(|reason| ConfigError::BadValue {
                origin: Origin::Flag("--ttl".to_owned()),
                key: "ttl",
                value: text.clone(),
                reason,
            })?)
        }
    };
    let nodes = KnownNodes::read(&data_of(matches))?;
    let (token, _) = block_on(nodes.ask(|client| async move { client.create_token(ttl).await }))?;
    say(&format!("{token}\n"))?;
    let next = "One more node may join with it, once: rockpool-node start --data DIR --join HOST:PORT --token TOKEN";
    let _ = writeln!(std::io::stderr(), "{next}");
    Ok(())
}
