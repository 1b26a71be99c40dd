//! Types and values: what PostgreSQL calls them, how they print, compare and convert.
//!
//! ```text
//!   ty       Type: the closed list of types with their modifiers, oids and names
//!   value    Value: one datum, its total order and its grouping key
//! ```

mod ty;
mod value;

pub use ty::{Category, Type};
pub use value::{Array, Interval, Json, Numeric, Value};

use crate::error::Result;
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
