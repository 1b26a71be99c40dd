//! What must not work, and how it is said.

mod common;

use common::{Authority, Cluster, DEADLINE, put};
use rockpool_proto::engine::v1 as wire;
use rockpool_proto::engine::v1::transport_client::TransportClient;
use rockpool_runtime::{Class, Engine, EngineError, EngineOptions, NodeId, TlsOptions};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused_and_free_after_a_stop() {
    let mut cluster = Cluster::start(1).await;
    let options = EngineOptions { bootstrap: true, ..EngineOptions::new(cluster.folder(NodeId(1)), NodeId(1)) };
    let error = Engine::open(options.clone()).await.err().expect("somebody has it");
    assert!(matches!(error, EngineError::InUse(_)), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    cluster.node_mut(NodeId(1)).stop().await;
    Engine::open(options).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = Engine::open(EngineOptions::new(file.join("data"), NodeId(1))).await.err().expect("no folder");
    assert!(error.to_string().contains("a file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_and_named() {
    let mut cluster = Cluster::start(1).await;
    for number in 0..20 {
        put(cluster.nodes[0].engine(), &format!("key {number}"), "a value to be found again").await;
    }
    cluster.node_mut(NodeId(1)).kill().await;
    let options = EngineOptions { bootstrap: true, ..EngineOptions::new(cluster.folder(NodeId(1)), NodeId(1)) };
    // The threads of the killed engine let go of the folder when they have ended.
    let started = std::time::Instant::now();
    loop {
        match Engine::open(options.clone()).await {
            Ok(engine) => break engine.shutdown().await,
            Err(error) => assert!(started.elapsed() < DEADLINE, "{error}"),
        }
    }
    let mut damaged = false;
    for file in std::fs::read_dir(cluster.folder(NodeId(1)).join("log")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG")) {
            continue;
        }
        if let Some(at) = bytes.windows(6).position(|window| window == b"key 10") {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged = true;
        }
    }
    assert!(damaged);
    let error = Engine::open(options).await.err().expect("damaged data must not be served");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(error.class(), Class::Fatal);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_make_no_sense_are_refused_and_named() {
    let cluster = Cluster::start(1).await;
    let peers = BTreeMap::from([(NodeId(2), "not an address".to_owned())]);
    let error = cluster.nodes[0].engine().set_peers(&peers).unwrap_err();
    assert!(matches!(error, EngineError::Address { node: NodeId(2), .. }), "{error}");
}

/// What the transport service says to a caller.
async fn call(address: SocketAddr, authority_pem: &str, identity: Option<&TlsOptions>, hello: wire::Hello) -> Code {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority_pem)).domain_name("rockpool.internal");
    if let Some(identity) = identity {
        tls = tls.identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    let Ok(channel) = endpoint.connect().await else { return Code::Unavailable };
    let frame = wire::Frame { hello: Some(hello), messages: vec![b"rubbish".as_slice().into()] };
    let frames = tokio_stream::iter([frame]);
    let answer = tokio::time::timeout(DEADLINE, TransportClient::new(channel).deliver(frames)).await.unwrap();
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_of_the_cluster_may_send_and_only_as_themselves() {
    let cluster = Cluster::start(1).await;
    let address = cluster.nodes[0].address;
    let hello = |from, to| wire::Hello { from, to, class: wire::Class::Urgent as i32 };
    let two = cluster.authority.issue(NodeId(2));
    let ca = two.authority_pem.clone();
    assert_eq!(call(address, &ca, None, hello(2, 1)).await, Code::Unauthenticated);
    assert_eq!(call(address, &ca, Some(&two), hello(3, 1)).await, Code::PermissionDenied);
    assert_eq!(call(address, &ca, Some(&two), hello(2, 3)).await, Code::FailedPrecondition);
    // Rubbish from a node is dropped, and changes nothing.
    assert_eq!(call(address, &ca, Some(&two), hello(2, 1)).await, Code::Ok);
    let stranger = Authority::new().issue(NodeId(2));
    let refused = call(address, &ca, Some(&stranger), hello(2, 1)).await;
    // The handshake fails; as what that reaches the caller depends on how far his own side had come.
    let broken = [Code::Unavailable, Code::Unknown, Code::Unauthenticated, Code::Cancelled, Code::Internal];
    assert!(broken.contains(&refused), "{refused:?}");
    put(cluster.nodes[0].engine(), "key", "value").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_in_the_handshake_is_called_again() {
    let cluster = Cluster::start(1).await;
    // Its system takes connections, and nobody looks at them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    cluster.nodes[0].engine().add_node(NodeId(2), address).await.unwrap();
    cluster
        .wait_for(NodeId(1), "the call was given up", |status| {
            let error = status.peers.get(&NodeId(2)).and_then(|peer| peer.last_error.as_ref());
            error.is_some_and(|error| error.contains("handshake"))
        })
        .await;
    drop(listener.accept().await.unwrap());
    tokio::time::timeout(DEADLINE, listener.accept()).await.expect("it is called again").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_every_stream_is_called_less_and_less_often() {
    let cluster = Cluster::start(1).await;
    // The one who answers is another node than the one who is meant.
    let other = cluster.nodes[0].address;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    cluster.nodes[0].engine().add_node(NodeId(2), address).await.unwrap();
    let begun = Instant::now();
    for _ in 0..8 {
        let (mut caller, _) = tokio::time::timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
        let mut called = TcpStream::connect(other).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut caller, &mut called).await });
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "eight calls in {:?}", begun.elapsed());
}
