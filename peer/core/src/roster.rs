//! Who belongs to the pool, and who is present just now.
//!
//! The *directory* knows every member with all devices, former ones too: it answers whose key verifies an entry. The
//! *roster* says which devices are present. Both come from the cluster and outlive its absence.

use std::collections::BTreeMap;

use rockpool_proto::meta::v1 as meta;
use rockpool_proto::{AccountId, DeviceId};

use crate::identity::DevicePublicKey;

/// A device of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDevice {
    /// Its key; the id follows.
    pub key: DevicePublicKey,
    /// Its name, for people.
    pub name: String,
    /// When it was revoked, in milliseconds since 1970-01-01 UTC. What it wrote before stays valid.
    pub revoked_at_ms: Option<u64>,
}

/// A person in the pool, with all devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Name to log in with, unique.
    pub login_name: String,
    /// Name to show.
    pub display_name: String,
    /// Devices with usable keys.
    pub devices: Vec<MemberDevice>,
}

/// A message of the cluster that doesn't hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0} from the cluster")]
pub struct MalformedError(pub &'static str);

impl Member {
    /// From the cluster. Devices whose key is unusable or doesn't belong to their id are left out: nothing they sign
    /// will be believed.
    pub fn from_wire(member: &meta::Member) -> Result<Member, MalformedError> {
        let account = member.account.as_ref().ok_or(MalformedError("member"))?;
        let devices = member
            .devices
            .iter()
            .filter_map(|device| {
                let id = DeviceId::try_from(device.device_id.as_ref()).ok()?;
                Some(MemberDevice {
                    key: DevicePublicKey::of_device(id, &device.signing_key).ok()?,
                    name: device.name.clone(),
                    revoked_at_ms: u64::try_from(device.revoked_at_us / 1000).ok().filter(|ms| *ms > 0),
                })
            })
            .collect();
        Ok(Member {
            account: AccountId::try_from(account.account_id.as_ref()).map_err(|_| MalformedError("account id"))?,
            login_name: account.login_name.clone(),
            display_name: account.display_name.clone(),
            devices,
        })
    }
}

/// All members and their devices.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    members: BTreeMap<AccountId, Member>,
    owners: BTreeMap<DeviceId, AccountId>,
}

impl Directory {
    /// Adds or replaces a member. Devices are never forgotten, so that what they wrote stays verifiable.
    pub fn put(&mut self, mut member: Member) {
        if let Some(before) = self.members.remove(&member.account) {
            for device in before.devices {
                if !member.devices.iter().any(|new| new.key.device_id() == device.key.device_id()) {
                    member.devices.push(device);
                }
            }
        }
        for device in &member.devices {
            self.owners.insert(device.key.device_id(), member.account);
        }
        self.members.insert(member.account, member);
    }

    /// Members in order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whose device this is.
    pub fn member_of(&self, device: DeviceId) -> Option<&Member> {
        self.members.get(self.owners.get(&device)?)
    }

    /// A device of any member.
    pub fn device(&self, device: DeviceId) -> Option<&MemberDevice> {
        self.member_of(device)?.devices.iter().find(|known| known.key.device_id() == device)
    }

    /// Whether both devices belong to one account.
    pub fn same_account(&self, one: DeviceId, other: DeviceId) -> bool {
        one == other || matches!((self.owners.get(&one), self.owners.get(&other)), (Some(a), Some(b)) if a == b)
    }
}

/// A device that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterNode {
    /// Which.
    pub device: DeviceId,
    /// Of its connection to the cluster.
    pub presence_epoch: u64,
    /// Grows with every seating; decides who offers.
    pub placement_number: u64,
}

impl RosterNode {
    fn from_wire(node: &meta::RosterNode) -> Result<RosterNode, MalformedError> {
        Ok(RosterNode {
            device: DeviceId::try_from(node.device_id.as_ref()).map_err(|_| MalformedError("roster node"))?,
            presence_epoch: node.presence_epoch,
            placement_number: node.placement_number,
        })
    }
}

/// Who is present: the same table at every device, ordered by lease epoch, then sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    lease_epoch: u64,
    sequence: u64,
    nodes: BTreeMap<DeviceId, RosterNode>,
}

/// One event of the roster, applied whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterChange {
    /// Replaces the table.
    Whole(Roster),
    /// Changes it.
    Step {
        /// Of the owner.
        lease_epoch: u64,
        /// One more than the table's, or it is not applied.
        sequence: u64,
        /// Seated or moved.
        seated: Vec<RosterNode>,
        /// Gone.
        removed: Option<DeviceId>,
    },
}

impl Roster {
    /// A table made by hand.
    pub fn new(lease_epoch: u64, sequence: u64, nodes: impl IntoIterator<Item = RosterNode>) -> Roster {
        Roster { lease_epoch, sequence, nodes: nodes.into_iter().map(|node| (node.device, node)).collect() }
    }

    /// From the cluster.
    pub fn from_wire(roster: &meta::Roster) -> Result<Roster, MalformedError> {
        let nodes = roster.nodes.iter().map(RosterNode::from_wire).collect::<Result<Vec<_>, _>>()?;
        Ok(Roster::new(roster.lease_epoch, roster.sequence, nodes))
    }

    /// The devices present, in order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = &RosterNode> {
        self.nodes.values()
    }

    /// One device, if present.
    pub fn node(&self, device: DeviceId) -> Option<&RosterNode> {
        self.nodes.get(&device)
    }

    /// Applies a change if it is newer; says whether it did. A step that doesn't follow directly is left alone: the
    /// owner sends the whole table whenever it can't be sure.
    pub fn apply(&mut self, change: RosterChange) -> bool {
        match change {
            RosterChange::Whole(roster) => {
                let newer = (roster.lease_epoch, roster.sequence) > (self.lease_epoch, self.sequence);
                if newer {
                    *self = roster;
                }
                newer
            }
            RosterChange::Step { lease_epoch, sequence, seated, removed } => {
                if lease_epoch != self.lease_epoch || Some(sequence) != self.sequence.checked_add(1) {
                    return false;
                }
                self.sequence = sequence;
                if let Some(device) = removed {
                    self.nodes.remove(&device);
                }
                self.nodes.extend(seated.into_iter().map(|node| (node.device, node)));
                true
            }
        }
    }
}

impl RosterChange {
    /// From the cluster.
    pub fn from_wire(event: &meta::RosterEvent) -> Result<RosterChange, MalformedError> {
        if let Some(whole) = &event.whole {
            return Ok(RosterChange::Whole(Roster::from_wire(whole)?));
        }
        let seated =
            event.joined.iter().chain(&event.moved).map(RosterNode::from_wire).collect::<Result<Vec<_>, _>>()?;
        let removed = match event.removed_device_id.len() {
            0 => None,
            _ => Some(
                DeviceId::try_from(event.removed_device_id.as_ref()).map_err(|_| MalformedError("removed device"))?,
            ),
        };
        Ok(RosterChange::Step { lease_epoch: event.lease_epoch, sequence: event.sequence, seated, removed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, placement_number: u64) -> RosterNode {
        RosterNode { device: DeviceId([id; 16]), presence_epoch: 1, placement_number }
    }

    #[test]
    fn steps_apply_in_order_and_whole_tables_when_newer() {
        let mut roster = Roster::new(2, 5, [node(1, 1)]);
        let join = |sequence, id| RosterChange::Step {
            lease_epoch: 2,
            sequence,
            seated: vec![node(id, sequence)],
            removed: None,
        };
        assert!(!roster.apply(join(7, 9)), "a gap");
        assert!(roster.apply(join(6, 2)));
        assert!(!roster.apply(join(6, 3)), "a repetition");
        assert!(!roster.apply(RosterChange::Whole(Roster::new(1, 99, []))), "an older owner");
        assert_eq!(roster.nodes().count(), 2);
        assert!(roster.apply(RosterChange::Step {
            lease_epoch: 2,
            sequence: 7,
            seated: vec![],
            removed: Some(DeviceId([1; 16]))
        }));
        assert_eq!(roster.nodes().map(|node| node.device).collect::<Vec<_>>(), [DeviceId([2; 16])]);
        assert!(roster.apply(RosterChange::Whole(Roster::new(3, 1, [node(4, 1)]))));
        assert!(roster.node(DeviceId([4; 16])).is_some());
        // A number that nothing follows.
        let mut last = Roster::new(2, u64::MAX, []);
        assert!(!last.apply(join(0, 1)) && !last.apply(join(u64::MAX, 1)));
    }
}
