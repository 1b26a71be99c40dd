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
            // The socket of a home with a long path lies in a folder where others can make files, too.
            Ok(stream) if !is_ours(&stream) => Err(ApiError::new(
                ErrorCode::Denied,
                format!("{} was made by another user; nothing is said to it", home.socket_path().display()),
            )),
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                let events = LocalEvents { reader: BufReader::new(reader), line: Vec::new() };
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

fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// The reading half.
pub(super) struct LocalEvents {
    reader: BufReader<OwnedReadHalf>,
    /// What has come of the next line.
    line: Vec<u8>,
}

impl LocalEvents {
    /// The next line; `None` when the other end is gone. May be given up and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Option<ReplyLine>, ApiError> {
        let left = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
        match (&mut self.reader).take(left as u64).read_until(b'\n', &mut self.line).await {
            Ok(_) if self.line.last() == Some(&b'\n') => {}
            Ok(_) if self.line.len() > LINE_BYTES_MAX => return Err(unexpected("an endless line")),
            Ok(_) | Err(_) => return Ok(None),
        }
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line).map(Some).map_err(|error| unexpected(&error.to_string()))
    }
}

fn unexpected(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("the open pool's process answered something unexpected ({what}). Is it of another version?"),
    )
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
        // Paths that are not UTF-8 have no JSON.
        let mut text = serde_json::to_string(&RequestLine { id, request })
            .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("this cannot be asked for: {error}")))?;
        text.push('\n');
        if text.len() > LINE_BYTES_MAX {
            let text = format!("this is more than {LINE_BYTES_MAX} bytes: ask for it in parts");
            return Err(ApiError::new(ErrorCode::Limit, text));
        }
        self.writer.write_all(text.as_bytes()).await.map_err(|_| gone())?;
        Ok(id)
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the process that had the pool open has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_comes_in_parts_is_not_lost_while_something_else_happens() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, _writer) = ours.into_split();
        let mut events = LocalEvents { reader: BufReader::new(reader), line: Vec::new() };
        let text = "x".repeat(100_000);
        let line = format!("{{\"id\":1,\"event\":{{\"event\":\"warning\",\"text\":\"{text}\"}}}}\n");
        let (first, second) = line.split_at(40_000);
        theirs.write_all(first.as_bytes()).await.unwrap();
        tokio::select! {
            biased;
            line = events.next() => panic!("half a line was taken for a whole one: {line:?}"),
            () = tokio::task::yield_now() => {}
        }
        theirs.write_all(second.as_bytes()).await.unwrap();
        let line = events.next().await.unwrap().unwrap();
        assert!(matches!(line.body, ReplyBody::Event(Event::Warning { text: found }) if found == text));
        drop(theirs);
        assert!(events.next().await.unwrap().is_none());
    }
}
