//! The device program: `rockpool`.
//!
//! ```text
//!   cli      commands, prompts, printing                    api     lines of the local socket
//!   home     folder: keys, session, server, caches          client  gRPC to the cluster
//!   daemon   runs rockpool-peer-core's machine for one open pool, serves the local socket
//!   link     WebRTC      files   disk      store   redb
//! ```
//!
//! Everything here touches the world and decides nothing about messages, links or transfers: that is `rockpool-peer-core`.

pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod files;
pub mod home;
pub mod link;
pub mod store;
