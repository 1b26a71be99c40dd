//! Values as stored bytes.
//!
//! ```text
//!   key   bytes that sort as the values do; equal values give equal bytes, so what prints differently
//!         (1.0 and 1.00) may come back in another form
//!   row   bytes that keep a row's values exactly, by column id; columns may be added later
//! ```
//!
//! An index entry is therefore made of key values, and the row itself is read from the row codec. Both decoders take
//! any bytes and answer with [`SqlState::DATA_CORRUPTED`](crate::SqlState::DATA_CORRUPTED) rather than panic.

mod key;
mod row;
#[cfg(test)]
mod testing;

pub use key::{KeyOrder, decode_key, encode_key, key_is_exact, prefix_end};
pub use row::{ColumnId, RowReader, decode_value, encode_row, encode_value};
