//! What PostgreSQL clients send, decoded so that no byte of it can panic us.
//!
//! pgwire's own decoders read past the end of a truncated body, so they are not used for what arrives: a frame is cut
//! off whole first, and every field is read from that frame alone. What is *sent* goes through pgwire's messages.

use bytes::{Buf, Bytes, BytesMut};

/// Why bytes are not a message. The connection ends: the two sides no longer agree where messages begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A length field below the smallest or above what is taken.
    #[error("invalid message length {0}; {1} bytes are the most")]
    Length(i64, usize),
    /// A type nobody knows.
    #[error("invalid frontend message type {0}")]
    Type(u8),
    /// A body that ends early, or goes on after its end.
    #[error("invalid message format")]
    Body,
    /// Text that isn't UTF-8.
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    Text,
}

/// What a name in Describe or Close means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement,
    Portal,
}

/// A message after the startup phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    Execute {
        portal: String,
        rows_max: i32,
    },
    Close(Target, String),
    Flush,
    Sync,
    Terminate,
    /// Password, SASLInitialResponse or SASLResponse: who waits for one knows which.
    Password(Bytes),
    /// Data for a COPY. When nobody asked for it, PostgreSQL ignores it, and so do we.
    CopyData(Bytes),
    /// The end of the data.
    CopyDone,
    /// The client gives up.
    CopyFail(String),
    /// The fast path interface, which nothing here serves.
    FunctionCall,
}

/// Values for a prepared statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) param_formats: Vec<i16>,
    pub(crate) params: Vec<Option<Bytes>>,
    pub(crate) result_formats: Vec<i16>,
}

/// The first message of a connection, which has no type byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Tls,
    Gss,
    Cancel { process: i32, secret: Bytes },
    Startup(StartupPacket),
}

/// Protocol version and parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartupPacket {
    pub(crate) minor: u16,
    pub(crate) parameters: Vec<(String, String)>,
}

const CODE_CANCEL: i32 = 80_877_102;
const CODE_TLS: i32 = 80_877_103;
const CODE_GSS: i32 = 80_877_104;
const PROTOCOL_MAJOR: i32 = 3;

/// Cuts the next message off `buffer` and decodes it; `None` until it is there whole.
pub(crate) fn next_message(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frontend>, FrameError> {
    let Some(&kind) = buffer.first() else { return Ok(None) };
    // The type first: rubbish should be called rubbish, not a long message.
    if !b"QPBDECHSXpdcfF".contains(&kind) {
        return Err(FrameError::Type(kind));
    }
    let Some(length) = frame_length(&buffer[1..], 4, bytes_max)? else { return Ok(None) };
    if buffer.len() < 1 + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(1 + length).freeze();
    frame.advance(5);
    decode(kind, Body(frame)).map(Some)
}

/// Whether the next whole message is a Sync.
pub(crate) fn next_is_sync(buffer: &[u8]) -> bool {
    buffer.starts_with(b"S\0\0\0\x04")
}

/// Cuts the opening message off; `None` until it is there whole.
pub(crate) fn opening(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Opening>, FrameError> {
    let Some(length) = frame_length(buffer, 8, bytes_max)? else { return Ok(None) };
    if buffer.len() < length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(length).freeze();
    frame.advance(4);
    let mut body = Body(frame);
    let code = body.i32()?;
    match code {
        CODE_TLS => body.end(Opening::Tls),
        CODE_GSS => body.end(Opening::Gss),
        CODE_CANCEL => Ok(Opening::Cancel { process: body.i32()?, secret: body.0 }),
        _ if code >> 16 == PROTOCOL_MAJOR => startup(code as u16, body),
        _ => Err(FrameError::Body),
    }
    .map(Some)
}

fn startup(minor: u16, mut body: Body) -> Result<Opening, FrameError> {
    let mut parameters = Vec::new();
    loop {
        let name = body.text()?;
        if name.is_empty() {
            return body.end(Opening::Startup(StartupPacket { minor, parameters }));
        }
        parameters.push((name, body.text()?));
    }
}

/// The length that a frame declares for itself.
fn frame_length(buffer: &[u8], least: usize, most: usize) -> Result<Option<usize>, FrameError> {
    let Some(bytes) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*bytes);
    match usize::try_from(length) {
        Ok(length) if (least..=most).contains(&length) => Ok(Some(length)),
        _ => Err(FrameError::Length(i64::from(length), most)),
    }
}

fn decode(kind: u8, mut body: Body) -> Result<Frontend, FrameError> {
    match kind {
        b'Q' => {
            let sql = body.text()?;
            body.end(Frontend::Query(sql))
        }
        b'P' => {
            let (name, sql) = (body.text()?, body.text()?);
            let types = body.list(|body| body.i32().map(|oid| oid as u32))?;
            body.end(Frontend::Parse { name, sql, types })
        }
        b'B' => {
            let (portal, statement) = (body.text()?, body.text()?);
            let param_formats = body.list(Body::i16)?;
            let params = body.list(Body::value)?;
            let result_formats = body.list(Body::i16)?;
            body.end(Frontend::Bind(Bind { portal, statement, param_formats, params, result_formats }))
        }
        b'D' => {
            let (target, name) = body.target()?;
            body.end(Frontend::Describe(target, name))
        }
        b'C' => {
            let (target, name) = body.target()?;
            body.end(Frontend::Close(target, name))
        }
        b'E' => {
            let (portal, rows_max) = (body.text()?, body.i32()?);
            body.end(Frontend::Execute { portal, rows_max })
        }
        b'H' => body.end(Frontend::Flush),
        b'S' => body.end(Frontend::Sync),
        b'X' => body.end(Frontend::Terminate),
        b'p' => Ok(Frontend::Password(body.0)),
        b'd' => Ok(Frontend::CopyData(body.0)),
        b'c' => body.end(Frontend::CopyDone),
        b'f' => {
            let why = body.text()?;
            body.end(Frontend::CopyFail(why))
        }
        b'F' => Ok(Frontend::FunctionCall),
        other => Err(FrameError::Type(other)),
    }
}

/// The body of one message.
pub(crate) struct Body(pub(crate) Bytes);

impl Body {
    /// Text up to the next zero byte.
    pub(crate) fn text(&mut self) -> Result<String, FrameError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(FrameError::Body)?;
        let text = std::str::from_utf8(&self.0[..end]).map_err(|_| FrameError::Text)?.to_owned();
        self.0.advance(end + 1);
        Ok(text)
    }

    fn i16(&mut self) -> Result<i16, FrameError> {
        self.0.try_get_i16().map_err(|_| FrameError::Body)
    }

    /// A signed number of four bytes.
    pub(crate) fn i32(&mut self) -> Result<i32, FrameError> {
        self.0.try_get_i32().map_err(|_| FrameError::Body)
    }

    /// A value with its length in front; -1 is NULL.
    pub(crate) fn value(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| FrameError::Body)?;
                if length > self.0.len() {
                    return Err(FrameError::Body);
                }
                Ok(Some(self.0.split_to(length)))
            }
        }
    }

    /// A list with its count in front. The vector grows with what is there, not with what is claimed.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Body) -> Result<T, FrameError>) -> Result<Vec<T>, FrameError> {
        let count = self.i16()? as u16;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn target(&mut self) -> Result<(Target, String), FrameError> {
        let target = match self.0.try_get_u8() {
            Ok(b'S') => Target::Statement,
            Ok(b'P') => Target::Portal,
            _ => return Err(FrameError::Body),
        };
        Ok((target, self.text()?))
    }

    /// The message, if its body ends here.
    fn end<T>(&self, message: T) -> Result<T, FrameError> {
        if self.0.is_empty() { Ok(message) } else { Err(FrameError::Body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_all(bytes: &[u8]) -> Result<Vec<Frontend>, FrameError> {
        let mut buffer = BytesMut::from(bytes);
        let mut messages = Vec::new();
        while let Some(message) = next_message(&mut buffer, 1 << 20)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_decoded_and_cut_exactly() {
        let bytes = b"Q\0\0\0\x0dselect 1\0S\0\0\0\x04E\0\0\0\x09\0\0\0\0\x07S\0\0";
        let messages = decode_all(bytes).unwrap();
        let expected = [
            Frontend::Query("select 1".to_owned()),
            Frontend::Sync,
            Frontend::Execute { portal: String::new(), rows_max: 7 },
        ];
        assert_eq!(messages, expected);
        assert!(next_is_sync(b"S\0\0\0\x04more"));
        assert!(!next_is_sync(b"S\0\0"));
    }

    #[test]
    fn lengths_types_and_bodies_are_checked() {
        assert_eq!(decode_all(b"Q\0\0\0\x03"), Err(FrameError::Length(3, 1 << 20)));
        assert_eq!(decode_all(b"Q\x7f\xff\xff\xff"), Err(FrameError::Length(0x7fff_ffff, 1 << 20)));
        assert_eq!(decode_all(b"Q\xff\xff\xff\xff"), Err(FrameError::Length(-1, 1 << 20)));
        assert_eq!(decode_all(b"G"), Err(FrameError::Type(b'G')));
        assert_eq!(decode_all(b"Q\0\0\0\x06ab"), Err(FrameError::Body));
        assert_eq!(decode_all(b"Q\0\0\0\x06\xff\0"), Err(FrameError::Text));
        assert_eq!(decode_all(b"S\0\0\0\x05\0"), Err(FrameError::Body));
        // A Bind that claims 65,535 parameters of 2 GiB and brings none.
        assert_eq!(decode_all(b"B\0\0\0\x0a\0\0\0\0\xff\xff"), Err(FrameError::Body));
        assert_eq!(decode_all(b"B\0\0\0\x0e\0\0\0\0\0\x01\x7f\xff\xff\xff"), Err(FrameError::Body));
    }

    #[test]
    fn openings_are_told_apart() {
        let open = |bytes: &[u8]| opening(&mut BytesMut::from(bytes), 10_000);
        assert_eq!(open(b"\0\0\0\x08\x04\xd2\x16\x2f"), Ok(Some(Opening::Tls)));
        assert_eq!(open(b"\0\0\0\x08\x04\xd2\x16\x30"), Ok(Some(Opening::Gss)));
        let packet = StartupPacket { minor: 0, parameters: vec![("user".to_owned(), "x".to_owned())] };
        assert_eq!(open(b"\0\0\0\x10\0\x03\0\0user\0x\0\0"), Ok(Some(Opening::Startup(packet))));
        assert_eq!(open(b"\0\0\0\x0f\0\x03\0\0user\0x\0"), Err(FrameError::Body));
        assert_eq!(open(b"\0\0\0\x08\0\x02\0\0"), Err(FrameError::Body));
        assert_eq!(open(b"\0\0\0\x10\0\x02\0\0user\0x\0\0"), Err(FrameError::Body), "version 2");
        assert_eq!(open(b"GET / HTTP/1.1\r\n"), Err(FrameError::Length(0x4745_5420, 10_000)));
        assert_eq!(open(b"\0\0\0"), Ok(None));
    }

    #[test]
    fn no_bytes_panic() {
        // Bytes that look like messages, from a small generator, so that the bodies are reached.
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        for _ in 0..20_000 {
            let length = usize::from(next() % 40);
            let mut bytes = vec![b"QPBDECHSXpdcfF"[usize::from(next()) % 14], 0, 0, 0, 4 + length as u8];
            bytes.extend((0..length).map(|_| next() % 5));
            let _ = decode_all(&bytes);
            let _ = opening(&mut BytesMut::from(&bytes[1..]), 10_000);
        }
    }
}
