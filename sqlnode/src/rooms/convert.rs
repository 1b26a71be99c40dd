//! The one place of the rooms where generated types are made and read.

use bytes::Bytes;
use rockpool_proto::meta::v1::{self as wire, from_cluster::Kind};
use rockpool_proto::{DeviceId, PoolId};

use super::presence::Absence;
use super::room::{Claim, EndReason, Standing};
use super::tree::{Address, Path};
use crate::services::convert::id;
use crate::services::model::Member;

fn message(kind: Kind) -> wire::FromCluster {
    wire::FromCluster { kind: Some(kind) }
}

/// A device's line in the roster.
pub fn roster_node(device: DeviceId, standing: &Standing<'_>, lease_epoch: u64) -> wire::RosterNode {
    wire::RosterNode {
        device_id: id(device.as_bytes()),
        presence_epoch: standing.presence_epoch,
        place: Some(wire::Place {
            path: Bytes::copy_from_slice(standing.seated.address.path.slots()),
            seat: standing.seated.address.seat.into(),
            join_number: standing.seated.join_number,
            lease_epoch,
        }),
        placement_number: standing.seated.placement_number,
    }
}

/// The whole table.
pub fn roster(pool: PoolId, lease_epoch: u64, sequence: u64, nodes: Vec<wire::RosterNode>) -> wire::Roster {
    wire::Roster { pool_id: id(pool.as_bytes()), lease_epoch, sequence, nodes }
}

/// The first message down.
pub fn welcome<'a>(
    presence_epoch: u64,
    roster: wire::Roster,
    members: impl Iterator<Item = &'a Member>,
) -> wire::FromCluster {
    let members = members.cloned().map(Into::into).collect();
    message(Kind::Welcome(wire::Welcome { presence_epoch, roster: Some(roster), members, absence: None }))
}

/// What a device missed, for its Welcome.
pub fn absence(absence: Absence) -> wire::Absence {
    wire::Absence { since_us: absence.since_us.unwrap_or(0), others_were_here: absence.others_were_here }
}

/// Somebody sat down.
pub fn joined(lease_epoch: u64, sequence: u64, node: wire::RosterNode) -> wire::FromCluster {
    message(Kind::Roster(wire::RosterEvent { lease_epoch, sequence, joined: Some(node), ..Default::default() }))
}

/// Somebody left, and somebody may have moved up.
pub fn removed(lease_epoch: u64, sequence: u64, device: DeviceId, moved: Vec<wire::RosterNode>) -> wire::FromCluster {
    let removed_device_id = id(device.as_bytes());
    message(Kind::Roster(wire::RosterEvent { lease_epoch, sequence, removed_device_id, moved, ..Default::default() }))
}

/// The table anew.
pub fn whole(roster: wire::Roster) -> wire::FromCluster {
    let (lease_epoch, sequence) = (roster.lease_epoch, roster.sequence);
    message(Kind::Roster(wire::RosterEvent { lease_epoch, sequence, whole: Some(roster), ..Default::default() }))
}

/// A signal on its way down.
pub fn signal(from: DeviceId, to: DeviceId, payload: Bytes) -> wire::FromCluster {
    message(Kind::Signal(wire::Signal {
        from_device_id: id(from.as_bytes()),
        to_device_id: id(to.as_bytes()),
        payload,
    }))
}

/// The answer to a ping.
pub fn pong(nonce: u64) -> wire::FromCluster {
    message(Kind::Pong(wire::Pong { nonce }))
}

/// A member that is new or changed.
pub fn member(member: &Member) -> wire::FromCluster {
    message(Kind::Member(member.clone().into()))
}

/// Somebody who is no member any more: the role says so.
pub fn former_member(member: &Member) -> wire::FromCluster {
    let member = wire::Member { role: wire::Role::Unspecified.into(), ..member.clone().into() };
    message(Kind::Member(member))
}

/// The last message of a stream.
pub fn ended(reason: EndReason, text: &str) -> wire::FromCluster {
    message(Kind::Ended(wire::Ended { reason: wire::ended::Reason::from(reason).into(), text: text.to_owned() }))
}

impl From<EndReason> for wire::ended::Reason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Unspecified => Self::Unspecified,
            EndReason::Fenced => Self::Fenced,
            EndReason::Revoked => Self::Revoked,
            EndReason::Left => Self::Left,
            EndReason::Moved => Self::Moved,
            EndReason::Expired => Self::Expired,
        }
    }
}

impl From<wire::ended::Reason> for EndReason {
    fn from(reason: wire::ended::Reason) -> Self {
        match reason {
            wire::ended::Reason::Unspecified => Self::Unspecified,
            wire::ended::Reason::Fenced => Self::Fenced,
            wire::ended::Reason::Revoked => Self::Revoked,
            wire::ended::Reason::Left => Self::Left,
            wire::ended::Reason::Moved => Self::Moved,
            wire::ended::Reason::Expired => Self::Expired,
        }
    }
}

/// Where a device says that it sat; a malformed claim is no claim.
pub fn claim(place: Option<&wire::Place>) -> Option<Claim> {
    let place = place?;
    let address = Address { path: Path::from_slots(&place.path)?, seat: u8::try_from(place.seat).ok()? };
    Some(Claim { address, join_number: place.join_number, lease_epoch: place.lease_epoch })
}
