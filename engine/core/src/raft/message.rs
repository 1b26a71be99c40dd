//! The library's messages as they arrive: read, and looked over for what the library takes for granted.

use crate::output::Class;
use ::raft::prelude::{Entry, Message, MessageType};
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

/// Cuts an append into several with at most `bytes_max` bytes, or one entry, each. The library keeps to that bound when it
/// makes one, but not when it adds to one that has not gone yet: a follower that lacks much would get all of it at once.
pub(super) fn cut_append(mut message: Message, bytes_max: u64) -> Vec<Message> {
    let size = |entry: &Entry| (entry.data.len() + entry.context.len()) as u64;
    let entries = message.get_entries();
    if message.get_msg_type() != MessageType::MsgAppend || entries.iter().map(size).sum::<u64>() <= bytes_max {
        return vec![message];
    }
    let entries = message.take_entries().into_vec();
    let head = message.clone();
    let (mut cut, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        if let Some(last) = message.get_entries().last()
            && bytes + size(&entry) > bytes_max
        {
            let next = Message { index: last.index, log_term: last.term, ..head.clone() };
            cut.push(std::mem::replace(&mut message, next));
            bytes = 0;
        }
        bytes += size(&entry);
        message.mut_entries().push(entry);
    }
    cut.push(message);
    cut
}

/// How urgent a kind of message is: elections depend on the small ones, which must not queue behind data.
pub(super) fn class(kind: MessageType) -> Class {
    match kind {
        MessageType::MsgAppend | MessageType::MsgAppendResponse => Class::Log,
        MessageType::MsgSnapshot => Class::Bulk,
        _ => Class::Urgent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(sizes: &[usize]) -> Message {
        let entries: Vec<Entry> = (11..)
            .zip(sizes)
            .map(|(index, size)| Entry { index, term: index / 2, data: vec![7; *size].into(), ..Entry::default() })
            .collect();
        let mut message = Message { index: 10, log_term: 4, commit: 9, term: 8, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        message.set_entries(entries.into());
        message
    }

    #[test]
    fn an_append_that_is_too_long_is_cut_where_each_piece_goes_on_from_the_one_before() {
        for (sizes, expected) in [
            (&[][..], &[0][..]),
            (&[500], &[1]),
            (&[40, 60], &[2]),
            (&[40, 61], &[1, 1]),
            (&[10, 500, 10, 10, 90, 10], &[1, 1, 2, 2]),
        ] {
            let whole = append(sizes);
            let cut = cut_append(whole.clone(), 100);
            assert_eq!(cut.iter().map(|piece| piece.get_entries().len()).collect::<Vec<_>>(), expected, "{sizes:?}");
            let entries: Vec<Entry> = cut.iter().flat_map(|piece| piece.get_entries().to_vec()).collect();
            assert_eq!(entries, whole.get_entries());
            let mut before = (10, 4);
            for piece in cut {
                assert_eq!((piece.index, piece.log_term), before);
                assert_eq!((piece.commit, piece.term), (9, 8));
                before = piece.get_entries().last().map_or(before, |entry| (entry.index, entry.term));
            }
        }
    }
}
