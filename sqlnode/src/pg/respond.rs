//! What is sent to PostgreSQL clients: pgwire's messages, gathered in one buffer, and rows written straight into it.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::copy::CopyDone;
use pgwire::messages::data::{FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus,
};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use rockpool_sql::types::TextContext;
use rockpool_sql::{Column, SqlError, Type, Value};

use super::encoding::{Format, encode};
use crate::session::{Notice, Phase, Reported};

/// Bytes of any one text in an error: what a client sent may come back in it.
const FIELD_BYTES_MAX: usize = 4_096;

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
}

/// Bytes on their way to the client.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) buffer: BytesMut,
}

impl Output {
    fn put(&mut self, message: &impl Message) {
        message.encode(&mut self.buffer).expect("our own messages are below pgwire's limits: their texts are cut");
    }

    pub(crate) fn parse_complete(&mut self) {
        self.put(&ParseComplete::new());
    }

    pub(crate) fn bind_complete(&mut self) {
        self.put(&BindComplete::new());
    }

    pub(crate) fn close_complete(&mut self) {
        self.put(&CloseComplete::new());
    }

    pub(crate) fn portal_suspended(&mut self) {
        self.put(&PortalSuspended::new());
    }

    pub(crate) fn no_data(&mut self) {
        self.put(&NoData::new());
    }

    pub(crate) fn empty_query(&mut self) {
        self.put(&EmptyQueryResponse::new());
    }

    pub(crate) fn command_complete(&mut self, tag: &str) {
        self.put(&CommandComplete::new(tag.to_owned()));
    }

    pub(crate) fn ready(&mut self, phase: Phase) {
        let status = match phase {
            Phase::Idle | Phase::Implicit => TransactionStatus::Idle,
            Phase::Open => TransactionStatus::Transaction,
            Phase::Failed => TransactionStatus::Error,
        };
        self.put(&ReadyForQuery::new(status));
    }

    /// COPY data may come (`G`) or will follow (`H`): text, in so many columns.
    pub(crate) fn copy_begins(&mut self, kind: u8, columns: usize) {
        let columns = i16::try_from(columns).expect("a result has far fewer columns");
        self.buffer.put_u8(kind);
        self.buffer.put_i32(4 + 1 + 2 + 2 * i32::from(columns));
        self.buffer.put_u8(Format::Text as u8);
        self.buffer.put_i16(columns);
        (0..columns).for_each(|_| self.buffer.put_i16(Format::Text as i16));
    }

    pub(crate) fn copy_done(&mut self) {
        self.put(&CopyDone::new());
    }

    pub(crate) fn parameter_description(&mut self, types: &[Type]) {
        self.put(&ParameterDescription::new(types.iter().map(wire_oid).collect()));
    }

    pub(crate) fn row_description(&mut self, columns: &[Column], formats: &[Format]) {
        let fields = columns.iter().enumerate().map(|(index, column)| {
            let format = formats.get(index).copied().unwrap_or(Format::Text);
            FieldDescription::new(
                cut(&column.name).to_owned(),
                column.table_oid as i32,
                column.column_number,
                wire_oid(&column.ty),
                column.ty.length(),
                column.ty.typmod(),
                format as i16,
            )
        });
        self.put(&RowDescription::new(fields.collect()));
    }

    /// One row. On an error nothing of it stays.
    pub(crate) fn row(
        &mut self,
        row: &[Value],
        columns: &[Column],
        formats: &[Format],
        context: &TextContext<'_>,
    ) -> Result<(), SqlError> {
        let start = self.buffer.len();
        self.buffer.put_u8(b'D');
        self.buffer.put_i32(0);
        self.buffer.put_i16(row.len() as i16);
        for (index, (value, column)) in row.iter().zip(columns).enumerate() {
            let format = formats.get(index).copied().unwrap_or(Format::Text);
            put_value(value, &column.ty, format, context, &mut self.buffer);
        }
        let length = self.buffer.len() - start - 1;
        match i32::try_from(length) {
            Ok(length) => self.buffer[start + 1..start + 5].copy_from_slice(&length.to_be_bytes()),
            Err(_) => {
                self.buffer.truncate(start);
                return Err(SqlError::new(
                    rockpool_sql::SqlState::PROGRAM_LIMIT_EXCEEDED,
                    "a row is larger than 2 GiB",
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn parameter_status(&mut self, reported: &Reported) {
        self.put(&ParameterStatus::new(reported.name.to_owned(), cut(&reported.value).to_owned()));
    }

    pub(crate) fn key_data(&mut self, process: i32, secret: i32) {
        self.put(&BackendKeyData::new(process, SecretKey::I32(secret)));
    }

    pub(crate) fn authentication(&mut self, step: Authentication) {
        self.put(&step);
    }

    pub(crate) fn notice(&mut self, notice: &Notice) {
        let fields = vec![
            (b'S', "WARNING".to_owned()),
            (b'V', "WARNING".to_owned()),
            (b'C', notice.state.to_string()),
            (b'M', notice.message.clone()),
        ];
        self.put(&NoticeResponse::new(fields));
    }

    pub(crate) fn error(&mut self, severity: Severity, error: &SqlError) {
        let severity = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', error.state.to_string()),
            (b'M', cut(&error.message).to_owned()),
        ];
        let optional = [
            (b'D', &error.detail),
            (b'H', &error.hint),
            (b's', &error.schema),
            (b't', &error.table),
            (b'c', &error.column),
            (b'n', &error.constraint),
        ];
        for (code, text) in optional {
            fields.extend(text.as_ref().map(|text| (code, cut(text).to_owned())));
        }
        fields.extend(error.position.map(|position| (b'P', position.to_string())));
        self.put(&ErrorResponse::new(fields));
    }
}

fn put_value(value: &Value, ty: &Type, format: Format, context: &TextContext<'_>, buffer: &mut BytesMut) {
    let start = buffer.len();
    buffer.put_i32(-1);
    if value.is_null() {
        return;
    }
    encode(value, ty, format, context, buffer);
    // A row that is too long for the protocol is refused whole by the caller.
    let length = i32::try_from(buffer.len() - start - 4).unwrap_or(i32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The oid that clients are told: a literal of no known type is text to them.
fn wire_oid(ty: &Type) -> u32 {
    match ty {
        Type::Unknown => Type::Text.oid(),
        other => other.oid(),
    }
}

/// At most so much of a text, without zero bytes, which would end it early.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    text.split('\0').next().unwrap_or_default()
}
