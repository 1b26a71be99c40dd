//! Who the node is: found in its folder, made for a new cluster, or received from the cluster that it joins.

use rockpool_proto::NodeId;
use zeroize::Zeroizing;

use crate::cluster::{Addresses, host_of, join};
use crate::config::Config;
use crate::database::{Environment, SystemEnvironment};
use crate::error::StartError;
use crate::identity::{
    Authority, ClusterId, DataFolder, Identity, IdentityRecord, NodeKey, NodeTls, RootPassword, StoreState,
    generate_password, read_pgpass, write_pgpass,
};

/// The number of a cluster's first node.
pub(super) const FIRST_NODE: NodeId = NodeId(1);

/// Everything that makes a node itself.
pub(super) struct Identified {
    pub(super) record: IdentityRecord,
    pub(super) authority: Authority,
    pub(super) tls: NodeTls,
    pub(super) root_password: RootPassword,
    pub(super) addresses: Addresses,
    /// The members, where they were just received.
    pub(super) joined: Vec<Addresses>,
}

/// Finds out who the node is. Writes `identity.toml` last: until it is there, nothing has happened.
pub(super) async fn identify(config: &Config, folder: &DataFolder, own: Addresses) -> Result<Identified, StartError> {
    match (folder.read_identity()?, &config.join, &config.token) {
        (Some(record), _, token) => {
            folder.check_store(&record)?;
            let authority = Authority::read(folder.path())?;
            if let Some(token) = token
                && token.fingerprint != authority.fingerprint()
            {
                return Err(StartError::Foreign(format!(
                    "{} belongs to node {} of cluster {}, but the token lets into another cluster; choose an empty \
                     folder with --data, or start without --join and --token",
                    folder.path().display(),
                    record.identity.node_id,
                    record.identity.cluster_id
                )));
            }
            if token.is_some() {
                tracing::info!("this folder has joined already: --join and --token are not needed any more");
            }
            go_on(folder, record, authority, own)
        }
        (None, Some(address), Some(token)) => {
            let key = NodeKey::generate()?;
            let joined = join(address, token, &key, &own).await?;
            let authority = Authority::from_parts(joined.authority_certificate, joined.authority_key.to_vec())?;
            let tls = key.with_certificate(&authority, joined.certificate.into());
            let identity = Identity { cluster_id: joined.cluster_id, node_id: joined.node_id };
            settle(folder, identity, authority, tls, joined.root_password, own, joined.nodes)
        }
        (None, ..) => {
            let environment: &dyn Environment = &SystemEnvironment;
            let cluster_id = ClusterId(environment.random());
            let authority = Authority::generate(&cluster_id.to_string())?;
            let key = NodeKey::generate()?;
            let certificate = authority.issue(&key.request, FIRST_NODE, &host_of(&own.grpc))?;
            let tls = key.with_certificate(&authority, certificate);
            let identity = Identity { cluster_id, node_id: FIRST_NODE };
            let password = Zeroizing::new(generate_password(environment.random()));
            settle(folder, identity, authority, tls, password, own, Vec::new())
        }
    }
}

/// A folder that has been somebody before. The certificate is made anew at every start, so that it always carries the
/// host under which the node is reached now.
fn go_on(
    folder: &DataFolder,
    record: IdentityRecord,
    authority: Authority,
    own: Addresses,
) -> Result<Identified, StartError> {
    let key = NodeKey::generate()?;
    let certificate = authority.issue(&key.request, record.identity.node_id, &host_of(&own.grpc))?;
    let tls = key.with_certificate(&authority, certificate);
    tls.write(folder.path())?;
    let root_password = read_pgpass(folder.path())?.ok_or_else(|| StartError::Damaged {
        path: folder.path().join("pgpass"),
        reason: "the file is missing or holds no line for root; copy it from another node of the cluster".to_owned(),
    })?;
    let addresses = Addresses { node_id: record.identity.node_id, ..own };
    let root_password = RootPassword::new(folder.path(), root_password.into());
    Ok(Identified { record, authority, tls, root_password, addresses, joined: Vec::new() })
}

fn settle(
    folder: &DataFolder,
    identity: Identity,
    authority: Authority,
    tls: NodeTls,
    root_password: Zeroizing<String>,
    own: Addresses,
    joined: Vec<Addresses>,
) -> Result<Identified, StartError> {
    authority.write(folder.path())?;
    tls.write(folder.path())?;
    write_pgpass(folder.path(), &root_password)?;
    let record = IdentityRecord { identity, store: StoreState::Absent };
    folder.write_identity(&record)?;
    let addresses = Addresses { node_id: identity.node_id, ..own };
    let root_password = RootPassword::new(folder.path(), root_password);
    Ok(Identified { record, authority, tls, root_password, addresses, joined })
}
