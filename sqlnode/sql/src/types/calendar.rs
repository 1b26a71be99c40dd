//! The calendar and the clock as integers: days and microseconds since 2000-01-01, proleptic Gregorian, no leap seconds.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::Interval;
use crate::error::{Result, SqlError, SqlState};

/// Microseconds in a second.
pub const SECOND_MICROS: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;
/// Seconds from 1970-01-01 to 2000-01-01.
pub const UNIX_OFFSET_SECONDS: i64 = 946_684_800;

/// A point on the calendar and the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    /// Astronomical: 0 is 1 BC.
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// Microseconds since midnight.
    pub(crate) micros: i64,
}

/// Days since 2000-01-01 of a date; month and day must be in range.
pub(crate) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 730_425
}

/// Year, month and day of a day number.
pub(crate) fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days in a month.
pub(crate) fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The moment, if it is within PostgreSQL's calendar: from 4714-11-24 BC to the end of 294276.
pub(crate) fn valid_timestamp(timestamp: i64) -> Result<i64> {
    let valid = (-211_813_488_000_000_000..9_223_371_331_200_000_000).contains(&timestamp);
    if valid { Ok(timestamp) } else { Err(out_of_range("timestamp")) }
}

/// The day, if it is within PostgreSQL's calendar: from 4714-11-24 BC to 5874897-12-31.
pub(crate) fn valid_date(days: i64) -> Result<i32> {
    let valid = (-2_451_545..2_145_031_949).contains(&days);
    if valid { Ok(days as i32) } else { Err(out_of_range("date")) }
}

/// The error for what lies outside the calendar.
pub(crate) fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

impl Civil {
    pub(crate) fn of_timestamp(timestamp: i64) -> Civil {
        let (year, month, day) = date_of(timestamp.div_euclid(DAY_MICROS));
        Civil { year, month, day, micros: timestamp.rem_euclid(DAY_MICROS) }
    }

    pub(crate) fn days(&self) -> i64 {
        days_of(self.year, self.month, self.day)
    }

    /// Microseconds since 2000-01-01, within PostgreSQL's range (4714 BC to 294276 AD).
    pub(crate) fn timestamp(&self) -> Result<i64> {
        let micros = self.days().checked_mul(DAY_MICROS).and_then(|days| days.checked_add(self.micros));
        micros.ok_or_else(|| out_of_range("timestamp")).and_then(valid_timestamp)
    }
}

/// False for the two infinities.
pub(crate) fn is_finite(timestamp: i64) -> bool {
    timestamp != i64::MAX && timestamp != i64::MIN
}

/// A time zone: the setting `TimeZone`, or one named in a literal.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// Seconds east of Greenwich.
    Fixed(i32),
    Rules(Box<TimeZone>),
}

impl Zone {
    /// A zone by its name (`UTC`, `Europe/Berlin`, `EST`) or ISO offset (`+02`, `-03:30`).
    pub(crate) fn by_name(name: &str) -> Option<Zone> {
        let name = name.trim();
        if let Some(offset) = parse_offset(name) {
            return Some(Zone::Fixed(offset));
        }
        let hours = |hours: i32| Some(Zone::Fixed(hours * 3600));
        match name.to_ascii_lowercase().as_str() {
            "utc" | "gmt" | "z" | "zulu" | "etc/utc" | "uct" => hours(0),
            "est" => hours(-5),
            "edt" => hours(-4),
            "cst" => hours(-6),
            "cdt" => hours(-5),
            "mst" => hours(-7),
            "mdt" => hours(-6),
            "pst" => hours(-8),
            "pdt" => hours(-7),
            "wet" => hours(0),
            "west" | "bst" | "cet" | "met" => hours(1),
            "cest" | "mest" | "eet" => hours(2),
            "eest" | "msk" => hours(3),
            "jst" => hours(9),
            _ => TimeZone::get(name).ok().map(|zone| Zone::Rules(Box::new(zone))),
        }
    }

    /// The zone that `AT TIME ZONE` names: there an offset is one of POSIX, hours *west* of Greenwich.
    pub(crate) fn posix_by_name(name: &str) -> Option<Zone> {
        match parse_offset(name.trim()) {
            Some(east) => Some(Zone::Fixed(-east)),
            None => Zone::by_name(name),
        }
    }

    /// The zone of the session; an unknown name counts as UTC, since settings are checked when they are set.
    pub(crate) fn session(name: &str) -> Zone {
        if name.eq_ignore_ascii_case("utc") { Zone::Fixed(0) } else { Zone::by_name(name).unwrap_or(Zone::Fixed(0)) }
    }

    /// Seconds east of Greenwich at a moment.
    pub(crate) fn offset_at(&self, timestamptz: i64) -> i32 {
        match self {
            Zone::Fixed(offset) => *offset,
            Zone::Rules(zone) => {
                let seconds = timestamptz.div_euclid(SECOND_MICROS).saturating_add(UNIX_OFFSET_SECONDS);
                // Outside of jiff's years the nearest rule is as good as any.
                let bound = jiff::Timestamp::MAX.as_second();
                let low = jiff::Timestamp::MIN.as_second();
                let moment =
                    jiff::Timestamp::from_second(seconds.clamp(low, bound)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                zone.to_offset(moment).seconds()
            }
        }
    }

    /// The moment of a local time; a time that a change of clocks skips is taken as before the change.
    pub(crate) fn to_utc(&self, local: i64) -> i64 {
        match self {
            Zone::Fixed(offset) => local.saturating_sub(i64::from(*offset) * SECOND_MICROS),
            Zone::Rules(_) => {
                let shift = |offset: i32| local.saturating_sub(i64::from(offset) * SECOND_MICROS);
                // Before and after any change of clocks near this time.
                let before = self.offset_at(local.saturating_sub(DAY_MICROS));
                let after = self.offset_at(local.saturating_add(DAY_MICROS));
                if before == after || self.offset_at(shift(before)) == before {
                    // An ambiguous time is standard time, as PostgreSQL has it.
                    let second = shift(after);
                    if before > after && self.offset_at(second) == after { second } else { shift(before) }
                } else if self.offset_at(shift(after)) == after {
                    shift(after)
                } else {
                    shift(before)
                }
            }
        }
    }

    /// The local time of a moment.
    pub(crate) fn to_local(&self, timestamptz: i64) -> i64 {
        timestamptz.saturating_add(i64::from(self.offset_at(timestamptz)) * SECOND_MICROS)
    }
}

/// `+02`, `-0330`, `+05:30:10` as seconds east.
pub(crate) fn parse_offset(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let body = &text[1..];
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let parts: Vec<i32> = if body.contains(':') {
        body.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?
    } else if body.len() <= 2 {
        vec![body.parse().ok()?]
    } else if body.len() <= 4 {
        let (hours, minutes) = body.split_at(body.len() - 2);
        vec![hours.parse().ok()?, minutes.parse().ok()?]
    } else {
        return None;
    };
    let [hours, minutes, seconds] = [0, 1, 2].map(|i| parts.get(i).copied().unwrap_or(0));
    let valid = parts.len() <= 3 && hours <= 15 && minutes < 60 && seconds < 60;
    valid.then(|| sign * (hours * 3600 + minutes * 60 + seconds))
}

fn write_date(out: &mut String, year: i64, month: i64, day: i64) {
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
}

fn write_time(out: &mut String, micros: i64) {
    let seconds = micros / SECOND_MICROS;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    write_fraction(out, micros % SECOND_MICROS);
}

fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{:06}", micros.abs());
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

fn era(out: &mut String, year: i64) {
    if year <= 0 {
        out.push_str(" BC");
    }
}

/// A date as it prints.
pub(crate) fn print_date(days: i32) -> String {
    match days {
        i32::MAX => return "infinity".to_string(),
        i32::MIN => return "-infinity".to_string(),
        _ => {}
    }
    let (year, month, day) = date_of(i64::from(days));
    let mut out = String::new();
    write_date(&mut out, year, month, day);
    era(&mut out, year);
    out
}

/// A time of day as it prints.
pub(crate) fn print_time(micros: i64) -> String {
    let mut out = String::new();
    write_time(&mut out, micros);
    out
}

/// A timestamp as it prints; with a zone, in that zone and with its offset.
pub(crate) fn print_timestamp(timestamp: i64, zone: Option<&Zone>) -> String {
    match timestamp {
        i64::MAX => return "infinity".to_string(),
        i64::MIN => return "-infinity".to_string(),
        _ => {}
    }
    let offset = zone.map(|zone| zone.offset_at(timestamp));
    let civil = Civil::of_timestamp(timestamp.saturating_add(i64::from(offset.unwrap_or(0)) * SECOND_MICROS));
    let mut out = String::with_capacity(32);
    write_date(&mut out, civil.year, civil.month, civil.day);
    out.push(' ');
    write_time(&mut out, civil.micros);
    if let Some(offset) = offset {
        let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        let _ = write!(out, "{sign}{:02}", offset / 3600);
        if offset % 3600 != 0 {
            let _ = write!(out, ":{:02}", offset / 60 % 60);
        }
        if offset % 60 != 0 {
            let _ = write!(out, ":{:02}", offset % 60);
        }
    }
    era(&mut out, civil.year);
    out
}

/// An interval in the style `postgres`.
pub(crate) fn print_interval(interval: &Interval) -> String {
    let mut out = String::new();
    let mut before_negative = false;
    let mut part = |out: &mut String, value: i32, one: &str, many: &str| {
        if value != 0 {
            let space = if out.is_empty() { "" } else { " " };
            let plus = if before_negative && value > 0 { "+" } else { "" };
            let _ = write!(out, "{space}{plus}{value} {}", if value == 1 { one } else { many });
            before_negative = value < 0;
        }
    };
    part(&mut out, interval.months / 12, "year", "years");
    part(&mut out, interval.months % 12, "mon", "mons");
    part(&mut out, interval.days, "day", "days");
    if interval.micros != 0 || out.is_empty() {
        let space = if out.is_empty() { "" } else { " " };
        let sign = match interval.micros {
            micros if micros < 0 => "-",
            _ if before_negative => "+",
            _ => "",
        };
        let _ = write!(out, "{space}{sign}");
        let micros = interval.micros.unsigned_abs();
        let seconds = micros / SECOND_MICROS as u64;
        let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        write_fraction(&mut out, (micros % SECOND_MICROS as u64) as i64);
    }
    out
}

/// Adds an interval to a timestamp: months first (the day is kept within the month), then days, then the rest.
pub(crate) fn add_interval(timestamp: i64, interval: &Interval) -> Result<i64> {
    if !is_finite(timestamp) {
        return Ok(timestamp);
    }
    let error = || out_of_range("timestamp");
    let mut civil = Civil::of_timestamp(timestamp);
    if interval.months != 0 {
        let months = civil.year * 12 + civil.month - 1 + i64::from(interval.months);
        civil.year = months.div_euclid(12);
        civil.month = months.rem_euclid(12) + 1;
        civil.day = civil.day.min(month_days(civil.year, civil.month));
    }
    let days = civil.days() + i64::from(interval.days);
    let micros = days.checked_mul(DAY_MICROS).and_then(|t| t.checked_add(civil.micros)).ok_or_else(error)?;
    let sum = micros.checked_add(interval.micros).ok_or_else(error)?;
    Civil::of_timestamp(sum).timestamp()
}

impl Interval {
    /// The length that comparisons use: a month is 30 days, a day 24 hours.
    pub fn total_micros(&self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY_MICROS) + i128::from(self.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        assert_eq!(days_of(2000, 1, 1), 0);
        assert_eq!(days_of(1970, 1, 1), -10_957);
        for days in (-2_400_000..2_400_000).step_by(377) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days);
            assert!((1..=month_days(year, month)).contains(&day));
        }
    }

    #[test]
    fn a_change_of_clocks_is_taken_as_postgresql_does() {
        let berlin = Zone::by_name("Europe/Berlin").unwrap();
        let local = |hour: i64, day: i64, month: i64| {
            Civil { year: 2024, month, day, micros: hour * 3600 * SECOND_MICROS + 1800 * SECOND_MICROS }
                .timestamp()
                .unwrap()
        };
        let printed = |t: i64| print_timestamp(berlin.to_utc(t), Some(&berlin));
        assert_eq!(printed(local(12, 1, 7)), "2024-07-01 12:30:00+02");
        assert_eq!(printed(local(2, 31, 3)), "2024-03-31 03:30:00+02");
        assert_eq!(printed(local(2, 27, 10)), "2024-10-27 02:30:00+01");
        assert_eq!(printed(local(12, 1, 1)), "2024-01-01 12:30:00+01");
    }

    #[test]
    fn the_last_day_of_a_month_stays_in_the_month() {
        let start = Civil { year: 2024, month: 1, day: 31, micros: 0 }.timestamp().unwrap();
        let month = Interval { months: 1, ..Interval::default() };
        assert_eq!(print_timestamp(add_interval(start, &month).unwrap(), None), "2024-02-29 00:00:00");
        assert_eq!(
            print_interval(&Interval { months: 14, days: -3, micros: 1_500_000 }),
            "1 year 2 mons -3 days +00:00:01.5"
        );
    }
}
