//! Messages: the same order everywhere, whatever links, cluster and processes do.

use super::world::{POOL, Source, World};
use crate::*;

fn linked_world(seed: u64, owners: &[u8]) -> World {
    let mut world = World::new(seed, owners);
    for node in 0..owners.len() {
        world.start(node);
    }
    world.run_until(60_000_000, World::all_linked);
    world
}

/// All running devices show the same texts, and so many.
fn agreed(world: &World, count: usize) -> bool {
    let running = (0..world.nodes.len()).filter(|node| world.nodes[*node].peer.is_some());
    let texts: Vec<_> = running.map(|node| world.texts(node)).collect();
    texts.iter().all(|shown| shown.len() == count && *shown == texts[0])
}

#[test]
fn two_devices_link_and_talk() {
    let mut world = linked_world(1, &[1, 2]);
    world.say(0, "hello");
    world.run_until(5_000_000, |world| agreed(world, 1));
    world.say(1, "hello yourself");
    world.run_until(5_000_000, |world| agreed(world, 2));
    assert_eq!(world.texts(0), ["hello", "hello yourself"]);
    assert!(world.warnings(0).is_empty() && world.warnings(1).is_empty(), "{:?}", world.warnings(0));
}

#[test]
fn a_conversation_is_in_the_same_order_everywhere() {
    for seed in 0..8 {
        let mut world = linked_world(seed, &[1, 1, 2, 3]);
        for n in 0..40 {
            let node = world.random(4) as usize;
            world.say(node, &format!("{n}"));
            let pause = world.random(60_000);
            world.run_for(pause);
        }
        world.run_until(60_000_000, |world| agreed(world, 40));
    }
}

#[test]
fn links_come_up_though_signals_get_lost() {
    for seed in 0..6 {
        let mut world = World::new(seed, &[1, 2, 3]);
        world.signal_loss = 0.3;
        (0..3).for_each(|node| world.start(node));
        world.run_until(600_000_000, World::all_linked);
    }
}

#[test]
fn talking_goes_on_without_the_cluster() {
    let mut world = linked_world(3, &[1, 2, 3]);
    world.stop_cluster();
    world.run_for(60_000_000);
    world.say(2, "is anybody there?");
    world.run_until(5_000_000, |world| agreed(world, 1));
    // And its return disturbs nobody: the same links stand on.
    let downs = |world: &World| {
        world.nodes.iter().flat_map(|node| &node.events).filter(|event| matches!(event, Event::LinkDown(_))).count()
    };
    world.start_cluster();
    world.run_for(60_000_000);
    assert_eq!(downs(&world), 0);
    world.say(0, "yes");
    world.run_until(5_000_000, |world| agreed(world, 2));
}

#[test]
fn who_was_away_catches_up_from_a_third_device() {
    let mut world = linked_world(4, &[1, 2, 3]);
    world.kill(2);
    for n in 0..300 {
        world.say(0, &format!("while away {n}"));
        world.run_for(2_000);
    }
    world.run_until(60_000_000, |world| agreed(world, 300));
    // The author leaves; the one who was away returns and has it from the one who stayed.
    world.kill(0);
    world.start(2);
    world.run_until(60_000_000, |world| agreed(world, 300));
}

#[test]
fn messages_go_round_a_broken_link() {
    let mut world = linked_world(5, &[1, 2, 3]);
    world.cut(0, 1);
    world.say(0, "the long way");
    world.run_until(30_000_000, |world| agreed(world, 1));
    world.heal();
    world.run_until(120_000_000, World::all_linked);
}

#[test]
fn a_crash_at_any_moment_loses_nothing_that_was_answered_and_reuses_no_counter() {
    for seed in 0..20 {
        let mut world = linked_world(100 + seed, &[1, 2, 3]);
        let mut commands = Vec::new();
        for n in 0..60 {
            let node = world.random(3) as usize;
            if world.nodes[node].peer.is_some() {
                commands.push((node, n, world.command(node, Command::Say(format!("{n}")))));
            }
            let pause = world.random(40_000);
            world.run_for(pause);
            match world.random(10) {
                0 if world.nodes[node].peer.is_some() => world.kill(node),
                1 | 2 => {
                    let down: Vec<_> = (0..3).filter(|node| world.nodes[*node].peer.is_none()).collect();
                    down.into_iter().for_each(|node| world.start(node));
                }
                _ => {}
            }
        }
        for node in 0..3 {
            if world.nodes[node].peer.is_none() {
                world.start(node);
            }
        }
        world.run_until(200_000_000, World::all_linked);
        world.run_until(120_000_000, |world| agreed(world, world.texts(0).len()));
        let texts = world.texts(0);
        for (node, n, command) in commands {
            if let Some(Ok(Reply::Appended(_))) = world.nodes[node].replies.get(&command) {
                assert!(texts.contains(&n.to_string()), "seed {seed}: {n} was answered and is gone");
            }
        }
        for node in 0..3 {
            let forks = world.warnings(node).into_iter().filter(|warning| matches!(warning, Warning::Equivocation(_)));
            assert_eq!(forks.count(), 0, "seed {seed}");
        }
    }
}

#[test]
fn a_device_that_lost_its_store_gets_its_own_chain_back_before_it_writes() {
    let mut world = linked_world(6, &[1, 2, 3]);
    for n in 0..5 {
        world.say(0, &format!("before {n}"));
    }
    world.run_until(10_000_000, |world| agreed(world, 5));
    let (kept, lost) = (Source::new(&[("kept", vec![7; 100])]), Source::new(&[("lost", vec![8; 100])]));
    let lost_root = lost.manifest.root();
    let (kept, _) = (world.offer(0, kept), world.offer(0, lost));
    world.run_until(10_000_000, |world| world.peer(1).offers().len() == 2 && world.peer(2).offers().len() < 2);
    // Only one of the others knows the end of its chain.
    world.kill(0);
    world.nodes[0].disk.clear();
    world.nodes[0].sources.remove(&lost_root);
    world.start(0);
    world.say(0, "after");
    world.run_until(120_000_000, |world| agreed(world, 6));
    assert_eq!(world.texts(1).last().unwrap(), "after");
    let id = world.nodes[0].id;
    assert!(world.peer(1).log().entry(EntryId { device: id, counter: 8 }).is_some());
    // Offers that came back with the chain are served again, or taken back.
    world.run_until(10_000_000, |world| world.peer(1).offers().len() == 1);
    let download = world.get(1, kept);
    world.run_until(10_000_000, |world| world.is_complete(1, download));
}

#[test]
fn a_clock_an_hour_off_orders_sanely() {
    for off_ms in [3_600_000, -3_600_000, 24 * 3_600_000, -24 * 3_600_000] {
        let mut world = World::new(7, &[1, 2, 3]);
        world.nodes[1].clock_off_ms = off_ms;
        (0..3).for_each(|node| world.start(node));
        world.run_until(60_000_000, World::all_linked);
        for n in 0..9 {
            world.say(n % 3, &format!("{n}"));
            world.run_until(10_000_000, |world| agreed(world, n + 1));
        }
        // Each answers what is there: nobody's answer comes before the question.
        assert_eq!(world.texts(0), (0..9).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(world.warnings(0).iter().any(|warning| matches!(warning, Warning::ClockSkew { .. })));
    }
}

#[test]
fn a_retraction_beats_late_copies() {
    let mut world = linked_world(8, &[1, 1, 2, 3]);
    world.kill(3);
    world.say(0, "oops");
    world.run_until(10_000_000, |world| agreed(world, 1));
    let target = EntryId { device: world.nodes[0].id, counter: 1 };
    // A stranger may not, another device of the account may.
    let refused = world.command(2, Command::Retract(target));
    assert_eq!(world.nodes[2].replies[&refused], Err(Refusal::NotYours));
    world.command(1, Command::Retract(target));
    world.run_until(10_000_000, |world| agreed(world, 0));
    world.start(3);
    world.run_until(60_000_000, |world| world.peer(3).log().entry(target).is_some());
    world.run_for(5_000_000);
    assert_eq!(world.texts(3), [""; 0]);
}

#[test]
fn two_entries_with_one_counter_are_reported_and_the_first_is_kept() {
    let mut world = linked_world(9, &[1, 2, 3]);
    world.say(0, "first");
    world.run_until(10_000_000, |world| agreed(world, 1));
    // A copy of the device's keys writes another first entry.
    let keys = DeviceKeys::from_secret(&world.nodes[0].keys);
    let time = entry::HybridTime { ms: 1_800_000_000_001, counter: 0 };
    let other = StoredEntry::write(&keys, POOL, 1, None, time, 0, Body::Text("other".into()));
    world.kill(0);
    world.nodes[0].disk = vec![other];
    world.start(0);
    // Its neighbours have counter 1 too, so nothing is exchanged until it writes on.
    world.run_until(60_000_000, World::all_linked);
    world.say(0, "second on top of the other");
    world.run_until(60_000_000, |world| {
        world.warnings(1).iter().any(|warning| matches!(warning, Warning::Equivocation(_)))
    });
    assert_eq!(world.texts(1), ["first"]);
    // Who wrote the other branch hears of it, instead of talking to nobody for ever.
    let at = EntryId { device: world.nodes[0].id, counter: 1 };
    world.run_until(10_000_000, |world| world.warnings(0).contains(&&Warning::OwnChainForked(at)));
    let refused = world.command(0, Command::Say("third".into()));
    assert_eq!(world.nodes[0].replies[&refused], Err(Refusal::Forked(at)));
    // Others are told once, not at each comparison.
    world.run_for(200_000_000);
    let told = world.warnings(1).into_iter().filter(|warning| matches!(warning, Warning::Equivocation(_)));
    assert_eq!(told.count(), 1);
    assert_eq!((world.peer(1).missing_entries(), world.peer(0).missing_entries()), (0, 0));
}

/// A folder that was set back to an older state: what it lacks comes back before it writes, also before it withdraws
/// offers by itself.
#[test]
fn an_old_copy_of_a_store_is_brought_up_to_date_before_it_writes() {
    let mut world = linked_world(16, &[1, 2, 3]);
    let source = Source::new(&[("a", vec![7; 100])]);
    let offer = world.offer(0, source);
    let old = world.nodes[0].disk.clone();
    for n in 0..5 {
        world.say(0, &format!("later {n}"));
    }
    world.run_until(10_000_000, |world| agreed(world, 5));
    world.kill(0);
    world.nodes[0].disk = old;
    // Its source is gone, so it will take the offer back.
    world.nodes[0].sources.clear();
    world.start(0);
    world.run_until(60_000_000, |world| agreed(world, 5) && world.peer(1).offers().is_empty());
    world.say(0, "and on");
    world.run_until(10_000_000, |world| agreed(world, 6));
    assert_eq!(
        world.peer(1).log().entry(EntryId { counter: 7, ..offer }).unwrap().body,
        Body::FileWithdraw { counter: 1 }
    );
    assert!(world.warnings(0).iter().all(|warning| matches!(warning, Warning::OwnSourceChanged { .. })));
}

#[test]
fn a_gap_is_shown_until_it_is_filled_also_when_who_had_it_left() {
    let mut world = linked_world(17, &[1, 2, 3]);
    world.say(1, "first");
    world.run_until(10_000_000, |world| agreed(world, 1));
    world.cut(0, 1);
    world.cut(0, 2);
    world.run_for(1_000_000);
    for n in 0..3 {
        world.say(1, &format!("missed {n}"));
    }
    world.run_until(10_000_000, |world| world.texts(2).len() == 4);
    assert_eq!(world.peer(0).missing_entries(), 0, "nobody has told it");
    // The third device is back for just long enough to say what it has.
    world.heal();
    world.cut.insert((0, 1));
    world.run_until(60_000_000, |world| world.peer(0).missing_entries() == 3);
    world.kill(2);
    world.run_for(30_000_000);
    let author = world.nodes[1].id;
    assert_eq!((world.peer(0).missing_of(author), world.texts(0).len()), (3, 1));
    world.say(0, "later");
    world.say(0, "later still");
    world.run_for(1_000_000);
    let gaps = |world: &World| {
        let peer = world.peer(0);
        peer.history(None, 100).iter().map(|entry| peer.has_gap_before(entry)).collect::<Vec<_>>()
    };
    assert_eq!(gaps(&world), [false, true, false]);
    world.heal();
    world.run_until(120_000_000, |world| world.texts(0).len() == 6);
    assert_eq!((gaps(&world), world.peer(0).missing_entries()), (vec![false; 6], 0));
}

/// Whoever lies about our own chain, and then says nothing, delays our first message by one question, and no later one.
#[test]
fn a_lie_about_our_own_chain_holds_us_up_once() {
    let mut world = linked_world(18, &[1, 2, 3, 4, 5]);
    let me = world.nodes[0].id;
    let liars: Vec<_> = (2..5).map(|node| world.nodes[node].id).collect();
    // Their links stand, and nobody answers.
    (2..5).for_each(|node| world.nodes[node].peer = None);
    let lie = |world: &mut World, liar: usize| {
        let connection = world.connection(0, liars[liar], Purpose::Control).unwrap();
        world.input(0, Input::Frame(connection, crate::frame::Frame::Have(vec![(me, u64::MAX)]).encode()));
    };
    lie(&mut world, 0);
    lie(&mut world, 1);
    world.say(0, "first");
    for _ in 0..5 {
        world.run_for(2_100_000);
        lie(&mut world, 0);
        lie(&mut world, 1);
    }
    assert!(agreed(&world, 1));
    lie(&mut world, 2);
    world.say(0, "second");
    world.run_until(1_000_000, |world| agreed(world, 2));
}

#[test]
fn a_revoked_device_is_cut_off_at_once() {
    let mut world = linked_world(10, &[1, 2, 3]);
    let mut members = world.members();
    members[2].devices[0].revoked_at_ms = Some(1_700_000_000_000);
    let revoked = members[2].clone();
    world.input(0, Input::MemberChanged(revoked.clone()));
    world.input(1, Input::MemberChanged(revoked));
    assert_eq!(world.peer(0).linked().count(), 1);
    world.run_for(100_000_000);
    assert_eq!(world.peer(0).linked().count(), 1, "and it doesn't come back");
    world.say(2, "let me in");
    world.run_for(60_000_000);
    assert_eq!(world.texts(0), [""; 0]);
}

#[test]
fn leaving_says_goodbye_and_links_end() {
    let mut world = linked_world(11, &[1, 2]);
    let left = world.command(1, Command::Leave);
    assert_eq!(world.nodes[1].replies[&left], Ok(Reply::Done));
    world.run_until(5_000_000, |world| world.peer(0).linked().count() == 0);
    let say = world.command(1, Command::Say("x".into()));
    assert_eq!(world.nodes[1].replies[&say], Err(Refusal::Left));
}

/// Hole of others: discovery or signalling in the middle (LocalSend CVE-2025-54792).
#[test]
fn somebody_in_the_middle_is_noticed_by_the_certificate() {
    let mut world = World::new(12, &[1, 2]);
    world.nodes[1].intercepted = Some(99);
    world.start(0);
    world.start(1);
    world.run_for(120_000_000);
    assert_eq!(world.peer(0).linked().count(), 0);
    assert!(world.warnings(0).contains(&&Warning::FingerprintMismatch(world.nodes[1].id)));
}

#[test]
fn too_long_and_empty_messages_are_refused() {
    let mut world = linked_world(13, &[1, 2]);
    for text in [String::new(), "x".repeat(5_001)] {
        let command = world.command(0, Command::Say(text));
        assert!(matches!(world.nodes[0].replies[&command], Err(Refusal::TextLength { .. })));
    }
    world.say(0, &"🎉".repeat(5_000));
    world.run_until(10_000_000, |world| agreed(world, 1));
}

#[test]
fn a_third_device_joins_late_and_gets_everything() {
    let mut world = World::new(14, &[1, 2, 3]);
    world.start(0);
    world.start(1);
    world.run_until(60_000_000, World::all_linked);
    for n in 0..50 {
        world.say(n % 2, &"long ".repeat(900));
    }
    world.run_until(30_000_000, |world| agreed(world, 50));
    world.start(2);
    world.run_until(60_000_000, |world| agreed(world, 50));
    assert_eq!(world.peer(2).missing_entries(), 0);
}
