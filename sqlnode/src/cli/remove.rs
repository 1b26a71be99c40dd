//! `rockpool-node remove`.

use std::io::Write;

use clap::ArgMatches;
use rockpool_proto::NodeId;

use super::folder::KnownNodes;
use super::{block_on, data_of};
use crate::config::{ConfigError, Origin};
use crate::error::StartError;

pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let text = matches.get_one::<String>("node").cloned().unwrap_or_default();
    let number = text.strip_prefix('n').unwrap_or(&text).parse().ok().filter(|id| *id > 0);
    let node = number.map(NodeId).ok_or_else(|| ConfigError::BadValue {
        origin: Origin::Flag("remove".to_owned()),
        key: "NODE",
        value: text,
        reason: "a node's number is expected, as `rockpool-node status` shows it: n2".to_owned(),
    })?;
    let nodes = KnownNodes::read(&data_of(matches))?;
    block_on(nodes.ask(|client| async move { client.remove_node(node).await }))?;
    let next = "If it runs it stops by itself. Delete its folder: its number is not given again.";
    let _ = writeln!(std::io::stderr(), "{node} is no member any more. {next}");
    Ok(())
}
