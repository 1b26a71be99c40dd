//! Reading dates, times and intervals in the forms that people and programs write.
//!
//! The text is cut into tokens (a run of digits with its punctuation, a word, a signed offset), and each token says what
//! it can be; fields that are set twice or never make the text invalid.

use super::calendar::{
    Civil, DAY_MICROS, SECOND_MICROS, UNIX_OFFSET_SECONDS, Zone, date_of, days_of, month_days, out_of_range,
    parse_offset, valid_date, valid_timestamp,
};
use super::{Interval, TextContext};
use crate::error::{Result, SqlError, SqlState};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a date or time text said.
pub(crate) enum Moment {
    Infinity,
    NegativeInfinity,
    /// A moment by itself: `now`, `epoch`.
    Instant(i64),
    /// Local fields, and the zone if one was given.
    Local(Parsed),
}

/// The fields found in the text.
#[derive(Default)]
pub(crate) struct Parsed {
    /// Year, month, day.
    date: Option<(i64, i64, i64)>,
    /// The year was written with two digits, or one: it is near 2000, unless it is before Christ.
    short_year: bool,
    time: Option<i64>,
    zone: Option<Zone>,
    afternoon: Option<bool>,
    before_christ: bool,
}

fn invalid(kind: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid input syntax for type {kind}: \"{text}\""))
}

fn field_overflow(text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
}

/// `HH:MM[:SS[.ffffff]]` as microseconds; up to 24:00:00.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours: i64 = number(parts.next()?)?;
    let minutes: i64 = number(parts.next()?)?;
    let seconds = match parts.next() {
        Some(seconds) => decimal_micros(seconds)?,
        None => 0,
    };
    let micros = (hours * 3600 + minutes * 60) * SECOND_MICROS + seconds;
    let valid = parts.next().is_none() && minutes < 60 && seconds <= 60 * SECOND_MICROS && micros <= DAY_MICROS;
    valid.then_some(micros)
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `12.345` as microseconds, rounded.
fn decimal_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = if whole.is_empty() { 0 } else { number(whole)? };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || (fraction.is_empty() && text.is_empty()) {
        return None;
    }
    let padded = format!("{fraction:0<7}");
    let micros: i64 = padded[..6].parse().ok()?;
    Some(whole * SECOND_MICROS + micros + i64::from(padded.as_bytes()[6] >= b'5'))
}

fn month_by_name(word: &str) -> Option<i64> {
    let prefix = word.get(..3)?;
    let at = MONTHS.iter().position(|month| *month == prefix)?;
    let full = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    (word.len() == 3 || word == full[at] || word == "sept").then_some(at as i64 + 1)
}

/// A date of numbers, and whether its year is short.
type DateToken = ((i64, i64, i64), bool);

/// `2024-01-02`, `1/2/2024`, `2.1.2024`-like dates with numbers only, a month's name in between, or `2024-366`.
fn date_token(token: &str) -> Option<DateToken> {
    let separator = token.chars().find(|c| matches!(c, '-' | '/' | '.'))?;
    let parts: Vec<&str> = token.split(separator).collect();
    let (year, month, day) = match parts[..] {
        [a, b, c] => match (month_by_name(a), month_by_name(b)) {
            (None, Some(month)) if a.len() > 2 => (a, month, number(c)?),
            (None, Some(month)) => (c, month, number(a)?),
            (Some(month), _) => (c, month, number(b)?),
            (None, None) if a.len() > 2 => (a, number(b)?, number(c)?),
            (None, None) => (c, number(a)?, number(b)?),
        },
        // A year and its day.
        [a, b] if a.len() > 2 && b.len() == 3 => {
            let year = number(a)?;
            let day_of_year = number(b).filter(|day| (1..=366).contains(day))?;
            let (_, month, day) = date_of(days_of(year, 1, 1) + day_of_year - 1);
            (a, month, day)
        }
        _ => return None,
    };
    Some(((number(year)?, month, day), year.len() <= 2))
}

impl Parsed {
    fn finish_date(&self, text: &str) -> Result<i64> {
        let (mut year, month, day) = self.date.ok_or_else(|| invalid("timestamp", text))?;
        if self.before_christ {
            year = 1 - year;
        } else if self.short_year {
            year += if year < 70 { 2000 } else { 1900 };
        } else if year == 0 {
            return Err(field_overflow(text));
        }
        if !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
            return Err(field_overflow(text));
        }
        Ok(i64::from(valid_date(days_of(year, month, day))?))
    }

    fn finish_time(&self, text: &str) -> Result<i64> {
        let micros = self.time.unwrap_or(0);
        let hour = micros / (3600 * SECOND_MICROS);
        match self.afternoon {
            None => Ok(micros),
            Some(_) if !(1..=12).contains(&hour) => Err(field_overflow(text)),
            Some(afternoon) => {
                let hour_12 = if hour == 12 { -12 } else { 0 } + if afternoon { 12 } else { 0 };
                Ok(micros + hour_12 * 3600 * SECOND_MICROS)
            }
        }
    }
}

/// Cuts the text into tokens and reads them.
pub(crate) fn parse(text: &str, kind: &str, context: &TextContext<'_>) -> Result<Moment> {
    let lower = text.trim().to_ascii_lowercase();
    let error = || invalid(kind, text);
    let session = Zone::session(context.time_zone);
    let today = session.to_local(context.now).div_euclid(DAY_MICROS);
    let date_from = |days: i64| Some(super::calendar::date_of(days));
    match lower.as_str() {
        "infinity" | "+infinity" => return Ok(Moment::Infinity),
        "-infinity" => return Ok(Moment::NegativeInfinity),
        "now" => return Ok(Moment::Instant(context.now)),
        "epoch" => return Ok(Moment::Instant(-UNIX_OFFSET_SECONDS * SECOND_MICROS)),
        _ => {}
    }
    let mut parsed = Parsed::default();
    let mut loose: Vec<i64> = Vec::new();
    let mut month_name = None;
    let mut rest = lower.as_str();
    while !rest.is_empty() {
        let first = rest.as_bytes()[0];
        if first.is_ascii_whitespace() || first == b',' {
            rest = &rest[1..];
            continue;
        }
        let token_end = |stop: &dyn Fn(char) -> bool| rest.find(stop).unwrap_or(rest.len());
        if first.is_ascii_digit() {
            // A date may be glued to its time by a T, a time to its zone by a sign.
            let mut end = token_end(&|c: char| c.is_whitespace() || c == ',' || c == '+' || c == 't' || c == 'z');
            let mut token = &rest[..end];
            if token.contains(':')
                && let Some(dash) = token.find('-')
            {
                end = dash;
                token = &rest[..end];
            }
            if let Some(letter) = token.find(|c: char| c.is_ascii_alphabetic())
                && !token.contains(['-', '/', '.'])
            {
                end = letter;
                token = &rest[..end];
            }
            // A month's name with a t in it (`2-oct-2024`) was cut: take the word whole.
            if token.ends_with(|c: char| c.is_ascii_alphabetic()) {
                end = token_end(&|c: char| c.is_whitespace() || c == ',');
                token = &rest[..end];
            }
            rest = &rest[end..];
            if token.contains(':') {
                if parsed.time.replace(clock(token).ok_or_else(|| field_overflow(text))?).is_some() {
                    return Err(error());
                }
            } else if kind == "time" && (token.len() == 6 || token.len() == 4) && number(token).is_some() {
                let split = format!("{}:{}:{}", &token[..2], &token[2..4], token.get(4..6).unwrap_or("00"));
                if parsed.time.replace(clock(&split).ok_or_else(|| field_overflow(text))?).is_some() {
                    return Err(error());
                }
            } else if let Some((date, short_year)) = date_token(token) {
                if parsed.date.replace(date).is_some() {
                    return Err(error());
                }
                parsed.short_year = short_year;
            } else if token.len() == 6 && parsed.date.is_none() && month_name.is_none() && number(token).is_some() {
                let part = |range: std::ops::Range<usize>| number(&token[range]);
                parsed.date = part(0..2).zip(part(2..4)).zip(part(4..6)).map(|((y, m), d)| (y, m, d));
                parsed.short_year = true;
            } else if token.len() == 8 && parsed.date.is_none() && number(token).is_some() {
                let part = |range: std::ops::Range<usize>| number(&token[range]);
                parsed.date = part(0..4).zip(part(4..6)).zip(part(6..8)).map(|((y, m), d)| (y, m, d));
            } else if parsed.date.is_some()
                && parsed.time.is_none()
                && (token.len() == 6 || token.len() == 4)
                && number(token).is_some()
            {
                let split = format!("{}:{}:{}", &token[..2], &token[2..4], token.get(4..6).unwrap_or("00"));
                parsed.time = Some(clock(&split).ok_or_else(error)?);
            } else if let Some(value) = number(token) {
                loose.push(if token.len() > 2 { value } else { value | LOOSE_SHORT });
            } else {
                return Err(error());
            }
            continue;
        }
        if first == b'+' || first == b'-' {
            let end = 1 + rest[1..].find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(rest.len() - 1);
            let offset = parse_offset(&rest[..end]).ok_or_else(error)?;
            if parsed.zone.replace(Zone::Fixed(offset)).is_some() {
                return Err(error());
            }
            rest = &rest[end..];
            continue;
        }
        let end = token_end(&|c: char| !(c.is_ascii_alphabetic() || c == '/' || c == '_'));
        if end == 0 {
            return Err(error());
        }
        let word = &rest[..end];
        // `Jan-08-1999`
        if month_by_name(word).is_some() && rest[end..].starts_with(['-', '/', '.']) {
            let token = &rest[..token_end(&|c: char| c.is_whitespace() || c == ',')];
            let (date, short_year) = date_token(token).ok_or_else(error)?;
            if parsed.date.replace(date).is_some() {
                return Err(error());
            }
            parsed.short_year = short_year;
            rest = &rest[token.len()..];
            continue;
        }
        // A Julian day.
        if word == "j" && parsed.date.is_none() {
            let digits = &rest[1..][..rest[1..].bytes().take_while(u8::is_ascii_digit).count()];
            let day = number(digits).ok_or_else(error)?;
            parsed.date = date_from(day - JULIAN_DAY_2000);
            rest = &rest[1 + digits.len()..];
            continue;
        }
        // The letter between a date and its time.
        if word == "t" && parsed.date.is_some() && parsed.time.is_none() {
            rest = &rest[end..];
            continue;
        }
        let original = &text.trim()[lower.len() - rest.len()..][..end];
        rest = &rest[end..];
        match word {
            "am" | "pm" => parsed.afternoon = Some(word == "pm"),
            "ad" => {}
            "bc" => parsed.before_christ = true,
            "today" => parsed.date = date_from(today),
            "tomorrow" => parsed.date = date_from(today + 1),
            "yesterday" => parsed.date = date_from(today - 1),
            "allballs" => parsed.time = Some(0),
            _ => {
                if let Some(month) = month_by_name(word) {
                    month_name = Some(month);
                } else if !DAYS.iter().any(|day| word.starts_with(day) && (word.len() == 3 || word.ends_with("day"))) {
                    let zone = Zone::by_name(original).ok_or_else(|| {
                        if original.contains('/') {
                            SqlError::new(
                                SqlState::INVALID_PARAMETER_VALUE,
                                format!("time zone \"{original}\" not recognized"),
                            )
                        } else {
                            error()
                        }
                    })?;
                    if parsed.zone.replace(zone).is_some() {
                        return Err(error());
                    }
                }
            }
        }
    }
    match (month_name, &loose[..]) {
        (None, []) => {}
        (Some(month), [a, b]) => {
            let (day, year) = if a & LOOSE_SHORT != 0 { (a, b) } else { (b, a) };
            parsed.short_year = *year & LOOSE_SHORT != 0;
            parsed.date = Some((year & !LOOSE_SHORT, month, day & !LOOSE_SHORT));
        }
        _ => return Err(error()),
    }
    if parsed.date.is_none() && parsed.time.is_none() {
        return Err(error());
    }
    Ok(Moment::Local(parsed))
}

/// The Julian day number of 2000-01-01.
const JULIAN_DAY_2000: i64 = 2_451_545;

/// Marks a number of one or two digits, which is a day or a short year.
const LOOSE_SHORT: i64 = 1 << 40;

/// Reads `timestamptz`.
pub(crate) fn parse_timestamptz(text: &str, context: &TextContext<'_>) -> Result<i64> {
    match parse(text, "timestamp with time zone", context)? {
        Moment::Infinity => Ok(i64::MAX),
        Moment::NegativeInfinity => Ok(i64::MIN),
        Moment::Instant(moment) => Ok(moment),
        Moment::Local(parsed) => {
            let local = local_timestamp(&parsed, text, "timestamp with time zone")?;
            let zone = parsed.zone.unwrap_or_else(|| Zone::session(context.time_zone));
            valid_timestamp(zone.to_utc(local))
        }
    }
}

fn local_timestamp(parsed: &Parsed, text: &str, kind: &str) -> Result<i64> {
    if parsed.date.is_none() {
        return Err(invalid(kind, text));
    }
    let days = parsed.finish_date(text)?;
    let (year, month, day) = super::calendar::date_of(days);
    Civil { year, month, day, micros: parsed.finish_time(text)? }.timestamp()
}

/// Reads `timestamp`: a zone in the text is ignored, as PostgreSQL does.
pub(crate) fn parse_timestamp(text: &str, context: &TextContext<'_>) -> Result<i64> {
    match parse(text, "timestamp", context)? {
        Moment::Infinity => Ok(i64::MAX),
        Moment::NegativeInfinity => Ok(i64::MIN),
        Moment::Instant(moment) => Ok(Zone::session(context.time_zone).to_local(moment)),
        Moment::Local(parsed) => local_timestamp(&parsed, text, "timestamp"),
    }
}

/// Reads `date`.
pub(crate) fn parse_date(text: &str, context: &TextContext<'_>) -> Result<i32> {
    match parse(text, "date", context)? {
        Moment::Infinity => Ok(i32::MAX),
        Moment::NegativeInfinity => Ok(i32::MIN),
        Moment::Instant(moment) => {
            let local = Zone::session(context.time_zone).to_local(moment);
            i32::try_from(local.div_euclid(DAY_MICROS)).map_err(|_| out_of_range("date"))
        }
        Moment::Local(parsed) if parsed.date.is_none() => Err(invalid("date", text)),
        Moment::Local(parsed) => valid_date(parsed.finish_date(text)?),
    }
}

/// Reads `time`.
pub(crate) fn parse_time(text: &str, context: &TextContext<'_>) -> Result<i64> {
    match parse(text, "time", context)? {
        Moment::Instant(moment) => Ok(Zone::session(context.time_zone).to_local(moment).rem_euclid(DAY_MICROS)),
        Moment::Local(parsed) if parsed.time.is_some() => parsed.finish_time(text),
        _ => Err(invalid("time", text)),
    }
}

/// A unit of time by name: months, days, microseconds per unit.
pub(crate) fn unit(word: &str) -> Option<(i64, i64, i64)> {
    const MINUTE: i64 = 60 * SECOND_MICROS;
    Some(match word {
        "millennium" | "millennia" | "millenniums" | "mil" | "mils" => (12_000, 0, 0),
        "century" | "centuries" | "cent" | "c" => (1_200, 0, 0),
        "decade" | "decades" | "dec" | "decs" => (120, 0, 0),
        "year" | "years" | "yr" | "yrs" | "y" => (12, 0, 0),
        "quarter" | "quarters" => (3, 0, 0),
        "month" | "months" | "mon" | "mons" => (1, 0, 0),
        "week" | "weeks" | "w" => (0, 7, 0),
        "day" | "days" | "d" => (0, 1, 0),
        "hour" | "hours" | "hr" | "hrs" | "h" => (0, 0, 60 * MINUTE),
        "minute" | "minutes" | "min" | "mins" | "m" => (0, 0, MINUTE),
        "second" | "seconds" | "sec" | "secs" | "s" => (0, 0, SECOND_MICROS),
        "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => (0, 0, 1_000),
        "microsecond" | "microseconds" | "usec" | "usecs" | "us" => (0, 0, 1),
        _ => return None,
    })
}

/// Adds `amount` units; what doesn't fill a unit goes to the next smaller one.
fn add_units(sum: &mut [f64; 3], amount: f64, unit: (i64, i64, i64)) {
    let months = amount * unit.0 as f64;
    sum[0] += months.trunc();
    let days = (months - months.trunc()) * 30.0 + amount * unit.1 as f64;
    let whole = (days + days.signum() * 1e-9).trunc();
    sum[1] += whole;
    sum[2] += (days - whole) * DAY_MICROS as f64 + amount * unit.2 as f64;
}

/// Reads `interval`: verbose, `HH:MM:SS`, `Y-M`, or ISO 8601.
pub(crate) fn parse_interval(text: &str) -> Result<Interval> {
    let error = || invalid("interval", text);
    let lower = text.trim().to_ascii_lowercase();
    let mut sum = [0f64; 3];
    let mut exact_micros = 0i128;
    let mut found = false;
    if let Some(iso) = lower.strip_prefix('p') {
        let (mut rest, mut in_time) = (iso, false);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('t') {
                (rest, in_time) = (after, true);
                continue;
            }
            // The alternative form, `P0001-02-03T04:05:06`.
            let part = &rest[..rest.find('t').unwrap_or(rest.len())];
            let separated = part.contains(':') || part.bytes().skip(1).any(|b| b == b'-');
            if separated && part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.')) {
                if in_time {
                    exact_micros += i128::from(clock(part).ok_or_else(error)?);
                } else {
                    let numbers: Option<Vec<i64>> = part.split('-').map(number).collect();
                    let [years, months, days] = numbers.ok_or_else(error)?[..] else { return Err(error()) };
                    sum[0] += (years * 12 + months) as f64;
                    sum[1] += days as f64;
                }
                found = true;
                rest = &rest[part.len()..];
                continue;
            }
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
            let amount: f64 = rest[..end].parse().map_err(|_| error())?;
            let unit = match (&rest[end..end + 1], in_time) {
                ("y", false) => (12, 0, 0),
                ("m", false) => (1, 0, 0),
                ("w", false) => (0, 7, 0),
                ("d", false) => (0, 1, 0),
                ("h", true) => (0, 0, 3600 * SECOND_MICROS),
                ("m", true) => (0, 0, 60 * SECOND_MICROS),
                ("s", true) => (0, 0, SECOND_MICROS),
                _ => return Err(error()),
            };
            add_units(&mut sum, amount, unit);
            found = true;
            rest = &rest[end + 1..];
        }
    } else {
        let mut ago = false;
        let spaced = split_units(&lower);
        let mut words = spaced.split_whitespace().filter(|word| *word != "@").peekable();
        while let Some(word) = words.next() {
            if word == "ago" {
                ago = true;
                continue;
            }
            let (sign, body) = match word.as_bytes()[0] {
                b'-' => (-1i64, &word[1..]),
                b'+' => (1, &word[1..]),
                _ => (1, word),
            };
            found = true;
            if body.contains(':') {
                let mut parts = body.splitn(2, ':');
                let hours = parts.next().and_then(number).ok_or_else(error)?;
                let rest = clock(&format!("0:{}", parts.next().unwrap_or(""))).ok_or_else(error)?;
                exact_micros += i128::from(sign * (hours * 3600 * SECOND_MICROS + rest));
            } else if let Some((years, months)) = body.split_once('-') {
                let months = number(years).ok_or_else(error)? * 12 + number(months).ok_or_else(error)?;
                sum[0] += (sign * months) as f64;
            } else {
                let amount: f64 = body.parse().map_err(|_| error())?;
                if !amount.is_finite() {
                    return Err(error());
                }
                let unit = match words.peek() {
                    None => (0, 0, SECOND_MICROS),
                    // `1 12:00:00`: days before a time of day.
                    Some(next) if next.contains(':') => (0, 1, 0),
                    Some(next) => {
                        let unit = unit(next).ok_or_else(error)?;
                        words.next();
                        unit
                    }
                };
                add_units(&mut sum, sign as f64 * amount, unit);
            }
        }
        if ago {
            sum = sum.map(|part| -part);
            exact_micros = -exact_micros;
        }
    }
    let micros = sum[2].round() + exact_micros as f64;
    let fits = sum[0].abs() <= f64::from(i32::MAX) && sum[1].abs() <= f64::from(i32::MAX) && micros.abs() < 9.2e18;
    match (found, fits) {
        (true, true) => Ok(Interval {
            months: sum[0] as i32,
            days: sum[1] as i32,
            micros: i64::try_from(sum[2].round() as i128 + exact_micros).unwrap_or(i64::MAX),
        }),
        (false, _) => Err(error()),
        _ => Err(SqlError::new(
            SqlState::INTERVAL_FIELD_OVERFLOW,
            format!("interval field value out of range: \"{text}\""),
        )),
    }
}

/// Puts a space between an amount and its unit, and after the unit (`5min3s`).
fn split_units(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.chars() {
        let unit_begins = c.is_ascii_alphabetic() && (before.is_ascii_digit() || before == '.');
        let unit_ends = before.is_ascii_alphabetic() && (c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        if unit_begins || unit_ends {
            out.push(' ');
        }
        out.push(c);
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{print_date, print_interval, print_timestamp};
    use super::*;

    #[test]
    fn timestamps_are_read_in_many_forms() {
        let context = TextContext::utc();
        for (text, printed) in [
            ("2024-01-02 03:04:05.678", "2024-01-02 03:04:05.678+00"),
            ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00"),
            ("2024-01-02t03:04:05+02:00", "2024-01-02 01:04:05+00"),
            ("2024-01-02 03:04-0330", "2024-01-02 06:34:00+00"),
            ("20240102T030405", "2024-01-02 03:04:05+00"),
            ("Jan 2, 2024 3:04 PM", "2024-01-02 15:04:00+00"),
            ("2 October 2024", "2024-10-02 00:00:00+00"),
            ("2-Oct-2024 10:00", "2024-10-02 10:00:00+00"),
            ("1/2/2024", "2024-01-02 00:00:00+00"),
            ("2024-07-01 12:00 Europe/Berlin", "2024-07-01 10:00:00+00"),
            ("Tue Jan 02 03:04:05 2024 EST", "2024-01-02 08:04:05+00"),
            ("0044-03-15 BC", "0044-03-15 00:00:00+00 BC"),
            ("2024-12-31 24:00:00", "2025-01-01 00:00:00+00"),
            ("infinity", "infinity"),
            ("epoch", "1970-01-01 00:00:00+00"),
        ] {
            let value = parse_timestamptz(text, &context).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(print_timestamp(value, Some(&Zone::Fixed(0))), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        let context = TextContext::utc();
        for (text, state) in [
            ("", "22007"),
            ("hello", "22007"),
            ("2024-02-30", "22008"),
            ("2024-13-01", "22008"),
            ("2024-01-01 25:00", "22008"),
            ("2024-01-01 2024-01-02", "22007"),
            ("300000-01-01", "22008"),
            ("2024-01-01 00:00 Nowhere/Land", "22023"),
            ("é", "22007"),
            ("1é-2", "22007"),
            ("2024-01-01 1éé1", "22007"),
        ] {
            assert_eq!(parse_timestamptz(text, &context).unwrap_err().state.as_str(), state, "{text}");
        }
        assert_eq!(print_date(parse_date("1999-12-31", &context).unwrap()), "1999-12-31");
    }

    #[test]
    fn intervals_are_read_in_many_forms() {
        for (text, printed) in [
            ("1 day", "1 day"),
            ("1 year 2 mons 3 days 04:05:06.7", "1 year 2 mons 3 days 04:05:06.7"),
            ("-90 minutes", "-01:30:00"),
            ("1.5 days", "1 day 12:00:00"),
            ("3 days ago", "-3 days"),
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("1-2", "1 year 2 mons"),
            ("5min 3s", "00:05:03"),
            ("10", "00:00:10"),
            ("2 12:00:00", "2 days 12:00:00"),
            ("0", "00:00:00"),
        ] {
            let value = parse_interval(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(print_interval(&value), printed, "{text}");
        }
        let long = "999999999:00 ".repeat(5);
        for bad in ["", "1 foo", "day", "99999999999 years", "P1", "1::2", "P1-2T3", long.as_str()] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
