//! Runs one room: a task that feeds the machine from its mailbox and the clock, and carries out what it says.
//!
//! Nothing here decides. The mailbox is bounded and pushes back on those who send; a device that does not take its
//! messages fast enough loses its connection rather than holding the others up.

use std::collections::HashMap;

use rockpool_proto::PoolId;
use rockpool_proto::meta::v1::FromCluster;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::room::{Claim, ConnectionId, Ending, Facts, Identity, Input, Output, Room};
use super::{Rooms, presence};

/// Messages that wait for one device before it counts as too slow.
const OUTBOX_MAX: usize = 1_024;
/// Inputs that wait for one room before those who send them wait.
const MAILBOX_MAX: usize = 1_024;

/// What a room's task is sent.
pub(super) enum Mail {
    /// A device's stream arrived.
    Attach(Arrival),
    /// Anything else that the machine is told.
    Input(Input),
    /// Everybody goes, and the room is over.
    Close,
}

/// A device's stream on its way into a room.
pub(super) struct Arrival {
    pub(super) identity: Identity,
    pub(super) presence_epoch: u64,
    pub(super) claim: Option<Claim>,
    /// Read after the presence was opened, so the device is in it.
    pub(super) facts: Facts,
    pub(super) reply: oneshot::Sender<Attachment>,
}

/// A device's place in a room of this node. Dropping it counts as a broken connection.
pub(super) struct Attachment {
    connection: ConnectionId,
    mailbox: mpsc::Sender<Mail>,
    inbox: mpsc::Receiver<FromCluster>,
    left: bool,
}

impl Attachment {
    /// Tells the room something from this device. False: the room is over.
    pub(super) async fn send(&self, input: impl FnOnce(ConnectionId) -> Input) -> bool {
        self.mailbox.send(Mail::Input(input(self.connection))).await.is_ok()
    }

    /// The device closed its stream on purpose.
    pub(super) async fn leave(&mut self) {
        self.left = true;
        self.send(|connection| Input::Detach { connection, ending: Ending::Closed }).await;
    }

    /// The next message for the device; none when the room has let go of it.
    pub(super) async fn next(&mut self) -> Option<FromCluster> {
        self.inbox.recv().await
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mail = Mail::Input(Input::Detach { connection: self.connection, ending: Ending::Broken });
        if let Err(mpsc::error::TrySendError::Full(mail)) = self.mailbox.try_send(mail) {
            let mailbox = self.mailbox.clone();
            // The room's task is alive, so it makes room in its mailbox; without a runtime it is gone as well.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { mailbox.send(mail).await.ok() });
            }
        }
    }
}

/// Starts a room's task; its mailbox.
pub(super) fn start(rooms: Rooms, pool: PoolId, lease_epoch: u64, succeeds: bool) -> mpsc::Sender<Mail> {
    let (mailbox, mail) = mpsc::channel(MAILBOX_MAX);
    let room = Room::new(rooms.now(), pool, lease_epoch, succeeds);
    let host = Host { rooms, pool, lease_epoch, room, outboxes: HashMap::new(), last_connection: 0 };
    tokio::spawn(host.run(mailbox.downgrade(), mail));
    mailbox
}

struct Host {
    rooms: Rooms,
    pool: PoolId,
    lease_epoch: u64,
    room: Room,
    outboxes: HashMap<ConnectionId, mpsc::Sender<FromCluster>>,
    last_connection: u64,
}

impl Host {
    async fn run(mut self, mailbox: mpsc::WeakSender<Mail>, mut mail: mpsc::Receiver<Mail>) {
        loop {
            let due = self.room.poll_timeout().map(|due| self.rooms.instant(due));
            let over = tokio::select! {
                received = mail.recv() => match received {
                    Some(Mail::Attach(arrival)) => self.attach(&mailbox, arrival),
                    Some(Mail::Input(input)) => self.step(|room, now| room.handle_input(now, input)),
                    Some(Mail::Close) | None => {
                        self.step(|room, now| room.handle_input(now, Input::Close));
                        true
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.step(|room, now| room.handle_timeout(now))
                }
            };
            if over {
                break;
            }
        }
        // Whoever is still in the mailbox finds it closed, and looks the owner up again.
        drop(mail);
        self.rooms.forget(self.pool, self.lease_epoch);
    }

    fn attach(&mut self, mailbox: &mpsc::WeakSender<Mail>, arrival: Arrival) -> bool {
        let Some(mailbox) = mailbox.upgrade() else { return true };
        let Arrival { identity, presence_epoch, claim, facts, reply } = arrival;
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
        self.outboxes.insert(connection, outbox);
        let over = self.step(|room, now| {
            room.handle_input(now, Input::Facts(facts));
            room.handle_input(now, Input::Attach { connection, identity, presence_epoch, claim });
        });
        // If nobody waits any more, dropping the attachment takes the device out again.
        drop(reply.send(Attachment { connection, mailbox, inbox, left: false }));
        over
    }

    /// Lets the machine act and carries out what it says. True: the room is over.
    fn step(&mut self, act: impl FnOnce(&mut Room, super::room::Time)) -> bool {
        let now = self.rooms.now();
        act(&mut self.room, now);
        let mut over = false;
        let mut departed = Vec::new();
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Send { connection, message } => {
                    let sent = self.outboxes.get(&connection).is_none_or(|outbox| outbox.try_send(message).is_ok());
                    if !sent {
                        self.outboxes.remove(&connection);
                        self.room.handle_input(now, Input::Detach { connection, ending: Ending::Broken });
                    }
                }
                Output::Drop { connection } => {
                    self.outboxes.remove(&connection);
                }
                Output::Departed { device, presence_epoch } => departed.push((device, presence_epoch)),
                Output::Vacated => over = true,
            }
        }
        if !departed.is_empty() {
            let database = self.rooms.database().clone();
            tokio::spawn(async move {
                for (device, presence_epoch) in departed {
                    let noted = database.transaction(|tx| presence::depart(tx, device, presence_epoch)).await;
                    if let Err(error) = noted {
                        // The device's next connection closes the interval.
                        tracing::warn!(%device, %error, "the end of a presence could not be recorded");
                    }
                }
            });
        }
        over
    }
}
