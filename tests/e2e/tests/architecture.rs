//! The walls of ARCHITECTURE.md as a test: which crate may import which of ours, and which foreign crate it alone may name.
//! The tables are read from the documents, so that they can't say anything else than what is built.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What ARCHITECTURE.md says of a crate.
struct Crate {
    /// Crates of ours that it may import; none for any.
    imports: Option<BTreeSet<String>>,
    /// Foreign crates that nobody else may name.
    owns: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The table of crates, by crate.
fn documented() -> Result<BTreeMap<String, Crate>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, name, _, imports, owns, _, _] = cells.as_slice() else { continue };
        let Some(name) = name.strip_prefix("`rockpool-").and_then(|name| name.strip_suffix('`')) else { continue };
        let list = |cell: &str, prefix: &str| -> BTreeSet<String> {
            cell.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| format!("{prefix}{word}"))
                .collect()
        };
        let imports = (*imports != "any").then(|| list(imports, "rockpool-"));
        found.insert(format!("rockpool-{name}"), Crate { imports, owns: list(owns, "") });
    }
    Ok(found)
}

/// Crates that are machines: nothing in them may reach for a runtime, a socket or a clock.
const MACHINES: &[&str] = &["rockpool-proto", "rockpool-engine", "rockpool-sql", "rockpool-peer-core", "rockpool-sim"];
const DRIVERS_ONLY: &[&str] = &["tokio", "getrandom", "parking_lot", "futures", "rustls", "redb", "rocksdb", "webrtc"];

/// Package name to what it depends on: all of it, or only what is not for tests, build scripts or optional.
fn dependencies(all: bool) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let wanted = package["dependencies"]
            .as_array()
            .context("dependencies")?
            .iter()
            .filter(|dependency| all || (dependency["kind"].is_null() && dependency["optional"] == false));
        let names = wanted.filter_map(|dependency| dependency["name"].as_str().map(str::to_string)).collect();
        found.insert(package["name"].as_str().context("name")?.to_string(), names);
    }
    Ok(found)
}

#[test]
fn crates_import_only_what_they_may() -> Result<()> {
    let documented = documented()?;
    let (ordinary, all) = (dependencies(false)?, dependencies(true)?);
    let names = |crates: &BTreeMap<String, _>| crates.keys().cloned().collect::<BTreeSet<_>>();
    let in_document: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(names(&ordinary), in_document, "ARCHITECTURE.md's table and the workspace have different crates");
    for (name, rules) in &documented {
        let own = &ordinary[name];
        for ours in own.iter().filter(|dependency| dependency.starts_with("rockpool-")) {
            let allowed = rules.imports.as_ref().is_none_or(|imports| imports.contains(ours));
            assert!(allowed, "ARCHITECTURE.md does not let {name} import {ours}");
        }
        for foreign in &rules.owns {
            assert!(all[name].contains(foreign), "ARCHITECTURE.md gives {foreign} to {name}, which does not use it");
            let others = all.iter().find(|(other, theirs)| *other != name && theirs.contains(foreign));
            assert!(others.is_none(), "{foreign} is {name}'s alone, but {:?} names it", others.map(|(other, _)| other));
        }
    }
    Ok(())
}

#[test]
fn machines_touch_nothing() -> Result<()> {
    let dependencies = dependencies(false)?;
    for name in MACHINES {
        for forbidden in DRIVERS_ONLY {
            assert!(!dependencies[*name].contains(*forbidden), "{name} is a machine and must not use {forbidden}");
        }
    }
    Ok(())
}

#[test]
fn every_dependency_is_written_down_with_its_reason() -> Result<()> {
    let text = std::fs::read_to_string(root().join("docs/decisions/0003-dependencies.md"))?;
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split('|').next())
        .flat_map(|cell| cell.split([',', ' ']))
        .collect();
    for (name, foreign) in dependencies(true)? {
        for foreign in foreign.iter().filter(|dependency| !dependency.starts_with("rockpool-")) {
            assert!(
                named.contains(foreign.as_str()),
                "{name} uses {foreign}: docs/decisions/0003-dependencies.md says no why"
            );
        }
    }
    Ok(())
}
