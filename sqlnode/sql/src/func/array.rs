//! Arrays.

use std::sync::Arc;

use super::registry::{Call, Entry};
use super::values::{array, check_size, int, int4, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Array, Type, Value, encode_text};

fn mismatch() -> SqlError {
    SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot concatenate incompatible arrays")
}

fn not_one_dimensional() -> SqlError {
    SqlError::new(SqlState::DATA_EXCEPTION, "argument must be empty or one-dimensional array")
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
        return Err(not_one_dimensional());
    }
    concatenate(&before, &one)
}

fn prepend(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let one = Array::flat(element_of(call).clone(), vec![a[0].clone()]);
    let after = if a[1].is_null() { Arc::new(Array::flat(one.element.clone(), Vec::new())) } else { array(&a[1]) };
    if after.dimensions.len() > 1 {
        return Err(not_one_dimensional());
    }
    match concatenate(&one, &after)? {
        // The bounds stay those of the array.
        Value::Array(mut sum) if !after.dimensions.is_empty() => {
            let sum_mut = Arc::make_mut(&mut sum);
            sum_mut.dimensions[0].1 = after.dimensions[0].1;
            Ok(Value::Array(sum))
        }
        sum => Ok(sum),
    }
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
    let start = match a.get(2) {
        Some(Value::Null) => {
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "initial position must not be null"));
        }
        Some(start) => int(start),
        None => i64::from(i32::MIN),
    };
    Ok(places(&array(&a[0]), &a[1])?.find(|place| i64::from(*place) >= start).map_or(Value::Null, Value::Int4))
}

/// The subscripts at which a value stands.
fn places<'a>(array: &'a Array, wanted: &'a Value) -> Result<impl Iterator<Item = i32> + 'a> {
    if array.dimensions.len() > 1 {
        return Err(SqlError::unsupported("searching for elements in multidimensional arrays"));
    }
    let lower = array.dimensions.first().map_or(1, |(_, lower)| *lower);
    let found = array.values.iter().enumerate().filter(move |(_, value)| *value == wanted);
    Ok(found.map(move |(at, _)| lower.saturating_add(at as i32)))
}

fn positions(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    Ok(Value::array(Type::Int4, places(&array(&a[0]), &a[1])?.map(Value::Int4).collect()))
}

/// `array[lower:upper]...`, for the binder: bounds beyond the array's are cut to them, dimensions not named are whole.
fn slice(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (array, lowers, uppers) = (array(&a[0]), array(&a[1]), array(&a[2]));
    if lowers.values.iter().chain(&uppers.values).any(Value::is_null) {
        return Ok(Value::Null);
    }
    let nothing = || Ok(Value::array(array.element.clone(), Vec::new()));
    if lowers.values.len() > array.dimensions.len() {
        return nothing();
    }
    // Of each dimension: how many elements to pass over and how many to take.
    let mut ranges = Vec::new();
    for (at, (length, lower)) in array.dimensions.iter().enumerate() {
        let lower = i64::from(*lower);
        let last = lower + *length as i64 - 1;
        let from = lowers.values.get(at).map_or(lower, int).max(lower);
        let to = uppers.values.get(at).map_or(last, int).min(last);
        if from > to {
            return nothing();
        }
        ranges.push(((from - lower) as usize, (to - from + 1) as usize));
    }
    let mut values = Vec::new();
    for (at, value) in array.values.iter().enumerate() {
        let mut rest = at;
        let inside = |(dimension, range): (&(usize, i32), &(usize, usize))| {
            let place = rest % dimension.0;
            rest /= dimension.0;
            (range.0..range.0 + range.1).contains(&place)
        };
        if array.dimensions.iter().zip(&ranges).rev().all(inside) {
            values.push(value.clone());
        }
    }
    let dimensions = ranges.iter().map(|(_, length)| (*length, 1)).collect();
    Ok(Value::Array(Arc::new(Array { element: array.element.clone(), dimensions, values })))
}

/// `[1:2][0:3]`
fn bounds(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let printed: String = array(&a[0])
        .dimensions
        .iter()
        .map(|(length, lower)| format!("[{lower}:{}]", i64::from(*lower) + *length as i64 - 1))
        .collect();
    Ok(if printed.is_empty() { Value::Null } else { Value::text(printed) })
}

/// An array of one value over and over.
fn fill(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let null_value = |message: &str| SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message);
    if a[1].is_null() || a.get(2).is_some_and(Value::is_null) {
        return Err(null_value("dimension array or low bound array cannot be null"));
    }
    let lengths = array(&a[1]);
    if lengths.dimensions.len() > 1 || lengths.values.len() > 6 {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts"));
    }
    let lowers = a.get(2).map(array);
    if lowers.as_ref().is_some_and(|lowers| lowers.values.len() != lengths.values.len()) {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts"));
    }
    let mut dimensions = Vec::new();
    for (at, length) in lengths.values.iter().enumerate() {
        let lower = lowers.as_ref().map_or(&Value::Int4(1), |lowers| &lowers.values[at]);
        if length.is_null() || lower.is_null() {
            return Err(null_value("dimension values cannot be null"));
        }
        dimensions.push((usize::try_from(int(length)).unwrap_or(0), int(lower) as i32));
    }
    let count = dimensions.iter().fold(1usize, |count, (length, _)| count.saturating_mul(*length));
    let element = element_of(call).clone();
    if count == 0 || dimensions.is_empty() {
        return Ok(Value::array(element, Vec::new()));
    }
    check_size(count.saturating_mul(std::mem::size_of::<Value>()))?;
    Ok(Value::Array(Arc::new(Array { element, dimensions, values: vec![a[0].clone(); count] })))
}

fn remove(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let array = array(&a[0]);
    if array.dimensions.len() > 1 {
        return Err(SqlError::unsupported("removing elements from multidimensional arrays"));
    }
    let kept: Vec<Value> = array.values.iter().filter(|value| **value != a[1]).cloned().collect();
    let mut left = Array::flat(array.element.clone(), kept);
    if let (Some(dimension), Some(before)) = (left.dimensions.first_mut(), array.dimensions.first()) {
        dimension.1 = before.1;
    }
    Ok(Value::Array(Arc::new(left)))
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
    Entry::scalar("array_position", "anyarray anyelement int4", "int4", position).with_nulls(),
    Entry::scalar("array_positions", "anyarray anyelement", "int4[]", positions).with_nulls(),
    Entry::scalar("array_slice", "anyarray int4[] int4[]", "anyarray", slice),
    Entry::scalar("array_dims", "anyarray", "text", bounds),
    Entry::scalar("array_fill", "anyelement int4[]", "anyarray", fill).with_nulls(),
    Entry::scalar("array_fill", "anyelement int4[] int4[]", "anyarray", fill).with_nulls(),
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
