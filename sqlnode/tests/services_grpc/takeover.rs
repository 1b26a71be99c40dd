//! Losing the node that owns a room, and stopping it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rockpool_proto::PoolId;
use rockpool_proto::meta::v1 as wire;
use rockpool_sqlnode::database::uuid;
use rockpool_sqlnode::rooms::leases;
use tokio::net::TcpListener;

use super::support::{Cluster, Login, Node, PASSWORD, Stream, TestDevice};

/// Connects, again where the cluster says so, as a peer does.
async fn reconnect(login: &Login, node: &Node, pool: &[u8], place: wire::Place) -> Stream {
    login.open_at(node, pool, Some(place)).await.expect("a room after the owner's death")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_outlives_its_owner_and_devices_find_their_seats() {
    let cluster = Cluster::new();
    let (one, two, three) = (cluster.start(1).await, cluster.start(2).await, cluster.start(3).await);
    let (ann, bob, cid) = (one.sign_up("ann").await, one.sign_up("bob").await, one.sign_up("cid").await);
    let pool = one.pool(&ann, &[&bob, &cid]).await;
    let first = ann.open(&one, &pool).await.unwrap();
    let mut bob_stream = bob.open(&two, &pool).await.unwrap();
    let mut cid_stream = cid.open(&three, &pool).await.unwrap();
    bob_stream.until_present(&[&ann, &bob, &cid]).await;
    assert_eq!(one.rooms.hosted_count(), 1, "the first to connect made its node the owner");
    let (bob_place, cid_place) = (bob_stream.place(&bob), bob_stream.place(&cid));

    one.kill();
    drop(first);
    assert_eq!(bob_stream.until_ended().await, wire::ended::Reason::Moved);
    assert_eq!(cid_stream.until_ended().await, wire::ended::Reason::Moved);
    let began = Instant::now();
    // In the other order than before: seats go by claims.
    let mut cid_stream = reconnect(&cid, &three, &pool, cid_place.clone()).await;
    let bob_stream = reconnect(&bob, &two, &pool, bob_place.clone()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(cid_stream.lease_epoch > bob_place.lease_epoch, "the new owner's roster beats the old one's");
    cid_stream.until_present(&[&bob, &cid]).await;
    for (login, place) in [(&bob, bob_place), (&cid, cid_place)] {
        let now = cid_stream.place(login);
        assert_eq!((now.path, now.seat, now.join_number), (place.path, place.seat, place.join_number));
    }
    bob_stream.signal(&cid.device_id(), b"still here").await;
    let signal =
        cid_stream.until("a signal", |kind, _| matches!(kind, wire::from_cluster::Kind::Signal(_)).then_some(()));
    signal.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stops_hands_its_rooms_over() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let mut ann_stream = ann.open(&one, &pool).await.unwrap();
    let mut bob_stream = bob.open(&two, &pool).await.unwrap();
    ann_stream.until_present(&[&ann, &bob]).await;
    let place = ann_stream.place(&ann);
    one.rooms.drain().await;
    assert_eq!(ann_stream.until_ended().await, wire::ended::Reason::Moved);
    assert_eq!(bob_stream.until_ended().await, wire::ended::Reason::Moved);
    // The node still answers, and sends whoever comes on.
    let refused = ann.open(&one, &pool).await.err().expect("a node that stops takes nobody in");
    assert!(refused.message().contains("Moved"), "{refused}");
    let mut ann_stream = reconnect(&ann, &two, &pool, place.clone()).await;
    let bob_stream = bob.open(&two, &pool).await.unwrap();
    ann_stream.until_present(&[&ann, &bob]).await;
    assert_eq!(ann_stream.place(&ann).path, place.path);
    assert_eq!(two.rooms.hosted_count(), 1);
    drop(bob_stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_kept_for_a_device_whose_node_dies() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let mut ann_stream = ann.open(&one, &pool).await.unwrap();
    let bob_stream = bob.open(&two, &pool).await.unwrap();
    ann_stream.until_present(&[&ann, &bob]).await;
    let (place, epoch) = (bob_stream.place(&bob), bob_stream.presence_epoch);
    two.kill();
    drop(bob_stream);
    let again = reconnect(&bob, &one, &pool, place.clone()).await;
    assert_eq!(again.place(&bob), place);
    let device = bob.device_id();
    ann_stream.until("bob's return", |_, it| (it.roster.get(&device)?.presence_epoch > epoch).then_some(())).await;
    assert_eq!(ann_stream.roster.len(), 2, "nobody was told that he had gone");
}

/// An address where nobody listens.
async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_alive_but_cut_off_is_outvoted_and_gives_way() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let mut ann_stream = ann.open(&one, &pool).await.unwrap();
    let place = ann_stream.place(&ann);
    cluster.divert(2, 1, refusing().await);
    let mut bob_stream = bob.open(&two, &pool).await.unwrap();
    assert!(bob_stream.lease_epoch > ann_stream.lease_epoch);
    assert_eq!(ann_stream.until_ended().await, wire::ended::Reason::Moved, "the next beat tells the old owner");
    // Node 1 takes the device in again and carries it to node 2, which it can reach.
    let ann_stream = reconnect(&ann, &one, &pool, place.clone()).await;
    assert_eq!(ann_stream.lease_epoch, bob_stream.lease_epoch);
    bob_stream.until_present(&[&ann, &bob]).await;
    assert_eq!(two.rooms.hosted_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_says_nothing_is_replaced_when_its_beat_has_stopped() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let pool = one.pool(&ann, &[]).await;
    let stream = ann.open(&one, &pool).await.unwrap();
    let place = stream.place(&ann);
    // As if its host had lost power: packets go nowhere, and nobody refuses a connection.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.divert(2, 1, mute.local_addr().unwrap());
    one.kill();
    let began = Instant::now();
    let again = reconnect(&ann, &two, &pool, place.clone()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(again.place(&ann).path, place.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_owner_whose_beat_goes_on_keeps_its_room() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let mut ann_stream = ann.open(&one, &pool).await.unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.divert(2, 1, mute.local_addr().unwrap());
    let opening = bob.open(&two, &pool);
    let patience = Duration::from_secs(4);
    assert!(tokio::time::timeout(patience, opening).await.is_err(), "node 2 goes on asking");
    assert_eq!(two.rooms.hosted_count(), 0);
    ann_stream.ping(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_cannot_be_told_is_noticed_by_the_owner_within_a_second() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let phone = one.login("ann", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    let pool = one.pool(&ann, &[]).await;
    let mut stream = phone.open(&one, &pool).await.unwrap();
    cluster.divert(2, 1, refusing().await);
    let revoke = wire::RevokeDeviceRequest { device_id: phone.device.device_id.clone() };
    two.devices().revoke(ann.asks(revoke)).await.unwrap();
    let began = Instant::now();
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Revoked);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_survive_a_cluster_that_could_not_decide_for_a_while() {
    let (cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let pool = node.pool(&ann, &[]).await;
    let mut stream = ann.open(&node, &pool).await.unwrap();
    // One more than the centre has seats for.
    let mut others = Vec::new();
    for number in 2..=10 {
        let login = node.login("ann", PASSWORD, &TestDevice::new(&format!("device {number}"))).await.unwrap();
        others.push((login.open(&node, &pool).await.unwrap(), login));
    }
    let (last_stream, last) = others.pop().unwrap();
    let place = last_stream.place(&last);
    assert_eq!(place.path.len(), 2);
    cluster.outage.store(true, Ordering::SeqCst);
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Moved, "an owner that can't beat gives up");
    cluster.outage.store(false, Ordering::SeqCst);
    // The first to come back: its seat hangs below one that is still empty, and waits for the others.
    let again = reconnect(&last, &node, &pool, place.clone()).await;
    assert_eq!((again.place(&last).path, again.place(&last).seat), (place.path, place.seat));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_is_not_held_up_by_changes_of_pools() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let pool = one.pool(&ann, &[]).await;
    let stream = ann.open(&one, &pool).await.unwrap();
    let owner = two.database.transaction(|tx| leases::owner(tx, PoolId(pool.clone().try_into().unwrap())));
    let owner = owner.await.unwrap().unwrap();
    one.kill(); // its own beats would be in the way
    drop(stream);
    // Somebody renames a device during each of the first beats, which changes all pools of the account.
    let tries = async |looks_at_pools: bool| {
        let mut tries = 0;
        let beat = two.database.transaction(|tx| {
            tries += 1;
            leases::move_on(tx, owner)?;
            if looks_at_pools {
                assert_eq!(leases::held(tx, owner)?.len(), 1);
            }
            if tries < 4 {
                let changes = "UPDATE meta.pools SET change_number = change_number + 1 WHERE pool_id = $1";
                let pool = uuid(pool[..].try_into().unwrap());
                futures::executor::block_on(
                    two.database.transaction(|tx| tx.execute(changes, std::slice::from_ref(&pool))),
                )?;
            }
            Ok(())
        });
        beat.await.unwrap();
        tries
    };
    assert_eq!(tries(false).await, 1);
    assert_eq!(tries(true).await, 4, "it would be, if it looked at them in the same transaction");
}
