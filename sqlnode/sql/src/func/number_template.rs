//! Numbers by template: `to_char(number, '999,990.00')`.
//!
//! `9` is a digit or a blank, `0` a digit always, `.` or `D` the point, `,` or `G` a group's comma, `S`, `MI`, `PL`, `SG`
//! and `PR` the sign, `FM` drops blanks, `V` shifts, quoted text and anything else stands for itself.

use super::registry::{Call, Entry};
use super::values::{float, numeric, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Numeric, Value};

/// One piece of a template.
enum Piece {
    /// A digit: of zeros or blanks when the number has none there.
    Digit {
        zero: bool,
    },
    Point,
    Comma,
    Sign,
    Minus,
    Plus,
    Angle,
    Literal(String),
}

struct Template {
    pieces: Vec<Piece>,
    fill: bool,
    shift: u32,
}

fn syntax(message: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

fn read(template: &str) -> Result<Template> {
    let mut read = Template { pieces: Vec::new(), fill: true, shift: 0 };
    let mut rest = template;
    let (mut point, mut shifting) = (false, false);
    while let Some(first) = rest.chars().next() {
        let upper: String = rest.chars().take(2).collect::<String>().to_ascii_uppercase();
        let two = match upper.as_str() {
            "FM" => {
                read.fill = false;
                true
            }
            "MI" => {
                read.pieces.push(Piece::Minus);
                true
            }
            "PL" => {
                read.pieces.push(Piece::Plus);
                true
            }
            "SG" => {
                read.pieces.push(Piece::Sign);
                true
            }
            "PR" => {
                read.pieces.push(Piece::Angle);
                true
            }
            "TH" | "RN" | "EE" => return Err(SqlError::unsupported(format!("\"{upper}\" in a number's template"))),
            _ => false,
        };
        if two {
            rest = &rest[2..];
            continue;
        }
        let mut length = first.len_utf8();
        match first.to_ascii_uppercase() {
            '9' | '0' => {
                read.shift += u32::from(shifting);
                read.pieces.push(Piece::Digit { zero: first == '0' });
            }
            '.' | 'D' => {
                if point {
                    return Err(syntax("multiple decimal points"));
                }
                point = true;
                read.pieces.push(Piece::Point);
            }
            ',' | 'G' => read.pieces.push(Piece::Comma),
            'S' => read.pieces.push(Piece::Sign),
            'V' => shifting = true,
            'L' => read.pieces.push(Piece::Literal(" ".to_string())),
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
                read.pieces.push(Piece::Literal(rest[1..end].trim_end_matches('"').to_string()));
                length = end;
            }
            _ => read.pieces.push(Piece::Literal(first.to_string())),
        }
        rest = &rest[length..];
    }
    Ok(read)
}

fn format(number: &Numeric, template: &str) -> Result<String> {
    let template = read(template)?;
    let is_digit = |piece: &&Piece| matches!(piece, Piece::Digit { .. });
    let point = template.pieces.iter().position(|piece| matches!(piece, Piece::Point));
    let (before, after) = template.pieces.split_at(point.unwrap_or(template.pieces.len()));
    let (whole_places, places) = (before.iter().filter(is_digit).count(), after.iter().filter(is_digit).count());
    let shifted = number.multiply(&Numeric::new(num_bigint::BigInt::from(10u8).pow(template.shift), 0)?)?;
    let rounded = shifted.round(places as i32)?;
    let negative = rounded.signum() < 0;
    let printed = rounded.abs().to_string();
    let (whole, fraction) = printed.split_once('.').unwrap_or((&printed, ""));
    let whole = if whole == "0" && whole_places > 0 && point.is_some() { "" } else { whole };
    let overflow = whole.len() > whole_places || !matches!(rounded, Numeric::Finite { .. });
    // From the first `0` on, digits are always shown.
    let first_zero = before.iter().filter(is_digit).position(|piece| matches!(piece, Piece::Digit { zero: true }));
    let from_zero = first_zero.map_or(0, |at| whole_places - at);
    let shown = if overflow { whole_places } else { whole.len().max(from_zero) };
    let digits = if overflow { "#".repeat(whole_places) } else { format!("{whole:0>shown$}") };
    // With FM, trailing `9`s of the fraction vanish; a `0` keeps what stands before it.
    let kept_places =
        after.iter().filter(is_digit).enumerate().filter(|(_, piece)| matches!(piece, Piece::Digit { zero: true }));
    let least = kept_places.last().map_or(0, |(at, _)| at + 1);
    let fraction = if overflow { "#".repeat(places) } else { format!("{fraction:0<places$}") };
    let fraction = if template.fill {
        fraction.as_str()
    } else {
        let significant = fraction.trim_end_matches('0').len().max(least);
        &fraction[..significant]
    };
    let explicit =
        template.pieces.iter().any(|piece| matches!(piece, Piece::Sign | Piece::Minus | Piece::Plus | Piece::Angle));
    let mut out = String::new();
    let mut sign_written = explicit;
    let write_sign = |out: &mut String, written: &mut bool| {
        if !*written {
            *written = true;
            if negative {
                out.push('-');
            } else if template.fill {
                out.push(' ');
            }
        }
    };
    let leading_sign = template
        .pieces
        .iter()
        .position(|piece| matches!(piece, Piece::Sign))
        .is_some_and(|at| template.pieces[at..].iter().any(|piece| matches!(piece, Piece::Digit { .. })));
    let mut sign_waits = false;
    let (mut seen, mut fraction_at) = (0, 0);
    let mut after_point = false;
    for piece in &template.pieces {
        match piece {
            Piece::Digit { .. } if after_point => {
                out.extend(fraction.chars().nth(fraction_at));
                fraction_at += 1;
            }
            Piece::Digit { .. } => {
                let left = whole_places - seen;
                seen += 1;
                if left > shown {
                    if template.fill {
                        out.push(' ');
                    }
                    continue;
                }
                if sign_waits {
                    sign_waits = false;
                    out.push(if negative { '-' } else { '+' });
                }
                write_sign(&mut out, &mut sign_written);
                out.extend(digits.chars().nth(shown - left));
            }
            Piece::Comma => {
                // A comma before the first digit that is shown is a blank.
                if whole_places - seen < shown && seen > 0 {
                    out.push(',');
                } else if template.fill {
                    out.push(' ');
                }
            }
            Piece::Point => {
                if sign_waits {
                    sign_waits = false;
                    out.push(if negative { '-' } else { '+' });
                }
                write_sign(&mut out, &mut sign_written);
                out.push('.');
                after_point = true;
            }
            Piece::Sign if leading_sign => sign_waits = true,
            Piece::Sign => out.push(if negative { '-' } else { '+' }),
            Piece::Minus if negative => out.push('-'),
            Piece::Plus if !negative => out.push('+'),
            Piece::Minus | Piece::Plus => {
                if template.fill {
                    out.push(' ');
                }
            }
            Piece::Angle => {
                out.push_str(if negative {
                    ">"
                } else if template.fill {
                    " "
                } else {
                    ""
                });
            }
            Piece::Literal(literal) => out.push_str(literal),
        }
    }
    if template.pieces.iter().any(|piece| matches!(piece, Piece::Angle)) {
        let at = out.len() - out.trim_start().len();
        out.insert_str(
            if negative { at } else { 0 },
            if negative {
                "<"
            } else if template.fill {
                " "
            } else {
                ""
            },
        );
    }
    Ok(out)
}

fn from_numeric(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(format(&numeric(&a[0]), text(&a[1]))?))
}

fn from_float(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(format(&Numeric::from_float(float(&a[0]), 15)?, text(&a[1]))?))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("to_char", "int4 text", "text", from_numeric),
    Entry::scalar("to_char", "int8 text", "text", from_numeric),
    Entry::scalar("to_char", "numeric text", "text", from_numeric),
    Entry::scalar("to_char", "float8 text", "text", from_float),
];
