//! Losing the node that owns a room, and stopping it.

use std::time::{Duration, Instant};

use rockpool_proto::meta::v1 as wire;

use super::support::{Cluster, Login, Node, Stream};

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
