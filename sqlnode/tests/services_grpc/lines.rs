//! What nodes carry for devices, over the listener that a node really has.

use std::time::Duration;

use rockpool_proto::cluster::v1::rooms_client::RoomsClient;
use rockpool_proto::cluster::v1::{RoomOpen, RoomUp, room_up};
use rockpool_proto::limits::POOL_PRESENT_DEVICES_MAX;
use rockpool_sqlnode::cluster::NodeClient;
use rockpool_sqlnode::config::Config;
use rockpool_sqlnode::identity::NodeTls;
use rockpool_sqlnode::node::Node;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::support::DEADLINE;

/// Between two nodes there is one connection for rooms, and each device is a call on it for as long as it is present.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_carries_a_whole_pool_of_devices_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = vec![("data", folder.path().to_str().unwrap().to_owned())];
    settings.extend(["grpc", "pg", "http"].map(|listener| (listener, "127.0.0.1:0".to_owned())));
    let node = Node::start(Config::gather(&settings, |_| None, None).unwrap()).await.unwrap();
    timeout(DEADLINE, node.ready()).await.expect("the node is ready in time").unwrap();
    let tls = NodeTls::read(folder.path()).unwrap();
    let channel = NodeClient::new(&node.addresses().grpc, &tls).unwrap().into_channel();

    // Calls that stay open, because they have not said yet whom they bring.
    let mut open = Vec::new();
    for _ in 0..POOL_PRESENT_DEVICES_MAX {
        let (up, messages) = mpsc::channel::<RoomUp>(1);
        let mut client = RoomsClient::new(channel.clone());
        open.push((up, tokio::spawn(async move { client.attach(ReceiverStream::new(messages)).await.map(drop) })));
    }
    // Nothing tells when they have all left this side; should one of them come last, the test only proves less.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (up, messages) = mpsc::channel(1);
    let one_more = RoomOpen {
        pool_id: vec![1; 16].into(),
        account_id: vec![2; 16].into(),
        device_id: vec![3; 16].into(),
        ..RoomOpen::default()
    };
    up.send(RoomUp { kind: Some(room_up::Kind::Open(one_more)) }).await.unwrap();
    let mut client = RoomsClient::new(channel);
    // Less than it takes until the others are told that they said nothing.
    let answer = timeout(Duration::from_secs(3), client.attach(ReceiverStream::new(messages))).await;
    let refused = answer.expect("an answer in time").err().unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "There is no such pool (any more)."));
    for (up, call) in open {
        assert!(!call.is_finished(), "the others are still there");
        drop(up);
        call.abort();
    }
    node.stop().await;
}
