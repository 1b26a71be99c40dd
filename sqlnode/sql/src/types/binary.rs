//! Values as PostgreSQL's binary wire format, in and out.

use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use uuid::Uuid;

use super::array_text::ARRAY_DIMENSIONS_MAX;
use super::calendar::{DAY_MICROS, is_finite, valid_date, valid_timestamp};
use super::text::fit_text;
use super::{Array, Interval, Json, Numeric, TextContext, Type, Value, decode_text, encode_text};
use crate::error::{Result, SqlError, SqlState};

const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xc000;
const NUMERIC_POSITIVE_INFINITY: u16 = 0xd000;
const NUMERIC_NEGATIVE_INFINITY: u16 = 0xf000;

/// Appends a value's binary form; NULL appends nothing (the protocol says NULL by a length of -1).
pub fn encode_binary(value: &Value, ty: &Type, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::CharByte(byte) => out.push(*byte),
        Value::Int2(value) => out.extend(value.to_be_bytes()),
        Value::Int4(value) => out.extend(value.to_be_bytes()),
        Value::Int8(value) | Value::Timestamptz(value) | Value::Timestamp(value) | Value::Time(value) => {
            out.extend(value.to_be_bytes());
        }
        Value::Float4(value) => out.extend(value.to_be_bytes()),
        Value::Float8(value) => out.extend(value.to_be_bytes()),
        Value::Numeric(value) => encode_numeric(value, out),
        Value::Text(_) => out.extend(encode_text(value, ty, &TextContext::utc()).as_bytes()),
        Value::Bytea(bytes) => out.extend(bytes.iter()),
        Value::Uuid(value) => out.extend(value.as_bytes()),
        Value::Date(days) => out.extend(days.to_be_bytes()),
        Value::Interval(value) => {
            out.extend(value.micros.to_be_bytes());
            out.extend(value.days.to_be_bytes());
            out.extend(value.months.to_be_bytes());
        }
        Value::Jsonb(json) => {
            if *ty != Type::Json {
                out.push(1);
            }
            out.extend(json.to_string().as_bytes());
        }
        Value::Oid(oid) => out.extend(oid.to_be_bytes()),
        Value::Array(array) => {
            out.extend((array.dimensions.len() as u32).to_be_bytes());
            out.extend(u32::from(array.values.iter().any(Value::is_null)).to_be_bytes());
            out.extend(array.element.oid().to_be_bytes());
            for (length, lower) in &array.dimensions {
                out.extend((*length as u32).to_be_bytes());
                out.extend(lower.to_be_bytes());
            }
            for value in &array.values {
                encode_sized(value, &array.element, out);
            }
        }
        Value::Record(fields) => {
            out.extend((fields.len() as u32).to_be_bytes());
            for (ty, value) in fields.iter() {
                out.extend(ty.oid().to_be_bytes());
                encode_sized(value, ty, out);
            }
        }
    }
}

fn encode_sized(value: &Value, ty: &Type, out: &mut Vec<u8>) {
    if value.is_null() {
        out.extend((-1i32).to_be_bytes());
        return;
    }
    let at = out.len();
    out.extend([0; 4]);
    encode_binary(value, ty, out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let (groups, weight, sign, scale) = match value {
        Numeric::NaN => (Vec::new(), 0, NUMERIC_NAN, 0),
        Numeric::PositiveInfinity => (Vec::new(), 0, NUMERIC_POSITIVE_INFINITY, 0),
        Numeric::NegativeInfinity => (Vec::new(), 0, NUMERIC_NEGATIVE_INFINITY, 0),
        Numeric::Finite { digits, scale } => {
            let text = digits.magnitude().to_string();
            let scale_digits = *scale as usize;
            let padded = format!("{text:0>width$}", width = scale_digits + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale_digits);
            let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
            let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
            let mut weight = (whole.len() / 4) as i32 - 1;
            let groups = whole.as_bytes().chunks(4).chain(fraction.as_bytes().chunks(4));
            let mut groups: Vec<u16> =
                groups.map(|group| group.iter().fold(0, |sum, b| sum * 10 + u16::from(b - b'0'))).collect();
            let leading = groups.iter().take_while(|group| **group == 0).count();
            groups.drain(..leading);
            weight -= leading as i32;
            groups.truncate(groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1));
            let weight = if groups.is_empty() { 0 } else { weight };
            let sign = if digits.sign() == Sign::Minus { NUMERIC_NEGATIVE } else { 0 };
            (groups, weight, sign, *scale as u16)
        }
    };
    out.extend((groups.len() as u16).to_be_bytes());
    out.extend((weight as i16).to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(scale.to_be_bytes());
    out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
}

fn malformed(ty: &Type) -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, format!("incorrect binary data format for type {ty}"))
}

/// Takes fixed-width pieces off the front.
struct Reader<'a> {
    bytes: &'a [u8],
    ty: &'a Type,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| malformed(self.ty))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or_else(|| malformed(self.ty))?;
        self.bytes = rest;
        Ok(head)
    }

    fn int2(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn int4(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn int8(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.rest()).map_err(|_| {
            SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
        })
    }

    fn sized(&mut self, ty: &Type) -> Result<Value> {
        let length = self.int4()?;
        if length == -1 {
            return Ok(Value::Null);
        }
        let length = usize::try_from(length).map_err(|_| malformed(self.ty))?;
        decode_binary(self.slice(length)?, ty)
    }
}

/// A timestamp as it came, if there is such a one.
fn moment(micros: i64) -> Result<i64> {
    if is_finite(micros) { valid_timestamp(micros) } else { Ok(micros) }
}

/// Reads a value of a type from its binary form; every byte must belong to it.
pub fn decode_binary(bytes: &[u8], ty: &Type) -> Result<Value> {
    let mut reader = Reader { bytes, ty };
    let value = match ty {
        Type::Bool => Value::Bool(reader.take::<1>()?[0] != 0),
        Type::CharByte => Value::CharByte(reader.take::<1>()?[0]),
        Type::Int2 => Value::Int2(reader.int2()?),
        Type::Int4 => Value::Int4(reader.int4()?),
        Type::Int8 => Value::Int8(reader.int8()?),
        Type::Float4 => Value::Float4(f32::from_be_bytes(reader.take()?)),
        Type::Float8 => Value::Float8(f64::from_be_bytes(reader.take()?)),
        Type::Numeric(modifier) => {
            let number = decode_numeric(&mut reader)?;
            Value::Numeric(match modifier {
                Some((precision, scale)) => number.fit(*precision, *scale)?,
                None => number,
            })
        }
        Type::Varchar(Some(length)) | Type::Char(Some(length)) => {
            Value::Text(fit_text(reader.text()?, *length, ty, false)?)
        }
        ty if ty.is_text() => decode_text(reader.text()?, ty, &TextContext::utc())?,
        Type::Bytea => Value::bytes(reader.rest()),
        Type::Uuid => Value::Uuid(Uuid::from_bytes(reader.take()?)),
        Type::Timestamptz(_) => Value::Timestamptz(moment(reader.int8()?)?),
        Type::Timestamp(_) => Value::Timestamp(moment(reader.int8()?)?),
        Type::Date => Value::Date(match reader.int4()? {
            infinite @ (i32::MAX | i32::MIN) => infinite,
            days => valid_date(i64::from(days))?,
        }),
        Type::Time(_) => {
            let micros = reader.int8()?;
            if !(0..=DAY_MICROS).contains(&micros) || !is_finite(micros) {
                return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range"));
            }
            Value::Time(micros)
        }
        Type::Interval(_) => {
            let (micros, days, months) = (reader.int8()?, reader.int4()?, reader.int4()?);
            Value::Interval(Interval { months, days, micros })
        }
        Type::Jsonb => {
            let version = reader.take::<1>()?[0];
            if version != 1 {
                return Err(malformed(ty));
            }
            Value::json(Json::parse(reader.text()?)?)
        }
        Type::Json => Value::json(Json::parse(reader.text()?)?),
        ty if ty.is_oid() => Value::Oid(u32::from_be_bytes(reader.take()?)),
        Type::Array(element) => decode_array(&mut reader, element)?,
        Type::Record => {
            let count = usize::try_from(reader.int4()?).map_err(|_| malformed(ty))?;
            let mut fields = Vec::new();
            for _ in 0..count {
                let field = Type::from_oid(reader.int4()? as u32, -1).ok_or_else(|| malformed(ty))?;
                let value = reader.sized(&field)?;
                fields.push((field, value));
            }
            Value::Record(Arc::new(super::Record { fields, names: None }))
        }
        _ => Value::text(""),
    };
    if reader.bytes.is_empty() { Ok(value) } else { Err(malformed(ty)) }
}

fn decode_numeric(reader: &mut Reader<'_>) -> Result<Numeric> {
    let count = reader.int2()?;
    let weight = i64::from(reader.int2()?);
    let sign = reader.int2()? as u16;
    let scale = i64::from(reader.int2()?);
    let count = usize::try_from(count).map_err(|_| malformed(reader.ty))?;
    let mut text = String::with_capacity(count * 4);
    for _ in 0..count {
        let group = reader.int2()?;
        if !(0..10_000).contains(&group) {
            return Err(malformed(reader.ty));
        }
        text.push_str(&format!("{group:04}"));
    }
    match sign {
        NUMERIC_NAN => return Ok(Numeric::NaN),
        NUMERIC_POSITIVE_INFINITY => return Ok(Numeric::PositiveInfinity),
        NUMERIC_NEGATIVE_INFINITY => return Ok(Numeric::NegativeInfinity),
        0 | NUMERIC_NEGATIVE if (0..=16_383).contains(&scale) => {}
        _ => return Err(malformed(reader.ty)),
    }
    let digits = BigInt::parse_bytes(text.as_bytes(), 10).unwrap_or_default();
    let digits = if sign == NUMERIC_NEGATIVE { -digits } else { digits };
    // The groups end at this many digits after the point.
    let have = (count as i64 - 1 - weight) * 4;
    let number = if have < 0 {
        Numeric::new(digits * super::numeric::power_of_ten(have.unsigned_abs() as u32), 0)?
    } else {
        Numeric::Finite { digits, scale: have as u32 }
    };
    number.truncate(scale as i32)
}

fn decode_array(reader: &mut Reader<'_>, element: &Type) -> Result<Value> {
    let dimension_count = usize::try_from(reader.int4()?).map_err(|_| malformed(reader.ty))?;
    let _has_null = reader.int4()?;
    let oid = reader.int4()? as u32;
    if dimension_count > ARRAY_DIMENSIONS_MAX {
        return Err(malformed(reader.ty));
    }
    if oid != element.oid() {
        return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, "wrong element type"));
    }
    let mut dimensions = Vec::new();
    let mut count = usize::from(dimension_count > 0);
    for _ in 0..dimension_count {
        let length = usize::try_from(reader.int4()?).map_err(|_| malformed(reader.ty))?;
        dimensions.push((length, reader.int4()?));
        count = count.checked_mul(length).ok_or_else(|| malformed(reader.ty))?;
    }
    // Each element takes at least the four bytes of its length.
    if count > reader.bytes.len() / 4 {
        return Err(malformed(reader.ty));
    }
    let values = (0..count).map(|_| reader.sized(element)).collect::<Result<Vec<_>>>()?;
    if values.is_empty() {
        dimensions.clear();
    }
    Ok(Value::Array(Arc::new(Array { element: element.clone(), dimensions, values })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str, ty: &Type) {
        let context = TextContext::utc();
        let value = decode_text(text, ty, &context).unwrap();
        let mut bytes = Vec::new();
        encode_binary(&value, ty, &mut bytes);
        let back = decode_binary(&bytes, ty).unwrap();
        assert_eq!(encode_text(&back, ty, &context), encode_text(&value, ty, &context), "{ty}");
        for cut in 0..bytes.len() {
            let _ = decode_binary(&bytes[..cut], ty);
        }
    }

    #[test]
    fn binary_forms_are_read_back() {
        for (ty, text) in [
            (Type::Numeric(None), "-12345.67800"),
            (Type::Numeric(None), "0.00"),
            (Type::Numeric(None), "100000000"),
            (Type::Numeric(None), "0.00001234"),
            (Type::Numeric(None), "NaN"),
            (Type::Numeric(None), "-Infinity"),
            (Type::Float8, "1.5"),
            (Type::Timestamptz(None), "2024-01-02 03:04:05.6+00"),
            (Type::Date, "2024-01-02"),
            (Type::Interval(None), "1 mon -2 days 03:00:00"),
            (Type::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (Type::Jsonb, r#"{"a": [1, null]}"#),
            (Type::array_of(Type::Text), "{{a,NULL},{\"\",d}}"),
            (Type::Bytea, "\\x00ff"),
            (Type::Char(Some(4)), "ab"),
        ] {
            round(text, &ty);
        }
    }

    /// What the `_send` functions of PostgreSQL 15 gave for these values.
    #[test]
    fn binary_forms_are_postgresqls() {
        let context = TextContext::utc();
        for (ty, text, bytes) in [
            ("numeric", "12345.678", "0003000100000003000109291a7c"),
            ("numeric", "-0.0001", "0001ffff400000040001"),
            ("numeric", "0.00", "0000000000000002"),
            ("numeric", "100000000", "00010002000000000001"),
            ("numeric", "NaN", "00000000c0000000"),
            ("numeric", "99999999999999.9900", "00050003000000040063270f270f270f26ac"),
            ("int2", "-2", "fffe"),
            ("int4", "7", "00000007"),
            ("int8", "-9", "fffffffffffffff7"),
            ("float4", "1.5", "3fc00000"),
            ("float8", "-0.1", "bfb999999999999a"),
            ("bool", "t", "01"),
            ("text", "hé", "68c3a9"),
            ("bytea", r#"\x00ff"#, "00ff"),
            ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
            ("timestamptz", "2024-01-02 03:04:05.6+00", "0002b0ec851f1b00"),
            ("timestamp", "infinity", "7fffffffffffffff"),
            ("date", "2024-01-02", "0000223f"),
            ("time", "10:20:30.5", "00000008ab1c58a0"),
            ("interval", "1 mon -2 days +03:00:00", "0000000283baec00fffffffe00000001"),
            ("jsonb", r#"{"a": [1, null]}"#, "017b2261223a205b312c206e756c6c5d7d"),
            ("oid", "4294967295", "ffffffff"),
            (
                "int4[]",
                "{1,NULL,3}",
                "00000001000000010000001700000003000000010000000400000001ffffffff0000000400000003",
            ),
            (
                "text[]",
                "{{a,b},{c,d}}",
                "000000020000000000000019000000020000000100000002000000010000000161000000016200000001630000000164",
            ),
            ("int2[]", "[0:1]={5,6}", "0000000100000000000000150000000200000000000000020005000000020006"),
            ("name", "abc", "616263"),
        ] {
            let ty = Type::by_name(ty).unwrap();
            let value = decode_text(text, &ty, &context).unwrap();
            let mut out = Vec::new();
            encode_binary(&value, &ty, &mut out);
            assert_eq!(hex::encode(&out), bytes, "{ty} {text}");
            let back = decode_binary(&out, &ty).unwrap();
            assert_eq!(encode_text(&back, &ty, &context), text, "{ty}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for ty in Type::all() {
                let _ = decode_binary(&bytes, &ty);
                let _ = decode_binary(&bytes, &Type::array_of(ty));
            }
        }
    }
}
