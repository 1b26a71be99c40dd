//! Who a node is: its data folder, the cluster it belongs to, and the keys that prove it.
//!
//! ```text
//!   DIR/LOCK            held by the process that runs on the folder; holds its number
//!   DIR/identity.toml   cluster id, node id, and whether the store has been opened with them
//!   DIR/nodes.toml      where the other members listen: enough to start without a majority
//!   DIR/pgpass          root's password, for PGPASSFILE (0600)
//!   DIR/ca.crt          the certificate authority, for clients that verify: sslrootcert
//!   DIR/tls/            ca.key, node.pem, node.key (0600)
//!   DIR/store/          the engine's
//! ```
//!
//! A folder belongs to one node of one cluster. Starting an old identity on an empty store is refused, always: such a
//! node has forgotten whom it voted for and what it acknowledged, and Raft's promises rest on it remembering.

mod authority;
mod folder;
mod password;

use std::fmt;

use rockpool_proto::NodeId;

pub use authority::{Authority, Fingerprint, INTERNAL_NAME, NodeKey, NodeTls};
pub use folder::{DataFolder, IdentityRecord, StoreState};
pub(crate) use folder::{read_identity, read_small, write_whole};
pub use password::{RootPassword, generate_password, read_pgpass, write_pgpass};

/// A cluster: 16 random bytes, drawn by its first node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl TryFrom<&[u8]> for ClusterId {
    type Error = String;

    fn try_from(bytes: &[u8]) -> Result<Self, String> {
        bytes.try_into().map(ClusterId).map_err(|_| format!("a cluster id has 16 bytes, not {}", bytes.len()))
    }
}

/// One node of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node.
    pub node_id: NodeId,
}
