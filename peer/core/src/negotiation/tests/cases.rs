//! What the two machines are put through.

use super::*;

#[test]
fn two_machines_link_with_one_offer_for_each_connection() {
    for offers in 0..2 {
        let mut net = linked(1, offers);
        net.run_for(60 * SECOND);
        assert_eq!(net.offers_made, 2);
        assert!(net.is_linked());
    }
}

/// A process that was killed tells nobody, and its seat outlives it: only when it is back does the other side learn
/// that its connections are dead, long before ICE would.
#[test]
fn who_was_killed_and_came_back_is_linked_within_two_seconds() {
    for_each_seed("who_was_killed_and_came_back", 0..20, |seed| {
        for (victim, offers) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut net = linked(seed, offers);
            net.kill(victim);
            net.run_for(700_000);
            net.start(victim);
            let took = net.until_linked(20 * SECOND);
            assert!(took < 2 * SECOND, "victim {victim}, offers {offers}: {took} us");
        }
    });
}

#[test]
fn both_offering_at_once_ends_with_one_connection() {
    for_each_seed("both_offering_at_once", 0..50, |seed| {
        let mut net = Net::new(seed, 0);
        net.start(0);
        // Its roster says that it offers, too.
        net.offers = 1;
        net.start(1);
        net.until_linked(20 * SECOND);
        net.offers = 0;
        net.run_for(60 * SECOND);
        assert!(net.is_linked());
    });
}

#[test]
fn a_lost_path_is_found_again_by_a_restart_and_keeps_the_connections() {
    for_each_seed("a_lost_path_is_found_again", 0..20, |seed| {
        for told in [false, true] {
            let mut net = linked(seed, (seed % 2) as usize);
            let before: Vec<_> = net.ends.iter().map(|end| end.up.clone()).collect();
            net.cut(true);
            net.run_for(SECOND);
            net.heal();
            if told {
                let now = net.now_of(0);
                net.ends[0].negotiation.handle_network_changed(now);
                net.carry_out(0);
            }
            let took = net.until_linked(30 * SECOND);
            assert!(took < if told { SECOND } else { 9 * SECOND }, "{took} us");
            net.run_for(60 * SECOND);
            assert!(net.is_linked());
            assert_eq!(net.ends.iter().map(|end| end.up.clone()).collect::<Vec<_>>(), before, "the same connections");
        }
    });
}

#[test]
fn a_path_that_comes_back_without_the_cluster_keeps_the_connections() {
    let mut net = linked(1, 0);
    net.stop_cluster();
    let before: Vec<_> = net.ends.iter().map(|end| end.up.clone()).collect();
    net.cut(false);
    net.run_for(14 * SECOND);
    net.heal();
    net.run_for(60 * SECOND);
    assert!(net.is_linked());
    assert_eq!(net.ends.iter().map(|end| end.up.clone()).collect::<Vec<_>>(), before);
}

/// The library may report nothing when a path comes back by itself: a message does as well.
#[test]
fn a_message_shows_that_the_path_works() {
    let mut net = linked(1, 0);
    let connection = *net.ends[0].up.first().unwrap();
    let now = net.now_of(0);
    net.ends[0].negotiation.handle_disconnected(now, connection);
    net.ends[0].negotiation.handle_alive(connection);
    net.run_for(60 * SECOND);
    assert_eq!(net.offers_made, 2, "no restart");
}

#[test]
fn whatever_happens_both_end_connected() {
    for_each_seed("whatever_happens_both_end_connected", 0..400, |seed| {
        let mut net = Net::new(seed, (seed % 2) as usize);
        net.loss = [0.0, 0.05, 0.3][(seed / 2 % 3) as usize];
        for n in 0..2 {
            let day = 24 * 3_600_000;
            net.ends[n].clock_off_ms = [0, day, -day][net.rng.random_range(0..3)];
        }
        net.start(0);
        net.start(1);
        for _ in 0..net.rng.random_range(1..12u32) {
            let pause = net.rng.random_range(1_000..20 * SECOND);
            net.run_for(pause);
            let n = net.rng.random_range(0..2);
            match net.rng.random_range(0..9u32) {
                0 | 1 => {
                    net.kill(n);
                    let away = net.rng.random_range(1_000..3 * SECOND);
                    net.run_for(away);
                    net.start(n);
                }
                2 => {
                    let is_new_path = net.rng.random_bool(0.5);
                    net.cut(is_new_path);
                    let away = net.rng.random_range(1_000..20 * SECOND);
                    net.run_for(away);
                    net.heal();
                }
                3 => {
                    net.stop_cluster();
                    let away = net.rng.random_range(1_000..20 * SECOND);
                    net.run_for(away);
                    net.start_cluster();
                }
                4 => {
                    let now = net.now_of(n);
                    net.ends[n].negotiation.handle_network_changed(now);
                    net.carry_out(n);
                }
                // Its stream broke; the process goes on.
                5 => net.attach(n),
                // One connection fails at one end.
                6 => {
                    if let Some(connection) = net.ends[n].wires.keys().next().copied() {
                        let now = net.now_of(n);
                        net.ends[n].negotiation.handle_closed(now, connection);
                        net.carry_out(n);
                    }
                }
                // Somebody sees the roster in another order: the parts change.
                7 => {
                    net.offers = 1 - net.offers;
                    net.attach(n);
                }
                _ => {
                    let off_ms = net.rng.random_range(-5_000..5_000);
                    net.ends[n].clock_off_ms += off_ms;
                }
            }
        }
        net.loss = 0.0;
        if !net.cluster {
            net.start_cluster();
        }
        // The rosters agree in the end.
        (0..2).for_each(|n| net.attach(n));
        net.until_linked(60 * SECOND);
        net.run_for(30 * SECOND);
        let offers = net.offers_made;
        net.run_for(60 * SECOND);
        assert!(net.is_linked());
        assert_eq!(net.offers_made, offers, "and nothing moves any more");
    });
}
