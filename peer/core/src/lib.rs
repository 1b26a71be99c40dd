//! The peer as a machine: no socket, thread, file, clock or global randomness, and it builds for wasm32.
//!
//! One [`Peer`] is one device's presence in one pool. A driver tells it what happened and does what it says:
//!
//! ```text
//!   loop {
//!       peer.handle_input(now, input);
//!       while let Some(output) = peer.poll_output() { carry out }
//!       wait for the next event, until peer.poll_timeout() at the latest, which is Input::Timeout
//!   }
//! ```
//!
//! | part | decides |
//! |---|---|
//! | [`identity`] | what a device's signature means |
//! | [`entry`], `log`, `sync` | what was said, in which order, and who lacks what |
//! | [`roster`], [`overlay`] | who is there and who links to whom |
//! | [`signal`], [`negotiation`] | how a link comes to be, and that nobody sits in between |
//! | [`names`], [`manifest`] | which files may be offered and received |
//! | [`transfer`] | what to ask of whom, what to serve, and that every byte is right |
//!
//! It knows nothing of WebRTC libraries, runtimes, stores and terminals. Reads are plain calls on [`Peer`].

mod clock;
pub mod entry;
mod event;
mod frame;
pub mod identity;
mod input;
mod log;
pub mod manifest;
pub mod names;
pub mod negotiation;
mod output;
pub mod overlay;
mod peer;
pub mod roster;
#[cfg(test)]
mod seeds;
pub mod signal;
mod sync;
mod time;
pub mod transfer;

pub use entry::{Body, EntryId, FileOffer, OrderKey, StoredEntry};
pub use event::{DownloadFailure, Event, Warning};
pub use identity::{DeviceKeys, DevicePublicKey};
pub use input::{Command, CommandId, Input};
pub use log::MessageLog;
pub use manifest::{Item, ItemKind, Manifest, ManifestError};
pub use negotiation::{ConnectionId, LinkCommand};
pub use output::{Output, Refusal, Reply};
pub use peer::{Config, Peer, Restored};
pub use roster::{Directory, Member, MemberDevice, Roster, RosterChange, RosterNode};
pub use signal::{Candidate, Fingerprint, Purpose};
pub use time::{Now, Time};
pub use transfer::{
    DownloadId, DownloadJournal, FileCommand, Outboard, OutboardBuilder, ReadFailure, ReadPiece, ReadRange, Root,
    StoreFailure, StorePiece, StoreRange, Ticket, encode_range, verify_piece,
};
