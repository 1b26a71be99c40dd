//! The machine's thread: takes inputs, hands outputs to whoever carries them out, decides nothing.

use crate::clock;
use crate::failure::Failure;
use crate::inbox::{Answer, Event, Inbox};
use crate::status::{EngineStatus, WriteStats};
use crate::transport::Transport;
use crate::workers::{PersistWork, StateWork};
use rockpool_engine::{Fatal, Input, Node, NodeId, Notice, Now, Output, RequestId, Time};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use tokio::sync::watch;

/// A published status is not renewed sooner than this, but for a change of leader or members.
const STATUS_PERIOD_US: u64 = 100_000;

/// The machine and its surroundings.
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) disk: Sender<PersistWork>,
    pub(crate) state: Sender<StateWork>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) board: StatusBoard,
    pub(crate) failure: Arc<Failure>,
    /// Callers that wait.
    pub(crate) waiting: HashMap<RequestId, Answer>,
    /// Nodes whose queue was found full since the last look.
    pub(crate) unreachable: BTreeSet<NodeId>,
}

/// Where the status is published, and what it is made of besides the machine's own.
pub(crate) struct StatusBoard {
    pub(crate) sender: watch::Sender<Arc<EngineStatus>>,
    pub(crate) log_writes: Arc<WriteStats>,
    pub(crate) disk_bytes: Arc<AtomicU64>,
    /// When the next one may be published; nothing while it holds the latest.
    pub(crate) due: Option<Time>,
    pub(crate) urgent: bool,
}

impl Machine {
    /// Runs until the inbox is closed or the machine can't go on. Dropping the machine ends the workers.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.turn() {
            self.failure.fatal(&error);
        }
        self.publish();
    }

    fn turn(&mut self) -> Result<(), Fatal> {
        let mut events: Vec<Event> = Vec::new();
        self.drain();
        self.publish();
        loop {
            let timeout = self.node.poll_timeout();
            let deadline = if self.unreachable.is_empty() {
                timeout.into_iter().chain(self.board.due).min()
            } else {
                Some(Time::default())
            };
            if !self.inbox.take(deadline, &mut events) {
                return Ok(());
            }
            let now = clock::now();
            // All that waited goes in before anything is polled: one round to the disk and to each follower for all of it.
            for Event { input, answer } in events.drain(..) {
                if let Some((request, answer)) = answer {
                    self.waiting.insert(request, answer);
                }
                self.handle(now, input)?;
            }
            while let Some(node) = self.unreachable.pop_first() {
                self.handle(now, Input::Unreachable { node })?;
            }
            if self.node.poll_timeout().is_some_and(|timeout| timeout <= now.time) {
                self.handle(now, Input::Timeout)?;
            }
            self.drain();
            if self.board.urgent || self.board.due.is_some_and(|due| due <= now.time) {
                self.publish();
            }
        }
    }

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Fatal> {
        tracing::trace!(%input);
        self.board.due.get_or_insert(now.time.plus_us(STATUS_PERIOD_US));
        self.node.handle_input(now, input)
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            tracing::trace!(%output);
            match output {
                Output::Send { to, class, bytes } => {
                    if !self.transport.send(to, class, bytes) {
                        self.unreachable.insert(to);
                    }
                }
                // A worker that is gone has said why: the inbox is closed, and the next turn ends.
                Output::Persist { seq, batches } => drop(self.disk.send(PersistWork { seq, batches })),
                Output::Apply(task) => drop(self.state.send(StateWork::Apply(task))),
                Output::Flush { group } => drop(self.state.send(StateWork::Flush(group))),
                Output::Reply { request, reply } => {
                    if let Some(answer) = self.waiting.remove(&request) {
                        // Who no longer waits is not told.
                        let _ = answer.send(reply);
                    }
                }
                Output::Notice(notice) => self.notice(notice),
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::BadMessage { .. } => tracing::warn!(%notice),
            Notice::Truncated { .. } => tracing::debug!(%notice),
            _ => tracing::info!(%notice),
        }
        self.board.urgent |=
            matches!(notice, Notice::Leader { .. } | Notice::Membership { .. } | Notice::SnapshotInstalled { .. });
    }

    fn publish(&mut self) {
        let status = self.node.status();
        self.board.sender.send_replace(Arc::new(EngineStatus {
            node: status.node,
            groups: status.groups,
            peers: self.transport.status(),
            disk_bytes: self.board.disk_bytes.load(Ordering::Relaxed),
            log_writes: self.board.log_writes.counts(),
            failure: self.failure.text(),
        }));
        self.board.urgent = false;
        self.board.due = None;
    }
}
