//! Arithmetic: an overflow is an error (22003), and so is a division by zero (22012).

use super::registry::{Call, Entry};
use super::values::{division_by_zero, float, int, numeric, overflow};
use crate::error::{Result, SqlError, SqlState};
use crate::types::Value;

macro_rules! integers {
    ($module:ident, $variant:ident, $int:ty, $shifted:ty, $name:literal) => {
        mod $module {
            use super::*;

            fn both(a: &[Value]) -> ($int, $int) {
                (int(&a[0]) as $int, int(&a[1]) as $int)
            }
            fn checked(value: Option<$int>) -> Result<Value> {
                value.map(Value::$variant).ok_or_else(|| overflow($name))
            }
            pub(in crate::func) fn add(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                checked(x.checked_add(y))
            }
            pub(in crate::func) fn subtract(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                checked(x.checked_sub(y))
            }
            pub(in crate::func) fn multiply(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                checked(x.checked_mul(y))
            }
            pub(in crate::func) fn divide(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                if y == 0 { Err(division_by_zero()) } else { checked(x.checked_div(y)) }
            }
            pub(in crate::func) fn remainder(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                // The smallest number by -1 leaves nothing, though the quotient doesn't fit.
                if y == 0 { Err(division_by_zero()) } else { Ok(Value::$variant(x.wrapping_rem(y))) }
            }
            pub(in crate::func) fn negate(a: &[Value], _: &Call<'_>) -> Result<Value> {
                checked((int(&a[0]) as $int).checked_neg())
            }
            pub(in crate::func) fn and(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                Ok(Value::$variant(x & y))
            }
            pub(in crate::func) fn or(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                Ok(Value::$variant(x | y))
            }
            pub(in crate::func) fn xor(a: &[Value], _: &Call<'_>) -> Result<Value> {
                let (x, y) = both(a);
                Ok(Value::$variant(x ^ y))
            }
            pub(in crate::func) fn not(a: &[Value], _: &Call<'_>) -> Result<Value> {
                Ok(Value::$variant(!(int(&a[0]) as $int)))
            }
            pub(in crate::func) fn left(a: &[Value], _: &Call<'_>) -> Result<Value> {
                Ok(Value::$variant((int(&a[0]) as $shifted).wrapping_shl(int(&a[1]) as u32) as $int))
            }
            pub(in crate::func) fn right(a: &[Value], _: &Call<'_>) -> Result<Value> {
                Ok(Value::$variant((int(&a[0]) as $shifted).wrapping_shr(int(&a[1]) as u32) as $int))
            }
        }
    };
}

// As in C, a smallint is shifted as an integer.
integers!(int2, Int2, i16, i32, "smallint");
integers!(int4, Int4, i32, i32, "integer");
integers!(int8, Int8, i64, i64, "bigint");

fn overflow_or_underflow(which: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {which}"))
}

/// A float result, refused if it became infinite or zero where the operands were neither.
pub(super) fn checked_float(result: f64, operands: &[f64], zero_is_fine: bool) -> Result<f64> {
    if result.is_infinite() && operands.iter().all(|operand| operand.is_finite()) {
        return Err(overflow_or_underflow("overflow"));
    }
    if result == 0.0 && !zero_is_fine {
        return Err(overflow_or_underflow("underflow"));
    }
    Ok(result)
}

fn float_operator(a: &[Value], operate: fn(f64, f64) -> f64, zero_is_fine: fn(f64, f64) -> bool) -> Result<Value> {
    let (x, y) = (float(&a[0]), float(&a[1]));
    if matches!((&a[0], &a[1]), (Value::Float4(_), Value::Float4(_))) {
        let narrow = f64::from(operate(x, y) as f32);
        return Ok(Value::Float4(checked_float(narrow, &[x, y], zero_is_fine(x, y))? as f32));
    }
    Ok(Value::Float8(checked_float(operate(x, y), &[x, y], zero_is_fine(x, y))?))
}

fn float_add(a: &[Value], _: &Call<'_>) -> Result<Value> {
    float_operator(a, |x, y| x + y, |_, _| true)
}

fn float_subtract(a: &[Value], _: &Call<'_>) -> Result<Value> {
    float_operator(a, |x, y| x - y, |_, _| true)
}

fn float_multiply(a: &[Value], _: &Call<'_>) -> Result<Value> {
    float_operator(a, |x, y| x * y, |x, y| x == 0.0 || y == 0.0)
}

fn float_divide(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if float(&a[1]) == 0.0 && !float(&a[0]).is_nan() {
        return Err(division_by_zero());
    }
    float_operator(a, |x, y| x / y, |x, y| x == 0.0 || y.is_infinite())
}

fn float_negate(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(match &a[0] {
        Value::Float4(value) => Value::Float4(-value),
        other => Value::Float8(-float(other)),
    })
}

fn same(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(a[0].clone())
}

fn numeric_add(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).add(&numeric(&a[1]))?))
}

fn numeric_subtract(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).subtract(&numeric(&a[1]))?))
}

fn numeric_multiply(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).multiply(&numeric(&a[1]))?))
}

fn numeric_divide(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).divide(&numeric(&a[1]))?))
}

pub(super) fn numeric_remainder(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).remainder(&numeric(&a[1]))?))
}

fn numeric_negate(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).negate()))
}

pub(super) use int2::remainder as int2_remainder;
pub(super) use int4::remainder as int4_remainder;
pub(super) use int8::remainder as int8_remainder;

macro_rules! integer_operators {
    ($module:ident, $both:literal, $one:literal, $shift:literal) => {
        [
            Entry::scalar("+", $both, $one, $module::add),
            Entry::scalar("-", $both, $one, $module::subtract),
            Entry::scalar("*", $both, $one, $module::multiply),
            Entry::scalar("/", $both, $one, $module::divide),
            Entry::scalar("%", $both, $one, $module::remainder),
            Entry::scalar("-", $one, $one, $module::negate),
            Entry::scalar("+", $one, $one, same),
            Entry::scalar("&", $both, $one, $module::and),
            Entry::scalar("|", $both, $one, $module::or),
            Entry::scalar("#", $both, $one, $module::xor),
            Entry::scalar("~", $one, $one, $module::not),
            Entry::scalar("<<", $shift, $one, $module::left),
            Entry::scalar(">>", $shift, $one, $module::right),
        ]
    };
}

const INT2: [Entry; 13] = integer_operators!(int2, "int2 int2", "int2", "int2 int4");
const INT4: [Entry; 13] = integer_operators!(int4, "int4 int4", "int4", "int4 int4");
const INT8: [Entry; 13] = integer_operators!(int8, "int8 int8", "int8", "int8 int4");

const OTHERS: [Entry; 27] = [
    Entry::scalar("+", "float4 float4", "float4", float_add),
    Entry::scalar("-", "float4 float4", "float4", float_subtract),
    Entry::scalar("*", "float4 float4", "float4", float_multiply),
    Entry::scalar("/", "float4 float4", "float4", float_divide),
    Entry::scalar("-", "float4", "float4", float_negate),
    Entry::scalar("+", "float8 float8", "float8", float_add),
    Entry::scalar("-", "float8 float8", "float8", float_subtract),
    Entry::scalar("*", "float8 float8", "float8", float_multiply),
    Entry::scalar("/", "float8 float8", "float8", float_divide),
    Entry::scalar("-", "float8", "float8", float_negate),
    // Mixed ones are what `integer + real` finds, too: `double precision` is preferred.
    Entry::scalar("+", "float4 float8", "float8", float_add),
    Entry::scalar("+", "float8 float4", "float8", float_add),
    Entry::scalar("-", "float4 float8", "float8", float_subtract),
    Entry::scalar("-", "float8 float4", "float8", float_subtract),
    Entry::scalar("*", "float4 float8", "float8", float_multiply),
    Entry::scalar("*", "float8 float4", "float8", float_multiply),
    Entry::scalar("/", "float4 float8", "float8", float_divide),
    Entry::scalar("/", "float8 float4", "float8", float_divide),
    Entry::scalar("+", "float4", "float4", same),
    Entry::scalar("+", "float8", "float8", same),
    Entry::scalar("+", "numeric", "numeric", same),
    Entry::scalar("+", "numeric numeric", "numeric", numeric_add),
    Entry::scalar("-", "numeric numeric", "numeric", numeric_subtract),
    Entry::scalar("*", "numeric numeric", "numeric", numeric_multiply),
    Entry::scalar("/", "numeric numeric", "numeric", numeric_divide),
    Entry::scalar("%", "numeric numeric", "numeric", numeric_remainder),
    Entry::scalar("-", "numeric", "numeric", numeric_negate),
];

/// The operators, one table per type.
pub(super) const OPERATORS: [&[Entry]; 4] = [&INT2, &INT4, &INT8, &OTHERS];
