//! Rosters, signals, fencing: one node or two, all of them alive.

use std::time::{Duration, Instant};

use rockpool_proto::meta::v1::{self as wire, from_cluster::Kind};
use tonic::Code;

use super::support::{Cluster, PASSWORD, TestDevice};

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_see_each_other_and_exchange_signals() {
    let cluster = Cluster::new();
    // Once with both on the node that owns the room, once with one on the other node.
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    for (number, second) in [&one, &two].into_iter().enumerate() {
        let ann = one.sign_up(&format!("ann{number}")).await;
        let bob = one.sign_up(&format!("bob{number}")).await;
        let pool = one.pool(&ann, &[&bob]).await;
        let mut ann_stream = ann.open(&one, &pool).await.unwrap();
        assert_eq!(ann_stream.roster.len(), 1);
        assert_eq!((&ann_stream.place(&ann).path[..], ann_stream.place(&ann).seat), (&[2][..], 0));
        let mut bob_stream = bob.open(second, &pool).await.unwrap();
        ann_stream.until_present(&[&ann, &bob]).await;
        assert_eq!(ann_stream.roster, bob_stream.roster);
        assert_eq!(&bob_stream.place(&bob).path[..], &[1]);
        let known: Vec<_> = bob_stream.members.iter().flat_map(|member| &member.devices).collect();
        assert!(known.iter().any(|device| device.signing_key == ann.device.signing_key));

        ann_stream.signal(&bob.device_id(), b"offer").await;
        let signal = bob_stream.until("a signal", |kind, _| match kind {
            Kind::Signal(signal) => Some(signal.clone()),
            _ => None,
        });
        let signal = signal.await;
        assert_eq!(signal.from_device_id, ann.device.device_id, "the cluster says whom it is from");
        assert_eq!(&signal.payload[..], b"offer");
        bob_stream.signal(&ann.device_id(), b"answer").await;
        ann_stream
            .until("an answer", |kind, _| {
                matches!(kind, Kind::Signal(it) if &it.payload[..] == b"answer").then_some(())
            })
            .await;
        // Nobody, and somebody of no pool: nothing happens.
        ann_stream.signal(&[1; 16], b"?").await;
        ann_stream.signal(b"?", b"?").await;
        ann_stream.ping(7).await;

        // Closing on purpose gives the seat up at once.
        let leaver = bob_stream;
        drop(leaver.up);
        ann_stream.until_present(&[&ann]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_streams_of_one_device_the_newer_stays() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let (kitchen, cellar) = (one.pool(&ann, &[&bob]).await, one.pool(&ann, &[&bob]).await);
    let mut watching = bob.open(&one, &kitchen).await.unwrap();
    let mut first = ann.open(&one, &kitchen).await.unwrap();
    watching.until_present(&[&ann, &bob]).await;
    let seat = first.place(&ann);

    let mut second = ann.open(&two, &kitchen).await.unwrap();
    assert_eq!(first.until_ended().await, wire::ended::Reason::Fenced);
    assert!(second.presence_epoch > first.presence_epoch);
    assert_eq!(second.place(&ann), seat, "its seat waited for it");
    let epoch = second.presence_epoch;
    let device = ann.device_id();
    watching.until("the newer presence", |_, it| (it.roster.get(&device)?.presence_epoch == epoch).then_some(())).await;

    // One pool for each device: another pool, on any node, ends the presence in this one.
    let _third = ann.open(&one, &cellar).await.unwrap();
    assert_eq!(second.until_ended().await, wire::ended::Reason::Fenced);
    watching.until_present(&[&bob]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_stream_within_a_second_on_another_node() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let pool = one.pool(&ann, &[]).await;
    let mut stream = ann.open(&one, &pool).await.unwrap();
    two.auth().logout(ann.asks(wire::LogoutRequest {})).await.unwrap();
    let began = Instant::now();
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Expired);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_devices_that_come_later_are_told() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[]).await;
    let mut stream = ann.open(&one, &pool).await.unwrap();
    let request = ann.asks(wire::InviteRequest { pool_id: pool.clone().into(), ..Default::default() });
    let invite = two.pools().invite(request).await.unwrap().into_inner().invite;
    two.pools().join(bob.asks(wire::JoinRequest { invite })).await.unwrap();
    let account = bob.account.clone();
    stream
        .until("a member", |kind, _| {
            matches!(kind, Kind::Member(it) if it.account.as_ref() == Some(&account)).then_some(())
        })
        .await;
    let phone = two.login("bob", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    let id = phone.device.device_id.clone();
    stream
        .until("a device", |kind, _| match kind {
            Kind::Member(member) => member.devices.iter().any(|device| device.device_id == id).then_some(()),
            _ => None,
        })
        .await;
    two.pools().leave(bob.asks(wire::LeaveRequest { pool_id: pool.into() })).await.unwrap();
    stream.until("who left", |kind, _| {
        matches!(kind, Kind::Member(it) if it.role() == wire::Role::Unspecified && it.account.as_ref() == Some(&account)).then_some(())
    }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_recorded_with_its_beginning_and_end() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let pool = node.pool(&ann, &[]).await;
    let first = ann.open(&node, &pool).await.unwrap();
    drop(first.up);
    let intervals = || async {
        let read = node.database.transaction(|tx| {
            let rows =
                tx.query("SELECT presence_epoch, left_at FROM meta.presence_intervals ORDER BY presence_epoch", &[])?;
            rows.iter().map(|row| Ok((row.int(0)?, row.time_us_opt(1)?.is_some()))).collect::<Result<Vec<_>, _>>()
        });
        read.await.unwrap()
    };
    let began = Instant::now();
    while intervals().await != [(1, true)] {
        assert!(began.elapsed() < super::support::DEADLINE, "{:?}", intervals().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _second = ann.open(&node, &pool).await.unwrap();
    assert_eq!(intervals().await, [(1, true), (2, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_between_nodes_are_for_nodes() {
    let cluster = Cluster::new();
    let node = cluster.start_with(1, false).await;
    let mut rooms = rockpool_proto::cluster::v1::rooms_client::RoomsClient::new(node.channel.clone());
    let evict = rockpool_proto::cluster::v1::EvictRequest::default();
    assert_eq!(rooms.evict(evict).await.unwrap_err().code(), Code::PermissionDenied);
    let refresh = rockpool_proto::cluster::v1::RefreshRequest::default();
    assert_eq!(rooms.refresh(refresh).await.unwrap_err().code(), Code::PermissionDenied);
    let attach = rooms.attach(tokio_stream::empty()).await;
    assert_eq!(attach.err().unwrap().code(), Code::PermissionDenied);
}
