//! Several nodes of one cluster.

use crate::node::Node;
use crate::process::wait_until;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Nodes of one cluster; the first one made it.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, running or not.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts `count` nodes with their data below `root`, each after the first joining it with a token, and waits until all
    /// of them vote.
    pub fn start(root: &Path, count: usize) -> Result<Cluster> {
        let mut cluster = Cluster { nodes: Vec::new() };
        for number in 1..=count {
            let mut node = Node::new(&root.join(format!("node{number}")))?;
            match cluster.nodes.first() {
                None => node.start(None)?,
                Some(first) => {
                    let token = first.token()?;
                    node.start(Some((&first.grpc.clone(), &token)))?;
                }
            }
            node.wait_ready()?;
            cluster.nodes.push(node);
        }
        cluster.wait_voters(count)?;
        Ok(cluster)
    }

    /// Waits until `count` nodes vote.
    pub fn wait_voters(&self, count: usize) -> Result<()> {
        let what = format!("{count} voters");
        wait_until(&what, Duration::from_secs(30), || {
            let status = self.running().next()?.status().ok()?;
            let members = status["members"].as_array()?;
            let voters = members.iter().filter(|member| member["role"] == "leader" || member["role"] == "follower");
            (voters.count() == count).then_some(())
        })
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// Position of the node that leads, as soon as one does.
    pub fn leader(&self) -> Result<usize> {
        wait_until("a leader", Duration::from_secs(15), || {
            let status = self.running().next()?.status().ok()?;
            let leader = status["leader"].as_u64()?;
            let member =
                status["members"].as_array()?.iter().find(|member| member["node_id"].as_u64() == Some(leader))?;
            let address = member["grpc"].as_str()?;
            self.nodes.iter().position(|node| node.grpc == address && node.process.is_some())
        })
    }

    /// Kills the leader and says which one it was.
    pub fn kill_leader(&mut self) -> Result<usize> {
        let leader = self.leader()?;
        self.nodes[leader].kill9()?;
        Ok(leader)
    }

    /// The address that the first node hands to people.
    pub fn address(&self) -> Result<String> {
        self.nodes.first().context("a cluster has a node")?.address()
    }
}
