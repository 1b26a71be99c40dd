//! Statements a second over the PostgreSQL protocol: TLS, prepared, every insert its own transaction and durable on a
//! majority before it is acknowledged.

use crate::report::Report;
use anyhow::Result;
use hdrhistogram::Histogram;
use rockpool_e2e::{Cluster, Node, sql};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Bytes in the text column of a row.
const ROW_BYTES: usize = 256;
/// Rows that point selects draw from.
const SELECT_ROWS: i64 = 10_000;
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Load {
    Insert,
    Select,
}

/// Measures inserts and selects with each number of connections, spread over all nodes.
pub fn run(root: &Path, nodes: usize, connections: &[usize], time: Duration, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(root)?;
    let cluster = Cluster::start(root, nodes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        prepare(&cluster.nodes[0]).await?;
        let next = Arc::new(AtomicI64::new(SELECT_ROWS));
        for (load, name) in [(Load::Insert, "single-row insert"), (Load::Select, "point select")] {
            for &count in connections {
                let times = measure(&cluster.nodes, load, count, time, &next).await?;
                let section = format!("SQL over pgwire, {nodes} {}", if nodes == 1 { "node" } else { "nodes" });
                let note = format!(
                    "p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms",
                    times.value_at_quantile(0.5) as f64 / 1e3,
                    times.value_at_quantile(0.99) as f64 / 1e3,
                    times.max() as f64 / 1e3
                );
                let rate = times.len() as f64 / time.as_secs_f64();
                report.figure(&section, format!("{name}, {count} connections"), rate, "1/s", note);
            }
        }
        Ok(())
    })
}

async fn prepare(node: &Node) -> Result<()> {
    let client = sql::connect(node).await?;
    client.batch_execute("CREATE TABLE bench (id int8 PRIMARY KEY, body text NOT NULL)").await?;
    let body = "x".repeat(ROW_BYTES);
    for start in (0..SELECT_ROWS).step_by(500) {
        let rows: Vec<String> = (start..start + 500).map(|id| format!("({id}, '{body}')")).collect();
        client.batch_execute(&format!("INSERT INTO bench VALUES {}", rows.join(","))).await?;
    }
    Ok(())
}

async fn measure(
    nodes: &[Node],
    load: Load,
    count: usize,
    time: Duration,
    next: &Arc<AtomicI64>,
) -> Result<Histogram<u64>> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(sql::connect(&nodes[number % nodes.len()]).await?);
    }
    let start = Instant::now() + WARM_UP;
    let end = start + time;
    let mut workers = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let next = next.clone();
        workers.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            let body = "y".repeat(ROW_BYTES);
            let statement = match load {
                Load::Insert => client.prepare("INSERT INTO bench VALUES ($1, $2)").await?,
                Load::Select => client.prepare("SELECT body FROM bench WHERE id = $1").await?,
            };
            let mut draw = number as i64;
            while Instant::now() < end {
                let began = Instant::now();
                match load {
                    Load::Insert => {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        client.execute(&statement, &[&id, &body]).await?;
                    }
                    Load::Select => {
                        draw = (draw * 6_364_136 + 1_442_695) % SELECT_ROWS;
                        client.query_one(&statement, &[&draw]).await?;
                    }
                }
                if began >= start && Instant::now() <= end {
                    times.record(began.elapsed().as_micros() as u64)?;
                }
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Histogram::<u64>::new(3)?;
    while let Some(times) = workers.join_next().await {
        all.add(times??)?;
    }
    Ok(all)
}
