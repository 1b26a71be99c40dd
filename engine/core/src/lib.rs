//! The replicated transactional store as a sans-IO machine.
//!
//! An ordered key space with strictly serializable transactions, replicated by Raft. This crate decides everything and
//! touches nothing: it has no socket, thread, clock or file, and draws no random number. A *driver* tells it what happened
//! ([`Input`]) and when ([`Now`]), and carries out what it asks for ([`Output`]). `rockpool-runtime` is the driver with real
//! disks and connections; the simulator is one with virtual ones, and replays a run from its seed.
//!
//! # The loop
//!
//! ```text
//!              ┌───────────────────────────── Node ─────────────────────────────┐
//!   requests   │ gateway: forwards, retries, answers                            │   Reply
//!   messages ──► Raft replica ── log in memory                                  ├──► Send        (may be lost)
//!   timeouts   │ leader: validates, orders, proposes                            │   Persist ───► LogStore ──► Persisted
//!              │ snapshots, membership                                          │   Apply ─────► StateStore ─► Applied
//!              └────────────────────────────────────────────────────────────────┘   Flush ─────► StateStore ─► Flushed
//! ```
//!
//! 1. [`Node::open`] on the stores: a [`StateStore`](kv::StateStore) and what the [`LogStore`](kv::LogStore) loaded.
//! 2. Hand in inputs with [`Node::handle_input`]. Inputs that are waiting together may be handed in together: they then share
//!    one write to the disk and one message to each follower.
//! 3. Poll [`Node::poll_output`] to `None`, and carry out what comes. None of it may block the loop: persisting and applying
//!    belong to threads of their own, and what they did comes back as an input. `Persist`s are written in order, one sync for
//!    all that wait, answered by the last number. `Apply`s and `Flush`es run in order on one thread per group. A `Send` that
//!    does not fit its queue is dropped.
//! 4. Sleep until an input comes or [`Node::poll_timeout`]; then hand in [`Input::Timeout`].
//!
//! An error from `handle_input`, from an [`ApplyTask`] or from a store stops the node: it means that a disk failed or
//! forgot, and a store that answers wrongly is worse than one that stops.
//!
//! # A transaction
//!
//! [`Input::Begin`] is answered by a read timestamp that is linearizable: at or after every commit answered before. Take a
//! view of the state store *after* that answer, make a [`Transaction`] of both, read and write on any thread, and hand
//! [`Transaction::into_commit`] to [`Input::Commit`], at the same node or another. The leader checks that nothing read or
//! written was written since, and orders it; the answer comes once it is applied there.
//!
//! ```
//! use rockpool_engine::kv::{LogStore, MemoryLog, MemoryState, StateStore};
//! use rockpool_engine::{Config, Input, Node, NodeId, Now, Output, Reply, RequestId, Start, Time, Transaction, TxnId};
//! use std::sync::Arc;
//!
//! /// Carries out what the node asks for until it has nothing more to ask; the answers to requests.
//! fn drive(node: &mut Node, state: &MemoryState, log: &mut MemoryLog, now: Now) -> Vec<Reply> {
//!     let mut replies = Vec::new();
//!     while let Some(output) = node.poll_output() {
//!         let input = match output {
//!             Output::Persist { seq, batches } => {
//!                 log.write(&batches).unwrap();
//!                 Input::Persisted { seq }
//!             }
//!             Output::Apply(task) => Input::Applied(task.run(state).unwrap()),
//!             Output::Flush { group } => {
//!                 state.flush().unwrap();
//!                 Input::Flushed { group }
//!             }
//!             Output::Reply { reply, .. } => {
//!                 replies.push(reply);
//!                 continue;
//!             }
//!             Output::Send { .. } | Output::Notice(_) => continue,
//!         };
//!         node.handle_input(now, input).unwrap();
//!     }
//!     replies
//! }
//!
//! let (state, mut log) = (MemoryState::new(), MemoryLog::new());
//! let now = Now { time: Time(0), wall_us: 1_700_000_000_000_000 };
//! let config = Config::new(NodeId(1), Start::Bootstrap, 7);
//! let logs = log.load().unwrap();
//! let mut node = Node::open(config, Arc::new(state.clone()), logs, now).unwrap();
//! drive(&mut node, &state, &mut log, now);
//!
//! let group = Config::FIRST_GROUP;
//! node.handle_input(now, Input::Begin { request: RequestId(1), group }).unwrap();
//! let replies = drive(&mut node, &state, &mut log, now);
//! let [Reply::Begun { read_timestamp }] = replies[..] else { panic!("{replies:?}") };
//!
//! let mut transaction = Transaction::new(state.view().unwrap(), group, read_timestamp).unwrap();
//! assert_eq!(transaction.get(b"greeting").unwrap(), None);
//! transaction.put(b"greeting".to_vec(), b"hello".to_vec()).unwrap();
//! let commit = transaction.into_commit(TxnId([1; 16]));
//! node.handle_input(now, Input::Commit { request: RequestId(2), commit }).unwrap();
//! let replies = drive(&mut node, &state, &mut log, now);
//! assert!(matches!(replies[..], [Reply::Committed { .. }]), "{replies:?}");
//! ```
//!
//! # What holds
//!
//! * A commit that was answered is durable on a majority, is seen by every later begin at any node, and took effect once,
//!   however often its request was sent: the transaction's id is recorded with its writes.
//! * `Conflict`, `Retry` and `Aborted` mean that it took no effect and never will. `Unknown` means what it says;
//!   [`Input::QueryOutcome`] settles it.
//! * Replicas that applied the same log index hold the same state ([`fingerprint`]).
//! * Durable state may lag behind the log and never the other way round; the log is cut only behind what was flushed.
//!
//! # Where things are
//!
//! | module | what |
//! |---|---|
//! | [`kv`] | the contracts of the stores, and stores in memory |
//! | `node` | the machine: gateway, leader, begins, snapshots, membership, opening |
//! | `raft` | the consensus library, wrapped; the only place that knows it |
//! | `state` | applying commands, MVCC, collection: what the log builds |
//! | `txn` | transactions, and `validate`, the commit check |
//! | `codec` | keys, values, log records, messages |

pub mod kv;

mod codec;
mod config;
mod error;
mod input;
mod node;
mod output;
mod raft;
mod state;
mod status;
mod time;
mod txn;

pub use config::{Config, NodeLimits, Start, Timing, Validation};
pub use error::{Fatal, TransactionError};
pub use input::{Input, MembershipChange, RequestId};
pub use node::Node;
pub use output::{Class, Notice, Output, Refusal, Reply, RetryReason};
pub use rockpool_proto::{GroupId, NodeId};
pub use state::{ApplyDone, ApplyTask, Fingerprint, MvccScan, MvccView, fingerprint};
pub use status::{FollowerStatus, GroupStatus, Role, Status};
pub use time::{Now, Time};
pub use txn::{CommitRequest, ReadSet, Savepoint, Span, Timestamp, Transaction, TransactionScan, TxnId};
