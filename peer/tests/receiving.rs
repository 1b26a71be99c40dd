//! A download's place on disk: bad days and bad neighbours.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rockpool_peer::files::{Audit, DiskError, Download};
use rockpool_peer_core::transfer::{GROUP_BYTES, GroupRange, group_count};
use rockpool_peer_core::{
    DownloadId, Item, ItemKind, Manifest, OutboardBuilder, Root, StoreFailure, StorePiece, StoreRange,
};

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / GROUP_BYTES) as u8 ^ (at % 253) as u8 ^ seed).collect()
}

fn file(path: &[&str], content: &[u8]) -> Item {
    let kind = ItemKind::File { size_bytes: content.len() as u64, root: Root::of(content), executable: false };
    Item { path: path.iter().map(|name| name.to_string()).collect(), kind }
}

fn manifest(items: Vec<Item>) -> Arc<Manifest> {
    Arc::new(Manifest::new(items).unwrap())
}

/// Groups of a file, as a sender that tells the truth would have them stored.
fn piece(file: u32, content: &[u8], first: u64, count: u32) -> StoreRange {
    let mut builder = OutboardBuilder::new();
    builder.update(content);
    let outboard = builder.finish();
    let hashes: Vec<[u8; 32]> = outboard
        .group_hashes()
        .chunks_exact(32)
        .skip(first as usize)
        .take(count as usize)
        .map(|hash| hash.try_into().unwrap())
        .collect();
    let start = first as usize * GROUP_BYTES;
    let end = (start + count as usize * GROUP_BYTES).min(content.len());
    let data = vec![Bytes::copy_from_slice(&content[start..end])];
    let piece = StorePiece { file, range: GroupRange { first, count }, hashes, data };
    StoreRange { download: DownloadId(1), pieces: vec![piece] }
}

fn store_all(download: &Download, position: u32, content: &[u8]) {
    let groups = u32::try_from(group_count(content.len() as u64)).unwrap();
    download.store(&piece(position, content, 0, groups)).unwrap();
}

fn finish(download: &Download, positions: &[u32]) {
    for (position, finished) in download.finish(positions) {
        finished.unwrap_or_else(|error| panic!("{position}: {error}"));
    }
    download.sync_folders().unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_appear_under_their_names_only_when_complete() {
    let to = tempfile::tempdir().unwrap();
    let (large, small) = (content(1, 3 * GROUP_BYTES + 5), content(2, 9));
    let manifest = manifest(vec![file(&["d", "large"], &large), file(&["d", "small"], &small), file(&["empty"], b"")]);
    let download = Download::open(to.path(), manifest).unwrap();
    download.prepare().unwrap();
    download.store(&piece(0, &large, 2, 2)).unwrap();
    download.store(&piece(1, &small, 0, 1)).unwrap();
    assert!(names(&to.path().join("d")).iter().all(|name| name.ends_with(".part")));
    download.store(&piece(0, &large, 0, 2)).unwrap();
    download.sync().unwrap();
    finish(&download, &[0, 1, 2]);
    assert_eq!(names(&to.path().join("d")), ["large", "small"]);
    assert_eq!(fs::read(to.path().join("d/large")).unwrap(), large);
    assert_eq!(fs::read(to.path().join("d/small")).unwrap(), small);
    assert_eq!(fs::read(to.path().join("empty")).unwrap(), b"");
    let sources = download.sources().unwrap();
    assert!(sources.iter().flatten().all(|source| source.is_unchanged()));
    assert_eq!(download.top_paths(), ["d", "empty"].map(|name| to.path().canonicalize().unwrap().join(name)));
}

#[test]
fn a_wrong_byte_is_refused_and_not_written() {
    let to = tempfile::tempdir().unwrap();
    let right = content(1, 4 * GROUP_BYTES);
    let download = Download::open(to.path(), manifest(vec![file(&["f"], &right)])).unwrap();
    download.prepare().unwrap();
    let mut range = piece(0, &right, 0, 4);
    let mut wrong = right.clone();
    wrong[2 * GROUP_BYTES + 7] ^= 1;
    range.pieces[0].data = vec![wrong.into()];
    assert_eq!(download.store(&range), Err(StoreFailure::WrongBytes { file: 0, group: 2 }));
    let part = fs::read(to.path().join(&names(to.path())[0])).unwrap();
    assert!(part.iter().all(|byte| *byte == 0), "nothing of it is on the disk");
}

#[test]
fn what_a_crash_left_is_found_and_what_it_took_is_not_believed() {
    let to = tempfile::tempdir().unwrap();
    let (one, two, three) = (content(1, 5 * GROUP_BYTES), content(2, 40_000), content(3, 50_000));
    let items = || vec![file(&["a"], &one), file(&["b"], &two), file(&["c"], &three)];
    {
        let download = Download::open(to.path(), manifest(items())).unwrap();
        download.prepare().unwrap();
        download.store(&piece(0, &one, 1, 3)).unwrap();
        store_all(&download, 1, &two);
        store_all(&download, 2, &three);
        download.sync().unwrap();
        finish(&download, &[1]);
    }
    // The third one's .part file is lost, as after a power cut.
    let lost = names(to.path()).into_iter().find(|name| name.ends_with("-2.part")).unwrap();
    fs::remove_file(to.path().join(lost)).unwrap();
    let download = Download::open(to.path(), manifest(items())).unwrap();
    let audit: Vec<Audit> = (0..3).map(|position| download.audit(position).unwrap()).collect();
    assert_eq!(audit, [Audit::Kept, Audit::Finished, Audit::Lost]);
    download.prepare().unwrap();
    download.store(&piece(0, &one, 0, 1)).unwrap();
    download.store(&piece(0, &one, 4, 1)).unwrap();
    store_all(&download, 2, &three);
    finish(&download, &[0, 1, 2]);
    assert_eq!(names(to.path()), ["a", "b", "c"]);
    assert_eq!(fs::read(to.path().join("a")).unwrap(), one);
    assert_eq!(fs::read(to.path().join("c")).unwrap(), three);
}

#[test]
fn nothing_is_overwritten() {
    let to = tempfile::tempdir().unwrap();
    let (new, same) = (content(1, 20_000), content(2, 100));
    fs::write(to.path().join("a.tar.gz"), b"mine").unwrap();
    fs::write(to.path().join("a.tar (1).gz"), b"mine too").unwrap();
    fs::write(to.path().join("same"), &same).unwrap();
    fs::create_dir(to.path().join("folder")).unwrap();
    let items = vec![file(&["a.tar.gz"], &new), file(&["folder"], &new), file(&["same"], &same)];
    let download = Download::open(to.path(), manifest(items)).unwrap();
    download.prepare().unwrap();
    for (position, content) in [(0, &new), (1, &new), (2, &same)] {
        store_all(&download, position, content);
    }
    finish(&download, &[0, 1, 2]);
    assert_eq!(names(to.path()), ["a.tar (1).gz", "a.tar (2).gz", "a.tar.gz", "folder", "folder (1)", "same"]);
    assert_eq!(fs::read(to.path().join("a.tar.gz")).unwrap(), b"mine");
    assert_eq!(fs::read(to.path().join("a.tar (2).gz")).unwrap(), new);
}

/// croc#1191: a symbolic link in the receive folder led out of it.
#[test]
fn links_in_the_receive_folder_are_not_followed() {
    let (to, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), to.path().join("d")).unwrap();
    let bytes = content(1, 20_000);
    let download = Download::open(to.path(), manifest(vec![file(&["d", "f"], &bytes)])).unwrap();
    let error = download.prepare().unwrap_err();
    assert!(matches!(error, DiskError::InTheWay { .. }), "{error}");
    assert!(matches!(download.store(&piece(0, &bytes, 0, 2)), Err(StoreFailure::Disk(_))));
    assert!(download.finish(&[0])[0].1.is_err());
    assert!(names(outside.path()).is_empty());

    // A link in the place of the .part file, and one in the place of the target.
    let to = tempfile::tempdir().unwrap();
    let target = outside.path().join("victim");
    fs::write(&target, b"precious").unwrap();
    let wanted = manifest(vec![file(&["f"], &bytes)]);
    let part = format!(".rockpool-{}-0.part", &wanted.root().to_string()[..8]);
    std::os::unix::fs::symlink(&target, to.path().join(&part)).unwrap();
    let download = Download::open(to.path(), wanted.clone()).unwrap();
    assert!(download.prepare().is_err());
    fs::remove_file(to.path().join(&part)).unwrap();
    std::os::unix::fs::symlink(&target, to.path().join("f")).unwrap();
    download.prepare().unwrap();
    store_all(&download, 0, &bytes);
    finish(&download, &[0]);
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(fs::read(to.path().join("f (1)")).unwrap(), bytes);
}

#[test]
fn too_little_room_is_said_before_anything_is_written() {
    let to = tempfile::tempdir().unwrap();
    // As large as a file may be: 16 TiB, more than the machine has.
    let huge = ItemKind::File { size_bytes: 1 << 44, root: Root([7; 32]), executable: false };
    let items = vec![Item { path: vec!["huge".into()], kind: huge }, file(&["small"], b"x")];
    let download = Download::open(to.path(), manifest(items)).unwrap();
    let error = download.prepare().unwrap_err();
    assert!(matches!(error, DiskError::Full { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(names(to.path()).is_empty());
}

#[test]
fn giving_up_leaves_only_what_is_finished() {
    let to = tempfile::tempdir().unwrap();
    let (one, two) = (content(1, 20_000), content(2, 20_000));
    let download = Download::open(to.path(), manifest(vec![file(&["a"], &one), file(&["b"], &two)])).unwrap();
    download.prepare().unwrap();
    store_all(&download, 0, &one);
    finish(&download, &[0]);
    download.discard();
    assert_eq!(names(to.path()), ["a"]);
}
