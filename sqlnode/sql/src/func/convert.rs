//! Between values and JSON, and text forms of any value.

use super::registry::{Call, Entry};
use super::values::{array, json};
use crate::error::Result;
use crate::func::EvalContext;
use crate::types::{Array, Json, Numeric, Type, Value, encode_text};

/// A value as JSON: numbers, booleans, arrays and rows as such, everything else as the text it prints.
pub(super) fn to_json(value: &Value, ty: &Type, context: &EvalContext<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int2(_) | Value::Int4(_) | Value::Int8(_) => Json::Number(Numeric::from(value.as_i64().unwrap_or(0))),
        Value::Numeric(number @ Numeric::Finite { .. }) => Json::Number(number.clone()),
        Value::Float4(_) | Value::Float8(_) => {
            let printed = encode_text(value, ty, &context.text());
            match Numeric::parse(&printed) {
                Ok(Some(number @ Numeric::Finite { .. })) => Json::Number(number),
                _ => Json::String(printed),
            }
        }
        Value::Jsonb(json) => (**json).clone(),
        Value::Array(array) => array_to_json(array, 0, &mut 0, context),
        Value::Record(fields) => Json::object(
            fields
                .iter()
                .enumerate()
                .map(|(i, (ty, value))| {
                    let name = fields.names.as_ref().and_then(|names| names.get(i).cloned());
                    (name.unwrap_or_else(|| format!("f{}", i + 1)), to_json(value, ty, context))
                })
                .collect(),
        ),
        // ISO 8601 has a T between date and time.
        Value::Timestamptz(_) | Value::Timestamp(_) => {
            let printed = encode_text(value, ty, &context.text()).replacen(' ', "T", 1);
            let short_zone =
                matches!(value, Value::Timestamptz(_)) && printed.rfind(['+', '-']) == printed.len().checked_sub(3);
            Json::String(if short_zone { format!("{printed}:00") } else { printed })
        }
        other => Json::String(encode_text(other, ty, &context.text())),
    }
}

/// A value as the key of an object.
pub(super) fn json_key(value: &Value, ty: &Type, context: &EvalContext<'_>) -> Result<String> {
    match to_json(value, ty, context) {
        Json::String(text) => Ok(text),
        Json::Array(_) | Json::Object(_) => {
            Err(super::values::bad_parameter("key value must be scalar, not array, composite, or json"))
        }
        _ if matches!(value, Value::Jsonb(_)) => {
            Err(super::values::bad_parameter("key value must be scalar, not array, composite, or json"))
        }
        // Digits as they print, 1.50 too.
        scalar => Ok(scalar.to_string()),
    }
}

fn array_to_json(array: &Array, depth: usize, at: &mut usize, context: &EvalContext<'_>) -> Json {
    let length = array.dimensions.get(depth).map_or(0, |(length, _)| *length);
    let item = |_| {
        if depth + 1 < array.dimensions.len() {
            return array_to_json(array, depth + 1, at, context);
        }
        let value = array.values.get(*at).unwrap_or(&Value::Null);
        *at += 1;
        to_json(value, &array.element, context)
    };
    Json::Array((0..length).map(item).collect())
}

/// What `->>` gives: the text of a string, the JSON of anything else, NULL for null.
pub(super) fn json_text(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::String(text) => Value::text(text),
        other => Value::text(other.to_string()),
    }
}

fn convert(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::json(to_json(&a[0], &call.types[0], call.context)))
}

fn typeof_name(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Oid(call.types[0].oid()))
}

fn pretty(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(json(&a[0]).pretty()))
}

fn array_json(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::json(array_to_json(&array(&a[0]), 0, &mut 0, call.context)))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("to_json", "any", "json", convert).stable(),
    Entry::scalar("to_jsonb", "any", "jsonb", convert).stable(),
    Entry::scalar("array_to_json", "anyarray", "json", array_json).stable(),
    Entry::scalar("row_to_json", "record", "json", convert).stable(),
    Entry::scalar("jsonb_pretty", "jsonb", "text", pretty),
    Entry::scalar("pg_typeof", "any", "regtype", typeof_name).with_nulls(),
];
