//! Which devices link to which, and where a broadcast goes.
//!
//! The full mesh: every two devices link, so a broadcast is one send to each and nothing is relayed. It serves
//! `FULL_MESH_DEVICES_MAX` devices, those seated first; the tree of the owners (`Place`) will take its place behind the same
//! questions.

use rockpool_proto::DeviceId;
use rockpool_proto::limits::FULL_MESH_DEVICES_MAX;

use crate::roster::Roster;

/// Which end of a link sends the SDP offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This one.
    Offers,
    /// The other one.
    Answers,
}

/// A link that ought to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedLink {
    /// The other end.
    pub device: DeviceId,
    /// The other end's presence.
    pub presence_epoch: u64,
    /// Our part.
    pub role: Role,
}

/// The shape of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overlay {
    /// Everybody links to everybody.
    #[default]
    FullMesh,
}

impl Overlay {
    /// The links that `me` should have. None if `me` isn't in the roster or was seated beyond the limit.
    pub fn wanted_links(self, roster: &Roster, me: DeviceId) -> Vec<WantedLink> {
        let mut nodes: Vec<_> = roster.nodes().collect();
        nodes.sort_by_key(|node| (node.placement_number, node.device));
        nodes.truncate(FULL_MESH_DEVICES_MAX);
        let Some(place) = nodes.iter().position(|node| node.device == me) else { return Vec::new() };
        let role = |other: usize| if place > other { Role::Offers } else { Role::Answers };
        let others = nodes.iter().enumerate().filter(|(at, _)| *at != place);
        others
            .map(|(at, node)| WantedLink { device: node.device, presence_epoch: node.presence_epoch, role: role(at) })
            .collect()
    }

    /// To which of the standing links a package goes on that came over `from`, or that we made.
    pub fn broadcast_targets(self, links: impl IntoIterator<Item = DeviceId>, from: Option<DeviceId>) -> Vec<DeviceId> {
        match from {
            None => links.into_iter().collect(),
            // In a mesh its author has sent it to everybody.
            Some(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::RosterNode;

    fn roster(count: u8) -> Roster {
        let node = |id: u8| RosterNode {
            device: DeviceId([id; 16]),
            presence_epoch: u64::from(id),
            placement_number: u64::from(100 - id),
        };
        Roster::new(1, 1, (0..count).map(node))
    }

    #[test]
    fn both_ends_want_the_same_links_and_exactly_one_offers() {
        for count in 0..12 {
            let roster = roster(count);
            for one in 0..count {
                for other in 0..count {
                    let find = |me: u8, device: u8| {
                        let wanted = Overlay::FullMesh.wanted_links(&roster, DeviceId([me; 16]));
                        wanted.into_iter().find(|link| link.device == DeviceId([device; 16])).map(|link| link.role)
                    };
                    let (here, there) = (find(one, other), find(other, one));
                    assert_eq!(here.is_some(), there.is_some());
                    assert!(here.is_none() || here != there);
                    assert_eq!(here == Some(Role::Offers), here.is_some() && one < other, "the later seated offers");
                }
            }
        }
    }

    #[test]
    fn a_mesh_is_bounded() {
        let wanted = |id: u8| Overlay::FullMesh.wanted_links(&roster(12), DeviceId([id; 16])).len();
        assert_eq!((wanted(11), wanted(4), wanted(3), wanted(0)), (7, 7, 0, 0));
        assert_eq!(Overlay::FullMesh.wanted_links(&roster(3), DeviceId([77; 16])), []);
    }
}
