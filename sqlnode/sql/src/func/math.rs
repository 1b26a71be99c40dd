//! Mathematics.

use super::arithmetic::{checked_float, int2_remainder, int4_remainder, int8_remainder, numeric_remainder};
use super::decimal;
use super::registry::{Call, Entry};
use super::values::{float, int, numeric, overflow};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Numeric, Type, Value};

fn absolute(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(match &a[0] {
        Value::Int2(value) => Value::Int2(value.checked_abs().ok_or_else(|| overflow("smallint"))?),
        Value::Int4(value) => Value::Int4(value.checked_abs().ok_or_else(|| overflow("integer"))?),
        Value::Int8(value) => Value::Int8(value.checked_abs().ok_or_else(|| overflow("bigint"))?),
        Value::Float4(value) => Value::Float4(value.abs()),
        Value::Float8(value) => Value::Float8(value.abs()),
        Value::Numeric(value) => Value::Numeric(value.abs()),
        _ => return Err(SqlError::internal(format!("no absolute value of {}", call.result))),
    })
}

fn float_function(a: &[Value], f: fn(f64) -> f64) -> Result<Value> {
    Ok(Value::Float8(f(float(&a[0]))))
}

fn numeric_function(a: &[Value], f: fn(&Numeric) -> Result<Numeric>) -> Result<Value> {
    Ok(Value::Numeric(f(&numeric(&a[0]))?))
}

fn sign(number: &Numeric) -> Result<Numeric> {
    Ok(if number.is_nan() { Numeric::NaN } else { Numeric::from(i64::from(number.signum())) })
}

fn places(a: &[Value]) -> i32 {
    int(&a[1]).clamp(-200_000, 200_000) as i32
}

fn round_to(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).round(places(a))?))
}

fn truncate_to(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).truncate(places(a))?))
}

fn power_error(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn power(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (base, exponent) = (float(&a[0]), float(&a[1]));
    if base == 0.0 && exponent < 0.0 {
        return Err(power_error("zero raised to a negative power is undefined"));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(power_error("a negative number raised to a non-integer power yields a complex result"));
    }
    let zero_is_fine = base == 0.0 || base.is_infinite() || exponent.is_infinite();
    Ok(Value::Float8(checked_float(base.powf(exponent), &[base, exponent], zero_is_fine)?))
}

fn numeric_power(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(decimal::power(&numeric(&a[0]), &numeric(&a[1]))?))
}

fn square_root(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if float(&a[0]) < 0.0 {
        return Err(power_error("cannot take square root of a negative number"));
    }
    float_function(a, f64::sqrt)
}

fn exponential(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let value = float(&a[0]);
    Ok(Value::Float8(checked_float(value.exp(), &[value], value == f64::NEG_INFINITY)?))
}

fn check_logarithm(value: f64) -> Result<f64> {
    let error = |message: &str| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message));
    if value == 0.0 {
        error("cannot take logarithm of zero")
    } else if value < 0.0 {
        error("cannot take logarithm of a negative number")
    } else {
        Ok(value)
    }
}

fn logarithm(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Float8(check_logarithm(float(&a[0]))?.ln()))
}

fn logarithm_10(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Float8(check_logarithm(float(&a[0]))?.log10()))
}

fn numeric_logarithm_base(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(decimal::logarithm_base(&numeric(&a[0]), &numeric(&a[1]))?))
}

fn decimal_logarithm(number: &Numeric) -> Result<Numeric> {
    decimal::logarithm_base(&Numeric::from(10), number)
}

fn integer_division(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if !matches!(numeric(&a[0]), Numeric::Finite { .. }) {
        return Ok(Value::Numeric(numeric(&a[0]).divide(&numeric(&a[1]))?));
    }
    Ok(Value::Numeric(
        numeric(&a[0]).subtract(&numeric(&a[0]).remainder(&numeric(&a[1]))?)?.divide(&numeric(&a[1]))?.truncate(0)?,
    ))
}

fn greatest_common_divisor(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let (mut x, mut y) = (int(&a[0]).unsigned_abs(), int(&a[1]).unsigned_abs());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    if *call.result == Type::Int4 {
        return Ok(Value::Int4(i32::try_from(x).map_err(|_| overflow("integer"))?));
    }
    Ok(Value::Int8(i64::try_from(x).map_err(|_| overflow("bigint"))?))
}

fn least_common_multiple(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let divisor = int(&greatest_common_divisor(a, call)?);
    let multiple =
        if divisor == 0 { Some(0) } else { (int(&a[0]) / divisor).checked_mul(int(&a[1])).and_then(i64::checked_abs) };
    if *call.result == Type::Int4 {
        let narrow = multiple.and_then(|multiple| i32::try_from(multiple).ok());
        return narrow.map(Value::Int4).ok_or_else(|| overflow("integer"));
    }
    multiple.map(Value::Int8).ok_or_else(|| overflow("bigint"))
}

/// The largest number whose factorial is computed: PostgreSQL's fits into a numeric until 32177.
const FACTORIAL_MAX: i64 = 10_000;

fn factorial(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let error = |message: &str| Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    match int(&a[0]) {
        ..0 => error("factorial of a negative number is undefined"),
        number if number > FACTORIAL_MAX => error("value overflows numeric format"),
        number => {
            let product = (2..=number).fold(num_bigint::BigInt::from(1), |product, factor| product * factor);
            Ok(Value::Numeric(Numeric::new(product, 0)?))
        }
    }
}

fn random(_: &[Value], call: &Call<'_>) -> Result<Value> {
    let mut bytes = [0; 8];
    call.context.random.fill(&mut bytes);
    // 53 bits: every double in [0, 1) of that spacing is equally likely.
    Ok(Value::Float8((u64::from_be_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64))
}

fn pi(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Float8(std::f64::consts::PI))
}

fn arc_tangent_2(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Float8(float(&a[0]).atan2(float(&a[1]))))
}

fn width_bucket(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let (value, low, high, count) = (float(&a[0]), float(&a[1]), float(&a[2]), int(&a[3]));
    let error = |message: &str| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    if count <= 0 {
        return error("count must be greater than zero");
    }
    if low == high || !low.is_finite() || !high.is_finite() || value.is_nan() {
        return error("lower bound cannot equal upper bound");
    }
    let position = (value - low) / (high - low) * count as f64;
    Ok(Value::Int4(if position < 0.0 {
        0
    } else {
        (position.floor() as i64).saturating_add(1).min(count + 1).min(i64::from(i32::MAX)) as i32
    }))
}

fn scale_of(number: &Numeric) -> Value {
    match number {
        Numeric::Finite { scale, .. } => Value::Int4(*scale as i32),
        _ => Value::Null,
    }
}

fn scale(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(scale_of(&numeric(&a[0])))
}

fn min_scale(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(scale_of(&numeric(&a[0]).without_trailing_zeros(0)))
}

fn trim_scale(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Numeric(numeric(&a[0]).without_trailing_zeros(0)))
}

/// A function of the numbers for which `inside` holds, NaN among them.
fn within(a: &[Value], inside: fn(f64) -> bool, f: fn(f64) -> f64) -> Result<Value> {
    let value = float(&a[0]);
    if !value.is_nan() && !inside(value) {
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range"));
    }
    float_function(a, f)
}

fn of_angle(a: &[Value], f: fn(f64) -> f64) -> Result<Value> {
    within(a, f64::is_finite, f)
}

/// The operators that are functions by another name.
pub(super) const OPERATORS: &[Entry] = &[
    Entry::scalar("^", "float8 float8", "float8", power),
    Entry::scalar("^", "numeric numeric", "numeric", numeric_power),
    Entry::scalar("@", "int2", "int2", absolute),
    Entry::scalar("@", "int4", "int4", absolute),
    Entry::scalar("@", "int8", "int8", absolute),
    Entry::scalar("@", "float4", "float4", absolute),
    Entry::scalar("@", "float8", "float8", absolute),
    Entry::scalar("@", "numeric", "numeric", absolute),
    Entry::scalar("|/", "float8", "float8", square_root),
    Entry::scalar("||/", "float8", "float8", |a, _| float_function(a, f64::cbrt)),
];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("abs", "int2", "int2", absolute),
    Entry::scalar("abs", "int4", "int4", absolute),
    Entry::scalar("abs", "int8", "int8", absolute),
    Entry::scalar("abs", "float4", "float4", absolute),
    Entry::scalar("abs", "float8", "float8", absolute),
    Entry::scalar("abs", "numeric", "numeric", absolute),
    Entry::scalar("ceil", "float8", "float8", |a, _| float_function(a, f64::ceil)),
    Entry::scalar("ceil", "numeric", "numeric", |a, _| numeric_function(a, Numeric::ceil)),
    Entry::scalar("ceiling", "float8", "float8", |a, _| float_function(a, f64::ceil)),
    Entry::scalar("ceiling", "numeric", "numeric", |a, _| numeric_function(a, Numeric::ceil)),
    Entry::scalar("floor", "float8", "float8", |a, _| float_function(a, f64::floor)),
    Entry::scalar("floor", "numeric", "numeric", |a, _| numeric_function(a, Numeric::floor)),
    Entry::scalar("round", "float8", "float8", |a, _| float_function(a, f64::round_ties_even)),
    Entry::scalar("round", "numeric", "numeric", |a, _| numeric_function(a, |number| number.round(0))),
    Entry::scalar("round", "numeric int4", "numeric", round_to),
    Entry::scalar("trunc", "float8", "float8", |a, _| float_function(a, f64::trunc)),
    Entry::scalar("trunc", "numeric", "numeric", |a, _| numeric_function(a, |number| number.truncate(0))),
    Entry::scalar("trunc", "numeric int4", "numeric", truncate_to),
    Entry::scalar("sign", "float8", "float8", |a, _| {
        float_function(a, |value| if value == 0.0 || value.is_nan() { 0.0 } else { value.signum() })
    }),
    Entry::scalar("sign", "numeric", "numeric", |a, _| numeric_function(a, sign)),
    Entry::scalar("mod", "int2 int2", "int2", int2_remainder),
    Entry::scalar("mod", "int4 int4", "int4", int4_remainder),
    Entry::scalar("mod", "int8 int8", "int8", int8_remainder),
    Entry::scalar("mod", "numeric numeric", "numeric", numeric_remainder),
    Entry::scalar("div", "numeric numeric", "numeric", integer_division),
    Entry::scalar("gcd", "int4 int4", "int4", greatest_common_divisor),
    Entry::scalar("gcd", "int8 int8", "int8", greatest_common_divisor),
    Entry::scalar("lcm", "int4 int4", "int4", least_common_multiple),
    Entry::scalar("lcm", "int8 int8", "int8", least_common_multiple),
    Entry::scalar("factorial", "int8", "numeric", factorial),
    Entry::scalar("power", "float8 float8", "float8", power),
    Entry::scalar("power", "numeric numeric", "numeric", numeric_power),
    Entry::scalar("pow", "float8 float8", "float8", power),
    Entry::scalar("pow", "numeric numeric", "numeric", numeric_power),
    Entry::scalar("sqrt", "float8", "float8", square_root),
    Entry::scalar("sqrt", "numeric", "numeric", |a, _| numeric_function(a, Numeric::sqrt)),
    Entry::scalar("cbrt", "float8", "float8", |a, _| float_function(a, f64::cbrt)),
    Entry::scalar("exp", "float8", "float8", exponential),
    Entry::scalar("exp", "numeric", "numeric", |a, _| numeric_function(a, decimal::exponential)),
    Entry::scalar("ln", "float8", "float8", logarithm),
    Entry::scalar("ln", "numeric", "numeric", |a, _| numeric_function(a, decimal::logarithm)),
    Entry::scalar("log", "float8", "float8", logarithm_10),
    Entry::scalar("log", "numeric", "numeric", |a, _| numeric_function(a, decimal_logarithm)),
    Entry::scalar("log", "numeric numeric", "numeric", numeric_logarithm_base),
    Entry::scalar("log10", "float8", "float8", logarithm_10),
    Entry::scalar("log10", "numeric", "numeric", |a, _| numeric_function(a, decimal_logarithm)),
    Entry::scalar("pi", "", "float8", pi),
    Entry::scalar("degrees", "float8", "float8", |a, _| float_function(a, f64::to_degrees)),
    Entry::scalar("radians", "float8", "float8", |a, _| float_function(a, f64::to_radians)),
    Entry::scalar("sin", "float8", "float8", |a, _| of_angle(a, f64::sin)),
    Entry::scalar("cos", "float8", "float8", |a, _| of_angle(a, f64::cos)),
    Entry::scalar("tan", "float8", "float8", |a, _| of_angle(a, f64::tan)),
    Entry::scalar("cot", "float8", "float8", |a, _| of_angle(a, |x| x.tan().recip())),
    Entry::scalar("sinh", "float8", "float8", |a, _| float_function(a, f64::sinh)),
    Entry::scalar("cosh", "float8", "float8", |a, _| float_function(a, f64::cosh)),
    Entry::scalar("tanh", "float8", "float8", |a, _| float_function(a, f64::tanh)),
    Entry::scalar("asinh", "float8", "float8", |a, _| float_function(a, f64::asinh)),
    Entry::scalar("acosh", "float8", "float8", |a, _| within(a, |x| x >= 1.0, f64::acosh)),
    Entry::scalar("atanh", "float8", "float8", |a, _| within(a, |x| x.abs() <= 1.0, f64::atanh)),
    Entry::scalar("asin", "float8", "float8", |a, _| within(a, |x| x.abs() <= 1.0, f64::asin)),
    Entry::scalar("acos", "float8", "float8", |a, _| within(a, |x| x.abs() <= 1.0, f64::acos)),
    Entry::scalar("atan", "float8", "float8", |a, _| float_function(a, f64::atan)),
    Entry::scalar("atan2", "float8 float8", "float8", arc_tangent_2),
    Entry::scalar("width_bucket", "float8 float8 float8 int4", "int4", width_bucket),
    Entry::scalar("scale", "numeric", "int4", scale),
    Entry::scalar("min_scale", "numeric", "int4", min_scale),
    Entry::scalar("trim_scale", "numeric", "numeric", trim_scale),
    Entry::scalar("random", "", "float8", random).volatile(),
];
