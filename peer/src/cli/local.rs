//! A connection to the process that has a pool open.

use crate::api::{ApiError, ErrorCode, Event, LINE_BYTES_MAX, Reply, ReplyBody, ReplyLine, Request, RequestLine};
use crate::home::Home;
use std::io::ErrorKind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// One connection; requests go one after the other.
pub(super) struct Local {
    events: LocalEvents,
    requests: LocalRequests,
}

impl Local {
    /// Connects, or says that no pool is open.
    pub(super) async fn connect(home: &Home) -> Result<Local, ApiError> {
        Self::try_connect(home).await?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Unavailable,
                "no pool is open on this device. Run: rockpool open POOL   (with --detach to keep this terminal)",
            )
        })
    }

    /// Connects if a pool is open.
    pub(super) async fn try_connect(home: &Home) -> Result<Option<Local>, ApiError> {
        match UnixStream::connect(home.socket_path()).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                let events = LocalEvents { reader: BufReader::new(reader) };
                Ok(Some(Local { events, requests: LocalRequests { writer, next_id: 1 } }))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(ApiError::new(
                ErrorCode::Internal,
                format!("cannot connect to {}: {error}", home.socket_path().display()),
            )),
        }
    }

    /// Sends a request and waits for its answer; what happens on the way goes to `on_event`.
    pub(super) async fn ask(&mut self, request: Request, mut on_event: impl FnMut(Event)) -> Result<Reply, ApiError> {
        self.requests.send(request).await?;
        loop {
            match self.events.next().await?.map(|line| line.body) {
                Some(ReplyBody::Event(event)) => on_event(event),
                Some(ReplyBody::Ok(reply)) => return Ok(reply),
                Some(ReplyBody::Error(error)) => return Err(error),
                None => return Err(gone()),
            }
        }
    }

    /// Takes the connection apart, to read and write at the same time.
    pub(super) fn split(self) -> (LocalEvents, LocalRequests) {
        (self.events, self.requests)
    }
}

/// The reading half.
pub(super) struct LocalEvents {
    reader: BufReader<OwnedReadHalf>,
}

impl LocalEvents {
    /// The next line; `None` when the other end is gone.
    pub(super) async fn next(&mut self) -> Result<Option<ReplyLine>, ApiError> {
        let mut line = String::new();
        let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX as u64);
        match bounded.read_line(&mut line).await {
            Ok(0) | Err(_) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).map_err(|error| {
                ApiError::new(
                    ErrorCode::Internal,
                    format!(
                        "the open pool's process answered something unexpected ({error}). Is it of another version?"
                    ),
                )
            }),
        }
    }
}

/// The writing half.
pub(super) struct LocalRequests {
    writer: OwnedWriteHalf,
    next_id: u64,
}

impl LocalRequests {
    /// Sends a request and returns the number that its answers will carry.
    pub(super) async fn send(&mut self, request: Request) -> Result<u64, ApiError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut text = serde_json::to_string(&RequestLine { id, request }).expect("requests have string keys only");
        text.push('\n');
        self.writer.write_all(text.as_bytes()).await.map_err(|_| gone())?;
        Ok(id)
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the process that had the pool open has ended")
}
