//! Arrays as text, in and out.

use std::fmt::Write;

use super::{Array, TextContext, Type, Value, decode_text, encode_text};
use crate::error::{Result, SqlError, SqlState};

/// Elements in an array.
const ARRAY_ELEMENTS_MAX: usize = 1 << 22;
/// Dimensions of an array.
pub(crate) const ARRAY_DIMENSIONS_MAX: usize = 6;

/// Writes an array: `{1,NULL,"a b"}`, with its bounds before it if they don't begin at one.
pub(super) fn print_array(array: &Array, context: &TextContext<'_>) -> String {
    fn level(array: &Array, depth: usize, at: &mut usize, out: &mut String, context: &TextContext<'_>) {
        out.push('{');
        for i in 0..array.dimensions[depth].0 {
            out.push_str(if i > 0 { "," } else { "" });
            if depth + 1 < array.dimensions.len() {
                level(array, depth + 1, at, out, context);
                continue;
            }
            let value = array.values.get(*at).unwrap_or(&Value::Null);
            *at += 1;
            if value.is_null() {
                out.push_str("NULL");
                continue;
            }
            let text = encode_text(value, &array.element, context);
            let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',') || c.is_ascii_whitespace();
            if text.is_empty() || text.chars().any(special) || text.eq_ignore_ascii_case("null") {
                let _ = write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            } else {
                out.push_str(&text);
            }
        }
        out.push('}');
    }
    if array.dimensions.is_empty() {
        return "{}".to_string();
    }
    let mut out = String::new();
    if array.dimensions.iter().any(|(_, lower)| *lower != 1) {
        for (length, lower) in &array.dimensions {
            let _ = write!(out, "[{lower}:{}]", i64::from(*lower) + *length as i64 - 1);
        }
        out.push('=');
    }
    level(array, 0, &mut 0, &mut out, context);
    out
}

/// Reads an array's text form.
pub(super) fn parse_array(text: &str, element: &Type, context: &TextContext<'_>) -> Result<Array> {
    let error = |detail: &str| {
        SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""))
            .with_detail(detail)
    };
    let mut rest = text.trim();
    let mut bounds_given = Vec::new();
    if rest.starts_with('[') {
        let (bounds, body) = rest.split_once('=').ok_or_else(|| error("Missing \"=\" after array dimensions."))?;
        for bound in bounds.trim().trim_start_matches('[').trim_end_matches(']').split("][") {
            let (lower, upper) = bound.split_once(':').unwrap_or(("1", bound));
            let integer = |text: &str| text.trim().parse::<i32>().map_err(|_| error("Array bounds must be integers."));
            let (lower, upper) = (integer(lower)?, integer(upper)?);
            if upper < lower {
                let message = "upper bound cannot be less than lower bound";
                return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
            }
            bounds_given.push((lower, i64::from(upper) - i64::from(lower) + 1));
        }
        rest = body.trim_start();
    }
    let mut values = Vec::new();
    let mut lengths: Vec<Option<usize>> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    let mut chars = rest.char_indices().peekable();
    let mut expect_element = true;
    let mut depth_of_elements = None;
    let ragged = || error("Multidimensional arrays must have sub-arrays with matching dimensions.");
    while let Some((at, c)) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' => {
                if !expect_element || (counts.is_empty() && at != 0) {
                    return Err(error("Unexpected \"{\" character."));
                }
                counts.push(0);
                if counts.len() > ARRAY_DIMENSIONS_MAX {
                    return Err(SqlError::new(
                        SqlState::PROGRAM_LIMIT_EXCEEDED,
                        format!("number of array dimensions exceeds the maximum allowed ({ARRAY_DIMENSIONS_MAX})"),
                    ));
                }
                if lengths.len() < counts.len() {
                    lengths.push(None);
                }
            }
            '}' => {
                let count = counts.pop().ok_or_else(|| error("Unexpected \"}\" character."))?;
                if expect_element && (count > 0 || !counts.is_empty()) {
                    return Err(error("Unexpected \"}\" character."));
                }
                if lengths[counts.len()].replace(count).is_some_and(|before| before != count) {
                    return Err(ragged());
                }
                expect_element = false;
                match counts.last_mut() {
                    Some(outer) => *outer += 1,
                    None => {
                        if chars.any(|(_, c)| !c.is_ascii_whitespace()) {
                            return Err(error("Junk after closing right brace."));
                        }
                        break;
                    }
                }
            }
            ',' => {
                if expect_element || counts.is_empty() {
                    return Err(error("Unexpected \",\" character."));
                }
                expect_element = true;
            }
            first => {
                let Some(count) = counts.last_mut() else {
                    return Err(error("Array value must start with \"{\" or dimension information."));
                };
                if !expect_element {
                    return Err(error("Unexpected array element."));
                }
                *count += 1;
                if *depth_of_elements.get_or_insert(counts.len()) != counts.len() {
                    return Err(ragged());
                }
                let mut item = String::new();
                let quoted = first == '"';
                // Spaces at the end count only where they were escaped.
                let mut escaped_end = 0;
                if quoted {
                    loop {
                        match chars.next() {
                            Some((_, '"')) => break,
                            Some((_, '\\')) => item.extend(chars.next().map(|(_, c)| c)),
                            Some((_, c)) => item.push(c),
                            None => return Err(error("Unexpected end of input.")),
                        }
                    }
                } else {
                    let mut escaped = first == '\\';
                    if !escaped {
                        item.push(first);
                    }
                    while let Some(&(_, c)) = chars.peek() {
                        if escaped {
                            item.push(c);
                            escaped_end = item.len();
                            escaped = false;
                        } else if c == '\\' {
                            escaped = true;
                        } else if matches!(c, ',' | '}' | '{' | '"') {
                            break;
                        } else {
                            item.push(c);
                        }
                        chars.next();
                    }
                    item.truncate(item.trim_end().len().max(escaped_end));
                }
                if values.len() >= ARRAY_ELEMENTS_MAX {
                    return Err(SqlError::new(
                        SqlState::PROGRAM_LIMIT_EXCEEDED,
                        "array size exceeds the maximum allowed",
                    ));
                }
                values.push(if !quoted && escaped_end == 0 && item.eq_ignore_ascii_case("null") {
                    Value::Null
                } else {
                    decode_text(&item, element, context)?
                });
                expect_element = false;
            }
        }
    }
    if !counts.is_empty() || rest.is_empty() {
        return Err(error("Unexpected end of input."));
    }
    let dimensions_differ = || error("Specified array dimensions do not match array contents.");
    if values.is_empty() {
        return if bounds_given.is_empty() {
            Ok(Array::flat(element.clone(), values))
        } else {
            Err(dimensions_differ())
        };
    }
    let lengths: Vec<usize> = lengths.into_iter().map(|length| length.unwrap_or(0)).collect();
    if lengths.iter().product::<usize>() != values.len() {
        return Err(ragged());
    }
    let as_given = |(given, length): (&(i32, i64), &usize)| given.1 == *length as i64;
    if !bounds_given.is_empty()
        && (bounds_given.len() != lengths.len() || !bounds_given.iter().zip(&lengths).all(as_given))
    {
        return Err(dimensions_differ());
    }
    let lower = |i: usize| bounds_given.get(i).map_or(1, |(lower, _)| *lower);
    let dimensions = lengths.into_iter().enumerate().map(|(i, length)| (length, lower(i))).collect();
    Ok(Array { element: element.clone(), dimensions, values })
}
