//! Values as text, in and out.

use std::fmt::Write;
use std::sync::Arc;

use uuid::Uuid;

use super::array_text::{parse_array, print_array};
use super::calendar::{self, Zone};
use super::{Json, Numeric, TextContext, Type, Value, datetime};
use crate::error::{Result, SqlError, SqlState};

fn invalid(ty: &Type, text: &str) -> SqlError {
    let shown: String = text.chars().take(100).collect();
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {}: \"{shown}\"", ty.base()),
    )
}

pub(super) fn out_of_range(ty: &Type) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{} out of range", ty.base()))
}

/// True for a zone that `TimeZone` may be set to.
pub fn time_zone_exists(name: &str) -> bool {
    Zone::by_name(name).is_some()
}

/// Reads a value of a type from its text form, modifier included (a text too long for `varchar(n)` is an error here).
pub fn decode_text(text: &str, ty: &Type, context: &TextContext<'_>) -> Result<Value> {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let integer = || -> Result<i64> {
        let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid(ty, text));
        }
        trimmed.parse().map_err(|_| too_large(text, ty))
    };
    Ok(match ty {
        Type::Unknown | Type::Text | Type::Varchar(None) | Type::Char(None) => Value::text(checked(text)?),
        Type::Varchar(Some(length)) => Value::Text(fit_text(checked(text)?, *length, ty, false)?),
        Type::Char(Some(length)) => Value::Text(fit_text(checked(text)?, *length, ty, false)?),
        Type::Name => Value::text(truncate_name(checked(text)?)),
        Type::Bool => Value::Bool(parse_bool(trimmed).ok_or_else(|| invalid(ty, text))?),
        Type::CharByte => Value::CharByte(match text.as_bytes() {
            // As bytes that are no ASCII print.
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => (a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'),
            bytes => bytes.first().copied().unwrap_or(0),
        }),
        Type::Int2 => Value::Int2(integer()?.try_into().map_err(|_| too_large(text, ty))?),
        Type::Int4 => Value::Int4(integer()?.try_into().map_err(|_| too_large(text, ty))?),
        Type::Int8 => Value::Int8(integer()?),
        Type::Oid => Value::Oid(parse_oid(integer()?).ok_or_else(|| too_large(text, ty))?),
        Type::Float4 => {
            let value = parse_float(trimmed).ok_or_else(|| invalid(ty, text))?;
            let narrow: f32 = trimmed.parse().unwrap_or(value as f32);
            let digits = trimmed.bytes().any(|b| b.is_ascii_digit());
            let mantissa = trimmed.split(['e', 'E']).next().unwrap_or("");
            let zero = !mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
            if (narrow.is_infinite() && digits) || (narrow == 0.0 && !zero) {
                return Err(float_range(text, ty));
            }
            Value::Float4(narrow)
        }
        Type::Float8 => {
            let value = parse_float(trimmed).ok_or_else(|| invalid(ty, text))?;
            let has_digits = trimmed.bytes().any(|b| b.is_ascii_digit());
            let mantissa = trimmed.split(['e', 'E']).next().unwrap_or("");
            let underflow = value == 0.0 && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
            if (value.is_infinite() && has_digits) || underflow {
                return Err(float_range(text, ty));
            }
            Value::Float8(value)
        }
        Type::Numeric(modifier) => {
            let number = Numeric::parse(text)?.ok_or_else(|| invalid(ty, text))?;
            Value::Numeric(match modifier {
                Some((precision, scale)) => number.fit(*precision, *scale)?,
                None => number,
            })
        }
        Type::Bytea => Value::bytes(parse_bytea(text)?),
        Type::Uuid => Value::Uuid(parse_uuid(trimmed).ok_or_else(|| invalid(ty, text))?),
        Type::Timestamptz(_) => fit_fraction(Value::Timestamptz(datetime::parse_timestamptz(text, context)?), ty)?,
        Type::Timestamp(_) => fit_fraction(Value::Timestamp(datetime::parse_timestamp(text, context)?), ty)?,
        Type::Date => Value::Date(datetime::parse_date(text, context)?),
        Type::Time(_) => fit_fraction(Value::Time(datetime::parse_time(text, context)?), ty)?,
        Type::Interval(_) => fit_fraction(Value::Interval(datetime::parse_interval(text)?), ty)?,
        Type::Jsonb | Type::Json => Value::json(Json::parse(text)?),
        Type::Regclass => Value::Oid(registered(trimmed, SqlState::UNDEFINED_TABLE, "relation", |name| {
            context.catalog.relation_oid(name)
        })?),
        Type::Regnamespace => Value::Oid(registered(trimmed, SqlState::INVALID_SCHEMA_NAME, "schema", |name| {
            context.catalog.schema_oid(name)
        })?),
        Type::Regtype => Value::Oid(registered(trimmed, SqlState::UNDEFINED_OBJECT, "type", |name| {
            Type::by_name(name).map(|ty| ty.oid())
        })?),
        Type::Regproc => Value::Oid(registered(trimmed, SqlState::UNDEFINED_FUNCTION, "function", |_| None)?),
        Type::Array(element) => Value::Array(Arc::new(parse_array(text, element, context)?)),
        Type::Record => return Err(SqlError::unsupported("input of anonymous composite types")),
        Type::Void => Value::text(""),
    })
}

fn too_large(text: &str, ty: &Type) -> SqlError {
    let message = format!("value \"{}\" is out of range for type {ty}", text.trim());
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn float_range(text: &str, ty: &Type) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{}\" is out of range for type {ty}", text.trim()))
}

fn checked(text: &str) -> Result<&str> {
    if text.contains('\0') {
        return Err(SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

/// Fits text into a number of characters: more of them must be spaces, or are cut if the cast is explicit.
pub(super) fn fit_text(text: &str, length: u32, ty: &Type, cut: bool) -> Result<Arc<str>> {
    let text = if matches!(ty, Type::Char(_)) { text.trim_end_matches(' ') } else { text };
    let Some((end, _)) = text.char_indices().nth(length as usize) else { return Ok(Arc::from(text)) };
    if !cut && !text[end..].bytes().all(|b| b == b' ') {
        return Err(SqlError::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, format!("value too long for type {ty}")));
    }
    Ok(Arc::from(&text[..end]))
}

/// Rounds the seconds of a time to the digits that its type keeps: a half goes away from the year 2000, as in PostgreSQL.
pub(super) fn fit_fraction(value: Value, ty: &Type) -> Result<Value> {
    let Some(digits) = ty.fraction() else { return Ok(value) };
    let step = 10i64.pow(6 - u32::from(digits.min(6)));
    let round = |micros: i64| {
        let rest = micros % step;
        let away = if rest.abs() * 2 >= step { micros.signum() * step } else { 0 };
        (micros - rest).checked_add(away).ok_or_else(|| calendar::out_of_range(&ty.base().to_string()))
    };
    Ok(match value {
        Value::Timestamptz(t) if calendar::is_finite(t) => Value::Timestamptz(round(t)?),
        Value::Timestamp(t) if calendar::is_finite(t) => Value::Timestamp(round(t)?),
        Value::Time(t) => Value::Time(round(t)?),
        Value::Interval(span) => Value::Interval(super::Interval { micros: round(span.micros)?, ..span }),
        other => other,
    })
}

/// A `name` keeps 63 bytes.
pub(super) fn truncate_name(text: &str) -> &str {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `t`, `tru`, `yes`, `on`, `1` and their like.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let is = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if is("true", 1) || is("yes", 1) || is("on", 2) || lower == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

/// Oids are unsigned, but -1 and the like wrap as in C.
fn parse_oid(value: i64) -> Option<u32> {
    u32::try_from(value).ok().or_else(|| i32::try_from(value).ok().map(|v| v as u32))
}

fn parse_float(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" | "+nan" | "-nan" => Some(f64::NAN),
        "infinity" | "inf" | "+infinity" | "+inf" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        // Rust's words for the special values are not all PostgreSQL's.
        lower if lower.bytes().any(|b| b.is_ascii_alphabetic() && b != b'e') => None,
        lower => lower.parse().ok(),
    }
}

fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    let error = |message: &str| SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message);
    let bad_hex = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        return hex::decode(&digits).map_err(|reason| match reason {
            hex::FromHexError::InvalidHexCharacter { c, .. } => bad_hex(format!("invalid hexadecimal digit: \"{c}\"")),
            _ => bad_hex("invalid hexadecimal data: odd number of digits".to_string()),
        });
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1), bytes.get(at + 1..at + 4)) {
            (b'\\', Some(b'\\'), _) => {
                out.push(b'\\');
                at += 2;
            }
            (b'\\', _, Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'])) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                at += 4;
            }
            (b'\\', ..) => return Err(error("invalid input syntax for type bytea")),
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Hexadecimal digits, hyphens after any group of four, braces around.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let body = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let mut digits = Vec::with_capacity(32);
    for (i, b) in body.bytes().enumerate() {
        if b == b'-' {
            if digits.is_empty() || digits.len() % 4 != 0 || body.as_bytes()[i - 1] == b'-' || digits.len() == 32 {
                return None;
            }
        } else {
            digits.push(b);
        }
    }
    let bytes: [u8; 16] = hex::decode(&digits).ok()?.try_into().ok()?;
    Some(Uuid::from_bytes(bytes))
}

/// An oid written as a number, `-` for none, or a name that is looked up.
fn registered(text: &str, state: SqlState, what: &str, find: impl Fn(&str) -> Option<u32>) -> Result<u32> {
    if text == "-" {
        return Ok(0);
    }
    if let Ok(oid) = text.parse() {
        return Ok(oid);
    }
    find(text).ok_or_else(|| {
        let shown = text.replace('"', "");
        SqlError::new(state, format!("{what} \"{shown}\" does not exist"))
    })
}

/// Writes a value of a type as text. NULL has no text of its own; it gives an empty one.
pub fn encode_text(value: &Value, ty: &Type, context: &TextContext<'_>) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => if *value { "t" } else { "f" }.to_string(),
        Value::CharByte(0) => String::new(),
        Value::CharByte(byte) if byte.is_ascii() => (*byte as char).to_string(),
        Value::CharByte(byte) => format!("\\{byte:03o}"),
        Value::Int2(value) => value.to_string(),
        Value::Int4(value) => value.to_string(),
        Value::Int8(value) => value.to_string(),
        Value::Float4(value) => print_float(f64::from(*value), &shortest_float4(*value), 6),
        Value::Float8(value) => print_float(*value, &shortest_float8(*value), 15),
        Value::Numeric(value) => value.to_string(),
        Value::Text(text) => match ty {
            Type::Char(Some(length)) => format!("{text:<width$}", width = *length as usize),
            _ => text.to_string(),
        },
        Value::Bytea(bytes) => format!("\\x{}", hex::encode(bytes)),
        Value::Uuid(value) => value.hyphenated().to_string(),
        Value::Timestamptz(value) => calendar::print_timestamp(*value, Some(&Zone::session(context.time_zone))),
        Value::Timestamp(value) => calendar::print_timestamp(*value, None),
        Value::Date(value) => calendar::print_date(*value),
        Value::Time(value) => calendar::print_time(*value),
        Value::Interval(value) => calendar::print_interval(value),
        Value::Jsonb(value) => value.to_string(),
        Value::Oid(oid) => print_oid(*oid, ty, context),
        Value::Array(array) => print_array(array, context),
        Value::Record(fields) => {
            let mut out = String::from("(");
            for (i, (ty, value)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                if !value.is_null() {
                    let text = encode_text(value, ty, context);
                    let plain = |c: char| !matches!(c, '"' | '\\' | '(' | ')' | ',') && !c.is_ascii_whitespace();
                    if text.is_empty() || !text.chars().all(plain) {
                        let _ = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""));
                    } else {
                        out.push_str(&text);
                    }
                }
            }
            out.push(')');
            out
        }
    }
}

fn print_oid(oid: u32, ty: &Type, context: &TextContext<'_>) -> String {
    let name = match ty {
        Type::Regclass if oid != 0 => context.catalog.relation_name(oid),
        Type::Regnamespace if oid != 0 => context.catalog.schema_name(oid).map(|name| quote_identifier(&name)),
        Type::Regtype if oid != 0 => Type::from_oid(oid, -1).map(|ty| ty.to_string()),
        Type::Oid => Some(oid.to_string()),
        _ => None,
    };
    name.unwrap_or_else(|| if oid == 0 { "-".to_string() } else { oid.to_string() })
}

/// True if a decimal, as `{:e}` writes it, is just between a float and its neighbour: `mantissa * 2^exponent`. It may
/// read back as that float, but PostgreSQL never prints it.
fn is_between(decimal: &str, mantissa: u64, exponent: i32) -> bool {
    let (digits, ten) = decimal.split_once('e').unwrap_or((decimal, "0"));
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    let whole: String = digits.chars().filter(char::is_ascii_digit).collect();
    let (Ok(whole), Ok(ten)) = (whole.parse::<u128>(), ten.parse::<i32>()) else { return false };
    // Half a step is a whole number only where steps are of two or more, and then there are few factors of five.
    let ten = ten - fraction;
    if exponent < 1 || whole == 0 || !(0..=23).contains(&ten) {
        return false;
    }
    let zeros = whole.trailing_zeros() as i32;
    let odd = (whole >> zeros) * 5u128.pow(ten as u32);
    zeros + ten == exponent - 1
        && (odd == u128::from(mantissa) * 2 + 1 || odd == (u128::from(mantissa) * 2).saturating_sub(1))
}

/// The fewest digits that read back as this float; of several the nearest, of two as near the even one.
fn shortest_float8(value: f64) -> String {
    let shortest = format!("{value:e}");
    let bits = value.abs().to_bits();
    let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
    let exponent = (bits >> 52) as i32 - 1075;
    if !value.is_finite() || exponent < -6 {
        return shortest;
    }
    let count = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let candidates = (count..=17).map(|digits| format!("{value:.*e}", digits - 1));
    let fits = |text: &String| text.parse() == Ok(value) && !is_between(text, mantissa, exponent);
    candidates.into_iter().find(fits).map_or(shortest, |text| without_zeros(&text))
}

fn shortest_float4(value: f32) -> String {
    let shortest = format!("{value:e}");
    let bits = value.abs().to_bits();
    let mantissa = u64::from((bits & ((1 << 23) - 1)) | 1 << 23);
    let exponent = (bits >> 23) as i32 - 150;
    if !value.is_finite() || exponent < -6 {
        return shortest;
    }
    let count = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count();
    let candidates = (count..=9).map(|digits| format!("{value:.*e}", digits - 1));
    let fits = |text: &String| text.parse() == Ok(value) && !is_between(text, mantissa, exponent);
    candidates.into_iter().find(fits).map_or(shortest, |text| without_zeros(&text))
}

/// A decimal without zeros at the end of its fraction.
fn without_zeros(decimal: &str) -> String {
    match decimal.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => decimal.to_string(),
    }
}

/// The shortest digits that read back as the same float, in PostgreSQL's layout.
fn print_float(value: f64, shortest: &str, fixed_digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    if !(-4..fixed_digits).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let point = exponent as usize + 1;
    if digits.len() <= point {
        format!("{sign}{digits:0<point$}")
    } else {
        format!("{sign}{}.{}", &digits[..point], &digits[point..])
    }
}

/// An identifier as it must be written, quoted if it isn't plain lower case or is a word of the language.
pub(crate) fn quote_identifier(name: &str) -> String {
    const RESERVED: &[&str] = &[
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "column",
        "constraint",
        "create",
        "current_catalog",
        "current_date",
        "current_role",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "from",
        "grant",
        "group",
        "having",
        "in",
        "initially",
        "intersect",
        "into",
        "lateral",
        "leading",
        "limit",
        "localtime",
        "localtimestamp",
        "not",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "placing",
        "primary",
        "references",
        "returning",
        "select",
        "session_user",
        "some",
        "symmetric",
        "table",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "when",
        "where",
        "window",
        "with",
        "authorization",
        "binary",
        "collation",
        "concurrently",
        "cross",
        "current_schema",
        "freeze",
        "full",
        "ilike",
        "inner",
        "is",
        "isnull",
        "join",
        "left",
        "like",
        "natural",
        "notnull",
        "outer",
        "overlaps",
        "right",
        "similar",
        "tablesample",
        "verbose",
        "between",
        "bigint",
        "bit",
        "boolean",
        "char",
        "character",
        "coalesce",
        "dec",
        "decimal",
        "exists",
        "extract",
        "float",
        "greatest",
        "grouping",
        "inout",
        "int",
        "integer",
        "interval",
        "least",
        "national",
        "nchar",
        "none",
        "normalize",
        "nullif",
        "numeric",
        "out",
        "overlay",
        "position",
        "precision",
        "real",
        "row",
        "setof",
        "smallint",
        "substring",
        "time",
        "timestamp",
        "treat",
        "trim",
        "values",
        "varchar",
        "xmlattributes",
        "xmlconcat",
        "xmlelement",
        "xmlexists",
        "xmlforest",
        "xmlnamespaces",
        "xmlparse",
        "xmlpi",
        "xmlroot",
        "xmlserialize",
        "xmltable",
    ];
    let plain =
        name.bytes().enumerate().all(|(i, b)| b.is_ascii_lowercase() || b == b'_' || (i > 0 && b.is_ascii_digit()));
    if plain && !name.is_empty() && !RESERVED.contains(&name) {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str, ty: &Type) -> String {
        let context = TextContext::utc();
        encode_text(&decode_text(text, ty, &context).unwrap_or_else(|e| panic!("{text}: {e}")), ty, &context)
    }

    #[test]
    fn values_print_as_postgresql_prints_them() {
        for (ty, input, printed) in [
            (Type::Float8, "1e15", "1e+15"),
            (Type::Float8, "100000000000000", "100000000000000"),
            (Type::Float8, "0.1", "0.1"),
            (Type::Float8, "0.00001", "1e-05"),
            (Type::Float8, "-0", "-0"),
            (Type::Float8, "1.5", "1.5"),
            (Type::Float8, "123456789.125", "123456789.125"),
            (Type::Float8, "1e23", "9.999999999999999e+22"),
            (Type::Float8, "-2.644719823589188e+17", "-2.6447198235891878e+17"),
            (Type::Float8, "724077016635516.2", "724077016635516.2"),
            (Type::Float8, "240930394099854.62", "240930394099854.62"),
            (Type::Float8, "9007199254740993", "9.007199254740992e+15"),
            (Type::Float8, "1e22", "1e+22"),
            (Type::Float4, "-43766449.9732", "-4.3766448e+07"),
            (Type::Float4, "16777216", "1.6777216e+07"),
            (Type::Float4, "1000000", "1e+06"),
            (Type::Float4, "0.1", "0.1"),
            (Type::Float8, "inf", "Infinity"),
            (Type::Bytea, "a\\\\b\\001", "\\x615c6201"),
            (Type::Uuid, "{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (Type::Char(Some(5)), "ab   ", "ab   "),
            (Type::Varchar(Some(2)), "ab   ", "ab"),
            (Type::Numeric(Some((5, 2))), "1.005", "1.01"),
            (Type::array_of(Type::Int4), "{1, 2,NULL}", "{1,2,NULL}"),
            (Type::array_of(Type::Int4), "[0:1]={1,2}", "[0:1]={1,2}"),
            (Type::array_of(Type::Text), r#"{a, "b c", "NULL", "", "q\"\\"}"#, r#"{a,"b c","NULL","","q\"\\"}"#),
            (Type::array_of(Type::Int4), "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
            (Type::array_of(Type::Text), r"{a\ ,b }", r#"{"a ",b}"#),
            (Type::Timestamp(Some(3)), "2024-01-02 03:04:05.6785", "2024-01-02 03:04:05.679"),
            (Type::Timestamptz(Some(0)), "1999-01-02 03:04:05.5+00", "1999-01-02 03:04:05+00"),
            (Type::Time(Some(1)), "03:04:05.64", "03:04:05.6"),
            (Type::Interval(Some(2)), "-1.125 seconds", "-00:00:01.13"),
            (Type::Date, "5874897-12-31", "5874897-12-31"),
            (Type::Date, "4714-11-24 BC", "4714-11-24 BC"),
            (Type::Date, "January 8, 99 BC", "0099-01-08 BC"),
            (Type::Date, "Jan-08-1999", "1999-01-08"),
            (Type::Date, "990108", "1999-01-08"),
            (Type::Date, "1999-008", "1999-01-08"),
            (Type::Date, "J2451187", "1999-01-08"),
            (Type::Time(None), "040506", "04:05:06"),
            (Type::Interval(None), "P0001-02-03T04:05:06.5", "1 year 2 mons 3 days 04:05:06.5"),
            (Type::Interval(None), "1y2mon3d", "1 year 2 mons 3 days"),
            (Type::Regtype, "integer", "integer"),
            (Type::Bool, " yes ", "t"),
        ] {
            assert_eq!(round(input, &ty), printed, "{ty} {input}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn any_text_is_read_or_refused(
            text in prop_oneof![
                any::<String>(),
                "[-+0-9:./ TZtzaeijmnoprubcdfhkwyé{}\"',\\\\]{0,24}",
                "[0-9]{1,6}[-/.][0-9a-z]{1,4}[-/.][0-9]{1,4}[ T]?[0-9]{0,3}:?[0-9:.]{0,12}[-+ A-Za-z/0-9:]{0,12}",
                "P?[-+]?[0-9.]{1,12} ?[a-zA-Z]{0,9}[-+ 0-9:.a-zA-Z]{0,16}",
            ],
        ) {
            let context = TextContext::utc();
            for ty in Type::all().chain([Type::array_of(Type::Int4), Type::array_of(Type::Text), Type::Numeric(Some((5, 2)))]) {
                if let Ok(value) = decode_text(&text, &ty, &context) {
                    // What was read prints as something that is read as the same.
                    let printed = encode_text(&value, &ty, &context);
                    let again = decode_text(&printed, &ty, &context);
                    prop_assert_eq!(again.as_ref(), Ok(&value), "{} {:?} {:?}", ty, text, printed);
                }
            }
        }
    }

    #[test]
    fn bad_input_is_refused_with_its_state() {
        let context = TextContext::utc();
        for (ty, text, state) in [
            (Type::Int4, "abc", "22P02"),
            (Type::Int4, "", "22P02"),
            (Type::Int4, "2147483648", "22003"),
            (Type::Int8, "9223372036854775808", "22003"),
            (Type::Float8, "1e400", "22003"),
            (Type::Float8, "1e-400", "22003"),
            (Type::Float8, "nanx", "22P02"),
            (Type::Bool, "maybe", "22P02"),
            (Type::Uuid, "a0ee", "22P02"),
            (Type::Bytea, "\\xabc", "22023"),
            (Type::Float4, "1e400", "22003"),
            (Type::array_of(Type::Int4), "{{}}", "22P02"),
            (Type::array_of(Type::Int4), "[1:2]={1}", "22P02"),
            (Type::array_of(Type::Int4), "[2:1]={}", "2202E"),
            (Type::Numeric(None), "1e-16384", "22003"),
            (Type::Varchar(Some(2)), "abc", "22001"),
            (Type::Text, "a\0b", "22021"),
            (Type::Regclass, "nothing", "42P01"),
            (Type::array_of(Type::Int4), "{1,{2}}", "22P02"),
            (Type::array_of(Type::Int4), "{{1},{2,3}}", "22P02"),
            (Type::array_of(Type::Int4), "{1", "22P02"),
            (Type::array_of(Type::Int4), "}", "22P02"),
            (Type::array_of(Type::Int4), "{1,}", "22P02"),
        ] {
            assert_eq!(decode_text(text, &ty, &context).map(|_| ()).unwrap_err().state.as_str(), state, "{ty} {text}");
        }
    }
}
