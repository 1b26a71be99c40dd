//! Making rows.

use std::sync::Arc;

use crate::types::{Array, Type, Value};

/// The role that owns everything that no other role is known to own.
pub(super) const ROOT: u32 = 10;
/// `pg_catalog`'s own tables, as rows of pg_class say where they are described.
pub(super) const PG_CLASS: u32 = 1259;
/// The oid of `pg_namespace`.
pub(super) const PG_NAMESPACE: u32 = 2615;
/// The access method of tables.
pub(super) const HEAP: u32 = 2;
/// The access method of indexes.
pub(super) const BTREE: u32 = 403;
/// The collation `default`.
pub(super) const DEFAULT_COLLATION: u32 = 100;
/// The collation `C`.
pub(super) const C_COLLATION: u32 = 950;
/// The tablespace `pg_default`.
pub(super) const DEFAULT_TABLESPACE: u32 = 1663;
/// The only database.
pub(super) const DATABASE: u32 = 5;

pub(super) fn oid(value: u32) -> Value {
    Value::Oid(value)
}

pub(super) fn text(value: impl AsRef<str>) -> Value {
    Value::text(value)
}

pub(super) fn optional(value: Option<impl AsRef<str>>) -> Value {
    value.map_or(Value::Null, Value::text)
}

pub(super) fn yes(value: bool) -> Value {
    Value::Bool(value)
}

pub(super) fn int2(value: usize) -> Value {
    Value::Int2(i16::try_from(value).unwrap_or(i16::MAX))
}

pub(super) fn int4(value: i32) -> Value {
    Value::Int4(value)
}

pub(super) fn char(value: char) -> Value {
    Value::CharByte(value as u8)
}

/// An array of column numbers, counted from 1.
pub(super) fn numbers(values: impl IntoIterator<Item = usize>) -> Value {
    Value::array(Type::Int2, values.into_iter().map(int2).collect())
}

/// An `int2vector` or `oidvector`: an array counted from 0.
pub(super) fn vector(element: Type, values: Vec<Value>) -> Value {
    let dimensions = if values.is_empty() { Vec::new() } else { vec![(values.len(), 0)] };
    Value::Array(Arc::new(Array { element, dimensions, values }))
}

/// The collation of a type.
pub(super) fn collation(ty: &Type) -> u32 {
    match ty {
        Type::Name => C_COLLATION,
        Type::Array(element) => collation(element),
        ty if ty.is_text() && *ty != Type::Unknown => DEFAULT_COLLATION,
        _ => 0,
    }
}
