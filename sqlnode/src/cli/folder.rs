//! What the commands that ask a running node read from its data folder.

use std::path::Path;

use crate::cluster::{Addresses, NodeClient, no_member, read_members};
use crate::error::StartError;
use crate::identity::{NodeTls, read_identity};

/// The way to a node, and to the others it knew.
pub(super) struct KnownNodes {
    own: Addresses,
    others: Vec<Addresses>,
    tls: NodeTls,
}

impl KnownNodes {
    pub(super) fn read(folder: &Path) -> Result<KnownNodes, StartError> {
        let record = read_identity(folder)?.ok_or_else(|| StartError::Damaged {
            path: folder.to_owned(),
            reason: "no node has been started with this folder; give the right one with --data".to_owned(),
        })?;
        let members = read_members(folder)?;
        let node = record.identity.node_id;
        if !members.is_empty() && members.iter().all(|member| member.node_id != node) {
            return Err(StartError::Removed(no_member(node)));
        }
        let (own, others): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| member.node_id == record.identity.node_id);
        let own = own.into_iter().next().ok_or_else(|| StartError::Damaged {
            path: folder.join("nodes.toml"),
            reason: "the list of members is missing or damaged; it is written again when the node starts".to_owned(),
        })?;
        Ok(KnownNodes { own, others, tls: NodeTls::read(folder)? })
    }

    /// Asks the node of the folder, then the others it knew, until one answers.
    pub(super) async fn ask<T, F>(&self, call: impl Fn(NodeClient) -> F) -> Result<T, StartError>
    where
        F: Future<Output = Result<T, StartError>>,
    {
        let (mut first, mut undecided) = (None, None);
        for member in std::iter::once(&self.own).chain(&self.others) {
            match call(NodeClient::new(&member.grpc, &self.tls)?).await {
                Err(error @ StartError::Unreachable(_)) => {
                    first.get_or_insert(error);
                }
                // Another one may be on the side of a majority.
                Err(error @ StartError::Undecided(_)) => {
                    undecided.get_or_insert(error);
                }
                answered => return answered,
            }
        }
        if let Some(error) = undecided {
            return Err(error);
        }
        let why = first.map(|error| error.to_string()).unwrap_or_default();
        Err(StartError::Unreachable(format!(
            "no node answers ({why}); is `rockpool-node start` running with this folder?"
        )))
    }
}
