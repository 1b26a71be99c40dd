//! Portals: a prepared statement with its values, and rows that wait for their client.
//!
//! A client that asks for a few rows at a time gets them from a result that was computed whole: the rows stand here,
//! encoded, until they are fetched. So the statement sees one state however long the client takes, and what is kept is
//! bounded by [`PG_PORTAL_BYTES_MAX`](rockpool_proto::limits::PG_PORTAL_BYTES_MAX).

use bytes::{Buf, BytesMut};
use rockpool_sql::Value;

use super::encoding::Format;
use crate::session::PreparedStatement;

/// A bound statement.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) statement: PreparedStatement,
    pub(crate) params: Vec<Value>,
    pub(crate) formats: Vec<Format>,
    pub(crate) state: PortalState,
}

/// How far a portal has come.
#[derive(Debug)]
pub(crate) enum PortalState {
    /// Not executed.
    Ready,
    /// Executed; rows wait.
    Suspended(WaitingRows),
    /// Executed, all rows sent.
    Done,
}

/// Encoded rows that have not been fetched.
#[derive(Debug, Default)]
pub(crate) struct WaitingRows {
    encoded: BytesMut,
    /// What they take until the last one is fetched.
    pub(crate) bytes_held: usize,
    /// The statement's own tag.
    tag: String,
}

impl WaitingRows {
    pub(crate) fn new(encoded: BytesMut, tag: String) -> Self {
        WaitingRows { bytes_held: encoded.len(), encoded, tag }
    }

    /// The tag that ends the portal: a query counts what was fetched last, other statements what they changed.
    pub(crate) fn tag(&self, taken: u64) -> String {
        if self.tag.starts_with("SELECT") { format!("SELECT {taken}") } else { self.tag.clone() }
    }

    /// Moves up to `rows_max` rows (0: all) into `output`; answers how many.
    pub(crate) fn take(&mut self, rows_max: usize, output: &mut BytesMut) -> u64 {
        let mut taken = 0;
        let mut end = 0;
        while end < self.encoded.len() && (rows_max == 0 || taken < rows_max as u64) {
            let length = (&self.encoded[end + 1..end + 5]).get_i32();
            end += 1 + length as usize;
            taken += 1;
        }
        output.extend_from_slice(&self.encoded.split_to(end));
        taken
    }

    /// Whether none are left.
    pub(crate) fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_handed_out_a_few_at_a_time() {
        let mut rows =
            WaitingRows::new(BytesMut::from(&b"D\0\0\0\x06abD\0\0\0\x04D\0\0\0\x05c"[..]), "SELECT 3".to_owned());
        let mut output = BytesMut::new();
        assert_eq!(rows.take(2, &mut output), 2);
        assert_eq!(&output[..], b"D\0\0\0\x06abD\0\0\0\x04");
        assert!(!rows.is_empty());
        assert_eq!(rows.take(0, &mut output), 1);
        assert!(rows.is_empty());
        assert_eq!(rows.take(5, &mut output), 0);
    }
}
