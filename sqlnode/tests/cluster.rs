//! Whole nodes in one process: founding, joining, refusals, restarts, a leader that stops.

use std::path::Path;
use std::time::Duration;

use rockpool_sqlnode::cluster::NodeClient;
use rockpool_sqlnode::config::Config;
use rockpool_sqlnode::error::StartError;
use rockpool_sqlnode::identity::NodeTls;
use rockpool_sqlnode::node::Node;

fn config(folder: &Path, flags: &[(&'static str, String)]) -> Config {
    let mut all = vec![("data", folder.to_str().unwrap().to_owned())];
    for listener in ["grpc", "pg", "http"] {
        if flags.iter().all(|(key, _)| *key != listener) {
            all.push((listener, "127.0.0.1:0".to_owned()));
        }
    }
    all.extend(flags.iter().cloned());
    Config::gather(&all, |_| None, None).unwrap()
}

async fn start(folder: &Path, flags: &[(&'static str, String)]) -> Result<Node, StartError> {
    let node = Node::start(config(folder, flags)).await?;
    match tokio::time::timeout(Duration::from_secs(60), node.ready()).await.expect("the node is ready in time") {
        Ok(()) => Ok(node),
        Err(error) => {
            let text = error.to_string();
            node.stop().await;
            Err(StartError::Refused(text))
        }
    }
}

fn client(folder: &Path, address: &str) -> NodeClient {
    NodeClient::new(address, &NodeTls::read(folder).unwrap()).unwrap()
}

async fn token(folder: &Path, node: &Node) -> String {
    client(folder, &node.addresses().grpc).create_token(None).await.unwrap().0
}

fn joining(node: &Node, token: &str) -> Vec<(&'static str, String)> {
    vec![("join", node.addresses().grpc.clone()), ("token", token.to_owned())]
}

/// Starts again on the same ports.
fn same_ports(node: &Node) -> Vec<(&'static str, String)> {
    let addresses = node.addresses();
    vec![("grpc", addresses.grpc.clone()), ("pg", addresses.pg.clone()), ("http", addresses.http.clone())]
}

async fn voters(folder: &Path, node: &Node) -> usize {
    let report = client(folder, &node.addresses().grpc).report().await.unwrap();
    report.replicas[0].voters.len()
}

async fn wait_for_voters(folder: &Path, node: &Node, count: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while voters(folder, node).await != count {
        assert!(std::time::Instant::now() < deadline, "there are no {count} voters in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_join_serve_and_survive_the_first_one_stopping() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = three(&folders).await;
    let others = vec![second, third];
    let ids: Vec<u64> = others.iter().map(|node| node.identity().node_id.0).collect();
    assert_eq!(ids, [2, 3]);

    let write = async |node: &Node, key: i64| {
        node.database()
            .transaction(|tx| {
                tx.execute_script("CREATE TABLE IF NOT EXISTS t (id int8 PRIMARY KEY)")?;
                tx.execute("INSERT INTO t VALUES ($1)", &[rockpool_sql::Value::Int8(key)])
            })
            .await
    };
    let read = async |node: &Node| {
        let counted = node.database().transaction(|tx| tx.query_one("SELECT count(*) FROM t", &[])?.int(0)).await;
        counted.unwrap()
    };
    write(&others[0], 1).await.unwrap();
    assert_eq!(read(&others[1]).await, 1);

    let status = client(folders[2].path(), &others[1].addresses().grpc).status().await.unwrap();
    assert_eq!(status.nodes.len(), 3);
    assert!(status.nodes.iter().all(|node| node.report.is_ok()), "{status:?}");

    // The first node, which leads, stops: the others go on without it.
    let ports = same_ports(&first);
    let began = std::time::Instant::now();
    first.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "stopping took {:?}", began.elapsed());
    write(&others[1], 2).await.unwrap();
    assert_eq!(read(&others[0]).await, 2);
    let status = client(folders[1].path(), &others[0].addresses().grpc).status().await.unwrap();
    assert_eq!(status.nodes.iter().filter(|node| node.report.is_err()).count(), 1);

    // It comes back under its old number and catches up.
    let first = start(folders[0].path(), &ports).await.unwrap();
    assert_eq!(first.identity().node_id.0, 1);
    assert_eq!(read(&first).await, 2);
    first.stop().await;
    for node in others {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_join_is_told_why() {
    let [one, two, three, elsewhere, scratch] = [(); 5].map(|()| tempfile::tempdir().unwrap());
    let first = start(one.path(), &[]).await.unwrap();
    let used = token(one.path(), &first).await;
    let second = start(two.path(), &joining(&first, &used)).await.unwrap();
    let third = token(one.path(), &first).await;
    let third = start(three.path(), &joining(&first, &third)).await.unwrap();
    wait_for_voters(one.path(), &first, 3).await;
    let refused = async |folder: &Path, flags: Vec<(&'static str, String)>| {
        start(folder, &flags).await.map(drop).unwrap_err().to_string()
    };

    let text = refused(scratch.path(), joining(&first, &used)).await;
    assert!(text.contains("unknown, used or expired"), "{text}");

    // A second process on a folder.
    let text = refused(one.path(), Vec::new()).await;
    assert!(text.contains("in use by another rockpool-node process"), "{text}");

    // A port that is taken, before the token is given away.
    let fresh = token(one.path(), &first).await;
    let mut flags = joining(&first, &fresh);
    flags.push(("pg", first.addresses().pg.clone()));
    let text = refused(scratch.path(), flags).await;
    assert!(text.contains("is in use by another program; choose another address with --pg"), "{text}");

    // A wiped folder under an old address.
    let ports = same_ports(&second);
    second.stop().await;
    let mut flags = joining(&first, &fresh);
    flags.extend(ports.clone());
    let text = refused(scratch.path(), flags).await;
    assert!(text.contains("belongs to node n2, which is a member"), "{text}");

    // Once that member is removed, its address is free, and its old certificate opens nothing.
    let at_first = client(one.path(), &first.addresses().grpc);
    at_first.remove_node(rockpool_proto::NodeId(2)).await.unwrap();
    assert!(at_first.remove_node(rockpool_proto::NodeId(2)).await.unwrap_err().to_string().contains("no member"));
    wait_for_voters(one.path(), &first, 2).await;
    let removed = client(two.path(), &first.addresses().grpc);
    assert!(removed.create_token(None).await.is_err());
    // Not even what any node may ask; the members learn of it within a second.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while removed.report().await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "a removed node's certificate still opens something");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = refused(two.path(), ports.clone()).await;
    assert!(text.contains("doesn't belong to this cluster (any more)"), "{text}");
    let mut flags = joining(&first, &fresh);
    flags.extend(ports.clone());
    let fourth = start(scratch.path(), &flags).await.unwrap();
    assert_eq!(fourth.identity().node_id.0, 4);
    wait_for_voters(one.path(), &first, 3).await;
    fourth.stop().await;
    std::fs::remove_dir_all(scratch.path()).unwrap();
    let fresh = token(one.path(), &first).await;

    // A folder whose store was wiped, under its old identity.
    for folder in ["state", "log"] {
        std::fs::remove_dir_all(two.path().join("store").join(folder)).unwrap();
    }
    let text = refused(two.path(), ports).await;
    assert!(text.contains("its store is gone"), "{text}");

    // A folder of another cluster.
    let other = start(elsewhere.path(), &[]).await.unwrap();
    other.stop().await;
    let text = refused(elsewhere.path(), joining(&first, &fresh)).await;
    assert!(text.contains("the token lets into another cluster"), "{text}");

    // A token of another cluster.
    let other = start(elsewhere.path(), &[]).await.unwrap();
    let text = refused(scratch.path(), joining(&other, &fresh)).await;
    assert!(text.contains("belongs to another cluster than the token"), "{text}");
    other.stop().await;
    first.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_may_make_tokens_ask_for_status_or_announce() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(folder.path(), &[]).await.unwrap();
    // A certificate of another authority is refused by TLS, none at all by the service.
    let stranger = tempfile::tempdir().unwrap();
    std::fs::create_dir(stranger.path().join("tls")).unwrap();
    let authority = rockpool_sqlnode::identity::Authority::generate("stranger").unwrap();
    let key = rockpool_sqlnode::identity::NodeKey::generate().unwrap();
    let certificate = authority.issue(&key.request, rockpool_proto::NodeId(1), "localhost").unwrap();
    key.with_certificate(&authority, certificate).write(stranger.path()).unwrap();
    std::fs::copy(folder.path().join("ca.crt"), stranger.path().join("ca.crt")).unwrap();
    let forged = client(stranger.path(), &first.addresses().grpc);
    assert!(forged.create_token(None).await.is_err());
    assert!(forged.status().await.is_err());

    let roots = std::fs::read_to_string(folder.path().join("ca.crt")).unwrap();
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(roots))
        .domain_name("rockpool.internal");
    let address = format!("https://{}", first.addresses().grpc);
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap().connect_lazy();
    let mut admin = rockpool_proto::cluster::v1::admin_client::AdminClient::new(channel);
    let status = admin.create_token(rockpool_proto::cluster::v1::CreateTokenRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_clients_stops_at_once_whatever_it_is_about() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let node = start(folder.path(), &[]).await.unwrap();
        // Each announcement has the node look at its members, so that it is always about to.
        let (cluster_id, own) = (node.identity().cluster_id, node.addresses().clone());
        let own = rockpool_sqlnode::cluster::Addresses { node_id: node.identity().node_id, ..own };
        let at_node = client(folder.path(), &own.grpc);
        at_node.announce(cluster_id, &own).await.unwrap();
        let announcing = tokio::spawn(async move { while at_node.announce(cluster_id, &own).await.is_ok() {} });
        let began = std::time::Instant::now();
        node.stop().await;
        assert!(began.elapsed() < Duration::from_secs(4), "stopping took {:?}", began.elapsed());
        announcing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_elsewhere_is_reached_before_there_is_a_majority() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = three(&folders).await;
    let others = vec![second, third];
    let ports = same_ports(&first);
    for node in std::iter::once(first).chain(others) {
        node.stop().await;
    }

    // Two of three, and the first doesn't know where the second is now: only together they can write that down.
    let first = Node::start(config(folders[0].path(), &ports)).await.unwrap();
    let second = start(folders[1].path(), &[]).await.unwrap();
    first.ready().await.unwrap();
    let known = client(folders[0].path(), &first.addresses().grpc).status().await.unwrap();
    let known = known.nodes.iter().find(|node| node.addresses.node_id == second.identity().node_id).unwrap();
    assert_eq!(known.addresses.grpc, second.addresses().grpc);
    second.stop().await;

    // A node that can't decide anything alone is not said to be away.
    let error = client(folders[0].path(), &first.addresses().grpc).create_token(None).await.unwrap_err();
    assert!(matches!(&error, StartError::Undecided(text) if text.contains("can't decide")), "{error:?}");
    first.stop().await;
    let error = client(folders[0].path(), &ports[0].1).create_token(None).await.unwrap_err();
    assert!(matches!(error, StartError::Unreachable(_)), "{error:?}");
}

async fn three(folders: &[tempfile::TempDir; 3]) -> [Node; 3] {
    let first = start(folders[0].path(), &[("pg_plaintext_loopback", "yes".to_owned())]).await.unwrap();
    let mut others = Vec::new();
    for folder in &folders[1..] {
        let token = token(folders[0].path(), &first).await;
        others.push(start(folder.path(), &joining(&first, &token)).await.unwrap());
    }
    wait_for_voters(folders[0].path(), &first, 3).await;
    let third = others.pop().unwrap();
    [first, others.pop().unwrap(), third]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_stops_by_itself_and_says_why_when_it_is_started_again() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = three(&folders).await;
    // The first one, which leads and looks after the system tables: it waits for nothing that can't come.
    let ports = same_ports(&first);
    let at_second = client(folders[1].path(), &second.addresses().grpc);
    at_second.remove_node(rockpool_proto::NodeId(1)).await.unwrap();
    let failed = tokio::time::timeout(Duration::from_secs(30), first.failed()).await.expect("it stops");
    assert!(matches!(&*failed, StartError::Removed(text) if text.contains("n1 doesn't belong")), "{failed}");
    assert_eq!(failed.exit_code(), 3);
    first.stop().await;
    let text = start(folders[0].path(), &ports).await.map(drop).unwrap_err().to_string();
    assert!(text.contains("n1 doesn't belong to this cluster (any more)"), "{text}");
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_which_nothing_could_be_decided_is_not_removed() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = three(&folders).await;
    third.stop().await;
    let at_first = client(folders[0].path(), &first.addresses().grpc);
    let text = at_first.remove_node(rockpool_proto::NodeId(2)).await.unwrap_err().to_string();
    assert!(text.contains("without n2 only 1 of the remaining 2 members would answer"), "{text}");
    assert!(text.contains("Bring n3 back first"), "{text}");
    // What is lost may go.
    at_first.remove_node(rockpool_proto::NodeId(3)).await.unwrap();
    wait_for_voters(folders[0].path(), &first, 2).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_of_root_reaches_the_pgpass_of_every_node() {
    use rockpool_sqlnode::identity::read_pgpass;
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = three(&folders).await;
    let port = first.addresses().pg.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut login = tokio_postgres::Config::new();
    login.host("127.0.0.1").port(port).user("root").dbname("rockpool");
    login.password(read_pgpass(folders[0].path()).unwrap().unwrap());
    let (root, connection) = login.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let password = r"new: a\b";
    root.batch_execute(&format!("ALTER ROLE root PASSWORD '{password}'")).await.unwrap();
    // Where it was said, at once; elsewhere, soon.
    assert_eq!(read_pgpass(folders[0].path()).unwrap().as_deref(), Some(password));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    for folder in &folders {
        while read_pgpass(folder.path()).unwrap().as_deref() != Some(password) {
            assert!(std::time::Instant::now() < deadline, "a pgpass still holds the old password");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    login.password(password);
    drop(login.connect(tokio_postgres::NoTls).await.unwrap());
    for node in [first, second, third] {
        node.stop().await;
    }
}
