//! LIKE and regular expressions.
//!
//! PostgreSQL's regular expressions are translated to the crate `regex`, which runs in linear time. What it doesn't have
//! (back references, look-around) is refused with 2201B.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};

use super::registry::{Call, Entry};
use super::values::{check_size, int4, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Type, Value};

/// Bytes that a compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Compiled patterns that a thread keeps.
const RECENT_MAX: usize = 8;

thread_local! {
    /// Pattern, flags and compiled form, the last used first. It changes no answer, only when compiling is paid for.
    static RECENT: RefCell<Vec<(String, String, Regex)>> = const { RefCell::new(Vec::new()) };
}

/// One step of a LIKE pattern.
enum Step {
    Exactly(char),
    AnyOne,
    AnyMany,
}

fn steps(pattern: &str, escape: Option<char>, fold: bool) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut chars = pattern.chars();
    let lower = |c: char| if fold { c.to_lowercase().next().unwrap_or(c) } else { c };
    while let Some(c) = chars.next() {
        steps.push(match c {
            c if Some(c) == escape => Step::Exactly(lower(chars.next().ok_or_else(|| {
                SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "LIKE pattern must not end with escape character")
            })?)),
            '%' => Step::AnyMany,
            '_' => Step::AnyOne,
            c => Step::Exactly(lower(c)),
        });
    }
    Ok(steps)
}

/// Greedy matching with one point to return to: the last `%` (linear in text times pattern).
pub(crate) fn like(subject: &str, pattern: &str, escape: Option<char>, fold: bool) -> Result<bool> {
    let steps = steps(pattern, escape, fold)?;
    let lower = |c: char| if fold { c.to_lowercase().next().unwrap_or(c) } else { c };
    let subject: Vec<char> = subject.chars().map(lower).collect();
    let (mut at, mut step) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < subject.len() {
        match steps.get(step) {
            Some(Step::AnyMany) => {
                back = Some((at, step));
                step += 1;
            }
            Some(Step::AnyOne) => (at, step) = (at + 1, step + 1),
            Some(Step::Exactly(c)) if *c == subject[at] => (at, step) = (at + 1, step + 1),
            _ => match &mut back {
                Some((from, many)) => {
                    *from += 1;
                    (at, step) = (*from, *many + 1);
                }
                None => return Ok(false),
            },
        }
    }
    Ok(steps[step..].iter().all(|step| matches!(step, Step::AnyMany)))
}

fn matches_like(a: &[Value], fold: bool, wanted: bool) -> Result<Value> {
    let escape = match a.get(2).map(text) {
        None => Some('\\'),
        Some(escape) => {
            let mut chars = escape.chars();
            let first = chars.next();
            if chars.next().is_some() {
                return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                    .with_hint("Escape string must be empty or one character."));
            }
            first
        }
    };
    Ok(Value::Bool(like(text(&a[0]), text(&a[1]), escape, fold)? == wanted))
}

fn invalid(reason: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
}

/// The compiled form of a pattern; the last few are kept, since a statement asks for the same one row after row.
pub(crate) fn compile(pattern: &str, flags: &str) -> Result<Regex> {
    RECENT.with_borrow_mut(|recent| {
        if let Some(at) = recent.iter().position(|kept| kept.0 == pattern && kept.1 == flags) {
            recent[..=at].rotate_right(1);
            return Ok(recent[0].2.clone());
        }
        let regex = compile_anew(pattern, flags)?;
        recent.truncate(RECENT_MAX - 1);
        recent.insert(0, (pattern.to_string(), flags.to_string(), regex.clone()));
        Ok(regex)
    })
}

/// Compiles PostgreSQL's syntax and flags (`i`, `c`, `n`, `s`, `x`, `g` is the caller's).
fn compile_anew(pattern: &str, flags: &str) -> Result<Regex> {
    let (mut pattern, mut literal) = (pattern, false);
    if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    } else if let Some(rest) = pattern.strip_prefix("***=") {
        (pattern, literal) = (rest, true);
    }
    let source = if literal { regex::escape(pattern) } else { translate(pattern)? };
    let mut builder = RegexBuilder::new(&source);
    // By default a dot and a negated class match a line break, and anchors match at the ends of the text only.
    builder.dot_matches_new_line(true).size_limit(REGEX_BYTES_MAX);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'c' => builder.case_insensitive(false),
            'n' | 'm' => builder.dot_matches_new_line(false).multi_line(true),
            's' => builder.dot_matches_new_line(true).multi_line(false),
            'w' => builder.multi_line(true),
            'x' => builder.ignore_whitespace(true),
            'g' | 't' => &mut builder,
            other => {
                let message = format!("invalid regular expression option: \"{other}\"");
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
    }
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => invalid("regular expression is too complex"),
        other => invalid(other.to_string().lines().last().unwrap_or("syntax error").trim()),
    })
}

/// Rewrites the few escapes that differ.
fn translate(pattern: &str) -> Result<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('m') => out.push_str(r"\b{start}"),
                Some('M') => out.push_str(r"\b{end}"),
                Some('y') => out.push_str(r"\b"),
                Some('Y') => out.push_str(r"\B"),
                Some('Z') => out.push_str(r"\z"),
                Some('e') => out.push_str(r"\x1b"),
                Some(digit @ '1'..='9') if !in_class => {
                    return Err(invalid(&format!("back reference \\{digit} is not supported")));
                }
                Some(other) if other.is_ascii_alphanumeric() => out.extend(['\\', other]),
                Some(other) => out.push_str(&regex::escape(&other.to_string())),
                None => return Err(invalid("invalid escape \\ sequence")),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                // A bracket right at the start is itself.
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str(r"\]");
                }
            }
            // `[:alpha:]` is the same there; any other bracket inside is itself.
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                while let Some(c) = chars.next() {
                    out.push(c);
                    if c == ':' && chars.peek() == Some(&']') {
                        out.extend(chars.next());
                        break;
                    }
                }
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn matches_regex(a: &[Value], flags: &str, wanted: bool) -> Result<Value> {
    Ok(Value::Bool(compile(text(&a[1]), flags)?.is_match(text(&a[0])) == wanted))
}

/// PostgreSQL's replacement text: `\1` is a group, `\&` the whole match, `\\` a backslash.
fn replacement(template: &str, captures: &regex::Captures<'_>, out: &mut String) {
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(&captures[0]),
            Some(digit @ '0'..='9') => {
                let group = captures.get(digit as usize - '0' as usize);
                out.push_str(group.map_or("", |group| group.as_str()));
            }
            Some('\\') => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
}

fn replace(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let flags = a.get(3).map_or("", text);
    let regex = compile(text(&a[1]), flags)?;
    let subject = text(&a[0]);
    let limit = if flags.contains('g') { usize::MAX } else { 1 };
    let mut out = String::with_capacity(subject.len());
    let mut last = 0;
    for captures in regex.captures_iter(subject).take(limit) {
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(&subject[last..whole.start()]);
        replacement(text(&a[2]), &captures, &mut out);
        check_size(out.len())?;
        last = whole.end();
    }
    out.push_str(&subject[last..]);
    Ok(Value::text(out))
}

/// The groups of the first match, or the match itself if there are none.
fn first_match(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let regex = compile(text(&a[1]), a.get(2).map_or("", text))?;
    Ok(regex.captures(text(&a[0])).map_or(Value::Null, |captures| groups(&captures)))
}

fn groups(captures: &regex::Captures<'_>) -> Value {
    let skip = usize::from(captures.len() > 1);
    let group = |group: Option<regex::Match<'_>>| group.map_or(Value::Null, |group| Value::text(group.as_str()));
    Value::array(Type::Text, captures.iter().skip(skip).map(group).collect())
}

fn all_matches(a: &[Value], _: &Call<'_>) -> Result<super::registry::Rows> {
    let flags = a.get(2).map_or("", text);
    let regex = compile(text(&a[1]), flags)?;
    let limit = if flags.contains('g') { usize::MAX } else { 1 };
    let found: Vec<Value> = regex.captures_iter(text(&a[0])).take(limit).map(|captures| groups(&captures)).collect();
    Ok(Box::new(found.into_iter().map(Ok)))
}

fn count(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(compile(text(&a[1]), "")?.find_iter(text(&a[0])).count()))
}

/// What stands between the matches.
pub(super) fn split(subject: &str, pattern: &str, flags: &str) -> Result<Vec<Value>> {
    let regex = compile(pattern, flags)?;
    let mut parts = Vec::new();
    let mut last = 0;
    for found in regex.find_iter(subject) {
        // An empty match at an end or right after another one splits nothing.
        if found.is_empty() && (found.start() == last && found.start() == 0 || found.start() == subject.len()) {
            continue;
        }
        parts.push(Value::text(&subject[last..found.start()]));
        last = found.end();
    }
    parts.push(Value::text(&subject[last..]));
    Ok(parts)
}

fn split_array(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::array(Type::Text, split(text(&a[0]), text(&a[1]), a.get(2).map_or("", text))?))
}

/// `substring(text FROM pattern)`: the first group, or the whole match.
fn substring(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let regex = compile(text(&a[1]), "")?;
    let captures = regex.captures(text(&a[0]));
    let group = captures
        .and_then(|captures| captures.get(usize::from(captures.len() > 1)).map(|group| Value::text(group.as_str())));
    Ok(group.unwrap_or(Value::Null))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("like", "text text", "bool", |a, _| matches_like(a, false, true)),
    Entry::scalar("like", "text text text", "bool", |a, _| matches_like(a, false, true)),
    Entry::scalar("notlike", "text text text", "bool", |a, _| matches_like(a, false, false)),
    Entry::scalar("ilike", "text text text", "bool", |a, _| matches_like(a, true, true)),
    Entry::scalar("notilike", "text text text", "bool", |a, _| matches_like(a, true, false)),
    Entry::scalar("regexp_replace", "text text text", "text", replace),
    Entry::scalar("regexp_replace", "text text text text", "text", replace),
    Entry::scalar("regexp_match", "text text", "text[]", first_match),
    Entry::scalar("regexp_match", "text text text", "text[]", first_match),
    Entry::set("regexp_matches", "text text", "text[]", all_matches),
    Entry::set("regexp_matches", "text text text", "text[]", all_matches),
    Entry::scalar("regexp_count", "text text", "int4", count),
    Entry::scalar("regexp_split_to_array", "text text", "text[]", split_array),
    Entry::scalar("regexp_split_to_array", "text text text", "text[]", split_array),
    Entry::scalar("substring", "text text", "text", substring),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("~~", "text text", "bool", |a, _| matches_like(a, false, true)),
    Entry::scalar("!~~", "text text", "bool", |a, _| matches_like(a, false, false)),
    Entry::scalar("~~*", "text text", "bool", |a, _| matches_like(a, true, true)),
    Entry::scalar("!~~*", "text text", "bool", |a, _| matches_like(a, true, false)),
    Entry::scalar("~", "text text", "bool", |a, _| matches_regex(a, "", true)),
    Entry::scalar("!~", "text text", "bool", |a, _| matches_regex(a, "", false)),
    Entry::scalar("~*", "text text", "bool", |a, _| matches_regex(a, "i", true)),
    Entry::scalar("!~*", "text text", "bool", |a, _| matches_regex(a, "i", false)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_matches_as_postgresql_does() {
        let like = |subject: &str, pattern: &str| like(subject, pattern, Some('\\'), false).unwrap();
        assert!(like("abc", "a%"));
        assert!(like("abc", "_b_"));
        assert!(like("a%c", r"a\%c"));
        assert!(!like("abc", "b"));
        assert!(like("", "%"));
        assert!(like("aaab", "%a%ab"));
        assert!(like("é", "_"));
        assert!(super::like("x", "\\", Some('\\'), false).is_err());
        assert!(super::like("ABC", "a%", None, true).unwrap());
    }

    #[test]
    fn regular_expressions_are_translated() {
        let is_match = |pattern: &str, subject: &str| compile(pattern, "").unwrap().is_match(subject);
        assert!(is_match("^(pool)$", "pool"));
        assert!(is_match(r"\mfoo\M", "a foo b"));
        assert!(is_match("[]a]", "]"));
        assert!(is_match("[[:digit:]]+", "12"));
        assert!(is_match("^pg_toast", "pg_toast_1"));
        assert_eq!(compile("(", "").unwrap_err().state.as_str(), "2201B");
        assert_eq!(compile(r"(a)\1", "").unwrap_err().state.as_str(), "2201B");
        assert_eq!(compile("a", "q").unwrap_err().state.as_str(), "22023");
        let parts = |subject: &str, pattern: &str| split(subject, pattern, "").unwrap().len();
        assert_eq!(parts("a,b,c", ","), 3);
        assert_eq!(parts("abc", ""), 3);
    }
}
