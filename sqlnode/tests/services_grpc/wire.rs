//! Bytes that are not what they should be.

use bytes::{Buf, BufMut, Bytes};
use rockpool_proto::limits::{CLIENT_RPC_BYTES_MAX, SIGNAL_BYTES_MAX};
use rockpool_proto::meta::v1 as wire;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use super::support::{Cluster, Login, Node};

/// Sends and takes bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn call(node: &Node, login: &Login, path: &'static str, body: Vec<u8>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(node.channel.clone());
    grpc.ready().await.unwrap();
    let request: Request<Bytes> = login.asks(Bytes::from(body));
    grpc.unary(request, PathAndQuery::from_static(path), Raw).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_messages_are_refused_and_nothing_else_suffers() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let pool = node.pool(&ann, &[]).await;
    let paths = [
        "/rockpool.meta.v1.Auth/SignUp",
        "/rockpool.meta.v1.Auth/Login",
        "/rockpool.meta.v1.Auth/Refresh",
        "/rockpool.meta.v1.Devices/Revoke",
        "/rockpool.meta.v1.Pools/Create",
        "/rockpool.meta.v1.Pools/Join",
    ];
    for path in paths {
        for malformed in [vec![0xff; 40], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0x0a, 0x02, 0xc3, 0x28]] {
            let status = call(&node, &ann, path, malformed).await.unwrap_err();
            assert!(
                matches!(status.code(), Code::Internal | Code::InvalidArgument | Code::Unauthenticated),
                "{path}: {status}"
            );
        }
        let oversized = call(&node, &ann, path, vec![0; CLIENT_RPC_BYTES_MAX + 1]).await.unwrap_err();
        assert_eq!(oversized.code(), Code::OutOfRange, "{path}: {oversized}");
    }
    let mut stream = ann.open(&node, &pool).await.expect("the node is as well as before");
    stream.ping(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_the_rules_is_ended_with_a_reason_and_others_go_on() {
    let (_cluster, node) = Cluster::single().await;
    let (ann, bob) = (node.sign_up("ann").await, node.sign_up("bob").await);
    let pool = node.pool(&ann, &[&bob]).await;
    let mut good = ann.open(&node, &pool).await.unwrap();

    let oversized = bob.open(&node, &pool).await.unwrap();
    oversized.signal(&ann.device_id(), &vec![0; SIGNAL_BYTES_MAX + 1]).await;
    let open_twice = wire::to_cluster::Kind::Open(wire::Open { pool_id: pool.clone().into(), last_place: None });
    assert_eq!(status_of(oversized).await.code(), Code::InvalidArgument);
    let twice = bob.open(&node, &pool).await.unwrap();
    twice.send(open_twice).await;
    assert_eq!(status_of(twice).await.code(), Code::InvalidArgument);
    let empty = bob.open(&node, &pool).await.unwrap();
    empty.up.send(wire::ToCluster { kind: None }).await.unwrap();
    assert_eq!(status_of(empty).await.code(), Code::InvalidArgument);

    let place = wire::Place { path: vec![9; 40].into(), seat: 77, join_number: u64::MAX, lease_epoch: u64::MAX };
    let odd = bob.open_at(&node, &pool, Some(place)).await.expect("a claim that is none is no claim");
    assert!(odd.place(&bob).seat < 3);
    assert_eq!(bob.open(&node, &pool[1..]).await.err().unwrap().code(), Code::InvalidArgument);

    // What comes first has to be Open.
    let (up, messages) = tokio::sync::mpsc::channel(1);
    up.send(wire::ToCluster { kind: Some(wire::to_cluster::Kind::Ping(wire::Ping { nonce: 1 })) }).await.unwrap();
    let request = bob.asks(tokio_stream::wrappers::ReceiverStream::new(messages));
    let mut down = node.signalling().attach(request).await.unwrap().into_inner();
    assert_eq!(down.message().await.unwrap_err().code(), Code::InvalidArgument);

    good.ping(1).await;
}

async fn status_of(mut stream: super::support::Stream) -> Status {
    loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}
