//! Rockpool's wire schemas, the types generated from them, ids and limits.
//!
//! ```text
//!   proto/rockpool/engine/v1    between nodes and in the Raft log      -> engine
//!   proto/rockpool/cluster/v1   a node joining, nodes telling nodes    -> sqlnode
//!   proto/rockpool/meta/v1      between a device and the cluster       -> sqlnode, peer
//!   proto/rockpool/peer/v1      between devices; the cluster never reads it -> peer-core
//! ```
//!
//! This crate knows no rule of the domain: what a message means is decided where it is handled. Fields are added,
//! never renumbered. Generated types stop at a `convert.rs` in each crate that uses them; domain code uses the ids here.
//!
//! Without the feature `rpc` there are messages only, which is all that machines need and all that builds for wasm32.

mod id;
pub mod limits;

pub use id::{AccountId, DeviceId, GroupId, IdError, NodeId, PoolId};

/// Between nodes, and in the Raft log.
pub mod engine {
    #[allow(missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/rockpool.engine.v1.rs"));
    }
}

/// A node joining a cluster, and nodes telling nodes.
pub mod cluster {
    #[allow(missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/rockpool.cluster.v1.rs"));
    }
}

/// Between a device and the cluster.
pub mod meta {
    #[allow(missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/rockpool.meta.v1.rs"));
    }
}

/// Between devices.
pub mod peer {
    #[allow(missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/rockpool.peer.v1.rs"));
    }
}
