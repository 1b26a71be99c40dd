//! Dates and times by template: `to_char`, `to_date`, `to_timestamp`.

use super::datetime::{iso_week, weekday_monday, zone};
use super::registry::{Call, Entry};
use super::values::{moment, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::Value;
use crate::types::calendar::{Civil, DAY_MICROS, SECOND_MICROS, days_of, is_finite, month_days};

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

/// `to_char` for dates and times: the patterns that people use; what is none stays as it is.
fn format_time(local: i64, offset: Option<i32>, template: &str) -> String {
    let civil = Civil::of_timestamp(local);
    let days = civil.days();
    let hour = civil.micros / (3600 * SECOND_MICROS);
    let hour_12 = (hour + 11) % 12 + 1;
    let month = MONTHS[(civil.month - 1) as usize];
    let weekday = WEEKDAYS[weekday_monday(days) as usize];
    let micros = civil.micros % SECOND_MICROS;
    let noon = |upper: bool| match (hour >= 12, upper) {
        (true, true) => "PM",
        (true, false) => "pm",
        (false, true) => "AM",
        (false, false) => "am",
    };
    let patterns: [(&str, &dyn Fn() -> String); 40] = [
        ("HH24", &|| format!("{hour:02}")),
        ("HH12", &|| format!("{hour_12:02}")),
        ("HH", &|| format!("{hour_12:02}")),
        ("hh24", &|| format!("{hour:02}")),
        ("hh12", &|| format!("{hour_12:02}")),
        ("MI", &|| format!("{:02}", civil.micros / (60 * SECOND_MICROS) % 60)),
        ("mi", &|| format!("{:02}", civil.micros / (60 * SECOND_MICROS) % 60)),
        ("SSSS", &|| (civil.micros / SECOND_MICROS).to_string()),
        ("SS", &|| format!("{:02}", civil.micros / SECOND_MICROS % 60)),
        ("ss", &|| format!("{:02}", civil.micros / SECOND_MICROS % 60)),
        ("MS", &|| format!("{:03}", micros / 1000)),
        ("US", &|| format!("{micros:06}")),
        ("YYYY", &|| format!("{:04}", civil.year)),
        ("yyyy", &|| format!("{:04}", civil.year)),
        ("YY", &|| format!("{:02}", civil.year.rem_euclid(100))),
        ("yy", &|| format!("{:02}", civil.year.rem_euclid(100))),
        ("IYYY", &|| format!("{:04}", iso_week(days).0)),
        ("IW", &|| format!("{:02}", iso_week(days).1)),
        ("MONTH", &|| format!("{:<9}", month.to_uppercase())),
        ("Month", &|| format!("{month:<9}")),
        ("month", &|| format!("{:<9}", month.to_lowercase())),
        ("MON", &|| month[..3].to_uppercase()),
        ("Mon", &|| month[..3].to_string()),
        ("mon", &|| month[..3].to_lowercase()),
        ("MM", &|| format!("{:02}", civil.month)),
        ("mm", &|| format!("{:02}", civil.month)),
        ("DAY", &|| format!("{:<9}", weekday.to_uppercase())),
        ("Day", &|| format!("{weekday:<9}")),
        ("day", &|| format!("{:<9}", weekday.to_lowercase())),
        ("DDD", &|| format!("{:03}", days - days_of(civil.year, 1, 1) + 1)),
        ("DD", &|| format!("{:02}", civil.day)),
        ("dd", &|| format!("{:02}", civil.day)),
        ("DY", &|| weekday[..3].to_uppercase()),
        ("Dy", &|| weekday[..3].to_string()),
        ("D", &|| ((weekday_monday(days) + 1) % 7 + 1).to_string()),
        ("Q", &|| ((civil.month - 1) / 3 + 1).to_string()),
        ("AM", &|| noon(true).to_string()),
        ("PM", &|| noon(true).to_string()),
        ("am", &|| noon(false).to_string()),
        ("pm", &|| noon(false).to_string()),
    ];
    let zone_text = || {
        let offset = offset.unwrap_or(0);
        let minutes = (offset.abs() / 60) % 60;
        let tail = if minutes != 0 { format!(":{minutes:02}") } else { String::new() };
        format!("{}{:02}{tail}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600)
    };
    let mut out = String::new();
    let mut rest = template;
    let mut trim = false;
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or("");
        } else if let Some(after) = rest.strip_prefix("FM") {
            trim = true;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("OF").or_else(|| rest.strip_prefix("TZH:TZM")) {
            out.push_str(&zone_text());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("TZ") {
            if offset == Some(0) {
                out.push_str("UTC");
            } else if offset.is_some() {
                out.push_str(&zone_text());
            }
            rest = after;
        } else if let Some((pattern, render)) =
            patterns.iter().filter(|(pattern, _)| rest.starts_with(pattern)).max_by_key(|(pattern, _)| pattern.len())
        {
            let text = render();
            let trimmed = text.trim_end().trim_start_matches('0');
            out.push_str(if !trim {
                &text
            } else if trimmed.is_empty() {
                "0"
            } else {
                trimmed
            });
            trim = false;
            rest = &rest[pattern.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

fn char_timestamp(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let time = moment(&a[0]);
    Ok(if is_finite(time) { Value::text(format_time(time, None, text(&a[1]))) } else { Value::Null })
}

fn char_zoned(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let (time, zone) = (moment(&a[0]), zone(call));
    if !is_finite(time) {
        return Ok(Value::Null);
    }
    Ok(Value::text(format_time(zone.to_local(time), Some(zone.offset_at(time)), text(&a[1]))))
}

/// `to_date` and `to_timestamp` with a template of digits and separators.
fn by_template(input: &str, template: &str) -> Result<Civil> {
    let mut civil = Civil { year: 1, month: 1, day: 1, micros: 0 };
    let mut rest = input.trim_start();
    let mut pattern = template;
    let mut afternoon = None;
    let invalid =
        || SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{input}\" for \"{template}\""));
    while let Some(first) = pattern.chars().next() {
        let known =
            ["YYYY", "HH24", "HH12", "MON", "Mon", "mon", "MM", "DD", "HH", "MI", "SS", "MS", "US", "AM", "PM", "YY"];
        let Some(name) =
            known.iter().find(|name| pattern.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name)))
        else {
            pattern = &pattern[first.len_utf8()..];
            let separator = rest.chars().next();
            if separator.is_some_and(|c| !c.is_alphanumeric()) || (separator == Some(first)) {
                rest = &rest[separator.map_or(0, char::len_utf8)..];
            }
            continue;
        };
        pattern = &pattern[name.len()..];
        let upper = name.to_ascii_uppercase();
        if upper == "MON" {
            let word = rest.get(..3).ok_or_else(invalid)?;
            let at = MONTHS.iter().position(|month| month[..3].eq_ignore_ascii_case(word)).ok_or_else(invalid)?;
            civil.month = at as i64 + 1;
            rest = &rest[3..];
            continue;
        }
        if upper == "AM" || upper == "PM" {
            afternoon = Some(rest.get(..2).ok_or_else(invalid)?.eq_ignore_ascii_case("pm"));
            rest = &rest[2..];
            continue;
        }
        let width = match upper.as_str() {
            "YYYY" => 4,
            "US" => 6,
            "MS" => 3,
            _ => 2,
        };
        let end = rest.bytes().take(width).take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        match upper.as_str() {
            "YYYY" => civil.year = value,
            "YY" => civil.year = if value < 70 { 2000 + value } else { 1900 + value },
            "MM" => civil.month = value,
            "DD" => civil.day = value,
            "HH24" | "HH12" | "HH" => civil.micros += value * 3600 * SECOND_MICROS,
            "MI" => civil.micros += value * 60 * SECOND_MICROS,
            "SS" => civil.micros += value * SECOND_MICROS,
            "MS" => civil.micros += value * 10i64.pow(6 - end as u32),
            _ => civil.micros += value * 10i64.pow(6 - end as u32),
        }
    }
    let hour = civil.micros / (3600 * SECOND_MICROS);
    match afternoon {
        Some(true) if hour < 12 => civil.micros += DAY_MICROS / 2,
        Some(false) if hour == 12 => civil.micros -= DAY_MICROS / 2,
        _ => {}
    }
    let valid = (1..=12).contains(&civil.month) && civil.day >= 1 && civil.day <= month_days(civil.year, civil.month);
    if !valid || civil.micros > DAY_MICROS {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{input}\""),
        ));
    }
    Ok(civil)
}

fn to_date(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Date(by_template(text(&a[0]), text(&a[1]))?.days() as i32))
}

fn to_timestamp_template(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamptz(zone(call).to_utc(by_template(text(&a[0]), text(&a[1]))?.timestamp()?)))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("to_timestamp", "text text", "timestamptz", to_timestamp_template).stable(),
    Entry::scalar("to_date", "text text", "date", to_date),
    Entry::scalar("to_char", "timestamptz text", "text", char_zoned).stable(),
    Entry::scalar("to_char", "timestamp text", "text", char_timestamp),
];
