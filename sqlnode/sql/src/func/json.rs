//! JSON operators and functions.

use super::convert::{json_key, json_text, to_json};
use super::registry::{Call, Entry};
use super::values::{array, bad_parameter, boolean, int, int4, json, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Json, Value};

fn optional(found: Option<&Json>) -> Value {
    found.map_or(Value::Null, |json| Value::json(json.clone()))
}

fn optional_text(found: Option<&Json>) -> Value {
    found.map_or(Value::Null, json_text)
}

fn member(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional(json(&a[0]).member(text(&a[1]))))
}

fn member_text(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional_text(json(&a[0]).member(text(&a[1]))))
}

fn element(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional(json(&a[0]).element_or_self(int(&a[1]))))
}

fn element_text(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional_text(json(&a[0]).element_or_self(int(&a[1]))))
}

fn step<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    match json {
        Json::Object(_) => json.member(key),
        Json::Array(_) => json.element(key.trim().parse().ok()?),
        _ => None,
    }
}

fn walk<'a>(json: &'a Json, path: &[Value]) -> Option<&'a Json> {
    path.iter().try_fold(json, |json, key| step(json, key.as_str()?))
}

fn path(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional(walk(json(&a[0]), &array(&a[1]).values)))
}

fn path_text(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional_text(walk(json(&a[0]), &array(&a[1]).values)))
}

fn extract_path(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional(walk(json(&a[0]), &a[1..])))
}

fn extract_path_text(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(optional_text(walk(json(&a[0]), &a[1..])))
}

fn contains(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(json(&a[0]).contains(json(&a[1]))))
}

fn contained(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(json(&a[1]).contains(json(&a[0]))))
}

/// A key of an object, or a string in an array.
fn has(json: &Json, key: &str) -> bool {
    match json {
        Json::Object(_) => json.member(key).is_some(),
        Json::Array(values) => values.iter().any(|value| matches!(value, Json::String(text) if text == key)),
        Json::String(text) => text == key,
        _ => false,
    }
}

fn exists(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(has(json(&a[0]), text(&a[1]))))
}

fn exists_any(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(array(&a[1]).values.iter().filter_map(Value::as_str).any(|key| has(json(&a[0]), key))))
}

fn exists_all(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(array(&a[1]).values.iter().filter_map(Value::as_str).all(|key| has(json(&a[0]), key))))
}

/// Objects merge, everything else is put into one array.
fn concatenate(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let items = |json: &Json| match json {
        Json::Array(values) => values.clone(),
        other => vec![other.clone()],
    };
    Ok(Value::json(match (json(&a[0]), json(&a[1])) {
        (Json::Object(left), Json::Object(right)) => Json::object(left.iter().chain(right).cloned().collect()),
        (left, right) => Json::Array([items(left), items(right)].concat()),
    }))
}

fn scalar_error() -> SqlError {
    bad_parameter("cannot delete from scalar")
}

fn delete_key(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let key = text(&a[1]);
    Ok(Value::json(match json(&a[0]) {
        Json::Object(pairs) => Json::Object(pairs.iter().filter(|pair| pair.0 != key).cloned().collect()),
        Json::Array(values) => {
            let kept = values.iter().filter(|value| !matches!(value, Json::String(text) if text == key));
            Json::Array(kept.cloned().collect())
        }
        _ => return Err(scalar_error()),
    }))
}

fn delete_keys(a: &[Value], call: &Call<'_>) -> Result<Value> {
    array(&a[1])
        .values
        .iter()
        .filter(|key| !key.is_null())
        .try_fold(a[0].clone(), |json, key| delete_key(&[json, key.clone()], call))
}

fn delete_element(a: &[Value], _: &Call<'_>) -> Result<Value> {
    match json(&a[0]) {
        Json::Array(values) => {
            let index = int(&a[1]);
            let index = if index < 0 { index + values.len() as i64 } else { index };
            let kept = values.iter().enumerate().filter(|(i, _)| *i as i64 != index).map(|(_, value)| value.clone());
            Ok(Value::json(Json::Array(kept.collect())))
        }
        Json::Object(_) => Err(bad_parameter("cannot delete from object using integer index")),
        _ => Err(scalar_error()),
    }
}

/// What to do at the end of a path.
enum Change<'a> {
    Set { value: &'a Json, create: bool },
    Insert { value: &'a Json, after: bool },
    Delete,
}

fn change(json: &Json, path: &[&str], what: &Change<'_>) -> Result<Json> {
    let Some((key, rest)) = path.split_first() else { return Ok(json.clone()) };
    match json {
        Json::Object(pairs) => {
            let mut pairs = pairs.clone();
            let at = pairs.iter().position(|pair| pair.0 == *key);
            match (at, rest.is_empty(), what) {
                (Some(at), false, _) => pairs[at].1 = change(&pairs[at].1, rest, what)?,
                (Some(at), true, Change::Set { value, .. }) => pairs[at].1 = (*value).clone(),
                (Some(at), true, Change::Delete) => {
                    pairs.remove(at);
                }
                (Some(_), true, Change::Insert { .. }) => return Err(bad_parameter("cannot replace existing key")),
                (None, true, Change::Set { value, create: true } | Change::Insert { value, .. }) => {
                    pairs.push((key.to_string(), (*value).clone()));
                }
                _ => {}
            }
            Ok(Json::object(pairs))
        }
        Json::Array(values) => {
            let mut values = values.clone();
            let index: i64 = key.trim().parse().map_err(|_| {
                let message = format!("path element at position 1 is not an integer: \"{key}\"");
                SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
            })?;
            let length = values.len() as i64;
            let position = if index < 0 { index + length } else { index };
            let inside = (0..length).contains(&position);
            let at = position.clamp(0, length) as usize;
            match (inside, rest.is_empty(), what) {
                (true, false, _) => values[at] = change(&values[at], rest, what)?,
                (true, true, Change::Set { value, .. }) => values[at] = (*value).clone(),
                (true, true, Change::Delete) => {
                    values.remove(at);
                }
                (true, true, Change::Insert { value, after }) => {
                    values.insert(at + usize::from(*after), (*value).clone())
                }
                (false, true, Change::Set { value, create: true } | Change::Insert { value, .. }) => {
                    values.insert(at, (*value).clone());
                }
                _ => {}
            }
            Ok(Json::Array(values))
        }
        other => Ok(other.clone()),
    }
}

fn change_at(a: &[Value], what: &Change<'_>) -> Result<Value> {
    let path = array(&a[1]);
    // Nothing is looked for in what is empty.
    let creates = !matches!(what, Change::Delete | Change::Set { create: false, .. });
    let empty = match json(&a[0]) {
        Json::Array(values) => values.is_empty(),
        Json::Object(pairs) => pairs.is_empty(),
        _ => false,
    };
    if empty && !creates {
        return Ok(a[0].clone());
    }
    if path.values.iter().any(Value::is_null) {
        return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "path element is null"));
    }
    let keys: Vec<&str> = path.values.iter().map(text).collect();
    if !matches!(json(&a[0]), Json::Object(_) | Json::Array(_)) {
        return Err(bad_parameter("cannot set path in scalar"));
    }
    Ok(Value::json(change(json(&a[0]), &keys, what)?))
}

fn set(a: &[Value], _: &Call<'_>) -> Result<Value> {
    change_at(a, &Change::Set { value: json(&a[2]), create: a.get(3).is_none_or(boolean) })
}

fn insert(a: &[Value], _: &Call<'_>) -> Result<Value> {
    change_at(a, &Change::Insert { value: json(&a[2]), after: a.get(3).is_some_and(boolean) })
}

fn delete_path(a: &[Value], _: &Call<'_>) -> Result<Value> {
    change_at(a, &Change::Delete)
}

fn strip_nulls(a: &[Value], _: &Call<'_>) -> Result<Value> {
    fn strip(json: &Json) -> Json {
        match json {
            Json::Object(pairs) => {
                let kept = pairs.iter().filter(|pair| !matches!(pair.1, Json::Null));
                Json::Object(kept.map(|(key, value)| (key.clone(), strip(value))).collect())
            }
            Json::Array(values) => Json::Array(values.iter().map(strip).collect()),
            other => other.clone(),
        }
    }
    Ok(Value::json(strip(json(&a[0]))))
}

fn type_name(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(json(&a[0]).type_name()))
}

fn array_length(a: &[Value], _: &Call<'_>) -> Result<Value> {
    match json(&a[0]) {
        Json::Array(values) => Ok(int4(values.len())),
        Json::Object(_) => Err(bad_parameter("cannot get array length of a non-array")),
        _ => Err(bad_parameter("cannot get array length of a scalar")),
    }
}

fn build_array(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::json(Json::Array(a.iter().zip(call.types).map(|(value, ty)| to_json(value, ty, call.context)).collect())))
}

fn build_object(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a.len() % 2 == 1 {
        return Err(bad_parameter("argument list must have even number of elements")
            .with_hint("The arguments of jsonb_build_object() must consist of alternating keys and values."));
    }
    let mut pairs = Vec::new();
    for (i, pair) in a.chunks(2).enumerate() {
        if pair[0].is_null() {
            return Err(bad_parameter(format!("argument {}: key must not be null", i * 2 + 1)));
        }
        let key = json_key(&pair[0], &call.types[i * 2], call.context)?;
        pairs.push((key, to_json(&pair[1], &call.types[i * 2 + 1], call.context)));
    }
    Ok(Value::json(Json::object(pairs)))
}

fn object(keys: &[Value], values: &[Value]) -> Result<Value> {
    let pair = |(key, value): (&Value, &Value)| match key.as_str() {
        Some(key) => Ok((key.to_string(), value.as_str().map_or(Json::Null, |text| Json::String(text.to_string())))),
        None => Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "null value not allowed for object key")),
    };
    Ok(Value::json(Json::object(keys.iter().zip(values).map(pair).collect::<Result<_>>()?)))
}

/// `{key, value, key, value}`, or a pair in each row.
fn object_of_pairs(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let list = array(&a[0]);
    let error = |message: &str| Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
    match list.dimensions.as_slice() {
        [] => {}
        [(length, _)] if length % 2 == 0 => {}
        [_] => return error("array must have even number of elements"),
        [_, (2, _)] => {}
        [_, _] => return error("array must have two columns"),
        _ => return error("wrong number of array subscripts"),
    }
    let of_parity = |parity: usize| -> Vec<Value> { list.values.iter().skip(parity).step_by(2).cloned().collect() };
    object(&of_parity(0), &of_parity(1))
}

fn object_of_lists(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (keys, values) = (array(&a[0]), array(&a[1]));
    if keys.dimensions.len() > 1 || values.dimensions.len() > 1 {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts"));
    }
    if keys.values.len() != values.values.len() {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "mismatched array dimensions"));
    }
    object(&keys.values, &values.values)
}

fn no_object(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::json(Json::Object(Vec::new())))
}

fn no_array(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::json(Json::Array(Vec::new())))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("jsonb_build_array", "", "jsonb", no_array),
    Entry::scalar("jsonb_build_array", "variadic any", "jsonb", build_array).stable().with_nulls(),
    Entry::scalar("json_build_array", "", "json", no_array),
    Entry::scalar("json_build_object", "", "json", no_object),
    Entry::scalar("json_build_array", "variadic any", "json", build_array).stable().with_nulls(),
    Entry::scalar("jsonb_build_object", "", "jsonb", no_object),
    Entry::scalar("jsonb_build_object", "variadic any", "jsonb", build_object).stable().with_nulls(),
    Entry::scalar("json_build_object", "variadic any", "json", build_object).stable().with_nulls(),
    Entry::scalar("jsonb_typeof", "jsonb", "text", type_name),
    Entry::scalar("json_typeof", "json", "text", type_name),
    Entry::scalar("jsonb_array_length", "jsonb", "int4", array_length),
    Entry::scalar("json_array_length", "json", "int4", array_length),
    Entry::scalar("jsonb_extract_path", "jsonb variadic text", "jsonb", extract_path),
    Entry::scalar("jsonb_extract_path_text", "jsonb variadic text", "text", extract_path_text),
    Entry::scalar("json_extract_path", "json variadic text", "json", extract_path),
    Entry::scalar("json_extract_path_text", "json variadic text", "text", extract_path_text),
    Entry::scalar("json_strip_nulls", "json", "json", strip_nulls),
    Entry::scalar("jsonb_object", "text[]", "jsonb", object_of_pairs),
    Entry::scalar("jsonb_object", "text[] text[]", "jsonb", object_of_lists),
    Entry::scalar("json_object", "text[]", "json", object_of_pairs),
    Entry::scalar("json_object", "text[] text[]", "json", object_of_lists),
    Entry::scalar("jsonb_set", "jsonb text[] jsonb", "jsonb", set),
    Entry::scalar("jsonb_set", "jsonb text[] jsonb bool", "jsonb", set),
    Entry::scalar("jsonb_insert", "jsonb text[] jsonb", "jsonb", insert),
    Entry::scalar("jsonb_insert", "jsonb text[] jsonb bool", "jsonb", insert),
    Entry::scalar("jsonb_strip_nulls", "jsonb", "jsonb", strip_nulls),
];

pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("->", "jsonb text", "jsonb", member),
    Entry::scalar("->", "jsonb int4", "jsonb", element),
    Entry::scalar("->>", "jsonb text", "text", member_text),
    Entry::scalar("->>", "jsonb int4", "text", element_text),
    Entry::scalar("->", "json text", "json", member),
    Entry::scalar("->", "json int4", "json", element),
    Entry::scalar("->>", "json text", "text", member_text),
    Entry::scalar("->>", "json int4", "text", element_text),
    Entry::scalar("#>", "json text[]", "json", path),
    Entry::scalar("#>>", "json text[]", "text", path_text),
    Entry::scalar("#>", "jsonb text[]", "jsonb", path),
    Entry::scalar("#>>", "jsonb text[]", "text", path_text),
    Entry::scalar("@>", "jsonb jsonb", "bool", contains),
    Entry::scalar("<@", "jsonb jsonb", "bool", contained),
    Entry::scalar("?", "jsonb text", "bool", exists),
    Entry::scalar("?|", "jsonb text[]", "bool", exists_any),
    Entry::scalar("?&", "jsonb text[]", "bool", exists_all),
    Entry::scalar("||", "jsonb jsonb", "jsonb", concatenate),
    Entry::scalar("-", "jsonb text", "jsonb", delete_key),
    Entry::scalar("-", "jsonb text[]", "jsonb", delete_keys),
    Entry::scalar("-", "jsonb int4", "jsonb", delete_element),
    Entry::scalar("#-", "jsonb text[]", "jsonb", delete_path),
];
