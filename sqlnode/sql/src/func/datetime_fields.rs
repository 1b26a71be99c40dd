//! Fields of dates, times and intervals: EXTRACT, `date_part`, and `date_trunc`, which cuts at one.

use super::datetime::{zone, zone_named};
use super::registry::{Call, Entry};
use super::values::{bad_parameter, interval, moment, text};
use crate::error::{Result, SqlError};
use crate::types::calendar::{Civil, DAY_MICROS, SECOND_MICROS, UNIX_OFFSET_SECONDS, date_of, days_of, is_finite};
use crate::types::{Interval, Numeric, Type, Value};

/// Monday of the first ISO week of a year.
fn iso_year_start(year: i64) -> i64 {
    let fourth = days_of(year, 1, 4);
    fourth - weekday_monday(fourth)
}

/// Days since Monday; 2000-01-01 was a Saturday.
pub(super) fn weekday_monday(days: i64) -> i64 {
    (days + 5).rem_euclid(7)
}

pub(super) fn iso_week(days: i64) -> (i64, i64) {
    let (year, ..) = date_of(days);
    let year = [year + 1, year, year - 1].into_iter().find(|year| iso_year_start(*year) <= days).unwrap_or(year);
    (year, (days - iso_year_start(year)) / 7 + 1)
}

/// The name of a field in full: `years`, `yr` and `y` are `year`.
fn unit_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "microseconds" | "microsecond" | "microsecon" | "usec" | "usecs" | "us" => "microseconds",
        "milliseconds" | "millisecond" | "millisecon" | "msec" | "msecs" | "ms" => "milliseconds",
        "second" | "seconds" | "sec" | "secs" | "s" => "second",
        "minute" | "minutes" | "min" | "mins" | "m" => "minute",
        "hour" | "hours" | "hr" | "hrs" | "h" => "hour",
        "day" | "days" | "d" => "day",
        "week" | "weeks" | "w" => "week",
        "month" | "months" | "mon" | "mons" => "month",
        "quarter" | "qtr" => "quarter",
        "year" | "years" | "yr" | "yrs" | "y" => "year",
        "decade" | "decades" | "dec" | "decs" => "decade",
        "century" | "centuries" | "cent" | "c" => "century",
        "millennium" | "millennia" | "mil" | "mils" => "millennium",
        "dow" => "dow",
        "isodow" => "isodow",
        "doy" => "doy",
        "isoyear" => "isoyear",
        "julian" | "jd" | "j" => "julian",
        "epoch" => "epoch",
        "timezone" => "timezone",
        "timezone_h" | "timezone_hour" => "timezone_hour",
        "timezone_m" | "timezone_minute" => "timezone_minute",
        _ => return None,
    })
}

/// The error for a field that a type hasn't, or that nothing has.
fn no_unit(name: &str, ty: &Type) -> SqlError {
    match unit_name(name) {
        Some(_) => SqlError::unsupported_for(name, ty),
        None => bad_parameter(format!("unit \"{name}\" not recognized for type {ty}")),
    }
}

/// A field of a local time as an exact number; `None` for an unknown field.
fn field(name: &str, local: i64) -> Option<Numeric> {
    let civil = Civil::of_timestamp(local);
    let days = civil.days();
    let whole = |value: i64| Some(Numeric::from(value));
    let shown_year = if civil.year > 0 { civil.year } else { civil.year - 1 };
    match unit_name(name)? {
        "year" => whole(shown_year),
        "month" => whole(civil.month),
        "day" => whole(civil.day),
        name @ ("hour" | "minute" | "second" | "milliseconds" | "microseconds") => clock_field(name, civil.micros),
        "dow" => whole((weekday_monday(days) + 1) % 7),
        "isodow" => whole(weekday_monday(days) + 1),
        "doy" => whole(days - days_of(civil.year, 1, 1) + 1),
        "week" => whole(iso_week(days).1),
        "isoyear" => whole(match iso_week(days).0 {
            year @ ..=0 => year - 1,
            year => year,
        }),
        "quarter" => whole((civil.month - 1) / 3 + 1),
        "decade" => whole(civil.year.div_euclid(10)),
        "century" => whole(if shown_year > 0 { (shown_year + 99) / 100 } else { -((99 - shown_year) / 100) }),
        "millennium" => whole(if shown_year > 0 { (shown_year + 999) / 1000 } else { -((999 - shown_year) / 1000) }),
        "julian" => {
            let noon = Numeric::from(days + 2_451_545);
            let fraction = Numeric::from(civil.micros).divide(&Numeric::from(DAY_MICROS)).ok()?;
            if civil.micros == 0 { Some(noon) } else { noon.add(&fraction).ok() }
        }
        _ => None,
    }
}

/// A field of a time of day.
fn clock_field(name: &str, micros: i64) -> Option<Numeric> {
    let minute = 60 * SECOND_MICROS;
    Some(match name {
        "hour" => Numeric::from(micros / (60 * minute)),
        "minute" => Numeric::from(micros / minute % 60),
        "second" => Numeric::Finite { digits: (micros % minute).into(), scale: 6 },
        "milliseconds" => Numeric::Finite { digits: (micros % minute).into(), scale: 3 },
        "microseconds" => Numeric::from(micros % minute),
        "epoch" => Numeric::Finite { digits: micros.into(), scale: 6 },
        _ => return None,
    })
}

fn epoch(micros_since_2000: i64) -> Numeric {
    let micros = i128::from(micros_since_2000) + i128::from(UNIX_OFFSET_SECONDS) * i128::from(SECOND_MICROS);
    Numeric::Finite { digits: micros.into(), scale: 6 }
}

fn interval_field(name: &str, interval: &Interval) -> Option<Numeric> {
    let whole = |value: i64| Some(Numeric::from(value));
    let years = i64::from(interval.months / 12);
    match unit_name(name).unwrap_or(name) {
        "year" => whole(years),
        "month" => whole(i64::from(interval.months % 12)),
        "day" => whole(i64::from(interval.days)),
        name @ ("hour" | "minute" | "second" | "milliseconds" | "microseconds") => clock_field(name, interval.micros),
        "quarter" => whole(i64::from(interval.months % 12 / 3 + 1)),
        "decade" => whole(years / 10),
        "century" => whole(years / 100),
        "millennium" => whole(years / 1000),
        // A year is 365.25 days here, a month 30.
        "epoch" => {
            let quarter_days =
                i128::from(years) * 1461 + i128::from(interval.months % 12) * 120 + i128::from(interval.days) * 4;
            let micros = quarter_days * i128::from(DAY_MICROS / 4) + i128::from(interval.micros);
            Some(Numeric::Finite { digits: micros.into(), scale: 6 })
        }
        _ => None,
    }
}

/// The field of any date, time or interval.
fn extract_field(a: &[Value], call: &Call<'_>) -> Result<Option<Numeric>> {
    let given = text(&a[0]).to_ascii_lowercase();
    let name = unit_name(&given).ok_or_else(|| no_unit(&given, &call.types[1]))?;
    let value = &a[1];
    let infinite = match value {
        Value::Timestamptz(t) | Value::Timestamp(t) => !is_finite(*t),
        Value::Date(days) => *days == i32::MAX || *days == i32::MIN,
        _ => false,
    };
    if infinite {
        // Only what grows without bound has an answer.
        let grows = ["epoch", "year", "isoyear", "decade", "century", "millennium", "julian"].contains(&name);
        let positive = moment(value) > 0;
        return Ok(grows.then_some(if positive { Numeric::PositiveInfinity } else { Numeric::NegativeInfinity }));
    }
    let found = match value {
        Value::Interval(interval) => interval_field(name, interval),
        Value::Time(micros) => clock_field(name, *micros),
        Value::Timestamptz(t) => {
            let offset = i64::from(zone(call).offset_at(*t));
            match name {
                "epoch" => Some(epoch(*t)),
                "timezone" => Some(Numeric::from(offset)),
                "timezone_hour" => Some(Numeric::from(offset / 3600)),
                "timezone_minute" => Some(Numeric::from(offset / 60 % 60)),
                _ => field(name, zone(call).to_local(*t)),
            }
        }
        Value::Timestamp(t) if name == "epoch" => Some(epoch(*t)),
        Value::Timestamp(t) => field(name, *t),
        Value::Date(days) if name == "epoch" => Some(Numeric::from((i64::from(*days)) * 86_400 + UNIX_OFFSET_SECONDS)),
        // A date has no clock; date_part goes through a timestamp, which has.
        Value::Date(_) if clock_field(name, 0).is_some() && *call.result != Type::Float8 => None,
        Value::Date(days) => field(name, i64::from(*days) * DAY_MICROS),
        _ => None,
    };
    found.map(Some).ok_or_else(|| no_unit(&given, &call.types[1]))
}

fn extract(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(extract_field(a, call)?.map_or(Value::Null, Value::Numeric))
}

fn date_part(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(extract_field(a, call)?.map_or(Value::Null, |number| Value::Float8(number.to_f64())))
}

/// The beginning of the unit that a local time lies in.
pub(super) fn truncate(given: &str, local: i64, ty: &Type) -> Result<i64> {
    let given = given.to_ascii_lowercase();
    let unit = unit_name(&given).ok_or_else(|| no_unit(&given, ty))?;
    if !is_finite(local) {
        return Ok(local);
    }
    let mut civil = Civil::of_timestamp(local);
    let step = match unit {
        "microseconds" => 1,
        "milliseconds" => 1000,
        "second" => SECOND_MICROS,
        "minute" => 60 * SECOND_MICROS,
        "hour" => 3600 * SECOND_MICROS,
        _ => DAY_MICROS,
    };
    civil.micros -= civil.micros % step;
    if step < DAY_MICROS {
        return civil.timestamp();
    }
    let year = civil.year;
    // The first year of a span that begins with the year 1 (or 0, for decades).
    let span = |length: i64| (year - 1).div_euclid(length) * length + 1;
    let start = |year: i64| (year, 1, 1);
    (civil.year, civil.month, civil.day) = match unit {
        "day" => (civil.year, civil.month, civil.day),
        "week" => date_of(civil.days() - weekday_monday(civil.days())),
        "month" => (civil.year, civil.month, 1),
        "quarter" => (civil.year, (civil.month - 1) / 3 * 3 + 1, 1),
        "year" => start(year),
        "decade" => start(year.div_euclid(10) * 10),
        "century" => start(span(100)),
        "millennium" => start(span(1000)),
        "timezone" | "timezone_hour" | "timezone_minute" => return Err(no_unit(&given, ty)),
        _ => return Err(bad_parameter(format!("unit \"{given}\" not recognized for type {ty}"))),
    };
    civil.timestamp()
}

fn trunc_timestamp(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(truncate(text(&a[0]), moment(&a[1]), &call.types[1])?))
}

fn trunc_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let zone = if a.len() > 2 { zone_named(text(&a[2]))? } else { zone(call) };
    let time = moment(&a[1]);
    let local = if is_finite(time) { zone.to_local(time) } else { time };
    let given = text(&a[0]).to_ascii_lowercase();
    let start = truncate(&given, local, &call.types[1])?;
    Ok(Value::Timestamptz(match local.saturating_sub(start) {
        _ if !is_finite(time) => time,
        // Within the hour the clocks stay as they are.
        rest if clock_field(unit_name(&given).unwrap_or(""), 0).is_some() => time - rest,
        _ => zone.to_utc(start),
    }))
}

fn trunc_interval(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let mut span = interval(&a[1]);
    let given = text(&a[0]).to_ascii_lowercase();
    let micros = |span: &mut Interval, step: i64| span.micros -= span.micros % step;
    let months = |span: &mut Interval, step: i32| {
        (span.months, span.days, span.micros) = (span.months - span.months % step, 0, 0)
    };
    match unit_name(&given).unwrap_or("") {
        "microseconds" => {}
        "milliseconds" => micros(&mut span, 1000),
        "second" => micros(&mut span, SECOND_MICROS),
        "minute" => micros(&mut span, 60 * SECOND_MICROS),
        "hour" => micros(&mut span, 3600 * SECOND_MICROS),
        "day" => span.micros = 0,
        "month" => months(&mut span, 1),
        "quarter" => months(&mut span, 3),
        "year" => months(&mut span, 12),
        "decade" => months(&mut span, 120),
        "century" => months(&mut span, 1200),
        "millennium" => months(&mut span, 12_000),
        _ => return Err(no_unit(&given, &call.types[1])),
    }
    Ok(Value::Interval(span))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("extract", "text timestamptz", "numeric", extract).stable(),
    Entry::scalar("extract", "text timestamp", "numeric", extract),
    Entry::scalar("extract", "text date", "numeric", extract),
    Entry::scalar("extract", "text time", "numeric", extract),
    Entry::scalar("extract", "text interval", "numeric", extract),
    Entry::scalar("date_part", "text timestamptz", "float8", date_part).stable(),
    Entry::scalar("date_part", "text timestamp", "float8", date_part),
    Entry::scalar("date_part", "text date", "float8", date_part),
    Entry::scalar("date_part", "text time", "float8", date_part),
    Entry::scalar("date_part", "text interval", "float8", date_part),
    Entry::scalar("date_trunc", "text timestamptz", "timestamptz", trunc_zoned).stable(),
    Entry::scalar("date_trunc", "text timestamptz text", "timestamptz", trunc_zoned).stable(),
    Entry::scalar("date_trunc", "text timestamp", "timestamp", trunc_timestamp),
    Entry::scalar("date_trunc", "text interval", "interval", trunc_interval),
];
