//! Aggregates: one value for many rows. All but the collecting ones and `count(*)` pass over NULLs.

use num_bigint::BigInt;

use super::arithmetic::checked_float;
use super::convert::{json_key, to_json};
use super::registry::{Accumulator, Entry};
use super::values::{RESULT_BYTES_MAX, boolean, bytes, check_size, float, int, interval, numeric, overflow, text};
use crate::error::{Result, SqlError, SqlState};
use crate::func::EvalContext;
use crate::types::{ARRAY_DIMENSIONS_MAX, Array, Interval, Json, Numeric, Type, Value};

/// Counts rows, or rows with a value.
struct Count(i64);

impl Accumulator for Count {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if arguments.first().is_none_or(|value| !value.is_null()) {
            self.0 += 1;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(Value::Int8(self.0))
    }
}

/// What a sum is kept in.
enum Total {
    Integer(i128),
    Float(f64),
    Numeric(Numeric),
    Interval(Interval),
}

/// Sums and averages.
struct Sum {
    total: Total,
    count: i64,
    average: bool,
    result: Type,
}

impl Sum {
    fn start(arguments: &[Type], result: &Type, average: bool) -> Box<dyn Accumulator> {
        let total = match arguments.first() {
            Some(Type::Int2 | Type::Int4 | Type::Int8) => Total::Integer(0),
            Some(Type::Float4 | Type::Float8) => Total::Float(0.0),
            Some(Type::Interval(_)) => Total::Interval(Interval::default()),
            _ => Total::Numeric(Numeric::zero()),
        };
        Box::new(Sum { total, count: 0, average, result: result.clone() })
    }
}

impl Accumulator for Sum {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        let value = &arguments[0];
        if value.is_null() {
            return Ok(());
        }
        self.count += 1;
        match &mut self.total {
            Total::Integer(total) => *total += i128::from(int(value)),
            Total::Float(total) => {
                let (before, value) = (*total, float(value));
                *total = checked_float(before + value, &[before, value], true)?;
            }
            Total::Numeric(total) => *total = total.add(&numeric(value))?,
            Total::Interval(total) => {
                *total = super::datetime::interval_sum(total, &interval(value))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        if self.count == 0 {
            return Ok(Value::Null);
        }
        let whole = |total: i128| Numeric::new(BigInt::from(total), 0);
        Ok(match &self.total {
            Total::Integer(total) if self.average => Value::Numeric(whole(*total)?.divide(&Numeric::from(self.count))?),
            Total::Integer(total) if self.result == Type::Int8 => {
                Value::Int8(i64::try_from(*total).map_err(|_| overflow("bigint"))?)
            }
            Total::Integer(total) => Value::Numeric(whole(*total)?),
            Total::Float(total) if self.average => Value::Float8(total / self.count as f64),
            Total::Float(total) if self.result == Type::Float4 => {
                Value::Float4(checked_float(f64::from(*total as f32), &[*total], true)? as f32)
            }
            Total::Float(total) => Value::Float8(*total),
            Total::Numeric(total) if self.average => Value::Numeric(total.divide(&Numeric::from(self.count))?),
            Total::Numeric(total) => Value::Numeric(total.clone()),
            Total::Interval(total) if self.average => {
                Value::Interval(super::datetime::interval_quotient(total, self.count as f64)?)
            }
            Total::Interval(total) => Value::Interval(*total),
        })
    }
}

/// The smallest or largest value.
struct Extreme {
    best: Value,
    largest: bool,
}

impl Accumulator for Extreme {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        let value = &arguments[0];
        let better = self.best.is_null() || if self.largest { *value > self.best } else { *value < self.best };
        if !value.is_null() && better {
            self.best = value.clone();
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(self.best.clone())
    }
}

/// True if all, or any, are true.
struct Truth {
    so_far: Option<bool>,
    any: bool,
}

impl Accumulator for Truth {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if !arguments[0].is_null() {
            let value = boolean(&arguments[0]);
            self.so_far = Some(match self.so_far {
                None => value,
                Some(before) if self.any => before || value,
                Some(before) => before && value,
            });
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(self.so_far.map_or(Value::Null, Value::Bool))
    }
}

/// The bits that are set in all, any, or an odd number of values.
struct Bits {
    so_far: Option<Value>,
    join: fn(i64, i64) -> i64,
}

impl Accumulator for Bits {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        let value = &arguments[0];
        if !value.is_null() {
            let bits = self.so_far.as_ref().map_or(int(value), |so_far| (self.join)(int(so_far), int(value)));
            // Bits of numbers of one width make a number of that width.
            self.so_far = Some(match value {
                Value::Int2(_) => Value::Int2(bits as i16),
                Value::Int4(_) => Value::Int4(bits as i32),
                _ => Value::Int8(bits),
            });
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(self.so_far.take().unwrap_or(Value::Null))
    }
}

/// Strings one after another, each with the delimiter of its own row before it.
struct Joined(Option<String>);

impl Accumulator for Joined {
    fn keeps_rows(&self) -> bool {
        true
    }

    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if arguments[0].is_null() {
            return Ok(());
        }
        match &mut self.0 {
            None => self.0 = Some(text(&arguments[0]).to_string()),
            Some(so_far) => {
                so_far.push_str(text(&arguments[1]));
                so_far.push_str(text(&arguments[0]));
                check_size(so_far.len())?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(self.0.as_ref().map_or(Value::Null, Value::text))
    }
}

/// The same for bytes.
struct JoinedBytes(Option<Vec<u8>>);

impl Accumulator for JoinedBytes {
    fn keeps_rows(&self) -> bool {
        true
    }

    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if arguments[0].is_null() {
            return Ok(());
        }
        match &mut self.0 {
            None => self.0 = Some(bytes(&arguments[0]).to_vec()),
            Some(so_far) => {
                so_far.extend(bytes(&arguments[1]));
                so_far.extend(bytes(&arguments[0]));
                check_size(so_far.len())?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(self.0.as_ref().map_or(Value::Null, Value::bytes))
    }
}

/// All values, NULLs too, as an array; arrays become an array of one more dimension.
struct Collected {
    values: Vec<Value>,
    element: Type,
    /// What is collected are arrays.
    arrays: bool,
}

impl Accumulator for Collected {
    fn keeps_rows(&self) -> bool {
        true
    }

    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        check_size(self.values.len().saturating_mul(std::mem::size_of::<Value>()))?;
        self.values.push(arguments[0].clone());
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        if self.values.is_empty() {
            return Ok(Value::Null);
        }
        let values = std::mem::take(&mut self.values);
        if self.arrays { stack(self.element.clone(), &values) } else { Ok(Value::array(self.element.clone(), values)) }
    }
}

/// Arrays of one shape as an array of one more dimension.
pub(crate) fn stack(element: Type, values: &[Value]) -> Result<Value> {
    let error = |message: &str| Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
    let mut dimensions = vec![(values.len(), 1)];
    let mut flat = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let Value::Array(array) = value else {
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "cannot accumulate null arrays"));
        };
        if array.dimensions.is_empty() {
            return error("cannot accumulate empty arrays");
        }
        if i == 0 {
            dimensions.extend(&array.dimensions);
        } else if array.dimensions != dimensions[1..] {
            return error("cannot accumulate arrays of different dimensionality");
        }
        flat.extend(array.values.iter().cloned());
    }
    if values.is_empty() {
        return Ok(Value::array(element, flat));
    }
    if dimensions.len() > ARRAY_DIMENSIONS_MAX {
        let message = format!("number of array dimensions exceeds the maximum allowed ({ARRAY_DIMENSIONS_MAX})");
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    }
    Ok(Value::Array(std::sync::Arc::new(Array { element, dimensions, values: flat })))
}

/// A JSON array of all values.
struct JsonArray {
    values: Vec<Json>,
    ty: Type,
    empty: bool,
}

impl Accumulator for JsonArray {
    fn keeps_rows(&self) -> bool {
        true
    }

    fn update(&mut self, arguments: &[Value], context: &EvalContext<'_>) -> Result<()> {
        self.empty = false;
        check_size(self.values.len().saturating_mul(std::mem::size_of::<Json>()))?;
        self.values.push(to_json(&arguments[0], &self.ty, context));
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        Ok(if self.empty { Value::Null } else { Value::json(Json::Array(self.values.clone())) })
    }
}

/// A JSON object of keys and values.
struct JsonObject {
    pairs: Vec<(String, Json)>,
    types: Vec<Type>,
}

impl Accumulator for JsonObject {
    fn keeps_rows(&self) -> bool {
        true
    }

    fn update(&mut self, arguments: &[Value], context: &EvalContext<'_>) -> Result<()> {
        if arguments[0].is_null() {
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "field name must not be null"));
        }
        if self.pairs.len() > RESULT_BYTES_MAX / 64 {
            return check_size(RESULT_BYTES_MAX + 1);
        }
        let key = json_key(&arguments[0], &self.types[0], context)?;
        self.pairs.push((key, to_json(&arguments[1], &self.types[1], context)));
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        let pairs = std::mem::take(&mut self.pairs);
        Ok(if pairs.is_empty() { Value::Null } else { Value::json(Json::object(pairs)) })
    }
}

/// Which of the four: the square root of it (deviation), over n or n - 1.
#[derive(Clone, Copy)]
struct Spread {
    root: bool,
    population: bool,
}

/// Variance and standard deviation of exact numbers, from the sums of values and squares.
struct ExactSpread {
    which: Spread,
    count: i64,
    sum: Numeric,
    squares: Numeric,
}

impl Accumulator for ExactSpread {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if arguments[0].is_null() {
            return Ok(());
        }
        let value = numeric(&arguments[0]);
        self.count += 1;
        self.squares = self.squares.add(&value.multiply(&value)?)?;
        self.sum = self.sum.add(&value)?;
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        let divisor = if self.which.population { self.count } else { self.count - 1 };
        if divisor <= 0 {
            return Ok(Value::Null);
        }
        let count = Numeric::from(self.count);
        let above = count.multiply(&self.squares)?.subtract(&self.sum.multiply(&self.sum)?)?;
        if above.signum() <= 0 && !above.is_nan() {
            return Ok(Value::Numeric(Numeric::zero()));
        }
        let variance = above.divide(&count.multiply(&Numeric::from(divisor))?)?;
        Ok(Value::Numeric(if self.which.root { variance.sqrt_to(variance.scale())? } else { variance }))
    }
}

/// The same for floats, by the updates of Youngs and Cramer, which don't cancel.
struct FloatSpread {
    which: Spread,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Accumulator for FloatSpread {
    fn update(&mut self, arguments: &[Value], _: &EvalContext<'_>) -> Result<()> {
        if arguments[0].is_null() {
            return Ok(());
        }
        let value = float(&arguments[0]);
        self.count += 1.0;
        self.sum += value;
        if self.count > 1.0 {
            let apart = value * self.count - self.sum;
            let squares = self.squares + apart * apart / (self.count * (self.count - 1.0));
            self.squares = checked_float(squares, &[self.squares, value, self.sum - value], true)?;
        } else if !value.is_finite() {
            self.squares = f64::NAN;
        }
        Ok(())
    }

    fn finish(&mut self, _: &EvalContext<'_>) -> Result<Value> {
        let divisor = if self.which.population { self.count } else { self.count - 1.0 };
        if divisor <= 0.0 {
            return Ok(Value::Null);
        }
        let variance = self.squares / divisor;
        Ok(Value::Float8(if self.which.root { variance.sqrt() } else { variance }))
    }
}

fn spread(arguments: &[Type], root: bool, population: bool) -> Box<dyn Accumulator> {
    let which = Spread { root, population };
    match arguments.first() {
        Some(Type::Float4 | Type::Float8) => Box::new(FloatSpread { which, count: 0.0, sum: 0.0, squares: 0.0 }),
        _ => Box::new(ExactSpread { which, count: 0, sum: Numeric::zero(), squares: Numeric::zero() }),
    }
}

fn sum(arguments: &[Type], result: &Type) -> Box<dyn Accumulator> {
    Sum::start(arguments, result, false)
}

fn average(arguments: &[Type], result: &Type) -> Box<dyn Accumulator> {
    Sum::start(arguments, result, true)
}

fn smallest(_: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(Extreme { best: Value::Null, largest: false })
}

fn largest(_: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(Extreme { best: Value::Null, largest: true })
}

fn all_true(_: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(Truth { so_far: None, any: false })
}

fn any_true(_: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(Truth { so_far: None, any: true })
}

fn count(_: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(Count(0))
}

fn collect(arguments: &[Type], _: &Type) -> Box<dyn Accumulator> {
    let element = arguments.first().map_or(Type::Text, |ty| ty.element().unwrap_or(ty).clone());
    let arrays = arguments.first().is_some_and(|ty| ty.element().is_some());
    Box::new(Collected { values: Vec::new(), element, arrays })
}

fn json_array(arguments: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(JsonArray { values: Vec::new(), ty: arguments[0].clone(), empty: true })
}

fn json_object(arguments: &[Type], _: &Type) -> Box<dyn Accumulator> {
    Box::new(JsonObject { pairs: Vec::new(), types: arguments.to_vec() })
}

macro_rules! table {
    ($($name:literal $($arguments:literal -> $result:literal),+ = $body:expr;)*) => {
        &[$($(Entry::aggregate($name, $arguments, $result, $body)),+),*]
    };
}

pub(super) const FUNCTIONS: &[Entry] = table! {
    "count" "" -> "int8", "any" -> "int8" = count;
    "sum" "int2" -> "int8", "int4" -> "int8", "int8" -> "numeric", "numeric" -> "numeric", "float4" -> "float4",
        "float8" -> "float8", "interval" -> "interval" = sum;
    "avg" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric", "float4" -> "float8",
        "float8" -> "float8", "interval" -> "interval" = average;
    "min" "int2" -> "int2", "int4" -> "int4", "int8" -> "int8", "numeric" -> "numeric", "float4" -> "float4",
        "float8" -> "float8", "text" -> "text", "bpchar" -> "bpchar", "timestamptz" -> "timestamptz",
        "timestamp" -> "timestamp", "date" -> "date", "time" -> "time", "interval" -> "interval", "oid" -> "oid",
        "uuid" -> "uuid", "bytea" -> "bytea", "anyarray" -> "anyarray" = smallest;
    "max" "int2" -> "int2", "int4" -> "int4", "int8" -> "int8", "numeric" -> "numeric", "float4" -> "float4",
        "float8" -> "float8", "text" -> "text", "bpchar" -> "bpchar", "timestamptz" -> "timestamptz",
        "timestamp" -> "timestamp", "date" -> "date", "time" -> "time", "interval" -> "interval", "oid" -> "oid",
        "uuid" -> "uuid", "bytea" -> "bytea", "anyarray" -> "anyarray" = largest;
    "bool_and" "bool" -> "bool" = all_true;
    "every" "bool" -> "bool" = all_true;
    "bool_or" "bool" -> "bool" = any_true;
    "bit_and" "int2" -> "int2", "int4" -> "int4", "int8" -> "int8" =
        |_, _| Box::new(Bits { so_far: None, join: |a, b| a & b });
    "bit_or" "int2" -> "int2", "int4" -> "int4", "int8" -> "int8" =
        |_, _| Box::new(Bits { so_far: None, join: |a, b| a | b });
    "bit_xor" "int2" -> "int2", "int4" -> "int4", "int8" -> "int8" =
        |_, _| Box::new(Bits { so_far: None, join: |a, b| a ^ b });
    "string_agg" "text text" -> "text" = |_, _| Box::new(Joined(None));
    "string_agg" "bytea bytea" -> "bytea" = |_, _| Box::new(JoinedBytes(None));
    "array_agg" "anyelement" -> "anyarray", "anyarray" -> "anyarray" = collect;
    "json_agg" "any" -> "json" = json_array;
    "jsonb_agg" "any" -> "jsonb" = json_array;
    "json_object_agg" "any any" -> "json" = json_object;
    "jsonb_object_agg" "any any" -> "jsonb" = json_object;
    "variance" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, false, false);
    "var_samp" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, false, false);
    "var_pop" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, false, true);
    "stddev" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, true, false);
    "stddev_samp" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, true, false);
    "stddev_pop" "int2" -> "numeric", "int4" -> "numeric", "int8" -> "numeric", "numeric" -> "numeric",
        "float4" -> "float8", "float8" -> "float8" = |types, _| spread(types, true, true);
};

#[cfg(test)]
mod tests {
    use crate::func::resolve_function;
    use crate::func::testing::with_context;
    use crate::types::{CastContext, Type, Value, cast, encode_text};

    fn aggregate(name: &str, ty: &Type, values: &[&str]) -> String {
        with_context(|context| {
            let found = resolve_function(name, std::slice::from_ref(ty)).unwrap();
            let mut state = found.accumulator().unwrap();
            for text in values {
                let value = if *text == "NULL" { Value::Null } else { Value::text(text) };
                let value = cast(&value, &Type::Unknown, ty, CastContext::Explicit, context).unwrap();
                let value = cast(&value, ty, &found.arguments[0], CastContext::Implicit, context).unwrap();
                state.update(&[value], context).unwrap();
            }
            let value = state.finish(context).unwrap();
            if value.is_null() { "NULL".to_string() } else { encode_text(&value, &found.result, &context.text()) }
        })
    }

    #[test]
    fn aggregates_give_what_postgresql_gives() {
        assert_eq!(aggregate("sum", &Type::Int4, &["1", "NULL", "2147483647"]), "2147483648");
        assert_eq!(aggregate("sum", &Type::Int8, &["9223372036854775807", "1"]), "9223372036854775808");
        assert_eq!(aggregate("avg", &Type::Int4, &["1", "2"]), "1.5000000000000000");
        assert_eq!(aggregate("avg", &Type::Int4, &[]), "NULL");
        assert_eq!(aggregate("count", &Type::Int4, &["1", "NULL"]), "1");
        assert_eq!(aggregate("max", &Type::Text, &["a", "c", "b"]), "c");
        assert_eq!(aggregate("array_agg", &Type::Int4, &["1", "NULL"]), "{1,NULL}");
        assert_eq!(aggregate("jsonb_agg", &Type::Text, &["x", "NULL"]), "[\"x\", null]");
        assert_eq!(aggregate("stddev", &Type::Int4, &["1", "2", "3", "4"]), "1.2909944487358056");
        assert_eq!(aggregate("var_pop", &Type::Int4, &["1", "2", "3", "4"]), "1.2500000000000000");
        assert_eq!(aggregate("variance", &Type::Float8, &["1", "2"]), "0.5");
        assert_eq!(aggregate("bool_or", &Type::Bool, &["f", "NULL", "t"]), "t");
        assert_eq!(aggregate("sum", &Type::Interval(None), &["1 day", "02:00"]), "1 day 02:00:00");
    }
}
