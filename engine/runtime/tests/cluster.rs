//! Three nodes do what a cluster is for.

mod common;

use common::{Cluster, DEADLINE, GROUP, count, get, put, transact};
use rockpool_runtime::{Class, Engine, EngineError, NodeId, Transaction};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn any_node_writes_and_every_node_reads_it_at_once() {
    let cluster = Cluster::start(3).await;
    for (round, writer) in cluster.nodes.iter().enumerate() {
        let key = format!("key {round}");
        put(writer.engine(), &key, "value").await;
        for reader in &cluster.nodes {
            assert_eq!(get(reader.engine(), &key).await.as_deref(), Some("value"), "written on {}", writer.id);
        }
    }
    assert_eq!(count(cluster.nodes[2].engine(), "key", "kez").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_wrote_nothing_has_no_timestamp() {
    let cluster = Cluster::start(1).await;
    let engine = cluster.nodes[0].engine();
    let transaction = engine.begin().await.unwrap();
    assert_eq!(transaction.get(b"nothing").unwrap(), None);
    assert_eq!(engine.commit(transaction).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_read_and_write_the_same_one_is_told_of_the_conflict() {
    let cluster = Cluster::start(3).await;
    put(cluster.nodes[0].engine(), "x", "0").await;
    let (first, second) = (cluster.nodes[1].engine(), cluster.nodes[2].engine());
    let mut one = first.begin().await.unwrap();
    let mut two = second.begin().await.unwrap();
    for transaction in [&mut one, &mut two] {
        transaction.get(b"x").unwrap();
        transaction.put(b"x".to_vec(), b"changed".to_vec()).unwrap();
    }
    first.commit(one).await.unwrap();
    let error = second.commit(two).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
}

fn balance(transaction: &mut Transaction, account: u64) -> i64 {
    let value = transaction.get(format!("account {account}").as_bytes()).unwrap().expect("accounts exist");
    String::from_utf8(value).unwrap().parse().unwrap()
}

async fn transfer(engine: &Engine, from: u64, to: u64) {
    let moved = transact(engine, |transaction| {
        let (a, b) = (balance(transaction, from), balance(transaction, to));
        transaction.put(format!("account {from}").into(), (a - 1).to_string().into()).unwrap();
        transaction.put(format!("account {to}").into(), (b + 1).to_string().into()).unwrap();
    });
    moved.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_on_all_nodes_at_once_keep_the_total() {
    const ACCOUNTS: u64 = 4;
    let cluster = Cluster::start(3).await;
    for account in 0..ACCOUNTS {
        put(cluster.nodes[0].engine(), &format!("account {account}"), "100").await;
    }
    let mut movers = tokio::task::JoinSet::new();
    for (mover, node) in cluster.nodes.iter().enumerate() {
        let engine = node.engine().clone();
        movers.spawn(async move {
            for round in 0..20 {
                let from = (mover as u64 + round) % ACCOUNTS;
                transfer(&engine, from, (from + 1 + round % 2) % ACCOUNTS).await;
            }
        });
    }
    while let Some(mover) = movers.join_next().await {
        mover.unwrap();
    }
    for node in &cluster.nodes {
        let sum =
            |transaction: &mut Transaction| (0..ACCOUNTS).map(|account| balance(transaction, account)).sum::<i64>();
        assert_eq!(transact(node.engine(), sum).await.unwrap().0, 400, "on {}", node.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_writes_resume_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for number in 0..50 {
        put(cluster.node(leader).engine(), &format!("before {number:02}"), "x").await;
    }
    cluster.node_mut(leader).kill().await;
    let killed = Instant::now();
    let other = NodeId(leader.0 % 3 + 1);
    put(cluster.node(other).engine(), "after", "y").await;
    let gap = killed.elapsed();
    println!("writes resumed after {gap:?}");
    assert!(gap < DEADLINE / 3, "{gap:?}");
    assert_eq!(count(cluster.node(other).engine(), "before", "beforf").await, 50);
    cluster.restart(leader).await;
    assert_eq!(get(cluster.node(leader).engine(), "after").await.as_deref(), Some("y"));
    assert_eq!(count(cluster.node(leader).engine(), "before", "beforf").await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_killed_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..100 {
        put(cluster.nodes[number % 3].engine(), &format!("key {number:02}"), &number.to_string()).await;
    }
    for id in 1..=3 {
        cluster.node_mut(NodeId(id)).kill().await;
    }
    for id in 1..=3 {
        cluster.restart(NodeId(id)).await;
    }
    for node in &cluster.nodes {
        assert_eq!(count(node.engine(), "key", "kez").await, 100, "on {}", node.id);
        assert_eq!(get(node.engine(), "key 42").await.as_deref(), Some("42"));
    }
    put(cluster.nodes[0].engine(), "key 99", "again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_hands_leadership_over_first() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    put(cluster.node(leader).engine(), "key", "value").await;
    let engine = cluster.node(leader).engine().clone();
    cluster.node_mut(leader).stop().await;
    assert_eq!(engine.begin().await.err(), Some(EngineError::ShuttingDown));
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    put(cluster.node(next).engine(), "key", "new").await;
    cluster.restart(leader).await;
    assert_eq!(get(cluster.node(leader).engine(), "key").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_stops_and_starts_with_everything() {
    let mut cluster = Cluster::start(1).await;
    put(cluster.nodes[0].engine(), "key", "value").await;
    cluster.node_mut(NodeId(1)).stop().await;
    cluster.restart(NodeId(1)).await;
    assert_eq!(get(cluster.nodes[0].engine(), "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_catches_up_by_snapshot_and_then_votes() {
    let mut cluster = Cluster::start_tuned(1, |options| {
        options.limits.log_flush_entries = 50;
        options.limits.log_keep_entries = 20;
        options.limits.log_keep_bytes = 64 << 10;
        options.limits.snapshot_chunk_bytes = 16 << 10;
    })
    .await;
    let value = "v".repeat(1000);
    for number in 0..400 {
        put(cluster.nodes[0].engine(), &format!("key {number:03}"), &value).await;
    }
    cluster
        .wait_for(NodeId(1), "the log was cut", |status| {
            status.group(GROUP).is_some_and(|group| group.first_index > 100)
        })
        .await;
    for _ in 0..2 {
        let id = cluster.join().await;
        assert_eq!(count(cluster.node(id).engine(), "key", "kez").await, 400);
        let group = cluster.node(id).status().group(GROUP).cloned().unwrap();
        assert!(group.first_index > 100, "it can't have got all of the log: {group}");
    }
    cluster.node_mut(NodeId(1)).kill().await;
    put(cluster.node(NodeId(2)).engine(), "key 400", "new").await;
    assert_eq!(count(cluster.node(NodeId(3)).engine(), "key", "kez").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_leaves_and_the_others_go_on() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let gone = NodeId(leader.0 % 3 + 1);
    let engine = cluster.node(leader).engine();
    engine.remove_node(gone).await.unwrap();
    let group = cluster.node(leader).status().group(GROUP).cloned().unwrap();
    assert!(!group.voters.contains(&gone), "{group}");
    put(engine, "key", "value").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let next = NodeId(leader.0 % 3 + 1);
    let started = Instant::now();
    // On a machine that is too busy to hold an election in time, it is refused and can be asked for again.
    while let Err(error) = cluster.node(leader).engine().transfer_leadership(Some(next)).await {
        assert!(error.class() == Class::Retry && started.elapsed() < DEADLINE, "{error}");
    }
    cluster.wait_for(next, "it leads", |status| status.leads(GROUP)).await;
}
