//! A row's values by column id.
//!
//! ```text
//!   row     := 01 { column }            columns in ascending order of their ids
//!   column  := varint(id * 2 + null) [ varint(length) value ]
//! ```
//!
//! A column that isn't there was added after the row was written: the reader gives `None`, and the caller its default.
//! A column that is there and isn't asked for was dropped since: it is skipped by its length.

use std::sync::Arc;

use num_bigint::BigInt;
use uuid::Uuid;

use super::key::check_dimensions;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, Interval, JSON_DEPTH_MAX, Json, Numeric, Type, Value};

/// Identifies a column within its table, for ever: ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

const VERSION: u8 = 1;

fn corrupted() -> SqlError {
    SqlError::corrupted("a stored row is malformed")
}

/// Encodes a row; the columns must come in ascending order of their ids.
pub fn encode_row<'a>(columns: impl IntoIterator<Item = (ColumnId, &'a Value)>) -> Result<Vec<u8>> {
    let mut out = vec![VERSION];
    let mut payload = Vec::new();
    let mut before = None;
    for (id, value) in columns {
        debug_assert!(before < Some(id), "columns come in ascending order");
        before = Some(id);
        write_varint(u64::from(id.0) << 1 | u64::from(value.is_null()), &mut out);
        if !value.is_null() {
            payload.clear();
            encode_value(value, &mut payload)?;
            write_varint(payload.len() as u64, &mut out);
            out.extend(&payload);
        }
    }
    Ok(out)
}

/// Walks over the columns of a stored row.
pub struct RowReader<'a> {
    rest: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// Starts at the first column.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            _ => Err(corrupted()),
        }
    }

    /// Decodes the columns asked for, in ascending order of their ids: `None` for one that the row doesn't have.
    pub fn columns<'t>(self, wanted: impl IntoIterator<Item = (ColumnId, &'t Type)>) -> Result<Vec<Option<Value>>> {
        let mut out = Vec::new();
        let mut stored = self.peekable();
        for (id, ty) in wanted {
            let is_before = |column: &Result<(ColumnId, Option<&[u8]>)>| matches!(column, Ok((have, _)) if *have < id);
            while stored.next_if(is_before).is_some() {}
            let is_here = |column: &Result<(ColumnId, Option<&[u8]>)>| match column {
                Ok((have, _)) => *have == id,
                Err(_) => true,
            };
            out.push(match stored.next_if(is_here).transpose()? {
                None => None,
                Some((_, None)) => Some(Value::Null),
                Some((_, Some(bytes))) => Some(decode_value(bytes, ty)?),
            });
        }
        Ok(out)
    }
}

impl<'a> Iterator for RowReader<'a> {
    type Item = Result<(ColumnId, Option<&'a [u8]>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut column = || {
            let head = read_varint(&mut self.rest)?;
            let id = ColumnId(u32::try_from(head >> 1).map_err(|_| corrupted())?);
            if head & 1 == 1 {
                return Ok((id, None));
            }
            let length = usize::try_from(read_varint(&mut self.rest)?).map_err(|_| corrupted())?;
            let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(corrupted)?;
            self.rest = rest;
            Ok((id, Some(bytes)))
        };
        let column = column();
        if column.is_err() {
            self.rest = &[];
        }
        Some(column)
    }
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(corrupted)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(corrupted());
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupted())
}

fn write_signed(value: i64, out: &mut Vec<u8>) {
    write_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

fn read_signed(bytes: &mut &[u8]) -> Result<i64> {
    let value = read_varint(bytes)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Appends one value; its end is not marked, so a length must be kept beside it. NULL has no encoding.
pub fn encode_value(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Null => return Err(SqlError::internal("NULL has no encoding of its own")),
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::CharByte(byte) => out.push(*byte),
        Value::Int2(value) => write_signed(i64::from(*value), out),
        Value::Int4(value) | Value::Date(value) => write_signed(i64::from(*value), out),
        Value::Int8(value) => write_signed(*value, out),
        Value::Timestamptz(value) | Value::Timestamp(value) | Value::Time(value) => out.extend(value.to_be_bytes()),
        Value::Float4(value) => out.extend(value.to_be_bytes()),
        Value::Float8(value) => out.extend(value.to_be_bytes()),
        Value::Numeric(value) => encode_numeric(value, out),
        Value::Text(text) => out.extend(text.as_bytes()),
        Value::Bytea(bytes) => out.extend(bytes.iter()),
        Value::Uuid(value) => out.extend(value.as_bytes()),
        Value::Interval(value) => {
            write_signed(i64::from(value.months), out);
            write_signed(i64::from(value.days), out);
            write_signed(value.micros, out);
        }
        Value::Jsonb(json) => encode_json(json, out),
        Value::Oid(oid) => write_varint(u64::from(*oid), out),
        Value::Array(array) => {
            write_varint(array.dimensions.len() as u64, out);
            for (length, lower) in &array.dimensions {
                write_varint(*length as u64, out);
                write_signed(i64::from(*lower), out);
            }
            write_varint(array.values.len() as u64, out);
            let mut payload = Vec::new();
            for value in &array.values {
                // A length of zero is NULL, others are one more than they are.
                payload.clear();
                if value.is_null() {
                    write_varint(0, out);
                    continue;
                }
                encode_value(value, &mut payload)?;
                write_varint(payload.len() as u64 + 1, out);
                out.extend(&payload);
            }
        }
        Value::Record(_) => {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "rows can't be stored in a column"));
        }
    }
    Ok(())
}

/// One byte that says the kind; a finite number has its scale and its two's complement digits.
fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    match value {
        Numeric::NegativeInfinity => out.push(1),
        Numeric::PositiveInfinity => out.push(2),
        Numeric::NaN => out.push(3),
        Numeric::Finite { digits, scale } => {
            out.push(0);
            write_varint(u64::from(*scale), out);
            out.extend(digits.to_signed_bytes_be());
        }
    }
}

fn encode_json(json: &Json, out: &mut Vec<u8>) {
    let string = |text: &str, out: &mut Vec<u8>| {
        write_varint(text.len() as u64, out);
        out.extend(text.as_bytes());
    };
    match json {
        Json::Null => out.push(0),
        Json::Bool(false) => out.push(1),
        Json::Bool(true) => out.push(2),
        Json::Number(number) => {
            out.push(3);
            let mut payload = Vec::new();
            encode_numeric(number, &mut payload);
            write_varint(payload.len() as u64, out);
            out.extend(payload);
        }
        Json::String(text) => {
            out.push(4);
            string(text, out);
        }
        Json::Array(values) => {
            out.push(5);
            write_varint(values.len() as u64, out);
            values.iter().for_each(|value| encode_json(value, out));
        }
        Json::Object(pairs) => {
            out.push(6);
            write_varint(pairs.len() as u64, out);
            for (key, value) in pairs {
                string(key, out);
                encode_json(value, out);
            }
        }
    }
}

fn all<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| corrupted())
}

/// Decodes one value of a type; the bytes must be exactly its encoding.
pub fn decode_value(bytes: &[u8], ty: &Type) -> Result<Value> {
    let mut rest = bytes;
    let text = || std::str::from_utf8(bytes).map_err(|_| corrupted());
    let value = match ty {
        ty if ty.is_text() => return Ok(Value::text(text()?)),
        Type::Bytea => return Ok(Value::bytes(bytes)),
        Type::Bool => return Ok(Value::Bool(all::<1>(bytes)?[0] != 0)),
        Type::CharByte => return Ok(Value::CharByte(all::<1>(bytes)?[0])),
        Type::Uuid => return Ok(Value::Uuid(Uuid::from_bytes(all(bytes)?))),
        Type::Timestamptz(_) => return Ok(Value::Timestamptz(i64::from_be_bytes(all(bytes)?))),
        Type::Timestamp(_) => return Ok(Value::Timestamp(i64::from_be_bytes(all(bytes)?))),
        Type::Time(_) => return Ok(Value::Time(i64::from_be_bytes(all(bytes)?))),
        Type::Float4 => return Ok(Value::Float4(f32::from_be_bytes(all(bytes)?))),
        Type::Float8 => return Ok(Value::Float8(f64::from_be_bytes(all(bytes)?))),
        Type::Numeric(_) => return Ok(Value::Numeric(decode_numeric(bytes)?)),
        Type::Int2 => Value::Int2(read_signed(&mut rest)?.try_into().map_err(|_| corrupted())?),
        Type::Int4 => Value::Int4(read_signed(&mut rest)?.try_into().map_err(|_| corrupted())?),
        Type::Date => Value::Date(read_signed(&mut rest)?.try_into().map_err(|_| corrupted())?),
        Type::Int8 => Value::Int8(read_signed(&mut rest)?),
        Type::Interval(_) => Value::Interval(Interval {
            months: read_signed(&mut rest)?.try_into().map_err(|_| corrupted())?,
            days: read_signed(&mut rest)?.try_into().map_err(|_| corrupted())?,
            micros: read_signed(&mut rest)?,
        }),
        Type::Jsonb | Type::Json => Value::json(decode_json(&mut rest, 0)?),
        ty if ty.is_oid() => Value::Oid(read_varint(&mut rest)?.try_into().map_err(|_| corrupted())?),
        Type::Array(element) => decode_array(&mut rest, element)?,
        _ => return Err(corrupted()),
    };
    if rest.is_empty() { Ok(value) } else { Err(corrupted()) }
}

fn decode_array(rest: &mut &[u8], element: &Type) -> Result<Value> {
    let mut dimensions = Vec::new();
    for _ in 0..read_varint(rest)? {
        let length = usize::try_from(read_varint(rest)?).map_err(|_| corrupted())?;
        let lower = i32::try_from(read_signed(rest)?).map_err(|_| corrupted())?;
        dimensions.push((length, lower));
    }
    let mut values = Vec::new();
    for _ in 0..read_varint(rest)? {
        let length = read_varint(rest)?;
        if length == 0 {
            values.push(Value::Null);
            continue;
        }
        let length = usize::try_from(length - 1).map_err(|_| corrupted())?;
        let (bytes, after) = rest.split_at_checked(length).ok_or_else(corrupted)?;
        *rest = after;
        values.push(decode_value(bytes, element)?);
    }
    check_dimensions(&dimensions, values.len())?;
    Ok(Value::Array(Arc::new(Array { element: element.clone(), dimensions, values })))
}

fn decode_numeric(bytes: &[u8]) -> Result<Numeric> {
    let (kind, mut rest) = bytes.split_first().ok_or_else(corrupted)?;
    match kind {
        1 => Ok(Numeric::NegativeInfinity),
        2 => Ok(Numeric::PositiveInfinity),
        3 => Ok(Numeric::NaN),
        0 => {
            let scale = u32::try_from(read_varint(&mut rest)?).map_err(|_| corrupted())?;
            if scale > crate::types::NUMERIC_SCALE_MAX || rest.is_empty() {
                return Err(corrupted());
            }
            Numeric::new(BigInt::from_signed_bytes_be(rest), scale).map_err(|_| corrupted())
        }
        _ => Err(corrupted()),
    }
}

fn decode_json(rest: &mut &[u8], depth: usize) -> Result<Json> {
    if depth > JSON_DEPTH_MAX + 1 {
        return Err(corrupted());
    }
    let piece = |rest: &mut &[u8]| {
        let length = usize::try_from(read_varint(rest)?).map_err(|_| corrupted())?;
        let (bytes, after) = rest.split_at_checked(length).ok_or_else(corrupted)?;
        *rest = after;
        Ok::<Vec<u8>, SqlError>(bytes.to_vec())
    };
    let string = |rest: &mut &[u8]| String::from_utf8(piece(rest)?).map_err(|_| corrupted());
    let (kind, after) = rest.split_first().ok_or_else(corrupted)?;
    *rest = after;
    Ok(match kind {
        0 => Json::Null,
        1 => Json::Bool(false),
        2 => Json::Bool(true),
        3 => Json::Number(decode_numeric(&piece(rest)?)?),
        4 => Json::String(string(rest)?),
        5 => {
            let count = read_varint(rest)?;
            Json::Array((0..count).map(|_| decode_json(rest, depth + 1)).collect::<Result<_>>()?)
        }
        6 => {
            let mut pairs = Vec::new();
            for _ in 0..read_varint(rest)? {
                let key = string(rest)?;
                pairs.push((key, decode_json(rest, depth + 1)?));
            }
            Json::object(pairs)
        }
        _ => return Err(corrupted()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::testing::{typed_pair, types};
    use crate::types::{TextContext, encode_text};

    #[test]
    fn columns_may_be_missing_or_unknown() {
        let row = encode_row([
            (ColumnId(1), &Value::Int4(-5)),
            (ColumnId(3), &Value::Null),
            (ColumnId(7), &Value::text("x")),
        ]);
        let row = row.unwrap();
        let wanted = [
            (ColumnId(1), &Type::Int8),
            (ColumnId(2), &Type::Text),
            (ColumnId(3), &Type::Text),
            (ColumnId(9), &Type::Text),
        ];
        let columns = RowReader::new(&row).unwrap().columns(wanted).unwrap();
        assert_eq!(columns, [Some(Value::Int8(-5)), None, Some(Value::Null), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn values_come_back_as_they_print((ty, a, b) in typed_pair()) {
            let row = encode_row([(ColumnId(1), &a), (ColumnId(200), &b)]).unwrap();
            let back = RowReader::new(&row).unwrap().columns([(ColumnId(1), &ty), (ColumnId(200), &ty)]).unwrap();
            let print = |value: &Value| encode_text(value, &ty, &TextContext::utc());
            prop_assert_eq!(print(back[0].as_ref().unwrap()), print(&a));
            prop_assert_eq!(print(back[1].as_ref().unwrap()), print(&b));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for ty in types() {
                let _ = decode_value(&bytes, &ty);
                let row = [&[VERSION], bytes.as_slice()].concat();
                let _ = RowReader::new(&row).unwrap().columns([(ColumnId(1), &ty), (ColumnId(2), &ty)]);
            }
        }
    }
}
