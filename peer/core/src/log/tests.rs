//! The log against forgers, disorder and crashes.

use prost::Message as _;
use rockpool_proto::peer::v1 as wire;

use super::*;
use crate::entry::{ENTRY_BYTES_MAX, EntryError, HybridTime};
use crate::roster::{Member, MemberDevice};
use rockpool_proto::AccountId;

const POOL: PoolId = PoolId([1; 16]);

fn keys(n: u8) -> DeviceKeys {
    DeviceKeys::from_secret(&[n; 32])
}

fn directory(devices: &[(u8, Option<u64>)]) -> Directory {
    let mut directory = Directory::default();
    for (n, revoked_at_ms) in devices {
        let device =
            MemberDevice { key: keys(*n).public().clone(), name: String::new(), revoked_at_ms: *revoked_at_ms };
        directory.put(Member {
            account: AccountId([*n; 16]),
            login_name: String::new(),
            display_name: String::new(),
            devices: vec![device],
        });
    }
    directory
}

/// A chain of so many texts by device `n`.
fn chain(n: u8, length: u64) -> Vec<StoredEntry> {
    let mut log = MessageLog::new(POOL, keys(n).device_id());
    (0..length).map(|at| (*log.append(&keys(n), 1000 + at, Body::Text(format!("{n}.{at}")))).clone()).collect()
}

fn write(n: u8, counter: u64, previous: Option<EntryHash>, ms: u64, text: &str) -> StoredEntry {
    let time = HybridTime { ms, counter: 0 };
    StoredEntry::write(&keys(n), POOL, counter, previous, time, ms, Body::Text(text.into()))
}

fn texts(log: &MessageLog) -> Vec<EntryId> {
    log.in_order(None).map(|entry| entry.id).collect()
}

#[test]
fn any_order_of_arrival_gives_the_same_log() {
    let directory = directory(&[(1, None), (2, None), (3, None)]);
    let all: Vec<StoredEntry> = [1, 2, 3].into_iter().flat_map(|n| chain(n, 12)).collect();
    let mut expected = None;
    for step in [1, 5, 7, 11, 35] {
        let mut log = MessageLog::new(POOL, keys(9).device_id());
        for at in 0..all.len() {
            // 36 entries: each of these steps visits all.
            log.insert(&directory, all[at * step % all.len()].clone(), 5_000);
        }
        assert_eq!(log.have().map(|(_, counter)| counter).collect::<Vec<_>>(), [12, 12, 12]);
        assert_eq!(*expected.get_or_insert_with(|| texts(&log)), texts(&log));
    }
}

#[test]
fn altered_and_forged_entries_are_refused() {
    let directory = directory(&[(1, None), (2, None)]);
    let mut log = MessageLog::new(POOL, keys(2).device_id());
    let honest = chain(1, 1).remove(0);
    let bytes = honest.to_bytes();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        if let Ok(entry) = StoredEntry::from_bytes(POOL, altered.into()) {
            let result = log.insert(&directory, entry, 5_000);
            assert!(!matches!(result, Inserted::Entries(_) | Inserted::Equivocation(_)), "byte {at}: {result:?}");
        }
    }
    // Signed by one device in the name of another.
    let mut content = wire::EntryContent::decode(honest.to_wire().content).unwrap();
    content.device_id = bytes::Bytes::copy_from_slice(keys(2).device_id().as_bytes());
    let content = bytes::Bytes::from(content.encode_to_vec());
    let signature = keys(1).sign(crate::identity::SigningContext::LogEntry, &[&content]);
    let forged = wire::Entry { content, signature: bytes::Bytes::copy_from_slice(&signature) };
    let forged = StoredEntry::from_wire(POOL, forged).unwrap();
    assert!(matches!(log.insert(&directory, forged, 5_000), Inserted::Refused(_)));
    assert!(matches!(log.insert(&directory, honest, 5_000), Inserted::Entries(_)));
    // Of another pool.
    assert!(StoredEntry::from_bytes(PoolId([2; 16]), bytes.into()).is_err());
}

#[test]
fn a_text_that_is_too_long_is_refused_whoever_signed_it() {
    let read = |chars: usize| {
        let entry = write(1, 1, None, 1_000, &"ä".repeat(chars));
        StoredEntry::from_wire(POOL, entry.to_wire()).map(|entry| entry.id.counter)
    };
    let most = rockpool_proto::limits::MESSAGE_TEXT_CHARS_MAX;
    assert_eq!(read(most), Ok(1));
    assert_eq!(read(most + 1), Err(EntryError::Malformed("its text is too long")));
    assert!(matches!(read(ENTRY_BYTES_MAX), Err(EntryError::TooLong(_))));
}

#[test]
fn entries_of_strangers_wait_until_they_are_members() {
    let mut log = MessageLog::new(POOL, keys(1).device_id());
    let entry = chain(2, 1).remove(0);
    assert!(matches!(log.insert(&directory(&[(1, None)]), entry.clone(), 5_000), Inserted::UnknownAuthor));
    assert!(matches!(log.insert(&directory(&[(2, None)]), entry, 5_000), Inserted::Entries(_)));
}

#[test]
fn a_revoked_device_keeps_its_past_and_has_no_future() {
    let directory = directory(&[(1, Some(1_001))]);
    let mut log = MessageLog::new(POOL, keys(9).device_id());
    let mut entries = chain(1, 3).into_iter();
    assert!(matches!(log.insert(&directory, entries.next().unwrap(), 0), Inserted::Entries(_)));
    assert!(matches!(log.insert(&directory, entries.next().unwrap(), 0), Inserted::Entries(_)));
    assert!(matches!(log.insert(&directory, entries.next().unwrap(), 0), Inserted::Revoked));
}

#[test]
fn two_entries_with_one_counter_are_evidence_and_what_follows_the_second_does_not_enter() {
    let directory = directory(&[(1, None)]);
    let mut log = MessageLog::new(POOL, keys(9).device_id());
    let first = write(1, 1, None, 10, "first");
    let second = write(1, 1, None, 10, "second");
    let follows_second = write(1, 2, Some(second.hash()), 20, "third");
    let id = first.id;
    assert!(matches!(log.insert(&directory, first.clone(), 0), Inserted::Entries(_)));
    assert!(matches!(log.insert(&directory, second, 0), Inserted::Equivocation(found) if found == id));
    assert!(matches!(log.insert(&directory, follows_second, 0), Inserted::Equivocation(found) if found == id));
    assert!(matches!(log.insert(&directory, first, 0), Inserted::Known));
    assert_eq!(texts(&log), [id]);
}

#[test]
fn a_clock_that_goes_back_along_a_chain_is_refused() {
    let directory = directory(&[(1, None)]);
    let mut log = MessageLog::new(POOL, keys(9).device_id());
    let first = write(1, 1, None, 10, "first");
    let back = write(1, 2, Some(first.hash()), 9, "back");
    assert!(matches!(log.insert(&directory, first, 0), Inserted::Entries(_)));
    assert!(matches!(log.insert(&directory, back, 0), Inserted::Refused(_)));
}

#[test]
fn what_comes_early_is_bounded() {
    let directory = directory(&[(1, None)]);
    let mut log = MessageLog::new(POOL, keys(9).device_id());
    let entries = chain(1, EARLY_ENTRIES_MAX as u64 + 50);
    for entry in entries.iter().skip(1) {
        assert!(matches!(log.insert(&directory, entry.clone(), 0), Inserted::Early));
    }
    let Inserted::Entries(entered) = log.insert(&directory, entries[0].clone(), 0) else { panic!("it is the first") };
    assert_eq!(entered.len(), EARLY_ENTRIES_MAX);
}

#[test]
fn own_entries_are_told_only_once_durable() {
    let me = keys(1).device_id();
    let mut log = MessageLog::new(POOL, me);
    log.append(&keys(1), 10, Body::Text("a".into()));
    log.append(&keys(1), 10, Body::Text("b".into()));
    assert_eq!((log.have_of(me), log.have().count(), log.chain_from(me, 1).len()), (0, 0, 0));
    log.set_durable(1);
    assert_eq!((log.have_of(me), log.chain_from(me, 1).len(), log.chain_from(me, 2).len()), (1, 1, 0));
}

#[test]
fn a_store_with_a_hole_restores_the_unbroken_beginning() {
    let mut entries = chain(1, 6);
    entries.remove(3);
    entries.reverse();
    let mut log = MessageLog::new(POOL, keys(1).device_id());
    log.restore(entries, 0);
    assert_eq!(log.have_of(keys(1).device_id()), 3);
}

#[test]
fn kinds_of_a_later_version_are_kept_and_passed_on_byte_for_byte() {
    let directory = directory(&[(1, None)]);
    let mut content = wire::EntryContent::decode(chain(1, 1).remove(0).to_wire().content).unwrap();
    content.body = None;
    let mut content = content.encode_to_vec();
    // Field 200, a kind that nobody here knows.
    content.extend_from_slice(&[0xc2, 0x0c, 3, b'n', b'e', b'w']);
    let content = bytes::Bytes::from(content);
    let signature = keys(1).sign(crate::identity::SigningContext::LogEntry, &[&content]);
    let entry = wire::Entry { content: content.clone(), signature: bytes::Bytes::copy_from_slice(&signature) };
    let entry = StoredEntry::from_wire(POOL, entry).unwrap();
    let id = entry.id;
    let mut log = MessageLog::new(POOL, keys(9).device_id());
    assert!(matches!(log.insert(&directory, entry, 0), Inserted::Entries(_)));
    let kept = log.entry(id).unwrap();
    assert_eq!(kept.body, Body::Unknown);
    assert_eq!(kept.to_wire().content, content);
}

#[test]
fn open_offers_of_one_device_are_bounded() {
    let me = keys(1).device_id();
    let mut log = MessageLog::new(POOL, me);
    for n in 0..limits::OFFERS_PER_DEVICE_MAX as u64 + 10 {
        let offer = FileOffer {
            manifest_root: crate::transfer::Root([1; 32]),
            manifest_bytes: 1,
            name: n.to_string(),
            size_bytes: 1,
            file_count: 1,
        };
        log.append(&keys(1), n, Body::FileOffer(offer));
    }
    let offers = log.offers(&directory(&[(1, None)]));
    assert_eq!(offers.len(), limits::OFFERS_PER_DEVICE_MAX);
    assert_eq!(offers.last().unwrap().1.name, "265");
}

#[test]
fn counters_and_clocks_of_any_size_are_harmless() {
    let directory = directory(&[(1, None), (2, None)]);
    let mut log = MessageLog::new(POOL, keys(2).device_id());
    let first = write(1, 1, None, u64::MAX - 1, "from the end of time");
    let hash = first.hash();
    assert!(matches!(log.insert(&directory, first, 5_000), Inserted::Entries(_)));
    for counter in [u64::MAX, u64::MAX - 1, 1 << 32, (1 << 32) + 1] {
        let far = write(1, counter, Some(hash), u64::MAX, "far ahead");
        assert!(matches!(log.insert(&directory, far, 5_000), Inserted::Early));
    }
    assert_eq!((log.length_of(keys(1).device_id()), log.proven_of(keys(1).device_id())), (1, 1));
    // Our own clock was not taken along.
    assert_eq!(log.append(&keys(2), 5_000, Body::Text("now".into())).time.ms, 5_000);
    assert_eq!(log.chain_from(keys(1).device_id(), u64::MAX).len(), 0);
}
