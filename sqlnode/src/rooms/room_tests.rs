//! The room's rules, played through by hand: time and connections are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rockpool_proto::meta::v1::{FromCluster, RosterNode, ended, from_cluster::Kind};
use rockpool_proto::{AccountId, DeviceId, PoolId};

use super::draws::Draws;
use super::room::{
    Claim, ConnectionId, EndReason, Ending, Facts, GATHER_FOR, Identity, Input, Output, PresenceFact, Room,
    SILENCE_MAX, Time, VACANT_MAX,
};
use super::tree::{Address, Path};
use crate::services::model::{Account, Device, DeviceKind, Member, Role};

const START: Time = Duration::from_secs(100);

fn account(number: u8) -> AccountId {
    AccountId([number; 16])
}

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

/// Members 1 to `count`, each with the device of the same number.
fn facts(count: u8) -> Facts {
    let member = |number: u8| Member {
        account: Account { id: account(number), login_name: number.to_string(), display_name: number.to_string() },
        role: Role::Member,
        joined_at_us: 0,
        devices: vec![Device {
            id: device(number),
            account: account(number),
            name: "laptop".into(),
            kind: DeviceKind::Desktop,
            signing_key: [number; 32],
            exchange_key: [number; 32],
            created_at_us: 0,
            revoked_at_us: None,
            last_seen_us: None,
        }],
    };
    let members = (1..=count).map(|number| (account(number), member(number))).collect();
    Facts { change_number: 1, members, ..Facts::default() }
}

/// A room and what it has said, by connection. Device `n` connects as `n`, and by other numbers where a test says so.
struct Stage {
    room: Room,
    said: Vec<(u64, Kind)>,
    dropped: Vec<u64>,
    departed: Vec<(DeviceId, u64)>,
    /// How long each of them had been silent.
    silences: Vec<Option<Duration>>,
    vacated: bool,
}

impl Stage {
    fn new(succeeds: bool) -> Self {
        let room = Room::new(START, PoolId([5; 16]), 3, succeeds);
        let mut stage = Self {
            room,
            said: Vec::new(),
            dropped: Vec::new(),
            departed: Vec::new(),
            silences: Vec::new(),
            vacated: false,
        };
        stage.at(START, Input::Facts(facts(30)));
        stage
    }

    fn at(&mut self, now: Time, input: Input) {
        self.room.handle_input(now, input);
        self.drain();
    }

    fn wait(&mut self, now: Time) {
        self.room.handle_timeout(now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Send { connection, message: FromCluster { kind } } => {
                    assert!(!self.dropped.contains(&connection.0), "nothing is sent after the end");
                    self.said.push((connection.0, kind.unwrap()));
                }
                Output::Drop { connection } => self.dropped.push(connection.0),
                Output::Departed { device, presence_epoch, silent_for } => {
                    assert!(!self.vacated, "an empty room has nothing left to say");
                    self.departed.push((device, presence_epoch));
                    self.silences.push(silent_for);
                }
                Output::Vacated => self.vacated = true,
            }
        }
    }

    fn attach(&mut self, connection: u64, number: u8, presence_epoch: u64, claim: Option<Claim>) {
        let identity = Identity { account: account(number), device: device(number) };
        self.at(START, Input::Attach { connection: ConnectionId(connection), identity, presence_epoch, claim });
    }

    fn join(&mut self, number: u8) {
        self.attach(number.into(), number, 1, None);
    }

    /// Why a connection was ended, if it was.
    fn ended(&self, connection: u64) -> Option<ended::Reason> {
        self.said.iter().find_map(|(to, kind)| match kind {
            Kind::Ended(ended) if *to == connection => Some(ended.reason()),
            _ => None,
        })
    }

    fn place_in_welcome(&self, connection: u64, number: u8) -> (Vec<u8>, u32, u64) {
        let welcome = self.said.iter().find_map(|(to, kind)| match kind {
            Kind::Welcome(welcome) if *to == connection => Some(welcome.clone()),
            _ => None,
        });
        let nodes = welcome.expect("a welcome").roster.unwrap().nodes;
        let node = nodes.into_iter().find(|node| node.device_id[..] == device(number).0).unwrap();
        let place = node.place.unwrap();
        (place.path.to_vec(), place.seat, place.join_number)
    }
}

#[test]
fn everybody_hears_of_everybody_in_one_order() {
    let mut stage = Stage::new(false);
    (1..=3).for_each(|number| stage.join(number));
    stage.at(START, Input::Detach { connection: ConnectionId(2), ending: Ending::Closed });
    let sequences = |connection: u64| -> Vec<u64> {
        let own = stage.said.iter().filter(|(to, _)| *to == connection);
        own.filter_map(|(_, kind)| match kind {
            Kind::Welcome(welcome) => Some(welcome.roster.as_ref().unwrap().sequence),
            Kind::Roster(event) => Some(event.sequence),
            _ => None,
        })
        .collect()
    };
    assert_eq!(sequences(1), [1, 2, 3, 4]);
    assert_eq!(sequences(2), [2, 3]);
    assert_eq!(sequences(3), [3, 4]);
    assert_eq!(stage.departed, [(device(2), 1)]);
}

#[test]
fn of_two_connections_the_higher_presence_epoch_stays_in_whatever_order_they_come() {
    let mut stage = Stage::new(false);
    stage.attach(1, 1, 5, None);
    stage.attach(2, 1, 6, None);
    assert_eq!(stage.ended(1), Some(ended::Reason::Fenced));
    stage.attach(3, 1, 5, None);
    assert_eq!(stage.ended(3), Some(ended::Reason::Fenced), "the older comes later");
    assert_eq!(stage.ended(2), None);
    assert_eq!(stage.dropped, [1, 3]);
    // What the old connection still sends, or that it breaks, is nobody's business any more.
    stage.at(START, Input::Detach { connection: ConnectionId(1), ending: Ending::Closed });
    stage.at(START, Input::Evict { device: device(1), presence_epoch_max: 5, reason: EndReason::Fenced });
    assert!(stage.departed.is_empty());
    stage.at(START, Input::Evict { device: device(1), presence_epoch_max: 6, reason: EndReason::Revoked });
    assert_eq!(stage.ended(2), Some(ended::Reason::Revoked));
    assert_eq!(stage.departed, [(device(1), 6)]);
}

#[test]
fn a_broken_connection_keeps_its_seat_until_it_has_been_silent_for_too_long() {
    let mut stage = Stage::new(false);
    stage.join(1);
    stage.join(2);
    stage.at(START, Input::Detach { connection: ConnectionId(2), ending: Ending::Broken });
    stage.at(START + SILENCE_MAX / 2, Input::Ping { connection: ConnectionId(1), nonce: 1 });
    stage.attach(9, 2, 2, None);
    assert_eq!(stage.place_in_welcome(9, 2), (vec![1], 0, 2), "back in its seat");
    assert!(stage.departed.is_empty());

    stage.at(START, Input::Detach { connection: ConnectionId(9), ending: Ending::Broken });
    assert_eq!(stage.room.poll_timeout(), Some(START + SILENCE_MAX));
    stage.wait(START + SILENCE_MAX);
    assert_eq!(stage.departed, [(device(2), 2)]);
    assert_eq!(stage.ended(1), None);
    stage.wait(START + SILENCE_MAX / 2 + SILENCE_MAX);
    assert_eq!(stage.ended(1), Some(ended::Reason::Moved), "silent for three pings");
    let vacant = START + SILENCE_MAX / 2 + SILENCE_MAX + VACANT_MAX;
    assert_eq!(stage.room.poll_timeout(), Some(vacant));
    stage.wait(vacant);
    assert!(stage.vacated);
}

#[test]
fn facts_from_the_database_put_out_who_may_not_be_here() {
    let mut stage = Stage::new(false);
    (1..=6).for_each(|number| stage.join(number));
    let mut news = facts(30);
    news.change_number = 2;
    news.members.get_mut(&account(1)).unwrap().devices[0].revoked_at_us = Some(1);
    news.members.remove(&account(2));
    news.presence.insert(device(3), PresenceFact { epoch: 2, here: false });
    news.presence.insert(device(4), PresenceFact { epoch: 1, here: false });
    news.presence.insert(device(5), PresenceFact { epoch: 1, here: true });
    news.presence.insert(device(6), PresenceFact { epoch: 2, here: true });
    stage.at(START, Input::Facts(news));
    let ends: Vec<_> = (1..=6).map(|connection| stage.ended(connection)).collect();
    use ended::Reason::{Expired, Fenced, Left, Revoked};
    assert_eq!(ends, [Some(Revoked), Some(Left), Some(Fenced), Some(Expired), None, Some(Fenced)]);
    assert!(!stage.departed.contains(&(device(6), 1)), "its newer connection, on the way here, finds its seat");

    // An older reading that comes late changes nothing.
    stage.at(START, Input::Facts(facts(1)));
    assert_eq!(stage.ended(5), None);
    // Who was put out does not come back in.
    stage.attach(11, 1, 9, None);
    stage.attach(12, 2, 9, None);
    assert_eq!((stage.ended(11), stage.ended(12)), (Some(Revoked), Some(Left)));
    assert!(stage.departed.ends_with(&[(device(1), 9), (device(2), 9)]), "nobody else would note that these are over");
}

#[test]
fn a_new_owner_seats_by_claims_and_settles_in_the_end() {
    let mut old = Stage::new(false);
    (1..=12).for_each(|number| old.join(number));
    let claim = |number: u8| {
        let (path, seat, join_number) = old.place_in_welcome(number.into(), number);
        let address = Address { path: Path::from_slots(&path).unwrap(), seat: seat as u8 };
        Some(Claim { address, join_number, lease_epoch: 2 })
    };
    let mut stage = Stage::new(true);
    // Only one of the centre panel [2] comes back, and everybody from the level below.
    for number in [12, 11, 10, 9, 8, 6, 5, 3, 2, 1] {
        stage.attach(number.into(), number, 2, claim(number));
        assert_eq!(stage.place_in_welcome(number.into(), number).2, u64::from(number), "join numbers are kept");
    }
    assert_eq!(stage.place_in_welcome(10, 10).0, [2, 1]);
    stage.wait(START + GATHER_FOR);
    let whole = stage.said.iter().rev().find_map(|(_, kind)| match kind {
        Kind::Roster(event) => event.whole.clone(),
        _ => None,
    });
    let nodes = whole.expect("those who moved are told with the whole table").nodes;
    assert!(nodes.iter().all(|node| node.place.as_ref().unwrap().lease_epoch == 3));
    let below = nodes.iter().filter(|node| node.place.as_ref().unwrap().path.len() > 1).count();
    assert_eq!((nodes.len(), below), (10, 2), "device 10 moved up; 11 and 12 hang below panels that are full");

    // A claim for a seat that is taken, or of a device that was never here, is a join.
    let mut late = Stage::new(true);
    late.attach(1, 1, 1, claim(1));
    late.attach(2, 2, 1, claim(1));
    assert_ne!(late.place_in_welcome(2, 2).0, late.place_in_welcome(1, 1).0);
}

#[test]
fn signals_reach_the_device_they_are_for_and_nobody_else() {
    let mut stage = Stage::new(false);
    (1..=3).for_each(|number| stage.join(number));
    stage.said.clear();
    let signal =
        |to, payload: Vec<u8>| Input::Signal { connection: ConnectionId(1), to, payload: Bytes::from(payload) };
    stage.at(START, signal(device(2), b"hello".to_vec()));
    stage.at(START, signal(device(9), b"absent".to_vec()));
    stage.at(START, signal(device(2), vec![0; rockpool_proto::limits::SIGNAL_BYTES_MAX + 1]));
    assert_eq!(stage.said.len(), 1);
    let (to, Kind::Signal(signal)) = &stage.said[0] else { panic!("{:?}", stage.said) };
    assert_eq!((*to, &signal.from_device_id[..], &signal.payload[..]), (2, &device(1).0[..], &b"hello"[..]));
}

#[test]
fn closing_the_room_sends_everybody_on() {
    let mut stage = Stage::new(false);
    (1..=3).for_each(|number| stage.join(number));
    stage.at(START, Input::Close);
    assert!((1..=3).all(|connection| stage.ended(connection) == Some(ended::Reason::Moved)));
    assert!(stage.departed.is_empty(), "their presence goes on at the next owner");
}

#[test]
fn who_does_not_come_back_to_a_new_owner_is_gone_in_the_end() {
    let mut stage = Stage { room: Room::new(START, PoolId([5; 16]), 3, true), ..Stage::new(false) };
    let mut before = facts(30);
    before.presence.insert(device(1), PresenceFact { epoch: 4, here: true });
    before.presence.insert(device(2), PresenceFact { epoch: 4, here: true });
    before.presence.insert(device(3), PresenceFact { epoch: 4, here: false });
    stage.at(START, Input::Facts(before));
    stage.attach(1, 1, 5, None);
    stage.wait(START + GATHER_FOR);
    assert!(stage.departed.is_empty(), "there is time");
    stage.at(START + SILENCE_MAX / 2, Input::Ping { connection: ConnectionId(1), nonce: 1 });
    stage.wait(START + SILENCE_MAX);
    assert_eq!(stage.departed, [(device(2), 4)]);
}

#[test]
fn a_successor_notes_who_did_not_come_back_before_it_goes_itself() {
    let mut stage = Stage { room: Room::new(START, PoolId([5; 16]), 3, true), ..Stage::new(false) };
    let mut before = facts(30);
    before.presence.insert(device(2), PresenceFact { epoch: 4, here: true });
    stage.at(START, Input::Facts(before));
    stage.attach(1, 1, 1, None);
    stage.at(START, Input::Detach { connection: ConnectionId(1), ending: Ending::Closed });
    while !stage.vacated {
        let due = stage.room.poll_timeout().expect("a room that is empty ends some time");
        stage.wait(due);
    }
    assert_eq!(stage.departed, [(device(1), 1), (device(2), 4)]);
    assert_eq!(stage.silences, [Some(Duration::ZERO), None], "nobody here heard the second one");
}

#[test]
fn a_presence_that_another_pool_has_superseded_gets_no_seat() {
    let mut stage = Stage::new(false);
    stage.join(2);
    // Read after the device connected elsewhere as well, and before its first stream arrived here.
    let mut elsewhere = facts(30);
    elsewhere.presence.insert(device(1), PresenceFact { epoch: 6, here: false });
    stage.at(START, Input::Facts(elsewhere));
    stage.attach(1, 1, 5, None);
    assert_eq!(stage.ended(1), Some(ended::Reason::Fenced));
    // The same presence, but it was ended while its stream was on the way.
    stage.attach(3, 1, 6, None);
    assert_eq!(stage.ended(3), Some(ended::Reason::Expired));
    let seen: Vec<_> = stage.said.iter().filter(|(to, kind)| *to == 2 && matches!(kind, Kind::Roster(_))).collect();
    assert!(seen.is_empty(), "nobody was told of it: {seen:?}");
    // A reading that is older takes nothing back; the next presence is welcome.
    let mut older = facts(30);
    older.presence.insert(device(1), PresenceFact { epoch: 6, here: true });
    stage.at(START, Input::Facts(older));
    stage.attach(4, 1, 6, None);
    assert_eq!(stage.ended(4), Some(ended::Reason::Expired));
    stage.attach(5, 1, 7, None);
    assert_eq!(stage.ended(5), None);
}

#[test]
fn a_stream_that_asks_again_is_not_its_own_rival() {
    let mut stage = Stage::new(false);
    stage.attach(1, 1, 5, None);
    let seat = stage.place_in_welcome(1, 1);
    stage.at(START, Input::Detach { connection: ConnectionId(1), ending: Ending::Broken });
    stage.attach(2, 1, 5, None);
    assert_eq!(stage.place_in_welcome(2, 1), seat);
    // And when the first line has not broken off yet.
    stage.attach(3, 1, 5, None);
    assert_eq!(stage.place_in_welcome(3, 1), seat);
    assert!((1..=3).all(|connection| stage.ended(connection).is_none()));
    assert_eq!(stage.dropped, [2]);
}

#[test]
fn the_end_of_a_presence_says_when_the_device_was_last_heard() {
    let mut stage = Stage::new(false);
    (1..=2).for_each(|number| stage.join(number));
    let later = START + Duration::from_secs(4);
    stage.at(later, Input::Ping { connection: ConnectionId(1), nonce: 1 });
    stage.at(later, Input::Ping { connection: ConnectionId(2), nonce: 1 });
    stage.at(later + Duration::from_secs(9), Input::Detach { connection: ConnectionId(1), ending: Ending::Closed });
    stage.wait(later + SILENCE_MAX);
    assert_eq!(stage.departed, [(device(1), 1), (device(2), 1)]);
    assert_eq!(
        stage.silences,
        [Some(Duration::ZERO), Some(SILENCE_MAX)],
        "closing is a sign of life, breaking is none"
    );
}

/// What one device has been told: the roster, and where it stands in the order of events.
#[derive(Debug, Default, PartialEq)]
struct Told {
    sequence: u64,
    /// Device to presence epoch, path and seat.
    nodes: BTreeMap<Vec<u8>, (u64, Vec<u8>, u32)>,
}

impl Told {
    fn put(&mut self, node: &RosterNode) {
        let place = node.place.as_ref().expect("everybody in the roster has a place");
        self.nodes.insert(node.device_id.to_vec(), (node.presence_epoch, place.path.to_vec(), place.seat));
    }

    /// Applies what was said, as a device does. False: it was the last word.
    fn hear(&mut self, kind: &Kind) -> bool {
        let whole = match kind {
            Kind::Welcome(welcome) => welcome.roster.clone(),
            Kind::Roster(event) => {
                assert_eq!(event.sequence, self.sequence + 1, "no event is missing");
                self.sequence = event.sequence;
                self.nodes.remove(&event.removed_device_id[..]);
                event.joined.iter().chain(&event.moved).for_each(|node| self.put(node));
                event.whole.clone()
            }
            Kind::Ended(_) => return false,
            _ => None,
        };
        if let Some(whole) = whole {
            *self = Told { sequence: whole.sequence, ..Told::default() };
            whole.nodes.iter().for_each(|node| self.put(node));
        }
        true
    }
}

/// Devices that come, go, break off, claim any seat, connect twice and elsewhere, in any order: whoever is connected knows
/// the same roster, one connection of a device counts, and each presence ends once.
#[test]
fn whatever_devices_do_everybody_knows_the_same_roster() {
    for seed in 0..150 {
        let mut draws = Draws(seed);
        let mut stage = Stage::new(seed % 3 == 0);
        let mut told: BTreeMap<u64, (u8, Told)> = BTreeMap::new();
        let mut newest = [0u64; 31];
        let (mut now, mut connections, mut heard) = (START, 0, 0);
        for _ in 0..250 {
            now += Duration::from_millis(draws.below(1_500));
            let number = 1 + draws.below(30) as u8;
            let known = told.keys().nth(draws.below(told.len().max(1) as u64) as usize).copied();
            match draws.below(10) {
                0..=3 => {
                    newest[usize::from(number)] += 1;
                    // Now and then the stream before arrives after the newest, or the same one again.
                    let epoch = newest[usize::from(number)].saturating_sub(draws.below(4) / 2).max(1);
                    let path: Vec<u8> = (0..1 + draws.below(5)).map(|_| draws.below(3) as u8).collect();
                    let claim = Path::from_slots(&path).map(|path| Claim {
                        address: Address { path, seat: draws.below(4) as u8 },
                        join_number: draws.below(40),
                        lease_epoch: draws.below(5),
                    });
                    connections += 1;
                    told.insert(connections, (number, Told::default()));
                    let identity = Identity { account: account(number), device: device(number) };
                    let connection = ConnectionId(connections);
                    stage.at(now, Input::Attach { connection, identity, presence_epoch: epoch, claim });
                }
                4 | 5 => {
                    if let Some(connection) = known {
                        let ending = if draws.below(2) == 0 { Ending::Closed } else { Ending::Broken };
                        told.remove(&connection);
                        stage.at(now, Input::Detach { connection: ConnectionId(connection), ending });
                    }
                }
                6 => {
                    let mut elsewhere = facts(30);
                    newest[usize::from(number)] += 1;
                    let fact = PresenceFact { epoch: newest[usize::from(number)], here: draws.below(2) == 0 };
                    elsewhere.presence.insert(device(number), fact);
                    stage.at(now, Input::Facts(elsewhere));
                }
                7 => {
                    let presence_epoch_max = newest[usize::from(number)].saturating_sub(draws.below(2));
                    let reason = EndReason::Expired;
                    stage.at(now, Input::Evict { device: device(number), presence_epoch_max, reason });
                }
                _ => {
                    for connection in told.keys() {
                        stage.room.handle_input(now, Input::Ping { connection: ConnectionId(*connection), nonce: 1 });
                    }
                    stage.drain();
                }
            }
            if stage.room.poll_timeout().is_some_and(|due| due <= now) {
                stage.wait(now);
            }
            for (connection, kind) in &stage.said[heard..] {
                if let Some((_, device_knows)) = told.get_mut(connection)
                    && !device_knows.hear(kind)
                {
                    told.remove(connection);
                }
            }
            heard = stage.said.len();
            told.retain(|connection, _| !stage.dropped.contains(connection));
            let mut devices: Vec<u8> = told.values().map(|(number, _)| *number).collect();
            devices.sort_unstable();
            assert!(devices.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: one connection of a device counts");
            let mut rosters = told.values().map(|(_, roster)| roster);
            if let Some(first) = rosters.next() {
                assert!(rosters.all(|other| other == first), "seed {seed}: everybody knows the same");
                assert!(devices.iter().all(|number| first.nodes.contains_key(&device(*number).0[..])), "seed {seed}");
            }
        }
        while !stage.vacated {
            let due = stage.room.poll_timeout().expect("a room that is empty ends some time");
            stage.wait(due.max(now));
        }
    }
}
