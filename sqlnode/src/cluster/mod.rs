//! The cluster around a node: how nodes join, know each other and answer their operators.
//!
//! ```text
//!   token      what lets one more node in: fingerprint, id, secret
//!   trust      TLS toward a cluster that is known by its fingerprint only
//!   table      the members as last known, in memory and on disk
//!   members    system.nodes and system.join_tokens: the SQL behind it
//!   client     calls to other nodes, with this node's certificate
//!   service    the gRPC services Membership and Admin
//! ```

mod client;
mod convert;
mod members;
mod service;
mod table;
mod token;
mod trust;

pub use client::{NodeClient, join};
pub use convert::{Addresses, Joined, MemberList, NodeReport, NodeStatus, ReplicaReport, ReplicaRole, StatusReport};
pub use members::{Members, prepare_database};
pub(crate) use members::{TOKEN_TTL_MAX, no_member};
pub(crate) use service::host_of;
pub use service::{AdminService, LocalNode, MembershipService, require_node};
pub use table::{MemberTable, read_members};
pub use token::{JoinToken, TokenError};
