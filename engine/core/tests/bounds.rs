//! What a node holds stays within its limits, and what it sends and waits for within reason.

mod common;

use common::{GROUP, Hold, World};
use rockpool_engine::{Input, MembershipChange, NodeId, Reply, RequestId, RetryReason, Start, TxnId};

const FIRST: NodeId = NodeId(1);
const LAST: NodeId = NodeId(3);

fn submit(world: &mut World, at: NodeId, number: u64, value_bytes: usize) -> RequestId {
    let mut transaction = world.transaction(at).expect("there is a leader");
    transaction.put(number.to_be_bytes().to_vec(), vec![0; value_bytes]).expect("small enough");
    let mut txn = [0; 16];
    txn[8..].copy_from_slice(&number.to_be_bytes());
    let commit = transaction.into_commit(TxnId(txn));
    world.ask(at, |request| Input::Commit { request, commit })
}

fn put(world: &mut World, at: NodeId, number: u64) {
    let request = submit(world, at, number, 500);
    let reply = world.wait(request);
    assert!(matches!(reply, Some(Reply::Committed { .. })), "{reply:?}");
}

#[test]
fn a_follower_that_cannot_apply_holds_a_bounded_log_and_catches_up() {
    const LOG_BYTES_MAX: usize = 20_000;
    const APPEND_BYTES: u64 = 2_000;
    let mut world = World::new();
    world.tune = Box::new(|config| {
        config.limits.log_bytes_max = LOG_BYTES_MAX;
        config.limits.log_keep_bytes = 2_000;
        config.limits.log_flush_bytes = 4_000;
        config.limits.append_bytes_max = APPEND_BYTES;
    });
    world.cluster(3);
    world.host(LAST).held.insert(Hold::Apply);
    for number in 0..200 {
        put(&mut world, FIRST, number);
        for id in [FIRST, LAST] {
            let log_bytes = world.status(id).expect("it runs").log_bytes;
            assert!(log_bytes <= LOG_BYTES_MAX + 2 * APPEND_BYTES as usize, "{id} holds {log_bytes} bytes");
        }
    }
    world.host(LAST).held.clear();
    world.settle().expect("it catches up");
    world.check_states();
}

#[test]
fn a_snapshot_under_way_neither_makes_every_commit_flush_nor_keeps_the_log_for_ever() {
    const LOG_BYTES_MAX: usize = 100_000;
    let mut world = World::new();
    world.tune = Box::new(|config| {
        config.limits.log_bytes_max = LOG_BYTES_MAX;
        config.limits.log_keep_bytes = 2_000;
        config.limits.log_flush_bytes = 8_000;
        config.limits.snapshot_chunk_bytes = 1_000;
    });
    world.cluster(3);
    world.crash(LAST, 0, 0);
    (0..100).for_each(|number| put(&mut world, FIRST, number));
    world.restart(LAST).expect("it starts");
    // It takes chunks and does not come to writing them.
    world.host(LAST).held.insert(Hold::Apply);
    let sending = |world: &mut World| world.notices.iter().any(|notice| notice.contains("sending snapshot"));
    world.until(5_000, sending).expect("its log is gone");
    let before = world.host(FIRST).flushes;
    (100..500).for_each(|number| put(&mut world, FIRST, number));
    let flushes = world.host(FIRST).flushes - before;
    assert!(flushes <= 60, "{flushes} flushes for 400 commits of 500 bytes");
    let log_bytes = world.status(FIRST).expect("it runs").log_bytes;
    assert!(log_bytes < LOG_BYTES_MAX * 3 / 4, "{log_bytes} bytes of log");
    world.host(LAST).held.clear();
    world.settle().expect("it catches up");
    world.check_states();
}

#[test]
fn chunks_of_a_snapshot_are_not_sent_again_because_the_link_is_slow() {
    let mut world = World::new();
    world.tune = Box::new(|config| {
        config.limits.log_keep_bytes = 2_000;
        config.limits.log_flush_bytes = 4_000;
        config.limits.snapshot_chunk_bytes = 1_000;
    });
    world.cluster(1);
    (0..60).for_each(|number| put(&mut world, FIRST, number));
    // There and back takes longer than the first wait for an ack.
    world.set_network_delay(|| 300_000);
    world.start(NodeId(2), Start::Join);
    world.ask(FIRST, |request| Input::ChangeMembership {
        request,
        group: GROUP,
        change: MembershipChange::Add(NodeId(2)),
    });
    let joined = |world: &mut World| world.status(NodeId(2)).is_some_and(|status| status.initialized);
    world.until(60_000, joined).expect("it gets its snapshot");
    // 60 rows of 500 bytes, and 60 outcomes of about 33, two or three to a chunk.
    let sent = world.bulk_messages;
    assert!(sent <= 45, "{sent} messages");
}

#[test]
fn transactions_that_wait_are_bounded_in_bytes() {
    let mut world = World::new();
    world.tune = Box::new(|config| config.limits.requests_bytes_max = 1_000);
    world.cluster(3);
    let begun: Vec<_> = (0..3).map(|_| world.transaction(LAST).expect("there is a leader")).collect();
    world.isolate(LAST);
    let requests = begun.into_iter().zip(1..).map(|(mut transaction, number)| {
        transaction.put(vec![number], vec![0; 600]).expect("small enough");
        let commit = transaction.into_commit(TxnId([number; 16]));
        world.ask(LAST, |request| Input::Commit { request, commit })
    });
    let requests: Vec<RequestId> = requests.collect();
    assert_eq!(world.replies.get(&requests[1]), None, "it waits");
    assert_eq!(world.replies.get(&requests[2]), Some(&Reply::Retry(RetryReason::Overloaded)));
    world.heal();
    for request in &requests[..2] {
        let reply = world.wait(*request);
        assert!(matches!(reply, Some(Reply::Committed { .. })), "{reply:?}");
    }
    let later = submit(&mut world, LAST, 9, 600);
    assert!(matches!(world.wait(later), Some(Reply::Committed { .. })), "there is room again");
}

#[test]
fn a_follower_that_lacks_much_gets_it_in_messages_of_bounded_length() {
    let mut world = World::new();
    world.tune = Box::new(|config| config.limits.append_bytes_max = 3_000);
    world.cluster(3);
    world.isolate(LAST);
    (0..100).for_each(|number| put(&mut world, FIRST, number));
    world.heal();
    world.settle().expect("it catches up");
    world.check_states();
    let bytes = world.log_message_bytes;
    assert!(bytes < 4_000, "a message of {bytes} bytes");
}

#[test]
fn no_snapshot_is_sent_that_the_new_member_could_not_take() {
    let mut world = World::new();
    world.tune = Box::new(|config| {
        config.limits.log_keep_bytes = 2_000;
        config.limits.log_flush_bytes = 4_000;
    });
    world.cluster(1);
    (0..60).for_each(|number| put(&mut world, FIRST, number));
    // Consensus knows of the change before the state does.
    world.host(FIRST).held.insert(Hold::Apply);
    world.start(NodeId(2), Start::Join);
    let change = MembershipChange::Add(NodeId(2));
    world.ask(FIRST, |request| Input::ChangeMembership { request, group: GROUP, change });
    let snapshots = |world: &World| world.notices.iter().filter(|notice| notice.contains("sending snapshot")).count();
    world.advance(2_000);
    assert_eq!(snapshots(&world), 0, "one without the new member");
    world.host(FIRST).held.clear();
    world.settle().expect("it catches up");
    assert_eq!(snapshots(&world), 1);
    world.check_states();
}

#[test]
fn a_begin_takes_one_round_trip_on_any_of_three_nodes() {
    let mut world = World::new();
    world.cluster(3);
    world.set_network_delay(|| 50_000);
    world.advance(500);
    for id in (1..=3).map(NodeId) {
        let request = world.ask(id, |request| Input::Begin { request, group: GROUP });
        let took = world.until(1_000, |world| world.replies.contains_key(&request));
        assert!(took.is_some_and(|ms| ms <= 105), "{took:?} ms on {id}");
    }
}
