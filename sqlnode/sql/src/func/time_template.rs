//! Dates, times and intervals by template: `to_char`, `to_date`, `to_timestamp`.
//!
//! A template is read into pieces: the fields of the table below, each with its modifiers (`FM` before, `TH` after), and
//! literal characters. Both directions go through the same pieces.

use super::datetime::zone;
use super::datetime_fields::{iso_week, weekday_monday};
use super::registry::{Call, Entry};
use super::values::{interval, moment, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::calendar::{
    Civil, DAY_MICROS, SECOND_MICROS, Zone, days_of, is_finite, month_days, valid_date, valid_timestamp,
};
use crate::types::{Interval, Value};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ROMAN_MONTHS: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// The fields, the longer before those they begin with. All may be written in lower case too.
const FIELDS: [&str; 49] = [
    "A.D.", "A.M.", "B.C.", "P.M.", "AD", "AM", "BC", "PM", "CC", "DAY", "DDD", "DD", "DY", "D", "FF1", "FF2", "FF3",
    "FF4", "FF5", "FF6", "FX", "HH24", "HH12", "HH", "IDDD", "ID", "IW", "IYYY", "IYY", "IY", "I", "J", "MI", "MM",
    "MONTH", "MON", "MS", "OF", "Q", "RM", "SSSSS", "SSSS", "SS", "TZH", "TZM", "TZ", "US", "WW", "W",
];
/// Those that begin with a Y, which has its own list for the comma.
const YEARS: [&str; 5] = ["Y,YYY", "YYYY", "YYY", "YY", "Y"];

/// How a name is written: `DAY`, `Day`, `day`.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    Upper,
    Title,
    Lower,
}

impl Case {
    fn write(self, name: &str) -> String {
        match self {
            Case::Upper => name.to_uppercase(),
            Case::Title => name.to_string(),
            Case::Lower => name.to_lowercase(),
        }
    }
}

/// A piece of a template.
enum Piece {
    Field {
        name: &'static str,
        case: Case,
        /// `FM`: without padding.
        bare: bool,
        /// `TH` or `th`: an English ordinal.
        ordinal: Option<Case>,
    },
    Literal(char),
}

fn field_at(rest: &str) -> Option<(&'static str, Case)> {
    // Names have a third form, with one capital.
    for (name, title) in [("MONTH", "Month"), ("MON", "Mon"), ("DAY", "Day"), ("DY", "Dy")] {
        if rest.starts_with(title) {
            return Some((name, Case::Title));
        }
    }
    YEARS.iter().chain(&FIELDS).find_map(|name| {
        let head = rest.get(..name.len())?;
        if head == *name {
            Some((*name, Case::Upper))
        } else {
            (head == name.to_ascii_lowercase()).then_some((*name, Case::Lower))
        }
    })
}

fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        let (mut bare, mut after) = (false, rest);
        for prefix in ["FM", "fm", "TM", "tm"] {
            if let Some(next) = after.strip_prefix(prefix) {
                // Names in the session's language aren't padded either.
                bare = true;
                after = next;
            }
        }
        if let Some((name, case)) = field_at(after) {
            rest = &after[name.len()..];
            let mut ordinal = None;
            for (suffix, case) in [("TH", Case::Upper), ("th", Case::Lower)] {
                if let Some(next) = rest.strip_prefix(suffix) {
                    (rest, ordinal) = (next, Some(case));
                }
            }
            pieces.push(Piece::Field { name, case, bare, ordinal });
        } else if after.len() < rest.len() {
            rest = after;
        } else if first == '"' {
            let mut chars = rest[1..].char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 2;
                        break;
                    }
                    '\\' => pieces.extend(chars.next().map(|(_, c)| Piece::Literal(c))),
                    c => pieces.push(Piece::Literal(c)),
                }
            }
            rest = &rest[end..];
        } else {
            // Outside of quotes a backslash only hides a quote.
            let hidden = rest.starts_with("\\\"");
            pieces.push(Piece::Literal(if hidden { '"' } else { first }));
            rest = &rest[if hidden { 2 } else { first.len_utf8() }..];
        }
    }
    pieces
}

/// What is shown: a moment on the calendar, or the parts of an interval.
struct Shown {
    /// Astronomical; of an interval its years.
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    /// Seconds east of Greenwich.
    offset: Option<i32>,
    is_interval: bool,
}

impl Shown {
    fn moment(local: i64, offset: Option<i32>) -> Shown {
        let civil = Civil::of_timestamp(local);
        let seconds = civil.micros / SECOND_MICROS;
        Shown {
            year: civil.year,
            month: civil.month,
            day: civil.day,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros: civil.micros % SECOND_MICROS,
            offset,
            is_interval: false,
        }
    }

    fn interval(span: &Interval) -> Shown {
        let seconds = span.micros / SECOND_MICROS;
        Shown {
            year: i64::from(span.months / 12),
            month: i64::from(span.months % 12),
            day: i64::from(span.days),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros: span.micros % SECOND_MICROS,
            offset: None,
            is_interval: true,
        }
    }

    /// Days since 2000-01-01; what an interval has instead is never asked for.
    fn days(&self) -> i64 {
        if self.is_interval { 0 } else { days_of(self.year, self.month, self.day) }
    }

    fn day_of_year(&self) -> i64 {
        if self.is_interval {
            (self.year * 12 + self.month) * 30 + self.day
        } else {
            self.days() - days_of(self.year, 1, 1) + 1
        }
    }

    /// The year as it is said: there is no year zero.
    fn said(&self, year: i64) -> i64 {
        if self.is_interval || year > 0 { year } else { 1 - year }
    }

    fn write(&self, name: &str, case: Case, bare: bool, out: &mut String) -> Result<()> {
        // A minus takes a place of its own.
        let number = |value: i64, width: usize| match bare {
            true => value.to_string(),
            false => format!("{value:0width$}", width = width + usize::from(value < 0)),
        };
        // Days and weeks are padded as if they were never negative.
        let count = |value: i64, width: usize| if bare { value.to_string() } else { format!("{value:0width$}") };
        let padded = |name: &str, width: usize| {
            let name = case.write(name);
            if bare { name } else { format!("{name:<width$}") }
        };
        let no_date = || {
            let message = "invalid format specification for an interval value";
            let error = SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message);
            Err(error.with_hint("Intervals are not tied to specific calendar dates."))
        };
        let needs_date = matches!(
            name,
            "A.D." | "B.C." | "AD" | "BC" | "MONTH" | "MON" | "DAY" | "DY" | "D" | "ID" | "TZ" | "TZH" | "TZM" | "OF"
        );
        if self.is_interval && needs_date {
            return no_date();
        }
        let offset = self.offset.unwrap_or(0);
        let sign = if offset < 0 { '-' } else { '+' };
        let (offset_hours, offset_minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
        let month = || MONTHS[(self.month - 1).clamp(0, 11) as usize];
        let weekday = || WEEKDAYS[weekday_monday(self.days()) as usize];
        let year = self.said(self.year);
        let iso_year = || self.said(if self.is_interval { self.year } else { iso_week(self.days()).0 });
        let written = match name {
            "A.M." | "P.M." => case.write(if self.hour.rem_euclid(24) >= 12 { "P.M." } else { "A.M." }),
            "AM" | "PM" => case.write(if self.hour.rem_euclid(24) >= 12 { "PM" } else { "AM" }),
            "A.D." | "B.C." => case.write(if self.year <= 0 { "B.C." } else { "A.D." }),
            "AD" | "BC" => case.write(if self.year <= 0 { "BC" } else { "AD" }),
            "HH" | "HH12" => number(if self.hour % 12 == 0 { 12 } else { self.hour % 12 }, 2),
            "HH24" => number(self.hour, 2),
            "MI" => number(self.minute, 2),
            "SS" => number(self.second, 2),
            "FF1" => format!("{:01}", self.micros / 100_000),
            "FF2" => format!("{:02}", self.micros / 10_000),
            "FF3" | "MS" => format!("{:03}", self.micros / 1_000),
            "FF4" => format!("{:04}", self.micros / 100),
            "FF5" => format!("{:05}", self.micros / 10),
            "FF6" | "US" => format!("{:06}", self.micros),
            "SSSS" | "SSSSS" => (self.hour * 3600 + self.minute * 60 + self.second).to_string(),
            "TZ" => match self.offset {
                None => String::new(),
                Some(0) => case.write("UTC"),
                // Zones have names, moments only offsets.
                Some(_) if offset_minutes == 0 => format!("{sign}{offset_hours:02}"),
                Some(_) => format!("{sign}{offset_hours:02}{offset_minutes:02}"),
            },
            "TZH" => format!("{sign}{offset_hours:02}"),
            "TZM" => format!("{offset_minutes:02}"),
            "OF" if offset_minutes == 0 => format!("{sign}{offset_hours:02}"),
            "OF" => format!("{sign}{offset_hours:02}:{offset_minutes:02}"),
            "MONTH" => padded(month(), 9),
            "MON" => case.write(&month()[..3]),
            "MM" => number(self.month, 2),
            "DAY" => padded(weekday(), 9),
            "DY" => case.write(&weekday()[..3]),
            "DDD" => count(self.day_of_year(), 3),
            "IDDD" if self.is_interval => count(self.day_of_year(), 3),
            "IDDD" => {
                let (_, week) = iso_week(self.days());
                number((week - 1) * 7 + weekday_monday(self.days()) + 1, 3)
            }
            "DD" => count(self.day, 2),
            "D" => ((weekday_monday(self.days()) + 1) % 7 + 1).to_string(),
            "ID" => (weekday_monday(self.days()) + 1).to_string(),
            "WW" => count((self.day_of_year() - 1) / 7 + 1, 2),
            "IW" => count(if self.is_interval { (self.day_of_year() - 1) / 7 + 1 } else { iso_week(self.days()).1 }, 2),
            "W" => ((self.day - 1) / 7 + 1).to_string(),
            "Q" if self.month == 0 => String::new(),
            "Q" => ((self.month - 1) / 3 + 1).to_string(),
            "CC" => {
                let century = match self.year {
                    years if self.is_interval => years / 100,
                    year if year > 0 => (year - 1) / 100 + 1,
                    year => year / 100 - 1,
                };
                number(century, 2)
            }
            "Y,YYY" => format!("{},{:03}", year / 1000, (year % 1000).abs()),
            "YYYY" => number(year, 4),
            "IYYY" => number(iso_year(), 4),
            "YYY" => number(year % 1000, 3),
            "IYY" => number(iso_year() % 1000, 3),
            "YY" => number(year % 100, 2),
            "IY" => number(iso_year() % 100, 2),
            "Y" => (year % 10).to_string(),
            "I" => (iso_year() % 10).to_string(),
            "RM" if self.month == 0 && self.year == 0 => String::new(),
            // Counted from the end where the months of an interval are negative.
            "RM" => padded(ROMAN_MONTHS[(self.month - 1).rem_euclid(12) as usize], 4),
            "J" => (self.days() + 2_451_545).to_string(),
            _ => String::new(),
        };
        out.push_str(&written);
        Ok(())
    }

    fn format(&self, template: &str) -> Result<Value> {
        let mut out = String::new();
        for piece in pieces(template) {
            match piece {
                Piece::Literal(c) => out.push(c),
                Piece::Field { name, case, bare, ordinal } => {
                    let before = out.len();
                    self.write(name, case, bare, &mut out)?;
                    let numeral = out[before..].ends_with(|c: char| c.is_ascii_digit());
                    if let (Some(case), true) = (ordinal, numeral) {
                        let suffix = ordinal_suffix(&out[before..]);
                        out.push_str(&case.write(suffix));
                    }
                }
            }
            super::values::check_size(out.len())?;
        }
        Ok(Value::text(out))
    }
}

/// `st`, `nd`, `rd` or `th`.
fn ordinal_suffix(numeral: &str) -> &'static str {
    let digits = numeral.as_bytes();
    let last = digits.last().copied().unwrap_or(b'0');
    let teens = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    match last {
        b'1' if !teens => "st",
        b'2' if !teens => "nd",
        b'3' if !teens => "rd",
        _ => "th",
    }
}

fn char_timestamp(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let time = moment(&a[0]);
    if is_finite(time) { Shown::moment(time, None).format(text(&a[1])) } else { Ok(Value::Null) }
}

fn char_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let (time, zone) = (moment(&a[0]), zone(call));
    if !is_finite(time) {
        return Ok(Value::Null);
    }
    Shown::moment(zone.to_local(time), Some(zone.offset_at(time))).format(text(&a[1]))
}

fn char_interval(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Shown::interval(&interval(&a[0])).format(text(&a[1]))
}

/// What `to_date` and `to_timestamp` have read so far.
#[derive(Default)]
struct Found {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    second_of_day: Option<i64>,
    micros: i64,
    afternoon: Option<bool>,
    clock_12: bool,
    before_christ: bool,
    zone_hours: Option<i64>,
    zone_minutes: i64,
}

/// Reads a text by a template.
struct Reader<'a> {
    rest: &'a str,
    found: Found,
}

fn bad_value(value: &str, field: &str, detail: &str) -> SqlError {
    let shown: String = value.chars().take(20).collect();
    SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{shown}\" for \"{field}\""))
        .with_detail(detail)
}

impl Reader<'_> {
    /// A number of so many digits, or of all that there are if something ends it. With the count of its digits.
    fn number(&mut self, field: &str, width: usize, greedy: bool) -> Result<(i64, usize)> {
        self.rest = self.rest.trim_start();
        let sign = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[sign..].bytes().take_while(u8::is_ascii_digit).count();
        let taken = if greedy { sign + digits } else { (sign + digits).min(width) };
        if !greedy && self.rest.chars().count() < width {
            let message = format!("source string too short for \"{field}\" formatting field");
            return Err(SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message));
        }
        let (number, rest) = self.rest.split_at(taken);
        if !greedy && digits == 0 || taken == sign {
            return Err(bad_value(self.rest, field, "Value must be an integer."));
        }
        if !greedy && taken < width {
            return Err(bad_value(
                self.rest,
                field,
                &format!("Field requires {width} characters, but only {taken} could be parsed."),
            ));
        }
        let value = number.parse().map_err(|_| bad_value(number, field, "Value must be an integer."))?;
        if i32::try_from(value).is_err() {
            return Err(SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("value for \"{field}\" in source string is out of range"),
            ));
        }
        self.rest = rest;
        Ok((value, taken - sign))
    }

    /// One of several words, in whatever case.
    fn word(&mut self, field: &str, words: &[&str]) -> Result<usize> {
        let head = |word: &str| self.rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        let at = words.iter().position(|word| head(word));
        let at = at.ok_or_else(|| {
            bad_value(self.rest, field, "The given value did not match any of the allowed values for this field.")
        })?;
        self.rest = &self.rest[words[at].len()..];
        Ok(at)
    }

    fn field(&mut self, name: &'static str, greedy: bool) -> Result<()> {
        let short: Vec<&str> = MONTHS.iter().map(|month| &month[..3]).collect();
        match name {
            "YYYY" => self.found.year = self.number(name, 4, greedy)?.0,
            "YYY" | "YY" | "Y" => {
                let (year, digits) = self.number(name, name.len(), greedy)?;
                self.found.year = match year {
                    year if digits > 3 => year,
                    ..70 => year + 2000,
                    70..100 => year + 1900,
                    100..520 => year + 2000,
                    year => year + 1000,
                };
            }
            "Y,YYY" => {
                let (thousands, _) = self.number(name, 1, true)?;
                self.rest =
                    self.rest.strip_prefix(',').ok_or_else(|| bad_value(self.rest, name, "It needs a comma."))?;
                self.found.year = thousands * 1000 + self.number(name, 3, false)?.0;
            }
            "IYYY" => self.found.iso_year = Some(self.number(name, 4, greedy)?.0),
            "IW" => self.found.iso_week = Some(self.number(name, 2, greedy)?.0),
            "ID" => self.found.iso_day = Some(self.number(name, 1, greedy)?.0),
            "MM" => self.found.month = Some(self.number(name, 2, greedy)?.0),
            "DD" => self.found.day = Some(self.number(name, 2, greedy)?.0),
            "DDD" => self.found.day_of_year = Some(self.number(name, 3, greedy)?.0),
            "J" => self.found.julian = Some(self.number(name, 9, true)?.0),
            // Read, but of no consequence.
            "Q" | "D" => drop(self.number(name, 1, greedy)?),
            "MONTH" => self.found.month = Some(self.word(name, &MONTHS)? as i64 + 1),
            "MON" => self.found.month = Some(self.word(name, &short)? as i64 + 1),
            "DAY" => drop(self.word(name, &WEEKDAYS)?),
            "DY" => drop(self.word(name, &WEEKDAYS.map(|day| &day[..3]))?),
            "HH24" => self.found.hour = self.number(name, 2, greedy)?.0,
            "HH" | "HH12" => {
                self.found.hour = self.number(name, 2, greedy)?.0;
                self.found.clock_12 = true;
            }
            "MI" => self.found.minute = self.number(name, 2, greedy)?.0,
            "SS" => self.found.second = self.number(name, 2, greedy)?.0,
            "SSSS" | "SSSSS" => self.found.second_of_day = Some(self.number(name, 5, greedy)?.0),
            "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                let width = match name {
                    "MS" => 3,
                    "US" => 6,
                    name => usize::from(name.as_bytes()[2] - b'0'),
                };
                let (value, digits) = self.number(name, width, greedy)?;
                // `.5` is half a second.
                self.found.micros += match digits {
                    0..=6 => value * 10i64.pow(6 - digits as u32),
                    _ => return Err(out_of_range(name)),
                };
            }
            "AM" | "PM" => {
                self.found.afternoon = Some(self.word(name, &["AM", "PM"])? == 1);
                self.found.clock_12 = true;
            }
            "A.M." | "P.M." => {
                self.found.afternoon = Some(self.word(name, &["A.M.", "P.M."])? == 1);
                self.found.clock_12 = true;
            }
            "AD" | "BC" => self.found.before_christ = self.word(name, &["AD", "BC"])? == 1,
            "A.D." | "B.C." => self.found.before_christ = self.word(name, &["A.D.", "B.C."])? == 1,
            "TZH" => self.found.zone_hours = Some(self.number(name, 3, true)?.0),
            "TZM" => self.found.zone_minutes = self.number(name, 2, greedy)?.0,
            other => {
                return Err(SqlError::unsupported(format!("\"{other}\" in a template of to_date or to_timestamp")));
            }
        }
        Ok(())
    }
}

fn out_of_range(input: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{input}\""))
}

fn read(input: &str, template: &str) -> Result<Found> {
    let pieces = pieces(template);
    let mut reader = Reader { rest: input.trim_start(), found: Found::default() };
    // Separators in the text beyond those of the template may stand for its literal text.
    let mut spare = 0i64;
    for (at, piece) in pieces.iter().enumerate() {
        // What the text doesn't reach is not asked for.
        if reader.rest.is_empty() {
            break;
        }
        match piece {
            Piece::Field { name: "FX", .. } => {
                return Err(SqlError::unsupported("\"FX\" in a template of to_date or to_timestamp"));
            }
            Piece::Field { name, bare, ordinal, .. } => {
                let trimmed = reader.rest.trim_start();
                spare += (reader.rest.len() - trimmed.len()) as i64;
                reader.rest = trimmed;
                // Digits of another field right after are not this one's.
                let digits_follow = match pieces.get(at + 1) {
                    Some(Piece::Field { name, .. }) => {
                        !matches!(
                            *name,
                            "A.D."
                                | "A.M."
                                | "B.C."
                                | "P.M."
                                | "AD"
                                | "AM"
                                | "BC"
                                | "PM"
                                | "DAY"
                                | "DY"
                                | "MONTH"
                                | "MON"
                        ) && *name != "RM"
                    }
                    Some(Piece::Literal(c)) => c.is_ascii_digit(),
                    None => false,
                };
                reader.field(name, *bare || ordinal.is_some() || !digits_follow)?;
                if ordinal.is_some() {
                    let mut chars = reader.rest.chars();
                    chars.nth(1);
                    reader.rest = chars.as_str();
                }
            }
            Piece::Literal(c) if c.is_whitespace() || c.is_ascii_punctuation() => {
                spare -= 1;
                let is_separator = |c: char| c.is_whitespace() || c.is_ascii_punctuation();
                // A sign before a zone's hours is theirs.
                let sign = matches!(pieces.get(at + 1), Some(Piece::Field { name: "TZH", .. }))
                    && reader.rest.starts_with(['+', '-']);
                if reader.rest.starts_with(is_separator) && !sign {
                    reader.rest = &reader.rest[1..];
                    spare += 1;
                }
            }
            Piece::Literal(_) if spare > 0 => spare -= 1,
            Piece::Literal(_) => {
                let mut chars = reader.rest.chars();
                chars.next();
                reader.rest = chars.as_str();
            }
        }
    }
    Ok(reader.found)
}

impl Found {
    fn date(&self, input: &str) -> Result<i64> {
        if let Some(julian) = self.julian {
            return Ok(i64::from(valid_date(julian - 2_451_545)?));
        }
        let year = match (self.before_christ, self.year) {
            (true, year) => 1 - year,
            (false, ..0) => self.year + 1,
            (false, year) => year,
        };
        if self.iso_year.is_some() || self.iso_week.is_some() {
            let (year, week) = (self.iso_year.unwrap_or(year), self.iso_week.unwrap_or(1));
            if !(1..=53).contains(&week) || !(1..=7).contains(&self.iso_day.unwrap_or(1)) {
                return Err(out_of_range(input));
            }
            let fourth = days_of(year, 1, 4);
            let start = fourth - weekday_monday(fourth);
            return Ok(i64::from(valid_date(start + (week - 1) * 7 + self.iso_day.unwrap_or(1) - 1)?));
        }
        if let (Some(day), None) = (self.day_of_year, self.day) {
            if !(1..=365 + i64::from(month_days(year, 2) == 29)).contains(&day) {
                return Err(out_of_range(input));
            }
            return Ok(i64::from(valid_date(days_of(year, 1, 1) + day - 1)?));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
            return Err(out_of_range(input));
        }
        Ok(i64::from(valid_date(days_of(year, month, day))?))
    }

    fn clock(&self, input: &str) -> Result<i64> {
        let (mut hour, mut minute, mut second) = (self.hour, self.minute, self.second);
        if let Some(seconds) = self.second_of_day {
            (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        }
        if self.clock_12 {
            if !(1..=12).contains(&hour) {
                let message = format!("hour \"{hour}\" is invalid for the 12-hour clock");
                return Err(SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message)
                    .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            match self.afternoon {
                Some(true) if hour < 12 => hour += 12,
                Some(false) | None if hour == 12 => hour = 0,
                _ => {}
            }
        }
        if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
            return Err(out_of_range(input));
        }
        Ok((hour * 3600 + minute * 60 + second) * SECOND_MICROS + self.micros)
    }
}

fn to_date(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let found = read(text(&a[0]), text(&a[1]))?;
    found.clock(text(&a[0]))?;
    Ok(Value::Date(found.date(text(&a[0]))? as i32))
}

fn to_timestamp_template(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let found = read(text(&a[0]), text(&a[1]))?;
    let (days, clock) = (found.date(text(&a[0]))?, found.clock(text(&a[0]))?);
    let zone = match found.zone_hours {
        Some(hours) if hours.abs() <= 15 && (0..60).contains(&found.zone_minutes) => {
            Zone::Fixed((hours * 3600 + hours.signum() * found.zone_minutes * 60) as i32)
        }
        Some(_) => return Err(out_of_range(text(&a[0]))),
        None => zone(call),
    };
    let local = days.checked_mul(DAY_MICROS).and_then(|midnight| midnight.checked_add(clock));
    let local = local.ok_or_else(|| crate::types::calendar::out_of_range("timestamp")).and_then(valid_timestamp)?;
    Ok(Value::Timestamptz(valid_timestamp(zone.to_utc(local))?))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("to_timestamp", "text text", "timestamptz", to_timestamp_template).stable(),
    Entry::scalar("to_date", "text text", "date", to_date),
    Entry::scalar("to_char", "timestamptz text", "text", char_zoned).stable(),
    Entry::scalar("to_char", "timestamp text", "text", char_timestamp),
    Entry::scalar("to_char", "interval text", "text", char_interval),
];
