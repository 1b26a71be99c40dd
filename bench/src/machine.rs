//! What is measured on: processors, memory, and the time that a durable write takes.

use crate::report::Report;
use anyhow::Result;
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

fn sync_times(folder: &Path) -> Result<Histogram<u64>> {
    let path = folder.join("fdatasync-probe");
    let mut file = File::create(&path)?;
    let mut times = Histogram::new(3)?;
    for _ in 0..PROBE_WRITES {
        let start = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.record(start.elapsed().as_micros() as u64)?;
    }
    std::fs::remove_file(path)?;
    Ok(times)
}
