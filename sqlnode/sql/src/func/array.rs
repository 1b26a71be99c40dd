//! Arrays.

use std::sync::Arc;

use super::registry::{Call, Entry};
use super::values::{array, check_size, int, int4, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, Value, encode_text};

fn mismatch() -> SqlError {
    SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot concatenate incompatible arrays")
}

fn concatenate(left: &Array, right: &Array) -> Result<Value> {
    if left.dimensions.is_empty() {
        return Ok(Value::Array(Arc::new(right.clone())));
    }
    if right.dimensions.is_empty() {
        return Ok(Value::Array(Arc::new(left.clone())));
    }
    let mut dimensions = left.dimensions.clone();
    if left.dimensions.len() == right.dimensions.len() && left.dimensions[1..] == right.dimensions[1..] {
        dimensions[0].0 += right.dimensions[0].0;
    } else if left.dimensions[1..] == right.dimensions[..] {
        dimensions[0].0 += 1;
    } else if left.dimensions[..] == right.dimensions[1..] {
        dimensions = right.dimensions.clone();
        dimensions[0].0 += 1;
    } else {
        return Err(mismatch());
    }
    let values: Vec<Value> = left.values.iter().chain(&right.values).cloned().collect();
    check_size(values.len().saturating_mul(std::mem::size_of::<Value>()))?;
    Ok(Value::Array(Arc::new(Array { element: left.element.clone(), dimensions, values })))
}

/// One array is the other when one of them is NULL.
fn cat(a: &[Value], _: &Call<'_>) -> Result<Value> {
    match (&a[0], &a[1]) {
        (Value::Null, other) | (other, Value::Null) => Ok(other.clone()),
        (left, right) => concatenate(&array(left), &array(right)),
    }
}

fn element_of<'a>(call: &'a Call<'_>) -> &'a crate::types::Type {
    call.result.element().unwrap_or(call.result)
}

fn append(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let one = Array::flat(element_of(call).clone(), vec![a[1].clone()]);
    let before = if a[0].is_null() { Arc::new(Array::flat(one.element.clone(), Vec::new())) } else { array(&a[0]) };
    if before.dimensions.len() > 1 {
        return Err(mismatch());
    }
    concatenate(&before, &one)
}

fn prepend(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let one = Array::flat(element_of(call).clone(), vec![a[0].clone()]);
    let after = if a[1].is_null() { Arc::new(Array::flat(one.element.clone(), Vec::new())) } else { array(&a[1]) };
    if after.dimensions.len() > 1 {
        return Err(mismatch());
    }
    concatenate(&one, &after)
}

fn dimension(a: &[Value]) -> Option<(usize, i32)> {
    let at = usize::try_from(int(&a[1])).ok()?.checked_sub(1)?;
    array(&a[0]).dimensions.get(at).copied()
}

fn length(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(dimension(a).map_or(Value::Null, |(length, _)| int4(length)))
}

fn lower(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(dimension(a).map_or(Value::Null, |(_, lower)| Value::Int4(lower)))
}

fn upper(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let upper = |(length, lower): (usize, i32)| i64::from(lower) + length as i64 - 1;
    Ok(dimension(a).map_or(Value::Null, |d| Value::Int4(i32::try_from(upper(d)).unwrap_or(i32::MAX))))
}

fn dimensions(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let count = array(&a[0]).dimensions.len();
    Ok(if count == 0 { Value::Null } else { int4(count) })
}

fn cardinality(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(int4(array(&a[0]).values.len()))
}

/// NULLs count as equal to each other here, unlike in `= ANY`.
fn position(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let array = array(&a[0]);
    let lower = array.dimensions.first().map_or(1, |(_, lower)| *lower);
    let found = array.values.iter().position(|value| *value == a[1]);
    Ok(found.map_or(Value::Null, |at| Value::Int4(lower.saturating_add(at as i32))))
}

fn remove(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let array = array(&a[0]);
    let kept = array.values.iter().filter(|value| **value != a[1]).cloned().collect();
    Ok(Value::array(array.element.clone(), kept))
}

fn replace(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let mut changed = (*array(&a[0])).clone();
    for value in changed.values.iter_mut().filter(|value| **value == a[1]) {
        *value = a[2].clone();
    }
    Ok(Value::Array(Arc::new(changed)))
}

fn has_all(whole: &Array, part: &Array) -> bool {
    part.values.iter().all(|value| !value.is_null() && whole.values.contains(value))
}

fn contains(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(has_all(&array(&a[0]), &array(&a[1]))))
}

fn contained(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(has_all(&array(&a[1]), &array(&a[0]))))
}

fn overlaps(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (left, right) = (array(&a[0]), array(&a[1]));
    Ok(Value::Bool(left.values.iter().any(|value| !value.is_null() && right.values.contains(value))))
}

fn to_text(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a[0].is_null() || a[1].is_null() {
        return Ok(Value::Null);
    }
    let array = array(&a[0]);
    let instead = a.get(2).and_then(Value::as_str);
    let mut parts = Vec::new();
    for value in &array.values {
        match (value, instead) {
            (Value::Null, None) => {}
            (Value::Null, Some(instead)) => parts.push(instead.to_string()),
            (value, _) => parts.push(encode_text(value, &array.element, &call.context.text())),
        }
    }
    let joined = parts.join(text(&a[1]));
    check_size(joined.len())?;
    Ok(Value::text(joined))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("array_length", "anyarray int4", "int4", length),
    Entry::scalar("array_lower", "anyarray int4", "int4", lower),
    Entry::scalar("array_upper", "anyarray int4", "int4", upper),
    Entry::scalar("array_ndims", "anyarray", "int4", dimensions),
    Entry::scalar("cardinality", "anyarray", "int4", cardinality),
    Entry::scalar("array_append", "anyarray anyelement", "anyarray", append).with_nulls(),
    Entry::scalar("array_prepend", "anyelement anyarray", "anyarray", prepend).with_nulls(),
    Entry::scalar("array_cat", "anyarray anyarray", "anyarray", cat).with_nulls(),
    Entry::scalar("array_position", "anyarray anyelement", "int4", position).with_nulls(),
    Entry::scalar("array_remove", "anyarray anyelement", "anyarray", remove).with_nulls(),
    Entry::scalar("array_replace", "anyarray anyelement anyelement", "anyarray", replace).with_nulls(),
    Entry::scalar("array_to_string", "anyarray text", "text", to_text).stable().with_nulls(),
    Entry::scalar("array_to_string", "anyarray text text", "text", to_text).stable().with_nulls(),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("||", "anyarray anyarray", "anyarray", cat).with_nulls(),
    Entry::scalar("||", "anyarray anyelement", "anyarray", append).with_nulls(),
    Entry::scalar("||", "anyelement anyarray", "anyarray", prepend).with_nulls(),
    Entry::scalar("@>", "anyarray anyarray", "bool", contains),
    Entry::scalar("<@", "anyarray anyarray", "bool", contained),
    Entry::scalar("&&", "anyarray anyarray", "bool", overlaps),
];
