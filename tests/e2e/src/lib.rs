//! What the end-to-end tests and the demonstration are made of: real processes, told what to do as a person would.
//!
//! ```text
//!   process   a child process: log, signals, an end that is awaited; killed with its test
//!   node      rockpool-node: start, join, ready, status, kill
//!   cluster   several nodes of one cluster
//!   device    rockpool: one home; commands with --json, an open pool whose events are read
//!   sql       a PostgreSQL connection with the folder's pgpass and certificate authority
//!   files     folders to share, and their fingerprints
//!   disk      a disk that is soon full
//! ```
//!
//! Nothing here sleeps for a while and hopes: [`process::wait_until`] polls a condition up to a deadline and says what it
//! waited for. The binaries are those beside the test's own (`target/release`), or in `$ROCKPOOL_BIN_DIR`.

pub mod cluster;
pub mod device;
pub mod disk;
pub mod files;
pub mod node;
pub mod process;
pub mod sql;

pub use cluster::Cluster;
pub use device::{Device, OpenPool};
pub use disk::SmallDisk;
pub use node::Node;
pub use process::{Process, wait_until};
