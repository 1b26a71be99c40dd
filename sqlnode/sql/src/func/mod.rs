//! Functions and operators: one registry that the binder looks up and the executor calls.
//!
//! ```text
//!   resolve_function("upper", [text])  ->  Resolved { arguments: [text], result: text, kind, volatility, .. }
//!   resolve_operator("+", int4, int8)  ->  Resolved { arguments: [int8, int8], .. }
//! ```
//!
//! The binder casts each argument to `arguments[i]` (an implicit cast, always possible once resolved), then the executor
//! calls [`Resolved::call`] per row, or [`Resolved::accumulator`], or [`Resolved::rows`], by kind.

mod context;
#[cfg(test)]
pub(crate) mod testing;
mod registry;

pub use context::{CatalogLookup, EvalContext, NoCatalog, Random, Settings};
pub use registry::{Accumulator, Kind, Resolved, Volatility, function_exists, function_kind, resolve_function, resolve_operator};
