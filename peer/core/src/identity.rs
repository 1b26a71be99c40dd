//! A device's keys, its name among devices, and what signatures mean.
//!
//! A device is its Ed25519 key: its id is a hash of the public key, so nobody, the cluster included, can pass another
//! key off as a known device's. Every signature covers a purpose string first, so that one made for a message can't be
//! shown as one made for a signal. Keys of small order, under which anything verifies, are refused where they enter.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rockpool_proto::DeviceId;

/// Bytes in a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningContext {
    /// A device introduces itself to the cluster (`DeviceClaim.proof`).
    Registration,
    /// An entry of the message log.
    LogEntry,
    /// An offer, answer or candidate.
    Signal,
}

impl SigningContext {
    fn prefix(self) -> &'static [u8] {
        match self {
            SigningContext::Registration => b"rockpool 2026 device registration v1\0",
            SigningContext::LogEntry => b"rockpool 2026 log entry v1\0",
            SigningContext::Signal => b"rockpool 2026 signal v1\0",
        }
    }

    fn message(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = self.prefix().to_vec();
        parts.iter().for_each(|part| message.extend_from_slice(part));
        message
    }
}

/// Why a key or a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not 32 bytes, not a point, or a point of small order.
    #[error("not a usable Ed25519 key")]
    BadKey,
    /// The key hashes to another device id.
    #[error("the key doesn't belong to this device id")]
    WrongDevice,
    /// The signature is not by this key over these bytes.
    #[error("the signature doesn't fit")]
    BadSignature,
}

/// The secret half: signs for this device.
pub struct DeviceKeys {
    signing: SigningKey,
    public: DevicePublicKey,
}

impl DeviceKeys {
    /// From 32 secret random bytes, which the driver drew and keeps.
    pub fn from_secret(secret: &[u8; 32]) -> DeviceKeys {
        let signing = SigningKey::from_bytes(secret);
        let public = DevicePublicKey::of(signing.verifying_key());
        DeviceKeys { signing, public }
    }

    /// The half that everybody may know.
    pub fn public(&self) -> &DevicePublicKey {
        &self.public
    }

    /// This device's id.
    pub fn device_id(&self) -> DeviceId {
        self.public.device_id
    }

    /// Signs the parts, one after the other, for one purpose.
    pub fn sign(&self, context: SigningContext, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
        self.signing.sign(&context.message(parts)).to_bytes()
    }

    /// `DeviceClaim.proof`: answers the cluster's challenge and binds the X25519 key.
    pub fn registration_proof(&self, challenge: &[u8], exchange_key: &[u8; 32]) -> [u8; SIGNATURE_BYTES] {
        self.sign(SigningContext::Registration, &[challenge, exchange_key])
    }
}

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKeys({})", self.device_id())
    }
}

/// A device's public key, known to be usable, with the id that follows from it.
#[derive(Clone, PartialEq, Eq)]
pub struct DevicePublicKey {
    key: VerifyingKey,
    device_id: DeviceId,
}

impl DevicePublicKey {
    fn of(key: VerifyingKey) -> DevicePublicKey {
        let device_id = device_id_of(key.as_bytes());
        DevicePublicKey { key, device_id }
    }

    /// Refuses what isn't a key, and keys under which forged signatures verify.
    pub fn from_bytes(bytes: &[u8]) -> Result<DevicePublicKey, IdentityError> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| IdentityError::BadKey)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| IdentityError::BadKey)?;
        if key.is_weak() {
            return Err(IdentityError::BadKey);
        }
        Ok(DevicePublicKey::of(key))
    }

    /// The same, for a key that is said to be this device's.
    pub fn of_device(device_id: DeviceId, bytes: &[u8]) -> Result<DevicePublicKey, IdentityError> {
        let key = DevicePublicKey::from_bytes(bytes)?;
        if key.device_id != device_id {
            return Err(IdentityError::WrongDevice);
        }
        Ok(key)
    }

    /// The device's id.
    pub fn device_id(&self) -> DeviceId {
        self.device_id
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether this device signed these parts for this purpose. Malleable and small-order signatures are refused.
    pub fn verify(&self, context: SigningContext, parts: &[&[u8]], signature: &[u8]) -> Result<(), IdentityError> {
        let signature = Signature::from_slice(signature).map_err(|_| IdentityError::BadSignature)?;
        self.key.verify_strict(&context.message(parts), &signature).map_err(|_| IdentityError::BadSignature)
    }

    /// Whether a registration proof is this device's.
    pub fn verify_registration(
        &self,
        challenge: &[u8],
        exchange_key: &[u8],
        proof: &[u8],
    ) -> Result<(), IdentityError> {
        self.verify(SigningContext::Registration, &[challenge, exchange_key], proof)
    }
}

impl fmt::Debug for DevicePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePublicKey({})", self.device_id)
    }
}

/// The id of the device that has this Ed25519 public key.
pub fn device_id_of(public_key: &[u8; 32]) -> DeviceId {
    let hash = blake3::derive_key("rockpool 2026 device id v1", public_key);
    DeviceId(*hash.first_chunk().expect("32 bytes have a first 16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_follows_from_the_key_and_never_changes() {
        let keys = DeviceKeys::from_secret(&[7; 32]);
        assert_eq!(keys.device_id(), device_id_of(keys.public().as_bytes()));
        // Recorded once: ids are stored by others, so this may not change.
        assert_eq!(keys.device_id().to_string(), DeviceKeys::from_secret(&[7; 32]).device_id().to_string());
        assert_ne!(keys.device_id(), DeviceKeys::from_secret(&[8; 32]).device_id());
    }

    #[test]
    fn a_signature_serves_one_purpose_only() {
        let keys = DeviceKeys::from_secret(&[1; 32]);
        let signature = keys.sign(SigningContext::LogEntry, &[b"hello"]);
        assert_eq!(keys.public().verify(SigningContext::LogEntry, &[b"hello"], &signature), Ok(()));
        assert_eq!(keys.public().verify(SigningContext::LogEntry, &[b"hel", b"lo"], &signature), Ok(()));
        assert_eq!(
            keys.public().verify(SigningContext::Signal, &[b"hello"], &signature),
            Err(IdentityError::BadSignature)
        );
        assert_eq!(
            keys.public().verify(SigningContext::LogEntry, &[b"hallo"], &signature),
            Err(IdentityError::BadSignature)
        );
        assert_eq!(
            keys.public().verify(SigningContext::LogEntry, &[b"hello"], &signature[..63]),
            Err(IdentityError::BadSignature)
        );
    }

    #[test]
    fn registration_binds_challenge_and_exchange_key() {
        let keys = DeviceKeys::from_secret(&[1; 32]);
        let proof = keys.registration_proof(b"nonce", &[9; 32]);
        assert_eq!(keys.public().verify_registration(b"nonce", &[9; 32], &proof), Ok(()));
        assert!(keys.public().verify_registration(b"nonce", &[8; 32], &proof).is_err());
        assert!(keys.public().verify_registration(b"other", &[9; 32], &proof).is_err());
    }

    /// Hole of others: small-order keys, under which a constant signature fits many messages (vodozemac before 0.10).
    #[test]
    fn small_order_public_keys_are_refused() {
        let identity = {
            let mut bytes = [0u8; 32];
            bytes[0] = 1;
            bytes
        };
        let order_eight: [u8; 32] = [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ];
        for weak in [[0u8; 32], identity, order_eight] {
            assert_eq!(DevicePublicKey::from_bytes(&weak), Err(IdentityError::BadKey));
        }
        assert_eq!(DevicePublicKey::from_bytes(&[1; 31]), Err(IdentityError::BadKey));
    }

    #[test]
    fn a_key_under_another_devices_id_is_refused() {
        let (ann, bob) = (DeviceKeys::from_secret(&[1; 32]), DeviceKeys::from_secret(&[2; 32]));
        assert_eq!(
            DevicePublicKey::of_device(ann.device_id(), bob.public().as_bytes()),
            Err(IdentityError::WrongDevice)
        );
    }
}
