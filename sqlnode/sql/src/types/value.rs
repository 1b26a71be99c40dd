//! One datum.

use std::sync::Arc;

use uuid::Uuid;

use super::Type;

/// One datum; which type it is of is known from the plan, the variant says how it is held.
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
    /// `text`, `varchar`, `char(n)` (padded), `name`, and unknown literals.
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
    /// A row, each field with its type.
    Record(Arc<[(Type, Value)]>),
}

/// A span of time: its parts are not convertible into each other (a month has no fixed number of days).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// An exact decimal number, or one of the special values. Its scale counts: 1.0 and 1.00 are equal, but print differently.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// Below everything else.
    NegativeInfinity,
    /// A finite number; the scale is the number of digits after the point that are printed, never negative.
    Finite(bigdecimal::BigDecimal),
    /// Above all finite numbers.
    PositiveInfinity,
    /// Not a number: equal to itself and above everything else.
    NaN,
}

/// A JSON tree as `jsonb` keeps it: keys unique, shorter keys first, then by bytes.
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, always finite.
    Number(Numeric),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its pairs in jsonb's order.
    Object(Vec<(String, Json)>),
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

    /// True for NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}
