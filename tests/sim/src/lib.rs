//! The simulator: a cluster in one thread, from one seed.
//!
//! The engine's machines here are those that ship. What surrounds them is simulated: the network (delay, loss, duplicates,
//! reordering, partitions, one-way clogs), disks (slow syncs; a crash loses any suffix of what was not synced), clocks (wall
//! clocks that jump), processes (kill, restart, pause), and clients whose every answer is written down.
//!
//! ```text
//!   seed ── plan      how many nodes, how bad a network, which faults when, how many clients
//!        └─ world     a heap of events, ordered by time and number; the earliest goes to its node
//!             ├ host      one node: its machine, its disks, what is on its way to it
//!             ├ network   what becomes of a message
//!             ├ clients   begin, read and write, commit; outcomes that got lost are asked for
//!             └ trace     a line for each event, and a running hash of all of them
//!        └─ verdict   invariants while it runs; afterwards liveness, convergence, and the history's checker
//! ```
//!
//! A run has two phases. In the first, faults strike; only safety counts. Then everything is healed, and within bounded
//! simulated time a leader must stand, every node must catch up, every lost outcome must be settled, and the history of all
//! clients must be strictly serializable (see [`checker`]).
//!
//! The same seed gives the same trace, on any machine: there is no other source of chance or time.

pub mod checker;
mod client;
mod history;
mod host;
mod invariants;
mod network;
mod plan;
mod rng;
mod run;
mod trace;
mod workload;
mod world;

pub use plan::{Mutant, Plan};
pub use run::{Outcome, Settings, run};
pub use trace::say;
