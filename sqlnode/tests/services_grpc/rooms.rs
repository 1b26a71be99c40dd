//! Rosters, signals, fencing: one node or two, all of them alive.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rockpool_proto::meta::v1::{self as wire, from_cluster::Kind};
use rockpool_sqlnode::database::uuid;
use tonic::Code;

use super::support::{Cluster, DEADLINE, PASSWORD, TestDevice};

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

#[tokio::test(flavor = "multi_thread")]
async fn logging_in_again_ends_the_stream_of_the_session_before() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let pool = one.pool(&ann, &[]).await;
    let mut stream = ann.open(&one, &pool).await.unwrap();
    let again = two.login("ann", PASSWORD, &ann.keys).await.unwrap();
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Expired);
    again.open(&one, &pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pools_opened_at_the_same_moment_one_stays_open() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let (kitchen, cellar) = (one.pool(&ann, &[]).await, one.pool(&ann, &[]).await);
    for round in 0..20 {
        let (first, second) = tokio::join!(ann.open(&one, &kitchen), ann.open(&two, &cellar));
        let mut open: Vec<_> = [first, second].into_iter().flatten().collect();
        open.sort_by_key(|stream| stream.presence_epoch);
        let mut newest = open.pop().expect("one of them is open");
        for mut older in open {
            assert_eq!(older.until_ended().await, wire::ended::Reason::Fenced, "round {round}");
        }
        newest.ping(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_whether_somebody_was_here_while_it_was_away() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let minute = || cluster.clock.shift_by_us(60_000_000);
    let told = |stream: &super::support::Stream| {
        let absence = stream.absence.expect("the node found out");
        (absence.since_us > 0, absence.others_were_here)
    };
    // Closes a stream on purpose, and waits until the cluster has noted it.
    let close = async |stream: super::support::Stream| {
        drop(stream);
        let gone = "SELECT device_id FROM meta.presence_intervals WHERE left_at IS NULL";
        while !one.database.transaction(|tx| tx.query(gone, &[])).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        minute();
    };
    let first = ann.open(&one, &pool).await.unwrap();
    assert_eq!(told(&first), (false, false), "never here, and nobody else either");
    close(first).await;
    let alone = ann.open(&two, &pool).await.unwrap();
    assert_eq!(told(&alone), (true, false));
    close(alone).await;

    let bob_alone = bob.open(&two, &pool).await.unwrap();
    assert_eq!(told(&bob_alone), (false, true), "before one's first time others may have written");
    close(bob_alone).await;
    let back = ann.open(&one, &pool).await.unwrap();
    assert_eq!(told(&back), (true, true), "somebody came and went");
    minute();
    let bob_too = bob.open(&two, &pool).await.unwrap();
    assert_eq!(told(&bob_too), (true, true), "somebody came and is still here");
    drop(bob_too);
    close(back).await;
    let neither = bob.open(&one, &pool).await.unwrap();
    assert!(told(&neither).0);

    // A stream that broke: nobody knows since when its device has been deaf, so whoever is here counts.
    let _ann = ann.open(&two, &pool).await.unwrap();
    let again = bob.open(&two, &pool).await.unwrap();
    assert_eq!(told(&again), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_hangs_up_before_it_has_a_seat_leaves_no_presence_behind() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let (ann, bob) = (one.sign_up("ann").await, one.sign_up("bob").await);
    let pool = one.pool(&ann, &[&bob]).await;
    let mut watching = ann.open(&one, &pool).await.unwrap();
    // Node 2 asks the owner, and gets no answer.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.divert(2, 1, mute.local_addr().unwrap());
    let present = async || {
        let sql = "SELECT pool_id FROM meta.presence p JOIN meta.accounts a ON a.account_id = p.account_id \
                   WHERE a.login_key = 'bob'";
        let row = one.database.transaction(|tx| tx.query_opt(sql, &[])).await.unwrap();
        row.is_some_and(|row| row.uuid_opt(0).unwrap().is_some())
    };
    {
        let opening = bob.open(&two, &pool);
        tokio::pin!(opening);
        while !present().await {
            tokio::select! {
                outcome = &mut opening => panic!("there is no room: {:?}", outcome.err()),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
    let began = Instant::now();
    while present().await {
        assert!(began.elapsed() < DEADLINE, "the presence has not ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watching.ping(1).await;
    assert_eq!(watching.roster.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_and_going_does_not_fill_the_table_of_intervals() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let pool = node.pool(&ann, &[]).await;
    let mut newest = ann.open(&node, &pool).await.unwrap();
    for _ in 0..40 {
        let next = ann.open(&node, &pool).await.unwrap();
        assert_eq!(newest.until_ended().await, wire::ended::Reason::Fenced);
        newest = next;
    }
    let sql = "SELECT count(*), max(presence_epoch) FROM meta.presence_intervals";
    let row = node.database.transaction(|tx| tx.query_one(sql, &[])).await.unwrap();
    assert_eq!((row.int(0).unwrap(), row.int(1).unwrap()), (16, 41));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presence_that_ends_while_nothing_can_be_decided_is_noted_later() {
    let (cluster, node) = Cluster::single().await;
    let (ann, bob) = (node.sign_up("ann").await, node.sign_up("bob").await);
    let pool = node.pool(&ann, &[&bob]).await;
    let mut watching = ann.open(&node, &pool).await.unwrap();
    let leaving = bob.open(&node, &pool).await.unwrap();
    watching.until_present(&[&ann, &bob]).await;
    cluster.outage.store(true, Ordering::SeqCst);
    drop(leaving);
    // By then the node has tried for as long as it tries anything else.
    assert_eq!(watching.until_ended().await, wire::ended::Reason::Moved);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.outage.store(false, Ordering::SeqCst);
    let began = Instant::now();
    let gone = "SELECT pool_id FROM meta.presence WHERE device_id = $1 AND pool_id IS NULL";
    let device = [uuid(&bob.device_id().try_into().unwrap())];
    while node.database.transaction(|tx| tx.query(gone, &device)).await.unwrap().is_empty() {
        assert!(began.elapsed() < DEADLINE, "the presence has not ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
