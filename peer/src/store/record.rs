//! Records of the local store. Encoded as protobuf, so that a later version can add fields.

use std::path::PathBuf;

use rockpool_peer_core::Root;

use crate::files::FileStamp;

/// Where one file of an offer lies, and what it looked like.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceRecord {
    /// The path's bytes; empty for a folder.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// When it was hashed.
    #[prost(message, optional, tag = "2")]
    pub seen: Option<RootRecord>,
}

impl SourceRecord {
    /// The path.
    pub fn path(&self) -> PathBuf {
        path_from(&self.path)
    }
}

/// An own offer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OfferRecord {
    /// The encoded manifest.
    #[prost(bytes = "vec", tag = "1")]
    pub manifest: Vec<u8>,
    /// One for each item of the manifest, in order.
    #[prost(message, repeated, tag = "2")]
    pub sources: Vec<SourceRecord>,
    /// Set once it is being taken back.
    #[prost(bool, tag = "3")]
    pub withdrawn: bool,
}

/// A download that was begun.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DownloadRecord {
    /// The offer's author and counter.
    #[prost(bytes = "vec", tag = "1")]
    pub offer_device: Vec<u8>,
    /// See there.
    #[prost(uint64, tag = "2")]
    pub offer_counter: u64,
    /// The chosen folder: the path's bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub to: Vec<u8>,
    /// The encoded manifest; empty until it has come.
    #[prost(bytes = "vec", tag = "4")]
    pub manifest: Vec<u8>,
    /// The core's encoded journal; empty until the first checkpoint.
    #[prost(bytes = "vec", tag = "5")]
    pub journal: Vec<u8>,
    /// How it stands.
    #[prost(enumeration = "DownloadState", tag = "6")]
    pub state: i32,
    /// Of a finished download: the files, in the manifest's order.
    #[prost(message, repeated, tag = "7")]
    pub sources: Vec<SourceRecord>,
}

impl DownloadRecord {
    /// The chosen folder.
    pub fn to_path(&self) -> PathBuf {
        path_from(&self.to)
    }
}

/// How a download stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DownloadState {
    /// Under way, or interrupted.
    Open = 0,
    /// Everything is in its place; it can be served.
    Finished = 1,
}

/// What a file looked like, and its root.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RootRecord {
    #[prost(uint64, tag = "1")]
    size_bytes: u64,
    /// Seconds and nanoseconds apart, because together they need more than 64 bits.
    #[prost(sint64, tag = "2")]
    mtime_s: i64,
    #[prost(uint32, tag = "3")]
    mtime_ns: u32,
    #[prost(uint64, tag = "4")]
    inode: u64,
    #[prost(uint64, tag = "5")]
    device: u64,
    #[prost(bytes = "vec", tag = "6")]
    root: Vec<u8>,
}

const NANOSECONDS: i128 = 1_000_000_000;

impl RootRecord {
    /// Of a file seen now.
    pub fn new(stamp: &FileStamp, root: Root) -> RootRecord {
        let (seconds, nanoseconds) = (stamp.mtime_ns.div_euclid(NANOSECONDS), stamp.mtime_ns.rem_euclid(NANOSECONDS));
        RootRecord {
            size_bytes: stamp.size_bytes,
            mtime_s: i64::try_from(seconds).unwrap_or(i64::MAX),
            mtime_ns: u32::try_from(nanoseconds).expect("less than a second"),
            inode: stamp.inode,
            device: stamp.device,
            root: root.0.to_vec(),
        }
    }

    /// What it looked like.
    pub fn stamp(&self) -> FileStamp {
        FileStamp {
            size_bytes: self.size_bytes,
            mtime_ns: i128::from(self.mtime_s) * NANOSECONDS + i128::from(self.mtime_ns),
            inode: self.inode,
            device: self.device,
        }
    }

    /// Its root.
    pub fn root(&self) -> Option<Root> {
        Root::try_from(self.root.as_slice()).ok()
    }
}

/// A path from the bytes in a record.
fn path_from(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
