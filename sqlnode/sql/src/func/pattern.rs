//! LIKE and regular expressions.
//!
//! PostgreSQL's regular expressions are translated to the crate `regex`, which runs in linear time. What it doesn't have
//! (back references, look-around) is refused with 2201B.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};

use super::registry::{Call, Entry};
use super::values::{bad_parameter, bytes, check_size, int, int4, text};
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
    Ok(Value::Bool(like(text(&a[0]), text(&a[1]), Some('\\'), fold)? == wanted))
}

/// The one character of an escape string; none if it is empty.
fn escape_character(escape: &str) -> Result<Option<char>> {
    let mut chars = escape.chars();
    let first = chars.next();
    if chars.next().is_some() {
        return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .with_hint("Escape string must be empty or one character."));
    }
    Ok(first)
}

/// `pattern ESCAPE escape` as a pattern whose escape is the backslash.
fn like_escape(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let escape = escape_character(text(&a[1]))?;
    if escape == Some('\\') {
        return Ok(a[0].clone());
    }
    let mut out = String::new();
    let mut escaped = false;
    for c in text(&a[0]).chars() {
        if Some(c) == escape && !escaped {
            out.push('\\');
            escaped = true;
            continue;
        }
        if c == '\\' && !escaped {
            out.push('\\');
        }
        out.push(c);
        escaped = false;
    }
    Ok(Value::text(out))
}

/// A pattern of SIMILAR TO as a regular expression of the whole text.
fn similar_to_escape(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let escape = match a.get(1) {
        Some(escape) => escape_character(text(escape))?,
        None => Some('\\'),
    };
    let mut out = String::from("^(?:");
    let (mut escaped, mut in_class) = (false, false);
    for c in text(&a[0]).chars() {
        if escaped {
            if c == '"' {
                return Err(SqlError::unsupported("a part of a SIMILAR TO pattern between escaped quotes"));
            }
            out.extend(['\\', c]);
            escaped = false;
        } else if Some(c) == escape {
            escaped = true;
        } else if in_class {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            in_class = c != ']';
        } else {
            match c {
                '[' => {
                    out.push(c);
                    in_class = true;
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => out.extend(['\\', c]),
                c => out.push(c),
            }
        }
    }
    out.push_str(")$");
    Ok(Value::text(out))
}

/// The same for bytes, in which `%`, `_` and the backslash are what they are in ASCII.
fn like_bytes(a: &[Value], wanted: bool) -> Result<Value> {
    let latin = |value: &Value| bytes(value).iter().map(|byte| char::from(*byte)).collect::<String>();
    Ok(Value::Bool(like(&latin(&a[0]), &latin(&a[1]), Some('\\'), false)? == wanted))
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

/// Compiles PostgreSQL's syntax and flags (`i`, `c`, `n`, `s`, `x` ...; `g` is the caller's).
fn compile_anew(pattern: &str, flags: &str) -> Result<Regex> {
    let mut pattern = pattern;
    let mut flags = flags.to_string();
    if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    } else if let Some(rest) = pattern.strip_prefix("***=") {
        pattern = rest;
        flags.push('q');
    }
    // Flags may stand at the beginning: `(?i)abc`.
    if !flags.contains('q')
        && let Some((embedded, rest)) = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')'))
        && !embedded.is_empty()
        && embedded.bytes().all(|b| b.is_ascii_lowercase())
    {
        flags.push_str(embedded);
        pattern = rest;
    }
    let source = if flags.contains('q') { regex::escape(pattern) } else { translate(pattern)? };
    let mut builder = RegexBuilder::new(&source);
    // By default a dot and a negated class match a line break, and anchors match at the ends of the text only.
    builder.dot_matches_new_line(true).size_limit(REGEX_BYTES_MAX);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'c' => builder.case_insensitive(false),
            'n' | 'm' => builder.dot_matches_new_line(false).multi_line(true),
            's' => builder.dot_matches_new_line(true).multi_line(false),
            'p' => builder.dot_matches_new_line(false).multi_line(false),
            'w' => builder.dot_matches_new_line(true).multi_line(true),
            'x' => builder.ignore_whitespace(true),
            'g' | 't' | 'q' => &mut builder,
            'b' | 'e' => return Err(SqlError::unsupported(format!("the regular expression option \"{flag}\""))),
            other => {
                let message = format!("invalid regular expression option: \"{other}\"");
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
    }
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => invalid("regular expression is too complex"),
        other => {
            let text = other.to_string();
            if text.contains("look-around") {
                return SqlError::unsupported("looking ahead or behind in a regular expression");
            }
            invalid(text.lines().last().unwrap_or("syntax error").trim().trim_start_matches("error: "))
        }
    })
}

/// Rewrites the few escapes that differ.
fn translate(pattern: &str) -> Result<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    // What was just read is a quantifier, which can't be quantified itself; a `?` makes it reluctant.
    let mut quantified = false;
    while let Some(c) = chars.next() {
        if !in_class && matches!(c, '*' | '+' | '?' | '{') {
            if quantified {
                return Err(invalid("quantifier operand invalid"));
            }
            out.push(c);
            if c == '{' {
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
            if chars.peek() == Some(&'?') {
                out.extend(chars.next());
            }
            // After an opening bracket it is no quantifier but a mark: `(?:`.
            quantified = !(c == '?' && out.ends_with("(?"));
            continue;
        }
        quantified = false;
        match c {
            '\\' => match chars.next() {
                Some('m') => out.push_str(r"\b{start}"),
                Some('M') => out.push_str(r"\b{end}"),
                Some('y') => out.push_str(r"\b"),
                Some('Y') => out.push_str(r"\B"),
                Some('Z') => out.push_str(r"\z"),
                Some('e') => out.push_str(r"\x1b"),
                Some('1'..='9') if !in_class => {
                    return Err(SqlError::unsupported("a back reference in a regular expression"));
                }
                Some(other) if other.is_ascii_alphanumeric() => out.extend(['\\', other]),
                Some(other) => out.push_str(&regex::escape(&other.to_string())),
                None => return Err(invalid("invalid escape \\ sequence")),
            },
            '[' if !in_class => {
                // The beginning and the end of a word.
                let rest: String = chars.clone().take(6).collect();
                if rest == "[:<:]]" || rest == "[:>:]]" {
                    out.push_str(if rest == "[:<:]]" { r"\b{start}" } else { r"\b{end}" });
                    chars.nth(5);
                    continue;
                }
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

/// Non-overlapping matches from a byte on. Unlike with the library's own iterator, an empty match may follow right
/// after another match, as in PostgreSQL.
struct Matches<'a> {
    regex: &'a Regex,
    subject: &'a str,
    from: Option<usize>,
}

impl<'a> Iterator for Matches<'a> {
    type Item = regex::Captures<'a>;

    fn next(&mut self) -> Option<regex::Captures<'a>> {
        let captures = self.regex.captures_at(self.subject, self.from?)?;
        let whole = captures.get(0)?;
        self.from = match self.subject[whole.end()..].chars().next() {
            _ if !whole.is_empty() => Some(whole.end()),
            Some(next) => Some(whole.end() + next.len_utf8()),
            None => None,
        };
        Some(captures)
    }
}

fn matches<'a>(regex: &'a Regex, subject: &'a str) -> Matches<'a> {
    Matches { regex, subject, from: Some(0) }
}

/// The optional arguments of the `regexp_` functions: a number from one on, or what it is without.
fn counted(a: &[Value], at: usize, name: &str, least: i64, otherwise: i64) -> Result<usize> {
    let value = a.get(at).map_or(otherwise, int);
    if value < least {
        return Err(bad_parameter(format!("invalid value for parameter \"{name}\": {value}")));
    }
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

/// The flags of a function that finds all matches anyway.
pub(super) fn flags_without_g<'a>(a: &'a [Value], at: usize, function: &str) -> Result<&'a str> {
    let flags = a.get(at).map_or("", text);
    match flags.contains('g') {
        true => Err(bad_parameter(format!("{function}() does not support the \"global\" option"))),
        false => Ok(flags),
    }
}

/// The matches from a character on (the argument at `start_at`).
fn matches_from<'a>(regex: &'a Regex, a: &'a [Value], start_at: usize) -> Result<Matches<'a>> {
    let subject = text(&a[0]);
    let start = counted(a, start_at, "start", 1, 1)?;
    // The character after the last one is a place to look for an empty match.
    let mut places = subject.char_indices().map(|(at, _)| at).chain([subject.len()]);
    Ok(Matches { regex, subject, from: places.nth(start - 1) })
}

fn found_at(
    a: &[Value],
    numbers: [usize; 2],
    flags: usize,
    group: usize,
    name: &str,
) -> Result<Option<(usize, usize)>> {
    let regex = compile(text(&a[1]), flags_without_g(a, flags, name)?)?;
    let nth = counted(a, numbers[1], "n", 1, 1)?;
    let group = counted(a, group, "subexpr", 0, 0)?;
    let Some(captures) = matches_from(&regex, a, numbers[0])?.nth(nth - 1) else { return Ok(None) };
    Ok(captures.get(group).map(|found| (found.start(), found.end())))
}

/// `regexp_substr(text, pattern, start, n, flags, group)`
fn regexp_substr(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let found = found_at(a, [2, 3], 4, 5, "regexp_substr")?;
    Ok(found.map_or(Value::Null, |(from, to)| Value::text(&text(&a[0])[from..to])))
}

/// `regexp_instr(text, pattern, start, n, end, flags, group)`
fn regexp_instr(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let end = a.get(4).map_or(0, int);
    if !(0..=1).contains(&end) {
        return Err(bad_parameter(format!("invalid value for parameter \"endoption\": {end}")));
    }
    let found = found_at(a, [2, 3], 5, 6, "regexp_instr")?;
    let at = found.map(|(from, to)| if end == 1 { to } else { from });
    Ok(int4(at.map_or(0, |at| text(&a[0])[..at].chars().count() + 1)))
}

fn regexp_like(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(compile(text(&a[1]), flags_without_g(a, 2, "regexp_like")?)?.is_match(text(&a[0]))))
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
    let which = if flags.contains('g') { None } else { Some(1) };
    replaced(a, matches(&regex, text(&a[0])), which)
}

/// `regexp_replace(text, pattern, replacement, start, n, flags)`; an `n` of zero means all.
fn replace_from(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let regex = compile(text(&a[1]), flags_without_g(a, 5, "regexp_replace")?)?;
    let which = Some(counted(a, 4, "n", 0, 1)?).filter(|n| *n > 0);
    replaced(a, matches_from(&regex, a, 3)?, which)
}

/// Replaces one of the matches, or all.
fn replaced(a: &[Value], matches: Matches<'_>, which: Option<usize>) -> Result<Value> {
    let subject = text(&a[0]);
    let mut out = String::with_capacity(subject.len());
    let mut last = 0;
    for (at, captures) in matches.enumerate() {
        let Some(whole) = captures.get(0) else { continue };
        if which.is_some_and(|which| at + 1 < which) {
            continue;
        }
        out.push_str(&subject[last..whole.start()]);
        replacement(text(&a[2]), &captures, &mut out);
        check_size(out.len())?;
        last = whole.end();
        if which.is_some() {
            break;
        }
    }
    out.push_str(&subject[last..]);
    Ok(Value::text(out))
}

/// The groups of the first match, or the match itself if there are none.
fn first_match(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let regex = compile(text(&a[1]), flags_without_g(a, 2, "regexp_match")?)?;
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
    let found: Vec<Value> = matches(&regex, text(&a[0])).take(limit).map(|captures| groups(&captures)).collect();
    Ok(Box::new(found.into_iter().map(Ok)))
}

fn count(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let regex = compile(text(&a[1]), flags_without_g(a, 3, "regexp_count")?)?;
    Ok(int4(matches_from(&regex, a, 2)?.count()))
}

/// What stands between the matches.
pub(super) fn split(subject: &str, pattern: &str, flags: &str) -> Result<Vec<Value>> {
    let regex = compile(pattern, flags)?;
    let mut parts = Vec::new();
    let mut last = 0;
    for captures in matches(&regex, subject) {
        let Some(found) = captures.get(0) else { continue };
        // An empty match at an end or right after another one splits nothing.
        if found.start() == subject.len() && found.is_empty() || found.end() == last {
            continue;
        }
        parts.push(Value::text(&subject[last..found.start()]));
        last = found.end();
    }
    parts.push(Value::text(&subject[last..]));
    Ok(parts)
}

fn split_array(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let flags = flags_without_g(a, 2, "regexp_split_to_array")?;
    Ok(Value::array(Type::Text, split(text(&a[0]), text(&a[1]), flags)?))
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
    Entry::scalar("like_escape", "text text", "text", like_escape),
    Entry::scalar("similar_to_escape", "text", "text", similar_to_escape),
    Entry::scalar("similar_to_escape", "text text", "text", similar_to_escape),
    Entry::scalar("regexp_like", "text text", "bool", regexp_like),
    Entry::scalar("regexp_like", "text text text", "bool", regexp_like),
    Entry::scalar("regexp_substr", "text text", "text", regexp_substr),
    Entry::scalar("regexp_substr", "text text int4", "text", regexp_substr),
    Entry::scalar("regexp_substr", "text text int4 int4", "text", regexp_substr),
    Entry::scalar("regexp_substr", "text text int4 int4 text", "text", regexp_substr),
    Entry::scalar("regexp_substr", "text text int4 int4 text int4", "text", regexp_substr),
    Entry::scalar("regexp_instr", "text text", "int4", regexp_instr),
    Entry::scalar("regexp_instr", "text text int4", "int4", regexp_instr),
    Entry::scalar("regexp_instr", "text text int4 int4", "int4", regexp_instr),
    Entry::scalar("regexp_instr", "text text int4 int4 int4", "int4", regexp_instr),
    Entry::scalar("regexp_instr", "text text int4 int4 int4 text", "int4", regexp_instr),
    Entry::scalar("regexp_instr", "text text int4 int4 int4 text int4", "int4", regexp_instr),
    Entry::scalar("notlike", "text text text", "bool", |a, _| matches_like(a, false, false)),
    Entry::scalar("ilike", "text text text", "bool", |a, _| matches_like(a, true, true)),
    Entry::scalar("notilike", "text text text", "bool", |a, _| matches_like(a, true, false)),
    Entry::scalar("regexp_replace", "text text text", "text", replace),
    Entry::scalar("regexp_replace", "text text text text", "text", replace),
    Entry::scalar("regexp_replace", "text text text int4", "text", replace_from),
    Entry::scalar("regexp_replace", "text text text int4 int4", "text", replace_from),
    Entry::scalar("regexp_replace", "text text text int4 int4 text", "text", replace_from),
    Entry::scalar("regexp_match", "text text", "text[]", first_match),
    Entry::scalar("regexp_match", "text text text", "text[]", first_match),
    Entry::set("regexp_matches", "text text", "text[]", all_matches),
    Entry::set("regexp_matches", "text text text", "text[]", all_matches),
    Entry::scalar("regexp_count", "text text", "int4", count),
    Entry::scalar("regexp_count", "text text int4", "int4", count),
    Entry::scalar("regexp_count", "text text int4 text", "int4", count),
    Entry::scalar("regexp_split_to_array", "text text", "text[]", split_array),
    Entry::scalar("regexp_split_to_array", "text text text", "text[]", split_array),
    Entry::scalar("substring", "text text", "text", substring),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("~~", "text text", "bool", |a, _| matches_like(a, false, true)),
    Entry::scalar("!~~", "text text", "bool", |a, _| matches_like(a, false, false)),
    Entry::scalar("~~", "bytea bytea", "bool", |a, _| like_bytes(a, true)),
    Entry::scalar("!~~", "bytea bytea", "bool", |a, _| like_bytes(a, false)),
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
        assert_eq!(compile(r"(a)\1", "").unwrap_err().state.as_str(), "0A000");
        assert_eq!(compile("a(?=b)", "").unwrap_err().state.as_str(), "0A000");
        assert_eq!(compile("a**", "").unwrap_err().state.as_str(), "2201B");
        assert!(is_match("^a+?b??(?:c)?$", "aac"));
        assert!(is_match("(?in)^B", "a\nb"));
        assert!(is_match("[[:<:]]foo[[:>:]]", "a foo b"));
        assert!(compile("a.b", "q").unwrap().is_match("a.b") && !compile("a.b", "q").unwrap().is_match("axb"));
        assert!(compile("a{2,é}", "").is_err());
        assert_eq!(compile("a", "z").unwrap_err().state.as_str(), "22023");
        let parts = |subject: &str, pattern: &str| split(subject, pattern, "").unwrap().len();
        assert_eq!(parts("a,b,c", ","), 3);
        assert_eq!(parts("abc", ""), 3);
        assert_eq!(parts("abcé", "b*"), 3);
        assert_eq!(matches(&compile("b*", "").unwrap(), "foobar").count(), 7);
    }
}
