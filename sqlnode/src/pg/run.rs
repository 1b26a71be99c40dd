//! Running a statement: the store's transaction around it, its rows, and trying again.
//!
//! A statement that is a transaction by itself is run again inside the node when another transaction was faster, as
//! long as none of its rows has left. Only begin and commit wait for the network; the statement itself is synchronous
//! code on this thread, and its rows go to the socket from there, so a slow client slows its own statement only.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rockpool_proto::limits::PG_PORTAL_BYTES_MAX;
use rockpool_sql::types::TextContext;
use rockpool_sql::{Class, Column, CommandTag, Prepared, Row, RowSink, SqlError, SqlState, Statement, Type, Value};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::connection::Connection;
use super::encoding::Format;
use super::portal::WaitingRows;
use super::privileges;
use super::respond::Output;
use super::{Ended, Stream, sql_error};
use crate::session::Outcome;

/// Bytes of rows that gather before they go to the socket.
const FLUSH_BYTES: usize = 128 * 1024;
/// How long a client may take nothing of what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a statement that is a transaction by itself is tried.
const ATTEMPTS_MAX: u32 = 12;
/// How long it is tried.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// What runs.
pub(super) struct Runnable<'a> {
    pub(super) statement: &'a Statement,
    /// Prepared before, by Parse; otherwise it is prepared here.
    pub(super) prepared: Option<&'a Arc<Prepared>>,
    pub(super) params: &'a [Value],
    pub(super) formats: &'a [Format],
    /// The simple protocol describes the rows before it sends them.
    pub(super) describe: bool,
    pub(super) rows: RowsTo,
    /// The statement is a transaction by itself: commit it, and try it again when that helps.
    pub(super) alone: bool,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowsTo {
    /// To the client as they come.
    Client,
    /// Into a portal that hands them out.
    Portal {
        /// As many as it may keep.
        bytes_max: usize,
    },
}

/// What a statement did.
pub(super) struct Ran {
    pub(super) tag: CommandTag,
    pub(super) waiting: WaitingRows,
}

/// Why a statement did not run: its error, or the connection's end.
pub(super) enum Failed {
    Statement(SqlError),
    Connection(Ended),
}

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Failed::Statement(error)
    }
}

impl Connection {
    /// Runs a statement inside the session's transaction, which is begun if there is none.
    pub(super) async fn run(&mut self, runnable: &Runnable<'_>) -> Result<Ran, Failed> {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mark = self.output.buffer.len();
            let mut flushed = false;
            let result = self.try_once(runnable, &mut flushed).await;
            let error = match result {
                Ok(ran) => return Ok(ran),
                Err(Failed::Statement(error)) => error,
                Err(ended) => return Err(ended),
            };
            if !flushed {
                self.output.buffer.truncate(mark);
            }
            let again = runnable.alone
                && !flushed
                && error.class() == Class::Retry
                && attempt < ATTEMPTS_MAX
                && began.elapsed() < RETRY_FOR;
            if !again {
                return Err(Failed::Statement(error));
            }
            self.transaction = None;
            self.shared.metrics.statement_retried();
            self.pause(attempt).await?;
        }
    }

    async fn try_once(&mut self, runnable: &Runnable<'_>, flushed: &mut bool) -> Result<Ran, Failed> {
        self.begin_if_none().await?;
        let ran = self.execute(runnable, flushed)?;
        if runnable.alone {
            self.commit().await?;
        }
        Ok(ran)
    }

    /// Begins the store's transaction if there is none.
    pub(super) async fn begin_if_none(&mut self) -> Result<(), SqlError> {
        if self.transaction.is_some() {
            return Ok(());
        }
        let slot = Arc::clone(&self.registered.slot);
        let begun = tokio::select! {
            begun = self.shared.database.begin() => begun.map_err(sql_error)?,
            () = slot.cancelled() => return Err(slot.error()),
        };
        self.transaction = Some(begun);
        let now = self.shared.database.environment().now_us();
        self.session.info_mut().transaction_time_us = now;
        Ok(())
    }

    /// Commits the store's transaction, if there is one. The session hears of it from the caller.
    pub(super) async fn commit(&mut self) -> Result<(), SqlError> {
        match self.transaction.take() {
            Some(transaction) => self.shared.database.commit(transaction).await.map_err(sql_error),
            None => Ok(()),
        }
    }

    /// Ends the transaction that a query or a pipeline opened by itself.
    pub(super) async fn finish_implicit(&mut self) -> Result<(), SqlError> {
        let committed = self.commit().await;
        let outcome = if committed.is_ok() { Outcome::Committed } else { Outcome::RolledBack };
        self.session.ended(outcome);
        committed
    }

    fn execute(&mut self, runnable: &Runnable<'_>, flushed: &mut bool) -> Result<Ran, Failed> {
        self.stamp_statement();
        let Connection { transaction, session, shared, output, stream, .. } = self;
        let transaction = transaction.as_mut().ok_or_else(|| SqlError::internal("no transaction was begun"))?;
        let info = session.info();
        let handle = Handle::current();
        let mut broken = None;
        let ran = tokio::task::block_in_place(|| {
            let store = &mut **transaction as &mut dyn rockpool_sql::Store;
            let prepared = match runnable.prepared {
                Some(prepared) => rockpool_sql::refreshed(prepared, store, info, shared.database.caches())?,
                None => rockpool_sql::prepare(runnable.statement, store, info, shared.database.caches(), &[])?,
            };
            privileges::check(&prepared, store, info, shared.database.caches())?;
            let columns = prepared.columns().unwrap_or(&[]);
            if runnable.describe && prepared.columns().is_some() {
                output.row_description(columns, runnable.formats);
            }
            let mut waiting = Output::default();
            let keep = match runnable.rows {
                RowsTo::Client => None,
                RowsTo::Portal { bytes_max } => Some(bytes_max),
            };
            let names = prepared.names(info);
            let mut sink = WireSink {
                columns,
                formats: runnable.formats,
                context: TextContext { time_zone: session.time_zone(), catalog: &*names, ..TextContext::utc() },
                output: if keep.is_some() { &mut waiting } else { output },
                to: match keep {
                    None => To::Stream(stream),
                    Some(bytes_max) => To::Portal { bytes_max },
                },
                handle: &handle,
                flushed,
                broken: &mut broken,
            };
            let tag = rockpool_sql::execute(&prepared, runnable.params, store, info, &mut sink)?;
            let waiting = WaitingRows::new(waiting.buffer, tag.to_string());
            Ok(Ran { tag, waiting })
        });
        self.session.take_changed_settings()?;
        match broken {
            Some(error) => Err(Failed::Connection(Ended::Io(error))),
            None => ran.map_err(|error: SqlError| Failed::Statement(self.told_to_stop(error))),
        }
    }

    /// Prepares a statement in the session's transaction: for Parse.
    pub(super) async fn prepare(
        &mut self,
        statement: &Statement,
        hints: &[Option<Type>],
    ) -> Result<Arc<Prepared>, SqlError> {
        self.begin_if_none().await?;
        self.stamp_statement();
        let Connection { transaction, session, shared, .. } = self;
        let store = transaction.as_deref().ok_or_else(|| SqlError::internal("no transaction was begun"))?;
        let prepare = || rockpool_sql::prepare(statement, store, session.info(), shared.database.caches(), hints);
        tokio::task::block_in_place(prepare)
    }

    /// Gives the statement its time, its randomness and its switch.
    pub(super) fn stamp_statement(&mut self) {
        let environment = self.shared.database.environment();
        let (now, seed) = (environment.now_us(), environment.random());
        let info = self.session.info_mut();
        info.statement_time_us = now;
        info.random_seed = seed;
    }

    /// Who stopped a statement gives the reason; the executor only knows that it was to stop.
    pub(super) fn told_to_stop(&self, error: SqlError) -> SqlError {
        if error.state == SqlState::QUERY_CANCELED { self.registered.slot.error() } else { error }
    }

    async fn pause(&mut self, attempt: u32) -> Result<(), SqlError> {
        let chance = u32::from(self.shared.database.environment().random::<1>()[0]);
        let full_us = 500u32 << attempt.min(7);
        let pause = Duration::from_micros(u64::from(full_us / 2 + full_us / 2 * chance / 256));
        let slot = &self.registered.slot;
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = slot.cancelled() => Err(slot.error()),
        }
    }

    /// Sends what has gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        send(&mut *self.stream, &mut self.output.buffer).await.map_err(Ended::Io)
    }
}

pub(super) async fn send(stream: &mut dyn Stream, buffer: &mut BytesMut) -> std::io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    let sent = tokio::time::timeout(SEND_TIMEOUT, async {
        stream.write_all(buffer).await?;
        stream.flush().await
    });
    sent.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
    buffer.clear();
    Ok(())
}

/// Where a sink's rows go when enough have gathered.
enum To<'a> {
    Stream(&'a mut Box<dyn Stream>),
    Portal { bytes_max: usize },
}

/// Encodes rows, and sends them when enough have gathered.
struct WireSink<'a> {
    columns: &'a [Column],
    formats: &'a [Format],
    context: TextContext<'a>,
    output: &'a mut Output,
    to: To<'a>,
    handle: &'a Handle,
    flushed: &'a mut bool,
    broken: &'a mut Option<std::io::Error>,
}

impl RowSink for WireSink<'_> {
    fn rows(&mut self, batch: Vec<Row>) -> Result<ControlFlow<()>, SqlError> {
        for row in &batch {
            self.output.row(row, self.columns, self.formats, &self.context)?;
        }
        match &mut self.to {
            To::Stream(stream) if self.output.buffer.len() >= FLUSH_BYTES => {
                *self.flushed = true;
                if let Err(error) = self.handle.block_on(send(&mut ***stream, &mut self.output.buffer)) {
                    *self.broken = Some(error);
                    return Ok(ControlFlow::Break(()));
                }
            }
            To::Portal { bytes_max } if self.output.buffer.len() > *bytes_max => {
                return Err(SqlError::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!(
                        "the results of a session's portals with row limits are larger than {PG_PORTAL_BYTES_MAX} bytes"
                    ),
                )
                .with_hint("Fetch all rows at once, or narrow the statement with LIMIT and a condition on its key."));
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}
