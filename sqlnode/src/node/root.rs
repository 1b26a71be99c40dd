//! Root's password in this node's folder follows the one that counts: after `ALTER ROLE root PASSWORD` the node where it
//! was said knows the new one, and the others ask around for it. The database holds a verifier only, by which each checks
//! what it is told.

use rockpool_runtime::NodeId;
use zeroize::Zeroizing;

use super::Parts;
use crate::cluster::Addresses;
use crate::error::StartError;
use crate::pg::Verifier;
use crate::roles;

/// Looks in a row that ask around: the node that knows may be slow to answer.
const ASKS_AT_FIRST: u32 = 3;
/// After those, one look of so many asks.
const ASKS_ONCE_IN: u32 = 60;

/// What this node has found out about its copy of root's password.
#[derive(Default)]
pub(super) struct RootKept {
    /// The verifier that it fits.
    fits: Option<String>,
    /// The verifier that it does not fit, and in how many looks nobody knew better.
    foreign: Option<(String, u32)>,
}

impl RootKept {
    /// Compares, and asks the others where it doesn't fit.
    pub(super) async fn look(&mut self, parts: &Parts, members: &[Addresses]) -> Result<(), StartError> {
        let Some(stored) = roles::root_verifier(&parts.database).await? else { return Ok(()) };
        if self.fits.as_ref() == Some(&stored) {
            return Ok(());
        }
        let looks = self.foreign.take().filter(|(known, _)| *known == stored).map_or(0, |(_, looks)| looks);
        if looks < ASKS_AT_FIRST || looks.is_multiple_of(ASKS_ONCE_IN) {
            let Some(verifier) = Verifier::parse(&stored) else { return Ok(()) };
            if accepts(&verifier, parts.root_password.current()).await || ask(parts, members, &verifier).await {
                self.fits = Some(stored);
                return Ok(());
            }
            if looks + 1 == ASKS_AT_FIRST {
                tracing::warn!("root's password was changed, and no member knows the new one; write it into pgpass");
            }
        }
        self.foreign = Some((stored, looks + 1));
        Ok(())
    }
}

/// Asks the others for a password that fits, and takes it over.
async fn ask(parts: &Parts, members: &[Addresses], verifier: &Verifier) -> bool {
    let others = members.iter().map(|member| member.node_id).filter(|node| *node != parts.identity.node_id);
    for node in others {
        if let Some(password) = theirs(parts, node).await
            && accepts(verifier, password.clone()).await
        {
            match parts.root_password.replace(&password) {
                Ok(()) => tracing::info!(from = %node, "root's password was changed; pgpass was written anew"),
                Err(error) => tracing::warn!(%error, "root's password was changed and can't be written into pgpass"),
            }
            return true;
        }
    }
    false
}

async fn theirs(parts: &Parts, node: NodeId) -> Option<Zeroizing<String>> {
    parts.table.client(node)?.root_password().await.ok()
}

/// Checks a password where that keeps nobody waiting: a verifier may ask for many rounds.
async fn accepts(verifier: &Verifier, password: Zeroizing<String>) -> bool {
    let verifier = verifier.clone();
    tokio::task::spawn_blocking(move || verifier.accepts(&password)).await.unwrap_or(false)
}
