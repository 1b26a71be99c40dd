//! What a node says of itself: to its operator, to other nodes, to Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rockpool_runtime::{Engine, GroupStatus, NodeId, Role};
use tokio::sync::watch;

use super::keeper::{hear, take_members};
use super::{Parts, Stage};
use crate::cluster::{Addresses, LocalNode, MemberList, MemberTable, NodeReport, ReplicaReport, ReplicaRole};
use crate::database::Database;
use crate::identity::{DataFolder, Identity};
use crate::listen::{Probe, ReadyState};
use crate::metrics::{Metrics, ReplicaGauges};
use crate::pg::PgServer;

/// How long beginning a transaction may take in a node that is ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The node, as those see it who ask how it is.
pub(super) struct NodeProbe {
    identity: Identity,
    table: Arc<MemberTable>,
    engine: Engine,
    database: Database,
    folder: Arc<DataFolder>,
    pg: Arc<PgServer>,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    stage: watch::Receiver<Stage>,
    stopping: tokio_util::sync::CancellationToken,
    started_at_us: i64,
}

impl NodeProbe {
    pub(super) fn new(parts: &Parts, folder: &Arc<DataFolder>, pg: Arc<PgServer>, metrics: Arc<Metrics>) -> Self {
        NodeProbe {
            identity: parts.identity,
            table: Arc::clone(&parts.table),
            engine: parts.engine.clone(),
            database: parts.database.clone(),
            folder: Arc::clone(folder),
            pg,
            metrics,
            ready: Arc::clone(&parts.ready),
            stage: parts.stage.subscribe(),
            stopping: parts.stopping.clone(),
            started_at_us: parts.database.environment().now_us(),
        }
    }
}

#[tonic::async_trait]
impl Probe for NodeProbe {
    async fn ready(&self) -> ReadyState {
        if self.stopping.is_cancelled() {
            return ReadyState::NotReady("the node is stopping".to_owned());
        }
        if !self.ready.load(Ordering::SeqCst) {
            return ReadyState::NotReady(match &*self.stage.borrow() {
                Stage::Waiting(why) => why.clone(),
                Stage::Failed(error) => error.to_string(),
                Stage::Ready => "the node is starting".to_owned(),
            });
        }
        match tokio::time::timeout(READY_WITHIN, self.database.begin()).await {
            Ok(Ok(_)) => ReadyState::Ready,
            Ok(Err(error)) => ReadyState::NotReady(error.to_string()),
            Err(_) => ReadyState::NotReady("no transaction could be begun in time; is there a majority?".to_owned()),
        }
    }

    fn failure(&self) -> Option<String> {
        self.engine.status().failure.as_ref().map(|failure| failure.to_string())
    }

    fn metrics(&self) -> String {
        let status = self.engine.status();
        self.metrics.set_connections(self.pg.connections());
        self.metrics.set_disk(status.disk_bytes, status.log_writes.writes, status.log_writes.total_us);
        for group in &status.groups {
            self.metrics.set_replica(&ReplicaGauges {
                group: group.group.0,
                leads: group.role == Role::Leader,
                term: group.term,
                committed: group.committed,
                applied: group.applied,
                voters: group.voters.len(),
                lags: group.followers.iter().map(|follower| (follower.node.0, follower.lag_entries)).collect(),
            });
        }
        self.metrics.encode()
    }
}

#[tonic::async_trait]
impl LocalNode for NodeProbe {
    fn identity(&self) -> Identity {
        self.identity
    }

    async fn report(&self) -> NodeReport {
        let status = self.engine.status();
        let free = rustix::fs::statvfs(self.folder.path());
        NodeReport {
            addresses: self.table.own().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            disk_bytes: status.disk_bytes,
            // A file system that can't say counts as full: nobody should rely on it.
            disk_free_bytes: free.map_or(0, |free| free.f_bavail.saturating_mul(free.f_frsize)),
            started_at_us: self.started_at_us,
            replicas: status.groups.iter().map(|group| replica(group, self.identity)).collect(),
            sql_connections: self.pg.connections() as u64,
        }
    }

    fn take_members(&self, members: MemberList) {
        if let Err(error) = take_members(&self.table, &self.engine, members) {
            tracing::warn!(%error, "the new list of members could not be taken over; the next look tries again");
        }
    }

    fn hear(&self, node: NodeId, grpc: Option<&str>) {
        if let Err(error) = hear(&self.table, &self.engine, node, grpc) {
            tracing::warn!(%node, ?grpc, %error, "the address can't be used");
        }
    }

    fn known_members(&self) -> Vec<Addresses> {
        self.table.all().to_vec()
    }
}

fn replica(group: &GroupStatus, own: Identity) -> ReplicaReport {
    let role = match group.role {
        Role::Leader => ReplicaRole::Leader,
        _ if group.learners.contains(&own.node_id) => ReplicaRole::Learner,
        // One that holds nothing yet follows nobody: it waits to be added.
        _ if !group.voters.contains(&own.node_id) => ReplicaRole::Unknown,
        Role::Follower => ReplicaRole::Follower,
        Role::Candidate | Role::PreCandidate => ReplicaRole::Candidate,
    };
    ReplicaReport {
        group_id: group.group.0,
        role,
        term: group.term,
        leader: group.leader,
        commit_index: group.committed,
        applied_index: group.applied,
        last_index: group.last_index,
        voters: group.voters.clone(),
        learners: group.learners.clone(),
    }
}
