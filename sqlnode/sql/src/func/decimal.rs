//! Exponentials and logarithms of decimals, in fixed-point integers with guard digits.
//!
//! PostgreSQL gives transcendental results at least sixteen significant digits, and not fewer after the point than the
//! argument has; the scale is chosen from an estimate in doubles, as there. All digits that are given are right.

use num_bigint::{BigInt, Sign};

use super::values::division_by_zero;
use crate::error::{Result, SqlError, SqlState};
use crate::types::Numeric;

/// Digits computed beyond those that are given.
const GUARD_DIGITS: u32 = 30;
/// Beyond this, `exp` doesn't fit (or is zero to all digits).
const EXPONENT_MAX: f64 = 6_000.0;

fn ten(exponent: u32) -> BigInt {
    BigInt::from(10u8).pow(exponent)
}

/// A decimal as an integer with `digits` after the point.
fn fixed(number: &Numeric, digits: u32) -> BigInt {
    match number {
        Numeric::Finite { digits: value, scale } if *scale <= digits => value * ten(digits - scale),
        Numeric::Finite { digits: value, scale } => value / ten(scale - digits),
        _ => BigInt::ZERO,
    }
}

fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

/// e to the power of `x`, both with `digits` after the point: halved until small, then the series, then squared.
fn exponential_fixed(x: &BigInt, digits: u32) -> BigInt {
    let one = ten(digits);
    let mut halvings = 0u32;
    let mut small = x.clone();
    while small.magnitude() * 1000u32 > *one.magnitude() {
        small /= 2;
        halvings += 1;
    }
    // Squaring doubles the error each time; what is halved away is computed with more digits instead.
    let extra = halvings / 3 + 2;
    let (scale, unit) = (ten(digits + extra), ten(extra));
    let small = (x * &unit) >> halvings;
    let mut sum = scale.clone();
    let mut term = scale.clone();
    let mut n = 1u32;
    loop {
        term = (&term * &small) / (&scale * n);
        if term.sign() == Sign::NoSign || term == BigInt::from(-1) {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = (&sum * &sum) / &scale;
    }
    sum / unit
}

/// The natural logarithm of a positive `x`, both with `digits` after the point: roots until near one, then the series.
fn logarithm_fixed(x: &BigInt, digits: u32) -> BigInt {
    let one = ten(digits);
    let (mut near, mut roots) = (x.clone(), 0u32);
    while &near * 10 > &one * 11 || &near * 10 < &one * 9 {
        near = (&near * &one).sqrt();
        roots += 1;
    }
    // ln(x) = 2 artanh((x - 1) / (x + 1))
    let ratio = ((&near - &one) * &one) / (&near + &one);
    let square = (&ratio * &ratio) / &one;
    let (mut sum, mut power, mut n) = (BigInt::ZERO, ratio, 1u32);
    while power.sign() != Sign::NoSign {
        sum += &power / n;
        power = (&power * &square) / &one;
        n += 2;
    }
    sum << (roots + 1)
}

/// Logarithm in doubles, for any size.
fn estimate_logarithm(number: &Numeric) -> f64 {
    let text = number.abs().to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let leading = digits.trim_start_matches('0');
    let exponent = leading.len() as f64 - f64::from(number.scale()) - 1.0;
    let mantissa: f64 = format!("0.{}", &leading[..leading.len().min(17)]).parse().unwrap_or(1.0);
    (mantissa * 10.0).ln() + exponent * std::f64::consts::LN_10
}

fn rounded(value: BigInt, digits: u32, scale: u32) -> Result<Numeric> {
    // The value has more digits than a number may have; only the rounded one counts.
    let drop = ten(digits - scale);
    let half = &drop / 2;
    let away = if value.sign() == Sign::Minus { value - half } else { value + half };
    Numeric::new(away / drop, scale)
}

fn scale_for(weight: f64, least: u32) -> u32 {
    (16 - weight.clamp(-2_000.0, 2_000.0) as i64).max(i64::from(least)).clamp(0, 1_000) as u32
}

/// e to the power of a number.
pub(super) fn exponential(x: &Numeric) -> Result<Numeric> {
    match x {
        Numeric::NegativeInfinity => return Ok(Numeric::zero()),
        Numeric::PositiveInfinity | Numeric::NaN => return Ok(x.clone()),
        Numeric::Finite { .. } => {}
    }
    let estimate = x.to_f64();
    if estimate >= EXPONENT_MAX {
        return Err(overflow());
    }
    let scale = scale_for(estimate * std::f64::consts::LOG10_E, x.scale());
    if estimate <= -EXPONENT_MAX {
        return Numeric::zero().round(scale as i32);
    }
    let digits = scale + GUARD_DIGITS + (estimate.max(0.0) * std::f64::consts::LOG10_E) as u32;
    rounded(exponential_fixed(&fixed(x, digits), digits), digits, scale)
}

fn check_positive(x: &Numeric) -> Result<()> {
    let error = |message: &str| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message));
    match x.signum() {
        0 if !x.is_nan() => error("cannot take logarithm of zero"),
        -1 => error("cannot take logarithm of a negative number"),
        _ => Ok(()),
    }
}

/// The weight of a logarithm's leading digit; near one, the weight of the distance from one is taken instead.
fn logarithm_weight(estimate: f64) -> f64 {
    let distance = estimate.exp_m1().abs();
    if estimate == 0.0 {
        0.0
    } else if distance <= 0.1 + 1e-9 {
        // The margins are for what doubles lose: 1.1 - 1 is a little more than 0.1, 1.05 - 1 a little less than 0.05.
        (distance * (1.0 + 1e-12)).log10().floor()
    } else {
        estimate.abs().log10().trunc()
    }
}

fn logarithm_digits(x: &Numeric, digits: u32) -> BigInt {
    // A tiny argument has its digits far behind the point.
    let shift = x.scale().max(digits);
    logarithm_fixed(&fixed(x, shift), shift) / ten(shift - digits)
}

/// The natural logarithm.
pub(super) fn logarithm(x: &Numeric) -> Result<Numeric> {
    check_positive(x)?;
    if !matches!(x, Numeric::Finite { .. }) {
        return Ok(x.clone());
    }
    let scale = scale_for(logarithm_weight(estimate_logarithm(x)), x.scale());
    let digits = scale + GUARD_DIGITS;
    rounded(logarithm_digits(x, digits), digits, scale)
}

/// The logarithm to a base.
pub(super) fn logarithm_base(base: &Numeric, x: &Numeric) -> Result<Numeric> {
    if base.is_nan() || x.is_nan() {
        return Ok(Numeric::NaN);
    }
    check_positive(base)?;
    check_positive(x)?;
    match (base, x) {
        (Numeric::Finite { .. }, Numeric::Finite { .. }) => {}
        (Numeric::PositiveInfinity, Numeric::PositiveInfinity) => return Ok(Numeric::NaN),
        (Numeric::PositiveInfinity, _) => return Ok(Numeric::zero()),
        _ => return Ok(Numeric::PositiveInfinity),
    }
    let below = estimate_logarithm(base);
    if base == &Numeric::from(1) {
        return Err(division_by_zero());
    }
    let weight = logarithm_weight(estimate_logarithm(x)) - logarithm_weight(below);
    let scale = scale_for(weight, base.scale().max(x.scale()));
    let digits = scale + GUARD_DIGITS;
    let quotient = (logarithm_digits(x, digits) * ten(digits)) / logarithm_digits(base, digits);
    rounded(quotient, digits, scale)
}

fn power_error(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

/// A number to the power of another: multiplied out for whole exponents.
pub(super) fn power(base: &Numeric, exponent: &Numeric) -> Result<Numeric> {
    if exponent.signum() == 0 && !exponent.is_nan() || base == &Numeric::from(1) {
        let finite = matches!((base, exponent), (Numeric::Finite { .. }, Numeric::Finite { .. }));
        return if finite { Numeric::from(1).round(16.max(base.scale()) as i32) } else { Ok(Numeric::from(1)) };
    }
    if !matches!((base, exponent), (Numeric::Finite { .. }, Numeric::Finite { .. })) {
        return Numeric::from_float(base.to_f64().powf(exponent.to_f64()), 15);
    }
    if base.signum() == 0 {
        return match exponent.signum() {
            -1 => Err(power_error("zero raised to a negative power is undefined")),
            _ => Numeric::zero().round(16.max(base.scale()) as i32),
        };
    }
    if let (true, Some(count)) = (exponent.truncate(0)? == *exponent, exponent.to_i64()) {
        return whole_power(base, count, 16.max(base.scale()));
    }
    if base.signum() < 0 {
        return Err(power_error("a negative number raised to a non-integer power yields a complex result"));
    }
    let estimate = exponent.to_f64() * estimate_logarithm(base);
    if estimate.is_nan() || estimate >= EXPONENT_MAX {
        return Err(overflow());
    }
    let magnitude = estimate * std::f64::consts::LOG10_E;
    let scale = scale_for(magnitude, base.scale().max(exponent.scale()));
    if estimate <= -EXPONENT_MAX {
        return Numeric::zero().round(scale as i32);
    }
    let digits = scale + GUARD_DIGITS + magnitude.max(0.0) as u32;
    let product = (logarithm_digits(base, digits) * fixed(exponent, digits)) / ten(digits);
    rounded(exponential_fixed(&product, digits), digits, scale)
}

/// By squaring, with no more digits than matter.
fn whole_power(base: &Numeric, count: i64, scale: u32) -> Result<Numeric> {
    let magnitude = estimate_logarithm(base) * count as f64 * std::f64::consts::LOG10_E;
    if magnitude > 131_072.0 {
        return Err(overflow());
    }
    if magnitude < -f64::from(scale) - 2.0 {
        return Numeric::zero().round(scale as i32);
    }
    // For negative exponents the inverse is raised, which keeps the numbers small.
    let digits = scale + GUARD_DIGITS + magnitude.abs() as u32 + 20;
    let one = ten(digits);
    let mut square = fixed(base, digits);
    if count < 0 {
        square = (&one * &one) / square;
    }
    let (mut product, mut rest) = (one.clone(), count.unsigned_abs());
    while rest > 0 {
        if rest & 1 == 1 {
            product = (&product * &square) / &one;
        }
        rest >>= 1;
        if rest > 0 {
            square = (&square * &square) / &one;
        }
    }
    rounded(product, digits, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Numeric {
        Numeric::parse(text).unwrap().unwrap()
    }

    #[test]
    fn results_are_postgresqls() {
        let exp = |text: &str| exponential(&n(text)).unwrap().to_string();
        assert_eq!(exp("1.0"), "2.7182818284590452");
        assert_eq!(exp("-10.5"), "0.00002753644934974716");
        assert_eq!(exp("100"), "26881171418161354484126255515800135873611119");
        let ln = |text: &str| logarithm(&n(text)).unwrap().to_string();
        assert_eq!(ln("2.0"), "0.6931471805599453");
        assert_eq!(ln("0.001"), "-6.9077552789821371");
        assert_eq!(ln("1e100"), "230.25850929940457");
        let power = |base: &str, exponent: &str| power(&n(base), &n(exponent)).unwrap().to_string();
        assert_eq!(power("2.5", "2.5"), "9.8821176880261854");
        assert_eq!(power("2.0", "10"), "1024.0000000000000000");
        assert_eq!(power("2", "-2"), "0.2500000000000000");
        assert_eq!(power("-2", "3"), "-8.0000000000000000");
        assert!(super::power(&n("10"), &n("200000")).is_err());
    }
}
