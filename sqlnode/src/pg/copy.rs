//! COPY between a table and the client: rows as lines, many in one message.
//!
//! Data from the client is inserted as it comes, some hundred rows at a time, all in the session's transaction. If a row
//! is wrong, the client hears of it at once; what it goes on sending is passed over, as the protocol wants it.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rockpool_proto::limits::SQL_STATEMENT_BYTES_MAX;
use rockpool_sql::types::{SECOND_MICROS, TextContext, UNIX_OFFSET_SECONDS, decode_text, encode_text};
use rockpool_sql::{
    Column, CopyReader, CopyRow, CopyStatement, Prepared, Row, RowSink, SqlError, SqlState, Statement, Value,
};
use tokio::runtime::Handle;

use super::connection::Connection;
use super::frontend::Frontend;
use super::run::{Failed, send};
use super::{Ended, Stream, privileges};

/// Rows inserted at once.
const ROWS_AT_ONCE: usize = 256;
/// Parameters of one INSERT, as the protocol would count them.
const PARAMS_MAX: usize = 65_535;
/// Bytes of lines that gather before they go to the socket.
const FLUSH_BYTES: usize = 128 * 1024;

fn only_statement(sql: &str) -> Result<Statement, SqlError> {
    if sql.len() > SQL_STATEMENT_BYTES_MAX {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "the statement behind COPY is too long"));
    }
    let mut statements = rockpool_sql::parse(sql)?;
    statements.pop().ok_or_else(|| SqlError::internal("COPY made no statement"))
}

/// Errors point into a statement that the client has not written.
fn without_position(mut error: SqlError) -> SqlError {
    error.position = None;
    error
}

impl Connection {
    /// Copies, in the session's transaction; answers the command tag.
    pub(super) async fn copy(&mut self, copy: &CopyStatement) -> Result<String, Failed> {
        let rows = if copy.is_from_client() { self.copy_in(copy).await? } else { self.copy_out(copy).await? };
        Ok(format!("COPY {rows}"))
    }

    /// Prepares a statement that is part of a COPY, if the role may run it.
    async fn prepare_part(&mut self, sql: &str) -> Result<Arc<Prepared>, SqlError> {
        let statement = only_statement(sql).map_err(without_position)?;
        let prepared = self.prepare(&statement, &[]).await.map_err(without_position)?;
        let Connection { transaction, session, shared, .. } = self;
        let store = transaction.as_deref_mut().ok_or_else(|| SqlError::internal("no transaction was begun"))?;
        privileges::check(&prepared, store, session.info(), shared.database.caches())?;
        Ok(prepared)
    }

    async fn copy_out(&mut self, copy: &CopyStatement) -> Result<u64, Failed> {
        let prepared = self.prepare_part(&copy.select_sql()).await?;
        let columns = prepared.columns().unwrap_or(&[]);
        self.output.copy_begins(b'H', columns.len());
        self.stamp_statement();
        let Connection { transaction, session, shared: _, output, stream, .. } = self;
        let store = transaction.as_deref_mut().ok_or_else(|| SqlError::internal("no transaction was begun"))?;
        let info = session.info();
        let names = prepared.names(info);
        let mut sink = CopySink {
            copy,
            columns,
            context: TextContext { time_zone: session.time_zone(), catalog: &*names, ..TextContext::utc() },
            buffer: &mut output.buffer,
            stream,
            handle: Handle::current(),
            line: Vec::new(),
            broken: None,
        };
        if copy.format().has_header() {
            sink.write(columns.iter().map(|column| Some(column.name.as_str())));
        }
        let ran = tokio::task::block_in_place(|| rockpool_sql::execute(&prepared, &[], store, info, &mut sink));
        let broken = sink.broken;
        drop(names);
        if let Some(error) = broken {
            return Err(Failed::Connection(Ended::Io(error)));
        }
        let tag = ran.map_err(|error| self.told_to_stop(without_position(error)))?;
        self.output.copy_done();
        Ok(tag.rows())
    }

    async fn copy_in(&mut self, copy: &CopyStatement) -> Result<u64, Failed> {
        let target = self.prepare_part(&copy.select_sql()).await?;
        let columns = target.columns().unwrap_or(&[]);
        let at_once = (PARAMS_MAX / columns.len().max(1)).clamp(1, ROWS_AT_ONCE);
        let insert = self.prepare_part(&copy.insert_sql(at_once, columns.len())).await?;
        self.output.copy_begins(b'G', columns.len());
        self.flush().await.map_err(Failed::Connection)?;
        let mut reader = CopyReader::new(copy.format());
        let (mut rows, mut count, mut last) = (Vec::new(), 0, false);
        while !last {
            match self.next_message().await.map_err(Failed::Connection)? {
                Frontend::CopyData(data) => reader.push(&data)?,
                Frontend::CopyDone => last = true,
                Frontend::CopyFail(why) => {
                    let message = format!("COPY from stdin failed: {why}");
                    return Err(SqlError::new(SqlState::QUERY_CANCELED, message).into());
                }
                Frontend::Flush | Frontend::Sync => {}
                Frontend::Terminate => return Err(Failed::Connection(Ended::Closed)),
                _ => return Err(Failed::Connection(Ended::protocol("unexpected message during COPY from stdin"))),
            }
            while let Some(row) = reader.next_row(last).map_err(|error| at_line(error, reader.line() + 1))? {
                check_width(&row, columns).map_err(|error| at_line(error, reader.line()))?;
                rows.push(row);
                if rows.len() == at_once {
                    count += self.insert_rows(&insert, &mut rows, reader.line())?;
                }
            }
        }
        if !rows.is_empty() {
            let insert = self.prepare_part(&copy.insert_sql(rows.len(), columns.len())).await?;
            count += self.insert_rows(&insert, &mut rows, reader.line())?;
        }
        Ok(count)
    }

    /// Inserts rows, the last of which stands in that line.
    fn insert_rows(&mut self, insert: &Prepared, rows: &mut Vec<CopyRow>, line: u64) -> Result<u64, SqlError> {
        self.stamp_statement();
        let first = line + 1 - rows.len() as u64;
        let Connection { transaction, session, .. } = self;
        let store = transaction.as_deref_mut().ok_or_else(|| SqlError::internal("no transaction was begun"))?;
        let info = session.info();
        let names = insert.names(info);
        let context = TextContext {
            time_zone: session.time_zone(),
            now: info.transaction_time_us - UNIX_OFFSET_SECONDS * SECOND_MICROS,
            catalog: &*names,
        };
        let ran = tokio::task::block_in_place(|| {
            let mut values = Vec::with_capacity(insert.params().len());
            for (number, row) in rows.drain(..).enumerate() {
                for field in row {
                    let value = match (field, insert.params().get(values.len())) {
                        (Some(text), Some(ty)) => {
                            decode_text(&text, ty, &context).map_err(|error| at_line(error, first + number as u64))?
                        }
                        _ => Value::Null,
                    };
                    values.push(value);
                }
            }
            let mut none: Vec<Row> = Vec::new();
            rockpool_sql::execute(insert, &values, store, info, &mut none).map_err(without_position)
        });
        drop(names);
        ran.map(|tag| tag.rows()).map_err(|error| self.told_to_stop(error))
    }
}

/// Says in which line of the data something is wrong.
fn at_line(error: SqlError, line: u64) -> SqlError {
    let place = format!("In line {line} of the data.");
    let detail = error.detail.as_ref().map_or_else(|| place.clone(), |detail| format!("{detail} {place}"));
    without_position(error).with_detail(detail)
}

fn check_width(row: &CopyRow, columns: &[Column]) -> Result<(), SqlError> {
    let message = match columns.get(row.len()) {
        Some(missing) => format!("missing data for column \"{}\"", missing.name),
        None if row.len() > columns.len() => "extra data after last expected column".to_owned(),
        None => return Ok(()),
    };
    Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message))
}

/// Writes rows as lines, and sends them when enough have gathered.
struct CopySink<'a> {
    copy: &'a CopyStatement,
    columns: &'a [Column],
    context: TextContext<'a>,
    buffer: &'a mut BytesMut,
    stream: &'a mut Box<dyn Stream>,
    handle: Handle,
    line: Vec<u8>,
    broken: Option<std::io::Error>,
}

impl CopySink<'_> {
    fn write<'f>(&mut self, fields: impl IntoIterator<Item = Option<&'f str>>) {
        self.line.clear();
        self.copy.format().write_row(fields, &mut self.line);
        let length = i32::try_from(self.line.len() + 4).unwrap_or(i32::MAX);
        self.buffer.put_u8(b'd');
        self.buffer.put_i32(length);
        self.buffer.extend_from_slice(&self.line);
    }
}

impl RowSink for CopySink<'_> {
    fn rows(&mut self, batch: Vec<Row>) -> Result<ControlFlow<()>, SqlError> {
        for row in batch {
            let texts: Vec<Option<String>> = row
                .iter()
                .zip(self.columns)
                .map(|(value, column)| match value {
                    Value::Null => None,
                    value => Some(encode_text(value, &column.ty, &self.context)),
                })
                .collect();
            self.write(texts.iter().map(Option::as_deref));
        }
        if self.buffer.len() >= FLUSH_BYTES
            && let Err(error) = self.handle.block_on(send(&mut **self.stream, self.buffer))
        {
            self.broken = Some(error);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}
