//! What is measured on: processors, memory, and the time that a durable write takes.

use crate::report::Report;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

const PROBE_WRITES: usize = 500;

/// Notes the machine, and the disk under `folder`.
pub fn describe(folder: &Path, report: &mut Report) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown")
        .trim_start_matches(['\t', ' ', ':']);
    report.fact("processor", format!("{cores} cores, {model}"));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    report.fact("memory", memory.lines().next().unwrap_or("unknown").trim_start_matches("MemTotal:").trim());
    let system = rustix::system::uname();
    report.fact("system", format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()));
    report.fact("version", env!("CARGO_PKG_VERSION"));
    report.fact("disk", file_system(folder));
    note_load("load before", report);
    let sync = sync_times(folder)?;
    report.fact(
        "fdatasync",
        format!(
            "p50 {} us, p99 {} us ({PROBE_WRITES} appends of 4 KiB)",
            sync.value_at_quantile(0.5),
            sync.value_at_quantile(0.99)
        ),
    );
    Ok(())
}

/// Notes how busy the machine is: others at work make every figure a lower bound.
pub fn note_load(what: &str, report: &mut Report) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    report.fact(what, format!("{} (processes running or waiting: last 1, 5, 15 minutes)", load.join(" ")));
}

/// The file system under a folder, and what it is on.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let under = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    // Of several mounted on each other, the longest path is the folder's, and of equal ones the last.
    under
        .max_by_key(|fields| fields[1].len())
        .map_or("unknown".into(), |fields| format!("{} on {}", fields[2], fields[0]))
}

fn sync_times(folder: &Path) -> Result<Histogram<u64>> {
    let path = folder.join("fdatasync-probe");
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut times = Histogram::new(3)?;
    for _ in 0..PROBE_WRITES {
        let start = Instant::now();
        file.write_all(&[7; 4096]).with_context(|| path.display().to_string())?;
        file.sync_data().with_context(|| path.display().to_string())?;
        times.record(start.elapsed().as_micros() as u64)?;
    }
    std::fs::remove_file(path)?;
    Ok(times)
}
