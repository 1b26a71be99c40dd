//! What is counted and timed, for Prometheus: one registry, one table of names.
//!
//! Gauges that describe the present (roles, terms, lag, disk) are set just before they are read, so nothing runs for
//! them between two scrapes.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use rockpool_sql::StatementKind;

/// What kind of statement was run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// With which SQLSTATE a statement failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    sqlstate: String,
}

/// Which Raft group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: u64,
}

/// Which Raft group, and which other node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FollowerLabel {
    group: u64,
    node: u64,
}

type IntFamily<L> = Family<L, Gauge<i64, AtomicI64>>;
type LatencyFamily = Family<KindLabel, Histogram, fn() -> Histogram>;

/// The node's metrics.
pub struct Metrics {
    registry: Mutex<Registry>,
    statements: LatencyFamily,
    failures: Family<StateLabel, Counter<u64, AtomicU64>>,
    retries: Counter<u64, AtomicU64>,
    connections: Gauge<i64, AtomicI64>,
    is_leader: IntFamily<GroupLabel>,
    term: IntFamily<GroupLabel>,
    committed: IntFamily<GroupLabel>,
    applied: IntFamily<GroupLabel>,
    voters: IntFamily<GroupLabel>,
    lag: IntFamily<FollowerLabel>,
    disk_bytes: Gauge<i64, AtomicI64>,
    log_syncs: Gauge<i64, AtomicI64>,
    log_sync_microseconds: Gauge<i64, AtomicI64>,
}

/// One replica, as metrics see it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaGauges {
    /// Which group.
    pub group: u64,
    /// Whether this node leads it.
    pub leads: bool,
    /// Raft term.
    pub term: u64,
    /// Index known committed.
    pub committed: u64,
    /// Index applied.
    pub applied: u64,
    /// Nodes that vote.
    pub voters: usize,
    /// On the leader: how many entries each other node is behind.
    pub lags: Vec<(u64, u64)>,
}

fn latencies() -> Histogram {
    // 50 microseconds to 26 seconds.
    Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics, all zero.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("rockpool")),
            statements: Family::new_with_constructor(latencies),
            failures: Family::default(),
            retries: Counter::default(),
            connections: Gauge::default(),
            is_leader: Family::default(),
            term: Family::default(),
            committed: Family::default(),
            applied: Family::default(),
            voters: Family::default(),
            lag: Family::default(),
            disk_bytes: Gauge::default(),
            log_syncs: Gauge::default(),
            log_sync_microseconds: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        let statements = self.statements.clone();
        registry.register_with_unit(
            "sql_statement_duration",
            "Time from a statement's arrival to its answer, by kind",
            Unit::Seconds,
            statements,
        );
        registry.register("sql_statement_failures", "Statements that failed, by SQLSTATE", self.failures.clone());
        registry.register("sql_statement_retries", "Statements run again inside the node", self.retries.clone());
        registry.register("sql_connections", "PostgreSQL connections being served", self.connections.clone());
        registry.register("raft_is_leader", "1 where this node leads the group", self.is_leader.clone());
        registry.register("raft_term", "Raft term", self.term.clone());
        registry.register("raft_commit_index", "Highest log index known committed", self.committed.clone());
        registry.register("raft_applied_index", "Highest log index applied here", self.applied.clone());
        registry.register("raft_voters", "Nodes that vote in the group", self.voters.clone());
        registry.register("raft_follower_lag_entries", "Entries a node is behind its leader", self.lag.clone());
        registry.register_with_unit("disk", "Bytes of the data folder", Unit::Bytes, self.disk_bytes.clone());
        registry.register("raft_log_syncs", "Writes of the Raft log, each with one sync", self.log_syncs.clone());
        registry.register(
            "raft_log_sync_microseconds",
            "Time spent in writes of the Raft log",
            self.log_sync_microseconds.clone(),
        );
    }

    /// A statement succeeded.
    pub fn statement_finished(&self, kind: &StatementKind, took: Duration) {
        self.statements.get_or_create(&KindLabel { kind: label(kind) }).observe(took.as_secs_f64());
    }

    /// A statement failed.
    pub fn statement_failed(&self, sqlstate: &str) {
        self.failures.get_or_create(&StateLabel { sqlstate: sqlstate.to_owned() }).inc();
    }

    /// A statement is run again.
    pub fn statement_retried(&self) {
        self.retries.inc();
    }

    /// Sets the connections.
    pub fn set_connections(&self, connections: usize) {
        self.connections.set(gauge(connections as u64));
    }

    /// Sets what a replica shows.
    pub fn set_replica(&self, replica: &ReplicaGauges) {
        let label = GroupLabel { group: replica.group };
        self.is_leader.get_or_create(&label).set(i64::from(replica.leads));
        self.term.get_or_create(&label).set(gauge(replica.term));
        self.committed.get_or_create(&label).set(gauge(replica.committed));
        self.applied.get_or_create(&label).set(gauge(replica.applied));
        self.voters.get_or_create(&label).set(gauge(replica.voters as u64));
        // Nodes that left, or a group that is led elsewhere now, must not go on showing an old lag.
        self.lag.clear();
        for (node, behind) in &replica.lags {
            self.lag.get_or_create(&FollowerLabel { group: replica.group, node: *node }).set(gauge(*behind));
        }
    }

    /// Sets what the disk shows.
    pub fn set_disk(&self, bytes: u64, syncs: u64, sync_us: u64) {
        self.disk_bytes.set(gauge(bytes));
        self.log_syncs.set(gauge(syncs));
        self.log_sync_microseconds.set(gauge(sync_us));
    }

    /// Everything, in Prometheus' text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("a string takes whatever is written");
        text
    }
}

fn label(kind: &StatementKind) -> &'static str {
    use StatementKind as Kind;
    match kind {
        Kind::Query { .. } => "query",
        Kind::Dml => "dml",
        Kind::Ddl => "ddl",
        Kind::Explain => "explain",
        Kind::Begin { .. } | Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_) => "transaction",
        Kind::Commit { .. } => "commit",
        Kind::Rollback { .. } => "rollback",
        Kind::Role(_) => "role",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_in_prometheus_text() {
        let metrics = Metrics::new();
        metrics.statement_finished(&StatementKind::Dml, Duration::from_millis(3));
        metrics.statement_failed("40001");
        metrics.set_connections(2);
        let replica =
            ReplicaGauges { group: 1, leads: true, term: 4, applied: 9, lags: vec![(3, 7)], ..Default::default() };
        metrics.set_replica(&replica);
        let text = metrics.encode();
        for line in [
            "rockpool_sql_statement_duration_seconds_count{kind=\"dml\"} 1",
            "rockpool_sql_statement_failures_total{sqlstate=\"40001\"} 1",
            "rockpool_sql_connections 2",
            "rockpool_raft_is_leader{group=\"1\"} 1",
            "rockpool_raft_follower_lag_entries{group=\"1\",node=\"3\"} 7",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
