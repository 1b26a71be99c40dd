//! What an engine is opened with.

use crate::transport::TransportOptions;
use rockpool_engine::{Config, NodeId, NodeLimits, Start, Timing};
use rockpool_rocks::StateOptions;
use std::path::PathBuf;
use std::time::Duration;

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The folder that holds everything. Made when it does not exist. Belongs to one process.
    pub data_dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Creates a cluster of this node alone when the folder is empty; otherwise an empty folder waits until the leader of
    /// a cluster adds this node. A folder that holds state goes on from it either way.
    pub bootstrap: bool,
    /// How nodes reach each other.
    pub transport: TransportOptions,
    /// Sizes of the state store.
    pub state: StateOptions,
    /// Bounds of the machine.
    pub limits: NodeLimits,
    /// Periods and deadlines of the machine.
    pub timing: Timing,
    /// Requests that may wait for the machine's thread; more are turned away.
    pub requests_max: usize,
    /// How long versions that were overwritten stay readable.
    pub keep_versions: Duration,
}

impl EngineOptions {
    /// Production's settings.
    pub fn new(data_dir: PathBuf, node: NodeId) -> Self {
        EngineOptions {
            data_dir,
            node,
            bootstrap: false,
            transport: TransportOptions::default(),
            state: StateOptions::default(),
            limits: NodeLimits::default(),
            timing: Timing::default(),
            requests_max: 10_000,
            keep_versions: Duration::from_secs(600),
        }
    }

    pub(crate) fn config(&self, seed: u64) -> Config {
        let start = if self.bootstrap { Start::Bootstrap } else { Start::Join };
        let mut config = Config::new(self.node, start, seed);
        config.limits = self.limits;
        config.timing = self.timing;
        config
    }
}
