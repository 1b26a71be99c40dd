//! The tree of a pool: who sits where.
//!
//! A *panel* has three seats and a *path*: one slot from the centre panel (0, 1 or 2) and one slot (0 or 1) for each
//! level below. The two panels `P+0` and `P+1` hang under panel `P` and form, with `P` as their connector, a *cluster*;
//! the three centre panels form the centre cluster.
//!
//! ```text
//!                 [0]-------[1]-------[2]          level 1, one cluster of 9 seats
//!                / | \     / | \     / | \
//!            [0,0]-[0,1]  ...       [2,0]-[2,1]    level 2, three clusters of 6 own seats each
//! ```
//!
//! A joiner takes a seat on the first level that has one and moves nobody. A leaver's hole is filled from below, seat by
//! seat, so that a *settled* tree has nobody below a panel with a free seat (fullness). A tree that is being rebuilt from
//! claims is not settled until [`Tree::settle`]: until then a hole stays a hole.
//!
//! Levels exist as soon as somebody sits on them and vanish with the last: an empty deepest level changes no decision.

use std::collections::BTreeMap;
use std::fmt;

use rockpool_proto::DeviceId;
use rockpool_proto::limits::OVERLAY_PATH_SLOTS_MAX;

/// Seats in a panel.
pub const SEATS: u8 = 3;

/// Slots from the centre to a panel. Never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<u8>);

impl Path {
    /// A centre panel.
    fn centre(slot: u8) -> Self {
        Self(vec![slot])
    }

    /// A path from outside; `None` when it is not one.
    pub fn from_slots(slots: &[u8]) -> Option<Self> {
        let (first, rest) = slots.split_first()?;
        let well_formed = *first < 3 && rest.iter().all(|slot| *slot < 2) && slots.len() <= OVERLAY_PATH_SLOTS_MAX;
        well_formed.then(|| Self(slots.to_vec()))
    }

    /// The slots from the centre.
    pub fn slots(&self) -> &[u8] {
        &self.0
    }

    /// The panel that hangs in slot 0 or 1 of this panel's child cluster.
    fn child(&self, slot: u8) -> Self {
        let mut slots = self.0.clone();
        slots.push(slot);
        Self(slots)
    }

    /// The panel from which this one hangs; none for a centre panel.
    fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        (!above.is_empty()).then(|| Self(above.to_vec()))
    }

    /// Depth, 1 for the centre.
    fn level(&self) -> usize {
        self.0.len()
    }

    fn starts_with(&self, above: &Path) -> bool {
        self.0.starts_with(&above.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// One seat of one panel, unique in a pool.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The panel.
    pub path: Path,
    /// 0, 1 or 2.
    pub seat: u8,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.seat)
    }
}

/// Where a device sits and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// The seat.
    pub address: Address,
    /// Given at joining, kept through promotion.
    pub join_number: u64,
    /// Given at every seating.
    pub placement_number: u64,
}

type Panel = [Option<DeviceId>; SEATS as usize];

/// Who sits where.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<DeviceId, Seated>,
    /// Panels with somebody in them.
    panels: BTreeMap<Path, Panel>,
    last_join: u64,
    last_placement: u64,
}

impl Tree {
    /// Every device's seat.
    pub fn nodes(&self) -> &BTreeMap<DeviceId, Seated> {
        &self.nodes
    }

    /// Seats a device by section 3. Its own seat, when it has one already.
    pub fn join(&mut self, device: DeviceId) -> Option<&Seated> {
        if !self.nodes.contains_key(&device) {
            let address = self.place()?;
            self.last_join += 1;
            self.seat(device, address, self.last_join);
        }
        self.nodes.get(&device)
    }

    /// Seats a device where it says that it sat before, if that seat is free and, unless the tree is being `gathered`
    /// from claims, may be taken in a settled tree. False: place it as a joiner.
    pub fn reclaim(&mut self, device: DeviceId, address: Address, join_number: u64, gathering: bool) -> bool {
        let free = address.seat < SEATS && self.at(&address).is_none() && !self.nodes.contains_key(&device);
        let supported = gathering || address.path.parent().is_none_or(|parent| self.seated_in(&parent) == SEATS);
        if !free || !supported {
            return false;
        }
        // A number somebody else holds, or one that leaves none for those who follow, is not believed.
        let usable = join_number > 0
            && join_number < u64::MAX / 2
            && self.nodes.values().all(|seated| seated.join_number != join_number);
        let join_number = if usable { join_number } else { self.last_join + 1 };
        self.last_join = self.last_join.max(join_number);
        self.seat(device, address, join_number);
        true
    }

    /// Takes a device out and closes the hole by section 4: the devices that moved, first the one that moved highest.
    /// While the tree is being gathered the hole stays.
    pub fn remove(&mut self, device: DeviceId, gathering: bool) -> Vec<DeviceId> {
        let Some(address) = self.unseat(device) else { return Vec::new() };
        if gathering { Vec::new() } else { self.fill(address) }
    }

    /// Fills every free seat that has somebody below, from the deepest panels up: the end of gathering. True when
    /// somebody moved.
    pub fn settle(&mut self) -> bool {
        let mut above: Vec<Path> = self.panels.keys().flat_map(ancestors).collect();
        above.sort_by(|a, b| b.level().cmp(&a.level()).then_with(|| a.cmp(b)));
        above.dedup();
        let mut moved = false;
        for path in above {
            for seat in 0..SEATS {
                let hole = Address { path: path.clone(), seat };
                if self.at(&hole).is_none() {
                    moved |= !self.fill(hole).is_empty();
                }
            }
        }
        moved
    }

    /// The address for a joiner; none when the deepest level allowed is full.
    fn place(&self) -> Option<Address> {
        let mut clusters = vec![vec![Path::centre(0), Path::centre(1), Path::centre(2)]];
        for _ in 0..OVERLAY_PATH_SLOTS_MAX {
            // `min_by_key` keeps the first of equals, and the model wants the last cluster in path order.
            let fewest = clusters.iter().rev().min_by_key(|cluster| self.seated_in_all(cluster))?;
            if self.seated_in_all(fewest) < fewest.len() * usize::from(SEATS) {
                let panel = fewest.iter().rev().min_by_key(|panel| self.seated_in(panel))?;
                let seat = (0..SEATS).find(|seat| self.at(&Address { path: panel.clone(), seat: *seat }).is_none())?;
                return Some(Address { path: panel.clone(), seat });
            }
            clusters = clusters.iter().flatten().map(|panel| vec![panel.child(0), panel.child(1)]).collect();
        }
        None
    }

    /// Closes the hole at `hole` and those that this opens below.
    fn fill(&mut self, mut hole: Address) -> Vec<DeviceId> {
        let mut moved = Vec::new();
        while let Some(device) = self.successor(&hole) {
            let Some(seated) = self.nodes.get(&device) else { break };
            let (from, join_number) = (seated.address.clone(), seated.join_number);
            self.unseat(device);
            self.seat(device, hole, join_number);
            moved.push(device);
            hole = from;
        }
        moved
    }

    /// Who moves up into `hole`: step 3 of section 4.
    fn successor(&self, hole: &Address) -> Option<DeviceId> {
        let (a, b) = (hole.path.child(0), hole.path.child(1));
        let below = |path: &Path| self.at(&Address { path: path.clone(), seat: hole.seat });
        match (below(&a), below(&b)) {
            (Some(in_a), Some(in_b)) => {
                let by_size = self.subtree_size(&a).cmp(&self.subtree_size(&b));
                let later = by_size.then_with(|| self.join_number(in_a).cmp(&self.join_number(in_b)));
                Some(if later.is_gt() { in_a } else { in_b })
            }
            (Some(only), None) | (None, Some(only)) => Some(only),
            (None, None) => {
                let seated = [&a, &b].into_iter().filter_map(|path| self.panels.get(path)).flatten().flatten();
                seated.copied().max_by_key(|device| self.join_number(*device))
            }
        }
    }

    fn join_number(&self, device: DeviceId) -> u64 {
        self.nodes.get(&device).map_or(0, |seated| seated.join_number)
    }

    fn at(&self, address: &Address) -> Option<DeviceId> {
        self.panels.get(&address.path).and_then(|panel| panel.get(usize::from(address.seat)).copied().flatten())
    }

    fn seated_in(&self, path: &Path) -> u8 {
        self.panels.get(path).map_or(0, |panel| panel.iter().flatten().count() as u8)
    }

    fn seated_in_all(&self, cluster: &[Path]) -> usize {
        cluster.iter().map(|path| usize::from(self.seated_in(path))).sum()
    }

    fn subtree_size(&self, root: &Path) -> usize {
        let below = self.panels.range(root.clone()..).take_while(|(path, _)| path.starts_with(root));
        below.map(|(_, panel)| panel.iter().flatten().count()).sum()
    }

    fn seat(&mut self, device: DeviceId, address: Address, join_number: u64) {
        self.last_placement += 1;
        let panel = self.panels.entry(address.path.clone()).or_default();
        assert!(panel[usize::from(address.seat)].is_none(), "nobody is seated on somebody else's seat");
        panel[usize::from(address.seat)] = Some(device);
        let seated = Seated { address, join_number, placement_number: self.last_placement };
        self.nodes.insert(device, seated);
    }

    fn unseat(&mut self, device: DeviceId) -> Option<Address> {
        let Seated { address, .. } = self.nodes.remove(&device)?;
        if let Some(panel) = self.panels.get_mut(&address.path) {
            panel[usize::from(address.seat)] = None;
            if panel.iter().all(Option::is_none) {
                self.panels.remove(&address.path);
            }
        }
        Some(address)
    }
}

/// The panels from which `path` hangs, nearest first.
fn ancestors(path: &Path) -> Vec<Path> {
    std::iter::successors(path.parent(), Path::parent).collect()
}

#[cfg(test)]
mod tests {
    use super::super::draws::Draws;
    use super::*;

    fn device(number: u64) -> DeviceId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        DeviceId(bytes)
    }

    fn address(slots: &[u8], seat: u8) -> Address {
        Address { path: Path::from_slots(slots).expect("a test's path is well formed"), seat }
    }

    /// A tree that nodes 1 to `count` joined.
    fn grown(count: u64) -> Tree {
        let mut tree = Tree::default();
        (1..=count).for_each(|number| assert!(tree.join(device(number)).is_some()));
        tree
    }

    fn sits(tree: &Tree, number: u64) -> Address {
        tree.nodes()[&device(number)].address.clone()
    }

    /// P1: paths are well formed and everybody has one seat. P2: nobody hangs below a panel with a free seat.
    fn check(tree: &Tree) {
        let mut seats = 0;
        for (path, panel) in &tree.panels {
            assert_eq!(Path::from_slots(path.slots()).as_ref(), Some(path), "P1: paths are well formed");
            for (seat, device) in panel.iter().enumerate().filter_map(|(seat, device)| device.map(|d| (seat, d))) {
                assert_eq!(tree.nodes[&device].address, Address { path: path.clone(), seat: seat as u8 }, "P1: roster");
                seats += 1;
            }
            for above in ancestors(path) {
                assert_eq!(tree.seated_in(&above), SEATS, "P2: {path:?} hangs below {above:?}, which has a free seat");
            }
        }
        assert_eq!(seats, tree.nodes.len(), "P1: everybody has one seat");
        let mut joins: Vec<u64> = tree.nodes.values().map(|seated| seated.join_number).collect();
        joins.sort_unstable();
        assert!(joins.windows(2).all(|pair| pair[0] < pair[1]), "join numbers are unique");
    }

    #[test]
    fn joiners_sit_where_the_model_says() {
        let vectors: [(u64, &[u8], u8); 25] = [
            (1, &[2], 0),
            (4, &[2], 1),
            (7, &[2], 2),
            (2, &[1], 0),
            (5, &[1], 1),
            (8, &[1], 2),
            (3, &[0], 0),
            (6, &[0], 1),
            (9, &[0], 2),
            (10, &[2, 1], 0),
            (11, &[1, 1], 0),
            (12, &[0, 1], 0),
            (13, &[2, 0], 0),
            (14, &[1, 0], 0),
            (15, &[0, 0], 0),
            (16, &[2, 1], 1),
            (27, &[0, 0], 2),
            (28, &[2, 1, 1], 0),
            (29, &[2, 0, 1], 0),
            (63, &[0, 0, 0], 2),
            (64, &[2, 1, 1, 1], 0),
            (135, &[0, 0, 0, 0], 2),
            (136, &[2, 1, 1, 1, 1], 0),
            (279, &[0, 0, 0, 0, 0], 2),
            (280, &[2, 1, 1, 1, 1, 1], 0),
        ];
        let tree = grown(600);
        check(&tree);
        for (number, slots, seat) in vectors {
            assert_eq!(sits(&tree, number), address(slots, seat), "joiner {number}");
        }
        // At every size the tree is settled and a join has moved nobody (P6).
        let mut growing = Tree::default();
        for number in 1..=300 {
            let before = growing.nodes.clone();
            growing.join(device(number));
            check(&growing);
            assert!(before.iter().all(|(device, seated)| &growing.nodes[device] == seated));
        }
    }

    #[test]
    fn holes_are_filled_as_the_model_says() {
        let mut tree = grown(12);
        assert_eq!(tree.remove(device(9), false), [device(12)], "cross-seat");
        assert_eq!(sits(&tree, 12), address(&[0], 2));

        let mut tree = grown(20);
        assert_eq!(tree.remove(device(4), false), [device(19)]);
        assert_eq!(sits(&tree, 19), address(&[2], 1));

        let mut tree = grown(27);
        assert_eq!(tree.remove(device(1), false), [device(13)], "equal sizes, later join");
        assert_eq!(sits(&tree, 13), address(&[2], 0));

        let mut tree = grown(64);
        assert_eq!(tree.remove(device(1), false), [device(10), device(28), device(64)]);
        assert_eq!(sits(&tree, 10), address(&[2], 0));
        assert_eq!(sits(&tree, 28), address(&[2, 1], 0));
        assert_eq!(sits(&tree, 64), address(&[2, 1, 1], 0));

        let mut tree = grown(9);
        assert!(tree.remove(device(1), false).is_empty() && tree.remove(device(4), false).is_empty());
        assert_eq!(sits(&tree, 7), address(&[2], 2), "a lone panel member stays where it is");
    }

    #[test]
    fn random_joins_and_leaves_keep_the_properties() {
        for seed in 0..60 {
            let mut draws = Draws(seed);
            let (mut tree, mut next, mut replay) = (Tree::default(), 1, Tree::default());
            let target = 1 + draws.below(140);
            for _ in 0..300 {
                if tree.nodes.is_empty() || draws.below(2 * target) >= tree.nodes.len() as u64 {
                    let before = tree.nodes.clone();
                    tree.join(device(next));
                    replay.join(device(next));
                    next += 1;
                    assert!(before.iter().all(|(d, seated)| &tree.nodes[d] == seated), "P6: a join moves nobody");
                } else {
                    let nth = draws.below(tree.nodes.len() as u64) as usize;
                    let leaver = *tree.nodes.keys().nth(nth).expect("nth is below the length");
                    let level = tree.nodes[&leaver].address.path.level();
                    let depth = tree.panels.keys().map(Path::level).max().unwrap_or(0);
                    let moved = tree.remove(leaver, false);
                    replay.remove(leaver, false);
                    assert!(moved.len() <= depth - level, "P6: seed {seed}: one device per level below the leaver");
                }
                check(&tree);
                assert_eq!(tree.nodes, replay.nodes, "P11: same events, same tree");
            }
        }
    }

    #[test]
    fn claims_rebuild_a_tree_and_settling_repairs_what_is_missing() {
        for seed in 0..60 {
            let mut draws = Draws(seed);
            let mut old = grown(1 + draws.below(140));
            for _ in 0..draws.below(20) {
                let nth = draws.below(old.nodes.len() as u64) as usize;
                let leaver = *old.nodes.keys().nth(nth).expect("nth is below the length");
                if old.nodes.len() > 1 {
                    old.remove(leaver, false);
                }
            }
            let mut claims: Vec<_> = old.nodes.iter().map(|(device, seated)| (*device, seated.clone())).collect();
            claims.sort_by_cached_key(|_| draws.below(u64::MAX));
            claims.truncate((claims.len() * 4 / 5).max(1));
            let mut tree = Tree::default();
            for (device, seated) in &claims {
                assert!(tree.reclaim(*device, seated.address.clone(), seated.join_number, true), "seed {seed}");
                assert_eq!(tree.nodes[device].join_number, seated.join_number);
            }
            tree.settle();
            check(&tree);
            assert_eq!(tree.nodes.len(), claims.len());
            tree.join(device(10_000));
            check(&tree);
        }
    }

    #[test]
    fn a_claim_that_would_break_the_tree_is_placed_like_a_joiner() {
        let mut tree = grown(3);
        let taken = sits(&tree, 1);
        assert!(!tree.reclaim(device(9), taken, 9, true), "taken");
        assert!(!tree.reclaim(device(9), address(&[2, 0], 0), 9, false), "hangs below a panel that is not full");
        assert!(!tree.reclaim(device(9), Address { path: Path::centre(0), seat: 3 }, 9, true), "no such seat");
        assert!(tree.reclaim(device(9), address(&[0], 2), u64::MAX, false), "a free seat in the centre");
        assert_eq!(tree.nodes[&device(9)].join_number, 4, "a join number that leaves none for others is not believed");
        assert!(tree.reclaim(device(8), address(&[1, 0, 1, 0, 1, 1], 2), 2, true), "gathering believes");
        tree.settle();
        check(&tree);
    }

    #[test]
    fn paths_from_outside_are_checked() {
        for bad in [&[][..], &[3], &[0, 2], &[255, 0], &[0; 17]] {
            assert_eq!(Path::from_slots(bad), None, "{bad:?}");
        }
        assert!(Path::from_slots(&[2, 1, 0, 1]).is_some() && Path::from_slots(&[1; 16]).is_some());
    }
}
