//! Dates, times and intervals.

use super::datetime_fields::truncate;
use super::registry::{Call, Entry};
use super::values::{bad_parameter, division_by_zero, float, int, interval, moment, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::calendar::{
    Civil, DAY_MICROS, SECOND_MICROS, UNIX_OFFSET_SECONDS, Zone, add_interval, days_of, is_finite, month_days,
    out_of_range, valid_date, valid_timestamp,
};
use crate::types::{Interval, Type, Value};

pub(super) fn zone(call: &Call<'_>) -> Zone {
    Zone::session(call.context.time_zone)
}

pub(super) fn zone_named(name: &str) -> Result<Zone> {
    Zone::posix_by_name(name).ok_or_else(|| bad_parameter(format!("time zone \"{name}\" not recognized")))
}

/// Part by part, with overflow as an error.
pub(super) fn interval_sum(a: &Interval, b: &Interval) -> Result<Interval> {
    let error = || out_of_range("interval");
    Ok(Interval {
        months: a.months.checked_add(b.months).ok_or_else(error)?,
        days: a.days.checked_add(b.days).ok_or_else(error)?,
        micros: a.micros.checked_add(b.micros).ok_or_else(error)?,
    })
}

fn interval_negative(a: &Interval) -> Result<Interval> {
    let error = || out_of_range("interval");
    Ok(Interval {
        months: a.months.checked_neg().ok_or_else(error)?,
        days: a.days.checked_neg().ok_or_else(error)?,
        micros: a.micros.checked_neg().ok_or_else(error)?,
    })
}

/// Times a factor: fractions of months go to days, fractions of days to the time.
fn interval_scale(a: &Interval, scale: impl Fn(f64) -> f64) -> Result<Interval> {
    let error = || out_of_range("interval");
    let months = scale(f64::from(a.months));
    let days = scale(f64::from(a.days));
    if !scale(1.0).is_finite() || months.abs() > f64::from(i32::MAX) || days.abs() > f64::from(i32::MAX) {
        return Err(error());
    }
    let month_rest = ((months - months.trunc()) * 30.0 * 1e6).round() / 1e6;
    let day_rest = ((days - days.trunc() + month_rest - month_rest.trunc()) * 86_400.0 * 1e6).round();
    let whole_days = days.trunc() + month_rest.trunc() + (day_rest / DAY_MICROS as f64).trunc();
    let micros = (scale(a.micros as f64) + day_rest % DAY_MICROS as f64).round_ties_even();
    if micros.abs() >= 9.2e18 || whole_days.abs() > f64::from(i32::MAX) {
        return Err(error());
    }
    Ok(Interval { months: months.trunc() as i32, days: whole_days as i32, micros: micros as i64 })
}

/// The same, divided: a forty-ninth of 49 days is one day.
pub(super) fn interval_quotient(a: &Interval, divisor: f64) -> Result<Interval> {
    if divisor == 0.0 { Err(division_by_zero()) } else { interval_scale(a, |part| part / divisor) }
}

/// The difference of two timestamps: days and time.
fn difference(a: i64, b: i64) -> Result<Value> {
    if !is_finite(a) || !is_finite(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(|| out_of_range("interval"))?;
    Ok(Value::Interval(Interval { months: 0, days: (micros / DAY_MICROS) as i32, micros: micros % DAY_MICROS }))
}

/// The calendar difference in years, months, days and time.
fn age_between(a: i64, b: i64) -> Result<Interval> {
    if !is_finite(a) || !is_finite(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let negative = a < b;
    let (late, early) = if negative { (b, a) } else { (a, b) };
    let (late, early) = (Civil::of_timestamp(late), Civil::of_timestamp(early));
    let mut micros = late.micros - early.micros;
    let mut days = late.day - early.day;
    let mut months = (late.year - early.year) * 12 + late.month - early.month;
    if micros < 0 {
        micros += DAY_MICROS;
        days -= 1;
    }
    if days < 0 {
        // Borrowed from the month of the earlier date.
        days += month_days(early.year, early.month);
        months -= 1;
    }
    let age = Interval { months: months as i32, days: days as i32, micros };
    if negative { interval_negative(&age) } else { Ok(age) }
}

fn add_zoned(call: &Call<'_>, time: i64, step: &Interval) -> Result<Value> {
    Ok(Value::Timestamptz(zoned_sum(&zone(call), time, step)?))
}

/// A moment moved by an interval: hours are exact, days and months follow the local clock.
pub(super) fn zoned_sum(zone: &Zone, time: i64, step: &Interval) -> Result<i64> {
    if !is_finite(time) {
        return Ok(time);
    }
    // Without days the local clock isn't asked: in the hour that it shows twice it can't tell which one is meant.
    let moved = match (step.months, step.days) {
        (0, 0) => time,
        _ => zone.to_utc(add_interval(zone.to_local(time), &Interval { micros: 0, ..*step })?),
    };
    add_interval(moved, &Interval { months: 0, days: 0, micros: step.micros })
}

fn negated(value: &Value) -> Result<Interval> {
    interval_negative(&interval(value))
}

fn add_to_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    add_zoned(call, moment(&a[0]), &interval(&a[1]))
}

fn zoned_added(a: &[Value], call: &Call<'_>) -> Result<Value> {
    add_zoned(call, moment(&a[1]), &interval(&a[0]))
}

fn subtract_from_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    add_zoned(call, moment(&a[0]), &negated(&a[1])?)
}

fn add_to_timestamp(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(moment(&a[0]), &interval(&a[1]))?))
}

fn timestamp_added(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(moment(&a[1]), &interval(&a[0]))?))
}

fn midnight(date: &Value) -> Result<i64> {
    match date {
        Value::Date(i32::MAX) => Ok(i64::MAX),
        Value::Date(i32::MIN) => Ok(i64::MIN),
        date => moment(date).checked_mul(DAY_MICROS).ok_or_else(|| out_of_range("timestamp")),
    }
}

fn add_to_date(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(midnight(&a[0])?, &interval(&a[1]))?))
}

fn date_interval_added(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(midnight(&a[1])?, &interval(&a[0]))?))
}

fn subtract_from_date(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(midnight(&a[0])?, &negated(&a[1])?)?))
}

fn subtract_from_timestamp(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(add_interval(moment(&a[0]), &negated(&a[1])?)?))
}

fn timestamps_apart(a: &[Value], _: &Call<'_>) -> Result<Value> {
    difference(moment(&a[0]), moment(&a[1]))
}

fn add_days(date: i64, days: i64) -> Result<Value> {
    if date == i64::from(i32::MAX) || date == i64::from(i32::MIN) {
        return Ok(Value::Date(date as i32));
    }
    Ok(Value::Date(valid_date(date + days)?))
}

fn date_plus(a: &[Value], _: &Call<'_>) -> Result<Value> {
    add_days(moment(&a[0]), int(&a[1]))
}

fn date_added(a: &[Value], _: &Call<'_>) -> Result<Value> {
    add_days(moment(&a[1]), int(&a[0]))
}

fn date_minus(a: &[Value], _: &Call<'_>) -> Result<Value> {
    add_days(moment(&a[0]), -int(&a[1]))
}

fn dates_apart(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a.iter().any(|date| matches!(date, Value::Date(i32::MAX | i32::MIN))) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite dates"));
    }
    Ok(Value::Int4((moment(&a[0]) - moment(&a[1])) as i32))
}

fn date_plus_time(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let midnight = midnight(&a[0])?;
    if !is_finite(midnight) {
        return Ok(Value::Timestamp(midnight));
    }
    let sum = midnight.checked_add(moment(&a[1])).ok_or_else(|| out_of_range("timestamp"))?;
    Ok(Value::Timestamp(valid_timestamp(sum)?))
}

fn time_plus_date(a: &[Value], call: &Call<'_>) -> Result<Value> {
    date_plus_time(&[a[1].clone(), a[0].clone()], call)
}

fn time_added(a: &[Value], call: &Call<'_>) -> Result<Value> {
    time_plus(&[a[1].clone(), a[0].clone()], call)
}

fn time_plus(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Time((moment(&a[0]) + interval(&a[1]).micros % DAY_MICROS).rem_euclid(DAY_MICROS)))
}

fn time_minus(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Time((moment(&a[0]) - interval(&a[1]).micros % DAY_MICROS).rem_euclid(DAY_MICROS)))
}

fn times_apart(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(Interval { months: 0, days: 0, micros: moment(&a[0]) - moment(&a[1]) }))
}

fn intervals_sum(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(interval_sum(&interval(&a[0]), &interval(&a[1]))?))
}

fn intervals_apart(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(interval_sum(&interval(&a[0]), &negated(&a[1])?)?))
}

fn negate(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(negated(&a[0])?))
}

fn times_factor(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(interval_scale(&interval(&a[0]), |part| part * float(&a[1]))?))
}

fn factor_times(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(interval_scale(&interval(&a[1]), |part| part * float(&a[0]))?))
}

fn over(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(interval_quotient(&interval(&a[0]), float(&a[1]))?))
}

fn now(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamptz(call.context.transaction_time))
}

fn statement_time(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamptz(call.context.statement_time))
}

fn clock_time(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamptz(call.context.clock_time))
}

/// `current_timestamp(digits)` and its like.
fn with_digits(now: fn(&[Value], &Call<'_>) -> Result<Value>, a: &[Value], call: &Call<'_>) -> Result<Value> {
    let digits = u8::try_from(int(&a[0])).map_err(|_| bad_parameter("precision must not be negative"))?;
    let ty = call.result.with_fraction(digits).unwrap_or_else(|| call.result.clone());
    crate::types::cast(&now(&[], call)?, call.result, &ty, crate::types::CastContext::Explicit, call.context)
}

fn local_now(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(zone(call).to_local(call.context.transaction_time)))
}

fn today(_: &[Value], call: &Call<'_>) -> Result<Value> {
    let local = zone(call).to_local(call.context.transaction_time);
    Ok(Value::Date(local.div_euclid(DAY_MICROS) as i32))
}

fn local_time(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Time(zone(call).to_local(call.context.transaction_time).rem_euclid(DAY_MICROS)))
}

fn age(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Interval(age_between(moment(&a[0]), moment(&a[1]))?))
}

fn age_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let zone = zone(call);
    Ok(Value::Interval(age_between(zone.to_local(moment(&a[0])), zone.to_local(moment(&a[1])))?))
}

/// Since midnight of today.
fn age_today(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let zone = zone(call);
    let today = truncate("day", zone.to_local(call.context.transaction_time), &Type::Timestamp(None))?;
    let then = if matches!(a[0], Value::Timestamptz(_)) { zone.to_local(moment(&a[0])) } else { moment(&a[0]) };
    Ok(Value::Interval(age_between(today, then)?))
}

fn to_timestamp(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let seconds = float(&a[0]);
    let micros = (seconds * 1e6).round() - UNIX_OFFSET_SECONDS as f64 * 1e6;
    if seconds.is_infinite() {
        return Ok(Value::Timestamptz(if seconds > 0.0 { i64::MAX } else { i64::MIN }));
    }
    if seconds.is_nan() || micros.abs() > 9.2e18 {
        return Err(out_of_range("timestamp"));
    }
    Ok(Value::Timestamptz(Civil::of_timestamp(micros as i64).timestamp()?))
}

fn at_zone(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let zone = match &a[0] {
        Value::Interval(offset) => Zone::Fixed((offset.micros / SECOND_MICROS) as i32),
        name => zone_named(text(name))?,
    };
    Ok(match &a[1] {
        Value::Timestamptz(t) if is_finite(*t) => Value::Timestamp(valid_timestamp(zone.to_local(*t))?),
        Value::Timestamp(t) if is_finite(*t) => Value::Timestamptz(valid_timestamp(zone.to_utc(*t))?),
        Value::Timestamptz(t) => Value::Timestamp(*t),
        Value::Timestamp(t) => Value::Timestamptz(*t),
        _ => return Err(SqlError::internal(format!("no time zone for {}", call.types[1]))),
    })
}

fn make_date(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (year, month, day) = (int(&a[0]), int(&a[1]), int(&a[2]));
    let year_zero = if year < 0 { year + 1 } else { year };
    if year == 0
        || !(1..=12).contains(&month)
        || day < 1
        || day > month_days(year_zero, month)
        || year.abs() > 5_000_000
    {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        ));
    }
    Ok(Value::Date(days_of(year_zero, month, day) as i32))
}

/// Microseconds of a time of day given in parts.
fn clock_of(hour: i64, minute: i64, seconds: f64) -> Result<i64> {
    let error = || {
        let message = format!("time field value out of range: {hour}:{minute:02}:{seconds:02}");
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
    };
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&seconds) {
        return Err(error());
    }
    let micros = (hour * 3600 + minute * 60) * SECOND_MICROS + (seconds * 1e6).round() as i64;
    if micros > DAY_MICROS { Err(error()) } else { Ok(micros) }
}

fn make_time(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Time(clock_of(int(&a[0]), int(&a[1]), float(&a[2]))?))
}

fn make_local(a: &[Value], call: &Call<'_>) -> Result<i64> {
    let days = moment(&make_date(&a[..3], call)?);
    let micros = clock_of(int(&a[3]), int(&a[4]), float(&a[5]))?;
    days.checked_mul(DAY_MICROS)
        .and_then(|midnight| midnight.checked_add(micros))
        .ok_or_else(|| out_of_range("timestamp"))
        .and_then(valid_timestamp)
}

fn make_timestamp(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamp(make_local(a, call)?))
}

fn make_timestamptz(a: &[Value], call: &Call<'_>) -> Result<Value> {
    // Unlike with AT TIME ZONE, an offset counts eastward.
    let zone = match a.get(6).map(text) {
        Some(name) => {
            Zone::by_name(name).ok_or_else(|| bad_parameter(format!("time zone \"{name}\" not recognized")))?
        }
        None => zone(call),
    };
    Ok(Value::Timestamptz(valid_timestamp(zone.to_utc(make_local(a, call)?))?))
}

/// The start of the stride, counted from an origin, in which a time lies.
fn bin(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let (stride, time, origin) = (interval(&a[0]), moment(&a[1]), moment(&a[2]));
    let error = |message: &str| Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    if !is_finite(time) {
        return Ok(a[1].clone());
    }
    if !is_finite(origin) {
        return error("origin out of range");
    }
    if stride.months != 0 {
        return Err(SqlError::unsupported("a stride of date_bin with months or years"));
    }
    let step = stride.total_micros();
    if step <= 0 {
        return error("stride must be greater than zero");
    }
    let start = i128::from(origin) + (i128::from(time) - i128::from(origin)).div_euclid(step) * step;
    let start = valid_timestamp(i64::try_from(start).map_err(|_| out_of_range("timestamp"))?)?;
    Ok(if matches!(call.result, Type::Timestamptz(_)) { Value::Timestamptz(start) } else { Value::Timestamp(start) })
}

fn make_interval(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let part = |i: usize| a.get(i).map_or(0, int);
    let error = || out_of_range("interval");
    let months = i32::try_from(part(0) * 12 + part(1)).map_err(|_| error())?;
    let days = i32::try_from(part(2) * 7 + part(3)).map_err(|_| error())?;
    let seconds = a.get(6).map_or(0.0, float) * 1e6;
    if seconds.is_nan() || seconds.abs() > 9e18 {
        return Err(error());
    }
    let whole = (i128::from(part(4)) * 3600 + i128::from(part(5)) * 60) * i128::from(SECOND_MICROS);
    let micros = i64::try_from(whole + seconds.round() as i128).map_err(|_| error())?;
    Ok(Value::Interval(Interval { months, days, micros }))
}

/// Hours beyond a day become days, and both get the same sign.
fn justified_hours(span: &Interval) -> Result<Interval> {
    let moved = Interval { months: 0, days: (span.micros / DAY_MICROS) as i32, micros: 0 };
    let mut span = interval_sum(&Interval { micros: span.micros % DAY_MICROS, ..*span }, &moved)?;
    if span.days > 0 && span.micros < 0 {
        (span.days, span.micros) = (span.days - 1, span.micros + DAY_MICROS);
    } else if span.days < 0 && span.micros > 0 {
        (span.days, span.micros) = (span.days + 1, span.micros - DAY_MICROS);
    }
    Ok(span)
}

/// Days beyond thirty become months, and both get the same sign.
fn justified_days(span: &Interval) -> Result<Interval> {
    let moved = Interval { months: span.days / 30, days: 0, micros: 0 };
    let mut span = interval_sum(&Interval { days: span.days % 30, ..*span }, &moved)?;
    if span.months > 0 && span.days < 0 {
        (span.months, span.days) = (span.months - 1, span.days + 30);
    } else if span.months < 0 && span.days > 0 {
        (span.months, span.days) = (span.months + 1, span.days - 30);
    }
    Ok(span)
}

/// Both of these, and one sign for all parts.
fn justified(span: &Interval) -> Result<Interval> {
    let mut span = justified_days(&justified_hours(span)?)?;
    let later_negative = |span: &Interval| span.days < 0 || (span.days == 0 && span.micros < 0);
    let later_positive = |span: &Interval| span.days > 0 || (span.days == 0 && span.micros > 0);
    if span.months > 0 && later_negative(&span) {
        (span.months, span.days) = (span.months - 1, span.days + 30);
    } else if span.months < 0 && later_positive(&span) {
        (span.months, span.days) = (span.months + 1, span.days - 30);
    }
    if span.days > 0 && span.micros < 0 {
        (span.days, span.micros) = (span.days - 1, span.micros + DAY_MICROS);
    } else if span.days < 0 && span.micros > 0 {
        (span.days, span.micros) = (span.days + 1, span.micros - DAY_MICROS);
    }
    Ok(span)
}

fn justify(a: &[Value], justified: fn(&Interval) -> Result<Interval>) -> Result<Value> {
    Ok(Value::Interval(justified(&interval(&a[0]))?))
}

fn is_finite_value(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(match &a[0] {
        Value::Timestamptz(t) | Value::Timestamp(t) => is_finite(*t),
        Value::Date(days) => *days != i32::MAX && *days != i32::MIN,
        _ => true,
    }))
}

fn date_of_value(a: &[Value], call: &Call<'_>) -> Result<Value> {
    crate::types::cast(&a[0], &call.types[0], &Type::Date, crate::types::CastContext::Explicit, call.context)
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("now", "", "timestamptz", now).stable(),
    Entry::scalar("transaction_timestamp", "", "timestamptz", now).stable(),
    Entry::scalar("current_timestamp", "", "timestamptz", now).stable(),
    Entry::scalar("statement_timestamp", "", "timestamptz", statement_time).stable(),
    Entry::scalar("clock_timestamp", "", "timestamptz", clock_time).volatile(),
    Entry::scalar("localtimestamp", "", "timestamp", local_now).stable(),
    Entry::scalar("current_timestamp", "int4", "timestamptz", |a, call| with_digits(now, a, call)).stable(),
    Entry::scalar("localtimestamp", "int4", "timestamp", |a, call| with_digits(local_now, a, call)).stable(),
    Entry::scalar("localtime", "int4", "time", |a, call| with_digits(local_time, a, call)).stable(),
    Entry::scalar("current_time", "int4", "time", |a, call| with_digits(local_time, a, call)).stable(),
    Entry::scalar("current_date", "", "date", today).stable(),
    Entry::scalar("localtime", "", "time", local_time).stable(),
    Entry::scalar("current_time", "", "time", local_time).stable(),
    Entry::scalar("age", "timestamptz timestamptz", "interval", age_zoned).stable(),
    Entry::scalar("age", "timestamp timestamp", "interval", age),
    Entry::scalar("age", "timestamptz", "interval", age_today).stable(),
    Entry::scalar("age", "timestamp", "interval", age_today).stable(),
    Entry::scalar("to_timestamp", "float8", "timestamptz", to_timestamp),
    Entry::scalar("timezone", "text timestamptz", "timestamp", at_zone),
    Entry::scalar("timezone", "text timestamp", "timestamptz", at_zone),
    Entry::scalar("timezone", "interval timestamptz", "timestamp", at_zone),
    Entry::scalar("timezone", "interval timestamp", "timestamptz", at_zone),
    Entry::scalar("make_date", "int4 int4 int4", "date", make_date),
    Entry::scalar("make_interval", "int4 int4 int4 int4 int4 int4 float8", "interval", make_interval),
    Entry::scalar("make_interval", "", "interval", make_interval),
    Entry::scalar("make_interval", "int4", "interval", make_interval),
    Entry::scalar("make_interval", "int4 int4", "interval", make_interval),
    Entry::scalar("make_interval", "int4 int4 int4", "interval", make_interval),
    Entry::scalar("make_interval", "int4 int4 int4 int4", "interval", make_interval),
    Entry::scalar("make_interval", "int4 int4 int4 int4 int4", "interval", make_interval),
    Entry::scalar("make_interval", "int4 int4 int4 int4 int4 int4", "interval", make_interval),
    Entry::scalar("make_time", "int4 int4 float8", "time", make_time),
    Entry::scalar("make_timestamp", "int4 int4 int4 int4 int4 float8", "timestamp", make_timestamp),
    Entry::scalar("make_timestamptz", "int4 int4 int4 int4 int4 float8", "timestamptz", make_timestamptz).stable(),
    Entry::scalar("make_timestamptz", "int4 int4 int4 int4 int4 float8 text", "timestamptz", make_timestamptz),
    Entry::scalar("date_bin", "interval timestamp timestamp", "timestamp", bin),
    Entry::scalar("date_bin", "interval timestamptz timestamptz", "timestamptz", bin),
    Entry::scalar("justify_hours", "interval", "interval", |a, _| justify(a, justified_hours)),
    Entry::scalar("justify_days", "interval", "interval", |a, _| justify(a, justified_days)),
    Entry::scalar("justify_interval", "interval", "interval", |a, _| justify(a, justified)),
    Entry::scalar("isfinite", "interval", "bool", is_finite_value),
    Entry::scalar("isfinite", "timestamptz", "bool", is_finite_value),
    Entry::scalar("isfinite", "timestamp", "bool", is_finite_value),
    Entry::scalar("isfinite", "date", "bool", is_finite_value),
    Entry::scalar("date", "timestamptz", "date", date_of_value).stable(),
    Entry::scalar("date", "timestamp", "date", date_of_value),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("+", "timestamptz interval", "timestamptz", add_to_zoned).stable(),
    Entry::scalar("+", "interval timestamptz", "timestamptz", zoned_added).stable(),
    Entry::scalar("-", "timestamptz interval", "timestamptz", subtract_from_zoned).stable(),
    Entry::scalar("+", "timestamp interval", "timestamp", add_to_timestamp),
    Entry::scalar("+", "interval timestamp", "timestamp", timestamp_added),
    Entry::scalar("-", "timestamp interval", "timestamp", subtract_from_timestamp),
    Entry::scalar("+", "date interval", "timestamp", add_to_date),
    Entry::scalar("+", "interval date", "timestamp", date_interval_added),
    Entry::scalar("-", "date interval", "timestamp", subtract_from_date),
    Entry::scalar("-", "timestamptz timestamptz", "interval", timestamps_apart),
    Entry::scalar("-", "timestamp timestamp", "interval", timestamps_apart),
    Entry::scalar("+", "date int4", "date", date_plus),
    Entry::scalar("+", "int4 date", "date", date_added),
    Entry::scalar("-", "date int4", "date", date_minus),
    Entry::scalar("-", "date date", "int4", dates_apart),
    Entry::scalar("+", "date time", "timestamp", date_plus_time),
    Entry::scalar("+", "time date", "timestamp", time_plus_date),
    Entry::scalar("+", "time interval", "time", time_plus),
    Entry::scalar("+", "interval time", "time", time_added),
    Entry::scalar("-", "time interval", "time", time_minus),
    Entry::scalar("-", "time time", "interval", times_apart),
    Entry::scalar("+", "interval interval", "interval", intervals_sum),
    Entry::scalar("-", "interval interval", "interval", intervals_apart),
    Entry::scalar("-", "interval", "interval", negate),
    Entry::scalar("*", "interval float8", "interval", times_factor),
    Entry::scalar("*", "float8 interval", "interval", factor_times),
    Entry::scalar("/", "interval float8", "interval", over),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_comes_twice_is_not_confused() {
        let berlin = Zone::by_name("Europe/Berlin").unwrap();
        // 2024-10-27 00:30 UTC is the first 02:30 of that night.
        let first = Civil { year: 2024, month: 10, day: 27, micros: 30 * 60 * SECOND_MICROS }.timestamp().unwrap();
        let minutes = |count: i64| Interval { months: 0, days: 0, micros: count * 60 * SECOND_MICROS };
        for count in [0, 5, 30, 60, 120] {
            let sum = zoned_sum(&berlin, first, &minutes(count)).unwrap();
            assert_eq!(sum - first, count * 60 * SECOND_MICROS);
        }
        // A day later by the clock on the wall is 25 hours later.
        let day = Interval { months: 0, days: 1, micros: 0 };
        let midnight = first - 150 * 60 * SECOND_MICROS;
        assert_eq!(zoned_sum(&berlin, midnight, &day).unwrap() - midnight, 25 * 3600 * SECOND_MICROS);
    }
}
