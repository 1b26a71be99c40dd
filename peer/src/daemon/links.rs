//! Carries out the machine's link commands: one task for each WebRTC connection.
//!
//! ```text
//!   LinkCommand, frames ---> task of the connection ---> Link
//!   Happening::Input <------ task of the connection <--- LinkEvent
//! ```
//!
//! Commands of one connection are carried out in order, by a task of its own, because making a description can wait for
//! sockets. Frames have a second task, because sending waits for room. What happens goes to the machine through one bounded
//! queue: while that is full nobody reads the channel, its window closes, and the sender on the other side waits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rockpool_peer_core::{Candidate, ConnectionId, Fingerprint, Input, LinkCommand, Purpose};
use rockpool_proto::DeviceId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Happening;
use crate::link::{Link, LinkCandidate, LinkConfig, LinkError, LinkEvent};

/// How long closing waits for what was sent before.
const LAST_WORDS_MAX: Duration = Duration::from_millis(300);

/// All connections of this device.
pub(super) struct Links {
    config: LinkConfig,
    happenings: mpsc::Sender<Happening>,
    open: HashMap<ConnectionId, Connection>,
    closing: Vec<JoinHandle<()>>,
    /// Devices on this very machine: what goes to them never meets a small MTU.
    neighbours: Arc<Mutex<HashSet<DeviceId>>>,
}

struct Connection {
    commands: mpsc::UnboundedSender<LinkCommand>,
    frames: mpsc::UnboundedSender<Vec<Bytes>>,
    task: JoinHandle<()>,
}

impl Links {
    pub(super) fn new(config: LinkConfig, happenings: mpsc::Sender<Happening>) -> Links {
        Links { config, happenings, open: HashMap::new(), closing: Vec::new(), neighbours: Arc::default() }
    }

    /// Carries out a command.
    pub(super) fn command(&mut self, command: LinkCommand) {
        if !matches!(command, LinkCommand::AddCandidate { .. }) {
            tracing::debug!(command = %one_line(&command), "link");
        }
        let id = match &command {
            LinkCommand::CreateOffer { connection, .. }
            | LinkCommand::AcceptOffer { connection, .. }
            | LinkCommand::AcceptAnswer { connection, .. }
            | LinkCommand::AddCandidate { connection, .. } => *connection,
            LinkCommand::Close(connection) => {
                if let Some(connection) = self.open.remove(connection) {
                    // Its queues end, so the task closes the link and ends.
                    drop((connection.commands, connection.frames));
                    self.closing.retain(|task| !task.is_finished());
                    self.closing.push(connection.task);
                }
                return;
            }
        };
        let connection = self.open.entry(id).or_insert_with(|| {
            let (commands, commands_rx) = mpsc::unbounded_channel();
            let (frames, frames_rx) = mpsc::unbounded_channel();
            let task = Task {
                id,
                config: self.config.clone(),
                happenings: self.happenings.clone(),
                neighbours: self.neighbours.clone(),
            };
            Connection { commands, frames, task: tokio::spawn(task.run(commands_rx, frames_rx)) }
        });
        let _ = connection.commands.send(command);
    }

    /// Sends frames. The machine bounds what is not reported as sent.
    pub(super) fn send(&self, id: ConnectionId, frames: Vec<Bytes>) {
        tracing::trace!(connection = ?id, sizes = ?frames.iter().map(Bytes::len).collect::<Vec<_>>(), "send");
        if let Some(connection) = self.open.get(&id) {
            let _ = connection.frames.send(frames);
        }
    }

    /// Closes everything and waits until all sockets are free.
    pub(super) async fn close(&mut self) {
        let open: Vec<_> = self.open.drain().map(|(_, connection)| connection.task).collect();
        for task in self.closing.drain(..).chain(open) {
            let _ = task.await;
        }
    }
}

/// A command without the text of descriptions.
fn one_line(command: &LinkCommand) -> String {
    match command {
        LinkCommand::CreateOffer { connection, ice_restart: false } => format!("{connection:?} offer"),
        LinkCommand::CreateOffer { connection, ice_restart: true } => format!("{connection:?} offer, ICE restart"),
        LinkCommand::AcceptOffer { connection, .. } => format!("{connection:?} accept offer"),
        LinkCommand::AcceptAnswer { connection, .. } => format!("{connection:?} accept answer"),
        LinkCommand::AddCandidate { connection, .. } => format!("{connection:?} candidate"),
        LinkCommand::Close(connection) => format!("{connection:?} close"),
    }
}

struct Task {
    id: ConnectionId,
    config: LinkConfig,
    happenings: mpsc::Sender<Happening>,
    neighbours: Arc<Mutex<HashSet<DeviceId>>>,
}

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<LinkCommand>,
        frames: mpsc::UnboundedReceiver<Vec<Bytes>>,
    ) {
        // The first command tells whether the other end is on this machine, which must be known before the link is made.
        let Some(first) = commands.recv().await else { return };
        if let LinkCommand::AcceptOffer { sdp, .. } = &first {
            self.note_neighbour(sdp);
        }
        if self.id.purpose == Purpose::Bulk && self.neighbours.lock().contains(&self.id.device) {
            self.config = self.config.on_one_machine();
        }
        let (link, events) = match Link::new(&self.config).await {
            Ok(link) => link,
            Err(error) => return self.failed(error).await,
        };
        let (drained, drained_rx) = oneshot::channel();
        let receiving = tokio::spawn(receive(self.id, events, frames, self.happenings.clone(), drained));
        let mut next = Some(first);
        while let Some(command) = next {
            if let Err(error) = self.carry_out(&link, command).await {
                self.failed(error).await;
            }
            next = commands.recv().await;
        }
        // The last words, a goodbye for example, are still on their way.
        let _ = tokio::time::timeout(LAST_WORDS_MAX, drained_rx).await;
        receiving.abort();
        link.close().await;
    }

    async fn carry_out(&self, link: &Link, command: LinkCommand) -> Result<(), LinkError> {
        match command {
            LinkCommand::CreateOffer { ice_restart, .. } => {
                let sdp = if ice_restart { link.restart().await? } else { link.create_offer().await? };
                self.say(Input::LocalDescription { connection: self.id, sdp }).await;
            }
            LinkCommand::AcceptOffer { sdp, .. } => {
                let sdp = link.accept_offer(&sdp).await?;
                self.say(Input::LocalDescription { connection: self.id, sdp }).await;
            }
            LinkCommand::AcceptAnswer { sdp, .. } => {
                self.note_neighbour(&sdp);
                link.apply_answer(&sdp).await?;
            }
            LinkCommand::AddCandidate {
                candidate: Some(Candidate { candidate, sdp_mid, sdp_mline_index }), ..
            } => {
                let candidate = LinkCandidate { candidate, sdp_mid, sdp_mline_index };
                // One unusable candidate costs one path, not the link.
                if let Err(error) = link.add_candidate(candidate).await {
                    tracing::debug!(%error, connection = ?self.id, "a candidate that cannot be used");
                }
            }
            // The library needs no end of candidates: its checks run into their deadlines.
            LinkCommand::AddCandidate { candidate: None, .. } => {}
            LinkCommand::Close(_) => unreachable!("closing drops the queue"),
        }
        Ok(())
    }

    fn note_neighbour(&self, sdp: &str) {
        if crate::link::is_from_this_machine(sdp) {
            self.neighbours.lock().insert(self.id.device);
        }
    }

    async fn failed(&self, error: LinkError) {
        self.say(Input::ConnectionError { connection: self.id, reason: error.to_string() }).await;
    }

    async fn say(&self, input: Input) {
        let _ = self.happenings.send(Happening::Input(input)).await;
    }
}

/// Passes events on, and frames once the channel is open. Aborted when the connection is closed.
async fn receive(
    id: ConnectionId,
    mut events: mpsc::Receiver<LinkEvent>,
    frames: mpsc::UnboundedReceiver<Vec<Bytes>>,
    happenings: mpsc::Sender<Happening>,
    drained: oneshot::Sender<()>,
) {
    let mut frames = Some((frames, drained));
    // Aborted together with this task: a frame that waits for room must not outlive the link.
    let mut sending = tokio::task::JoinSet::new();
    while let Some(event) = events.recv().await {
        let input = match event {
            LinkEvent::Candidate(candidate) => Input::LocalCandidate {
                connection: id,
                candidate: candidate.map(|found| Candidate {
                    candidate: found.candidate,
                    sdp_mid: found.sdp_mid,
                    sdp_mline_index: found.sdp_mline_index,
                }),
            },
            LinkEvent::Connected(certificate) => Input::Connected { connection: id, remote: Fingerprint(certificate) },
            LinkEvent::Open(sender) => {
                if let Some((mut frames, drained)) = frames.take() {
                    let happenings = happenings.clone();
                    sending.spawn(async move {
                        while let Some(batch) = frames.recv().await {
                            let mut sent = 0;
                            for frame in batch {
                                sent += frame.len() as u64;
                                if let Err(error) = sender.send(BytesMut::from(frame)).await {
                                    tracing::debug!(%error, connection = ?id, "sending");
                                    return;
                                }
                            }
                            // Nobody counts any more once the daemon is closing; the frames go out all the same.
                            let _ = happenings.send(Happening::Input(Input::Sent(id, sent))).await;
                        }
                        sender.flush().await;
                        let _ = drained.send(());
                    });
                }
                tracing::debug!(connection = ?id, "open");
                Input::ChannelOpen(id)
            }
            LinkEvent::Frame(frame) => {
                tracing::trace!(connection = ?id, size = frame.len(), "frame");
                Input::Frame(id, frame)
            }
            LinkEvent::Disconnected => {
                tracing::debug!(connection = ?id, "disconnected");
                Input::Disconnected(id)
            }
            LinkEvent::Closed(reason) => {
                tracing::debug!(reason, connection = ?id, "closed");
                Input::Closed(id)
            }
        };
        if happenings.send(Happening::Input(input)).await.is_err() {
            return std::future::pending().await;
        }
    }
}
