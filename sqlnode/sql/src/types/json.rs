//! JSON as `jsonb` keeps it: a tree whose object keys are unique and ordered by length, then bytes.

use std::cmp::Ordering;
use std::fmt;

use super::Numeric;
use crate::error::{Result, SqlError, SqlState};

/// Arrays and objects within each other.
pub const JSON_DEPTH_MAX: usize = 256;

/// A JSON tree.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, always finite.
    Number(Numeric),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its pairs in jsonb's order.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON text.
    pub fn parse(text: &str) -> Result<Json> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.space();
        if parser.at < text.len() { Err(parser.error()) } else { Ok(value) }
    }

    /// An object of these pairs; of equal keys the last wins.
    pub fn object(mut pairs: Vec<(String, Json)>) -> Json {
        pairs.sort_by(|a, b| key_order(&a.0, &b.0));
        let mut unique: Vec<(String, Json)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Json::Object(unique)
    }

    /// A member of an object.
    pub fn member(&self, key: &str) -> Option<&Json> {
        let Json::Object(pairs) = self else { return None };
        pairs.binary_search_by(|pair| key_order(&pair.0, key)).ok().map(|at| &pairs[at].1)
    }

    /// An element of an array; negative counts from the end.
    pub fn element(&self, index: i64) -> Option<&Json> {
        let Json::Array(values) = self else { return None };
        let index = if index < 0 { index.checked_add(values.len() as i64)? } else { index };
        values.get(usize::try_from(index).ok()?)
    }

    /// The value itself as the only element, as PostgreSQL's operators take a bare value for an array of it.
    pub(crate) fn element_or_self(&self, index: i64) -> Option<&Json> {
        match self {
            Json::Array(_) | Json::Object(_) => self.element(index),
            bare => (index == 0 || index == -1).then_some(bare),
        }
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        std::mem::size_of::<Json>()
            + match self {
                Json::String(text) => text.len(),
                Json::Array(values) => values.iter().map(Json::memory_bytes).sum(),
                Json::Object(pairs) => pairs.iter().map(|(key, value)| key.len() + 24 + value.memory_bytes()).sum(),
                _ => 0,
            }
    }

    /// What `jsonb_typeof` says.
    pub fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// `@>`: everything in `other` is found in `self` at the same place.
    pub fn contains(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Object(_), Json::Object(wanted)) => {
                wanted.iter().all(|(key, value)| self.member(key).is_some_and(|have| have.contains_nested(value)))
            }
            (Json::Array(have), Json::Array(wanted)) => {
                wanted.iter().all(|value| have.iter().any(|candidate| candidate.contains_nested(value)))
            }
            // A bare value is contained in an array that has it; only at the top.
            (Json::Array(have), scalar) if !matches!(scalar, Json::Object(_)) => have.contains(scalar),
            (a, b) => a.cmp(b) == Ordering::Equal,
        }
    }

    fn contains_nested(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Array(_), Json::Array(_)) | (Json::Object(_), Json::Object(_)) => self.contains(other),
            (a, b) => a.cmp(b) == Ordering::Equal,
        }
    }

    /// `jsonb_pretty`.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(&mut out, 0);
        out
    }

    fn write_pretty(&self, out: &mut String, depth: usize) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * 4));
        };
        match self {
            Json::Array(values) => {
                out.push('[');
                for (i, value) in values.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    indent(out, depth + 1);
                    value.write_pretty(out, depth + 1);
                }
                indent(out, depth);
                out.push(']');
            }
            Json::Object(pairs) => {
                out.push('{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    indent(out, depth + 1);
                    write_string(out, key);
                    out.push_str(": ");
                    value.write_pretty(out, depth + 1);
                }
                indent(out, depth);
                out.push('}');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Json::Null => 0,
            Json::String(_) => 1,
            Json::Number(_) => 2,
            Json::Bool(_) => 3,
            Json::Array(_) => 4,
            Json::Object(_) => 5,
        }
    }
}

/// jsonb's order of keys.
pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Json {}

impl PartialOrd for Json {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// jsonb's btree order: null < string < number < boolean < array < object, containers by size first.
impl Ord for Json {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Json::String(a), Json::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Json::Number(a), Json::Number(b)) => a.cmp(b),
            (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
            (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
                let pairs = a.iter().zip(b).map(|(x, y)| key_order(&x.0, &y.0).then_with(|| x.1.cmp(&y.1)));
                pairs.fold(Ordering::Equal, Ordering::then)
            }),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// One line, with a space after `:` and `,`, as jsonb prints.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(value) => write!(f, "{value}"),
            Json::String(value) => {
                let mut out = String::with_capacity(value.len() + 2);
                write_string(&mut out, value);
                f.write_str(&out)
            }
            Json::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    let mut out = String::with_capacity(key.len() + 2);
                    write_string(&mut out, key);
                    write!(f, "{}{out}: {value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Appends a JSON string literal.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self) -> SqlError {
        let rest: String = self.text[self.at..].chars().take_while(|c| !c.is_whitespace()).take(20).collect();
        let detail = if rest.is_empty() {
            "The input string ended unexpectedly.".to_string()
        } else {
            format!("Token \"{rest}\" is invalid.")
        };
        SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json").with_detail(detail)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Json> {
        if depth > JSON_DEPTH_MAX {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "JSON is nested too deeply"));
        }
        self.space();
        match self.peek() {
            Some(b'n') => self.word("null", Json::Null),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[') => {
                self.at += 1;
                let mut values = Vec::new();
                if self.take(b']') {
                    return Ok(Json::Array(values));
                }
                loop {
                    values.push(self.value(depth + 1)?);
                    if self.take(b']') {
                        return Ok(Json::Array(values));
                    }
                    if !self.take(b',') {
                        return Err(self.error());
                    }
                }
            }
            Some(b'{') => {
                self.at += 1;
                let mut pairs = Vec::new();
                if self.take(b'}') {
                    return Ok(Json::Object(pairs));
                }
                loop {
                    self.space();
                    if self.peek() != Some(b'"') {
                        return Err(self.error());
                    }
                    let key = self.string()?;
                    if !self.take(b':') {
                        return Err(self.error());
                    }
                    pairs.push((key, self.value(depth + 1)?));
                    if self.take(b'}') {
                        return Ok(Json::object(pairs));
                    }
                    if !self.take(b',') {
                        return Err(self.error());
                    }
                }
            }
            _ => Err(self.error()),
        }
    }

    fn number(&mut self) -> Result<Json> {
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while matches!(parser.peek(), Some(b'0'..=b'9')) {
                parser.at += 1;
            }
            parser.at - from
        };
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let count = digits(self);
        if count == 0 || (leading_zero && count > 1) {
            self.at = start;
            return Err(self.error());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return Err(self.error());
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if digits(self) == 0 {
                return Err(self.error());
            }
        }
        let number = Numeric::parse(&self.text[start..self.at])?;
        number.map(Json::Number).ok_or_else(|| self.error())
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.error())?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.error());
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error())
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') else {
                self.at = self.text.len();
                return Err(self.error());
            };
            out.push_str(&rest[..stop]);
            self.at += stop;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.peek().ok_or_else(|| self.error())?;
                    if !escape.is_ascii() {
                        return Err(self.error());
                    }
                    self.at += 1;
                    out.push(match escape {
                        b'"' | b'\\' | b'/' => escape as char,
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return Err(self.error()),
                    });
                }
                _ => return Err(self.error()),
            }
        }
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if !self.text[self.at..].starts_with("\\u") {
                return Err(self.error());
            }
            self.at += 2;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.error());
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        match char::from_u32(code) {
            Some('\0') => Err(SqlError::new(SqlState::UNTRANSLATABLE_CHARACTER, "unsupported Unicode escape sequence")
                .with_detail("\\u0000 cannot be converted to text.")),
            Some(c) => Ok(c),
            None => Err(self.error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_ordered_and_the_last_of_equal_keys_wins() {
        let json = Json::parse(r#" {"bb":1, "a":[1.50,true,null], "bb": "x\u00e9\n" , "c":{}} "#).unwrap();
        assert_eq!(json.to_string(), r#"{"a": [1.50, true, null], "c": {}, "bb": "xé\n"}"#);
    }

    #[test]
    fn malformed_text_is_refused() {
        for bad in [
            "",
            "{",
            "[1,]",
            "01",
            "1.",
            "\"\\x\"",
            "\"\u{1}\"",
            "nul",
            "{\"a\" 1}",
            "1 2",
            "\"\\u0000\"",
            "\"\\ud800\"",
        ] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn containment_follows_structure() {
        let contains = |a: &str, b: &str| Json::parse(a).unwrap().contains(&Json::parse(b).unwrap());
        assert!(contains(r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#));
        assert!(contains("[1,2,[3,4]]", "[[4],2]"));
        assert!(contains("[1,2]", "1"));
        assert!(!contains("[[1,2]]", "[1]"));
        assert!(!contains(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!contains(r#"{"a":[1]}"#, r#"{"a":1}"#));
    }
}
