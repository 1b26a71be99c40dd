//! Conversions between types: which exist, where they are allowed, and doing them.
//!
//! The matrix follows `pg_cast`: numbers widen silently, narrow when assigned; any type becomes text when assigned, text
//! becomes any type only when asked. An unknown literal becomes anything silently, by reading its text.

use std::sync::Arc;

use super::calendar::{DAY_MICROS, Zone, is_finite, valid_timestamp};
use super::text::{fit_fraction, fit_text, out_of_range, truncate_name};
use super::{Array, Category, Json, Numeric, Type, Value, decode_text, encode_text};
use crate::error::{Result, SqlError, SqlState};
use crate::func::EvalContext;

/// Where a conversion is asked for: each allows what the one before allows, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Silently, in expressions.
    Implicit,
    /// When storing into a column.
    Assignment,
    /// `CAST`, `::`.
    Explicit,
}

use CastContext::{Assignment, Explicit, Implicit};

/// Numbers from narrow to wide: each converts silently to those after it.
fn number_rank(ty: &Type) -> Option<u8> {
    Some(match ty {
        Type::Int2 => 0,
        Type::Int4 => 1,
        Type::Int8 => 2,
        Type::Numeric(_) => 3,
        Type::Float4 => 4,
        Type::Float8 => 5,
        _ => return None,
    })
}

/// The narrowest context in which a conversion is allowed; `None` if there is none.
pub fn find_cast(from: &Type, to: &Type) -> Option<CastContext> {
    if from.same_base(to) || *from == Type::Unknown {
        return Some(Implicit);
    }
    if let (Some(a), Some(b)) = (number_rank(from), number_rank(to)) {
        return Some(if a < b { Implicit } else { Assignment });
    }
    Some(match (from, to) {
        (Type::Array(a), Type::Array(b)) => return find_cast(a, b),
        (_, Type::Unknown | Type::Void) | (Type::Void, _) => return None,
        (Type::Record, to) => return to.is_text().then_some(Assignment),
        (_, Type::Record) => return None,
        // Strings among themselves.
        (Type::CharByte, Type::Text) => Implicit,
        (Type::Text | Type::Varchar(_) | Type::Char(_), Type::CharByte) => Assignment,
        (Type::Text | Type::Varchar(_) | Type::Char(_) | Type::Name, Type::Text | Type::Varchar(_) | Type::Char(_)) => {
            if *from == Type::Name && matches!(to, Type::Varchar(_) | Type::Char(_)) {
                Assignment
            } else {
                Implicit
            }
        }
        (Type::Text | Type::Varchar(_) | Type::Char(_), Type::Name) => Implicit,
        (Type::Text | Type::Varchar(_), Type::Regclass) => Implicit,
        (from, to) if to.is_text() && !from.is_text() => Assignment,
        (from, _) if from.is_text() => Explicit,
        // Oids.
        (Type::Int2 | Type::Int4 | Type::Int8, to) if to.is_oid() => Implicit,
        (from, Type::Oid) if from.is_oid() => Implicit,
        (Type::Oid, to) if to.is_oid() => Implicit,
        (from, Type::Int4 | Type::Int8) if from.is_oid() => Assignment,
        // Booleans and bytes.
        (Type::Bool, Type::Int4) | (Type::Int4, Type::Bool) => Explicit,
        (Type::CharByte, Type::Int4) | (Type::Int4, Type::CharByte) => Explicit,
        // Dates and times.
        (Type::Date, Type::Timestamp(_) | Type::Timestamptz(_)) | (Type::Timestamp(_), Type::Timestamptz(_)) => {
            Implicit
        }
        (Type::Time(_), Type::Interval(_)) => Implicit,
        (Type::Timestamptz(_) | Type::Timestamp(_), Type::Timestamp(_) | Type::Date | Type::Time(_)) => Assignment,
        (Type::Interval(_), Type::Time(_)) => Assignment,
        // JSON.
        (Type::Json, Type::Jsonb) | (Type::Jsonb, Type::Json) => Assignment,
        (Type::Jsonb, Type::Bool) => Explicit,
        (Type::Jsonb, to) if number_rank(to).is_some() => Explicit,
        _ => return None,
    })
}

/// True if a conversion is allowed there.
pub fn can_cast(from: &Type, to: &Type, context: CastContext) -> bool {
    find_cast(from, to).is_some_and(|least| least <= context)
}

fn cannot(from: &Type, to: &Type) -> SqlError {
    SqlError::new(SqlState::CANNOT_COERCE, format!("cannot cast type {from} to {to}"))
}

/// Converts a value. Whether the conversion is allowed was decided when binding ([`find_cast`]); `how` decides only what
/// happens to text that is too long.
pub fn cast(value: &Value, from: &Type, to: &Type, how: CastContext, context: &EvalContext<'_>) -> Result<Value> {
    let text = context.text();
    Ok(match (value, to) {
        (Value::Null, _) => Value::Null,
        // Modifiers of the same type.
        (Value::Text(content), Type::Varchar(Some(length)) | Type::Char(Some(length))) => {
            Value::Text(fit_text(content, *length, to, how == Explicit)?)
        }
        (Value::Text(content), Type::Char(None)) => Value::text(content.trim_end_matches(' ')),
        (Value::Text(content), Type::Name) => Value::text(truncate_name(content)),
        (Value::Text(_), Type::Text | Type::Varchar(None) | Type::Unknown) => value.clone(),
        // An explicit cast cuts what is too long for `varchar(n)`, in an array's elements too.
        (Value::Text(content), Type::Array(_)) if how == Explicit && to.base() != *to => {
            cast(&decode_text(content, &to.base(), &text)?, &to.base(), to, how, context)?
        }
        (Value::Text(content), _) => decode_text(content, to, &text)?,
        (Value::Array(array), Type::Array(element)) => {
            if array.element == **element {
                return Ok(value.clone());
            }
            let values = array.values.iter().map(|item| cast(item, &array.element, element, how, context));
            Value::Array(Arc::new(Array {
                element: (**element).clone(),
                dimensions: array.dimensions.clone(),
                values: values.collect::<Result<_>>()?,
            }))
        }
        (Value::Numeric(number), Type::Numeric(Some((precision, scale)))) => {
            Value::Numeric(number.fit(*precision, *scale)?)
        }
        (Value::Bool(value), to) if to.is_text() => {
            // Unlike on output, a cast spells the word.
            let word = Value::text(if *value { "true" } else { "false" });
            cast(&word, &Type::Text, to, how, context)?
        }
        (value, to) if to.is_text() => {
            let printed = Value::text(encode_text(value, from, &text));
            cast(&printed, &Type::Text, to, how, context)?
        }
        (Value::Jsonb(json), to) if !matches!(to, Type::Jsonb | Type::Json) => {
            return cast_json(json, to, how, context);
        }
        (Value::Oid(oid), Type::Int8) => Value::Int8(i64::from(*oid)),
        (Value::Oid(oid), Type::Int4) => Value::Int4(*oid as i32),
        (Value::Oid(_), to) if to.is_oid() => value.clone(),
        (Value::Int2(_) | Value::Int4(_) | Value::Int8(_), to) if to.is_oid() => {
            let number = value.as_i64().unwrap_or_default();
            // A negative number wraps as in C, but for a bigint.
            let wrapped = || i32::try_from(number).ok().filter(|_| !matches!(value, Value::Int8(_))).map(|v| v as u32);
            let oid = u32::try_from(number).ok().or_else(wrapped);
            Value::Oid(oid.ok_or_else(|| out_of_range(&Type::Oid))?)
        }
        (Value::Bool(value), Type::Int4) => Value::Int4(i32::from(*value)),
        (Value::Int4(value), Type::Bool) => Value::Bool(*value != 0),
        (Value::CharByte(byte), Type::Int4) => Value::Int4(i32::from(*byte as i8)),
        (Value::Int4(value), Type::CharByte) => {
            Value::CharByte(i8::try_from(*value).map_err(|_| out_of_range(&Type::CharByte))? as u8)
        }
        (value, to) if number_rank(to).is_some() && is_number(value) => cast_number(value, to)?,
        (value, to) => fit_fraction(cast_time(value, to, context)?.ok_or_else(|| cannot(from, to))?, to)?,
    })
}

fn is_number(value: &Value) -> bool {
    use Value::{Float4, Float8, Int2, Int4, Int8, Numeric};
    matches!(value, Int2(_) | Int4(_) | Int8(_) | Float4(_) | Float8(_) | Numeric(_))
}

/// The whole number nearest to any number (half to even for floats, away from zero for decimals).
fn to_integer(value: &Value) -> Option<i64> {
    let float = |value: f64| {
        let rounded = value.round_ties_even();
        (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded).then_some(rounded as i64)
    };
    match value {
        Value::Float4(value) => float(f64::from(*value)),
        Value::Float8(value) => float(*value),
        Value::Numeric(value) => value.to_i64(),
        other => other.as_i64(),
    }
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Float4(value) => f64::from(*value),
        Value::Float8(value) => *value,
        Value::Numeric(value) => value.to_f64(),
        other => other.as_i64().unwrap_or_default() as f64,
    }
}

fn cast_number(value: &Value, to: &Type) -> Result<Value> {
    let overflow = || out_of_range(to);
    let integer = || {
        let what = match value {
            Value::Numeric(Numeric::NaN) => "NaN",
            Value::Numeric(Numeric::PositiveInfinity | Numeric::NegativeInfinity) => "infinity",
            _ => return to_integer(value).ok_or_else(overflow),
        };
        Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert {what} to {to}")))
    };
    Ok(match to {
        Type::Int2 => Value::Int2(integer()?.try_into().map_err(|_| overflow())?),
        Type::Int4 => Value::Int4(integer()?.try_into().map_err(|_| overflow())?),
        Type::Int8 => Value::Int8(integer()?),
        Type::Float4 => {
            let wide = to_float(value);
            let narrow = match value {
                Value::Numeric(number) => number.to_string().parse().unwrap_or(wide as f32),
                Value::Float4(value) => *value,
                _ => wide as f32,
            };
            let finite = wide.is_finite() || matches!(value, Value::Numeric(Numeric::Finite { .. }));
            if (narrow.is_infinite() && finite) || (narrow == 0.0 && wide != 0.0) {
                return Err(overflow());
            }
            Value::Float4(narrow)
        }
        Type::Float8 => {
            let wide = to_float(value);
            if wide.is_infinite() && matches!(value, Value::Numeric(Numeric::Finite { .. })) {
                return Err(overflow());
            }
            Value::Float8(wide)
        }
        Type::Numeric(modifier) => {
            let number = match value {
                Value::Numeric(number) => number.clone(),
                Value::Float4(value) => Numeric::from_float(f64::from(*value), 6)?,
                Value::Float8(value) => Numeric::from_float(*value, 15)?,
                other => Numeric::from(other.as_i64().unwrap_or_default()),
            };
            Value::Numeric(match modifier {
                Some((precision, scale)) => number.fit(*precision, *scale)?,
                None => number,
            })
        }
        _ => return Err(cannot(&Type::Numeric(None), to)),
    })
}

fn cast_json(json: &Json, to: &Type, how: CastContext, context: &EvalContext<'_>) -> Result<Value> {
    match json {
        Json::Number(number) if number_rank(to).is_some() => {
            cast(&Value::Numeric(number.clone()), &Type::Numeric(None), to, how, context)
        }
        Json::Bool(value) if *to == Type::Bool => Ok(Value::Bool(*value)),
        other => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("cannot cast jsonb {} to type {to}", other.type_name()),
        )),
    }
}

fn cast_time(value: &Value, to: &Type, context: &EvalContext<'_>) -> Result<Option<Value>> {
    let zone = || Zone::session(context.time_zone);
    let date_to_micros = |days: i32| match days {
        i32::MAX => Ok(i64::MAX),
        i32::MIN => Ok(i64::MIN),
        days => i64::from(days)
            .checked_mul(DAY_MICROS)
            .and_then(|micros| valid_timestamp(micros).ok())
            .ok_or_else(|| SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    };
    let to_date = |local: i64| match local {
        i64::MAX => i32::MAX,
        i64::MIN => i32::MIN,
        local => local.div_euclid(DAY_MICROS) as i32,
    };
    let finite = |moment: i64, f: &dyn Fn(i64) -> i64| if is_finite(moment) { f(moment) } else { moment };
    let local = |moment: i64| finite(moment, &|t| zone().to_local(t));
    Ok(Some(match (value, to) {
        (Value::Timestamptz(_), Type::Timestamptz(_))
        | (Value::Timestamp(_), Type::Timestamp(_))
        | (Value::Date(_), Type::Date)
        | (Value::Time(_), Type::Time(_))
        | (Value::Interval(_), Type::Interval(_))
        | (Value::Bool(_), Type::Bool)
        | (Value::CharByte(_), Type::CharByte)
        | (Value::Bytea(_), Type::Bytea)
        | (Value::Uuid(_), Type::Uuid)
        | (Value::Jsonb(_), Type::Jsonb | Type::Json)
        | (Value::Record(_), Type::Record) => value.clone(),
        (Value::Date(days), Type::Timestamp(_)) => Value::Timestamp(date_to_micros(*days)?),
        (Value::Date(days), Type::Timestamptz(_)) => {
            Value::Timestamptz(finite(date_to_micros(*days)?, &|t| zone().to_utc(t)))
        }
        (Value::Timestamp(t), Type::Timestamptz(_)) => Value::Timestamptz(finite(*t, &|t| zone().to_utc(t))),
        (Value::Timestamptz(t), Type::Timestamp(_)) => Value::Timestamp(local(*t)),
        (Value::Timestamptz(t), Type::Date) => Value::Date(to_date(local(*t))),
        (Value::Timestamp(t), Type::Date) => Value::Date(to_date(*t)),
        (Value::Timestamptz(t), Type::Time(_)) if is_finite(*t) => Value::Time(local(*t).rem_euclid(DAY_MICROS)),
        (Value::Timestamp(t), Type::Time(_)) if is_finite(*t) => Value::Time(t.rem_euclid(DAY_MICROS)),
        (Value::Timestamptz(_) | Value::Timestamp(_), Type::Time(_)) => Value::Null,
        (Value::Time(t), Type::Interval(_)) => Value::Interval(super::Interval { months: 0, days: 0, micros: *t }),
        (Value::Interval(interval), Type::Time(_)) => Value::Time(interval.micros.rem_euclid(DAY_MICROS)),
        _ => return Ok(None),
    }))
}

/// The one type that values of several types are brought to, as UNION, CASE, COALESCE, VALUES and ARRAY do.
///
/// `what` names the construct in the error.
pub fn common_type(types: &[Type], what: &str) -> Result<Type> {
    let mut known = types.iter().filter(|ty| **ty != Type::Unknown);
    let Some(first) = known.next() else { return Ok(Type::Text) };
    if known.clone().all(|ty| ty == first) {
        // A modifier stays only where all share it: a literal has none.
        let alike = types.iter().all(|ty| ty == first);
        return Ok(if alike { first.clone() } else { first.base() });
    }
    let mut best = first.base();
    for ty in known {
        let ty = ty.base();
        if ty == best {
            continue;
        }
        if ty.category() != best.category() {
            let message = format!("{what} types {best} and {ty} cannot be matched");
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
        }
        let (forward, backward) = (can_cast(&best, &ty, Implicit), can_cast(&ty, &best, Implicit));
        if forward && !best.is_preferred() && (!backward || ty.is_preferred()) {
            best = ty;
        } else if !backward {
            let message = format!("{what} could not convert type {ty} to {best}");
            return Err(SqlError::new(SqlState::CANNOT_COERCE, message));
        }
    }
    debug_assert!(best.category() != Category::Unknown, "unknown types were filtered out");
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func::testing::with_context;

    fn convert(text: &str, from: &Type, to: &Type, how: CastContext) -> Result<String> {
        with_context(|context| {
            let value = decode_text(text, from, &context.text())?;
            Ok(encode_text(&cast(&value, from, to, how, context)?, to, &context.text()))
        })
    }

    #[test]
    fn the_matrix_is_postgresqls() {
        for (from, to, least) in [
            (Type::Int4, Type::Int8, Some(Implicit)),
            (Type::Int8, Type::Int4, Some(Assignment)),
            (Type::Int8, Type::Numeric(None), Some(Implicit)),
            (Type::Numeric(None), Type::Float8, Some(Implicit)),
            (Type::Float8, Type::Numeric(None), Some(Assignment)),
            (Type::Text, Type::Int4, Some(Explicit)),
            (Type::Int4, Type::Text, Some(Assignment)),
            (Type::Varchar(Some(3)), Type::Text, Some(Implicit)),
            (Type::Bool, Type::Int4, Some(Explicit)),
            (Type::Bool, Type::Int8, None),
            (Type::Date, Type::Timestamptz(None), Some(Implicit)),
            (Type::Uuid, Type::Int4, None),
            (Type::Unknown, Type::Uuid, Some(Implicit)),
            (Type::Oid, Type::Regclass, Some(Implicit)),
            (Type::array_of(Type::Int4), Type::array_of(Type::Text), Some(Assignment)),
        ] {
            assert_eq!(find_cast(&from, &to), least, "{from} to {to}");
        }
    }

    #[test]
    fn values_are_converted() {
        let number = Type::Numeric(None);
        assert_eq!(convert("2.5", &Type::Float8, &Type::Int4, Assignment).unwrap(), "2");
        assert_eq!(convert("2.5", &number, &Type::Int4, Assignment).unwrap(), "3");
        assert_eq!(convert("0.1", &Type::Float8, &number, Assignment).unwrap(), "0.1");
        assert_eq!(convert("t", &Type::Bool, &Type::Text, Assignment).unwrap(), "true");
        assert_eq!(convert("abc", &Type::Text, &Type::Varchar(Some(2)), Explicit).unwrap(), "ab");
        assert_eq!(
            convert("abc", &Type::Text, &Type::Varchar(Some(2)), Assignment).unwrap_err().state.as_str(),
            "22001"
        );
        assert_eq!(convert("3000000000", &Type::Int8, &Type::Int4, Assignment).unwrap_err().state.as_str(), "22003");
        assert_eq!(convert("x", &Type::Text, &Type::Int4, Explicit).unwrap_err().state.as_str(), "22P02");
        assert_eq!(
            convert("2024-01-02", &Type::Date, &Type::Timestamptz(None), Implicit).unwrap(),
            "2024-01-02 00:00:00+00"
        );
        assert_eq!(
            convert("{1,2}", &Type::array_of(Type::Int4), &Type::array_of(Type::Text), Explicit).unwrap(),
            "{1,2}"
        );
        assert_eq!(convert("12.5", &Type::Jsonb, &Type::Int4, Explicit).unwrap(), "13");
    }

    #[test]
    fn one_type_is_found_for_several() {
        let common = |types: &[Type]| common_type(types, "CASE").map(|ty| ty.to_string());
        assert_eq!(common(&[Type::Int4, Type::Unknown, Type::Int8]).unwrap(), "bigint");
        assert_eq!(common(&[Type::Int4, Type::Float8, Type::Numeric(None)]).unwrap(), "double precision");
        assert_eq!(common(&[Type::Unknown, Type::Unknown]).unwrap(), "text");
        assert_eq!(common(&[Type::Varchar(Some(3)), Type::Varchar(Some(3))]).unwrap(), "character varying(3)");
        assert_eq!(common(&[Type::Varchar(Some(3)), Type::Unknown]).unwrap(), "character varying");
        assert_eq!(common(&[Type::Numeric(Some((5, 2))), Type::Unknown]).unwrap(), "numeric");
        assert_eq!(common(&[Type::Bytea, Type::Uuid]).unwrap_err().state.as_str(), "42846");
        assert_eq!(common(&[Type::Name, Type::Text]).unwrap(), "text");
        assert_eq!(common(&[Type::Int4, Type::Text]).unwrap_err().state.as_str(), "42804");
    }
}
