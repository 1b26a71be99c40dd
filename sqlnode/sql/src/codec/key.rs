//! Bytes that sort as values do.
//!
//! A key part is one byte that places NULL, then the value. Every encoding is self-delimiting, so parts can be put one
//! after another; a descending part has all its bytes inverted.
//!
//! ```text
//!   integers, times     big-endian with the sign bit flipped
//!   floats              IEEE bits; negative ones inverted, others with the sign bit set; one NaN, one zero
//!   text, bytea         the bytes, 00 as 00 FF, then 00 01
//!   numeric             class, exponent of the leading digit, digits in pairs, 00; negative ones inverted
//!   jsonb               rank of the kind, size of containers, contents
//!   arrays              each element after 02 (NULL: 03), then 01, then the dimensions
//! ```

use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use uuid::Uuid;

use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, DAY_MICROS, Interval, JSON_DEPTH_MAX, Json, Numeric, Type, Value};

/// How one part of a key sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeyOrder {
    /// Large values first.
    pub descending: bool,
    /// NULL before all values (in the resulting order, whatever the direction).
    pub nulls_first: bool,
}

impl KeyOrder {
    /// `ASC NULLS LAST`, the default.
    pub const ASCENDING: KeyOrder = KeyOrder { descending: false, nulls_first: false };
    /// `DESC NULLS FIRST`, the default of DESC.
    pub const DESCENDING: KeyOrder = KeyOrder { descending: true, nulls_first: true };
}

const NULL_FIRST: u8 = 0x01;
const NOT_NULL: u8 = 0x02;
const NULL_LAST: u8 = 0x03;

fn corrupted() -> SqlError {
    SqlError::corrupted("a stored key is malformed")
}

/// False for types of which equal values may print differently: a key alone doesn't give the value back as written.
pub fn key_is_exact(ty: &Type) -> bool {
    match ty {
        Type::Float4 | Type::Float8 | Type::Numeric(_) | Type::Interval(_) | Type::Jsonb | Type::Json => false,
        Type::Array(element) => key_is_exact(element),
        _ => true,
    }
}

/// The end of the range of keys that begin with `prefix`; empty if there is none (all bytes are FF).
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Appends one part of a key.
pub fn encode_key(value: &Value, order: KeyOrder, out: &mut Vec<u8>) -> Result<()> {
    if value.is_null() {
        out.push(if order.nulls_first { NULL_FIRST } else { NULL_LAST });
        return Ok(());
    }
    out.push(NOT_NULL);
    let start = out.len();
    encode_part(value, out)?;
    if order.descending {
        invert(&mut out[start..]);
    }
    Ok(())
}

fn invert(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

fn encode_part(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let wide = |value: i64| (value ^ i64::MIN).to_be_bytes();
    match value {
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::CharByte(byte) => out.push(*byte),
        Value::Int2(value) => out.extend((value ^ i16::MIN).to_be_bytes()),
        Value::Int4(value) | Value::Date(value) => out.extend((value ^ i32::MIN).to_be_bytes()),
        Value::Int8(value) | Value::Timestamptz(value) | Value::Timestamp(value) | Value::Time(value) => {
            out.extend(wide(*value));
        }
        Value::Float4(value) => {
            let value = if value.is_nan() { f32::NAN } else { value + 0.0 };
            let bits = value.to_bits();
            out.extend((if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }).to_be_bytes());
        }
        Value::Float8(value) => {
            // Adding zero makes -0 zero.
            let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
            let bits = value.to_bits();
            out.extend((if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }).to_be_bytes());
        }
        Value::Numeric(value) => encode_numeric(value, out),
        Value::Text(text) => escape(text.as_bytes(), out),
        Value::Bytea(bytes) => escape(bytes, out),
        Value::Uuid(value) => out.extend(value.as_bytes()),
        Value::Interval(value) => out.extend((value.total_micros() ^ i128::MIN).to_be_bytes()),
        Value::Jsonb(json) => encode_json(json, out),
        Value::Oid(oid) => out.extend(oid.to_be_bytes()),
        Value::Array(array) => {
            for value in &array.values {
                out.push(if value.is_null() { 3 } else { 2 });
                if !value.is_null() {
                    encode_part(value, out)?;
                }
            }
            out.push(1);
            for (length, lower) in &array.dimensions {
                out.push(2);
                out.extend((*length as u64).to_be_bytes());
                out.extend((lower ^ i32::MIN).to_be_bytes());
            }
            out.push(1);
        }
        Value::Record(_) | Value::Null => {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "rows can't be indexed"));
        }
    }
    Ok(())
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 1]);
}

const NEGATIVE_INFINITY: u8 = 1;
const NEGATIVE: u8 = 2;
const ZERO: u8 = 3;
const POSITIVE: u8 = 4;
const POSITIVE_INFINITY: u8 = 5;
const NAN: u8 = 6;

fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let Numeric::Finite { digits, scale } = value else {
        out.push(match value {
            Numeric::NegativeInfinity => NEGATIVE_INFINITY,
            Numeric::PositiveInfinity => POSITIVE_INFINITY,
            _ => NAN,
        });
        return;
    };
    if digits.sign() == Sign::NoSign {
        out.push(ZERO);
        return;
    }
    let negative = digits.sign() == Sign::Minus;
    out.push(if negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    let text = digits.magnitude().to_string();
    let exponent = text.len() as i32 - 1 - *scale as i32;
    out.extend((exponent ^ i32::MIN).to_be_bytes());
    let kept = text.trim_end_matches('0').as_bytes();
    for pair in kept.chunks(2) {
        let tens = pair[0] - b'0';
        let ones = pair.get(1).map_or(0, |digit| digit - b'0');
        out.push(tens * 10 + ones + 1);
    }
    out.push(0);
    if negative {
        invert(&mut out[start..]);
    }
}

fn encode_json(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => out.push(1),
        Json::String(text) => {
            out.push(2);
            escape(text.as_bytes(), out);
        }
        Json::Number(number) => {
            out.push(3);
            encode_numeric(number, out);
        }
        Json::Bool(value) => out.extend([4, u8::from(*value)]),
        Json::Array(values) => {
            out.push(5);
            out.extend((values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| encode_json(value, out));
        }
        Json::Object(pairs) => {
            out.push(6);
            out.extend((pairs.len() as u32).to_be_bytes());
            for (key, value) in pairs {
                out.extend((key.len() as u32).to_be_bytes());
                out.extend(key.as_bytes());
                encode_json(value, out);
            }
        }
    }
}

/// Takes one part off the front of a key.
pub fn decode_key(bytes: &mut &[u8], ty: &Type, order: KeyOrder) -> Result<Value> {
    let (tag, rest) = bytes.split_first().ok_or_else(corrupted)?;
    *bytes = rest;
    match *tag {
        NULL_FIRST | NULL_LAST => return Ok(Value::Null),
        NOT_NULL => {}
        _ => return Err(corrupted()),
    }
    if !order.descending {
        return decode_part(bytes, ty);
    }
    let mut inverted = bytes.to_vec();
    invert(&mut inverted);
    let mut rest = inverted.as_slice();
    let value = decode_part(&mut rest, ty)?;
    *bytes = &bytes[bytes.len() - rest.len()..];
    Ok(value)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(corrupted)?;
    *bytes = rest;
    Ok(*head)
}

fn decode_part(bytes: &mut &[u8], ty: &Type) -> Result<Value> {
    let wide = |bytes: &mut &[u8]| Ok::<i64, SqlError>(i64::from_be_bytes(take(bytes)?) ^ i64::MIN);
    Ok(match ty {
        Type::Bool => Value::Bool(take::<1>(bytes)?[0] != 0),
        Type::CharByte => Value::CharByte(take::<1>(bytes)?[0]),
        Type::Int2 => Value::Int2(i16::from_be_bytes(take(bytes)?) ^ i16::MIN),
        Type::Int4 => Value::Int4(i32::from_be_bytes(take(bytes)?) ^ i32::MIN),
        Type::Date => Value::Date(i32::from_be_bytes(take(bytes)?) ^ i32::MIN),
        Type::Int8 => Value::Int8(wide(bytes)?),
        Type::Timestamptz(_) => Value::Timestamptz(wide(bytes)?),
        Type::Timestamp(_) => Value::Timestamp(wide(bytes)?),
        Type::Time(_) => Value::Time(wide(bytes)?),
        Type::Float4 => {
            let bits = u32::from_be_bytes(take(bytes)?);
            Value::Float4(f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits }))
        }
        Type::Float8 => {
            let bits = u64::from_be_bytes(take(bytes)?);
            Value::Float8(f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits }))
        }
        Type::Numeric(_) => Value::Numeric(decode_numeric(bytes)?),
        ty if ty.is_text() => Value::text(unescape_text(bytes)?),
        Type::Bytea => Value::bytes(unescape(bytes)?),
        Type::Uuid => Value::Uuid(Uuid::from_bytes(take(bytes)?)),
        Type::Interval(_) => {
            let total = i128::from_be_bytes(take(bytes)?) ^ i128::MIN;
            let days = total.div_euclid(i128::from(DAY_MICROS));
            Value::Interval(Interval {
                months: i32::try_from(days / 30).map_err(|_| corrupted())?,
                days: (days % 30) as i32,
                micros: total.rem_euclid(i128::from(DAY_MICROS)) as i64,
            })
        }
        Type::Jsonb | Type::Json => Value::json(decode_json(bytes, 0)?),
        ty if ty.is_oid() => Value::Oid(u32::from_be_bytes(take(bytes)?)),
        Type::Array(element) => {
            let mut values = Vec::new();
            loop {
                match take::<1>(bytes)?[0] {
                    1 => break,
                    2 => values.push(decode_part(bytes, element)?),
                    3 => values.push(Value::Null),
                    _ => return Err(corrupted()),
                }
            }
            let mut dimensions = Vec::new();
            loop {
                match take::<1>(bytes)?[0] {
                    1 => break,
                    2 => {
                        let length = usize::try_from(u64::from_be_bytes(take(bytes)?)).map_err(|_| corrupted())?;
                        dimensions.push((length, i32::from_be_bytes(take(bytes)?) ^ i32::MIN));
                    }
                    _ => return Err(corrupted()),
                }
            }
            check_dimensions(&dimensions, values.len())?;
            Value::Array(Arc::new(Array { element: (**element).clone(), dimensions, values }))
        }
        _ => return Err(corrupted()),
    })
}

/// The product of the dimensions must be the number of elements.
pub(super) fn check_dimensions(dimensions: &[(usize, i32)], count: usize) -> Result<()> {
    let start = usize::from(!dimensions.is_empty());
    let product = dimensions.iter().try_fold(start, |product, (length, _)| product.checked_mul(*length));
    if product == Some(count) { Ok(()) } else { Err(SqlError::corrupted("a stored array is malformed")) }
}

fn unescape(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let stop = bytes.iter().position(|byte| *byte == 0).ok_or_else(corrupted)?;
        out.extend(&bytes[..stop]);
        let mark = *bytes.get(stop + 1).ok_or_else(corrupted)?;
        *bytes = &bytes[stop + 2..];
        match mark {
            0xff => out.push(0),
            1 => return Ok(out),
            _ => return Err(corrupted()),
        }
    }
}

fn unescape_text(bytes: &mut &[u8]) -> Result<String> {
    String::from_utf8(unescape(bytes)?).map_err(|_| corrupted())
}

fn decode_numeric(bytes: &mut &[u8]) -> Result<Numeric> {
    let class = take::<1>(bytes)?[0];
    let negative = match class {
        NEGATIVE_INFINITY => return Ok(Numeric::NegativeInfinity),
        ZERO => return Ok(Numeric::zero()),
        POSITIVE_INFINITY => return Ok(Numeric::PositiveInfinity),
        NAN => return Ok(Numeric::NaN),
        NEGATIVE => true,
        POSITIVE => false,
        _ => return Err(corrupted()),
    };
    let flip = if negative { 0xff } else { 0 };
    let exponent = i32::from_be_bytes(take::<4>(bytes)?.map(|byte| byte ^ flip)) ^ i32::MIN;
    let stop = bytes.iter().position(|byte| byte ^ flip == 0).ok_or_else(corrupted)?;
    let mut text = String::with_capacity(stop * 2);
    for byte in &bytes[..stop] {
        let pair = (byte ^ flip) - 1;
        if pair > 99 {
            return Err(corrupted());
        }
        text.push_str(&format!("{pair:02}"));
    }
    *bytes = &bytes[stop + 1..];
    let text = text.trim_end_matches('0');
    let digits = BigInt::parse_bytes(text.as_bytes(), 10).ok_or_else(corrupted)?;
    let scale = text.len() as i64 - 1 - i64::from(exponent);
    let exponent_in_range = (-20_000..=200_000).contains(&exponent) && (-200_000..=20_000).contains(&scale);
    if !exponent_in_range {
        return Err(corrupted());
    }
    let digits = if negative { -digits } else { digits };
    Ok(if scale < 0 {
        Numeric::Finite { digits: digits * BigInt::from(10u8).pow(scale.unsigned_abs() as u32), scale: 0 }
    } else {
        Numeric::Finite { digits, scale: scale as u32 }
    })
}

fn decode_json(bytes: &mut &[u8], depth: usize) -> Result<Json> {
    if depth > JSON_DEPTH_MAX + 1 {
        return Err(corrupted());
    }
    Ok(match take::<1>(bytes)?[0] {
        1 => Json::Null,
        2 => Json::String(unescape_text(bytes)?),
        3 => Json::Number(decode_numeric(bytes)?),
        4 => Json::Bool(take::<1>(bytes)?[0] != 0),
        5 => {
            let count = u32::from_be_bytes(take(bytes)?);
            Json::Array((0..count).map(|_| decode_json(bytes, depth + 1)).collect::<Result<_>>()?)
        }
        6 => {
            let count = u32::from_be_bytes(take(bytes)?);
            let mut pairs = Vec::new();
            for _ in 0..count {
                let length = u32::from_be_bytes(take(bytes)?) as usize;
                let (key, rest) = bytes.split_at_checked(length).ok_or_else(corrupted)?;
                let key = String::from_utf8(key.to_vec()).map_err(|_| corrupted())?;
                *bytes = rest;
                pairs.push((key, decode_json(bytes, depth + 1)?));
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

    fn key(value: &Value, order: KeyOrder) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(value, order, &mut out).unwrap();
        out
    }

    #[test]
    fn nulls_stand_where_they_were_asked_for() {
        let one = Value::Int4(1);
        for descending in [false, true] {
            let first = KeyOrder { descending, nulls_first: true };
            let last = KeyOrder { descending, nulls_first: false };
            assert!(key(&Value::Null, first) < key(&one, first));
            assert!(key(&Value::Null, last) > key(&one, last));
        }
        assert_eq!(prefix_end(&[1, 0xff]), [2]);
        assert!(prefix_end(&[0xff]).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn keys_sort_as_values_do((ty, a, b) in typed_pair()) {
            for order in [KeyOrder::ASCENDING, KeyOrder::DESCENDING] {
                let expected = if order.descending { b.cmp(&a) } else { a.cmp(&b) };
                let (left, right) = (key(&a, order), key(&b, order));
                // A descending NULL comes first, where the order of values has it last: inversion says the same.
                prop_assert_eq!(left.cmp(&right), expected, "{} {:?} {:?}", ty, a, b);
                let joined = [left.as_slice(), right.as_slice()].concat();
                let mut rest = joined.as_slice();
                prop_assert_eq!(&decode_key(&mut rest, &ty, order).unwrap(), &a);
                prop_assert_eq!(&decode_key(&mut rest, &ty, order).unwrap(), &b);
                prop_assert!(rest.is_empty());
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for ty in types() {
                let _ = decode_key(&mut bytes.as_slice(), &ty, KeyOrder::ASCENDING);
                let _ = decode_key(&mut bytes.as_slice(), &ty, KeyOrder::DESCENDING);
            }
        }
    }
}
