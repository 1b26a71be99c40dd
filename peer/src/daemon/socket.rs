//! The local API: JSON lines over a Unix socket in the home (see [`crate::api`]).
//!
//! The socket is the user's alone: mode 0600 in a folder of mode 0700, and a connection of another user is refused by its
//! credentials. A socket file that a killed process left is replaced; that nobody else uses it is shown by the home's lock,
//! which the caller holds.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::Call;
use super::caller::{ANSWERS_RESERVED, Caller, QUEUED_MAX, REQUESTS_MAX};
use crate::api::{ApiError, ErrorCode, LINE_BYTES_MAX, ReplyBody, ReplyLine, RequestLine};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;

/// The listening socket; its file goes when it is dropped.
pub(super) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Listens at `path`, in the place of whatever is there.
    pub(super) fn bind(path: PathBuf) -> io::Result<LocalSocket> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(LocalSocket { listener, path })
    }

    /// Serves connections until told to stop; then each is written what waits for it, and ends.
    pub(super) async fn serve(self, calls: mpsc::Sender<Call>, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX && is_ours(&stream) => {
                    connections.spawn(serve_one(stream, calls.clone(), stop.clone()));
                }
                Ok(_) => {}
                Err(error) => {
                    // Out of file descriptors, most likely: waiting for one beats spinning.
                    tracing::warn!(%error, "the local socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        // Nobody can connect any more, and the file is gone.
        drop(self);
        while connections.join_next().await.is_some() {}
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// A line's bytes. One that is too long, or has no JSON, becomes the error that says so.
fn text_of(line: &ReplyLine) -> Vec<u8> {
    let written = match serde_json::to_vec(line) {
        Ok(text) if text.len() < LINE_BYTES_MAX => Ok(text),
        Ok(text) => Err(format!("it has {} bytes, more than a line may have", text.len())),
        Err(error) => Err(error.to_string()),
    };
    let mut text = written.unwrap_or_else(|why| {
        let error = ApiError::new(ErrorCode::Internal, format!("the answer cannot be written: {why}"));
        let refusal = ReplyLine { id: line.id, body: ReplyBody::Error(error) };
        serde_json::to_vec(&refusal).expect("an error is a code and a text")
    });
    text.push(b'\n');
    text
}

async fn serve_one(stream: UnixStream, calls: mpsc::Sender<Call>, mut stop: watch::Receiver<bool>) {
    let (read, mut write) = stream.into_split();
    let (lines_tx, mut lines) = mpsc::channel::<ReplyLine>(QUEUED_MAX);
    let under_way = Arc::new(Semaphore::new(REQUESTS_MAX));
    let written = Arc::new(Notify::new());
    let progress = written.clone();
    let writer = async move {
        while let Some(line) = lines.recv().await {
            progress.notify_one();
            if write.write_all(&text_of(&line)).await.is_err() {
                lines.close();
                return progress.notify_one();
            }
        }
    };
    let reader = async move {
        let mut read = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            // Whoever does not read its answers is asked nothing more.
            while lines_tx.capacity() < ANSWERS_RESERVED && !lines_tx.is_closed() {
                written.notified().await;
            }
            let Ok(one) = under_way.clone().acquire_owned().await else { return };
            let limit = LINE_BYTES_MAX as u64 + 1;
            match (&mut read).take(limit).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let whole = line.last() == Some(&b'\n') && line.len() <= LINE_BYTES_MAX;
            let parsed = if whole {
                serde_json::from_slice::<RequestLine>(&line).map_err(|error| error.to_string())
            } else {
                Err(format!("a line has at most {LINE_BYTES_MAX} bytes and ends with a line feed"))
            };
            match parsed {
                Ok(RequestLine { id, request }) => {
                    let caller = Caller::line(id, lines_tx.clone(), one);
                    if calls.send(Call { request, caller }).await.is_err() {
                        return;
                    }
                }
                Err(reason) => {
                    let id = serde_json::from_slice::<serde_json::Value>(&line)
                        .ok()
                        .and_then(|value| value.get("id")?.as_u64())
                        .unwrap_or(0);
                    let error = ApiError::new(ErrorCode::Invalid, format!("not a request: {reason}"));
                    let _ = lines_tx.send(ReplyLine { id, body: ReplyBody::Error(error) }).await;
                    if !whole {
                        return;
                    }
                }
            }
        }
    };
    // The writer ends by itself once the reader and every caller are gone; a connection that is closed for writing only
    // still gets its answers.
    let reader = async move {
        tokio::select! {
            () = reader => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    };
    tokio::join!(reader, writer);
}
