//! What the other commands say to a running `rockpool open`: one JSON object a line over the local socket in the home.
//!
//! ```text
//!   -> {"id":1,"kind":"say","text":"hello"}
//!   <- {"id":1,"ok":{"message":{...}}}
//!   -> {"id":2,"kind":"get","offer":"3f9a","to":"/home/ann/in"}
//!   <- {"id":2,"event":{"event":"progress",...}}            any number of these
//!   <- {"id":2,"ok":{"downloaded":{...}}}                   or  {"id":2,"error":{"code":"not_found",...}}
//! ```
//!
//! A request's `id` is the caller's to choose and comes back with everything that answers it. Several requests may be
//! under way on one connection. The socket belongs to the user (mode 0600), so there is no further login.
//!
//! Lines are what `--json` prints, too: the events of `open --json` are [`Event`]s.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bytes in one line of the local API, either way.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A request with the number that its answers carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestLine {
    /// Chosen by the caller.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What can be asked of an open pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// How things stand: [`Reply::Status`].
    Status,
    /// Writes a message into the pool: [`Reply::Message`], once it is on this device's disk.
    Say {
        /// At most [`rockpool_proto::limits::MESSAGE_TEXT_CHARS_MAX`] characters.
        text: String,
    },
    /// Takes back one of one's own messages: [`Reply::Done`].
    Retract {
        /// [`MessageView::id`].
        message: String,
    },
    /// The newest messages, oldest first: [`Reply::History`]. One answer holds as many as fit a line; whoever wants more
    /// asks again for what is before the first of them, until an answer is empty.
    History {
        /// How many.
        limit: usize,
        /// [`MessageView::id`]: only messages that come before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// What is on offer in the pool: [`Reply::Offers`].
    Offers,
    /// Offers files and folders: [`Event::Hashing`] while they are read, then [`Reply::Offered`].
    Send {
        /// Absolute paths. Several paths make one offer.
        paths: Vec<PathBuf>,
    },
    /// Takes back one of one's own offers: [`Reply::Done`].
    Withdraw {
        /// An offer's id or an unambiguous beginning of it.
        offer: String,
    },
    /// Downloads an offer: [`Event::Progress`], then [`Reply::Downloaded`]. Asked again after an interruption it resumes.
    Get {
        /// An offer's id or an unambiguous beginning of it.
        offer: String,
        /// Absolute path of the folder to download into.
        to: PathBuf,
    },
    /// Stops a download and keeps what has arrived: [`Reply::Done`].
    Cancel {
        /// The offer's id or an unambiguous beginning of it.
        offer: String,
    },
    /// Everything that happens from now on, as [`Event`]s, until the connection closes.
    Subscribe,
    /// Leaves the pool's presence and ends the process: [`Reply::Done`].
    Close,
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplyLine {
    /// The request's number.
    pub id: u64,
    /// What it says.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// What a line of an answer says. `Ok` and `Error` are the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// Something on the way.
    Event(Event),
    /// The answer.
    Ok(Reply),
    /// No answer, and why.
    Error(ApiError),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Carried out.
    Done,
    /// To [`Request::Status`].
    Status(StatusView),
    /// To [`Request::Say`].
    Message(MessageView),
    /// To [`Request::History`].
    History(Vec<MessageView>),
    /// To [`Request::Offers`].
    Offers(Vec<OfferView>),
    /// To [`Request::Send`].
    Offered(OfferView),
    /// To [`Request::Get`].
    Downloaded(DownloadView),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened, what it means, what to do.
    pub message: String,
}

impl ApiError {
    /// An error of `code` that says `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Kinds of refusal; each has its exit code ([`ErrorCode::exit_code`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong: a name, a size, a path.
    Invalid,
    /// No such offer, message, pool or device.
    NotFound,
    /// Several things match the given beginning of an id.
    Ambiguous,
    /// Not allowed, or not logged in.
    Denied,
    /// The cluster, or everybody who could serve it, is out of reach. Trying again later may work.
    Unavailable,
    /// The disk is full or refuses.
    Disk,
    /// What arrived does not match what was offered.
    Damaged,
    /// Stopped by the user.
    Cancelled,
    /// A limit is reached.
    Limit,
    /// A mistake of this program.
    Internal,
}

impl ErrorCode {
    /// The process's exit status for this refusal (documented in `docs/cli.md`).
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorCode::Internal => 1,
            ErrorCode::Invalid | ErrorCode::Ambiguous => 2,
            ErrorCode::NotFound => 3,
            ErrorCode::Denied => 4,
            ErrorCode::Unavailable => 5,
            ErrorCode::Disk => 6,
            ErrorCode::Damaged => 7,
            ErrorCode::Limit => 8,
            ErrorCode::Cancelled => 130,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The pool is open: this device is present, or working alone while the cluster is out of reach.
    Opened(StatusView),
    /// A message, one's own included, each once.
    Message(MessageView),
    /// A message was taken back.
    Retracted {
        /// [`MessageView::id`].
        message: String,
    },
    /// A device is now present.
    Joined(DeviceView),
    /// A device is no longer present.
    Left(DeviceView),
    /// A direct connection to a device stands.
    Linked(DeviceView),
    /// It no longer does.
    Unlinked(DeviceView),
    /// Something is on offer.
    Offer(OfferView),
    /// An offer is gone.
    Withdrawn {
        /// [`OfferView::id`].
        offer: String,
        /// Why, for people.
        reason: String,
    },
    /// Files are being read for an offer.
    Hashing {
        /// Bytes read so far.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
        /// Files read so far.
        done_files: u64,
        /// Files in all.
        total_files: u64,
    },
    /// A download goes on.
    Progress(ProgressView),
    /// The cluster came into reach or went out of it.
    Cluster {
        /// Whether it is in reach.
        connected: bool,
        /// For people.
        text: String,
    },
    /// Events that this reader was too slow for are left out here.
    Skipped {
        /// How many.
        count: u64,
    },
    /// Something went wrong that ends nothing.
    Warning {
        /// For people.
        text: String,
    },
    /// The pool was closed, by whom the reason says.
    Closed {
        /// For programs: `fenced`, `revoked`, `left`, `expired`, `asked`.
        reason: String,
        /// For people.
        text: String,
    },
}

/// A device as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Hex.
    pub device_id: String,
    /// The device's name.
    pub device: String,
    /// The display name of the account that it belongs to.
    pub author: String,
    /// Whether it is this one.
    pub this_device: bool,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Device id and counter, `hex:counter`: unique and the same everywhere.
    pub id: String,
    /// Who wrote it.
    #[serde(flatten)]
    pub from: DeviceView,
    /// When, by the writer's hybrid clock: milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Empty when retracted.
    pub text: String,
    /// Whether it was taken back.
    pub retracted: bool,
    /// Whether messages that are known to exist and have not arrived yet may belong right before it.
    pub gap_before: bool,
}

/// A file offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// Hex of the BLAKE3 hash of its manifest.
    pub id: String,
    /// What to call it: the single file's or folder's name, or "N items".
    pub name: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Who offers it.
    #[serde(flatten)]
    pub from: DeviceView,
    /// Devices in reach that can serve it, this one included.
    pub seeders: usize,
    /// Milliseconds since 1970 UTC.
    pub at_ms: u64,
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressView {
    /// [`OfferView::id`].
    pub offer: String,
    /// Bytes verified and written.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files finished.
    pub done_files: u64,
    /// Files in all.
    pub total_files: u64,
    /// Bytes a second, lately.
    pub bytes_per_second: f64,
    /// Devices that serve it.
    pub seeders: usize,
    /// Set while it waits for something: `no seeder in reach`, `disk full`.
    pub waiting: Option<String>,
}

/// A finished download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DownloadView {
    /// [`OfferView::id`].
    pub offer: String,
    /// Top-level paths as they were written, the first 1,000 of them.
    pub paths: Vec<PathBuf>,
    /// Files that got another name than the offer says, because something else has that name; the first 1,000.
    pub renamed: Vec<PathBuf>,
    /// Files in all.
    pub files: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Of these, how many came over the wire this time.
    pub received_bytes: u64,
    /// From the first request to the last rename, milliseconds.
    pub elapsed_ms: u64,
}

/// How an open pool stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Hex.
    pub pool_id: String,
    /// Its name.
    pub pool: String,
    /// This device.
    pub me: DeviceView,
    /// Whether the cluster is in reach.
    pub cluster_connected: bool,
    /// Devices present, this one included.
    pub present: Vec<DeviceView>,
    /// Device ids with a direct connection.
    pub linked: Vec<String>,
    /// Messages in the local history.
    pub messages: u64,
    /// Whether the history is known to lack something.
    pub gaps: bool,
    /// Open offers.
    pub offers: u64,
    /// Downloads under way.
    pub downloads: Vec<String>,
    /// Process id.
    pub pid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_documented() {
        let line: RequestLine = serde_json::from_str(r#"{"id":1,"kind":"say","text":"hello"}"#).unwrap();
        assert_eq!(line.request, Request::Say { text: "hello".into() });
        let reply = ReplyLine { id: 1, body: ReplyBody::Ok(Reply::Done) };
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"id":1,"ok":"done"}"#);
        let refusal = ApiError::new(ErrorCode::NotFound, "no such offer");
        let reply = ReplyLine { id: 2, body: ReplyBody::Error(refusal) };
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"id":2,"error":{"code":"not_found","message":"no such offer"}}"#);
        let event = ReplyBody::Event(Event::Warning { text: "x".into() });
        let text = serde_json::to_string(&ReplyLine { id: 3, body: event }).unwrap();
        assert_eq!(text, r#"{"id":3,"event":{"event":"warning","text":"x"}}"#);
        let back: ReplyLine = serde_json::from_str(&text).unwrap();
        assert_eq!(back.id, 3);
    }
}
