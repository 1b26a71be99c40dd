//! Keeps what this node owns: moves its beat on, closes rooms that are no longer its own, and notices changes of pools.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use rockpool_proto::PoolId;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::host::Mail;
use super::leases::{self, BEAT_EVERY, Held, LEASE_FOR};
use super::{Hosted, Rooms};

/// Starts the keeper's task, which ends when the rooms stop.
pub(super) fn start(rooms: &Rooms) {
    let rooms = rooms.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = run(&rooms) => {}
            () = rooms.stopping().cancelled() => {}
        }
    });
}

async fn run(rooms: &Rooms) {
    let mut beats = interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while rooms.hosted_count() == 0 {
            rooms.shared.hosting.notified().await;
        }
        let mut kept_at = Instant::now();
        while rooms.hosted_count() > 0 {
            beats.tick().await;
            let began = Instant::now();
            let me = rooms.shared.me;
            // What is hosted now: a room that is taken while the beat runs is not missed in its answer.
            let before: Vec<_> = rooms.shared.hosted.lock().iter().map(|(pool, it)| (*pool, it.clone())).collect();
            let kept = async {
                rooms.database().transaction(|tx| leases::move_on(tx, me)).await?;
                rooms.database().transaction(|tx| leases::held(tx, me)).await
            };
            match timeout(LEASE_FOR, kept).await {
                Ok(Ok(held)) => {
                    kept_at = began;
                    for (pool, room) in before {
                        look_after(rooms, &held, pool, &room);
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "the beat of this node's rooms failed"),
                Err(_) => tracing::warn!("the beat of this node's rooms got no answer"),
            }
            if kept_at.elapsed() >= LEASE_FOR {
                tracing::warn!("this node could not keep its rooms; devices have to connect again");
                for (_, room) in rooms.shared.hosted.lock().drain() {
                    close(&room);
                }
            }
        }
    }
}

fn look_after(rooms: &Rooms, held: &HashMap<PoolId, Held>, pool: PoolId, room: &Hosted) {
    let Some(held) = held.get(&pool).filter(|held| held.lease_epoch == room.lease_epoch) else {
        tracing::info!(%pool, lease_epoch = room.lease_epoch, "another node owns this pool's room now");
        return close(room);
    };
    if room.change_number.load(Ordering::SeqCst) < held.change_number {
        let rooms = rooms.clone();
        tokio::spawn(async move { rooms.refresh_here(pool).await });
    }
}

fn close(room: &Hosted) {
    let mailbox = room.mailbox.clone();
    tokio::spawn(async move { mailbox.send(Mail::Close).await.ok() });
}
