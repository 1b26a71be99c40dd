//! A CRC-32 in front of what travels, so that a bit flipped in memory or on a wire is noticed where it arrives.

use super::CodecError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;

/// The checksum of several pieces in a row.
pub(crate) fn checksum(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// Encodes a message behind its checksum.
pub(super) fn seal_message(message: &impl prost::Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(CHECKSUM_BYTES + message.encoded_len());
    frame.put_u32_le(0);
    message.encode(&mut frame).expect("a growing buffer has room");
    let sum = checksum(&[&frame[CHECKSUM_BYTES..]]);
    frame[..CHECKSUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    frame.freeze()
}

/// Checks and decodes a message. Fields of bytes are slices of `frame`, not copies.
pub(super) fn open_message<M: prost::Message + Default>(mut frame: Bytes, bytes_max: usize) -> Result<M, CodecError> {
    if frame.len() < CHECKSUM_BYTES || frame.len() > bytes_max {
        return Err(CodecError::new(format!("a frame of {} bytes", frame.len())));
    }
    let sum = frame.get_u32_le();
    if checksum(&[&frame]) != sum {
        return Err(CodecError::new("the checksum does not hold"));
    }
    Ok(M::decode(frame)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rockpool_proto::engine::v1::Span;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let span = Span { start: Bytes::from_static(b"a"), end: Bytes::from_static(b"b") };
        let frame = seal_message(&span);
        assert_eq!(open_message::<Span>(frame.clone(), 100).unwrap(), span);
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            open_message::<Span>(bad.into(), 100).unwrap_err();
        }
        open_message::<Span>(frame.slice(..3), 100).unwrap_err();
        open_message::<Span>(frame, 5).unwrap_err();
    }
}
