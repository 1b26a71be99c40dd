//! Exact decimal numbers: an integer and a scale, with PostgreSQL's rules for the scale of results.
//!
//! A sum takes the larger scale, a product the sum of both, a quotient at least sixteen significant digits. Rounding is
//! half away from zero. Magnitude and scale are bounded, so that an exponent in a literal can't ask for gigabytes.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, BigUint, Sign};

use crate::error::{Result, SqlError, SqlState};

/// Digits before the decimal point.
pub const NUMERIC_INTEGER_DIGITS_MAX: i64 = 131_072;
/// Digits after the decimal point.
pub const NUMERIC_SCALE_MAX: u32 = 16_383;
/// Significant digits that a quotient has at least.
const SIGNIFICANT_DIGITS_MIN: i64 = 16;
/// Digits after the point that a quotient or root has at most.
const RESULT_SCALE_MAX: i64 = 1_000;

/// An exact decimal number, or one of the special values. Its scale counts when it prints: 1.0 and 1.00 are equal.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// Below everything else.
    NegativeInfinity,
    /// `digits / 10^scale`
    Finite {
        /// All digits, as an integer.
        digits: BigInt,
        /// How many of them stand after the point.
        scale: u32,
    },
    /// Above all finite numbers.
    PositiveInfinity,
    /// Not a number: equal to itself and above everything else.
    NaN,
}

use Numeric::{Finite, NaN, NegativeInfinity, PositiveInfinity};

/// Ten to the power of `exponent`.
pub(crate) fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10u8).pow(exponent)
}

/// `dividend / divisor`, rounded half away from zero.
fn divide_rounded(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let quotient = dividend / divisor;
    let rest = dividend - &quotient * divisor;
    if (rest.magnitude() * 2u8) >= *divisor.magnitude() {
        let away: i8 = if (dividend.sign() == Sign::Minus) == (divisor.sign() == Sign::Minus) { 1 } else { -1 };
        quotient + away
    } else {
        quotient
    }
}

fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn decimal_digits(value: &BigUint) -> i64 {
    if *value == BigUint::ZERO {
        return 1;
    }
    // The estimate is exact or one too small.
    let estimate = ((value.bits() - 1) as f64 * std::f64::consts::LOG10_2) as u32;
    let bound = BigUint::from(10u8).pow(estimate + 1);
    i64::from(estimate) + if *value >= bound { 2 } else { 1 }
}

impl Numeric {
    /// A finite number within bounds.
    pub fn new(digits: BigInt, scale: u32) -> Result<Numeric> {
        if scale > NUMERIC_SCALE_MAX {
            return Finite { digits, scale }.round(NUMERIC_SCALE_MAX as i32);
        }
        if decimal_digits(digits.magnitude()) - i64::from(scale) > NUMERIC_INTEGER_DIGITS_MAX {
            return Err(overflow());
        }
        Ok(Finite { digits, scale })
    }

    /// Zero.
    pub fn zero() -> Numeric {
        Numeric::from(0i64)
    }

    /// Reads what `numeric` accepts as text; `None` if it is not a number, an error if it is too large.
    pub fn parse(text: &str) -> Result<Option<Numeric>> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        match body.to_ascii_lowercase().as_str() {
            "nan" if body.len() == text.len() => return Ok(Some(NaN)),
            "inf" | "infinity" => return Ok(Some(if negative { NegativeInfinity } else { PositiveInfinity })),
            _ => {}
        }
        let (mantissa, exponent) = match body.find(['e', 'E']) {
            Some(at) => (&body[..at], Some(&body[at + 1..])),
            None => (body, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty()
            || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
        {
            return Ok(None);
        }
        let exponent: i64 = match exponent {
            None => 0,
            Some(text) => {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Ok(None);
                }
                match text.parse::<i32>() {
                    Ok(exponent) if exponent.abs() <= 200_000 => i64::from(exponent),
                    _ => return Err(overflow()),
                }
            }
        };
        // Checked before the digits are read: reading very many takes the square of their number.
        let whole = whole.trim_start_matches('0');
        let scale = fraction.len() as i64 - exponent;
        if whole.len() as i64 > NUMERIC_INTEGER_DIGITS_MAX || scale > i64::from(NUMERIC_SCALE_MAX) {
            return Err(overflow());
        }
        let all = format!("{}0{whole}{fraction}", if negative { "-" } else { "" });
        let digits = BigInt::parse_bytes(all.as_bytes(), 10).unwrap_or_default();
        let number = if scale < 0 {
            Numeric::new(digits * power_of_ten(scale.unsigned_abs() as u32), 0)?
        } else {
            Numeric::new(digits, u32::try_from(scale).map_err(|_| overflow())?)?
        };
        Ok(Some(number))
    }

    /// True for NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self, NaN)
    }

    /// -1, 0 or 1; 0 for NaN.
    pub fn signum(&self) -> i32 {
        match self {
            NegativeInfinity => -1,
            PositiveInfinity => 1,
            NaN => 0,
            Finite { digits, .. } => match digits.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    /// Digits after the point.
    pub fn scale(&self) -> u32 {
        match self {
            Finite { scale, .. } => *scale,
            _ => 0,
        }
    }

    fn aligned(a: (&BigInt, u32), b: (&BigInt, u32)) -> (BigInt, BigInt, u32) {
        let scale = a.1.max(b.1);
        (a.0 * power_of_ten(scale - a.1), b.0 * power_of_ten(scale - b.1), scale)
    }

    /// The sum.
    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) if s == t => Numeric::new(a + b, *s),
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let (a, b, scale) = Self::aligned((a, *s), (b, *t));
                Numeric::new(a + b, scale)
            }
            (NaN, _) | (_, NaN) => Ok(NaN),
            (PositiveInfinity, NegativeInfinity) | (NegativeInfinity, PositiveInfinity) => Ok(NaN),
            (Finite { .. }, infinite) | (infinite, _) => Ok(infinite.clone()),
        }
    }

    /// The number with the other sign.
    pub fn negate(&self) -> Numeric {
        match self {
            NegativeInfinity => PositiveInfinity,
            PositiveInfinity => NegativeInfinity,
            NaN => NaN,
            Finite { digits, scale } => Finite { digits: -digits, scale: *scale },
        }
    }

    /// The number without its sign.
    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 { self.negate() } else { self.clone() }
    }

    /// The difference.
    pub fn subtract(&self, other: &Numeric) -> Result<Numeric> {
        self.add(&other.negate())
    }

    /// The product.
    pub fn multiply(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => Numeric::new(a * b, s + t),
            (NaN, _) | (_, NaN) => Ok(NaN),
            (a, b) => Ok(match a.signum() * b.signum() {
                0 => NaN,
                1 => PositiveInfinity,
                _ => NegativeInfinity,
            }),
        }
    }

    /// Weight and value of the leading group of four digits: what PostgreSQL's choice of scale looks at.
    fn leading_group(digits: &BigInt, scale: u32) -> (i64, u32) {
        if digits.sign() == Sign::NoSign {
            return (0, 0);
        }
        let count = decimal_digits(digits.magnitude());
        let weight = (count - 1 - i64::from(scale)).div_euclid(4);
        let shift = i64::from(scale) + weight * 4;
        let first = if shift >= 0 {
            digits.magnitude() / BigUint::from(10u8).pow(shift as u32)
        } else {
            digits.magnitude() * BigUint::from(10u8).pow(shift.unsigned_abs() as u32)
        };
        (weight, u32::try_from(first).unwrap_or(u32::MAX))
    }

    /// The quotient, with as many digits as PostgreSQL gives it.
    pub fn divide(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (NaN, _) | (_, NaN) => Ok(NaN),
            (_, zero) if zero.signum() == 0 => Err(division_by_zero()),
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let ((weight_a, first_a), (weight_b, first_b)) =
                    (Self::leading_group(a, *s), Self::leading_group(b, *t));
                let weight = weight_a - weight_b - i64::from(first_a <= first_b);
                let scale = (SIGNIFICANT_DIGITS_MIN - weight * 4)
                    .max(i64::from(*s))
                    .max(i64::from(*t))
                    .clamp(0, RESULT_SCALE_MAX);
                let shift = scale + i64::from(*t) - i64::from(*s);
                let digits = if shift >= 0 {
                    divide_rounded(&(a * power_of_ten(shift as u32)), b)
                } else {
                    divide_rounded(a, &(b * power_of_ten(shift.unsigned_abs() as u32)))
                };
                Numeric::new(digits, scale as u32)
            }
            (Finite { .. }, _) => Ok(Numeric::zero()),
            (_, Finite { .. }) => Ok(if self.signum() == other.signum() { PositiveInfinity } else { NegativeInfinity }),
            _ => Ok(NaN),
        }
    }

    /// The rest of the division, with the dividend's sign.
    pub fn remainder(&self, other: &Numeric) -> Result<Numeric> {
        match (self, other) {
            (NaN, _) | (_, NaN) => Ok(NaN),
            (_, zero) if zero.signum() == 0 => Err(division_by_zero()),
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let (a, b, scale) = Self::aligned((a, *s), (b, *t));
                Numeric::new(a % b, scale)
            }
            (Finite { .. }, _) => Ok(self.clone()),
            _ => Ok(NaN),
        }
    }

    /// Rounds half away from zero to `places` after the point (before it, if negative).
    pub fn round(&self, places: i32) -> Result<Numeric> {
        self.rescale(places, divide_rounded)
    }

    /// Cuts to `places` after the point.
    pub fn truncate(&self, places: i32) -> Result<Numeric> {
        self.rescale(places, |a, b| a / b)
    }

    fn rescale(&self, places: i32, divide: fn(&BigInt, &BigInt) -> BigInt) -> Result<Numeric> {
        let Finite { digits, scale } = self else { return Ok(self.clone()) };
        let places = places.clamp(-(NUMERIC_INTEGER_DIGITS_MAX as i32), NUMERIC_SCALE_MAX as i32);
        let drop = i64::from(*scale) - i64::from(places);
        if drop <= 0 {
            return Numeric::new(digits * power_of_ten(drop.unsigned_abs() as u32), places as u32);
        }
        let cut = divide(digits, &power_of_ten(drop as u32));
        if places < 0 {
            Numeric::new(cut * power_of_ten(places.unsigned_abs()), 0)
        } else {
            Numeric::new(cut, places as u32)
        }
    }

    /// The largest whole number that isn't above this.
    pub fn floor(&self) -> Result<Numeric> {
        let cut = self.truncate(0)?;
        if self.signum() < 0 && cut != *self { cut.subtract(&Numeric::from(1i64)) } else { Ok(cut) }
    }

    /// The smallest whole number that isn't below this.
    pub fn ceil(&self) -> Result<Numeric> {
        Ok(self.negate().floor()?.negate())
    }

    /// The square root, with as many digits as PostgreSQL gives it.
    pub fn sqrt(&self) -> Result<Numeric> {
        let Finite { digits, scale } = self else { return self.sqrt_to(0) };
        let (weight, _) = Self::leading_group(digits, *scale);
        let scale = (SIGNIFICANT_DIGITS_MIN - ((weight + 1) * 2 - 1)).max(i64::from(*scale)).clamp(0, RESULT_SCALE_MAX);
        self.sqrt_to(scale as u32)
    }

    /// The square root with `result_scale` digits after the point.
    pub fn sqrt_to(&self, result_scale: u32) -> Result<Numeric> {
        if self.signum() < 0 {
            return Err(SqlError::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ));
        }
        let Finite { digits, scale } = self else { return Ok(self.clone()) };
        // One digit more than asked for, so that rounding is right.
        let shift = 2 * (result_scale + 1);
        let scaled =
            if shift >= *scale { digits * power_of_ten(shift - scale) } else { digits / power_of_ten(scale - shift) };
        Numeric::new(scaled.sqrt(), result_scale + 1)?.round(result_scale as i32)
    }

    /// Fits the number into `numeric(precision, scale)`.
    pub fn fit(&self, precision: u16, scale: i16) -> Result<Numeric> {
        let error = || {
            let bound = i32::from(precision) - i32::from(scale);
            let bound = if bound == 0 { "1".to_string() } else { format!("10^{bound}") };
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
            ))
        };
        match self {
            Finite { .. } => {
                let fitted = self.round(i32::from(scale))?;
                let Finite { digits, scale: have } = &fitted else { return Ok(fitted) };
                let integers = if digits.sign() == Sign::NoSign {
                    0
                } else {
                    decimal_digits(digits.magnitude()) - i64::from(*have)
                };
                if integers > i64::from(precision) - i64::from(scale) { Err(error()) } else { Ok(fitted) }
            }
            NaN => Ok(NaN),
            _ => Err(error()),
        }
    }

    /// The nearest whole number, if it fits into 64 bits.
    pub fn to_i64(&self) -> Option<i64> {
        match self.round(0).ok()? {
            Finite { digits, .. } => i64::try_from(digits).ok(),
            _ => None,
        }
    }

    /// The nearest double.
    pub fn to_f64(&self) -> f64 {
        match self {
            NaN => f64::NAN,
            PositiveInfinity => f64::INFINITY,
            NegativeInfinity => f64::NEG_INFINITY,
            finite => finite.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// The number that prints as this many significant digits of a float (15 for float8, 6 for float4).
    pub fn from_float(value: f64, significant: usize) -> Result<Numeric> {
        if value.is_nan() {
            return Ok(NaN);
        }
        if value.is_infinite() {
            return Ok(if value > 0.0 { PositiveInfinity } else { NegativeInfinity });
        }
        let text = format!("{value:.*e}", significant.saturating_sub(1));
        let number = Numeric::parse(&text)?.unwrap_or_else(Numeric::zero);
        Ok(number.without_trailing_zeros(0))
    }

    /// The same number without zeros at the end of its fraction, down to a scale of `least`.
    pub fn without_trailing_zeros(&self, least: u32) -> Numeric {
        let Finite { digits, scale } = self else { return self.clone() };
        let (mut digits, mut scale) = (digits.clone(), *scale);
        if digits.sign() == Sign::NoSign {
            return Finite { digits, scale: least };
        }
        while scale > least && (&digits % 10u8).sign() == Sign::NoSign {
            digits /= 10u8;
            scale -= 1;
        }
        Finite { digits, scale }
    }

    /// A total order rank among the kinds of values.
    fn rank(&self) -> u8 {
        match self {
            NegativeInfinity => 0,
            Finite { .. } => 1,
            PositiveInfinity => 2,
            NaN => 3,
        }
    }
}

fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        Finite { digits: BigInt::from(value), scale: 0 }
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) if s == t => a.cmp(b),
            (Finite { digits: a, scale: s }, Finite { digits: b, scale: t }) => {
                let (a, b, _) = Self::aligned((a, *s), (b, *t));
                a.cmp(&b)
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NaN => f.write_str("NaN"),
            PositiveInfinity => f.write_str("Infinity"),
            NegativeInfinity => f.write_str("-Infinity"),
            Finite { digits, scale } => {
                let scale = *scale as usize;
                let text = digits.magnitude().to_string();
                if digits.sign() == Sign::Minus {
                    f.write_str("-")?;
                }
                if scale == 0 {
                    return f.write_str(&text);
                }
                let padded = format!("{text:0>width$}", width = scale + 1);
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                write!(f, "{whole}.{fraction}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Numeric {
        Numeric::parse(text).unwrap().unwrap()
    }

    #[test]
    fn numbers_print_with_their_scale() {
        for (input, printed) in [
            ("1.50", "1.50"),
            ("-0.001", "-0.001"),
            ("1e3", "1000"),
            ("1.5e-3", "0.0015"),
            (".5", "0.5"),
            ("nan", "NaN"),
        ] {
            assert_eq!(n(input).to_string(), printed);
        }
        for bad in ["", ".", "1.2.3", "1e", "0x1", "--1"] {
            assert!(Numeric::parse(bad).unwrap().is_none(), "{bad}");
        }
        assert!(Numeric::parse("1e131073").is_err());
    }

    #[test]
    fn results_have_postgresqls_scale() {
        let quotient = |a: &str, b: &str| n(a).divide(&n(b)).unwrap().to_string();
        assert_eq!(quotient("3", "2"), "1.5000000000000000");
        assert_eq!(quotient("1", "3"), "0.33333333333333333333");
        assert_eq!(quotient("10", "4"), "2.5000000000000000");
        assert_eq!(quotient("1000000", "7"), "142857.142857142857");
        assert_eq!(n("2").sqrt().unwrap().to_string(), "1.414213562373095");
        assert_eq!(n("1.10").multiply(&n("2.2")).unwrap().to_string(), "2.420");
        assert_eq!(n("7.5").remainder(&n("-2")).unwrap().to_string(), "1.5");
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        let round = |text: &str, places| n(text).round(places).unwrap().to_string();
        assert_eq!(round("2.5", 0), "3");
        assert_eq!(round("-2.5", 0), "-3");
        assert_eq!(round("1234.5", -2), "1200");
        assert_eq!(round("1.005", 2), "1.01");
        assert_eq!(n("-1.5").floor().unwrap().to_string(), "-2");
        assert_eq!(n("-1.5").ceil().unwrap().to_string(), "-1");
        assert!(n("100").fit(3, 1).is_err());
        assert_eq!(n("99.94").fit(3, 1).unwrap().to_string(), "99.9");
    }
}
