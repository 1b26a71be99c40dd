//! The walls of ARCHITECTURE.md as a test: which crate may import which of ours, and which foreign crate it alone may name.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Crate, and those of ours that it may import.
const OURS: &[(&str, &[&str])] = &[
    ("rockpool-proto", &[]),
    ("rockpool-engine", &["rockpool-proto"]),
    ("rockpool-rocks", &["rockpool-proto", "rockpool-engine"]),
    ("rockpool-runtime", &["rockpool-proto", "rockpool-engine", "rockpool-rocks"]),
    ("rockpool-sql", &[]),
    ("rockpool-sqlnode", &["rockpool-proto", "rockpool-engine", "rockpool-runtime", "rockpool-sql"]),
    ("rockpool-peer-core", &["rockpool-proto"]),
    ("rockpool-peer", &["rockpool-proto", "rockpool-peer-core"]),
    ("rockpool-sim", &["rockpool-proto", "rockpool-engine", "rockpool-sql", "rockpool-peer-core"]),
    ("rockpool-bench", ANY),
    ("rockpool-e2e", ANY),
];

const ANY: &[&str] = &["*"];

/// A foreign crate, and the only ones that may name it outside tests.
const FOREIGN: &[(&str, &[&str])] = &[
    ("raft", &["rockpool-engine"]),
    ("rocksdb", &["rockpool-rocks"]),
    ("sqlparser", &["rockpool-sql"]),
    ("pgwire", &["rockpool-sqlnode"]),
    ("webrtc", &["rockpool-peer"]),
    ("criterion", &[]),
    ("redb", &["rockpool-peer"]),
];

/// Crates that are machines: nothing in them may reach for a runtime, a socket or a clock.
const MACHINES: &[&str] = &["rockpool-proto", "rockpool-engine", "rockpool-sql", "rockpool-peer-core", "rockpool-sim"];
const DRIVERS_ONLY: &[&str] = &["tokio", "getrandom", "parking_lot", "futures", "rustls", "redb", "rocksdb", "webrtc"];

/// Package name to its ordinary dependencies (neither tests nor build scripts, nor optional ones).
fn dependencies() -> Result<BTreeMap<String, Vec<String>>> {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let ordinary = package["dependencies"]
            .as_array()
            .context("dependencies")?
            .iter()
            .filter(|dependency| dependency["kind"].is_null() && dependency["optional"] == false);
        let names = ordinary.filter_map(|dependency| dependency["name"].as_str().map(str::to_string)).collect();
        found.insert(package["name"].as_str().context("name")?.to_string(), names);
    }
    Ok(found)
}

#[test]
fn crates_import_only_what_they_may() -> Result<()> {
    let dependencies = dependencies()?;
    assert_eq!(dependencies.len(), OURS.len(), "a crate is missing from the table above, or from the workspace");
    for (name, allowed) in OURS {
        let own = &dependencies[*name];
        for ours in own.iter().filter(|dependency| dependency.starts_with("rockpool-")) {
            assert!(allowed == &ANY || allowed.contains(&ours.as_str()), "{name} must not import {ours}");
        }
        for (foreign, owners) in FOREIGN {
            let names_it = own.iter().any(|dependency| dependency == foreign);
            assert!(!names_it || owners.contains(name), "{name} must not name {foreign}: only {owners:?} may");
        }
    }
    Ok(())
}

#[test]
fn machines_touch_nothing() -> Result<()> {
    let dependencies = dependencies()?;
    for name in MACHINES {
        for forbidden in DRIVERS_ONLY {
            assert!(
                !dependencies[*name].iter().any(|dependency| dependency == forbidden),
                "{name} is a machine and must not use {forbidden}"
            );
        }
    }
    Ok(())
}
