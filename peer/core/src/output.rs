//! Everything that a [`Peer`](crate::Peer) asks of its driver.

use std::sync::Arc;

use bytes::Bytes;
use rockpool_proto::DeviceId;

use crate::entry::{EntryId, StoredEntry};
use crate::event::Event;
use crate::input::CommandId;
use crate::negotiation::LinkCommand;
use crate::transfer::{DownloadId, FileCommand};

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Hand an encoded `SignedSignal` to the cluster. Dropped while there is no stream: it is repeated by itself.
    SendSignal {
        /// The receiver.
        to: DeviceId,
        /// Encoded `SignedSignal`.
        payload: Bytes,
    },
    /// Something about a WebRTC connection.
    Link(LinkCommand),
    /// Send these messages on the connection's data channel, in order, and report their bytes with `Sent`.
    Send(crate::negotiation::ConnectionId, Vec<Bytes>),
    /// Make durable, in order of `sequence`, then answer `Persisted(sequence)`.
    Persist {
        /// Grows by one.
        sequence: u64,
        /// Entries of the message log.
        entries: Vec<Arc<StoredEntry>>,
    },
    /// Something about files.
    Files(FileCommand),
    /// A command's answer; each command has exactly one.
    Reply(CommandId, Result<Reply, Refusal>),
    /// For people.
    Event(Event),
}

/// A command done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The message is durable here under this id, and on its way to the others.
    Appended(EntryId),
    /// The download has begun.
    Download(DownloadId),
    /// Done, nothing to tell.
    Done,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text is empty or longer than `MESSAGE_TEXT_CHARS_MAX`.
    #[error("a message has 1 to {max} characters, this one {found}")]
    TextLength {
        /// Characters found.
        found: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A manifest that breaks a rule.
    #[error("this can't be offered: {0}")]
    Manifest(#[from] crate::manifest::ManifestError),
    /// Too many open file offers, downloads or waiting messages.
    #[error("too many {what}: the limit is {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// No such message, file offer or download.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It belongs to somebody else.
    #[error("only its author can take this back")]
    NotYours,
    /// The file offer was withdrawn.
    #[error("this file offer was withdrawn")]
    Withdrawn,
    /// Others have another branch of this device's chain, and would refuse what it writes.
    #[error(
        "nothing can be written here any more: others have a different entry {0} of this device, so its folder was \
         copied or set back. Log in as a new device, with a folder of its own"
    )]
    Forked(EntryId),
    /// The peer has left the pool.
    #[error("this device has left the pool")]
    Left,
}
