//! Rooms: who is present in which pool, and the passing of signals.
//!
//! ```text
//!   device --stream--> signalling (any node) --line--> host (the pool's owner) --> room (machine) --> tree
//!                          |                              ^
//!                          | presence, leases (SQL)       | keeper: beats, notices changes, closes what is lost
//! ```
//!
//! [`room`] decides and owns nothing but its state. Everything else here drives it: `host` runs one room, `signalling` and
//! `between` carry streams to it, `leases` says in the database whose it is, `keeper` keeps what this node owns.
//!
//! What a service has committed reaches a live stream twice: at once, by [`Rooms::evict_withdrawn`] and
//! [`Rooms::refresh`], which may fail; and by the pool's change number, which the owner reads with every beat.

mod between;
mod convert;
#[cfg(test)]
mod draws;
mod host;
mod keeper;
pub mod leases;
mod line;
pub mod nodes;
pub mod presence;
pub mod room;
#[cfg(test)]
mod room_tests;
mod signalling;
pub mod tree;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rockpool_proto::cluster::v1::rooms_client::RoomsClient;
use rockpool_proto::cluster::v1::{EvictRequest, RefreshRequest};
use rockpool_proto::limits::NODE_MESSAGE_BYTES_MAX;
use rockpool_proto::{DeviceId, NodeId, PoolId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::database::{Database, DbError, Tx};
use crate::services::convert::id;
use host::{Arrival, Attachment, Mail};
use leases::{BEAT_STOPPED_AFTER, Beat, Holder, Incarnation, Owner};
use line::{Line, NoLine, Ticket};
pub use nodes::Nodes;
use presence::Withdrawn;
pub use room::EndReason;
use room::{Input, Time};

/// Pause before an owner that gave no line is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long an owner may take to act on a notice; its next beat does without.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);
/// Pause before something that must be recorded is tried again.
const INSIST_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Pools whose owner may be settled at once without waiting for each other.
const CLAIM_LOCKS: usize = 64;

/// The rooms of one node, and the way to those of the others. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    nodes: Arc<dyn Nodes>,
    me: Owner,
    started: Instant,
    hosted: Mutex<HashMap<PoolId, Hosted>>,
    /// One claim at a time for a pool, or two arrivals would both take it.
    claiming: Vec<tokio::sync::Mutex<()>>,
    /// Where the beats of others stood, and since when.
    watched: Mutex<HashMap<NodeId, (Beat, Instant)>>,
    /// Rung when there is something to keep.
    hosting: Notify,
    stopping: CancellationToken,
}

/// A room of this node.
#[derive(Clone)]
struct Hosted {
    lease_epoch: u64,
    mailbox: mpsc::Sender<Mail>,
    /// The change number that the room was told last.
    change_number: Arc<AtomicU64>,
}

impl Rooms {
    /// Starts the rooms of a node: none yet. Needs a tokio runtime.
    pub fn start(database: Database, nodes: Arc<dyn Nodes>) -> Self {
        let incarnation = Incarnation(database.environment().random());
        let me = Owner { node: nodes.me(), incarnation };
        let rooms = Self {
            shared: Arc::new(Shared {
                database,
                nodes,
                me,
                started: Instant::now(),
                hosted: Mutex::default(),
                claiming: (0..CLAIM_LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
                watched: Mutex::default(),
                hosting: Notify::new(),
                stopping: CancellationToken::new(),
            }),
        };
        keeper::start(&rooms);
        rooms
    }

    /// Ends every stream of this node with `MOVED` and gives its rooms up, so that others own them at once.
    pub async fn drain(&self) {
        self.shared.stopping.cancel();
        let rooms: Vec<Hosted> = self.shared.hosted.lock().values().cloned().collect();
        for room in rooms {
            room.mailbox.send(Mail::Close).await.ok();
        }
        let me = self.shared.me;
        if let Err(error) = self.database().transaction(|tx| leases::depart(tx, me)).await {
            tracing::warn!(%error, "the rooms of this node could not be given up; others take them over when they miss it");
        }
    }

    /// Rooms that this node owns just now.
    pub fn hosted_count(&self) -> usize {
        self.shared.hosted.lock().len()
    }

    /// Ends a presence in its room, wherever that is, without waiting for it.
    pub fn evict_withdrawn(&self, withdrawn: Option<Withdrawn>, reason: EndReason) {
        let Some(Withdrawn { device, pool, presence_epoch }) = withdrawn else { return };
        let rooms = self.clone();
        tokio::spawn(async move {
            rooms.evict_here(pool, device, presence_epoch, reason).await;
            let Some(mut owner) = rooms.owner_elsewhere(pool).await else { return };
            let request = EvictRequest {
                pool_id: id(pool.as_bytes()),
                device_id: id(device.as_bytes()),
                presence_epoch_max: presence_epoch,
                reason: rockpool_proto::meta::v1::ended::Reason::from(reason).into(),
            };
            timeout(NOTICE_WITHIN, owner.evict(request)).await.ok();
        });
    }

    /// Has the rooms of these pools look at their members again, without waiting for it.
    pub fn refresh(&self, pools: Vec<PoolId>) {
        let rooms = self.clone();
        tokio::spawn(async move {
            for pool in pools {
                rooms.refresh_here(pool).await;
                let Some(mut owner) = rooms.owner_elsewhere(pool).await else { continue };
                let request = RefreshRequest { pool_id: id(pool.as_bytes()) };
                timeout(NOTICE_WITHIN, owner.refresh(request)).await.ok();
            }
        });
    }

    /// The cluster as this node sees it.
    pub fn nodes(&self) -> &Arc<dyn Nodes> {
        &self.shared.nodes
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }

    /// Runs a transaction that may happen twice until the database takes it, however long it is away, or this node stops:
    /// for the end of a presence, which nobody else would record.
    async fn insist<T: Send>(
        &self,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send,
    ) -> Result<T, DbError> {
        loop {
            match self.database().transaction(&mut work).await {
                Err(error) if error.is_retryable() || matches!(error, DbError::OutcomeUnknown(_)) => {
                    tokio::select! {
                        () = tokio::time::sleep(INSIST_AGAIN_AFTER) => {}
                        () = self.stopping().cancelled() => return Err(error),
                    }
                }
                outcome => return outcome,
            }
        }
    }

    fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    fn now(&self) -> Time {
        self.shared.started.elapsed()
    }

    fn instant(&self, time: Time) -> Instant {
        self.shared.started + time
    }

    fn client(&self, channel: Channel) -> RoomsClient<Channel> {
        // A Welcome to a large pool is far larger than anything that a client sends.
        RoomsClient::new(channel).max_decoding_message_size(NODE_MESSAGE_BYTES_MAX)
    }

    fn hosted(&self, pool: PoolId) -> Option<Hosted> {
        self.shared.hosted.lock().get(&pool).cloned()
    }

    async fn owner_elsewhere(&self, pool: PoolId) -> Option<RoomsClient<Channel>> {
        let owner = self.database().transaction(|tx| leases::owner(tx, pool)).await.ok().flatten()?;
        if owner == self.shared.me {
            return None;
        }
        self.nodes().channel(owner.node).map(|channel| self.client(channel))
    }

    async fn evict_here(&self, pool: PoolId, device: DeviceId, presence_epoch_max: u64, reason: EndReason) {
        if let Some(room) = self.hosted(pool) {
            let input = Input::Evict { device, presence_epoch_max, reason };
            room.mailbox.send(Mail::Input(input)).await.ok();
        }
    }

    async fn refresh_here(&self, pool: PoolId) {
        let Some(room) = self.hosted(pool) else { return };
        match self.database().transaction(|tx| presence::facts(tx, pool)).await {
            Ok(facts) => {
                // Noted once they are on their way: whoever waits for room in the mailbox may be called off.
                let change_number = facts.change_number;
                if room.mailbox.send(Mail::Input(Input::Facts(facts))).await.is_ok() {
                    room.change_number.fetch_max(change_number, Ordering::SeqCst);
                }
            }
            Err(error) => {
                tracing::warn!(%pool, %error, "a pool's members could not be read; the next beat tries again")
            }
        }
    }

    /// A line into a pool's room: finds its owner, or becomes it.
    async fn line(&self, ticket: &Ticket) -> Result<Line, DbError> {
        let mut stopped = None;
        loop {
            let beat = match self.find_owner(ticket.pool, stopped.take()).await? {
                Found::Here(room) => match self.enter(&room, ticket).await? {
                    Some(attachment) => return Ok(Line::Here(attachment)),
                    None => continue,
                },
                Found::There(beat) => beat,
            };
            // Watched from now on: while the owner is asked, its beat has time to move.
            self.has_stopped(beat);
            let no_line = match Line::to(self, beat.owner.node, ticket).await {
                Ok(line) => return Ok(line),
                Err(no_line) => no_line,
            };
            // A node whose process is gone will not beat again. Of one that is merely silent only the beat can tell.
            if no_line == NoLine::Gone || self.has_stopped(beat) {
                tracing::info!(node = %beat.owner.node, pool = %ticket.pool, ?no_line, "taking a room over from its owner");
                stopped = Some(beat);
            } else {
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }

    /// Puts a device into a room of this node, if this node owns it or may.
    async fn attach_here(&self, ticket: &Ticket, stopped: Option<Beat>) -> Result<Option<Attachment>, DbError> {
        match self.find_owner(ticket.pool, stopped).await? {
            Found::Here(room) => self.enter(&room, ticket).await,
            Found::There(_) => Ok(None),
        }
    }

    async fn find_owner(&self, pool: PoolId, stopped: Option<Beat>) -> Result<Found, DbError> {
        if self.stopping().is_cancelled() {
            return Err(DbError::Stopping);
        }
        let lock = usize::from(pool.as_bytes()[0]) % CLAIM_LOCKS;
        let _claiming = self.shared.claiming[lock].lock().await;
        let room = self.hosted(pool);
        let me = self.shared.me;
        let hosted = room.as_ref().map(|room| room.lease_epoch);
        let holder = self.database().transaction(|tx| leases::claim(tx, me, pool, hosted, stopped)).await?;
        match (holder, room) {
            (Holder::There(beat), _) => Ok(Found::There(beat)),
            (Holder::Here, Some(room)) => Ok(Found::Here(room)),
            (Holder::Here, None) => Err(DbError::Fatal("a lease is held for a room that is not here".into())),
            (Holder::Taken { lease_epoch, succeeds }, older) => {
                if let Some(older) = older {
                    older.mailbox.send(Mail::Close).await.ok();
                }
                tracing::info!(%pool, lease_epoch, succeeds, "this node owns the pool's room now");
                let mailbox = host::start(self.clone(), pool, lease_epoch, succeeds);
                let room = Hosted { lease_epoch, mailbox, change_number: Arc::default() };
                self.shared.hosted.lock().insert(pool, room.clone());
                self.shared.hosting.notify_one();
                Ok(Found::Here(room))
            }
        }
    }

    /// Puts a device into a room here; none when the room is just closing.
    async fn enter(&self, room: &Hosted, ticket: &Ticket) -> Result<Option<Attachment>, DbError> {
        // What the room was told by then is in its mailbox already, before this arrival.
        let told = room.change_number.load(Ordering::SeqCst);
        let device = ticket.identity.device;
        let read = self.database().transaction(|tx| presence::news(tx, ticket.pool, device, told));
        let (change_number, news) = read.await?;
        let (reply, attached) = oneshot::channel();
        let arrival = Arrival {
            identity: ticket.identity,
            presence_epoch: ticket.presence_epoch,
            claim: convert::claim(ticket.last_place.as_ref()),
            news,
            reply,
        };
        if room.mailbox.send(Mail::Attach(arrival)).await.is_err() {
            return Ok(None);
        }
        room.change_number.fetch_max(change_number, Ordering::SeqCst);
        Ok(attached.await.ok())
    }

    /// Whether a beat has stood still for so long that its owner must be gone.
    fn has_stopped(&self, beat: Beat) -> bool {
        let now = Instant::now();
        let mut watched = self.shared.watched.lock();
        let (seen, since) = watched.entry(beat.owner.node).or_insert((beat, now));
        if *seen != beat {
            (*seen, *since) = (beat, now);
        }
        now.duration_since(*since) >= BEAT_STOPPED_AFTER
    }

    /// A room's task is over. If it was empty its lease is given up, unless it is somebody else's already. The lease of a
    /// room that was closed with devices in it stays as it is: that tells the next owner to let them return to their seats.
    fn forget(&self, pool: PoolId, lease_epoch: u64, vacated: bool) {
        {
            let mut hosted = self.shared.hosted.lock();
            if hosted.get(&pool).is_some_and(|room| room.lease_epoch == lease_epoch) {
                hosted.remove(&pool);
            }
        }
        if !vacated || self.shared.stopping.is_cancelled() {
            return;
        }
        let (rooms, me) = (self.clone(), self.shared.me);
        tokio::spawn(async move {
            let released = rooms.database().transaction(|tx| leases::release(tx, me, pool, lease_epoch)).await;
            if let Err(error) = released {
                tracing::debug!(%pool, %error, "a room's lease could not be given up; it is taken again or runs out");
            }
        });
    }
}

/// Where a room is.
enum Found {
    Here(Hosted),
    There(Beat),
}
