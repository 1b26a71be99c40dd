//! What people are told. Nothing here changes what the machines do.

use std::sync::Arc;

use rockpool_proto::{AccountId, DeviceId};

use crate::entry::{EntryId, StoredEntry};
use crate::manifest::Manifest;
use crate::transfer::DownloadId;

/// Something worth showing.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message or a file offer is in the log now, one's own included. Late ones come late: order by
    /// [`StoredEntry::order_key`].
    Entry(Arc<StoredEntry>),
    /// A message was taken back; show it no longer, also if it comes later.
    Retracted(EntryId),
    /// A file offer was withdrawn.
    OfferWithdrawn(EntryId),
    /// A device is present in the pool.
    DeviceJoined {
        /// Which device.
        device: DeviceId,
        /// Whose, if known.
        account: Option<AccountId>,
    },
    /// A device is present no longer.
    DeviceLeft(DeviceId),
    /// Messages can be exchanged with this device.
    LinkUp(DeviceId),
    /// Not any more, for now.
    LinkDown(DeviceId),
    /// The cluster is reachable again, or isn't.
    ClusterReachable(bool),
    /// The manifest of a download has come and was checked.
    DownloadStarted {
        /// Which.
        download: DownloadId,
        /// What it holds.
        manifest: Arc<Manifest>,
    },
    /// Bytes are on disk. Comes at most a few times a second for each download.
    DownloadProgress {
        /// Which.
        download: DownloadId,
        /// Bytes verified and written, those of earlier runs included.
        done_bytes: u64,
        /// Of this many.
        total_bytes: u64,
        /// Files complete.
        done_files: u32,
        /// Devices that are sending just now.
        seeders: u32,
    },
    /// Everything is in its place.
    DownloadFinished(DownloadId),
    /// Nothing more will come.
    DownloadFailed {
        /// Which.
        download: DownloadId,
        /// Why.
        reason: DownloadFailure,
    },
    /// No device that has the content can be reached at the moment; the download waits.
    DownloadWaiting(DownloadId),
    /// Something that somebody should look at.
    Warning(Warning),
}

/// Why a download ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadFailure {
    /// By command.
    #[error("cancelled")]
    Cancelled,
    /// The offer was withdrawn and nobody else has the content.
    #[error("the file offer was withdrawn")]
    Withdrawn,
    /// The manifest breaks a rule; nothing was written.
    #[error("refused: {0}")]
    BadManifest(crate::manifest::ManifestError),
    /// The disk is full, or the folder can't be written.
    #[error("{0}")]
    Disk(String),
}

/// Something suspicious or broken, with its culprit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Bytes that don't match the root: this seeder isn't asked again in this download.
    #[error("{device} sent wrong bytes for file {file} of {download}")]
    WrongBytes {
        /// The culprit.
        device: DeviceId,
        /// The download.
        download: DownloadId,
        /// Position in the manifest.
        file: u32,
    },
    /// A seeder says that its source changed since it was offered.
    #[error("the source of the files changed at {device}")]
    SourceChanged {
        /// Who said so.
        device: DeviceId,
        /// The download.
        download: DownloadId,
    },
    /// Our own source of an open offer is gone or changed: withdraw it.
    #[error("the source of our own file offer {offer} changed or is gone")]
    OwnSourceChanged {
        /// The offer.
        offer: EntryId,
    },
    /// A device signed two different entries with one counter. The first one known is kept.
    #[error("{0} was written twice, with different contents")]
    Equivocation(EntryId),
    /// Others have another entry of our own with this counter: our store was copied, or is an old one. They refuse what
    /// follows ours, so nothing is written any more.
    #[error(
        "others have a different entry {0} of this device: its folder was copied or set back, and what is written here \
         from there on reaches nobody"
    )]
    OwnChainForked(EntryId),
    /// An entry, a signal or a frame was forged, altered or breaks a rule. It was not used.
    #[error("refused from {device}: {reason}")]
    Refused {
        /// Over whose link, or in whose name it came.
        device: DeviceId,
        /// What was wrong.
        reason: String,
    },
    /// The DTLS certificate isn't the one that the device signed: somebody sits in the middle.
    #[error("the connection to {0} is not with the device that signed for it")]
    FingerprintMismatch(DeviceId),
    /// That device's clock, or ours, is wrong by this much.
    #[error("the clock of {device} differs from ours by {ahead_ms} ms")]
    ClockSkew {
        /// Whose.
        device: DeviceId,
        /// Theirs less ours.
        ahead_ms: i64,
    },
    /// More devices are present than a full mesh serves; those placed last are not linked.
    #[error("{present} devices are present, more than are linked")]
    MeshFull {
        /// How many.
        present: usize,
    },
}
