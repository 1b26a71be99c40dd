//! `rockpool-bench` as its user meets it: what it refuses, and what it leaves behind.

use anyhow::{Context, Result};
use rockpool_e2e::{Process, wait_until};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rockpool-bench"))
}

/// Processes whose command line names `folder`.
fn processes_of(folder: &Path) -> Result<Vec<u32>> {
    let name = folder.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_string_lossy().parse().ok()) else { continue };
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&*name) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn an_interruption_ends_the_nodes_and_removes_their_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut command = bench();
    command.args(["sql", "--nodes", "1", "--connections", "1", "--seconds", "60", "--data"]).arg(&data);
    let mut process = Process::start("bench", command, &folder.path().join("log"), false)?;
    wait_until("a node's data", Duration::from_secs(30), || {
        let inside = entries(&data).ok()?.pop()?;
        inside.join("sql").join("node1").join("pgpass").exists().then_some(())
    })
    .map_err(|error| process.complain(&error.to_string()))?;
    assert!(!processes_of(&data)?.is_empty(), "its node runs");

    process.signal(Signal::TERM)?;
    let status = process.wait(Duration::from_secs(20))?;
    assert_eq!(status.code(), Some(130), "{}", process.log_tail());
    wait_until("the node's end", Duration::from_secs(10), || processes_of(&data).ok()?.is_empty().then_some(()))?;
    assert_eq!(entries(&data)?, Vec::<PathBuf>::new(), "nothing is left");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = |words: &[&str], said: &str| -> Result<()> {
        let output = bench().current_dir(folder.path()).args(words).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{words:?}: {text}");
        assert_eq!(entries(folder.path())?, Vec::<PathBuf>::new(), "{words:?}");
        Ok(())
    };
    refused(&["sql", "--nodes", "0"], "0 is not in 1..=7")?;
    refused(&["sql", "--connections", "1,0"], "0 is not in 1..=1000")?;
    refused(&["sql", "--seconds", "0"], "0 is not in")?;
    refused(&["failover", "--rounds", "0"], "0 is not in")?;
    refused(&["transfer", "--mib", "0"], "0 is not in")?;
    refused(&["sql", "--against", "127.0.0.1:5432"], "not a PostgreSQL URL")?;
    refused(&["idle", "--data", "/proc/nowhere"], "/proc/nowhere can't be measured on")?;
    Ok(())
}

#[test]
fn without_the_other_binaries_it_names_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let alone = folder.path().join("rockpool-bench");
    std::fs::copy(env!("CARGO_BIN_EXE_rockpool-bench"), &alone)?;
    let mut command = Command::new(&alone);
    command.arg("idle").current_dir(folder.path()).env_remove("ROCKPOOL_BIN_DIR");
    let output = command.output().context("the copy runs")?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("rockpool-node is not built. Run: cargo build"), "{text}");
    assert_eq!(entries(folder.path())?.len(), 1, "nothing but itself");
    Ok(())
}
