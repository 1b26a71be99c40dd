//! One download on disk: `.part` files beside their targets, filled in any order, then synced and renamed.
//!
//! ```text
//!   to/                            the folder that the person chose, opened once; nothing leaves it
//!     photos/                      made when the manifest is known
//!       .rockpool-3f9a01bc-7.part  item 7, its room reserved, groups written where they belong
//!       a.jpg                      item 6, complete: synced, then renamed
//! ```
//!
//! **Names.** The manifest's names were checked by the core. Still every step goes through a handle on the folder above it
//! (`cap-std`: no step leads out, whatever the name), and a symbolic link in the way is refused, not followed.
//!
//! **Nothing is overwritten.** Where a target exists with the same content, it stays and the `.part` file goes; where it
//! differs, the new file is called `name (1).ext`. The rename itself refuses to replace, so that a file which appears in
//! between survives too.
//!
//! **Crashes.** [`Download::sync`] comes before a journal is kept, so a journal claims only what is on disk. A `.part` file
//! that is gone or short after a crash loses its claims ([`Download::prepare`] says which). A file that was renamed
//! just before the crash is found again by its content.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use parking_lot::Mutex;
use rockpool_peer_core::transfer::GROUP_BYTES;
use rockpool_peer_core::{
    Item, ItemKind, Manifest, Outboard, OutboardBuilder, Root, StoreFailure, StorePiece, StoreRange, verify_piece,
};
use rustix::fs::{FallocateFlags, RenameFlags};

use super::sources::SourceFile;
use super::walk::FileStamp;

/// Names of files that are on their way.
pub(super) const PART_PREFIX: &str = ".rockpool-";
/// See there.
pub(super) const PART_SUFFIX: &str = ".part";
/// Large files that are kept open between two writes.
const OPEN_FILES_MAX: usize = 64;
/// Above this many files one sync of the file system is cheaper than one for each.
const SINGLE_SYNCS_MAX: usize = 16;
/// Names `name (1)` to `name (99)` are tried.
const RENAMES_MAX: u32 = 99;
/// Paths that an answer names.
const PATHS_SHOWN_MAX: usize = 1_000;
/// Bytes that stay free on the disk.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;

/// What to do about a full disk.
const MAKE_ROOM: &str = "What has arrived is kept: make room, then get it again";

/// Why a download stopped at the disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is not enough room.
    #[error(
        "the disk is full: {needed_bytes} more bytes are needed in {}, {free_bytes} are free. {MAKE_ROOM}",
        folder.display()
    )]
    Full {
        /// Where.
        folder: PathBuf,
        /// To finish the download.
        needed_bytes: u64,
        /// For this user.
        free_bytes: u64,
    },
    /// Something is in the way of a name.
    #[error("{path}: {why}")]
    InTheWay {
        /// Inside the folder.
        path: String,
        /// What.
        why: String,
    },
    /// There was not enough room, though it had looked so: others write to the same disk.
    #[error("the disk is full: {path} could not be written ({error}). {MAKE_ROOM}")]
    Filled {
        /// Inside the folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused.
    #[error("{path}: {error}")]
    Io {
        /// Inside the folder.
        path: String,
        /// What it said.
        error: io::Error,
    },
}

type Result<T> = std::result::Result<T, DiskError>;

/// A download's place on disk. Shared by worker threads.
#[derive(Debug)]
pub struct Download {
    root: Dir,
    root_path: PathBuf,
    manifest: Arc<Manifest>,
    /// In the names of `.part` files: the beginning of the manifest's root.
    tag: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Parts of large files, by position.
    open: HashMap<u32, Arc<File>>,
    /// Written since the last sync.
    unsynced: BTreeSet<u32>,
    /// Group hashes as they came, for files of more than one group: what seeding them needs.
    hashes: HashMap<u32, Vec<u8>>,
    /// Finished items and the names that they got.
    finished: BTreeMap<u32, PathBuf>,
    /// Folders in which something was made or renamed since they were last synced, those above them included.
    folders: BTreeSet<Vec<String>>,
}

impl Download {
    /// Opens the folder, making it if need be. Nothing is written yet.
    pub fn open(to: &Path, manifest: Arc<Manifest>) -> Result<Download> {
        let outside = |error| system(to.display().to_string(), error);
        if std::fs::metadata(to).is_ok_and(|found| !found.is_dir()) {
            let why = "it is a file; a download needs a folder".into();
            return Err(DiskError::InTheWay { path: to.display().to_string(), why });
        }
        std::fs::create_dir_all(to).map_err(outside)?;
        let root_path = to.canonicalize().map_err(outside)?;
        let root = Dir::open_ambient_dir(&root_path, ambient_authority()).map_err(outside)?;
        let tag = manifest.root().to_string()[..8].to_owned();
        Ok(Download { root, root_path, manifest, tag, state: Mutex::default() })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Makes folders and `.part` files with room for everything, or says why not, before a byte is asked for. Files with
    /// claims in a journal keep theirs.
    pub fn prepare(&self) -> Result<()> {
        let mut needed_bytes = 0u64;
        for (position, item) in positions(&self.manifest) {
            if self.is_finished(position) {
                continue;
            }
            let allocated = match self.parent(item, Missing::Skip)? {
                Some(parent) => self.allocated(&parent, position),
                None => 0,
            };
            needed_bytes = needed_bytes.saturating_add(item.size_bytes().saturating_sub(allocated));
        }
        let free = rustix::fs::fstatvfs(self.root.as_fd()).map_err(|error| self.io(None, error.into()))?;
        let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
        if needed_bytes > 0 && needed_bytes.saturating_add(SPARE_BYTES) > free_bytes {
            return Err(DiskError::Full { folder: self.root_path.clone(), needed_bytes, free_bytes });
        }
        for (position, item) in positions(&self.manifest) {
            let size_bytes = item.size_bytes();
            // Small files get theirs when their bytes come: thousands of empty files would help nobody.
            if size_bytes <= GROUP_BYTES as u64 || self.is_finished(position) {
                continue;
            }
            let part = self.part(position, item)?;
            reserve(&part, size_bytes).map_err(|error| self.io(Some(item), error))?;
        }
        Ok(())
    }

    /// What of a journal's claims can be believed: for each position whether the file is in its place already
    /// (`Finished`), its `.part` file is there (`Kept`), or nothing is (`Lost`). Reads finished files whole.
    pub fn audit(&self, position: u32) -> Result<Audit> {
        let Some(item) = self.manifest.items().get(position as usize) else { return Ok(Audit::Lost) };
        let ItemKind::File { size_bytes, root, .. } = item.kind else { return Ok(Audit::Lost) };
        let Some(parent) = self.parent(item, Missing::Skip)? else { return Ok(Audit::Lost) };
        if let Ok(found) = parent.symlink_metadata(self.part_name(position)) {
            return Ok(if found.is_file() && found.len() == size_bytes { Audit::Kept } else { Audit::Lost });
        }
        match self.identical(&parent, item, size_bytes, root)? {
            Some((name, hashes)) => {
                self.set_finished(position, item, &name, hashes);
                Ok(Audit::Finished)
            }
            None => Ok(Audit::Lost),
        }
    }

    /// Checks groups and writes them. `Err` names the sender's fault or the disk's.
    pub fn store(&self, range: &StoreRange) -> std::result::Result<(), StoreFailure> {
        for piece in &range.pieces {
            let (size_bytes, _) =
                self.manifest.file(piece.file).ok_or_else(|| StoreFailure::Disk("no such file".into()))?;
            verify_piece(piece, size_bytes)?;
        }
        for piece in &range.pieces {
            self.write(piece).map_err(|error| StoreFailure::Disk(error.to_string()))?;
        }
        Ok(())
    }

    fn write(&self, piece: &StorePiece) -> Result<()> {
        let item = &self.manifest.items()[piece.file as usize];
        let part = self.part(piece.file, item)?;
        let mut offset = piece.range.first * GROUP_BYTES as u64;
        for data in &piece.data {
            part.write_all_at(data, offset).map_err(|error| self.io(Some(item), error))?;
            offset += data.len() as u64;
        }
        let mut state = self.state.lock();
        state.unsynced.insert(piece.file);
        if item.size_bytes() > GROUP_BYTES as u64 {
            let length = usize::try_from(item.size_bytes().div_ceil(GROUP_BYTES as u64) * 32).unwrap_or(usize::MAX);
            let kept = state.hashes.entry(piece.file).or_insert_with(|| vec![0; length]);
            let at = usize::try_from(piece.range.first * 32).unwrap_or(usize::MAX);
            for (slot, hash) in kept[at.min(length)..].chunks_exact_mut(32).zip(&piece.hashes) {
                slot.copy_from_slice(hash);
            }
        }
        Ok(())
    }

    /// Makes all that was stored so far durable. A journal that claims it may be kept after this.
    pub fn sync(&self) -> Result<()> {
        let unsynced = std::mem::take(&mut self.state.lock().unsynced);
        let synced = self.sync_parts(&unsynced);
        if synced.is_err() {
            // They are not durable, so the next attempt must include them.
            self.state.lock().unsynced.extend(unsynced);
        }
        synced
    }

    fn sync_parts(&self, positions: &BTreeSet<u32>) -> Result<()> {
        if positions.len() > SINGLE_SYNCS_MAX {
            return sync_all_of(&self.root).map_err(|error| self.io(None, error));
        }
        for position in positions {
            let item = &self.manifest.items()[*position as usize];
            if self.is_finished(*position) {
                continue;
            }
            self.part(*position, item)?.sync_data().map_err(|error| self.io(Some(item), error))?;
        }
        Ok(())
    }

    /// Syncs complete files and gives them their names. Folders and empty files appear here. Where the sync fails, that is
    /// all that is answered.
    pub fn finish(&self, positions: &[u32]) -> Vec<(u32, Result<()>)> {
        let unsynced: BTreeSet<u32> = {
            let mut state = self.state.lock();
            positions.iter().copied().filter(|position| state.unsynced.remove(position)).collect()
        };
        // Always synced here, also when a checkpoint did so before: a rename must never overtake its data.
        if let Err(error) = self.sync_parts(&unsynced) {
            self.state.lock().unsynced.extend(unsynced);
            let first = positions.first().copied().unwrap_or_default();
            return vec![(first, Err(error))];
        }
        positions.iter().map(|position| (*position, self.finish_one(*position))).collect()
    }

    fn finish_one(&self, position: u32) -> Result<()> {
        let Some(item) = self.manifest.items().get(position as usize) else {
            return Err(self.in_the_way(None, "no such item in the manifest"));
        };
        if self.is_finished(position) {
            return Ok(());
        }
        let parent = self.parent(item, Missing::Make)?.expect("missing folders are made");
        let name = item.path.last().expect("a manifest's paths have components");
        let ItemKind::File { size_bytes, root, executable } = item.kind else {
            self.enter(&parent, name, item, Missing::Make)?;
            self.set_finished(position, item, name, None);
            return Ok(());
        };
        let part = self.part(position, item)?;
        part.set_len(size_bytes).map_err(|error| self.io(Some(item), error))?;
        if let Some((existing, hashes)) = self.identical(&parent, item, size_bytes, root)? {
            parent.remove_file(self.part_name(position)).map_err(|error| self.io(Some(item), error))?;
            self.set_finished(position, item, &existing, hashes);
            return Ok(());
        }
        if executable {
            let mode = part.metadata().map_err(|error| self.io(Some(item), error))?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) | 0o100;
            let permissions = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
            part.set_permissions(permissions).map_err(|error| self.io(Some(item), error))?;
        }
        drop(part);
        let part_name = self.part_name(position);
        for attempt in 0..=RENAMES_MAX {
            let name = numbered(name, attempt);
            match rename_new(&parent, &part_name, &name) {
                Ok(()) => {
                    self.set_finished(position, item, &name, None);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.io(Some(item), error)),
            }
        }
        Err(self.in_the_way(Some(item), "it exists, with other content, under every name that was tried"))
    }

    /// Makes all renames durable.
    pub fn sync_folders(&self) -> Result<()> {
        let folders = std::mem::take(&mut self.state.lock().folders);
        if folders.len() > SINGLE_SYNCS_MAX {
            return sync_all_of(&self.root).map_err(|error| self.io(None, error));
        }
        for mut path in folders {
            path.push(String::new()); // An item's parent is what is wanted.
            let item = Item { path, kind: ItemKind::Folder };
            let Some(folder) = self.parent(&item, Missing::Skip)? else { continue };
            handle_of(&folder).and_then(|folder| folder.sync_all()).map_err(|error| self.io(Some(&item), error))?;
        }
        Ok(())
    }

    /// Removes the `.part` files of a download that was given up. What was finished stays.
    pub fn discard(&self) {
        self.state.lock().open.clear();
        for (position, item) in positions(&self.manifest) {
            if let Ok(Some(parent)) = self.parent(item, Missing::Skip) {
                let _ = parent.remove_file(self.part_name(position));
            }
        }
    }

    /// The files of a complete download, to be served to others; `None` when one of them is not what it should be.
    pub fn sources(&self) -> Option<Vec<Option<SourceFile>>> {
        let mut state = self.state.lock();
        let mut hashes = std::mem::take(&mut state.hashes);
        let mut files = Vec::with_capacity(self.manifest.items().len());
        for (position, item) in self.manifest.items().iter().enumerate() {
            let position = u32::try_from(position).expect("manifests bound their items");
            let ItemKind::File { size_bytes, root, .. } = item.kind else {
                files.push(None);
                continue;
            };
            let path = self.root_path.join(state.finished.get(&position)?);
            let stamp = FileStamp::of(&std::fs::symlink_metadata(&path).ok()?);
            if stamp.size_bytes != size_bytes {
                return None;
            }
            let outboard =
                hashes.remove(&position).and_then(|hashes| Outboard::new(size_bytes, root, hashes.into()).ok());
            files.push(Some(match outboard {
                Some(outboard) => SourceFile::hashed(path, stamp, outboard),
                None => SourceFile::new(path, stamp, root),
            }));
        }
        Some(files)
    }

    /// The top-level paths, as they were written; not more than a person would read.
    pub fn top_paths(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let tops: BTreeSet<PathBuf> = state
            .finished
            .values()
            .filter_map(|path| path.components().next())
            .map(|top| self.shown(Path::new(&top)))
            .collect();
        tops.into_iter().take(PATHS_SHOWN_MAX).collect()
    }

    /// Files that got another name than the manifest says, because something else has that one.
    pub fn renamed(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let renamed = state.finished.iter().filter(|(position, path)| {
            let item = self.manifest.items().get(**position as usize);
            item.is_some_and(|item| item.path.iter().collect::<PathBuf>() != **path)
        });
        renamed.map(|(_, path)| self.shown(path)).take(PATHS_SHOWN_MAX).collect()
    }

    /// A path inside the folder as answers name it: in text, whatever the folder's own name is.
    fn shown(&self, path: &Path) -> PathBuf {
        PathBuf::from(self.root_path.join(path).to_string_lossy().into_owned())
    }

    fn is_finished(&self, position: u32) -> bool {
        self.state.lock().finished.contains_key(&position)
    }

    fn set_finished(&self, position: u32, item: &Item, name: &str, hashes: Option<Outboard>) {
        let folder = item.path[..item.path.len() - 1].to_vec();
        let path = folder.iter().collect::<PathBuf>().join(name);
        let mut state = self.state.lock();
        state.open.remove(&position);
        state.unsynced.remove(&position);
        state.finished.insert(position, path);
        // A folder that was made is an entry of the one above it.
        for depth in (0..=folder.len()).rev() {
            if !state.folders.insert(folder[..depth].to_vec()) {
                break;
            }
        }
        if let Some(outboard) = hashes {
            state.hashes.insert(position, outboard.group_hashes().to_vec());
        }
    }

    fn part_name(&self, position: u32) -> String {
        format!("{PART_PREFIX}{}-{position}{PART_SUFFIX}", self.tag)
    }

    /// The `.part` file, opened or made.
    fn part(&self, position: u32, item: &Item) -> Result<Arc<File>> {
        if let Some(open) = self.state.lock().open.get(&position) {
            return Ok(open.clone());
        }
        let parent = self.parent(item, Missing::Make)?.expect("missing folders are made");
        let name = self.part_name(position);
        if parent.symlink_metadata(&name).is_ok_and(|found| !found.is_file()) {
            return Err(self.in_the_way(Some(item), "something that is no file lies where its .part file belongs"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o644);
        let part = parent.open_with(&name, &options).map_err(|error| self.io(Some(item), error))?;
        let part = Arc::new(part.into_std());
        if item.size_bytes() > GROUP_BYTES as u64 {
            let mut state = self.state.lock();
            if state.open.len() >= OPEN_FILES_MAX {
                state.open.clear();
            }
            state.open.insert(position, part.clone());
        }
        Ok(part)
    }

    /// Bytes of a `.part` file that have their place on the disk already.
    fn allocated(&self, parent: &Dir, position: u32) -> u64 {
        use cap_std::fs::MetadataExt;
        parent.symlink_metadata(self.part_name(position)).map_or(0, |found| found.blocks().saturating_mul(512))
    }

    /// The folder of an item, reached step by step from the root.
    fn parent(&self, item: &Item, missing: Missing) -> Result<Option<Dir>> {
        let mut folder = self.root.try_clone().map_err(|error| self.io(Some(item), error))?;
        for name in &item.path[..item.path.len() - 1] {
            match self.enter(&folder, name, item, missing)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    fn enter(&self, folder: &Dir, name: &str, item: &Item, missing: Missing) -> Result<Option<Dir>> {
        match folder.symlink_metadata(name) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                return Err(self.in_the_way(Some(item), "a symbolic link lies in its way; it is not followed"));
            }
            Ok(_) => return Err(self.in_the_way(Some(item), "a file lies where a folder belongs")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match missing {
                Missing::Skip => return Ok(None),
                Missing::Make => match folder.create_dir(name) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(self.io(Some(item), error));
                    }
                    _ => {}
                },
            },
            Err(error) => return Err(self.io(Some(item), error)),
        }
        folder.open_dir(name).map(Some).map_err(|error| self.io(Some(item), error))
    }

    /// A file with this content under the item's name or a numbered one, and its outboard.
    fn identical(
        &self,
        parent: &Dir,
        item: &Item,
        size_bytes: u64,
        root: Root,
    ) -> Result<Option<(String, Option<Outboard>)>> {
        let wanted = item.path.last().expect("a manifest's paths have components");
        for attempt in 0..=RENAMES_MAX {
            let name = numbered(wanted, attempt);
            match parent.symlink_metadata(&name) {
                Ok(found) if found.is_file() && found.len() == size_bytes => {
                    let file = parent.open(&name).map_err(|error| self.io(Some(item), error))?;
                    let outboard = hash_open(file.into_std()).map_err(|error| self.io(Some(item), error))?;
                    if outboard.root() == root {
                        return Ok(Some((name, Some(outboard))));
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.io(Some(item), error)),
            }
        }
        Ok(None)
    }

    fn io(&self, item: Option<&Item>, error: io::Error) -> DiskError {
        system(self.show(item), error)
    }

    fn in_the_way(&self, item: Option<&Item>, why: &str) -> DiskError {
        DiskError::InTheWay { path: self.show(item), why: why.into() }
    }

    fn show(&self, item: Option<&Item>) -> String {
        item.map_or_else(|| self.root_path.display().to_string(), Item::display_path)
    }
}

/// What the system said, told apart by what a person can do about it.
fn system(path: String, error: io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Filled { path, error },
        _ => DiskError::Io { path, error },
    }
}

/// What is left of a journal's claims on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// It is complete and under its name.
    Finished,
    /// Its `.part` file is there.
    Kept,
    /// There is nothing.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Skip,
}

fn positions(manifest: &Manifest) -> impl Iterator<Item = (u32, &Item)> {
    let numbered = (0u32..).zip(manifest.items());
    numbered.filter(|(_, item)| matches!(item.kind, ItemKind::File { .. }))
}

/// Room for the whole file. Where the file system cannot reserve, the length alone is set and a full disk shows later.
fn reserve(part: &File, size_bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    if part.metadata()?.len() == size_bytes {
        return Ok(());
    }
    match rustix::fs::fallocate(part, FallocateFlags::empty(), 0, size_bytes) {
        Ok(()) => part.set_len(size_bytes),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => part.set_len(size_bytes),
        Err(error) => Err(error.into()),
    }
}

/// A handle that can be synced: those that only walk through folders cannot.
fn handle_of(folder: &Dir) -> io::Result<File> {
    folder.open(".").map(cap_std::fs::File::into_std)
}

/// Syncs the whole file system that a folder is on.
fn sync_all_of(folder: &Dir) -> io::Result<()> {
    Ok(rustix::fs::syncfs(handle_of(folder)?)?)
}

/// Renames within a folder, and never over something.
fn rename_new(folder: &Dir, from: &str, to: &str) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(folder.as_fd(), from, folder.as_fd(), to, RenameFlags::NOREPLACE) {
        // A file system without that flag: a hard link refuses to replace just as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            folder.hard_link(from, folder, to)?;
            folder.remove_file(from)
        }
        other => other.map_err(io::Error::from),
    }
}

/// `name`, `name (1).ext`, `name (2).ext` ..., never longer than a name may be.
fn numbered(name: &str, attempt: u32) -> String {
    if attempt == 0 {
        return name.to_owned();
    }
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    };
    let suffix = format!(" ({attempt})");
    let mut length =
        stem.len().min(rockpool_proto::limits::FILE_NAME_BYTES_MAX.saturating_sub(suffix.len() + extension.len()));
    while !stem.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{suffix}{extension}", &stem[..length])
}

fn hash_open(mut file: File) -> io::Result<Outboard> {
    let mut builder = OutboardBuilder::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(builder.finish()),
            length => builder.update(&buffer[..length]),
        }
    }
}
