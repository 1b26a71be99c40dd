//! Signals: descriptions and candidates, signed by the device that sends them.
//!
//! The signature covers pool, both devices, both presence epochs, a sequence number, purpose, generation and the SDP, and
//! with the SDP the DTLS fingerprint. So whoever relays a signal, the cluster above all, can drop it but can't alter it,
//! replay it, or pass it to somebody else; and a certificate that isn't the signed one closes the connection.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use rockpool_proto::peer::v1 as wire;
use rockpool_proto::{DeviceId, PoolId, limits};

use crate::identity::{DeviceKeys, DevicePublicKey, SigningContext};

/// What a connection is for. A link is one of each, so that a transfer never delays a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Messages and requests.
    Control,
    /// Ranges of files.
    Bulk,
}

/// SHA-256 of a DTLS certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02X}:")).and_then(|()| write!(f, ".."))
    }
}

/// An ICE candidate, as WebRTC libraries pass them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// `candidate:...`
    pub candidate: String,
    /// The media section's name.
    pub sdp_mid: String,
    /// The media section's index.
    pub sdp_mline_index: u16,
}

/// What a signal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// An offer's SDP.
    Offer(String),
    /// An answer's SDP.
    Answer(String),
    /// A candidate; `None` after the last.
    Candidate(Option<Candidate>),
    /// From the side that doesn't offer: I have no working connection, `generation` being the last I know.
    OfferRequest,
}

/// A signal, with all that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The pool.
    pub pool: PoolId,
    /// The sender.
    pub from: DeviceId,
    /// The receiver.
    pub to: DeviceId,
    /// The sender's presence epoch.
    pub from_epoch: u64,
    /// The receiver's, as the sender knows it.
    pub to_epoch: u64,
    /// Grows with each signal from this sender in this presence.
    pub sequence: u64,
    /// Of which connection.
    pub purpose: Purpose,
    /// Of the connection.
    pub generation: u64,
    /// 0, then one more for each ICE restart.
    pub round: u32,
    /// What it says.
    pub kind: SignalKind,
}

/// Why a signal is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Too long, or not decodable.
    #[error("malformed signal: {0}")]
    Malformed(&'static str),
    /// Signed by somebody else, or altered.
    #[error("the signal's signature doesn't fit")]
    BadSignature,
    /// For another device, pool or presence, or not from whom the relay says.
    #[error("the signal was made for somebody else or another presence")]
    Misdirected,
    /// Seen before.
    #[error("the signal was seen before")]
    Replayed,
}

impl Signal {
    /// Signs and encodes.
    pub fn seal(&self, keys: &DeviceKeys) -> Bytes {
        Bytes::from(self.seal_to_wire(keys).encode_to_vec())
    }

    /// Signs.
    pub fn seal_to_wire(&self, keys: &DeviceKeys) -> wire::SignedSignal {
        let kind = match &self.kind {
            SignalKind::Offer(sdp) => wire::signal_content::Kind::Offer(wire::SdpOffer { sdp: sdp.clone() }),
            SignalKind::Answer(sdp) => wire::signal_content::Kind::Answer(wire::SdpAnswer { sdp: sdp.clone() }),
            SignalKind::Candidate(candidate) => wire::signal_content::Kind::Candidate(match candidate {
                Some(candidate) => wire::IceCandidate {
                    candidate: candidate.candidate.clone(),
                    sdp_mid: candidate.sdp_mid.clone(),
                    sdp_mline_index: u32::from(candidate.sdp_mline_index),
                },
                None => wire::IceCandidate::default(),
            }),
            SignalKind::OfferRequest => wire::signal_content::Kind::OfferRequest(wire::OfferRequest {}),
        };
        let mut content = wire::SignalContent {
            pool_id: Bytes::copy_from_slice(self.pool.as_bytes()),
            from_device_id: Bytes::copy_from_slice(self.from.as_bytes()),
            to_device_id: Bytes::copy_from_slice(self.to.as_bytes()),
            from_presence_epoch: self.from_epoch,
            to_presence_epoch: self.to_epoch,
            sequence: self.sequence,
            generation: self.generation,
            round: self.round,
            kind: Some(kind),
            ..Default::default()
        };
        content.set_purpose(match self.purpose {
            Purpose::Control => wire::Purpose::Control,
            Purpose::Bulk => wire::Purpose::Bulk,
        });
        let content = Bytes::from(content.encode_to_vec());
        let signature = keys.sign(SigningContext::Signal, &[&content]);
        wire::SignedSignal { content, signature: Bytes::copy_from_slice(&signature) }
    }

    /// Decodes and checks that `sender` signed it.
    pub fn open(payload: Bytes, sender: &DevicePublicKey) -> Result<Signal, SignalError> {
        if payload.len() > limits::SIGNAL_BYTES_MAX {
            return Err(SignalError::Malformed("too long"));
        }
        let signed = wire::SignedSignal::decode(payload).map_err(|_| SignalError::Malformed("envelope"))?;
        Signal::open_wire(signed, sender)
    }

    /// Checks that `sender` signed it.
    pub fn open_wire(signed: wire::SignedSignal, sender: &DevicePublicKey) -> Result<Signal, SignalError> {
        sender
            .verify(SigningContext::Signal, &[&signed.content], &signed.signature)
            .map_err(|_| SignalError::BadSignature)?;
        let content = wire::SignalContent::decode(signed.content).map_err(|_| SignalError::Malformed("content"))?;
        let purpose = match content.purpose() {
            wire::Purpose::Control => Purpose::Control,
            wire::Purpose::Bulk => Purpose::Bulk,
            wire::Purpose::Unspecified => return Err(SignalError::Malformed("purpose")),
        };
        let device = |bytes: &Bytes| DeviceId::try_from(bytes.as_ref()).map_err(|_| SignalError::Malformed("device"));
        let signal = Signal {
            pool: PoolId::try_from(content.pool_id.as_ref()).map_err(|_| SignalError::Malformed("pool"))?,
            from: device(&content.from_device_id)?,
            to: device(&content.to_device_id)?,
            from_epoch: content.from_presence_epoch,
            to_epoch: content.to_presence_epoch,
            sequence: content.sequence,
            purpose,
            generation: content.generation,
            round: content.round,
            kind: kind_from_wire(content.kind.ok_or(SignalError::Malformed("kind"))?)?,
        };
        if signal.from != sender.device_id() {
            return Err(SignalError::Misdirected);
        }
        Ok(signal)
    }
}

fn kind_from_wire(kind: wire::signal_content::Kind) -> Result<SignalKind, SignalError> {
    Ok(match kind {
        wire::signal_content::Kind::Offer(offer) => SignalKind::Offer(offer.sdp),
        wire::signal_content::Kind::Answer(answer) => SignalKind::Answer(answer.sdp),
        wire::signal_content::Kind::Candidate(candidate) if candidate.candidate.is_empty() => {
            SignalKind::Candidate(None)
        }
        wire::signal_content::Kind::Candidate(candidate) => SignalKind::Candidate(Some(Candidate {
            candidate: candidate.candidate,
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: u16::try_from(candidate.sdp_mline_index)
                .map_err(|_| SignalError::Malformed("media section"))?,
        })),
        wire::signal_content::Kind::OfferRequest(_) => SignalKind::OfferRequest,
    })
}

/// The one SHA-256 fingerprint of a description. `None` when there is none, another algorithm, or two that differ: then
/// nobody could say which certificate was meant.
pub fn fingerprint_of_sdp(sdp: &str) -> Option<Fingerprint> {
    let mut found = None;
    for line in sdp.lines() {
        let Some(value) = line.trim_end().strip_prefix("a=fingerprint:") else { continue };
        let (algorithm, digits) = value.split_once(' ')?;
        if !algorithm.eq_ignore_ascii_case("sha-256") {
            return None;
        }
        let mut bytes = [0; 32];
        let mut octets = digits.trim().split(':');
        for byte in &mut bytes {
            let octet = octets.next()?;
            if octet.len() != 2 || !octet.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(octet, 16).ok()?;
        }
        if octets.next().is_some() || found.is_some_and(|known| known != Fingerprint(bytes)) {
            return None;
        }
        found = Some(Fingerprint(bytes));
    }
    found
}

/// Sequence numbers seen from one sender in one presence: each once, older than 128 behind the newest never.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    epoch: u64,
    newest: u64,
    /// Bit `n`: `newest - n` was seen.
    seen: u128,
}

impl ReplayWindow {
    /// Marks the number as seen; says whether it was new. A later presence starts afresh, an earlier one is over.
    pub fn admit(&mut self, epoch: u64, sequence: u64) -> bool {
        if epoch < self.epoch || sequence == 0 {
            return false;
        }
        if epoch > self.epoch {
            *self = ReplayWindow { epoch, newest: 0, seen: 0 };
        }
        if sequence > self.newest {
            let by = sequence - self.newest;
            self.seen = if by < 128 { self.seen << by } else { 0 } | 1;
            self.newest = sequence;
            return true;
        }
        let back = self.newest - sequence;
        if back >= 128 || self.seen & (1 << back) != 0 {
            return false;
        }
        self.seen |= 1 << back;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(keys: &DeviceKeys) -> Signal {
        Signal {
            pool: PoolId([1; 16]),
            from: keys.device_id(),
            to: DeviceId([9; 16]),
            from_epoch: 4,
            to_epoch: 7,
            sequence: 1,
            purpose: Purpose::Bulk,
            generation: 3,
            round: 1,
            kind: SignalKind::Offer("v=0".into()),
        }
    }

    #[test]
    fn a_signal_survives_sealing_and_alterations_are_refused() {
        let keys = DeviceKeys::from_secret(&[1; 32]);
        let sealed = signal(&keys).seal(&keys);
        assert_eq!(Signal::open(sealed.clone(), keys.public()), Ok(signal(&keys)));
        for at in 0..sealed.len() {
            let mut altered = sealed.to_vec();
            altered[at] ^= 1;
            assert!(Signal::open(altered.into(), keys.public()).is_err(), "byte {at}");
        }
        let other = DeviceKeys::from_secret(&[2; 32]);
        assert_eq!(Signal::open(sealed, other.public()), Err(SignalError::BadSignature));
        // Signed by one device in the name of another.
        let in_another_name = signal(&keys).seal(&other);
        assert_eq!(Signal::open(in_another_name, other.public()), Err(SignalError::Misdirected));
    }

    #[test]
    fn a_fingerprint_is_read_only_when_there_is_exactly_one() {
        let hex = |byte: &str| vec![byte; 32].join(":");
        let line = |byte: &str| format!("a=fingerprint:sha-256 {}\r\n", hex(byte));
        assert_eq!(fingerprint_of_sdp(&format!("v=0\r\n{}", line("0A"))), Some(Fingerprint([10; 32])));
        assert_eq!(fingerprint_of_sdp(&format!("{}m=x\r\n{}", line("0A"), line("0a"))), Some(Fingerprint([10; 32])));
        assert_eq!(fingerprint_of_sdp(&format!("{}{}", line("0A"), line("0B"))), None);
        assert_eq!(fingerprint_of_sdp("v=0"), None);
        assert_eq!(fingerprint_of_sdp(&format!("a=fingerprint:sha-1 {}", hex("0A"))), None);
        assert_eq!(fingerprint_of_sdp("a=fingerprint:sha-256 0A:0B"), None);
        assert_eq!(fingerprint_of_sdp(&line("+A")), None);
        assert_eq!(fingerprint_of_sdp(&format!("a=fingerprint:sha-256 {}:00", hex("0A"))), None);
    }

    #[test]
    fn each_sequence_number_counts_once() {
        let mut window = ReplayWindow::default();
        assert!(window.admit(1, 1) && window.admit(1, 3) && window.admit(1, 2));
        assert!(!window.admit(1, 1) && !window.admit(1, 2) && !window.admit(1, 3) && !window.admit(1, 0));
        assert!(window.admit(1, 1000) && !window.admit(1, 3) && window.admit(1, 999));
        assert!(window.admit(2, 1), "a new presence");
        assert!(!window.admit(1, 1001), "the old one is over");
        assert!(window.admit(2, 200) && window.admit(2, 73) && !window.admit(2, 72));
    }
}
