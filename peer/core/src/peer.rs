//! The whole peer: composes the machines and rewrites what they say.

use std::collections::VecDeque;
use std::sync::Arc;

use rockpool_proto::{DeviceId, PoolId};

use crate::entry::{EntryId, StoredEntry};
use crate::identity::DeviceKeys;
use crate::input::Input;
use crate::manifest::Manifest;
use crate::negotiation::Negotiation;
use crate::output::Output;
use crate::roster::{Directory, Member, Roster};
use crate::time::{Now, Time};

/// What a peer is made of.
#[derive(Debug)]
pub struct Config {
    /// The pool.
    pub pool: PoolId,
    /// This device.
    pub keys: DeviceKeys,
    /// Drawn by the driver; makes this run's choices differ from the last one's.
    pub seed: u64,
}

/// What an earlier run left in the driver's store.
#[derive(Debug, Default)]
pub struct Restored {
    /// All entries of the pool, in any order; they were verified before they were stored.
    pub entries: Vec<StoredEntry>,
    /// Members as last known, so that talking begins before the cluster answers.
    pub members: Vec<Member>,
    /// Own file offers that still hold: the driver checked path, size and time of each source.
    pub offers: Vec<(EntryId, Arc<Manifest>)>,
    /// Downloads of others' offers that are complete and still in place: this device seeds them too.
    pub seeds: Vec<Arc<Manifest>>,
}

/// One device's presence in one pool.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    directory: Directory,
    roster: Roster,
    negotiation: Negotiation,
    outputs: VecDeque<Output>,
}

impl Peer {
    /// A peer that knows what an earlier run knew.
    pub fn new(config: Config, restored: Restored) -> Peer {
        let mut directory = Directory::default();
        restored.members.into_iter().for_each(|member| directory.put(member));
        let negotiation = Negotiation::new(config.keys.device_id());
        Peer { config, directory, roster: Roster::default(), negotiation, outputs: VecDeque::new() }
    }

    /// This device.
    pub fn device_id(&self) -> DeviceId {
        self.config.keys.device_id()
    }

    /// Takes one thing that happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        let _ = (now, input);
    }

    /// The next thing to do. Drain to `None` before the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.negotiation.poll_timeout()
    }

    /// Members of the pool.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.directory.members()
    }

    /// Who is present, as the cluster last said.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }
}
