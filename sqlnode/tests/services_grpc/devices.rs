//! The devices of an account, and throwing one out.

use std::time::{Duration, Instant};

use rockpool_proto::meta::v1 as wire;
use rockpool_sqlnode::database::uuid;
use tonic::Code;

use super::support::{Cluster, PASSWORD, TestDevice};

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_and_renamed_by_their_owner_only() {
    let (_cluster, node) = Cluster::single().await;
    let (ann, bob) = (node.sign_up("ann").await, node.sign_up("bob").await);
    let phone = node.login("ann", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    let rename =
        |name: &str| wire::RenameDeviceRequest { device_id: phone.device.device_id.clone(), name: name.into() };
    let renamed = node.devices().rename(ann.asks(rename("  pocket  "))).await.unwrap().into_inner();
    assert_eq!(renamed.name, "pocket");
    let listed = node.devices().list(ann.asks(wire::ListDevicesRequest {})).await.unwrap().into_inner().devices;
    let names: Vec<_> = listed.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["ann's laptop", "pocket"]);

    assert_eq!(node.devices().rename(bob.asks(rename("mine"))).await.unwrap_err().code(), Code::NotFound);
    let revoke = wire::RevokeDeviceRequest { device_id: phone.device.device_id.clone() };
    assert_eq!(node.devices().revoke(bob.asks(revoke)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(node.devices().rename(ann.asks(rename("\n"))).await.unwrap_err().code(), Code::InvalidArgument);

    let stolen = node.login("bob", PASSWORD, &phone.keys).await.err().unwrap();
    assert_eq!(stolen.code(), Code::FailedPrecondition, "a device key belongs to one account: {stolen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_refused_everywhere_and_its_stream_is_cut_within_a_second() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let phone = one.login("ann", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    let pool = one.pool(&ann, &[]).await;
    // The room is on node 1, the device's stream on node 2, and the revocation is asked of node 1, then of node 2.
    let mut watching = ann.open(&one, &pool).await.unwrap();
    let mut stream = phone.open(&two, &pool).await.unwrap();
    watching.until_present(&[&ann, &phone]).await;

    let revoke = wire::RevokeDeviceRequest { device_id: phone.device.device_id.clone() };
    let revoked = one.devices().revoke(ann.asks(revoke.clone())).await.unwrap().into_inner();
    let began = Instant::now();
    assert!(revoked.revoked_at_us > 0);
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Revoked);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    watching.until_present(&[&ann]).await;
    watching
        .until("the news of the revocation", |_, stream| {
            let newest = stream.members.last()?;
            newest.devices.iter().any(|it| it.device_id == phone.device.device_id && it.revoked_at_us > 0).then_some(())
        })
        .await;

    for node in [&one, &two] {
        let refused = node.auth().who_am_i(phone.asks(wire::WhoAmIRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("revoked"), "{refused}");
        assert_eq!(phone.open(node, &pool).await.err().unwrap().code(), Code::Unauthenticated);
        let refresh = wire::RefreshRequest { refresh_token: phone.tokens.refresh_token.clone() };
        assert_eq!(node.auth().refresh(refresh).await.unwrap_err().code(), Code::Unauthenticated);
        let login = node.login("ann", PASSWORD, &phone.keys).await.err().unwrap();
        assert_eq!(login.code(), Code::PermissionDenied, "{login}");
    }
    let again = two.devices().revoke(ann.asks(revoke)).await.unwrap().into_inner();
    assert_eq!(again.revoked_at_us, revoked.revoked_at_us, "revoking twice changes nothing");
    let members = wire::MembersRequest { pool_id: pool.into() };
    let members = two.pools().members(ann.asks(members)).await.unwrap().into_inner().members;
    assert_eq!(members[0].devices.len(), 2, "what a revoked device wrote stays verifiable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_have_so_many_devices_and_no_more() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let most = rockpool_proto::limits::DEVICES_PER_ACCOUNT_MAX;
    for number in 1..most {
        node.login("ann", PASSWORD, &TestDevice::new(&format!("device {number}"))).await.unwrap();
    }
    let refused = node.login("ann", PASSWORD, &TestDevice::new("one more")).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    node.login("ann", PASSWORD, &ann.keys).await.expect("a device that is known is not one more");
    let revoke = wire::RevokeDeviceRequest { device_id: ann.device.device_id.clone() };
    let login = node.login("ann", PASSWORD, &ann.keys).await.unwrap();
    node.devices().revoke(login.asks(revoke)).await.unwrap();
    node.login("ann", PASSWORD, &TestDevice::new("in its place")).await.expect("revoked ones are not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_not_bury_its_pools_under_revoked_devices() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let most = rockpool_proto::limits::DEVICES_PER_ACCOUNT_EVER_MAX as i64;
    let add = |number: i64| {
        let sql = "INSERT INTO meta.devices (device_id, account_id, name, kind, signing_key, exchange_key, created_at, \
                   revoked_at) SELECT $2, account_id, 'old', kind, signing_key, exchange_key, created_at, created_at \
                   FROM meta.devices WHERE device_id = $1";
        let (mut id, ann) = ([0; 16], ann.device_id().try_into().unwrap());
        id[..8].copy_from_slice(&number.to_be_bytes());
        node.database.transaction(move |tx| tx.execute(sql, &[uuid(&ann), uuid(&id)]))
    };
    for number in 2..most {
        add(number).await.unwrap();
    }
    node.login("ann", PASSWORD, &TestDevice::new("the last")).await.unwrap();
    let refused = node.login("ann", PASSWORD, &TestDevice::new("one more")).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    node.login("ann", PASSWORD, &ann.keys).await.expect("those that are there go on");
}
