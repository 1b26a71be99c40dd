//! Functions and operators: one registry that the binder looks up and the executor calls.
//!
//! ```text
//!   resolve_function("upper", [text])  ->  Resolved { arguments: [text], result: text, kind, volatility, .. }
//!   resolve_operator("+", int4, int8)  ->  Resolved { arguments: [int8, int8], .. }
//! ```
//!
//! The binder casts each argument to `arguments[i]` (an implicit cast, always possible once resolved), then the executor
//! calls [`Resolved::call`] per row, or [`Resolved::accumulator`], or [`Resolved::rows`], by kind. Functions read no
//! clock, no file and no generator of their own: what they may know is in [`EvalContext`].
//!
//! `LIKE` is the operator `~~`, `ILIKE` `~~*`, `NOT LIKE` `!~~`, `NOT ILIKE` `!~~*`; `EXTRACT(x FROM y)` is
//! `extract('x', y)`; `AT TIME ZONE` is `timezone(zone, time)`; `POSITION(a IN b)` is `position(b, a)`.

mod aggregate;
mod arithmetic;
mod array;
mod compare;
mod context;
mod convert;
mod datetime;
mod datetime_fields;
mod decimal;
mod json;
mod math;
mod number_template;
mod pattern;
mod registry;
mod resolve;
mod series;
mod string;
mod system;
#[cfg(test)]
pub(crate) mod testing;
mod time_template;
mod values;

pub use context::{CatalogLookup, EvalContext, NoCatalog, Random, Settings};
pub use registry::{Accumulator, Kind, Resolved, Rows, Volatility, function_exists, function_kind};
pub use resolve::{resolve_function, resolve_operator};

pub(crate) use aggregate::stack;
pub(crate) use registry::all_functions;
