//! The library's messages as they arrive: read, and looked over for what the library takes for granted.

use crate::output::Class;
use ::raft::prelude::{Message, MessageType};
use protobuf::Message as _;
use rockpool_proto::NodeId;

/// Reads a message that `from` sent to `to`.
pub(super) fn read(from: NodeId, to: NodeId, bytes: &[u8]) -> Result<Message, String> {
    let mut message = Message::default();
    message.merge_from_bytes(bytes).map_err(|error| error.to_string())?;
    if message.from != from.0 || message.to != to.0 {
        return Err(format!("a message from n{} to n{}", message.from, message.to));
    }
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let mut expected = message.index;
            for entry in message.get_entries() {
                expected = expected.wrapping_add(1);
                if entry.index != expected || entry.term == 0 || entry.term > message.term {
                    return Err(format!("entry {}@{} where {expected} was expected", entry.index, entry.term));
                }
            }
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            if message.get_entries().len() != 1 {
                return Err("a read index without a context".to_owned());
            }
        }
        MessageType::MsgSnapshot => {
            if message.get_snapshot().get_metadata().index == 0 {
                return Err("an empty snapshot".to_owned());
            }
        }
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow => {}
        other => return Err(format!("{other:?} does not travel between nodes")),
    }
    let forwarded = message.get_msg_type() == MessageType::MsgReadIndex;
    if message.term == 0 && !forwarded {
        return Err("a message without a term".to_owned());
    }
    Ok(message)
}

/// How urgent a kind of message is: elections depend on the small ones, which must not queue behind data.
pub(super) fn class(kind: MessageType) -> Class {
    match kind {
        MessageType::MsgAppend | MessageType::MsgAppendResponse => Class::Log,
        MessageType::MsgSnapshot => Class::Bulk,
        _ => Class::Urgent,
    }
}
