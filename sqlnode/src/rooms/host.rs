//! Runs one room: a task that feeds the machine from its mailbox and the clock, and carries out what it says.
//!
//! Nothing here decides. The mailbox is bounded and pushes back on those who send; a device that does not take its
//! messages fast enough loses its connection rather than holding the others up. Signals, which come from other devices and
//! may be lost, are dropped long before that: nobody can push somebody else out by sending much.

use std::collections::HashMap;
use std::time::Duration;

use rockpool_proto::meta::v1::{FromCluster, from_cluster};
use rockpool_proto::{DeviceId, PoolId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::room::{Claim, ConnectionId, Ending, Facts, Identity, Input, Output, PresenceFact, Room};
use super::{Rooms, presence};

/// Messages that wait for one device before it counts as too slow.
const OUTBOX_MAX: usize = 1_024;
/// Messages that wait for one device before further signals to it are dropped.
const OUTBOX_SIGNALS_MAX: usize = 128;
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
    pub(super) news: News,
    pub(super) reply: oneshot::Sender<Attachment>,
}

/// What the database says when a device arrives.
pub(super) enum News {
    /// Everything: members or devices have changed since the room was told.
    All(Facts),
    /// Nothing but the device's own presence.
    Presence(PresenceFact),
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
        let vacated = loop {
            let due = self.room.poll_timeout().map(|due| self.rooms.instant(due));
            let over = tokio::select! {
                received = mail.recv() => match received {
                    Some(Mail::Attach(arrival)) => self.attach(&mailbox, arrival),
                    Some(Mail::Input(input)) => self.step(|room, now| room.handle_input(now, input)),
                    Some(Mail::Close) | None => {
                        self.step(|room, now| room.handle_input(now, Input::Close));
                        break false;
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.step(|room, now| room.handle_timeout(now))
                }
            };
            if over {
                break true;
            }
        };
        // Whoever is still in the mailbox finds it closed, and looks the owner up again.
        drop(mail);
        self.rooms.forget(self.pool, self.lease_epoch, vacated);
    }

    fn attach(&mut self, mailbox: &mpsc::WeakSender<Mail>, arrival: Arrival) -> bool {
        let Some(mailbox) = mailbox.upgrade() else { return true };
        let Arrival { identity, presence_epoch, claim, news, reply } = arrival;
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
        self.outboxes.insert(connection, outbox);
        let over = self.step(|room, now| {
            room.handle_input(
                now,
                match news {
                    News::All(facts) => Input::Facts(facts),
                    News::Presence(fact) => Input::Presence { device: identity.device, fact },
                },
            );
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
                    let taken = self.outboxes.get(&connection).is_none_or(|outbox| offer(outbox, message));
                    if !taken {
                        self.outboxes.remove(&connection);
                        self.room.handle_input(now, Input::Detach { connection, ending: Ending::Broken });
                    }
                }
                Output::Drop { connection } => {
                    self.outboxes.remove(&connection);
                }
                Output::Departed { device, presence_epoch, silent_for } => {
                    departed.push(Departure { device, presence_epoch, silent_for });
                }
                Output::Vacated => over = true,
            }
        }
        if !departed.is_empty() {
            let (rooms, now_us) = (self.rooms.clone(), self.rooms.database().environment().now_us());
            tokio::spawn(async move {
                for departure in departed {
                    record(&rooms, now_us, departure).await;
                }
            });
        }
        over
    }
}

/// The end of a presence, on its way into the database.
struct Departure {
    device: DeviceId,
    presence_epoch: u64,
    silent_for: Option<Duration>,
}

async fn record(rooms: &Rooms, now_us: i64, departure: Departure) {
    let Departure { device, presence_epoch, silent_for } = departure;
    let heard_at_us =
        silent_for.map(|silent_for| now_us.saturating_sub(i64::try_from(silent_for.as_micros()).unwrap_or(i64::MAX)));
    let noted = rooms.insist(|tx| presence::depart(tx, device, presence_epoch, heard_at_us)).await;
    if let Err(error) = noted {
        // The device's next connection closes the interval.
        tracing::warn!(%device, %error, "the end of a presence could not be recorded");
    }
}

/// Puts a message into a device's outbox. False: the device is too slow, and must not miss this one.
fn offer(outbox: &mpsc::Sender<FromCluster>, message: FromCluster) -> bool {
    let waiting = outbox.max_capacity() - outbox.capacity();
    if matches!(message.kind, Some(from_cluster::Kind::Signal(_))) && waiting >= OUTBOX_SIGNALS_MAX {
        return true;
    }
    outbox.try_send(message).is_ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::convert;
    use super::*;

    #[test]
    fn signals_are_dropped_long_before_a_device_counts_as_too_slow() {
        let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
        let signal = || convert::signal(DeviceId([1; 16]), DeviceId([2; 16]), Bytes::new());
        for _ in 0..2 * OUTBOX_MAX {
            assert!(offer(&outbox, signal()), "nobody loses a connection by what others send");
        }
        assert_eq!(inbox.len(), OUTBOX_SIGNALS_MAX);
        for nonce in OUTBOX_SIGNALS_MAX..OUTBOX_MAX {
            assert!(offer(&outbox, convert::pong(nonce as u64)));
        }
        assert!(!offer(&outbox, convert::pong(0)), "what must not be missed ends the connection when there is no room");
    }
}
