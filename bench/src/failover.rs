//! The pause in acknowledged writes when the leader is killed.

use crate::report::Report;
use anyhow::Result;
use rockpool_e2e::{Cluster, sql};
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes acknowledged before the leader is killed, so that everything is warm.
const WRITES_BEFORE: u32 = 200;
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long one write may hang before the next is tried. Longer than a node keeps a client waiting, so that it cuts nothing
/// short that would have come.
const WRITE_MAX: Duration = Duration::from_secs(15);

/// Kills the leader of three nodes `rounds` times; a client on a survivor never stops writing.
pub fn run(root: &Path, rounds: u32, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(root)?;
    let mut cluster = Cluster::start(root, 3)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut pauses = Vec::new();
    for round in 0..rounds {
        let leader = cluster.leader()?;
        let survivor = (leader + 1) % cluster.nodes.len();
        let (data, port) = (cluster.nodes[survivor].data.clone(), cluster.nodes[survivor].pg_port);
        let dying = &mut cluster.nodes[leader];
        let pause = runtime.block_on(async {
            let client = sql::connect_at(&data, port).await?;
            client
                .batch_execute("CREATE TABLE IF NOT EXISTS failover (round int4, id int4, PRIMARY KEY (round, id))")
                .await?;
            let insert = client.prepare("INSERT INTO failover VALUES ($1, $2) ON CONFLICT DO NOTHING").await?;
            for id in 0..WRITES_BEFORE {
                client.execute(&insert, &[&(round as i32), &(id as i32)]).await?;
            }
            dying.kill9()?;
            let killed = Instant::now();
            // The same row again and again until it is acknowledged: the outcome of a lost answer is unknown.
            let (row, id) = (round as i32, WRITES_BEFORE as i32);
            loop {
                if let Ok(Ok(_)) = tokio::time::timeout(WRITE_MAX, client.execute(&insert, &[&row, &id])).await {
                    break;
                }
                anyhow::ensure!(killed.elapsed() < PAUSE_MAX, "no write within {PAUSE_MAX:?} of the leader's death");
            }
            anyhow::Ok(killed.elapsed())
        })?;
        pauses.push(pause.as_secs_f64());
        eprintln!("  round {} of {rounds}: {:.2} s without an acknowledged write", round + 1, pause.as_secs_f64());
        cluster.nodes[leader].start(None)?;
        cluster.nodes[leader].wait_ready()?;
        cluster.wait_voters(3)?;
    }
    let note = format!("from SIGKILL to the next acknowledged write, {rounds} kills");
    report.figure("Failover, 3 nodes", "pause in writes", "s", pauses, note);
    Ok(())
}
