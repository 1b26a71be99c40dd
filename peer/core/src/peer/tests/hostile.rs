//! A linked device that sends whatever it likes: nothing panics, nothing false is believed, the others go on.

use bytes::Bytes;

use super::world::World;
use crate::frame::{Frame, RefusedReason};
use crate::transfer::{GroupRange, bulk};
use crate::*;

fn linked_world(seed: u64) -> World {
    let mut world = World::new(seed, &[1, 2, 3]);
    (0..3).for_each(|node| world.start(node));
    world.run_until(60_000_000, World::all_linked);
    world.run_for(2_000_000);
    world
}

/// What device 2 sends to device 0.
fn inject(world: &mut World, purpose: Purpose, message: Bytes) {
    let from = world.nodes[2].id;
    if let Some(connection) = world.connection(0, from, purpose) {
        world.input(0, Input::Frame(connection, message));
    }
}

fn still_works(world: &mut World) {
    let before = world.texts(1).len();
    world.say(0, "still here");
    world.run_until(60_000_000, |world| world.texts(1).len() == before + 1);
}

#[test]
fn random_and_altered_frames_never_panic() {
    let root = Root([7; 32]);
    let device = rockpool_proto::DeviceId([9; 16]);
    for seed in 0..10 {
        let mut world = linked_world(seed);
        let me = world.nodes[0].id;
        for _ in 0..300 {
            let (a, b) = (world.random(u64::MAX), world.random(u64::MAX));
            let range = GroupRange { first: a, count: b as u32 };
            let frames = [
                Frame::Have(vec![(device, a), (me, b), (world.nodes[1].id, u64::MAX)]),
                Frame::EntriesRequest { device: me, first_counter: a, last_counter: b },
                Frame::Entries { entries: vec![Default::default()], answers: Some(device) },
                Frame::Seeding { roots: vec![root; 40], stopped: vec![root] },
                Frame::ManifestRequest { root, offset: a },
                Frame::ManifestPage { root, offset: a, total_bytes: b, data: Bytes::from_static(b"x") },
                Frame::RangesRequest { request: a as u32, root, pieces: vec![(b as u32, range)] },
                Frame::RangesRefused { request: a as u32, reason: RefusedReason::SourceChanged },
                Frame::RangesCancel { request: a as u32 },
                Frame::Ping { nonce: a },
            ];
            let which = world.random(frames.len() as u64) as usize;
            let mut message = frames[which].clone().encode().to_vec();
            if world.random(4) == 0 {
                let at = world.random(message.len() as u64) as usize;
                message[at] = world.random(256) as u8;
            }
            inject(&mut world, Purpose::Control, message.into());
            let proof = bulk::encode_proof(a as u32, b as u32, GroupRange { first: b >> 40, count: 3 }, &[[0; 32]]);
            inject(&mut world, Purpose::Bulk, proof);
            world.run_for(50_000);
        }
        // A claim about our own chain holds us up for one request, not for ever.
        still_works(&mut world);
        world.peer(0).missing_entries();
    }
}

#[test]
fn an_oversized_frame_closes_the_connection_and_it_comes_back() {
    let mut world = linked_world(50);
    inject(&mut world, Purpose::Control, vec![0; 70_000].into());
    assert_eq!(world.peer(0).linked().count(), 1);
    assert!(matches!(world.warnings(0)[..], [Warning::Refused { .. }]));
    still_works(&mut world);
    world.run_until(120_000_000, World::all_linked);
}

#[test]
fn a_greeting_as_another_device_closes_the_connection() {
    let mut world = linked_world(51);
    let (other, pool) = (world.nodes[1].id, super::world::POOL);
    let hello = Frame::Hello { version: 1, device: other, pool, frame_bytes_max: 65_536, wall_ms: 0 };
    inject(&mut world, Purpose::Control, hello.encode());
    assert_eq!(world.peer(0).linked().count(), 1);
}

#[test]
fn signals_that_are_replayed_altered_or_for_another_presence_are_refused() {
    let mut world = World::new(52, &[1, 2]);
    world.start(0);
    world.start(1);
    world.run_until(60_000_000, World::all_linked);
    let recorded = world.signals.clone();
    let (links, commands) = (world.peer(0).linked().count(), world.nodes[0].link_commands);
    let warned = world.warnings(0).len();
    for (from, to, payload) in &recorded {
        if *to == 0 {
            let from = world.nodes[*from].id;
            world.input(0, Input::Signal { from, payload: payload.clone() });
            let mut altered = payload.to_vec();
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            world.input(0, Input::Signal { from, payload: altered.into() });
        }
    }
    assert_eq!((world.peer(0).linked().count(), world.nodes[0].link_commands), (links, commands));
    assert!(world.warnings(0).len() > warned);
    // The presence is over: what was made for it is void.
    world.kill(0);
    world.start(0);
    let commands = world.nodes[0].link_commands;
    for (from, to, payload) in &recorded {
        if *to == 0 {
            let from = world.nodes[*from].id;
            world.input(0, Input::Signal { from, payload: payload.clone() });
        }
    }
    assert_eq!(world.nodes[0].link_commands, commands);
}

#[test]
fn a_device_that_asks_for_too_much_is_told_to_ask_later() {
    let mut world = linked_world(53);
    let content = vec![5u8; 40 << 20];
    let source = super::world::Source::new(&[("big", content)]);
    let root = source.manifest.root();
    world.offer(0, source);
    for request in 0..2_000 {
        let pieces = vec![(0, GroupRange { first: 0, count: 64 }); 40];
        inject(&mut world, Purpose::Control, Frame::RangesRequest { request, root, pieces }.encode());
    }
    // Bounded, and others are served meanwhile.
    let offer = world.peer(0).offers()[0].0;
    world.run_until(60_000_000, |world| world.peer(1).log().entry(offer).is_some());
    let download = world.get(1, offer);
    world.run_until(120_000_000, |world| world.is_complete(1, download));
}

#[test]
fn refusals_are_told_no_more_often_than_anybody_can_read() {
    let mut world = linked_world(54);
    let cluster = rockpool_proto::DeviceId([9; 16]);
    for n in 0..2_000u32 {
        let entries = vec![Default::default()];
        inject(&mut world, Purpose::Control, Frame::Entries { entries, answers: None }.encode());
        // A cluster that makes up devices.
        let mut from = cluster;
        from.0[..4].copy_from_slice(&n.to_be_bytes());
        world.input(0, Input::Signal { from, payload: Bytes::from_static(b"?") });
    }
    assert!(world.warnings(0).len() < 300, "{}", world.warnings(0).len());
    // Later it is told again.
    let told = world.warnings(0).len();
    world.run_for(61_000_000);
    inject(&mut world, Purpose::Control, Frame::Entries { entries: vec![Default::default()], answers: None }.encode());
    assert_eq!(world.warnings(0).len(), told + 1);
    still_works(&mut world);
}

/// Signals of a device that never links leave nothing behind that could fill the table of links.
#[test]
fn devices_that_only_signal_keep_nobody_out() {
    let mut world = World::new(55, &[1; 24]);
    world.start(0);
    for node in 1..23 {
        // Each starts, sends its first signals, and dies.
        world.start(node);
        world.run_for(10_000);
        world.kill(node);
        world.run_for(30_000_000);
    }
    world.start(23);
    world.run_until(20_000_000, |world| world.peer(0).linked().count() == 1);
}
