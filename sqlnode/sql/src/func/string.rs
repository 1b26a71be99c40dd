//! Strings, counted in characters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use super::registry::{Call, Entry};
use super::values::{array, bad_parameter, boolean, bytes, check_size, int, int4, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::text::quote_identifier;
use crate::types::{Type, Value, encode_text};

fn map(a: &[Value], f: impl Fn(&str) -> String) -> Result<Value> {
    Ok(Value::text(f(text(&a[0]))))
}

fn length(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(text(&a[0]).chars().count()))
}

fn octets(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(text(&a[0]).len()))
}

fn bits(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(text(&a[0]).len().saturating_mul(8)))
}

fn bytes_length(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(bytes(&a[0]).len()))
}

/// Character by character: one that becomes several (`ß`) stays, as in the C library that PostgreSQL asks.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    let mut mapped = c.to_lowercase();
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

/// The first letter of each word upper, the rest lower.
fn initcap(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let mut inside = false;
    let mut out = String::new();
    for c in text(&a[0]).chars() {
        out.push(if inside { lower(c) } else { upper(c) });
        inside = c.is_alphanumeric();
    }
    Ok(Value::text(out))
}

/// The characters to trim; spaces by default.
fn trim_set(a: &[Value]) -> Vec<char> {
    a.get(1).map_or(vec![' '], |set| text(set).chars().collect())
}

fn trim_both(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(text(&a[0]).trim_matches(&trim_set(a)[..])))
}

fn trim_left(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(text(&a[0]).trim_start_matches(&trim_set(a)[..])))
}

fn trim_right(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(text(&a[0]).trim_end_matches(&trim_set(a)[..])))
}

/// The window of a substring: how many to skip, how many to take. Positions before the first count, but hold nothing.
fn window(start: i64, length: Option<i64>) -> Result<(usize, usize)> {
    let skip = start.saturating_sub(1).max(0) as usize;
    let take = match length {
        None => usize::MAX,
        Some(length) if length < 0 => {
            return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(length) => start.saturating_add(length).saturating_sub(start.max(1)).max(0) as usize,
    };
    Ok((skip, take))
}

fn substring(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (skip, take) = window(int(&a[1]), a.get(2).map(int))?;
    Ok(Value::text(text(&a[0]).chars().skip(skip).take(take).collect::<String>()))
}

fn substring_bytes(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (skip, take) = window(int(&a[1]), a.get(2).map(int))?;
    Ok(Value::bytes(bytes(&a[0]).iter().skip(skip).take(take).copied().collect::<Vec<u8>>()))
}

fn overlay(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let replacement = text(&a[1]);
    let start = int(&a[2]);
    if start < 1 {
        return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let length = a.get(3).map_or(replacement.chars().count() as i64, int);
    let head: String = text(&a[0]).chars().take(start as usize - 1).collect();
    let tail: String =
        text(&a[0]).chars().skip(start.saturating_add(length).saturating_sub(1).max(0) as usize).collect();
    Ok(Value::text(format!("{head}{replacement}{tail}")))
}

fn position_in(subject: &str, part: &str) -> Value {
    subject.find(part).map_or(Value::Int4(0), |at| int4(subject[..at].chars().count() + 1))
}

fn position(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(position_in(text(&a[0]), text(&a[1])))
}

fn replace(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (subject, from, to) = (text(&a[0]), text(&a[1]), text(&a[2]));
    if from.is_empty() {
        return Ok(a[0].clone());
    }
    let growth = subject.matches(from).count().saturating_mul(to.len());
    check_size(subject.len().saturating_add(growth))?;
    Ok(Value::text(subject.replace(from, to)))
}

fn split_part(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (subject, delimiter, field) = (text(&a[0]), text(&a[1]), int(&a[2]));
    if field == 0 {
        return Err(bad_parameter("field position must not be zero"));
    }
    let parts: Vec<&str> = if delimiter.is_empty() { vec![subject] } else { subject.split(delimiter).collect() };
    let at = if field > 0 { field - 1 } else { parts.len() as i64 + field };
    Ok(Value::text(usize::try_from(at).ok().and_then(|at| parts.get(at)).unwrap_or(&"")))
}

/// A negative count means all but so many.
fn count_of(subject: &str, count: i64) -> usize {
    let length = subject.chars().count() as i64;
    if count >= 0 { count.min(length) as usize } else { (length + count).max(0) as usize }
}

fn left(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let subject = text(&a[0]);
    Ok(Value::text(subject.chars().take(count_of(subject, int(&a[1]))).collect::<String>()))
}

fn right(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let subject = text(&a[0]);
    let length = subject.chars().count();
    Ok(Value::text(subject.chars().skip(length - count_of(subject, int(&a[1]))).collect::<String>()))
}

/// The filling that brings a string to a length, or the string cut to it.
fn pad(a: &[Value]) -> Result<(String, String)> {
    let wanted = int(&a[1]).max(0) as usize;
    let fill = a.get(2).map_or(" ", text);
    let subject: String = text(&a[0]).chars().take(wanted).collect();
    let missing = wanted - subject.chars().count();
    check_size(missing.saturating_mul(4))?;
    let fill = if fill.is_empty() { String::new() } else { fill.chars().cycle().take(missing).collect() };
    Ok((fill, subject))
}

fn pad_left(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (fill, subject) = pad(a)?;
    Ok(Value::text(fill + &subject))
}

fn pad_right(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (fill, subject) = pad(a)?;
    Ok(Value::text(subject + &fill))
}

fn concat(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let mut out = String::new();
    for (value, ty) in a.iter().zip(call.types) {
        out.push_str(&encode_text(value, ty, &call.context.text()));
        check_size(out.len())?;
    }
    Ok(Value::text(out))
}

fn concat_ws(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let given = a.iter().zip(call.types).skip(1).filter(|(value, _)| !value.is_null());
    let parts: Vec<String> = given.map(|(value, ty)| encode_text(value, ty, &call.context.text())).collect();
    let joined = parts.join(text(&a[0]));
    check_size(joined.len())?;
    Ok(Value::text(joined))
}

fn repeat(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let count = int(&a[1]).max(0) as usize;
    check_size(text(&a[0]).len().saturating_mul(count))?;
    Ok(Value::text(text(&a[0]).repeat(count)))
}

fn md5_text(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(hex::encode(Md5::digest(text(&a[0]).as_bytes()))))
}

fn md5_bytes(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(hex::encode(Md5::digest(bytes(&a[0])))))
}

fn unknown_encoding(name: &str) -> SqlError {
    bad_parameter(format!("unrecognized encoding: \"{name}\""))
}

fn encode(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let data = bytes(&a[0]);
    Ok(Value::text(match text(&a[1]).to_ascii_lowercase().as_str() {
        "hex" => hex::encode(data),
        "base64" => {
            // Lines of 76 characters, as MIME has them.
            let whole = BASE64.encode(data);
            let lines: Vec<&str> =
                whole.as_bytes().chunks(76).filter_map(|line| std::str::from_utf8(line).ok()).collect();
            lines.join("\n")
        }
        "escape" => data.iter().fold(String::new(), |mut out, byte| {
            match byte {
                b'\\' => out.push_str("\\\\"),
                0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                byte => out.push(*byte as char),
            }
            out
        }),
        other => return Err(unknown_encoding(other)),
    }))
}

fn decode(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let source = text(&a[0]);
    let compact: String = source.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match text(&a[1]).to_ascii_lowercase().as_str() {
        "hex" => hex::decode(&compact).map(Value::bytes).map_err(|error| {
            bad_parameter(match error {
                hex::FromHexError::OddLength => "invalid hexadecimal data: odd number of digits".to_string(),
                _ => "invalid hexadecimal digit".to_string(),
            })
        }),
        "base64" => BASE64.decode(&compact).map(Value::bytes).map_err(|_| bad_parameter("invalid base64 end sequence")),
        "escape" => crate::types::decode_text(source, &Type::Bytea, &call.context.text()),
        other => Err(unknown_encoding(other)),
    }
}

fn to_hex(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(match &a[0] {
        Value::Int4(value) => format!("{value:x}"),
        other => format!("{:x}", int(other)),
    }))
}

/// A string literal, with the `E` form when there is a backslash.
fn literal(content: &str) -> String {
    let quoted = content.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn quote_literal(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::text(literal(&encode_text(&a[0], &call.types[0], &call.context.text())).trim_start()))
}

fn quote_nullable(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a[0].is_null() { Ok(Value::text("NULL")) } else { quote_literal(a, call) }
}

/// `format('%s %I %L %1$s %-10s')`.
fn format(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let mut out = String::new();
    let mut chars = text(&a[0]).chars().peekable();
    let mut next = 1usize;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            out.extend(chars.next());
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<usize>().ok()
        };
        let mut width = None;
        let mut left = false;
        let first = number(&mut chars);
        if chars.peek() == Some(&'$') {
            chars.next();
            next = first
                .filter(|at| *at > 0)
                .ok_or_else(|| bad_parameter("format specifies argument 0, but arguments are numbered from 1"))?;
        } else {
            width = first;
        }
        if chars.peek() == Some(&'-') {
            chars.next();
            left = true;
        }
        width = width.or(number(&mut chars));
        let kind = chars.next().ok_or_else(|| {
            bad_parameter("unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".")
        })?;
        if kind == '*' {
            return Err(SqlError::unsupported("a width that is an argument of format()"));
        }
        let value = a.get(next).ok_or_else(|| bad_parameter("too few arguments for format()"))?;
        let printed = || encode_text(value, &call.types[next], &call.context.text());
        let piece = match kind {
            's' => printed(),
            'I' if value.is_null() => {
                return Err(SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null values cannot be formatted as an SQL identifier",
                ));
            }
            'I' => quote_identifier(&printed()),
            'L' if value.is_null() => "NULL".to_string(),
            'L' => literal(&printed()).trim_start().to_string(),
            other => {
                return Err(bad_parameter(format!("unrecognized format() type specifier \"{other}\""))
                    .with_hint("For a single \"%\" use \"%%\"."));
            }
        };
        next += 1;
        let missing = width.unwrap_or(0).saturating_sub(piece.chars().count());
        check_size(out.len().saturating_add(piece.len()).saturating_add(missing))?;
        if !left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
        out.push_str(&piece);
        if left {
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
    Ok(Value::text(out))
}

fn ascii(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Int4(text(&a[0]).chars().next().map_or(0, |c| c as i32)))
}

fn chr(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let error = |message: &str| SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message);
    match int(&a[0]) {
        0 => Err(error("null character not permitted")),
        ..0 => Err(bad_parameter("character number must be positive")),
        code => {
            let found = u32::try_from(code).ok().and_then(char::from_u32);
            found.map(|c| Value::text(c.to_string())).ok_or_else(|| error("requested character not valid for encoding"))
        }
    }
}

/// Characters of `from` become those of `to` at the same place, or vanish.
fn translate(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let from: Vec<char> = text(&a[1]).chars().collect();
    let to: Vec<char> = text(&a[2]).chars().collect();
    let change = |c: char| match from.iter().position(|f| *f == c) {
        None => Some(c),
        Some(at) => to.get(at).copied(),
    };
    Ok(Value::text(text(&a[0]).chars().filter_map(change).collect::<String>()))
}

/// The fields of a delimited string; without a delimiter its characters; fields equal to the third argument are NULL.
pub(super) fn split_string(a: &[Value]) -> Vec<Value> {
    let Some(subject) = a[0].as_str() else { return Vec::new() };
    if subject.is_empty() {
        return Vec::new();
    }
    let null = a.get(2).and_then(Value::as_str);
    let field = |part: &str| if Some(part) == null { Value::Null } else { Value::text(part) };
    match a[1].as_str() {
        None => subject.chars().map(|c| field(c.encode_utf8(&mut [0; 4]))).collect(),
        Some("") => vec![field(subject)],
        Some(delimiter) => subject.split(delimiter).map(field).collect(),
    }
}

fn string_to_array(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(if a[0].is_null() { Value::Null } else { Value::array(Type::Text, split_string(a)) })
}

fn starts_with(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(text(&a[0]).starts_with(text(&a[1]))))
}

fn join(a: &[Value], call: &Call<'_>) -> Result<Value> {
    // As a cast to text, which spells `true` where output has `t`.
    let spell = |i: usize| match &a[i] {
        Value::Bool(value) => value.to_string(),
        value => encode_text(value, &call.types[i], &call.context.text()),
    };
    let (left, right) = (spell(0), spell(1));
    check_size(left.len().saturating_add(right.len()))?;
    Ok(Value::text(left + &right))
}

fn join_bytes(a: &[Value], _: &Call<'_>) -> Result<Value> {
    check_size(bytes(&a[0]).len().saturating_add(bytes(&a[1]).len()))?;
    Ok(Value::bytes([bytes(&a[0]), bytes(&a[1])].concat()))
}

/// Text is UTF-8 here, and is converted to and from nothing else.
fn check_encoding(name: &str) -> Result<()> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(SqlError::unsupported(format!("the encoding \"{name}\""))),
    }
}

fn convert_from(a: &[Value], _: &Call<'_>) -> Result<Value> {
    check_encoding(text(&a[1]))?;
    let valid = std::str::from_utf8(bytes(&a[0])).ok().filter(|text| !text.contains('\0'));
    valid.map(Value::text).ok_or_else(|| {
        SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding \"UTF8\"")
    })
}

fn convert_to(a: &[Value], _: &Call<'_>) -> Result<Value> {
    check_encoding(text(&a[1]))?;
    Ok(Value::bytes(text(&a[0]).as_bytes()))
}

fn get_byte(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let data = bytes(&a[0]);
    let found = usize::try_from(int(&a[1])).ok().and_then(|at| data.get(at));
    found.map(|byte| Value::Int4(i32::from(*byte))).ok_or_else(|| {
        let last = data.len() as i64 - 1;
        SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, format!("index {} out of valid range, 0..{last}", int(&a[1])))
    })
}

/// The parts of a possibly quoted, dotted name.
fn parse_ident(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let strict = a.get(1).is_none_or(boolean);
    let source = text(&a[0]);
    let invalid = || bad_parameter(format!("string is not a valid identifier: \"{source}\""));
    let mut parts = Vec::new();
    let mut rest = source.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').ok_or_else(invalid)?;
                (quoted[..end].to_string(), &quoted[end + 1..])
            }
            None => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return Err(invalid());
        }
        parts.push(Value::text(part));
        match after.trim_start().strip_prefix('.') {
            Some(next) => rest = next.trim_start(),
            None if after.trim().is_empty() || !strict => return Ok(Value::array(Type::Text, parts)),
            None => return Err(invalid()),
        }
    }
}

fn trim_array(a: &[Value], _: &Call<'_>) -> Result<Value> {
    // `trim_array(array, n)`: all but the last n.
    let mut array = (*array(&a[0])).clone();
    let length = array.dimensions.first().map_or(0, |(length, _)| *length);
    let error = || {
        let message = format!("number of elements to trim must be between 0 and {length}");
        SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
    };
    let trim = usize::try_from(int(&a[1])).ok().filter(|trim| *trim <= length).ok_or_else(error)?;
    if trim == length {
        return Ok(Value::array(array.element, Vec::new()));
    }
    array.values.truncate(array.values.len() / length.max(1) * (length - trim));
    array.dimensions[0].0 = length - trim;
    Ok(Value::Array(std::sync::Arc::new(array)))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("length", "text", "int4", length),
    Entry::scalar("length", "bpchar", "int4", length),
    Entry::scalar("length", "bytea", "int4", bytes_length),
    Entry::scalar("char_length", "text", "int4", length),
    Entry::scalar("character_length", "text", "int4", length),
    Entry::scalar("octet_length", "text", "int4", octets),
    Entry::scalar("octet_length", "bytea", "int4", bytes_length),
    Entry::scalar("bit_length", "text", "int4", bits),
    Entry::scalar("lower", "text", "text", |a, _| map(a, |text| text.chars().map(lower).collect())),
    Entry::scalar("upper", "text", "text", |a, _| map(a, |text| text.chars().map(upper).collect())),
    Entry::scalar("initcap", "text", "text", initcap),
    Entry::scalar("btrim", "text", "text", trim_both),
    Entry::scalar("btrim", "text text", "text", trim_both),
    Entry::scalar("trim", "text", "text", trim_both),
    Entry::scalar("trim", "text text", "text", trim_both),
    Entry::scalar("ltrim", "text", "text", trim_left),
    Entry::scalar("ltrim", "text text", "text", trim_left),
    Entry::scalar("rtrim", "text", "text", trim_right),
    Entry::scalar("rtrim", "text text", "text", trim_right),
    Entry::scalar("substr", "text int4", "text", substring),
    Entry::scalar("substr", "text int4 int4", "text", substring),
    Entry::scalar("substring", "text int4", "text", substring),
    Entry::scalar("substring", "text int4 int4", "text", substring),
    Entry::scalar("substr", "bytea int4", "bytea", substring_bytes),
    Entry::scalar("substr", "bytea int4 int4", "bytea", substring_bytes),
    Entry::scalar("substring", "bytea int4", "bytea", substring_bytes),
    Entry::scalar("substring", "bytea int4 int4", "bytea", substring_bytes),
    Entry::scalar("overlay", "text text int4", "text", overlay),
    Entry::scalar("overlay", "text text int4 int4", "text", overlay),
    Entry::scalar("position", "text text", "int4", position),
    Entry::scalar("strpos", "text text", "int4", position),
    Entry::scalar("replace", "text text text", "text", replace),
    Entry::scalar("split_part", "text text int4", "text", split_part),
    Entry::scalar("left", "text int4", "text", left),
    Entry::scalar("right", "text int4", "text", right),
    Entry::scalar("lpad", "text int4", "text", pad_left),
    Entry::scalar("lpad", "text int4 text", "text", pad_left),
    Entry::scalar("rpad", "text int4", "text", pad_right),
    Entry::scalar("rpad", "text int4 text", "text", pad_right),
    Entry::scalar("concat", "variadic any", "text", concat).stable().with_nulls(),
    Entry::scalar("concat_ws", "text variadic any", "text", concat_ws).stable().with_nulls(),
    Entry::scalar("repeat", "text int4", "text", repeat),
    Entry::scalar("reverse", "text", "text", |a, _| map(a, |text| text.chars().rev().collect())),
    Entry::scalar("md5", "text", "text", md5_text),
    Entry::scalar("md5", "bytea", "text", md5_bytes),
    Entry::scalar("encode", "bytea text", "text", encode),
    Entry::scalar("decode", "text text", "bytea", decode),
    Entry::scalar("convert_from", "bytea text", "text", convert_from),
    Entry::scalar("convert_to", "text text", "bytea", convert_to),
    Entry::scalar("get_byte", "bytea int4", "int4", get_byte),
    Entry::scalar("to_hex", "int4", "text", to_hex),
    Entry::scalar("to_hex", "int8", "text", to_hex),
    Entry::scalar("quote_ident", "text", "text", |a, _| map(a, quote_identifier)),
    Entry::scalar("quote_literal", "text", "text", quote_literal),
    Entry::scalar("quote_literal", "any", "text", quote_literal).stable(),
    Entry::scalar("quote_nullable", "any", "text", quote_nullable).stable().with_nulls(),
    Entry::scalar("format", "text", "text", format).with_nulls(),
    Entry::scalar("format", "text variadic any", "text", format).stable().with_nulls(),
    Entry::scalar("ascii", "text", "int4", ascii),
    Entry::scalar("chr", "int4", "text", chr),
    Entry::scalar("translate", "text text text", "text", translate),
    Entry::scalar("string_to_array", "text text", "text[]", string_to_array).with_nulls(),
    Entry::scalar("string_to_array", "text text text", "text[]", string_to_array).with_nulls(),
    Entry::scalar("starts_with", "text text", "bool", starts_with),
    Entry::scalar("parse_ident", "text", "text[]", parse_ident),
    Entry::scalar("parse_ident", "text bool", "text[]", parse_ident),
    Entry::scalar("trim_array", "anyarray int4", "anyarray", trim_array),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("||", "text text", "text", join),
    Entry::scalar("||", "text anynonarray", "text", join).stable(),
    Entry::scalar("||", "anynonarray text", "text", join).stable(),
    Entry::scalar("||", "bytea bytea", "bytea", join_bytes),
    Entry::scalar("^@", "text text", "bool", starts_with),
];
