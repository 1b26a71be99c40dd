//! Everything that can happen to a [`Peer`](crate::Peer).

use bytes::Bytes;
use rockpool_proto::DeviceId;

use crate::entry::EntryId;
use crate::manifest::Manifest;
use crate::negotiation::ConnectionId;
use crate::roster::{Member, Roster, RosterChange};
use crate::signal::{Candidate, Fingerprint};
use crate::transfer::{DownloadId, DownloadJournal, ReadFailure, StoreFailure, Ticket};

/// Chosen by the driver; comes back with the command's [`Output::Reply`](crate::Output::Reply).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// What a person asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Say something to the pool. Answered with [`Reply::Appended`](crate::Reply::Appended).
    Say(String),
    /// Offer files. The driver has hashed them already and can read each by its position in the manifest.
    /// Answered with `Appended`: the entry's id is the file offer's id.
    Offer {
        /// What is offered.
        manifest: Manifest,
        /// A name for people: the file, or the folder, or the first of several.
        name: String,
    },
    /// Take back an own file offer, because its owner wishes so or because its source is gone or changed.
    Withdraw(EntryId),
    /// Take back a message of one's own account.
    Retract(EntryId),
    /// Download a file offer. Answered with [`Reply::Download`](crate::Reply::Download) at once; the rest are events.
    Get {
        /// The file offer.
        offer: EntryId,
        /// What an earlier run has verified and stored already.
        journal: Option<DownloadJournal>,
    },
    /// Stop asking for a download's ranges; what has come is kept.
    Pause(DownloadId),
    /// Go on with a paused download.
    Resume(DownloadId),
    /// Give a download up.
    Cancel(DownloadId),
    /// Leave the pool: says goodbye on all links and closes them.
    Leave,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A person's command.
    Command(CommandId, Command),

    /// The cluster has taken our stream (`Welcome`). Comes again after each reconnection.
    Attached {
        /// Of this device, from now on.
        presence_epoch: u64,
        /// Who is present.
        roster: Roster,
        /// All members, with all devices, revoked ones too.
        members: Vec<Member>,
    },
    /// The stream is gone. Nothing stops but joining.
    Detached,
    /// A change of the roster.
    RosterChanged(RosterChange),
    /// A member or a device of one is new or changed.
    MemberChanged(Member),
    /// A signal relayed by the cluster: an encoded `SignedSignal`.
    Signal {
        /// Who sent it, as the cluster says; must agree with the signature.
        from: DeviceId,
        /// Encoded `SignedSignal`.
        payload: Bytes,
    },

    /// The local description that [`LinkCommand`](crate::LinkCommand) `CreateOffer` or `AcceptOffer` asked for, set
    /// as the connection's local description.
    LocalDescription {
        /// Whose.
        connection: ConnectionId,
        /// Text of the offer or answer.
        sdp: String,
    },
    /// The connection could not be made, or a description or candidate was refused by the WebRTC library.
    ConnectionError {
        /// Which.
        connection: ConnectionId,
        /// For people and logs.
        reason: String,
    },
    /// A local candidate to send to the other side; `None` when there are no more.
    LocalCandidate {
        /// Whose.
        connection: ConnectionId,
        /// The candidate.
        candidate: Option<Candidate>,
    },
    /// DTLS is up. `remote` is the SHA-256 of the certificate that the other side really used.
    Connected {
        /// Which.
        connection: ConnectionId,
        /// Compared with the signed description; a difference closes the connection.
        remote: Fingerprint,
    },
    /// ICE lost the path and may find it again.
    Disconnected(ConnectionId),
    /// The connection is dead, by failure or by the other side's closing.
    Closed(ConnectionId),
    /// The connection's one data channel (label `rockpool`) is open for sending.
    ChannelOpen(ConnectionId),
    /// A message came on the data channel.
    Frame(ConnectionId, Bytes),
    /// Bytes of earlier [`Output::Send`](crate::Output::Send)s were taken over by the channel's send buffer, which is
    /// below its mark: this is the back-pressure. Every byte that was sent must be reported once.
    Sent(ConnectionId, u64),
    /// Addresses of this device changed: restart ICE everywhere.
    NetworkChanged,

    /// All records up to this sequence number are durable.
    Persisted(u64),

    /// A seeder's range was read and encoded with [`encode_range`](crate::encode_range), or couldn't be.
    RangeRead(Ticket, Result<Vec<Bytes>, ReadFailure>),
    /// A downloader's groups were checked with [`verify_piece`](crate::verify_piece) and written.
    RangeStored(Ticket, Result<(), StoreFailure>),
    /// The download's folder and `.part` files are ready.
    DownloadPrepared(DownloadId, Result<(), String>),
    /// These items are complete, synced and under their names, or can't be.
    FilesFinished {
        /// Which download.
        download: DownloadId,
        /// Positions in the manifest, as they were given.
        items: Vec<u32>,
        /// What went wrong, for people.
        result: Result<(), String>,
    },

    /// Nothing happened, but [`Peer::poll_timeout`](crate::Peer::poll_timeout) has come.
    Timeout,
}
