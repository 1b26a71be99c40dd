//! `rockpool-node status`: the cluster as a table for people or as JSON for programs.

use std::fmt::Write;

use clap::ArgMatches;
use rockpool_proto::NodeId;
use serde_json::{Value, json};

use super::folder::KnownNodes;
use super::{block_on, data_of, say};
use crate::cluster::{NodeStatus, ReplicaReport, ReplicaRole, StatusReport};
use crate::error::StartError;

pub(super) fn run(matches: &ArgMatches) -> Result<(), StartError> {
    let nodes = KnownNodes::read(&data_of(matches))?;
    let report = block_on(nodes.ask(|client| async move { client.status().await }))?;
    if matches.get_flag("json") { say(&format!("{:#}\n", as_json(&report))) } else { say(&as_table(&report)) }
}

/// What is said of the group, derived once for both forms.
struct Summary {
    leader: Option<NodeId>,
    term: u64,
    commit_index: u64,
}

fn replica(node: &NodeStatus) -> Option<&ReplicaReport> {
    node.report.as_ref().ok()?.replicas.first()
}

fn summary(report: &StatusReport) -> Summary {
    let replicas = || report.nodes.iter().filter_map(|node| Some((node.addresses.node_id, replica(node)?)));
    let term = replicas().map(|(_, replica)| replica.term).max().unwrap_or(0);
    // A leader of an older term may not know yet that it was replaced.
    let leader = replicas().find(|(_, replica)| replica.role == ReplicaRole::Leader && replica.term == term);
    let reported = || replicas().filter(|(_, replica)| replica.term == term).find_map(|(_, replica)| replica.leader);
    Summary {
        leader: leader.map(|(node, _)| node).or_else(reported),
        term,
        commit_index: replicas().map(|(_, replica)| replica.commit_index).max().unwrap_or(0),
    }
}

fn role(node: &NodeStatus) -> &'static str {
    match (&node.report, replica(node).map(|replica| replica.role)) {
        (Err(_), _) => "unreachable",
        (_, Some(ReplicaRole::Leader)) => "leader",
        (_, Some(ReplicaRole::Follower)) => "follower",
        (_, Some(ReplicaRole::Candidate)) => "candidate",
        (_, Some(ReplicaRole::Learner)) => "learner",
        (_, Some(ReplicaRole::Unknown) | None) => "joining",
    }
}

fn as_json(report: &StatusReport) -> Value {
    let summary = summary(report);
    let member = |node: &NodeStatus| {
        let mut member = json!({
            "node_id": node.addresses.node_id.0,
            "role": role(node),
            "reachable": node.report.is_ok(),
            "grpc": node.addresses.grpc,
            "pg": node.addresses.pg,
            "http": node.addresses.http,
        });
        match &node.report {
            Err(why) => member["error"] = json!(why),
            Ok(own) => {
                member["version"] = json!(own.version);
                member["disk_bytes"] = json!(own.disk_bytes);
                member["disk_free_bytes"] = json!(own.disk_free_bytes);
                member["started_at_us"] = json!(own.started_at_us);
                member["sql_connections"] = json!(own.sql_connections);
            }
        }
        if let Some(replica) = replica(node) {
            member["term"] = json!(replica.term);
            member["commit_index"] = json!(replica.commit_index);
            member["applied_index"] = json!(replica.applied_index);
            member["last_index"] = json!(replica.last_index);
            member["lag_entries"] = json!(summary.commit_index.saturating_sub(replica.applied_index));
        }
        member
    };
    json!({
        "cluster_id": report.cluster_id.to_string(),
        "answered_by": report.answered_by.0,
        "leader": summary.leader.map(|node| node.0),
        "term": summary.term,
        "commit_index": summary.commit_index,
        "members": report.nodes.iter().map(member).collect::<Vec<_>>(),
    })
}

fn as_table(report: &StatusReport) -> String {
    let summary = summary(report);
    let mut text = format!("cluster {}, as {} sees it\n", report.cluster_id, report.answered_by);
    let header = ["node", "role", "term", "applied", "lag", "disk", "free", "sql", "grpc", "pg"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for node in &report.nodes {
        let mut row = vec![node.addresses.node_id.to_string(), role(node).to_owned()];
        match replica(node) {
            Some(replica) => row.extend([
                replica.term.to_string(),
                replica.applied_index.to_string(),
                summary.commit_index.saturating_sub(replica.applied_index).to_string(),
            ]),
            None => row.extend(["-", "-", "-"].map(str::to_owned)),
        }
        match &node.report {
            Ok(own) => {
                row.extend([size(own.disk_bytes), size(own.disk_free_bytes), own.sql_connections.to_string()]);
            }
            Err(_) => row.extend(["-", "-", "-"].map(str::to_owned)),
        }
        row.extend([node.addresses.grpc.clone(), node.addresses.pg.clone()]);
        rows.push(row);
    }
    let widths: Vec<usize> =
        (0..header.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    for node in &report.nodes {
        if let Err(why) = &node.report {
            // Writing into a string can't fail.
            let _ = writeln!(text, "{} can't be reached: {why}", node.addresses.node_id);
        }
    }
    if summary.leader.is_none() {
        text += "no leader: too few members can reach each other to decide anything\n";
    }
    text
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Addresses, NodeReport};
    use crate::identity::ClusterId;

    fn node(id: u64, replica: Option<(ReplicaRole, u64, u64)>) -> NodeStatus {
        let addresses =
            Addresses { node_id: NodeId(id), grpc: format!("h:{id}"), pg: "h:9".to_owned(), http: "h:8".to_owned() };
        let report = replica.map(|(role, term, applied)| NodeReport {
            addresses: addresses.clone(),
            version: "1".to_owned(),
            disk_bytes: 3 << 20,
            disk_free_bytes: 5,
            started_at_us: 0,
            replicas: vec![ReplicaReport {
                group_id: 1,
                role,
                term,
                commit_index: applied,
                applied_index: applied,
                ..Default::default()
            }],
            sql_connections: 2,
        });
        NodeStatus { addresses, report: report.ok_or_else(|| "connection refused".to_owned()) }
    }

    #[test]
    fn the_leader_of_the_newest_term_counts_and_silence_is_shown() {
        let nodes = vec![
            node(1, Some((ReplicaRole::Leader, 3, 90))),
            node(2, Some((ReplicaRole::Leader, 4, 100))),
            node(3, None),
        ];
        let report = StatusReport { cluster_id: ClusterId([1; 16]), answered_by: NodeId(2), nodes };
        let json = as_json(&report);
        assert_eq!((json["leader"].as_u64(), json["term"].as_u64()), (Some(2), Some(4)));
        assert_eq!(json["members"][0]["lag_entries"], 10);
        assert_eq!(json["members"][2]["role"], "unreachable");
        let table = as_table(&report);
        assert!(table.contains("n3 can't be reached: connection refused"), "{table}");
        assert!(table.contains("3.0 MiB"), "{table}");
    }
}
