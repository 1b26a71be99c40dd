//! The gRPC client to the cluster: trust, calls with fail-over, and the signalling stream.
//!
//! ```text
//!   authority   server add: fetches the certificate authority whose fingerprint the address names
//!   cluster     calls: finds a node that answers, keeps tokens fresh, turns statuses into sentences
//!   signalling  one stream for as long as a pool is open, on whatever node can be reached
//! ```
//!
//! What it does not do: hold any state of pools or messages. Losing the cluster costs an event, nothing more.

mod authority;
mod cluster;
mod signalling;

pub use authority::{ServerAddress, fetch_authority};
pub use cluster::{Cluster, DeviceIdentity};
pub use signalling::{ClusterEvent, Signalling, SignallingHandle};
