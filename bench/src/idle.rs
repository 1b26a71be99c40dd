//! What it costs to have Rockpool running and do nothing with it.

use crate::report::Report;
use crate::transfer;
use anyhow::{Context, Result};
use rockpool_e2e::{Cluster, Process};
use std::path::Path;
use std::time::Duration;

/// Time for start-up to settle.
const SETTLE: Duration = Duration::from_secs(5);
/// Time over which idling is watched.
const WATCH: Duration = Duration::from_secs(10);

/// Reads the resident memory and the processor time of idle processes.
pub fn run(root: &Path, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(root)?;
    let cluster = Cluster::start(root, 3)?;
    let (ann, bob) = transfer::pair(root, &cluster)?;
    let mut at_ann = ann.open("bench")?;
    let mut at_bob = bob.open("bench")?;
    at_ann.wait_linked("bob")?;
    at_bob.wait_linked("ann")?;
    let leader = cluster.leader()?;
    let node = |at: usize| cluster.nodes[at].process.as_ref().context("the node runs");
    let watched = [
        ("node, the leader of three", node(leader)?),
        ("node, a follower", node((leader + 1) % cluster.nodes.len())?),
        ("peer, pool open, one link", &at_ann.process),
    ];
    // Starting up has to settle first, or it would count as idling.
    std::thread::sleep(SETTLE);
    let before = watched.iter().map(|(_, process)| processor_ticks(process)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(WATCH);
    for ((what, process), before) in watched.into_iter().zip(before) {
        // The kernel counts in hundredths of a second on every system that we build for.
        let percent = processor_ticks(process)?.saturating_sub(before) as f64 / WATCH.as_secs_f64();
        let note = format!("resident; {percent:.1} % of a core over {} s", WATCH.as_secs());
        report.figure("Idle", what, "MiB", vec![resident_mib(process)?], note);
    }
    Ok(())
}

fn resident_mib(process: &Process) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn processor_ticks(process: &Process) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok(fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?)
}
