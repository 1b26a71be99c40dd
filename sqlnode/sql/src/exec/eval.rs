//! Evaluation of expressions over a row.

use std::sync::Arc;

use super::runtime::lock;
use super::subquery::eval_subquery;
use super::{Context, Frame};
use crate::error::{Result, SqlError, SqlState};
use crate::numbers::{self, Wanted};
use crate::plan::{Expr, Position, SequenceCall};
use crate::session::Row;
use crate::types::{Array, Record, Value};

/// Rows within rows within ...: each level doubles the quotes and backslashes of their text.
const RECORD_DEPTH_MAX: usize = 12;

fn record_depth(value: &Value) -> usize {
    match value {
        Value::Record(record) => 1 + record.fields.iter().map(|(_, field)| record_depth(field)).max().unwrap_or(0),
        Value::Array(array) => array.values.iter().map(record_depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What an expression sees: the row at hand, and the rows around.
#[derive(Clone, Copy)]
pub(super) struct Env<'r> {
    pub(super) row: &'r [Value],
    pub(super) frame: Option<&'r Frame<'r>>,
    /// Operands of the quantified comparison at hand.
    pub(super) elements: Option<&'r [Value; 2]>,
}

impl<'r> Env<'r> {
    pub(super) fn new(row: &'r [Value], frame: Option<&'r Frame<'r>>) -> Self {
        Env { row, frame, elements: None }
    }
}

pub(super) fn eval_all(exprs: &[Expr], env: Env<'_>, ctx: &Context<'_>) -> Result<Row> {
    exprs.iter().map(|expr| eval(expr, env, ctx)).collect()
}

/// True if all conditions hold.
pub(super) fn holds(conditions: &[Expr], env: Env<'_>, ctx: &Context<'_>) -> Result<bool> {
    for condition in conditions {
        if !matches!(eval(condition, env, ctx)?, Value::Bool(true)) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn eval(expr: &Expr, env: Env<'_>, ctx: &Context<'_>) -> Result<Value> {
    Ok(match expr {
        Expr::Constant(value, _) => value.clone(),
        Expr::Param(number, _) => ctx.runtime.params.get(*number).cloned().ok_or_else(|| {
            let message = format!("there is no parameter ${}", number + 1);
            SqlError::new(SqlState::UNDEFINED_PARAMETER, message)
        })?,
        Expr::Column { slot, .. } => {
            let index = usize::from(slot.index);
            match slot.depth {
                0 => env.row.get(index).cloned(),
                depth => {
                    let mut frame = env.frame;
                    for _ in 1..depth {
                        frame = frame.and_then(|frame| frame.parent);
                    }
                    frame.and_then(|frame| frame.row.get(index).cloned())
                }
            }
            .ok_or_else(|| SqlError::internal("a column is not where it was planned to be"))?
        }
        // What fails because of a row's values has no place in the text, as in PostgreSQL.
        Expr::Call { function, args, .. } => function.call(&eval_all(args, env, ctx)?, &ctx.eval)?,
        Expr::Compare { op, left, right } => {
            let left = eval(left, env, ctx)?;
            if left.is_null() {
                return Ok(Value::Null);
            }
            let right = eval(right, env, ctx)?;
            match right.is_null() {
                true => Value::Null,
                false => Value::Bool(op.holds(left.cmp(&right))),
            }
        }
        Expr::Cast { expr, to, context, position } => {
            let value = eval(expr, env, ctx)?;
            crate::types::cast(&value, &expr.ty(), to, *context, &ctx.eval).map_err(|error| match expr.as_ref() {
                Expr::Constant(..) => error.at(position.get()),
                _ => error,
            })?
        }
        Expr::And(list) => eval_logic(list, false, env, ctx)?,
        Expr::Or(list) => eval_logic(list, true, env, ctx)?,
        Expr::Not(expr) => match eval(expr, env, ctx)? {
            Value::Bool(truth) => Value::Bool(!truth),
            _ => Value::Null,
        },
        Expr::IsNull(expr) => Value::Bool(match eval(expr, env, ctx)? {
            // A row is null when all its fields are.
            Value::Record(fields) => fields.iter().all(|(_, field)| field.is_null()),
            value => value.is_null(),
        }),
        Expr::IsTruth(expr, wanted) => Value::Bool(eval(expr, env, ctx)?.as_bool() == Some(*wanted)),
        Expr::Same(left, right) => Value::Bool(eval(left, env, ctx)? == eval(right, env, ctx)?),
        Expr::Case { branches, otherwise, .. } => {
            for (when, then) in branches {
                if eval(when, env, ctx)?.as_bool() == Some(true) {
                    return eval(then, env, ctx);
                }
            }
            eval(otherwise, env, ctx)?
        }
        Expr::Coalesce(list, _) => {
            for expr in list {
                let value = eval(expr, env, ctx)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            Value::Null
        }
        Expr::Extreme(greatest, list, _) => {
            let mut best = Value::Null;
            for expr in list {
                let value = eval(expr, env, ctx)?;
                let better = if *greatest { value > best } else { value < best };
                if !value.is_null() && (best.is_null() || better) {
                    best = value;
                }
            }
            best
        }
        Expr::InList { expr, list } => {
            let value = eval(expr, env, ctx)?;
            if value.is_null() {
                return Ok(Value::Null);
            }
            let mut unknown = false;
            for item in list {
                let item = eval(item, env, ctx)?;
                if item.is_null() {
                    unknown = true;
                } else if item == value {
                    return Ok(Value::Bool(true));
                }
            }
            if unknown { Value::Null } else { Value::Bool(false) }
        }
        Expr::Quantified { left, array, comparison, all } => {
            let left = eval(left, env, ctx)?;
            match eval(array, env, ctx)? {
                Value::Array(array) => {
                    let items = array.values.iter().map(|item| Ok(item.clone()));
                    quantify(left, items, comparison, *all, env, ctx)?
                }
                _ => Value::Null,
            }
        }
        Expr::Element(which, _) => match env.elements {
            Some(elements) => elements[*which].clone(),
            None => return Err(SqlError::internal("an element outside of its comparison")),
        },
        Expr::Array(items, ty) => {
            let values = eval_all(items, env, ctx)?;
            let element = ty.element().cloned().unwrap_or(crate::types::Type::Text);
            nest(values, element)?
        }
        Expr::Record(fields, names) => {
            let values = eval_all(fields, env, ctx)?;
            if values.iter().map(record_depth).max().unwrap_or(0) >= RECORD_DEPTH_MAX {
                let message = format!("rows may be nested {RECORD_DEPTH_MAX} deep");
                return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
            }
            let fields = fields.iter().map(|field| field.ty()).zip(values).collect();
            Value::Record(Arc::new(Record { fields, names: names.clone() }))
        }
        Expr::Subscript { array, indexes, .. } => {
            let array = eval(array, env, ctx)?;
            let indexes = eval_all(indexes, env, ctx)?;
            subscript(&array, &indexes)
        }
        Expr::Sequence { call, args, position } => {
            let args = eval_all(args, env, ctx)?;
            call_sequence(*call, &args, ctx).map_err(|error| error.at(Position::get(*position)))?
        }
        Expr::Subquery(subquery) => eval_subquery(subquery, env, ctx)?,
        Expr::RowId => Value::Int8(ctx.runtime.row_id()),
    })
}

/// AND stops at the first false, OR at the first true; NULL waits for what decides.
fn eval_logic(list: &[Expr], decisive: bool, env: Env<'_>, ctx: &Context<'_>) -> Result<Value> {
    let mut unknown = false;
    for expr in list {
        match eval(expr, env, ctx)?.as_bool() {
            Some(truth) if truth == decisive => return Ok(Value::Bool(decisive)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(!decisive) })
}

/// `left op ANY (items)`, or ALL.
pub(super) fn quantify(
    left: Value,
    items: impl Iterator<Item = Result<Value>>,
    comparison: &Expr,
    all: bool,
    env: Env<'_>,
    ctx: &Context<'_>,
) -> Result<Value> {
    let mut unknown = false;
    let mut elements = [left, Value::Null];
    for item in items {
        elements[1] = item?;
        match eval(comparison, Env { elements: Some(&elements), ..env }, ctx)?.as_bool() {
            Some(truth) if truth != all => return Ok(Value::Bool(!all)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Value::Null } else { Value::Bool(all) })
}

/// Elements as an array; arrays among them become its inner dimensions.
fn nest(values: Vec<Value>, element: crate::types::Type) -> Result<Value> {
    if !values.iter().any(|value| matches!(value, Value::Array(_))) {
        return Ok(Value::Array(Arc::new(Array::flat(element, values))));
    }
    let mut dimensions: Option<Vec<(usize, i32)>> = None;
    let mut all = Vec::new();
    for value in &values {
        let inner = match value {
            Value::Array(inner) => inner,
            _ => return Err(mismatched()),
        };
        match &dimensions {
            None => dimensions = Some(inner.dimensions.clone()),
            Some(first) if *first == inner.dimensions => {}
            Some(_) => return Err(mismatched()),
        }
        all.extend(inner.values.iter().cloned());
    }
    let mut dimensions = dimensions.unwrap_or_default();
    if !dimensions.is_empty() {
        dimensions.insert(0, (values.len(), 1));
    }
    Ok(Value::Array(Arc::new(Array { element, dimensions, values: all })))
}

fn mismatched() -> SqlError {
    let message = "multidimensional arrays must have array expressions with matching dimensions";
    SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn subscript(array: &Value, indexes: &[Value]) -> Value {
    let Value::Array(array) = array else { return Value::Null };
    if array.dimensions.len() != indexes.len() {
        return Value::Null;
    }
    let mut at = 0usize;
    for ((length, lower), index) in array.dimensions.iter().zip(indexes) {
        let Some(index) = index.as_i64() else { return Value::Null };
        match usize::try_from(index - i64::from(*lower)) {
            Ok(place) if place < *length => at = at * length + place,
            _ => return Value::Null,
        }
    }
    array.values.get(at).cloned().unwrap_or(Value::Null)
}

fn call_sequence(call: SequenceCall, args: &[Value], ctx: &Context<'_>) -> Result<Value> {
    let state = &ctx.runtime.session.state;
    let not_yet = |name: &str| {
        let message = format!("{name} is not yet defined in this session");
        SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    };
    if call == SequenceCall::Last {
        let state = lock(state);
        let last = state.last_sequence.and_then(|id| state.sequence_values.get(&id).copied());
        return last.map(Value::Int8).ok_or_else(|| not_yet("lastval"));
    }
    let oid = match args.first() {
        Some(Value::Oid(oid)) => *oid,
        _ => return Ok(Value::Null),
    };
    let Some(sequence) = ctx.runtime.catalog.sequence_by_id(oid).cloned() else {
        let message = format!("relation with OID {oid} is not a sequence");
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    };
    match call {
        SequenceCall::Next => {
            let mut counted = ctx.runtime.sequences.borrow_mut();
            let handed_out = match (&ctx.runtime.session.numbers, counted.get(&oid)) {
                (Some(source), None) => source.next(&Wanted::new(sequence.clone(), ctx.store)?)?,
                _ => None,
            };
            let next = match handed_out {
                Some(number) => number,
                None => {
                    let last = match counted.get(&oid) {
                        Some(last) => Some(*last),
                        None => numbers::read_last(ctx.store, oid)?,
                    };
                    let next = numbers::next_after(&sequence, last)?;
                    counted.insert(oid, next);
                    next
                }
            };
            let mut state = lock(state);
            state.sequence_values.insert(oid, next);
            state.last_sequence = Some(oid);
            Ok(Value::Int8(next))
        }
        SequenceCall::Curr => {
            let value = lock(state).sequence_values.get(&oid).copied();
            value.map(Value::Int8).ok_or_else(|| not_yet(&format!("currval of sequence \"{}\"", sequence.name)))
        }
        SequenceCall::Set => {
            let Some(value) = args.get(1).and_then(Value::as_i64) else { return Ok(Value::Null) };
            if !(sequence.min..=sequence.max).contains(&value) {
                let message = format!(
                    "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                    sequence.name, sequence.min, sequence.max
                );
                return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
            }
            let called = args.get(2).and_then(Value::as_bool).unwrap_or(true);
            let last = if called { value } else { value.saturating_sub(sequence.increment) };
            ctx.runtime.sequences.borrow_mut().insert(oid, last);
            ctx.runtime.sequences_set.borrow_mut().insert(oid);
            if called {
                lock(state).sequence_values.insert(oid, value);
            }
            Ok(Value::Int8(value))
        }
        SequenceCall::Last => Err(SqlError::internal("answered above")),
    }
}
