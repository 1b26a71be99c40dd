//! What it costs to have Rockpool running and do nothing with it.

use crate::report::Report;
use crate::transfer;
use anyhow::{Context, Result};
use rockpool_e2e::{Cluster, Process};
use std::path::Path;
use std::time::Duration;

/// Time for start-up to settle before memory is read.
const SETTLE: Duration = Duration::from_secs(10);

/// Reads the resident memory and the processor time of idle processes.
pub fn run(root: &Path, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(root)?;
    let cluster = Cluster::start(root, 3)?;
    let (ann, bob) = transfer::pair(root, &cluster)?;
    let mut at_ann = ann.open("bench")?;
    let mut at_bob = bob.open("bench")?;
    at_ann.wait_linked("bob")?;
    at_bob.wait_linked("ann")?;
    let node = cluster.nodes[0].process.as_ref().context("the node runs")?;
    let before = (processor_ticks(node)?, processor_ticks(&at_ann.process)?);
    std::thread::sleep(SETTLE);
    let after = (processor_ticks(node)?, processor_ticks(&at_ann.process)?);
    // The kernel counts in hundredths of a second on every system that we build for.
    let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 / SETTLE.as_secs_f64();
    let note = |percent: f64| format!("resident; {percent:.1} % of a core");
    report.figure("Idle", "node (one of three)", resident_mib(node)?, "MiB", note(percent(before.0, after.0)));
    report.figure(
        "Idle",
        "peer (pool open, one link)",
        resident_mib(&at_ann.process)?,
        "MiB",
        note(percent(before.1, after.1)),
    );
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
