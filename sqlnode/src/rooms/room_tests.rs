//! The room's rules, played through by hand: time and connections are arguments.

use std::time::Duration;

use bytes::Bytes;
use rockpool_proto::meta::v1::{FromCluster, ended, from_cluster::Kind};
use rockpool_proto::{AccountId, DeviceId, PoolId};

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
    vacated: bool,
}

impl Stage {
    fn new(succeeds: bool) -> Self {
        let room = Room::new(START, PoolId([5; 16]), 3, succeeds);
        let mut stage = Self { room, said: Vec::new(), dropped: Vec::new(), departed: Vec::new(), vacated: false };
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
                Output::Departed { device, presence_epoch } => self.departed.push((device, presence_epoch)),
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
