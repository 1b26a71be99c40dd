//! Pools, membership and invites.

use rockpool_proto::meta::v1 as wire;
use tonic::Code;

use super::support::{Cluster, Login, Node};

async fn invite(node: &Node, by: &Login, pool: &[u8], uses: u32, ttl_seconds: u64) -> Vec<u8> {
    let request = wire::InviteRequest { pool_id: pool.to_vec().into(), uses, ttl_seconds };
    node.pools().invite(by.asks(request)).await.unwrap().into_inner().invite.to_vec()
}

async fn join(node: &Node, who: &Login, invite: &[u8]) -> Result<wire::Pool, Code> {
    let request = who.asks(wire::JoinRequest { invite: invite.to_vec().into() });
    node.pools().join(request).await.map(tonic::Response::into_inner).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_lets_in_as_many_as_it_says_until_it_expires() {
    let (cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let (bob, cid, dan) = (node.sign_up("bob").await, node.sign_up("cid").await, node.sign_up("dan").await);
    let pool = node.pool(&ann, &[]).await;

    let twice = invite(&node, &ann, &pool, 2, 60).await;
    assert_eq!(twice.len(), 32);
    let joined = join(&node, &bob, &twice).await.unwrap();
    assert_eq!((joined.name.as_str(), joined.member_count, joined.my_role()), ("Kitchen", 2, wire::Role::Member));
    join(&node, &bob, &twice).await.expect("joining twice is no error and counts once");
    join(&node, &cid, &twice).await.unwrap();
    assert_eq!(join(&node, &dan, &twice).await, Err(Code::NotFound), "used up");
    join(&node, &ann, &twice).await.expect("a member needs no use");

    let mut wrong_secret = invite(&node, &ann, &pool, 1, 60).await;
    wrong_secret[31] ^= 1;
    for invented in [&wrong_secret[..], &[0; 32]] {
        assert_eq!(join(&node, &dan, invented).await, Err(Code::NotFound));
    }
    assert_eq!(join(&node, &dan, &[0; 31]).await, Err(Code::InvalidArgument));

    let late = invite(&node, &ann, &pool, 1, 60).await;
    cluster.clock.shift_by_us(61_000_000);
    assert_eq!(join(&node, &dan, &late).await, Err(Code::FailedPrecondition), "expired");
    let request = |uses, ttl_seconds| wire::InviteRequest { pool_id: pool.clone().into(), uses, ttl_seconds };
    for greedy in [request(1_001, 0), request(1, 31 * 86_400)] {
        assert_eq!(node.pools().invite(ann.asks(greedy)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let stored = cluster.stored_bytes().await;
    let secret = &late[16..];
    assert!(
        !stored.iter().any(|bytes| bytes.windows(16).any(|window| window == secret)),
        "secrets are stored as hashes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_see_a_pool() {
    let (_cluster, node) = Cluster::single().await;
    let (ann, eve) = (node.sign_up("ann").await, node.sign_up("eve").await);
    let pool = node.pool(&ann, &[]).await;
    let members = wire::MembersRequest { pool_id: pool.clone().into() };
    assert_eq!(node.pools().members(eve.asks(members)).await.unwrap_err().code(), Code::PermissionDenied);
    let request = wire::InviteRequest { pool_id: pool.clone().into(), ..Default::default() };
    assert_eq!(node.pools().invite(eve.asks(request)).await.unwrap_err().code(), Code::PermissionDenied);
    let leave = wire::LeaveRequest { pool_id: pool.clone().into() };
    assert_eq!(node.pools().leave(eve.asks(leave)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(eve.open(&node, &pool).await.err().unwrap().code(), Code::PermissionDenied);
    assert_eq!(ann.open(&node, &[9; 16]).await.err().unwrap().code(), Code::PermissionDenied, "no such pool");
    let listed = node.pools().list(eve.asks(wire::ListPoolsRequest {})).await.unwrap().into_inner().pools;
    assert!(listed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_presence_passes_ownership_on_and_the_last_takes_the_pool_along() {
    let (_cluster, node) = Cluster::single().await;
    let (ann, bob) = (node.sign_up("ann").await, node.sign_up("bob").await);
    let pool = node.pool(&ann, &[&bob]).await;
    let mut stream = ann.open(&node, &pool).await.unwrap();
    let mut watching = bob.open(&node, &pool).await.unwrap();
    watching.until_present(&[&ann, &bob]).await;
    let leave = || wire::LeaveRequest { pool_id: pool.clone().into() };
    node.pools().leave(ann.asks(leave())).await.unwrap();
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Left);
    watching.until_present(&[&bob]).await;

    let listed = node.pools().list(bob.asks(wire::ListPoolsRequest {})).await.unwrap().into_inner().pools;
    assert_eq!((listed[0].my_role(), listed[0].member_count), (wire::Role::Owner, 1));
    node.pools().leave(bob.asks(leave())).await.unwrap();
    assert_eq!(watching.until_ended().await, wire::ended::Reason::Left);
    assert_eq!(node.pools().leave(bob.asks(leave())).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(bob.open(&node, &pool).await.err().unwrap().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_join_at_once_use_an_invite_as_often_as_it_says() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let pool = one.pool(&ann, &[]).await;
    let thrice = invite(&one, &ann, &pool, 3, 60).await;
    let mut guests = Vec::new();
    for number in 0..8 {
        guests.push(one.sign_up(&format!("guest{number}")).await);
    }
    let joins = guests.iter().enumerate().map(|(number, guest)| join([&one, &two][number % 2], guest, &thrice));
    let outcomes = futures::future::join_all(joins).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || matches!(outcome, Err(Code::NotFound))));
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_that_nobody_can_use_do_not_fill_the_table() {
    let (cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let pool = node.pool(&ann, &[]).await;
    for _ in 0..12 {
        for _ in 0..30 {
            invite(&node, &ann, &pool, 1, 1).await;
        }
        cluster.clock.shift_by_us(2_000_000);
    }
    let counted = node.database.transaction(|tx| tx.query_one("SELECT count(*) FROM meta.invites", &[])?.int(0));
    let kept = counted.await.unwrap();
    assert!(kept < 300, "{kept} are kept");
}
