//! From the names of types to types.

use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

use crate::error::{Result, SqlError, SqlState};
use crate::kind::name_parts;
use crate::types::Type;

/// Digits in a numeric.
const NUMERIC_PRECISION_MAX: u64 = 1_000;
/// Characters in a varchar(n).
const LENGTH_MAX: u64 = 10_485_760;

fn length(given: &Option<CharacterLength>) -> Result<Option<u32>> {
    match given {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length, .. }) if (1..=LENGTH_MAX).contains(length) => {
            Ok(Some(*length as u32))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => {
            let message = format!("length of a character type must be between 1 and {LENGTH_MAX}, not {length}");
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
        Some(CharacterLength::Max) => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"max\"")),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<Type> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(Type::Numeric(None)),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=NUMERIC_PRECISION_MAX).contains(&precision) {
        let message = format!("NUMERIC precision {precision} must be between 1 and {NUMERIC_PRECISION_MAX}");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    match i16::try_from(scale) {
        Ok(scale) if (-1_000..=1_000).contains(&scale) => Ok(Type::Numeric(Some((precision as u16, scale)))),
        _ => {
            let message = format!("NUMERIC scale {scale} must be between -1000 and 1000");
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
    }
}

/// A type of times with so many digits of its seconds; PostgreSQL takes more than six for six.
fn fraction(ty: Type, digits: Option<u64>) -> Result<Type> {
    Ok(match digits {
        None => ty,
        Some(digits) => ty.with_fraction(digits.min(6) as u8).unwrap_or(ty),
    })
}

/// The type that a statement names.
pub(crate) fn bind_type(ty: &DataType) -> Result<Type> {
    Ok(match ty {
        DataType::Bool | DataType::Boolean => Type::Bool,
        DataType::SmallInt(None) | DataType::Int2(None) => Type::Int2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Type::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => Type::Int8,
        DataType::Real | DataType::Float4 => Type::Float4,
        DataType::Float8 | DataType::DoublePrecision => Type::Float8,
        DataType::Double(ExactNumberInfo::None) | DataType::Float(ExactNumberInfo::None) => Type::Float8,
        DataType::Float(ExactNumberInfo::Precision(bits)) if (1..=24).contains(bits) => Type::Float4,
        DataType::Float(ExactNumberInfo::Precision(bits)) if (25..=53).contains(bits) => Type::Float8,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => Type::Text,
        DataType::Varchar(given) | DataType::CharacterVarying(given) | DataType::CharVarying(given) => {
            Type::Varchar(length(given)?)
        }
        DataType::Char(given) | DataType::Character(given) => Type::Char(Some(length(given)?.unwrap_or(1))),
        DataType::Bytea => Type::Bytea,
        DataType::Uuid => Type::Uuid,
        DataType::Timestamp(digits, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            fraction(Type::Timestamptz(None), *digits)?
        }
        DataType::Timestamp(digits, _) => fraction(Type::Timestamp(None), *digits)?,
        DataType::Date => Type::Date,
        DataType::Time(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            fraction(Type::Time(None), *digits)?
        }
        DataType::Interval { fields: None, precision } => fraction(Type::Interval(None), *precision)?,
        DataType::Interval { .. } => return Err(SqlError::unsupported("an interval of some fields only")),
        DataType::JSON => Type::Json,
        DataType::JSONB => Type::Jsonb,
        DataType::Regclass => Type::Regclass,
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Qualified(element, _)
            | ArrayElemTypeDef::AngleBracket(element),
        ) => Type::array_of(bind_type(element)?),
        DataType::Custom(name, modifiers) => custom(&name_parts(name)?, modifiers)?,
        other => return Err(unknown_type(&other.to_string().to_lowercase())),
    })
}

fn unknown_type(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

fn custom(parts: &[String], modifiers: &[String]) -> Result<Type> {
    let name = match parts {
        [name] => name,
        [schema, name] if schema == crate::catalog::PG_CATALOG => name,
        _ => return Err(unknown_type(&parts.join("."))),
    };
    if !modifiers.is_empty() {
        return Err(SqlError::unsupported(format!("a modifier of type {name}")));
    }
    Ok(match name.as_str() {
        "name" => Type::Name,
        "oid" => Type::Oid,
        "regtype" => Type::Regtype,
        "regproc" => Type::Regproc,
        "regnamespace" => Type::Regnamespace,
        "timestamptz" => Type::Timestamptz(None),
        "bpchar" => Type::Char(None),
        "char" => Type::CharByte,
        "string" => return Err(unknown_type(name)),
        other => match other.strip_prefix('_') {
            Some(element) => Type::array_of(by_internal_name(element)?),
            None => by_internal_name(other)?,
        },
    })
}

fn by_internal_name(name: &str) -> Result<Type> {
    Type::all()
        .find(|ty| ty.internal_name() == name && !matches!(ty, Type::Unknown | Type::Void | Type::Record))
        .ok_or_else(|| unknown_type(name))
}
