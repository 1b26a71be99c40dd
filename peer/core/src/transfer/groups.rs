//! Ranges and sets of chunk groups.

use std::fmt;

use super::tree::{BLOCK_GROUPS, group_count};

/// `count` groups from `first` on, of one file. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupRange {
    /// The first group.
    pub first: u64,
    /// How many.
    pub count: u32,
}

impl GroupRange {
    /// The first group behind it.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

impl fmt::Debug for GroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..{})", self.first, self.end())
    }
}

/// A set of groups of one file, as disjoint ranges in order: what is on disk already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSet {
    /// (first, end), ascending, not touching.
    ranges: Vec<(u64, u64)>,
}

impl GroupSet {
    /// Nothing.
    pub fn new() -> GroupSet {
        GroupSet::default()
    }

    /// Every group of a file of that size.
    pub fn whole(size_bytes: u64) -> GroupSet {
        GroupSet { ranges: vec![(0, group_count(size_bytes))] }
    }

    /// Adds a range.
    pub fn insert(&mut self, range: GroupRange) {
        let (mut first, mut end) = (range.first, range.end());
        let from = self.ranges.partition_point(|known| known.1 < first);
        let to = self.ranges.partition_point(|known| known.0 <= end);
        if from < to {
            first = first.min(self.ranges[from].0);
            end = end.max(self.ranges[to - 1].1);
        }
        self.ranges.splice(from..to, [(first, end)]);
    }

    /// Whether the group is in.
    pub fn contains(&self, group: u64) -> bool {
        let at = self.ranges.partition_point(|known| known.1 <= group);
        self.ranges.get(at).is_some_and(|known| known.0 <= group)
    }

    /// How many groups are in.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, end)| end - first).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, in order, as (first, end).
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether all groups of a file of that size are in.
    pub fn is_whole(&self, size_bytes: u64) -> bool {
        self.ranges == [(0, group_count(size_bytes))]
    }

    /// The first missing range at or after `from` in a file of `groups` groups, cut at the end of its block.
    pub fn next_missing(&self, from: u64, groups: u64) -> Option<GroupRange> {
        let at = self.ranges.partition_point(|known| known.1 <= from);
        let (first, next) = match self.ranges.get(at) {
            Some((first, end)) if *first <= from => (*end, self.ranges.get(at + 1).map(|known| known.0)),
            known => (from, known.map(|known| known.0)),
        };
        if first >= groups {
            return None;
        }
        let block_end = (first / BLOCK_GROUPS + 1) * BLOCK_GROUPS;
        let end = next.unwrap_or(groups).min(groups).min(block_end);
        Some(GroupRange { first, count: u32::try_from(end - first).expect("a block has few groups") })
    }

    /// Bytes of the groups in the set, in a file of that size.
    pub fn bytes(&self, size_bytes: u64) -> u64 {
        let group = super::tree::GROUP_BYTES as u64;
        self.ranges.iter().map(|(first, end)| (end * group).min(size_bytes).saturating_sub(first * group)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u32)]) -> GroupSet {
        let mut set = GroupSet::new();
        ranges.iter().for_each(|&(first, count)| set.insert(GroupRange { first, count }));
        set
    }

    #[test]
    fn ranges_merge_when_they_touch_or_overlap() {
        assert_eq!(set(&[(4, 2), (0, 2)]).ranges(), [(0, 2), (4, 6)]);
        assert_eq!(set(&[(4, 2), (0, 2), (2, 2)]).ranges(), [(0, 6)]);
        assert_eq!(set(&[(0, 10), (3, 2)]).ranges(), [(0, 10)]);
        assert_eq!(set(&[(0, 2), (4, 2), (8, 2), (1, 8)]).ranges(), [(0, 10)]);
    }

    #[test]
    fn missing_ranges_stop_at_what_is_there_and_at_blocks() {
        let have = set(&[(2, 3), (60, 4)]);
        assert_eq!(have.next_missing(0, 100), Some(GroupRange { first: 0, count: 2 }));
        assert_eq!(have.next_missing(2, 100), Some(GroupRange { first: 5, count: 55 }));
        assert_eq!(have.next_missing(60, 100), Some(GroupRange { first: 64, count: 36 }));
        assert_eq!(have.next_missing(5, 7), Some(GroupRange { first: 5, count: 2 }));
        assert_eq!(set(&[(0, 7)]).next_missing(0, 7), None);
        assert_eq!(set(&[]).next_missing(0, 200), Some(GroupRange { first: 0, count: 64 }));
    }

    #[test]
    fn bytes_count_a_short_last_group() {
        assert_eq!(set(&[(0, 2)]).bytes(16384 + 5), 16384 + 5);
        assert_eq!(set(&[(1, 1)]).bytes(16384 + 5), 5);
        assert!(GroupSet::whole(0).is_whole(0));
    }
}
