//! One datum, and the order among the values of one type.

use std::cmp::Ordering;
use std::sync::Arc;

use uuid::Uuid;

use super::{Json, Numeric, Type};

/// One datum; which type it is of is known from the plan, the variant says how it is held.
///
/// Values of one type have a total order, the one that indexes and `ORDER BY` use: NaN is above all numbers and equal to
/// itself, NULL is above everything. Equal values group together (1.0 and 1.00), whatever they print.
#[derive(Clone, Debug)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// `boolean`
    Bool(bool),
    /// `"char"`
    CharByte(u8),
    /// `smallint`
    Int2(i16),
    /// `integer`
    Int4(i32),
    /// `bigint`
    Int8(i64),
    /// `real`
    Float4(f32),
    /// `double precision`
    Float8(f64),
    /// `numeric`
    Numeric(Numeric),
    /// `text`, `varchar`, `char(n)` (without its padding), `name`, and unknown literals.
    Text(Arc<str>),
    /// `bytea`
    Bytea(Arc<[u8]>),
    /// `uuid`
    Uuid(Uuid),
    /// Microseconds since 2000-01-01 00:00 UTC; `i64::MAX` and `i64::MIN` are the infinities.
    Timestamptz(i64),
    /// Microseconds since 2000-01-01 00:00; infinities as above.
    Timestamp(i64),
    /// Days since 2000-01-01; `i32::MAX` and `i32::MIN` are the infinities.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// `interval`
    Interval(Interval),
    /// `jsonb` and `json`
    Jsonb(Arc<Json>),
    /// `oid`, `regclass` and the like.
    Oid(u32),
    /// Any array.
    Array(Arc<Array>),
    /// A row.
    Record(Arc<Record>),
}

/// A row: each field with its type, and with its name if it is a table's. Rows compare by their values alone.
#[derive(Clone, Debug)]
pub struct Record {
    /// The fields.
    pub fields: Vec<(Type, Value)>,
    /// Their names.
    pub names: Option<Arc<[String]>>,
}

impl std::ops::Deref for Record {
    type Target = [(Type, Value)];

    fn deref(&self) -> &[(Type, Value)] {
        &self.fields
    }
}

/// A span of time: its parts are not convertible into each other (a month has no fixed number of days).
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// An array: elements in row-major order.
#[derive(Clone, Debug)]
pub struct Array {
    /// The type of the elements.
    pub element: Type,
    /// Length and lower bound of each dimension; empty for an empty array.
    pub dimensions: Vec<(usize, i32)>,
    /// The elements.
    pub values: Vec<Value>,
}

impl Array {
    /// An array of one dimension, counted from 1.
    pub fn flat(element: Type, values: Vec<Value>) -> Array {
        let dimensions = if values.is_empty() { Vec::new() } else { vec![(values.len(), 1)] };
        Array { element, dimensions, values }
    }
}

impl Value {
    /// A text value.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(Arc::from(text.as_ref()))
    }

    /// A bytea value.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bytea(Arc::from(bytes.as_ref()))
    }

    /// A jsonb value.
    pub fn json(json: Json) -> Value {
        Value::Jsonb(Arc::new(json))
    }

    /// A one-dimensional array value.
    pub fn array(element: Type, values: Vec<Value>) -> Value {
        Value::Array(Arc::new(Array::flat(element, values)))
    }

    /// True for NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The truth value; `None` for NULL (and for what is no boolean).
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a text value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of any of the integer variants, oids among them.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int2(value) => Some(i64::from(*value)),
            Value::Int4(value) => Some(i64::from(*value)),
            Value::Int8(value) => Some(*value),
            Value::Oid(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Bool(_) => 0,
            Value::CharByte(_) => 1,
            Value::Int2(_) => 2,
            Value::Int4(_) => 3,
            Value::Int8(_) => 4,
            Value::Float4(_) => 5,
            Value::Float8(_) => 6,
            Value::Numeric(_) => 7,
            Value::Text(_) => 8,
            Value::Bytea(_) => 9,
            Value::Uuid(_) => 10,
            Value::Timestamptz(_) => 11,
            Value::Timestamp(_) => 12,
            Value::Date(_) => 13,
            Value::Time(_) => 14,
            Value::Interval(_) => 15,
            Value::Jsonb(_) => 16,
            Value::Oid(_) => 17,
            Value::Array(_) => 18,
            Value::Record(_) => 19,
            Value::Null => 20,
        }
    }
}

/// Order of floats: NaN is equal to itself and above everything, -0 equals 0.
fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        use Value::*;
        match (self, other) {
            (Bool(a), Bool(b)) => a.cmp(b),
            (CharByte(a), CharByte(b)) => a.cmp(b),
            (Int2(a), Int2(b)) => a.cmp(b),
            (Int4(a), Int4(b)) => a.cmp(b),
            (Int8(a), Int8(b)) => a.cmp(b),
            (Float4(a), Float4(b)) => float_order(f64::from(*a), f64::from(*b)),
            (Float8(a), Float8(b)) => float_order(*a, *b),
            (Numeric(a), Numeric(b)) => a.cmp(b),
            (Text(a), Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Bytea(a), Bytea(b)) => a.cmp(b),
            (Uuid(a), Uuid(b)) => a.cmp(b),
            (Timestamptz(a), Timestamptz(b)) | (Timestamp(a), Timestamp(b)) | (Time(a), Time(b)) => a.cmp(b),
            (Date(a), Date(b)) => a.cmp(b),
            (Interval(a), Interval(b)) => a.cmp(b),
            (Jsonb(a), Jsonb(b)) => a.cmp(b),
            (Oid(a), Oid(b)) => a.cmp(b),
            (Array(a), Array(b)) => a.values.cmp(&b.values).then_with(|| a.dimensions.cmp(&b.dimensions)),
            (Record(a), Record(b)) => {
                let fields = a.iter().zip(b.iter()).map(|(x, y)| x.1.cmp(&y.1));
                fields.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.total_micros() == other.total_micros()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.total_micros().cmp(&other.total_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_above_numbers_and_null_above_all() {
        assert!(Value::Float8(f64::NAN) > Value::Float8(f64::INFINITY));
        assert_eq!(Value::Float8(f64::NAN), Value::Float8(-f64::NAN));
        assert_eq!(Value::Float8(-0.0), Value::Float8(0.0));
        assert!(Value::Null > Value::Record(Arc::new(super::Record { fields: vec![], names: None })));
        let month = Value::Interval(Interval { months: 1, days: 0, micros: 0 });
        assert_eq!(month, Value::Interval(Interval { months: 0, days: 30, micros: 0 }));
    }
}
