//! Types and values: what PostgreSQL calls them, how they print, compare and convert.
//!
//! ```text
//!   ty         Type: the closed list of types with their modifiers, oids and names
//!   value      Value: one datum and its total order
//!   numeric    exact decimals          json       jsonb's tree
//!   calendar   days, clocks, zones     datetime   reading dates, times, intervals
//!   text       values as text          binary     values as the wire protocol's bytes
//!   cast       conversions: which exist, where they are allowed, and doing them
//! ```
//!
//! Text and binary forms follow PostgreSQL 15 to the character, with `DateStyle` ISO, `IntervalStyle` postgres,
//! `bytea_output` hex and `extra_float_digits` 1, which are fixed.

mod array_text;
mod binary;
pub(crate) mod calendar;
mod cast;
pub(crate) mod datetime;
pub(crate) mod json;
mod numeric;
pub(crate) mod text;
mod ty;
mod value;

pub(crate) use array_text::ARRAY_DIMENSIONS_MAX;
pub use binary::{decode_binary, encode_binary};
pub use calendar::{DAY_MICROS, SECOND_MICROS, UNIX_OFFSET_SECONDS};
pub use cast::{CastContext, can_cast, cast, common_type, find_cast};
pub use json::{JSON_DEPTH_MAX, Json};
pub use numeric::{NUMERIC_INTEGER_DIGITS_MAX, NUMERIC_SCALE_MAX, Numeric};
pub use text::{decode_text, encode_text, time_zone_exists};
pub use ty::{Category, Type};
pub use value::{Array, Interval, Record, Value};

use crate::func::{CatalogLookup, NoCatalog};

/// What reading and printing text depends on.
#[derive(Clone, Copy)]
pub struct TextContext<'a> {
    /// The setting `TimeZone`.
    pub time_zone: &'a str,
    /// The start of the transaction, for `'now'` and `'today'`: microseconds since 2000-01-01 00:00 UTC.
    pub now: i64,
    /// Names behind `regclass` and the like.
    pub catalog: &'a dyn CatalogLookup,
}

impl TextContext<'static> {
    /// UTC, the year 2000, and an empty catalog: for what depends on none of them.
    pub fn utc() -> Self {
        TextContext { time_zone: "UTC", now: 0, catalog: &NoCatalog }
    }
}
