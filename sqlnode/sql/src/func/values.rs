//! Taking arguments apart. Their types were fixed when the function was found, so the fallbacks are never seen.

use std::sync::Arc;

use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, Interval, Json, Numeric, Type, Value};

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(super) fn int(value: &Value) -> i64 {
    match value {
        Value::Int4(value) => i64::from(*value),
        other => other.as_i64().unwrap_or(0),
    }
}

pub(super) fn float(value: &Value) -> f64 {
    match value {
        Value::Float8(value) => *value,
        Value::Float4(value) => f64::from(*value),
        _ => 0.0,
    }
}

pub(super) fn boolean(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

pub(super) fn numeric(value: &Value) -> Numeric {
    match value {
        Value::Numeric(value) => value.clone(),
        other => Numeric::from(other.as_i64().unwrap_or(0)),
    }
}

pub(super) fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Bytea(bytes) => bytes,
        _ => &[],
    }
}

pub(super) fn json(value: &Value) -> &Json {
    match value {
        Value::Jsonb(json) => json,
        _ => &Json::Null,
    }
}

pub(super) fn interval(value: &Value) -> Interval {
    match value {
        Value::Interval(interval) => *interval,
        _ => Interval::default(),
    }
}

/// The microseconds of a timestamp or time, the days of a date.
pub(super) fn moment(value: &Value) -> i64 {
    match value {
        Value::Timestamptz(t) | Value::Timestamp(t) | Value::Time(t) => *t,
        Value::Date(days) => i64::from(*days),
        _ => 0,
    }
}

pub(super) fn array(value: &Value) -> Arc<Array> {
    match value {
        Value::Array(array) => array.clone(),
        _ => Arc::new(Array::flat(Type::Text, Vec::new())),
    }
}

pub(super) fn int4(value: usize) -> Value {
    Value::Int4(i32::try_from(value).unwrap_or(i32::MAX))
}

/// An error about a parameter's value (22023).
pub(super) fn bad_parameter(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

pub(super) fn overflow(ty: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{ty} out of range"))
}

pub(super) fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// Bytes that one function call may produce.
pub(super) const RESULT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Refuses results that a small statement blew up.
pub(super) fn check_size(bytes: usize) -> Result<()> {
    if bytes > RESULT_BYTES_MAX {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large"));
    }
    Ok(())
}
