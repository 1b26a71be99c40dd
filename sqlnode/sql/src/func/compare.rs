//! Comparisons: the same six operators for every type with an order, made from one list.

use std::cmp::Ordering;

use super::registry::{Body, Call, Function, Parameter, ScalarFn, Volatility};
use crate::error::Result;
use crate::types::{Type, Value};

const OPERATORS: [(&str, ScalarFn); 7] = [
    ("=", |a, _| is(a, Ordering::is_eq)),
    ("<>", |a, _| is(a, Ordering::is_ne)),
    ("!=", |a, _| is(a, Ordering::is_ne)),
    ("<", |a, _| is(a, Ordering::is_lt)),
    ("<=", |a, _| is(a, Ordering::is_le)),
    (">", |a, _| is(a, Ordering::is_gt)),
    (">=", |a, _| is(a, Ordering::is_ge)),
];

fn is(arguments: &[Value], test: fn(Ordering) -> bool) -> Result<Value> {
    let order = match (&arguments[0], &arguments[1]) {
        (Value::Float4(a), b @ Value::Float8(_)) => Value::Float8(f64::from(*a)).cmp(b),
        (a @ Value::Float8(_), Value::Float4(b)) => a.cmp(&Value::Float8(f64::from(*b))),
        (a, b) => a.cmp(b),
    };
    Ok(Value::Bool(test(order)))
}

/// Rows compare field by field: the first field that differs decides, a NULL before it makes the answer unknown.
fn record(arguments: &[Value], test: fn(Ordering) -> bool) -> Result<Value> {
    let (Value::Record(left), Value::Record(right)) = (&arguments[0], &arguments[1]) else { return Ok(Value::Null) };
    let equality = test(Ordering::Equal) != test(Ordering::Less) && test(Ordering::Less) == test(Ordering::Greater);
    let mut unknown = false;
    for ((_, a), (_, b)) in left.iter().zip(right.iter()) {
        if a.is_null() || b.is_null() {
            if !equality {
                return Ok(Value::Null);
            }
            unknown = true;
            continue;
        }
        let order = a.cmp(b);
        if order != Ordering::Equal {
            return Ok(Value::Bool(test(order)));
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(test(left.len().cmp(&right.len()))) })
}

fn record_equal(a: &[Value], _: &Call<'_>) -> Result<Value> {
    record(a, Ordering::is_eq)
}

fn record_different(a: &[Value], _: &Call<'_>) -> Result<Value> {
    record(a, Ordering::is_ne)
}

const RECORD_OPERATORS: [(&str, ScalarFn); 7] = [
    ("=", record_equal),
    ("<>", record_different),
    ("!=", record_different),
    ("<", |a, _| record(a, Ordering::is_lt)),
    ("<=", |a, _| record(a, Ordering::is_le)),
    (">", |a, _| record(a, Ordering::is_gt)),
    (">=", |a, _| record(a, Ordering::is_ge)),
];

/// The comparison operators of every type that has an order.
pub(super) fn operators() -> Vec<Function> {
    // What converts to one of the others silently and holds the same values needs no operators of its own.
    let shared = |ty: &Type| matches!(ty, Type::Unknown | Type::Void | Type::Varchar(_) | Type::Json | Type::Record);
    let own = |ty: &Type| !shared(ty) && (!ty.is_oid() || *ty == Type::Oid);
    let mut functions = Vec::new();
    let mut add = |left: Parameter, right: Parameter, table: &[(&'static str, ScalarFn)]| {
        for (name, body) in table {
            functions.push(Function {
                name,
                parameters: vec![left.clone(), right.clone()],
                variadic: None,
                result: Parameter::Exactly(Type::Bool),
                volatility: Volatility::Immutable,
                strict: true,
                body: Body::Scalar(*body),
            });
        }
    };
    for ty in Type::all().filter(own) {
        add(Parameter::Exactly(ty.clone()), Parameter::Exactly(ty), &OPERATORS);
    }
    add(Parameter::Exactly(Type::Float4), Parameter::Exactly(Type::Float8), &OPERATORS);
    add(Parameter::Exactly(Type::Float8), Parameter::Exactly(Type::Float4), &OPERATORS);
    add(Parameter::AnyArray, Parameter::AnyArray, &OPERATORS);
    add(Parameter::Exactly(Type::Record), Parameter::Exactly(Type::Record), &RECORD_OPERATORS);
    functions
}
