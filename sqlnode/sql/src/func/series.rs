//! Functions that give rows.

use super::convert::json_text;
use super::pattern::{flags_without_g, split};
use super::registry::{Call, Entry, Rows};
use super::values::{array, bad_parameter, int, interval, json, moment, numeric, text};
use crate::error::{Result, SqlError};
use crate::types::calendar::{Zone, add_interval};
use crate::types::{Interval, Json, Numeric, Record, Type, Value};

fn zero_step() -> SqlError {
    bad_parameter("step size cannot equal zero")
}

fn rows(values: Vec<Value>) -> Result<Rows> {
    Ok(Box::new(values.into_iter().map(Ok)))
}

fn integers(a: &[Value], call: &Call<'_>) -> Result<Rows> {
    let (start, stop, step) = (int(&a[0]), int(&a[1]), a.get(2).map_or(1, int));
    if step == 0 {
        return Err(zero_step());
    }
    let wide = *call.result == Type::Int8;
    let next = move |value: &i64| value.checked_add(step);
    let inside = move |value: &i64| if step > 0 { *value <= stop } else { *value >= stop };
    let value = move |value: i64| Ok(if wide { Value::Int8(value) } else { Value::Int4(value as i32) });
    Ok(Box::new(std::iter::successors(Some(start), next).take_while(inside).map(value)))
}

fn decimals(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    let (start, stop) = (numeric(&a[0]), numeric(&a[1]));
    let step = a.get(2).map_or(Numeric::from(1), numeric);
    if step.signum() == 0 {
        return Err(zero_step());
    }
    let up = step.signum() > 0;
    let next = move |value: &Numeric| value.add(&step).ok();
    let inside = move |value: &Numeric| if up { *value <= stop } else { *value >= stop };
    Ok(Box::new(std::iter::successors(Some(start), next).take_while(inside).map(|value| Ok(Value::Numeric(value)))))
}

fn times(a: &[Value], call: &Call<'_>) -> Result<Rows> {
    let step = interval(&a[2]);
    let direction = step.total_micros().signum();
    if direction == 0 {
        return Err(zero_step());
    }
    let stop = moment(&a[1]);
    let zoned = *call.result == Type::Timestamptz(None);
    let zone = Zone::session(call.context.time_zone);
    let add = move |time: i64, step: &Interval| {
        if zoned { super::datetime::zoned_sum(&zone, time, step) } else { add_interval(time, step) }
    };
    let next = move |time: &i64| add(*time, &step).ok().filter(|after| (after > time) == (direction > 0));
    let inside = move |time: &i64| if direction > 0 { *time <= stop } else { *time >= stop };
    let value = move |time: i64| Ok(if zoned { Value::Timestamptz(time) } else { Value::Timestamp(time) });
    Ok(Box::new(std::iter::successors(Some(moment(&a[0])), next).take_while(inside).map(value)))
}

fn unnest(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(array(&a[0]).values.clone())
}

fn subscripts(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    let at = usize::try_from(int(&a[1])).unwrap_or(0).wrapping_sub(1);
    let Some((length, lower)) = array(&a[0]).dimensions.get(at).copied() else { return rows(Vec::new()) };
    rows((0..length).map(|i| Value::Int4(lower.saturating_add(i as i32))).collect())
}

fn elements(json: &Json) -> Result<&[Json]> {
    match json {
        Json::Array(values) => Ok(values),
        Json::Object(_) => Err(bad_parameter("cannot extract elements from an object")),
        _ => Err(bad_parameter("cannot extract elements from a scalar")),
    }
}

fn json_elements(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(elements(json(&a[0]))?.iter().cloned().map(Value::json).collect())
}

fn json_elements_text(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(elements(json(&a[0]))?.iter().map(json_text).collect())
}

fn json_keys(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    match json(&a[0]) {
        Json::Object(pairs) => rows(pairs.iter().map(|(key, _)| Value::text(key)).collect()),
        Json::Array(_) => Err(bad_parameter("cannot call jsonb_object_keys on an array")),
        _ => Err(bad_parameter("cannot call jsonb_object_keys on a scalar")),
    }
}

fn json_pairs(json: &Json) -> Result<&[(String, Json)]> {
    match json {
        Json::Object(pairs) => Ok(pairs),
        _ => Err(bad_parameter("cannot call jsonb_each on a non-object")),
    }
}

fn json_values(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(json_pairs(json(&a[0]))?.iter().map(|(_, value)| Value::json(value.clone())).collect())
}

fn json_values_text(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(json_pairs(json(&a[0]))?.iter().map(|(_, value)| json_text(value)).collect())
}

/// Keys and values as rows.
fn json_each(a: &[Value], ty: Type, value: fn(&Json) -> Value) -> Result<Rows> {
    let names: std::sync::Arc<[String]> = ["key".to_string(), "value".to_string()].into();
    let row = |(key, json): &(String, Json)| {
        let fields = vec![(Type::Text, Value::text(key)), (ty.clone(), value(json))];
        Value::Record(std::sync::Arc::new(Record { fields, names: Some(names.clone()) }))
    };
    rows(json_pairs(json(&a[0]))?.iter().map(row).collect())
}

fn split_rows(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(split(text(&a[0]), text(&a[1]), flags_without_g(a, 2, "regexp_split_to_table")?)?)
}

fn string_rows(a: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(super::string::split_string(a))
}

/// Tables have no partitions here.
fn no_rows(_: &[Value], _: &Call<'_>) -> Result<Rows> {
    rows(Vec::new())
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::set("pg_partition_ancestors", "regclass", "regclass", no_rows).stable(),
    Entry::set("generate_series", "int4 int4", "int4", integers),
    Entry::set("generate_series", "int4 int4 int4", "int4", integers),
    Entry::set("generate_series", "int8 int8", "int8", integers),
    Entry::set("generate_series", "int8 int8 int8", "int8", integers),
    Entry::set("generate_series", "numeric numeric", "numeric", decimals),
    Entry::set("generate_series", "numeric numeric numeric", "numeric", decimals),
    Entry::set("generate_series", "timestamp timestamp interval", "timestamp", times),
    Entry::set("generate_series", "timestamptz timestamptz interval", "timestamptz", times).stable(),
    Entry::set("generate_subscripts", "anyarray int4", "int4", subscripts),
    Entry::set("unnest", "anyarray", "anyelement", unnest),
    Entry::set("jsonb_array_elements", "jsonb", "jsonb", json_elements),
    Entry::set("jsonb_array_elements_text", "jsonb", "text", json_elements_text),
    Entry::set("jsonb_object_keys", "jsonb", "text", json_keys),
    Entry::set("jsonb_object_values", "jsonb", "jsonb", json_values),
    Entry::set("jsonb_object_values_text", "jsonb", "text", json_values_text),
    Entry::set("json_object_values", "json", "json", json_values),
    Entry::set("json_object_values_text", "json", "text", json_values_text),
    Entry::set("jsonb_each", "jsonb", "record", |a, _| json_each(a, Type::Jsonb, |json| Value::json(json.clone()))),
    Entry::set("jsonb_each_text", "jsonb", "record", |a, _| json_each(a, Type::Text, json_text)),
    Entry::set("json_each", "json", "record", |a, _| json_each(a, Type::Json, |json| Value::json(json.clone()))),
    Entry::set("json_each_text", "json", "record", |a, _| json_each(a, Type::Text, json_text)),
    Entry::set("json_array_elements", "json", "json", json_elements),
    Entry::set("json_array_elements_text", "json", "text", json_elements_text),
    Entry::set("json_object_keys", "json", "text", json_keys),
    Entry::set("regexp_split_to_table", "text text", "text", split_rows),
    Entry::set("regexp_split_to_table", "text text text", "text", split_rows),
    Entry::set("string_to_table", "text text", "text", string_rows).with_nulls(),
    Entry::set("string_to_table", "text text text", "text", string_rows).with_nulls(),
];
