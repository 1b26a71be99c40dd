//! Files, in ranges that are verified as they arrive.
//!
//! ```text
//!   file     |--------- block 0 (1 MiB) ---------|--------- block 1 ---------|- last -|
//!   group    |16K|16K| ...                 x 64  |
//!   on the wire, for each block asked for:
//!            PROOF  the groups' hashes and what else leads to the root     (checked before any data is looked at)
//!            DATA   1 to 3 whole groups in one frame, raw, behind 16 bytes  (checked in place, written without a copy)
//! ```
//!
//! * `tree`: hashes of groups, the outboard, proofs. Pure functions for the driver's worker threads.
//! * `groups`, `journal`: sets of groups; what is on disk.
//! * `bulk`: the byte layout of bulk frames.
//! * `download`: the machine that decides what to ask of whom.
//! * `seeder`: the machine that decides whom to serve next.
//!
//! Why proofs come before data, instead of interleaved as in bao's encoding: each frame then holds whole groups whose
//! hashes are known already, so it is checked where it lies and goes to disk as it came. Roots are plain BLAKE3 roots
//! and the groups are those of `bao-tree` with 16 KiB groups; tests compare against it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::manifest::Manifest;

/// A BLAKE3 hash of a whole content: a file's or a manifest's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; 32]);

impl Root {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Root {
        Root(*blake3::hash(bytes).as_bytes())
    }
}

impl TryFrom<&[u8]> for Root {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Root, Self::Error> {
        bytes.try_into().map(Root)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A download of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DownloadId(pub u64);

impl fmt::Display for DownloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// Names one piece of work on a file; comes back with its result, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something to do with files, on threads of the driver's.
#[derive(Clone, Debug)]
pub enum FileCommand {
    /// Read a range of an offered source with [`encode_range`](crate::encode_range) and answer `RangeRead`.
    Read(Ticket, ReadRange),
    /// Make the folder, keep room and open `.part` files, then answer `DownloadPrepared`. Files that the journal of the
    /// `Get` command calls finished are in place already.
    Prepare {
        /// For which download.
        download: DownloadId,
        /// Checked already: its paths are safe.
        manifest: Arc<Manifest>,
    },
    /// Check the groups with [`verify_piece`](crate::verify_piece), write them, then answer `RangeStored`.
    Store(Ticket, StoreRange),
    /// The file is complete: sync, rename, then answer `FilesFinished`. Empty files and folders come this way only.
    Finish {
        /// For which download.
        download: DownloadId,
        /// Positions in the manifest.
        items: Vec<u32>,
    },
    /// Sync what was stored, then keep this journal: it is what a later run may build on.
    Checkpoint(DownloadId, DownloadJournal),
    /// Every item is finished: sync the folders and drop the journal.
    Complete(DownloadId),
    /// The download was given up: remove its `.part` files and journal.
    Discard(DownloadId),
}

/// A part of one request, of at most a block or of many small files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// Names the file offer's content.
    pub manifest_root: Root,
    /// The downloader's number for the request; travels in the frames.
    pub request: u32,
    /// What to read.
    pub pieces: Vec<ReadPiece>,
}

/// Groups of one file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPiece {
    /// Position in the manifest.
    pub file: u32,
    /// Which groups; within one block.
    pub range: GroupRange,
    /// The file's size and root, as offered.
    pub size_bytes: u64,
    /// See there.
    pub root: Root,
}

/// Verified groups to be written.
#[derive(Clone, Debug)]
pub struct StoreRange {
    /// For which download.
    pub download: DownloadId,
    /// What to write.
    pub pieces: Vec<StorePiece>,
}

/// Groups of one file that lie one behind the other, as they came.
#[derive(Clone, Debug)]
pub struct StorePiece {
    /// Position in the manifest.
    pub file: u32,
    /// Which groups.
    pub range: GroupRange,
    /// The groups' hashes, proven to lead to the root: `range.count` of them. The driver may keep them at `32 *
    /// range.first` as the file's outboard. For a file of one group it is the root itself.
    pub hashes: Vec<[u8; 32]>,
    /// The bytes, in order; each slice holds whole groups.
    pub data: Vec<Bytes>,
}

/// Why a seeder couldn't read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// Size, time, inode or content differ from what was offered, or it is gone.
    #[error("the source changed since it was offered")]
    SourceChanged,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Why a downloader couldn't store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// The group doesn't match its hash: the sender is to blame.
    #[error("wrong bytes in group {group} of file {file}")]
    WrongBytes {
        /// Position in the manifest.
        file: u32,
        /// Which group.
        group: u64,
    },
    /// The disk is full, or fails: nobody else is to blame.
    #[error("{0}")]
    Disk(String),
}

pub(crate) mod bulk;
pub(crate) mod download;
mod groups;
mod journal;
pub(crate) mod seeder;
mod tree;

pub use bulk::BulkFrame;
pub use groups::{GroupRange, GroupSet};
pub use journal::{DownloadJournal, ItemProgress, JournalError};
pub use tree::{
    BLOCK_GROUPS, BadOutboard, GROUP_BYTES, GroupHash, Outboard, OutboardBuilder, check_proof, encode_range,
    group_count, range_bytes, verify_piece,
};
