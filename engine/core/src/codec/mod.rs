//! Bytes: state keys, stored values, log records and messages between nodes.
//!
//! Generated types stop here. Nothing that arrives from outside may panic; every decoder refuses with a [`CodecError`].

mod command;
mod frame;
mod key;
mod message;
mod meta;
mod value;

pub(crate) use command::{Command, CommitCommand, LogRecord};
pub(crate) use frame::checksum;
pub(crate) use key::{StateKeys, decode_data_suffix, encode_data_suffix, meta_key};
pub(crate) use message::{Answer, Forwarded, NodeMessage, SnapshotAck, SnapshotChunk, StreamId, decode, encode};
pub(crate) use meta::{Membership, StateMeta};
pub(crate) use value::{Version, damaged, decode_outcome, encode_outcome, open, seal};

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CodecError(pub(crate) String);

impl CodecError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        CodecError(what.into())
    }
}

impl From<prost::DecodeError> for CodecError {
    fn from(error: prost::DecodeError) -> Self {
        CodecError(error.to_string())
    }
}
