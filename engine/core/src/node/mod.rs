//! The machine.

use crate::config::Config;
use crate::error::Fatal;
use crate::input::Input;
use crate::kv::{LogImage, StateStore};
use crate::output::Output;
use crate::status::Status;
use crate::time::{Now, Time};
use std::collections::VecDeque;
use std::sync::Arc;

/// A node's replicas.
pub struct Node {
    config: Config,
    store: Arc<dyn StateStore>,
    outputs: VecDeque<Output>,
}

impl Node {
    /// Opens the node on its stores: `logs` is what [`LogStore::load`](crate::kv::LogStore::load) found. May write and
    /// flush the state store (the first state of a new group).
    pub fn open(config: Config, store: Arc<dyn StateStore>, _logs: Vec<LogImage>, _now: Now) -> Result<Node, Fatal> {
        Ok(Node { config, store, outputs: VecDeque::new() })
    }

    /// Takes an input. Fails only when the node has to stop.
    pub fn handle_input(&mut self, _now: Now, _input: Input) -> Result<(), Fatal> {
        self.store.view()?;
        Ok(())
    }

    /// The next thing to do; drain to `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// How the node is doing.
    pub fn status(&self) -> Status {
        Status { node: self.config.node, groups: Vec::new() }
    }
}
