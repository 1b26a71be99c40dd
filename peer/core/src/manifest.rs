//! What a file offer holds: names, sizes, modes and roots. A folder is a manifest, never an archive.
//!
//! A manifest is checked whole before anything is written: names ([`crate::names`]), limits, and that no two items meet
//! on any file system. Its encoding is deterministic, so the root, which the file offer's signature covers, names one
//! manifest only, and one that isn't encoded that way is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, message, skip_field};
use rockpool_proto::limits::{FILE_DEPTH_MAX, FILE_PATH_BYTES_MAX, FILES_PER_OFFER_MAX, MANIFEST_BYTES_MAX};
use rockpool_proto::peer::v1 as wire;

use crate::names::{self, NameError};
use crate::transfer::Root;

/// Bytes in one file.
pub const FILE_BYTES_MAX: u64 = 1 << 44;
/// Bytes in all files of an offer.
pub const OFFER_BYTES_MAX: u64 = 1 << 46;

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A file.
    File {
        /// Its length.
        size_bytes: u64,
        /// Of its content.
        root: Root,
        /// Whether its owner may execute it. No other mode bit travels.
        executable: bool,
    },
    /// An empty folder. Other folders follow from the files in them.
    Folder,
}

/// One file or empty folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Components, from the top.
    pub path: Vec<String>,
    /// What lies there.
    pub kind: ItemKind,
}

impl Item {
    /// The size of a file; 0 for a folder.
    pub fn size_bytes(&self) -> u64 {
        match self.kind {
            ItemKind::File { size_bytes, .. } => size_bytes,
            ItemKind::Folder => 0,
        }
    }

    /// The path with slashes, fit for a terminal.
    pub fn display_path(&self) -> String {
        names::sanitize_for_display(&self.path.join("/"))
    }
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A component that must not be.
    #[error("{error} ({path:?})")]
    Name {
        /// The whole path, for a person: sanitized.
        path: String,
        /// What is wrong.
        error: NameError,
    },
    /// No component at all, or too many, or too long together.
    #[error("a path with {depth} components and {bytes} bytes ({path:?})")]
    Path {
        /// Sanitized.
        path: String,
        /// Components.
        depth: usize,
        /// Bytes.
        bytes: usize,
    },
    /// Two items that are one on some system: same name but for case or composition.
    #[error("two names that are one on some systems: {one:?} and {other:?}")]
    Collision {
        /// Sanitized.
        one: String,
        /// Sanitized.
        other: String,
    },
    /// Something is to lie inside of a file.
    #[error("{0:?} is a file and a folder at once")]
    FileAndFolder(String),
    /// More than `FILES_PER_OFFER_MAX`, or none.
    #[error("{0} items; 1 to 100000 are allowed")]
    Count(usize),
    /// Larger than `FILE_BYTES_MAX` or `OFFER_BYTES_MAX`.
    #[error("too large: {0} bytes")]
    Size(u64),
    /// An empty file with another root than that of nothing.
    #[error("an empty file with a root of something ({0:?})")]
    EmptyRoot(String),
    /// Longer than `MANIFEST_BYTES_MAX` when encoded.
    #[error("{0} bytes are too long for a manifest")]
    TooLong(usize),
    /// Not a manifest, or not encoded as we encode.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The file offer told people something else.
    #[error("{files} files of {bytes} bytes, and the offer said otherwise")]
    NotAsOffered {
        /// Files in it.
        files: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// It isn't the manifest that was offered.
    #[error("it doesn't match its root")]
    WrongRoot,
}

/// A checked manifest. There is no other kind of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    items: Vec<Item>,
    encoded: Bytes,
    root: Root,
    size_bytes: u64,
}

impl Manifest {
    /// Sorts and checks the items.
    pub fn new(mut items: Vec<Item>) -> Result<Manifest, ManifestError> {
        items.sort_by(|one, other| one.path.cmp(&other.path));
        let size_bytes = check_items(&items)?;
        let mut encoded = Vec::new();
        items.iter().for_each(|item| message::encode(1, &item_to_wire(item), &mut encoded));
        let encoded = Bytes::from(encoded);
        if encoded.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(encoded.len()));
        }
        Ok(Manifest { items, root: Root::of(&encoded), encoded, size_bytes })
    }

    /// From another device, for an offer of this root.
    pub fn decode(root: Root, encoded: Bytes) -> Result<Manifest, ManifestError> {
        if encoded.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(encoded.len()));
        }
        if Root::of(&encoded) != root {
            return Err(ManifestError::WrongRoot);
        }
        let manifest = Manifest::new(decode_items(encoded.clone())?)?;
        // Also catches items out of order and fields that we would drop.
        if manifest.encoded != encoded {
            return Err(ManifestError::Malformed("it isn't encoded the one way"));
        }
        Ok(manifest)
    }

    /// The items, sorted by path. A file's position here is its number on the wire.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Size and root of a file; `None` for a folder and outside of the list.
    pub fn file(&self, index: u32) -> Option<(u64, Root)> {
        match self.items.get(index as usize)?.kind {
            ItemKind::File { size_bytes, root, .. } => Some((size_bytes, root)),
            ItemKind::Folder => None,
        }
    }

    /// Its bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// BLAKE3 of its bytes.
    pub fn root(&self) -> Root {
        self.root
    }

    /// Of all files.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of files.
    pub fn file_count(&self) -> u32 {
        self.items.iter().filter(|item| matches!(item.kind, ItemKind::File { .. })).count() as u32
    }
}

/// Everything but the encoding. Returns the size of all files.
fn check_items(items: &[Item]) -> Result<u64, ManifestError> {
    if items.is_empty() || items.len() > FILES_PER_OFFER_MAX {
        return Err(ManifestError::Count(items.len()));
    }
    let mut total: u64 = 0;
    for item in items {
        check_path(item)?;
        if let ItemKind::File { size_bytes, root, .. } = item.kind {
            if size_bytes > FILE_BYTES_MAX {
                return Err(ManifestError::Size(size_bytes));
            }
            if size_bytes == 0 && root != Root::of(b"") {
                return Err(ManifestError::EmptyRoot(item.display_path()));
            }
            total = total.saturating_add(size_bytes);
        }
    }
    if total > OFFER_BYTES_MAX {
        return Err(ManifestError::Size(total));
    }
    check_collisions(items)?;
    Ok(total)
}

fn check_path(item: &Item) -> Result<(), ManifestError> {
    let bytes = item.path.iter().map(|name| name.len() + 1).sum::<usize>().saturating_sub(1);
    if item.path.is_empty() || item.path.len() > FILE_DEPTH_MAX || bytes > FILE_PATH_BYTES_MAX {
        let path = item.path.iter().take(4).map(|name| name.chars().take(64).collect::<String>());
        let path = names::sanitize_for_display(&path.collect::<Vec<_>>().join("/"));
        return Err(ManifestError::Path { path, depth: item.path.len(), bytes });
    }
    for name in &item.path {
        names::check_component(name).map_err(|error| ManifestError::Name { path: item.display_path(), error })?;
    }
    Ok(())
}

/// No two items meet, and nothing lies inside of a file, on systems that fold case or compose characters too.
///
/// The items are sorted, so what lies in one folder stands together. One folder's names are compared at a time, which keeps
/// the room small whatever the depth; folders that would meet are found among the names of the folder above.
fn check_collisions(items: &[Item]) -> Result<(), ManifestError> {
    let shown = |path: &[String]| names::sanitize_for_display(&path.join("/"));
    let mut folders = vec![(items, 0)];
    while let Some((inside, depth)) = folders.pop() {
        let mut keys: BTreeMap<String, &[String]> = BTreeMap::new();
        for same in inside.chunk_by(|one, other| one.path[depth] == other.path[depth]) {
            let path = &same[0].path[..=depth];
            if let Some(other) = keys.insert(names::collision_key(&path[depth]), path) {
                return Err(ManifestError::Collision { one: shown(other), other: shown(path) });
            }
            // The shorter path sorts before what lies inside of it.
            match same {
                [] | [_] => {}
                [first, second, ..] if first.path.len() == depth + 1 => {
                    return Err(match second.path.len() == depth + 1 {
                        true => ManifestError::Collision { one: shown(path), other: shown(path) },
                        false => ManifestError::FileAndFolder(shown(path)),
                    });
                }
                _ => folders.push((same, depth + 1)),
            }
        }
    }
    Ok(())
}

/// The items of an encoded manifest, one after the other: nothing is decoded beyond the limits, because a few bytes on
/// the wire make an item or a component that takes a hundred in memory.
fn decode_items(mut encoded: Bytes) -> Result<Vec<Item>, ManifestError> {
    let mut items = Vec::new();
    while !encoded.is_empty() {
        if items.len() == FILES_PER_OFFER_MAX {
            return Err(ManifestError::Count(items.len() + 1));
        }
        let item = take_item(&mut encoded).ok_or(ManifestError::Malformed("something that is no item"))?;
        let depth = depth_of(item.clone()).ok_or(ManifestError::Malformed("it doesn't decode"))?;
        if depth > FILE_DEPTH_MAX {
            return Err(ManifestError::Path { path: "...".into(), depth, bytes: item.len() });
        }
        let item = wire::ManifestItem::decode(item).map_err(|_| ManifestError::Malformed("it doesn't decode"))?;
        items.push(item_from_wire(item)?);
    }
    Ok(items)
}

/// The next item's bytes. A manifest holds nothing else.
fn take_item(encoded: &mut Bytes) -> Option<Bytes> {
    let (number, wire_type) = decode_key(encoded).ok()?;
    let length = usize::try_from(decode_varint(encoded).ok()?).ok()?;
    let is_item = number == 1 && wire_type == WireType::LengthDelimited && length <= encoded.len();
    is_item.then(|| encoded.split_to(length))
}

/// Components in the path of an encoded item; stops counting beyond the limit.
fn depth_of(mut item: Bytes) -> Option<usize> {
    let mut depth = 0;
    while !item.is_empty() && depth <= FILE_DEPTH_MAX {
        let (number, wire_type) = decode_key(&mut item).ok()?;
        depth += usize::from(number == 1);
        skip_field(wire_type, number, &mut item, DecodeContext::default()).ok()?;
    }
    Some(depth)
}

fn item_to_wire(item: &Item) -> wire::ManifestItem {
    let mut wire = wire::ManifestItem { path: item.path.clone(), ..Default::default() };
    match item.kind {
        ItemKind::File { size_bytes, root, executable } => {
            wire.set_kind(wire::manifest_item::Kind::File);
            wire.size_bytes = size_bytes;
            wire.executable = executable;
            wire.root = Bytes::copy_from_slice(&root.0);
        }
        ItemKind::Folder => wire.set_kind(wire::manifest_item::Kind::Folder),
    }
    wire
}

fn item_from_wire(item: wire::ManifestItem) -> Result<Item, ManifestError> {
    let kind = match item.kind() {
        wire::manifest_item::Kind::File => ItemKind::File {
            size_bytes: item.size_bytes,
            root: Root::try_from(item.root.as_ref()).map_err(|_| ManifestError::Malformed("a root"))?,
            executable: item.executable,
        },
        wire::manifest_item::Kind::Folder => ItemKind::Folder,
        wire::manifest_item::Kind::Unspecified => return Err(ManifestError::Malformed("an unknown kind of item")),
    };
    Ok(Item { path: item.path, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Item {
        let kind = ItemKind::File { size_bytes: 1, root: Root::of(b"x"), executable: false };
        Item { path: path.split('/').map(str::to_owned).collect(), kind }
    }

    fn folder(path: &str) -> Item {
        Item { kind: ItemKind::Folder, ..file(path) }
    }

    #[test]
    fn a_manifest_survives_the_wire_and_order_does_not_matter() {
        let one = Manifest::new(vec![file("b/c"), file("a"), folder("d")]).unwrap();
        let other = Manifest::new(vec![folder("d"), file("a"), file("b/c")]).unwrap();
        assert_eq!(one.root(), other.root());
        assert_eq!(Manifest::decode(one.root(), one.encoded().clone()), Ok(one.clone()));
        assert_eq!((one.file_count(), one.size_bytes()), (2, 2));
        assert_eq!(Manifest::decode(Root([0; 32]), one.encoded().clone()), Err(ManifestError::WrongRoot));
    }

    #[test]
    fn another_encoding_of_the_same_manifest_is_refused() {
        let manifest = Manifest::new(vec![file("a"), file("b")]).unwrap();
        let mut wire = wire::Manifest::decode(manifest.encoded().clone()).unwrap();
        wire.items.reverse();
        let encoded = Bytes::from(wire.encode_to_vec());
        assert!(matches!(Manifest::decode(Root::of(&encoded), encoded), Err(ManifestError::Malformed(_))));
        let mut extra = manifest.encoded().to_vec();
        extra.extend_from_slice(&[0x78, 1]);
        let extra = Bytes::from(extra);
        assert!(matches!(Manifest::decode(Root::of(&extra), extra), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn names_of_a_sender_who_lies_are_refused_on_receipt() {
        for path in ["../x", "a/../../x", "/etc/passwd", "a//b", "a/\0", "NUL", "a/b:c", "a\u{202e}"] {
            let wire = wire::Manifest { items: vec![item_to_wire(&file(path))] };
            let encoded = Bytes::from(wire.encode_to_vec());
            let refused = Manifest::decode(Root::of(&encoded), encoded);
            assert!(matches!(refused, Err(ManifestError::Name { .. })), "{path:?}: {refused:?}");
        }
        let long = file(&"n".repeat(300));
        assert!(matches!(Manifest::new(vec![long]), Err(ManifestError::Name { error: NameError::TooLong(300), .. })));
    }

    #[test]
    fn names_that_collide_by_case_or_composition_are_refused() {
        for (one, other) in [("A/x", "a/y"), ("Ä", "a\u{308}"), ("x/README", "x/readme"), ("ß", "SS"), ("a", "a")] {
            let refused = Manifest::new(vec![file(one), file(other)]);
            assert!(matches!(refused, Err(ManifestError::Collision { .. })), "{one} {other}: {refused:?}");
        }
    }

    #[test]
    fn a_file_can_not_be_a_folder_too() {
        assert!(matches!(Manifest::new(vec![file("a"), file("a/b")]), Err(ManifestError::FileAndFolder(_))));
        assert!(matches!(Manifest::new(vec![folder("a"), file("a/b")]), Err(ManifestError::FileAndFolder(_))));
        // The names between sort between them.
        assert!(matches!(
            Manifest::new(vec![file("a"), file("a b"), file("a.c"), file("a/b")]),
            Err(ManifestError::FileAndFolder(_))
        ));
    }

    #[test]
    fn depth_count_and_sizes_are_bounded() {
        let deep = file(&vec!["d"; FILE_DEPTH_MAX + 1].join("/"));
        assert!(matches!(Manifest::new(vec![deep]), Err(ManifestError::Path { .. })));
        let long = file(&vec!["0123456789".repeat(20); 25].join("/"));
        assert!(matches!(Manifest::new(vec![long]), Err(ManifestError::Path { .. })));
        assert_eq!(Manifest::new(vec![]), Err(ManifestError::Count(0)));
        let mut huge = file("a");
        huge.kind = ItemKind::File { size_bytes: FILE_BYTES_MAX + 1, root: Root([0; 32]), executable: false };
        assert!(matches!(Manifest::new(vec![huge]), Err(ManifestError::Size(_))));
        let mut empty = file("a");
        empty.kind = ItemKind::File { size_bytes: 0, root: Root([1; 32]), executable: false };
        assert!(matches!(Manifest::new(vec![empty]), Err(ManifestError::EmptyRoot(_))));
    }

    /// A few bytes on the wire make an item, or a component, that takes a hundred in memory.
    #[test]
    fn ten_million_items_or_components_are_refused_before_they_take_room() {
        let many_items = Bytes::from([0x0a, 0x00].repeat(10_000_000));
        let refused = Manifest::decode(Root::of(&many_items), many_items);
        assert_eq!(refused, Err(ManifestError::Malformed("an unknown kind of item")));

        let item = item_to_wire(&folder("a")).encode_to_vec();
        let mut encoded = Vec::new();
        for _ in 0..FILES_PER_OFFER_MAX + 50 {
            encoded.extend_from_slice(&[0x0a, item.len() as u8]);
            encoded.extend_from_slice(&item);
        }
        let encoded = Bytes::from(encoded);
        assert_eq!(Manifest::decode(Root::of(&encoded), encoded), Err(ManifestError::Count(FILES_PER_OFFER_MAX + 1)));

        // Behind another field, too.
        for before in [&[][..], &[0x10, 1]] {
            let item = [before, &[0x0a, 0x00].repeat(10_000_000)].concat();
            let mut encoded = vec![0x0a];
            prost::encoding::encode_varint(item.len() as u64, &mut encoded);
            encoded.extend_from_slice(&item);
            let encoded = Bytes::from(encoded);
            let refused = Manifest::decode(Root::of(&encoded), encoded);
            assert!(matches!(refused, Err(ManifestError::Path { depth: 65, .. })), "{refused:?}");
        }
    }

    #[test]
    fn deep_folders_are_compared_in_little_room() {
        let deep = |n: usize| file(&format!("{n}/{}", vec!["d"; FILE_DEPTH_MAX - 1].join("/")));
        let manifest = Manifest::new((0..5_000).map(deep).collect()).unwrap();
        assert_eq!(
            Manifest::decode(manifest.root(), manifest.encoded().clone()).map(|found| found.file_count()),
            Ok(5_000)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at: usize, by: u8) {
            let bytes = Bytes::from(bytes);
            let _ = Manifest::decode(Root::of(&bytes), bytes);
            let manifest = Manifest::new(vec![file("a/b"), folder("c"), file("d")]).unwrap();
            let mut altered = manifest.encoded().to_vec();
            let at = at % altered.len();
            altered[at] = by;
            let altered = Bytes::from(altered);
            let decoded = Manifest::decode(Root::of(&altered), altered.clone());
            proptest::prop_assert!(decoded.is_err() || decoded.unwrap().encoded() == &altered);
        }
    }

    #[test]
    fn an_offer_of_as_many_files_as_allowed_is_checked_quickly_enough() {
        let items = (0..20_000).map(|n| file(&format!("folder {}/file {n}", n % 100))).collect();
        let manifest = Manifest::new(items).unwrap();
        assert_eq!(manifest.file_count(), 20_000);
    }
}
