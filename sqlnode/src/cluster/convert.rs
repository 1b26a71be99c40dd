//! The one place of the cluster services where generated types are made and read.

use rockpool_proto::NodeId;
use rockpool_proto::cluster::v1 as wire;

use crate::identity::ClusterId;

/// Where a node listens, as others reach it: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Which node; zero for one that has no number yet.
    pub node_id: NodeId,
    /// Devices and nodes.
    pub grpc: String,
    /// PostgreSQL clients.
    pub pg: String,
    /// Health and metrics.
    pub http: String,
}

/// The members at one moment of the cluster's life. Lists travel on several ways and arrive in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList {
    /// Grows with every change of the list.
    pub revision: u64,
    /// By number.
    pub nodes: Vec<Addresses>,
}

/// What a node is given when it joins.
pub struct Joined {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its number.
    pub node_id: NodeId,
    /// The authority's certificate, DER.
    pub authority_certificate: Vec<u8>,
    /// The authority's key, PKCS #8.
    pub authority_key: zeroize::Zeroizing<Vec<u8>>,
    /// Its own certificate, DER.
    pub certificate: Vec<u8>,
    /// For its pgpass file.
    pub root_password: zeroize::Zeroizing<String>,
    /// The members so far.
    pub nodes: Vec<Addresses>,
}

/// What a replica is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Not known.
    #[default]
    Unknown,
    /// It leads.
    Leader,
    /// It follows and votes.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It follows and doesn't vote.
    Learner,
}

/// One replica of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaReport {
    /// Which group.
    pub group_id: u64,
    /// What it is doing.
    pub role: ReplicaRole,
    /// Raft term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Highest index known committed.
    pub commit_index: u64,
    /// Highest index applied.
    pub applied_index: u64,
    /// Highest index in the log.
    pub last_index: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who only follows.
    pub learners: Vec<NodeId>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Where it listens.
    pub addresses: Addresses,
    /// Of the program.
    pub version: String,
    /// What its data folder takes.
    pub disk_bytes: u64,
    /// What its file system has left.
    pub disk_free_bytes: u64,
    /// When it started, in microseconds since 1970.
    pub started_at_us: i64,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
    /// PostgreSQL connections.
    pub sql_connections: u64,
}

/// A member, as the node that was asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Where it listens, as the members know.
    pub addresses: Addresses,
    /// What it says of itself, or why it couldn't be asked.
    pub report: Result<NodeReport, String>,
}

/// The whole cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The node that answered.
    pub answered_by: NodeId,
    /// Every member.
    pub nodes: Vec<NodeStatus>,
}

impl From<Addresses> for wire::NodeAddresses {
    fn from(addresses: Addresses) -> Self {
        let Addresses { node_id, grpc, pg, http } = addresses;
        Self { node_id: node_id.0, grpc, pg, http }
    }
}

impl From<wire::NodeAddresses> for Addresses {
    fn from(wire: wire::NodeAddresses) -> Self {
        Self { node_id: NodeId(wire.node_id), grpc: wire.grpc, pg: wire.pg, http: wire.http }
    }
}

impl TryFrom<wire::JoinReply> for Joined {
    type Error = String;

    fn try_from(wire: wire::JoinReply) -> Result<Self, String> {
        if wire.node_id == 0 {
            return Err("the cluster gave no node number".to_owned());
        }
        Ok(Joined {
            cluster_id: ClusterId::try_from(&wire.cluster_id[..])?,
            node_id: NodeId(wire.node_id),
            authority_certificate: wire.authority_certificate.to_vec(),
            authority_key: wire.authority_key.to_vec().into(),
            certificate: wire.certificate.to_vec(),
            root_password: wire.root_password.into(),
            nodes: wire.nodes.into_iter().map(Addresses::from).collect(),
        })
    }
}

impl From<Joined> for wire::JoinReply {
    fn from(joined: Joined) -> Self {
        Self {
            cluster_id: joined.cluster_id.0.to_vec().into(),
            node_id: joined.node_id.0,
            authority_certificate: joined.authority_certificate.into(),
            authority_key: joined.authority_key.to_vec().into(),
            certificate: joined.certificate.into(),
            root_password: joined.root_password.to_string(),
            nodes: joined.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ReplicaReport> for wire::ReplicaReport {
    fn from(report: ReplicaReport) -> Self {
        let role = match report.role {
            ReplicaRole::Unknown => wire::ReplicaRole::Unspecified,
            ReplicaRole::Leader => wire::ReplicaRole::Leader,
            ReplicaRole::Follower => wire::ReplicaRole::Follower,
            ReplicaRole::Candidate => wire::ReplicaRole::Candidate,
            ReplicaRole::Learner => wire::ReplicaRole::Learner,
        };
        Self {
            group_id: report.group_id,
            role: role.into(),
            term: report.term,
            leader_id: report.leader.map_or(0, |node| node.0),
            commit_index: report.commit_index,
            applied_index: report.applied_index,
            last_index: report.last_index,
            voters: report.voters.into_iter().map(|node| node.0).collect(),
            learners: report.learners.into_iter().map(|node| node.0).collect(),
        }
    }
}

impl From<wire::ReplicaReport> for ReplicaReport {
    fn from(wire: wire::ReplicaReport) -> Self {
        let role = match wire.role() {
            wire::ReplicaRole::Unspecified => ReplicaRole::Unknown,
            wire::ReplicaRole::Leader => ReplicaRole::Leader,
            wire::ReplicaRole::Follower => ReplicaRole::Follower,
            wire::ReplicaRole::Candidate => ReplicaRole::Candidate,
            wire::ReplicaRole::Learner => ReplicaRole::Learner,
        };
        Self {
            group_id: wire.group_id,
            role,
            term: wire.term,
            leader: Some(wire.leader_id).filter(|id| *id > 0).map(NodeId),
            commit_index: wire.commit_index,
            applied_index: wire.applied_index,
            last_index: wire.last_index,
            voters: wire.voters.into_iter().map(NodeId).collect(),
            learners: wire.learners.into_iter().map(NodeId).collect(),
        }
    }
}

impl From<NodeReport> for wire::NodeReport {
    fn from(report: NodeReport) -> Self {
        Self {
            addresses: Some(report.addresses.into()),
            version: report.version,
            disk_bytes: report.disk_bytes,
            disk_free_bytes: report.disk_free_bytes,
            started_at_us: report.started_at_us,
            replicas: report.replicas.into_iter().map(Into::into).collect(),
            sql_connections: report.sql_connections,
        }
    }
}

impl TryFrom<wire::NodeReport> for NodeReport {
    type Error = String;

    fn try_from(wire: wire::NodeReport) -> Result<Self, String> {
        Ok(Self {
            addresses: wire.addresses.ok_or("a report without addresses")?.into(),
            version: wire.version,
            disk_bytes: wire.disk_bytes,
            disk_free_bytes: wire.disk_free_bytes,
            started_at_us: wire.started_at_us,
            replicas: wire.replicas.into_iter().map(Into::into).collect(),
            sql_connections: wire.sql_connections,
        })
    }
}

impl From<NodeStatus> for wire::NodeStatus {
    fn from(status: NodeStatus) -> Self {
        let (report, unreachable) = match status.report {
            Ok(report) => (Some(report.into()), String::new()),
            Err(why) => (None, why),
        };
        Self { addresses: Some(status.addresses.into()), report, unreachable }
    }
}

impl TryFrom<wire::NodeStatus> for NodeStatus {
    type Error = String;

    fn try_from(wire: wire::NodeStatus) -> Result<Self, String> {
        let report = match wire.report {
            Some(report) => Ok(NodeReport::try_from(report)?),
            None => Err(wire.unreachable),
        };
        Ok(Self { addresses: wire.addresses.ok_or("a status without addresses")?.into(), report })
    }
}

impl From<StatusReport> for wire::StatusReply {
    fn from(report: StatusReport) -> Self {
        Self {
            cluster_id: report.cluster_id.0.to_vec().into(),
            answered_by: report.answered_by.0,
            nodes: report.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::StatusReply> for StatusReport {
    type Error = String;

    fn try_from(wire: wire::StatusReply) -> Result<Self, String> {
        Ok(Self {
            cluster_id: ClusterId::try_from(&wire.cluster_id[..])?,
            answered_by: NodeId(wire.answered_by),
            nodes: wire.nodes.into_iter().map(NodeStatus::try_from).collect::<Result<_, _>>()?,
        })
    }
}
