//! A file from one device to another: read, hashed, encrypted, sent, verified, written, synced.

use crate::report::Report;
use anyhow::{Context, Result};
use rockpool_e2e::{Cluster, Device, files};
use std::path::Path;
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct horse battery";

/// Sends a file of `mib` MiB `rounds` times between two devices of one machine.
pub fn run(root: &Path, mib: u64, rounds: u32, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(root)?;
    let cluster = Cluster::start(root, 1)?;
    let (ann, bob) = pair(root, &cluster)?;
    let mut at_ann = ann.open("bench")?;
    let mut at_bob = bob.open("bench")?;
    at_ann.wait_linked("bob")?;
    at_bob.wait_linked("ann")?;
    let (mut rates, mut hashings) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let path = root.join(format!("file{round}.bin"));
        files::generate(&path, mib << 20, u64::from(round))?;
        let hashing = Instant::now();
        let offer = ann.must(&["send", path.to_str().context("a printable path")?])?;
        let hashing = hashing.elapsed();
        let id = offer["id"].as_str().context("an offer has an id")?;
        at_bob
            .wait_for("the offer", Duration::from_secs(20), |event| event["event"] == "offer" && event["id"] == id)?;
        let to = root.join(format!("to{round}"));
        let done = bob.must(&["get", id, "--to", to.to_str().context("a printable path")?])?;
        let seconds = done["elapsed_ms"].as_u64().context("elapsed_ms")? as f64 / 1e3;
        let bits = done["received_bytes"].as_u64().context("received_bytes")? as f64 * 8.0;
        anyhow::ensure!(files::hash(&path)? == files::hash(&to.join(format!("file{round}.bin")))?, "the copy differs");
        rates.push(bits / seconds / 1e9);
        hashings.push(hashing.as_secs_f64());
        eprintln!("  round {} of {rounds}: {:.2} Gbit/s", round + 1, bits / seconds / 1e9);
        std::fs::remove_file(&path)?;
        std::fs::remove_dir_all(&to)?;
    }
    let section = "Transfer, two processes, loopback";
    let note = format!("{mib} MiB, from the request to the last fsync and rename");
    report.figure(section, "file to file", "Gbit/s", rates, note);
    report.figure(section, "offering it (hashing)", "s", hashings, "before anybody asks for it");
    Ok(())
}

/// Two people with a device each, in one pool.
pub fn pair(root: &Path, cluster: &Cluster) -> Result<(Device, Device)> {
    let address = cluster.address()?;
    let ann = Device::new(root, "ann", &address)?;
    let bob = Device::new(root, "bob", &address)?;
    ann.sign_up("ann", "Ann", PASSWORD)?;
    bob.sign_up("bob", "Bob", PASSWORD)?;
    ann.must(&["pool", "create", "bench"])?;
    let invite = ann.must(&["pool", "invite", "bench"])?["invite"].as_str().context("an invite")?.to_string();
    bob.must_with(&["pool", "join", "-"], &invite)?;
    Ok((ann, bob))
}
