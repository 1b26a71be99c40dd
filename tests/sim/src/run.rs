//! One run of a seed: safety under faults, then liveness, then the history.

use crate::checker::{self, State};
use crate::plan::{Mutant, Plan};
use crate::world::World;
use rockpool_engine::kv::{Direction, StateStore};
use rockpool_engine::{Time, Timestamp, Transaction};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Simulated time within which a healed cluster must agree and settle everything.
const LIVENESS_US: u64 = 60_000_000;

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// A deliberate mistake.
    pub mutant: Option<Mutant>,
    /// Print each line of the trace.
    pub print: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// Hex hash of the trace.
    pub trace_hash: String,
    /// Lines in the trace.
    pub trace_lines: u64,
    /// Transactions whose fate is known.
    pub transactions: usize,
    /// How often each rare thing happened.
    pub marks: BTreeMap<&'static str, u64>,
}

/// Runs a seed. A machine that panics fails the run.
pub fn run(seed: u64, settings: Settings) -> Outcome {
    let mut world = World::new(Plan::new(seed, settings.mutant), settings.print);
    let failure = catch_unwind(AssertUnwindSafe(|| play(&mut world).err())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Some(format!("panicked: {}", text.unwrap_or("without words")))
    });
    Outcome {
        seed,
        failure,
        trace_hash: world.trace.hash(),
        trace_lines: world.trace.lines(),
        transactions: world.history.len(),
        marks: world.trace.marks().clone(),
    }
}

fn play(world: &mut World) -> Result<(), String> {
    world.run_until(Time(world.plan.safety_phase_us), |_| false)?;
    world.heal()?;
    let deadline = world.now.plus_us(LIVENESS_US);
    world.run_until(deadline, |world| world.open_fates() == 0 && agrees(world))?;
    if world.open_fates() > 0 {
        return Err(format!(
            "{} fates are still open {LIVENESS_US} us after everything was healed",
            world.open_fates()
        ));
    }
    if !agrees(world) {
        return Err(format!(
            "the nodes do not agree {LIVENESS_US} us after everything was healed: {}",
            standing(world)
        ));
    }
    let expected = checker::check(&world.history).map_err(|violation| violation.0)?;
    for node in world.members() {
        let holds = contents(world, node)?;
        if holds != expected {
            return Err(format!(
                "{node} holds something else than the history's outcome: {} keys, not {}",
                holds.len(),
                expected.len()
            ));
        }
    }
    Ok(())
}

/// A leader stands, and every member has applied what it has.
fn agrees(world: &World) -> bool {
    let Some(leader) = world.leader().and_then(|leader| world.hosts.get(&leader)?.status(&world.plan)) else {
        return false;
    };
    let members = world.members();
    leader.voters_outgoing.is_empty()
        && leader.applied == leader.last_index
        && members.len() as u64 >= world.plan.nodes.min(2)
        && members.iter().all(|node| {
            let status = world.hosts.get(node).and_then(|host| host.status(&world.plan));
            status.is_some_and(|status| status.applied == leader.applied)
        })
}

fn standing(world: &World) -> String {
    let lines = world.hosts.values().map(|host| match host.status(&world.plan) {
        Some(status) => format!("{}: {status}", host.id),
        None => format!("{}: down", host.id),
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn contents(world: &World, node: rockpool_engine::NodeId) -> Result<State, String> {
    let host = world.hosts.get(&node).ok_or_else(|| format!("{node} is a member that never was"))?;
    let view = host.state.view().map_err(|error| error.to_string())?;
    let newest = host.status(&world.plan).map_or(Timestamp::ZERO, |status| status.last_commit);
    let transaction = Transaction::new(view, world.plan.group(), newest).map_err(|error| error.to_string())?;
    transaction.scan(b"", b"\xff", Direction::Forward).collect::<Result<_, _>>().map_err(|error| error.to_string())
}
