//! Files: verified, from several, across crashes and lies.

use super::world::{POOL, Source, World};
use crate::seeds::for_each_seed;
use crate::transfer::GROUP_BYTES;
use crate::*;

fn content(size: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn linked_world(seed: u64, owners: &[u8]) -> World {
    let mut world = World::new(seed, owners);
    (0..owners.len()).for_each(|node| world.start(node));
    world.run_until(60_000_000, World::all_linked);
    world
}

fn knows(world: &World, node: usize, offer: EntryId) -> bool {
    world.peer(node).log().entry(offer).is_some()
}

fn assert_same(world: &World, node: usize, download: DownloadId, source: &Source) {
    let landing = &world.nodes[node].landings[&download];
    for (index, content) in source.contents.iter().enumerate() {
        assert!(landing.parts[&(index as u32)] == *content, "file {index} differs");
        assert!(landing.finished.contains(&(index as u32)));
    }
}

/// Offers from device 0, downloads at device 1, compares.
fn transfer(world: &mut World, source: Source) {
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    let download = world.get(1, offer);
    world.run_until(300_000_000, |world| world.is_complete(1, download));
    assert_same(world, 1, download, &source);
    assert!(world.warnings(1).is_empty(), "{:?}", world.warnings(1));
}

/// Hole of others: chunk numbers, empty files and short last chunks.
#[test]
fn files_of_every_awkward_size_arrive() {
    let group = GROUP_BYTES;
    let sizes = [0, 1, 1023, 1024, 1025, group - 1, group, group + 1, 2 * group, 3 * group + 7, 64 * group - 1];
    let sizes = sizes.into_iter().chain([64 * group, 64 * group + 1, 65 * group, 200 * group + 5]);
    let files: Vec<(String, Vec<u8>)> =
        sizes.enumerate().map(|(n, size)| (format!("size {size}"), content(size, n as u8))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    transfer(&mut linked_world(1, &[1, 2]), Source::new(&files));
    for (name, bytes) in files {
        transfer(&mut linked_world(2, &[1, 2]), Source::new(&[(name, bytes)]));
    }
}

#[test]
fn many_small_files_arrive_in_few_requests() {
    let names: Vec<String> = (0..3_000).map(|n| format!("dir {}/file {n}", n % 37)).collect();
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), content(n % 700, n as u8))).collect();
    let mut world = linked_world(3, &[1, 2]);
    let before = world.now_us;
    transfer(&mut world, Source::new(&files));
    assert!(world.now_us - before < 10_000_000, "{} us", world.now_us - before);
}

#[test]
fn several_seeders_share_the_work() {
    let source = Source::new(&[("big", content(24 << 20, 1))]);
    let mut world = linked_world(4, &[1, 2, 3]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer) && knows(world, 2, offer));
    let first = world.get(1, offer);
    world.run_until(100_000_000, |world| world.is_complete(1, first));
    let before = (world.nodes[0].sent_bytes, world.nodes[1].sent_bytes);
    // Both bulk channels have greeted.
    world.run_for(2_000_000);
    let second = world.get(2, offer);
    world.run_until(100_000_000, |world| world.is_complete(2, second));
    assert_same(&world, 2, second, &source);
    let (by_origin, by_other) = (world.nodes[0].sent_bytes - before.0, world.nodes[1].sent_bytes - before.1);
    assert!(by_origin > 4 << 20 && by_other > 4 << 20, "{by_origin} and {by_other}");
}

/// Hole of others: a poisoned copy is accepted and seeded on.
#[test]
fn wrong_bytes_are_blamed_and_the_download_finishes_from_another() {
    for small in [false, true] {
        let size = if small { 500 } else { 9 << 20 };
        let source = Source::new(&[("a", content(size, 1)), ("b", content(size, 2))]);
        let mut world = linked_world(5, &[1, 2, 3]);
        let offer = world.offer(0, source.clone());
        world.run_until(10_000_000, |world| knows(world, 1, offer) && knows(world, 2, offer));
        let honest = world.get(1, offer);
        world.run_until(100_000_000, |world| world.is_complete(1, honest));
        // From now on the origin lies.
        world.nodes[0].sources.values_mut().for_each(|source| source.lies = true);
        let download = world.get(2, offer);
        world.run_until(200_000_000, |world| world.is_complete(2, download));
        assert_same(&world, 2, download, &source);
        let origin = world.nodes[0].id;
        let blamed: Vec<_> = world
            .warnings(2)
            .into_iter()
            .filter_map(|warning| match warning {
                Warning::WrongBytes { device, .. } => Some(*device),
                _ => None,
            })
            .collect();
        assert!(blamed.iter().all(|device| *device == origin), "only the liar is blamed");
        if !small {
            assert_eq!(blamed.len(), 1);
        }
    }
}

#[test]
fn a_download_waits_while_the_only_seeder_lies() {
    let mut world = linked_world(6, &[1, 2]);
    let mut source = Source::new(&[("a", content(100_000, 1))]);
    source.lies = true;
    let offer = world.offer(0, source);
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    let download = world.get(1, offer);
    let blamed = |warning: &&Warning| matches!(warning, Warning::WrongBytes { .. });
    world.run_until(60_000_000, |world| world.warnings(1).iter().any(blamed));
    world.run_for(60_000_000);
    assert!(matches!(world.nodes[1].events.last(), Some(Event::DownloadWaiting(_))));
    assert!(!world.is_complete(1, download));
    assert!(world.nodes[1].landings[&download].finished.is_empty());
}

#[test]
fn losing_a_seeder_moves_its_work_to_another() {
    let source = Source::new(&[("big", content(40 << 20, 1))]);
    let mut world = linked_world(7, &[1, 2, 3]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer) && knows(world, 2, offer));
    let first = world.get(1, offer);
    world.run_until(100_000_000, |world| world.is_complete(1, first));
    let download = world.get(2, offer);
    world.run_until(100_000_000, |world| {
        world.nodes[2].landings.get(&download).is_some_and(|landing| landing.stored_bytes > 8 << 20)
    });
    world.kill(0);
    world.run_until(100_000_000, |world| world.is_complete(2, download));
    assert_same(&world, 2, download, &source);
}

#[test]
fn a_download_resumes_after_a_crash_of_either_side() {
    for victim in [0, 1] {
        let source = Source::new(&[("big", content(150 << 20, 1)), ("small", content(10, 2)), ("empty", Vec::new())]);
        let mut world = linked_world(8, &[1, 2]);
        let offer = world.offer(0, source.clone());
        world.run_until(10_000_000, |world| knows(world, 1, offer));
        let download = world.get(1, offer);
        world.run_until(100_000_000, |world| {
            world.nodes[1].landings.get(&download).is_some_and(|landing| landing.stored_bytes > 100 << 20)
        });
        world.kill(victim);
        world.run_for(1_000_000);
        world.start(victim);
        let download = match victim {
            0 => download,
            _ => world.get(1, offer),
        };
        world.run_until(300_000_000, |world| world.is_complete(1, download));
        assert_same(&world, 1, download, &source);
        let stored = world.nodes[1].landings[&download].stored_bytes;
        let size = 150 << 20;
        match victim {
            0 => assert!(stored <= size + 20, "nothing came twice: {stored}"),
            _ => assert!(stored < size - (60 << 20), "what the journal names didn't come again: {stored}"),
        }
    }
}

#[test]
fn pausing_stops_and_resuming_goes_on() {
    let source = Source::new(&[("big", content(30 << 20, 1))]);
    let mut world = linked_world(9, &[1, 2]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    let download = world.get(1, offer);
    world.run_until(100_000_000, |world| {
        world.nodes[1].landings.get(&download).is_some_and(|landing| landing.stored_bytes > 4 << 20)
    });
    world.command(1, Command::Pause(download));
    world.run_for(5_000_000);
    let stored = world.nodes[1].landings[&download].stored_bytes;
    world.run_for(30_000_000);
    assert_eq!(world.nodes[1].landings[&download].stored_bytes, stored);
    world.command(1, Command::Resume(download));
    world.run_until(100_000_000, |world| world.is_complete(1, download));
    assert_same(&world, 1, download, &source);
}

#[test]
fn cancelling_discards_and_a_full_disk_keeps() {
    let source = Source::new(&[("big", content(10 << 20, 1))]);
    let mut world = linked_world(10, &[1, 2]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    let cancelled = world.get(1, offer);
    world.run_until(100_000_000, |world| world.nodes[1].landings.contains_key(&cancelled));
    world.command(1, Command::Cancel(cancelled));
    assert!(!world.nodes[1].landings.contains_key(&cancelled));
    world.run_for(5_000_000);

    world.nodes[1].disk_full_after = Some(5 << 20);
    let full = world.get(1, offer);
    world.run_until(100_000_000, |world| {
        let failed = |event: &Event| matches!(event, Event::DownloadFailed { reason: DownloadFailure::Disk(_), .. });
        world.nodes[1].events.iter().any(failed)
    });
    assert!(!world.is_complete(1, full));
    // After making room it goes on from where it was.
    world.nodes[1].disk_full_after = None;
    world.run_for(5_000_000);
    let again = world.get(1, offer);
    world.run_until(100_000_000, |world| world.is_complete(1, again));
    assert_same(&world, 1, again, &source);
    assert!(world.nodes[1].landings[&again].stored_bytes < 8 << 20);
}

/// Hole of others: the source changes while it is sent (iroh#844, syncthing#1780, croc#221).
#[test]
fn a_source_that_changes_is_noticed_withdrawn_and_never_sent() {
    let source = Source::new(&[("big", content(30 << 20, 1))]);
    let mut world = linked_world(11, &[1, 2]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    world.get(1, offer);
    world
        .run_until(100_000_000, |world| world.nodes[1].landings.values().any(|landing| landing.stored_bytes > 4 << 20));
    let changed = &mut world.nodes[0].sources.get_mut(&source.manifest.root()).unwrap().contents[0];
    changed.iter_mut().for_each(|byte| *byte ^= 0xff);
    world.run_until(100_000_000, |world| world.peer(1).offers().is_empty());
    world.run_for(1_000_000);
    assert!(world.warnings(0).contains(&&Warning::OwnSourceChanged { offer }));
    let warned = |warning: &&Warning| matches!(warning, Warning::SourceChanged { .. });
    assert!(world.warnings(1).iter().any(warned), "{:?}", world.warnings(1));
    assert!(!world.warnings(1).iter().any(|warning| matches!(warning, Warning::WrongBytes { .. })));
}

#[test]
fn a_withdrawn_offer_is_refused_and_ends_downloads() {
    let source = Source::new(&[("big", content(60 << 20, 1))]);
    let mut world = linked_world(12, &[1, 2]);
    let offer = world.offer(0, source);
    world.run_until(10_000_000, |world| knows(world, 1, offer));
    let stranger = world.command(1, Command::Withdraw(offer));
    assert_eq!(world.nodes[1].replies[&stranger], Err(Refusal::NotYours));
    world.get(1, offer);
    world.run_for(200_000);
    world.command(0, Command::Withdraw(offer));
    world.run_until(60_000_000, |world| {
        let failed = |event: &Event| matches!(event, Event::DownloadFailed { reason: DownloadFailure::Withdrawn, .. });
        world.nodes[1].events.iter().any(failed)
    });
    assert!(world.peer(1).offers().is_empty());
    let late = world.command(1, Command::Get { offer, journal: None });
    assert_eq!(world.nodes[1].replies[&late], Err(Refusal::Withdrawn));
}

#[test]
fn offers_survive_a_restart_and_those_without_a_source_are_withdrawn() {
    let (kept, lost) = (Source::new(&[("kept", content(100, 1))]), Source::new(&[("lost", content(100, 2))]));
    let lost_root = lost.manifest.root();
    let mut world = linked_world(13, &[1, 2]);
    let (kept, lost) = (world.offer(0, kept), world.offer(0, lost));
    world.run_until(10_000_000, |world| knows(world, 1, lost));
    world.kill(0);
    world.nodes[0].sources.remove(&lost_root);
    world.start(0);
    world.run_until(60_000_000, |world| world.peer(1).offers().len() == 1);
    assert_eq!(world.peer(1).offers()[0].0, kept);
    assert!(world.warnings(0).contains(&&Warning::OwnSourceChanged { offer: lost }));
    let download = world.get(1, kept);
    world.run_until(60_000_000, |world| world.is_complete(1, download));
}

#[test]
fn transfers_go_on_without_the_cluster() {
    let mut world = linked_world(14, &[1, 2]);
    world.stop_cluster();
    transfer(&mut world, Source::new(&[("big", content(12 << 20, 1))]));
}

/// People decide by the offer's size, so the manifest may not be another.
#[test]
fn an_offer_that_tells_people_another_size_is_refused_before_anything_is_written() {
    let source = Source::new(&[("huge", content(100_000, 1))]);
    let mut world = World::new(15, &[1, 2]);
    let keys = DeviceKeys::from_secret(&world.nodes[0].keys);
    let (manifest_root, manifest_bytes) = (source.manifest.root(), source.manifest.encoded().len() as u64);
    let offer = FileOffer { manifest_root, manifest_bytes, name: "tiny".into(), size_bytes: 10, file_count: 1 };
    let time = entry::HybridTime { ms: 1_800_000_000_000, counter: 0 };
    let entry = StoredEntry::write(&keys, POOL, 1, None, time, 0, Body::FileOffer(offer));
    let id = entry.id;
    world.nodes[0].disk.push(entry);
    world.nodes[0].offers.push((id, manifest_root));
    world.nodes[0].sources.insert(manifest_root, source);
    (0..2).for_each(|node| world.start(node));
    world.run_until(60_000_000, |world| knows(world, 1, id));
    world.get(1, id);
    world.run_until(60_000_000, |world| {
        let refused = |event: &Event| {
            let Event::DownloadFailed { reason: DownloadFailure::BadManifest(error), .. } = event else { return false };
            *error == ManifestError::NotAsOffered { files: 1, bytes: 100_000 }
        };
        world.nodes[1].events.iter().any(refused)
    });
    assert!(world.nodes[1].landings.is_empty());
}

/// The two connections of a link don't wait for each other: what is asked over Control right when Bulk is ready at one
/// end can come before it is ready at the other.
#[test]
fn what_is_asked_before_bulk_stands_at_the_seeder_is_served_once_it_does() {
    for_each_seed("what_is_asked_before_bulk_stands", 0..10, |seed| {
        let mut world = World::new(seed, &[1, 2]);
        (world.delay_us, world.bulk_delay_us) = (2_000, Some(800_000));
        (0..2).for_each(|node| world.start(node));
        let sources: Vec<Source> = (0..3).map(|n| Source::new(&[("big", content(6 << 20, n))])).collect();
        world.run_until(60_000_000, World::all_linked);
        let offers: Vec<EntryId> = sources.iter().map(|source| world.offer(0, source.clone())).collect();
        world.run_until(10_000_000, |world| offers.iter().all(|offer| knows(world, 1, *offer)));
        let downloads: Vec<DownloadId> = offers.iter().map(|offer| world.get(1, *offer)).collect();
        let before = world.now_us;
        world.run_until(100_000_000, |world| downloads.iter().all(|download| world.is_complete(1, *download)));
        for (download, source) in downloads.iter().zip(&sources) {
            assert_same(&world, 1, *download, source);
        }
        assert!(world.now_us - before < 12_000_000, "nothing waits for a deadline: {} us", world.now_us - before);
    });
}

#[test]
fn a_withdrawn_offer_is_finished_from_who_else_has_it_though_that_link_breaks() {
    let source = Source::new(&[("big", content(40 << 20, 1))]);
    let mut world = linked_world(16, &[1, 2, 3]);
    let offer = world.offer(0, source.clone());
    world.run_until(10_000_000, |world| knows(world, 1, offer) && knows(world, 2, offer));
    let first = world.get(1, offer);
    world.run_until(100_000_000, |world| world.is_complete(1, first));
    let download = world.get(2, offer);
    world.run_until(100_000_000, |world| {
        world.nodes[2].landings.get(&download).is_some_and(|landing| landing.stored_bytes > 4 << 20)
    });
    world.command(0, Command::Withdraw(offer));
    world.cut(1, 2);
    world.run_for(3_000_000);
    assert!(!world.is_complete(2, download));
    world.heal();
    world.run_until(100_000_000, |world| world.is_complete(2, download));
    assert_same(&world, 2, download, &source);
    // Once that device is gone as well, nobody waits.
    world.kill(2);
    world.nodes[2].parts.clear();
    world.start(2);
    world.run_until(60_000_000, World::all_linked);
    let late = world.command(2, Command::Get { offer, journal: None });
    assert_eq!(world.nodes[2].replies[&late], Err(Refusal::Withdrawn));
}
