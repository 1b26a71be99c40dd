//! Values in the two formats of the protocol. Which bytes a type has is the language's knowledge; here stands only who
//! asked for which.

use bytes::{BufMut, BytesMut};
use rockpool_sql::types::{TextContext, decode_binary, decode_text, encode_binary, encode_text};
use rockpool_sql::{SqlError, SqlState, Type, Value};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(crate) enum Format {
    Text = 0,
    Binary = 1,
}

impl Format {
    /// The format with that code.
    pub(crate) fn from_code(code: i16) -> Result<Format, SqlError> {
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            _ => Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unsupported format code: {code}"))),
        }
    }
}

/// Appends a value that isn't NULL.
pub(crate) fn encode(value: &Value, ty: &Type, format: Format, context: &TextContext<'_>, buffer: &mut BytesMut) {
    match format {
        Format::Text => buffer.put_slice(encode_text(value, ty, context).as_bytes()),
        Format::Binary => {
            let mut bytes = Vec::new();
            encode_binary(value, ty, &mut bytes);
            buffer.put_slice(&bytes);
        }
    }
}

/// Reads a parameter.
pub(crate) fn decode(bytes: &[u8], ty: &Type, format: Format, context: &TextContext<'_>) -> Result<Value, SqlError> {
    match format {
        Format::Binary => decode_binary(bytes, ty),
        Format::Text => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
            })?;
            decode_text(text, ty, context)
        }
    }
}
