//! What stands in the Raft log.

use super::CodecError;
use super::message::{txn_id, write_from_wire, write_to_wire};
use crate::txn::{Timestamp, TxnId};
use bytes::Bytes;
use prost::Message;
use rockpool_proto::engine::v1 as wire;
use std::collections::BTreeMap;

/// A transaction that passed validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitCommand {
    /// Whose.
    pub(crate) txn: TxnId,
    /// When it takes effect.
    pub(crate) timestamp: Timestamp,
    /// What it had seen.
    pub(crate) read_timestamp: Timestamp,
    /// What it writes.
    pub(crate) writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A change of the state, the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Writes, unless the transaction has ended before.
    Commit(CommitCommand),
    /// Ends a transaction that has not committed.
    Resolve {
        /// Which.
        txn: TxnId,
        /// What it had seen.
        read_timestamp: Timestamp,
    },
    /// Moves the safe point.
    Collect {
        /// To where, at least.
        safe_point: Timestamp,
    },
    /// Collects behind the safe point.
    CollectStep {
        /// Looking at this many versions and outcomes at most.
        versions_max: u32,
    },
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    /// In order.
    pub(crate) commands: Vec<Command>,
}

impl LogRecord {
    /// Its bytes.
    pub(crate) fn encode(self) -> Bytes {
        let commands = self.commands.into_iter().map(to_wire).collect();
        wire::LogRecord { commands }.encode_to_vec().into()
    }

    /// Reads an entry's bytes.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let record = wire::LogRecord::decode(bytes)?;
        Ok(LogRecord { commands: record.commands.into_iter().map(from_wire).collect::<Result<_, _>>()? })
    }
}

fn to_wire(command: Command) -> wire::Command {
    use wire::command::Kind;
    let kind = match command {
        Command::Commit(commit) => Kind::Commit(wire::CommitCommand {
            txn: Bytes::copy_from_slice(&commit.txn.0),
            timestamp: commit.timestamp.0,
            read_timestamp: commit.read_timestamp.0,
            writes: commit.writes.into_iter().map(write_to_wire).collect(),
        }),
        Command::Resolve { txn, read_timestamp } => Kind::Resolve(wire::ResolveCommand {
            txn: Bytes::copy_from_slice(&txn.0),
            read_timestamp: read_timestamp.0,
        }),
        Command::Collect { safe_point } => Kind::Collect(wire::CollectRequest { safe_point: safe_point.0 }),
        Command::CollectStep { versions_max } => Kind::CollectStep(wire::CollectStep { versions_max }),
    };
    wire::Command { kind: Some(kind) }
}

fn from_wire(command: wire::Command) -> Result<Command, CodecError> {
    use wire::command::Kind;
    match command.kind {
        Some(Kind::Commit(commit)) => Ok(Command::Commit(CommitCommand {
            txn: txn_id(&commit.txn)?,
            timestamp: Timestamp(commit.timestamp),
            read_timestamp: Timestamp(commit.read_timestamp),
            writes: commit.writes.into_iter().map(write_from_wire).collect(),
        })),
        Some(Kind::Resolve(resolve)) => {
            Ok(Command::Resolve { txn: txn_id(&resolve.txn)?, read_timestamp: Timestamp(resolve.read_timestamp) })
        }
        Some(Kind::Collect(collect)) => Ok(Command::Collect { safe_point: Timestamp(collect.safe_point) }),
        Some(Kind::CollectStep(step)) => Ok(Command::CollectStep { versions_max: step.versions_max }),
        None => Err(CodecError::new("a command of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_come_back() {
        let record = LogRecord {
            commands: vec![
                Command::Commit(CommitCommand {
                    txn: TxnId([3; 16]),
                    timestamp: Timestamp(9),
                    read_timestamp: Timestamp(8),
                    writes: BTreeMap::from([(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), None)]),
                }),
                Command::Resolve { txn: TxnId([4; 16]), read_timestamp: Timestamp(7) },
                Command::Collect { safe_point: Timestamp(5) },
                Command::CollectStep { versions_max: 100 },
            ],
        };
        assert_eq!(LogRecord::decode(record.clone().encode()), Ok(record));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = LogRecord::decode(bytes.into());
        }
    }
}
