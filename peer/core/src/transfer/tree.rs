//! The hash tree over a file: group hashes, the outboard, proofs of ranges, and checking what arrives.
//!
//! ```text
//!                      root                        A node covers `count` groups from `start` on. Its left half is the
//!                    /      \                      largest power of two below `count` (BLAKE3's rule); a single group
//!              [0..4)        [4..7)                is a leaf.
//!             /     \        /    \
//!        [0..2)  [2..4)  [4..6)   [6]              Proof of [2..3): walk down from the root; what lies aside gives its
//!        /  \     /  \    /  \                     hash, in order: [0..2) 2 3 [4..7). The receiver walks the same way,
//!       0    1   2    3  4    5                    takes the hashes, and merges them up to the root.
//! ```
//!
//! A proof of a whole block is 64 group hashes and about two for each level above: 0.3 % of the data.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::{Bytes, BytesMut};

use super::bulk::{self, BulkHeader, BulkKind};
use super::{GroupRange, ReadFailure, ReadRange, Root, StoreFailure, StorePiece};

/// Bytes in a chunk group.
pub const GROUP_BYTES: usize = 16 * 1024;
/// Groups in a block, the unit of requests and proofs: 1 MiB.
pub const BLOCK_GROUPS: u64 = 64;
/// Bytes in a hash.
pub const HASH_BYTES: usize = 32;

/// The hash of a subtree that is not the root.
pub type GroupHash = [u8; HASH_BYTES];

/// Groups in a file of that size; an empty file has one, empty group.
pub fn group_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(GROUP_BYTES as u64).max(1)
}

/// Bytes of a range of groups in a file of that size.
pub fn range_bytes(range: GroupRange, size_bytes: u64) -> u64 {
    let group = GROUP_BYTES as u64;
    (range.end() * group).min(size_bytes).saturating_sub(range.first * group)
}

/// Whether the range lies inside of the file and within one block.
pub fn is_block_range(range: GroupRange, size_bytes: u64) -> bool {
    range.count > 0
        && range.first.checked_add(u64::from(range.count)).is_some_and(|end| end <= group_count(size_bytes))
        && range.first / BLOCK_GROUPS == (range.end() - 1) / BLOCK_GROUPS
}

/// The hash of one group: of the file itself where it has no other group.
fn group_hash(group: u64, groups: u64, data: &[u8]) -> GroupHash {
    if groups == 1 {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(group * GROUP_BYTES as u64);
    hasher.update(data);
    hasher.finalize_non_root()
}

/// Groups in the left half of a node.
fn left_count(count: u64) -> u64 {
    debug_assert!(count > 1);
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

fn merge(left: &GroupHash, right: &GroupHash) -> GroupHash {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

/// The group hashes of a file, with the hashes of whole blocks and what is above them.
///
/// The part to keep on disk is [`Outboard::group_hashes`]: 32 bytes for each 16 KiB, at `32 * group`, so a download
/// fills it in any order.
#[derive(Clone, Debug)]
pub struct Outboard {
    size_bytes: u64,
    root: Root,
    hashes: Bytes,
    /// `levels[k][i]` is the node of `64 << k` groups from `i * (64 << k)` on. Complete nodes only.
    levels: Vec<Vec<GroupHash>>,
}

/// A file's group hashes don't lead to its root: the outboard is damaged or of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the group hashes don't lead to the root")]
pub struct BadOutboard;

impl Outboard {
    /// From group hashes kept earlier.
    pub fn new(size_bytes: u64, root: Root, hashes: Bytes) -> Result<Outboard, BadOutboard> {
        let outboard = Outboard::computed(size_bytes, hashes).ok_or(BadOutboard)?;
        if outboard.root == root { Ok(outboard) } else { Err(BadOutboard) }
    }

    fn computed(size_bytes: u64, hashes: Bytes) -> Option<Outboard> {
        let groups = group_count(size_bytes);
        if hashes.len() as u64 != groups.checked_mul(HASH_BYTES as u64)? {
            return None;
        }
        let mut outboard = Outboard { size_bytes, root: Root([0; 32]), hashes, levels: Vec::new() };
        let blocks = groups / BLOCK_GROUPS;
        let mut level: Vec<GroupHash> =
            (0..blocks).map(|block| outboard.node(block * BLOCK_GROUPS, BLOCK_GROUPS)).collect();
        while !level.is_empty() {
            let next = level.chunks_exact(2).map(|pair| merge(&pair[0], &pair[1])).collect();
            outboard.levels.push(std::mem::replace(&mut level, next));
        }
        outboard.root = Root(match groups {
            1 => outboard.leaf(0),
            _ => {
                let left = left_count(groups);
                let (left, right) = (outboard.node(0, left), outboard.node(left, groups - left));
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            }
        });
        Some(outboard)
    }

    /// The file's root.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The file's size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What to keep on disk.
    pub fn group_hashes(&self) -> &Bytes {
        &self.hashes
    }

    fn leaf(&self, group: u64) -> GroupHash {
        let at = usize::try_from(group).expect("as many groups as hashes in memory") * HASH_BYTES;
        self.hashes[at..at + HASH_BYTES].try_into().expect("a hash's length")
    }

    fn node(&self, start: u64, count: u64) -> GroupHash {
        if count == 1 {
            return self.leaf(start);
        }
        if count.is_power_of_two() && count >= BLOCK_GROUPS {
            let level = (count / BLOCK_GROUPS).trailing_zeros() as usize;
            if let Some(known) = self.levels.get(level).and_then(|level| level.get((start / count) as usize)) {
                return *known;
            }
        }
        let left = left_count(count);
        merge(&self.node(start, left), &self.node(start + left, count - left))
    }

    /// The hashes that show that the range's groups belong to the root. `None` for a range outside of the file.
    pub fn proof(&self, range: GroupRange) -> Option<Vec<GroupHash>> {
        if !is_block_range(range, self.size_bytes) {
            return None;
        }
        let mut proof = Vec::with_capacity(range.count as usize + 64);
        self.prove(0, group_count(self.size_bytes), range, &mut proof);
        Some(proof)
    }

    fn prove(&self, start: u64, count: u64, range: GroupRange, proof: &mut Vec<GroupHash>) {
        if count == 1 || range.end() <= start || start + count <= range.first {
            return proof.push(self.node(start, count));
        }
        let left = left_count(count);
        self.prove(start, left, range, proof);
        self.prove(start + left, count - left, range, proof);
    }
}

/// Takes a file's bytes in order and makes its outboard.
#[derive(Debug, Default)]
pub struct OutboardBuilder {
    hashes: BytesMut,
    /// Of the group that is not complete yet.
    partial: Vec<u8>,
    size_bytes: u64,
    /// The first group, kept because a file of one group is hashed otherwise.
    first: Vec<u8>,
}

impl OutboardBuilder {
    /// For a new file.
    pub fn new() -> OutboardBuilder {
        OutboardBuilder::default()
    }

    /// Takes the next bytes; fastest in pieces of whole groups.
    pub fn update(&mut self, mut data: &[u8]) {
        self.size_bytes += data.len() as u64;
        if !self.partial.is_empty() {
            let taken = data.len().min(GROUP_BYTES - self.partial.len());
            self.partial.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            if self.partial.len() < GROUP_BYTES {
                return;
            }
            let partial = std::mem::take(&mut self.partial);
            self.push(&partial);
        }
        let mut groups = data.chunks_exact(GROUP_BYTES);
        for group in &mut groups {
            self.push(group);
        }
        self.partial.extend_from_slice(groups.remainder());
    }

    fn push(&mut self, group: &[u8]) {
        let at = (self.hashes.len() / HASH_BYTES) as u64;
        if at == 0 {
            self.first = group.to_vec();
        }
        self.hashes.extend_from_slice(&group_hash(at, 2, group));
    }

    /// The outboard of all that was taken.
    pub fn finish(mut self) -> Outboard {
        if self.size_bytes <= GROUP_BYTES as u64 {
            let only = if self.hashes.is_empty() { &self.partial } else { &self.first };
            self.hashes = BytesMut::from(&group_hash(0, 1, only)[..]);
        } else if !self.partial.is_empty() {
            let partial = std::mem::take(&mut self.partial);
            self.push(&partial);
        }
        Outboard::computed(self.size_bytes, self.hashes.freeze()).expect("one hash was pushed for each group")
    }
}

/// Checks a proof against the root; gives the hashes of the range's groups, now to be trusted.
pub fn check_proof(root: Root, size_bytes: u64, range: GroupRange, proof: &[u8]) -> Option<Vec<GroupHash>> {
    if !is_block_range(range, size_bytes) || !proof.len().is_multiple_of(HASH_BYTES) {
        return None;
    }
    let groups = group_count(size_bytes);
    let mut walk = ProofWalk { range, proof: proof.chunks_exact(HASH_BYTES), found: Vec::new() };
    let computed = match groups {
        1 => walk.node(0, 1)?,
        _ => {
            let left = left_count(groups);
            let (left, right) = (walk.node(0, left)?, walk.node(left, groups - left)?);
            *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
        }
    };
    (computed == root.0 && walk.proof.next().is_none()).then_some(walk.found)
}

struct ProofWalk<'a> {
    range: GroupRange,
    proof: std::slice::ChunksExact<'a, u8>,
    found: Vec<GroupHash>,
}

impl ProofWalk<'_> {
    fn node(&mut self, start: u64, count: u64) -> Option<GroupHash> {
        let aside = self.range.end() <= start || start + count <= self.range.first;
        if aside || count == 1 {
            let hash: GroupHash = self.proof.next()?.try_into().expect("chunks of a hash's length");
            if !aside {
                self.found.push(hash);
            }
            return Some(hash);
        }
        let left = left_count(count);
        let (left, right) = (self.node(start, left)?, self.node(start + left, count - left)?);
        Some(merge(&left, &right))
    }
}

/// Checks a piece's bytes against its proven hashes: what a worker thread does before it writes them.
pub fn verify_piece(piece: &StorePiece, size_bytes: u64) -> Result<(), StoreFailure> {
    let groups = group_count(size_bytes);
    let wrong = |group| StoreFailure::WrongBytes { file: piece.file, group };
    let mut group = piece.range.first;
    for slice in &piece.data {
        // Only an empty file has an empty group, and it isn't asked for.
        for data in slice.chunks(GROUP_BYTES) {
            let expected = piece.hashes.get((group - piece.range.first) as usize).ok_or_else(|| wrong(group))?;
            let length = range_bytes(GroupRange { first: group, count: 1 }, size_bytes);
            if data.len() as u64 != length || group_hash(group, groups, data) != *expected {
                return Err(wrong(group));
            }
            group += 1;
        }
    }
    if group == piece.range.end() { Ok(()) } else { Err(wrong(group)) }
}

/// Reads and encodes a part of a request into bulk frames, ready to send.
///
/// `outboard` finds a file's outboard (never asked for files of one group), `read_at` fills a buffer from a file's
/// offset. Every group is checked against the outboard before it leaves, so a source that changed is noticed here and
/// no wrong byte is sent.
pub fn encode_range<'a>(
    range: &ReadRange,
    mut outboard: impl FnMut(u32) -> Option<&'a Outboard>,
    mut read_at: impl FnMut(u32, u64, &mut [u8]) -> Result<(), ReadFailure>,
) -> Result<Vec<Bytes>, ReadFailure> {
    let mut frames = Vec::new();
    let mut small = bulk::SmallBatch::new(range.request);
    for piece in &range.pieces {
        if group_count(piece.size_bytes) == 1 {
            let length = usize::try_from(piece.size_bytes).expect("at most one group");
            let data = small.room(piece.file, length, &mut frames);
            read_at(piece.file, 0, data)?;
            if blake3::hash(data).as_bytes() != &piece.root.0 {
                return Err(ReadFailure::SourceChanged);
            }
            continue;
        }
        let outboard = outboard(piece.file).ok_or_else(|| ReadFailure::Failed("its hashes are missing".into()))?;
        encode_piece(range.request, piece, outboard, &mut read_at, &mut frames)?;
    }
    small.flush(&mut frames);
    Ok(frames)
}

fn encode_piece(
    request: u32,
    piece: &super::ReadPiece,
    outboard: &Outboard,
    read_at: &mut impl FnMut(u32, u64, &mut [u8]) -> Result<(), ReadFailure>,
    frames: &mut Vec<Bytes>,
) -> Result<(), ReadFailure> {
    let range = piece.range;
    if outboard.size_bytes != piece.size_bytes || outboard.root != piece.root {
        return Err(ReadFailure::SourceChanged);
    }
    let proof = outboard.proof(range).ok_or_else(|| ReadFailure::Failed("a range outside of the file".into()))?;
    frames.push(bulk::encode_proof(request, piece.file, range, &proof));

    let groups = group_count(piece.size_bytes);
    let frame_count = range.count.div_ceil(bulk::DATA_GROUPS_MAX) as usize;
    let data_bytes = usize::try_from(range_bytes(range, piece.size_bytes)).expect("at most a block");
    let mut buffer = BytesMut::with_capacity(data_bytes + frame_count * bulk::HEADER_BYTES);
    let mut first = range.first;
    while first < range.end() {
        let left = u32::try_from(range.end() - first).expect("at most a block");
        let part = GroupRange { first, count: left.min(bulk::DATA_GROUPS_MAX) };
        let header = BulkHeader { kind: BulkKind::Data, count: part.count as u16, request, file: piece.file, first };
        header.encode(&mut buffer);
        let start = buffer.len();
        buffer.resize(start + range_bytes(part, piece.size_bytes) as usize, 0);
        read_at(piece.file, first * GROUP_BYTES as u64, &mut buffer[start..])?;
        for (group, data) in (first..).zip(buffer[start..].chunks(GROUP_BYTES)) {
            if group_hash(group, groups, data) != outboard.leaf(group) {
                return Err(ReadFailure::SourceChanged);
            }
        }
        frames.push(buffer.split().freeze());
        first = part.end();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bao_tree::BlockSize;
    use bao_tree::io::outboard::PreOrderMemOutboard;
    use proptest::prelude::*;

    use super::*;

    fn content(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn outboard_of(content: &[u8], step: usize) -> Outboard {
        let mut builder = OutboardBuilder::new();
        content.chunks(step).for_each(|piece| builder.update(piece));
        builder.finish()
    }

    fn sizes() -> impl Iterator<Item = usize> {
        let group = GROUP_BYTES;
        let edges = [0, 1, 1024, 1025, group - 1, group, group + 1, 2 * group, 3 * group, 5 * group + 9];
        edges.into_iter().chain([64 * group - 1, 64 * group, 64 * group + 1, 129 * group, 300 * group + 77])
    }

    /// Somebody else's implementation of the same tree: same roots, same group hashes, same nodes in the proofs.
    #[test]
    fn hashes_are_those_of_bao_tree() {
        for size in sizes() {
            let content = content(size);
            let theirs = PreOrderMemOutboard::create(&content, BlockSize::from_chunk_log(4));
            let ours = outboard_of(&content, 50_000);
            assert_eq!(ours.root().0, *theirs.root.as_bytes(), "{size}");
            assert_eq!(ours.root(), Root::of(&content), "{size}");
            let known: std::collections::BTreeSet<&[u8]> = theirs.data.chunks(HASH_BYTES).collect();
            let groups = group_count(size as u64);
            if groups > 1 {
                assert!(ours.group_hashes().chunks(HASH_BYTES).all(|hash| known.contains(hash)), "{size}");
                let proof = ours.proof(GroupRange { first: groups - 1, count: 1 }).unwrap();
                assert!(proof.iter().all(|hash| known.contains(&hash[..])), "{size}");
            }
        }
    }

    #[test]
    fn the_outboard_does_not_depend_on_how_bytes_came_and_survives_the_disk() {
        for size in sizes() {
            let content = content(size);
            let one = outboard_of(&content, usize::MAX);
            for step in [1000, GROUP_BYTES, GROUP_BYTES + 1] {
                assert_eq!(outboard_of(&content, step).group_hashes(), one.group_hashes());
            }
            assert!(Outboard::new(size as u64, one.root(), one.group_hashes().clone()).is_ok());
            let mut damaged = one.group_hashes().to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(Outboard::new(size as u64, one.root(), damaged.into()).is_err());
            let longer = size as u64 + 2 * GROUP_BYTES as u64;
            assert!(Outboard::new(longer, one.root(), one.group_hashes().clone()).is_err());
        }
    }

    #[test]
    fn proofs_hold_for_every_range_and_altered_ones_for_none() {
        for size in sizes().filter(|size| *size < 140 * GROUP_BYTES) {
            let (content, size) = (content(size), size as u64);
            let outboard = outboard_of(&content, 1 << 20);
            let groups = group_count(size);
            for first in 0..groups {
                for count in [1, 2, 5, 64] {
                    let range = GroupRange { first, count };
                    let proof = outboard.proof(range);
                    assert_eq!(proof.is_some(), is_block_range(range, size));
                    let Some(proof) = proof else { continue };
                    let bytes = proof.concat();
                    let hashes = check_proof(outboard.root(), size, range, &bytes).expect("an honest proof");
                    let expected = outboard.group_hashes().chunks(HASH_BYTES).skip(first as usize).take(count as usize);
                    assert!(hashes.iter().map(|hash| &hash[..]).eq(expected));
                    let mut altered = bytes.clone();
                    altered[bytes.len() / 2] ^= 1;
                    assert_eq!(check_proof(outboard.root(), size, range, &altered), None);
                    assert_eq!(check_proof(outboard.root(), size, range, &bytes[32..]), None);
                    assert_eq!(check_proof(outboard.root(), size, range, &[&bytes[..], &[0; 32]].concat()), None);
                    assert_eq!(check_proof(Root([0; 32]), size, range, &bytes), None);
                }
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_found_in_its_group() {
        let content = content(70 * GROUP_BYTES + 100);
        let outboard = outboard_of(&content, 1 << 20);
        let range = GroupRange { first: 64, count: 7 };
        let hashes =
            check_proof(outboard.root(), outboard.size_bytes(), range, &outboard.proof(range).unwrap().concat());
        let piece = |data: Vec<u8>| StorePiece {
            file: 3,
            range,
            hashes: hashes.clone().unwrap(),
            data: data.chunks(3 * GROUP_BYTES).map(Bytes::copy_from_slice).collect(),
        };
        let honest = content[64 * GROUP_BYTES..].to_vec();
        assert_eq!(verify_piece(&piece(honest.clone()), outboard.size_bytes()), Ok(()));
        for group in 0..7 {
            let mut wrong = honest.clone();
            wrong[group * GROUP_BYTES + 50] ^= 0x80;
            let found = verify_piece(&piece(wrong), outboard.size_bytes());
            assert_eq!(found, Err(StoreFailure::WrongBytes { file: 3, group: 64 + group as u64 }));
        }
        for length in [0, 1, GROUP_BYTES, honest.len() - 1] {
            assert!(verify_piece(&piece(honest[..length].to_vec()), outboard.size_bytes()).is_err());
        }
        assert!(verify_piece(&piece([honest, vec![0]].concat()), outboard.size_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_proof_panics(size in 0u64..1 << 50, first: u64, count: u32, proof: Vec<u8>) {
            check_proof(Root([0; 32]), size, GroupRange { first, count }, &proof);
            check_proof(Root([0; 32]), size, GroupRange { first: first % 1000, count: count % 80 }, &proof);
        }
    }
}
