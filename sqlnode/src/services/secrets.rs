//! Secrets and proofs: session tokens, challenges, device keys, and the hashing of passwords.
//!
//! * **Tokens** are 32 random bytes, and stored as BLAKE3 hashes: with so much randomness a fast hash is as good as a slow
//!   one, and a copy of the tables opens no session.
//! * **Challenges** are stateless, so any node checks what any other gave: random bytes, expiry, and an HMAC over both under a
//!   secret that the cluster shares. Within its two minutes a challenge can be used more than once; what it proves, that
//!   whoever claims a device key holds it now, stays true.
//! * **Passwords** meet Argon2id on threads of their own, a few at a time and with a bound on who waits: hashing is made to
//!   be expensive, and must not starve everything else.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use rockpool_proto::DeviceId;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::database::{DbError, Environment, Refusal, RefusalKind};

/// How long a challenge may be answered.
const CHALLENGE_US: i64 = 2 * 60 * 1_000_000;
/// How far a node's clock may be behind the one that gave a challenge.
const CHALLENGE_SKEW_US: i64 = 60 * 1_000_000;
const CHALLENGE_NONCE_BYTES: usize = 16;
const CHALLENGE_BYTES: usize = CHALLENGE_NONCE_BYTES + 8 + 32;
/// What a device signs to introduce itself, before the challenge and its exchange key.
const REGISTRATION_CONTEXT: &[u8] = b"rockpool 2026 device registration v1\0";
/// How a device's id follows from its signing key.
const DEVICE_ID_CONTEXT: &str = "rockpool 2026 device id v1";
/// How the hash of a token is made.
const TOKEN_HASH_CONTEXT: &str = "rockpool 2026 session token v1";
/// How the hash of an invite's secret is made.
const INVITE_HASH_CONTEXT: &str = "rockpool 2026 invite secret v1";

/// A secret that is shown to its owner once.
pub type Token = [u8; 32];

/// What is stored of a session token.
pub fn token_hash(token: &[u8]) -> [u8; 32] {
    blake3::derive_key(TOKEN_HASH_CONTEXT, token)
}

/// What is stored of an invite's secret.
pub fn invite_hash(secret: &[u8; 16]) -> [u8; 32] {
    blake3::derive_key(INVITE_HASH_CONTEXT, secret)
}

/// Compares without telling by its time where the first difference is.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The id that belongs to a signing key.
pub fn device_id(signing_key: &[u8; 32]) -> DeviceId {
    let hash = blake3::derive_key(DEVICE_ID_CONTEXT, signing_key);
    let mut id = [0; DeviceId::LENGTH];
    id.copy_from_slice(&hash[..DeviceId::LENGTH]);
    DeviceId(id)
}

/// Gives challenges and checks them.
pub struct Challenger {
    secret: Zeroizing<[u8; 32]>,
}

impl Challenger {
    /// A challenger under the cluster's secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret) }
    }

    /// A challenge to be answered within two minutes, on any node.
    pub fn challenge(&self, environment: &dyn Environment) -> Vec<u8> {
        let mut challenge = environment.random::<CHALLENGE_NONCE_BYTES>().to_vec();
        challenge.extend_from_slice(&(environment.now_us().saturating_add(CHALLENGE_US)).to_be_bytes());
        let mac = self.mac(&challenge).finalize().into_bytes();
        challenge.extend_from_slice(&mac);
        challenge
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).expect("HMAC takes keys of any length");
        mac.update(signed);
        mac
    }

    fn check(&self, now_us: i64, challenge: &[u8]) -> Result<(), Refusal> {
        let refused = |text: &str| Refusal::new(RefusalKind::Invalid, text);
        let not_ours = || refused("The challenge was not given by this cluster. Ask for a new one and sign that.");
        if challenge.len() != CHALLENGE_BYTES {
            return Err(not_ours());
        }
        let (signed, mac) = challenge.split_at(CHALLENGE_BYTES - 32);
        self.mac(signed).verify_slice(mac).map_err(|_| not_ours())?;
        let expiry = signed[CHALLENGE_NONCE_BYTES..].try_into().map_err(|_| not_ours())?;
        let expires_us = i64::from_be_bytes(expiry);
        let live = now_us <= expires_us && expires_us <= now_us.saturating_add(CHALLENGE_US + CHALLENGE_SKEW_US);
        if live { Ok(()) } else { Err(refused("The challenge is too old. Ask for a new one and sign that.")) }
    }
}

/// What a device says of itself and has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProof {
    /// Follows from the signing key.
    pub id: DeviceId,
    /// Ed25519 public key.
    pub signing_key: [u8; 32],
    /// X25519 public key, bound to the signing key by the proof.
    pub exchange_key: [u8; 32],
}

impl Challenger {
    /// Checks that whoever answers holds the signing key, and vouches with it for the exchange key.
    pub fn verify(
        &self,
        now_us: i64,
        challenge: &[u8],
        signing_key: [u8; 32],
        exchange_key: [u8; 32],
        proof: &[u8],
    ) -> Result<DeviceProof, Refusal> {
        self.check(now_us, challenge)?;
        let refused = |text: &str| Refusal::new(RefusalKind::Invalid, text);
        let key = VerifyingKey::from_bytes(&signing_key).ok().filter(|key| !key.is_weak()).ok_or_else(|| {
            refused("The device's signing key is not a sound Ed25519 key. Make a new key pair for this device.")
        })?;
        if exchange_key_is_weak(&exchange_key) {
            return Err(refused(
                "The device's exchange key is not a sound X25519 key. Make a new key pair for this device.",
            ));
        }
        let signature = Signature::from_slice(proof)
            .map_err(|_| refused("The device's proof is not an Ed25519 signature of 64 bytes."))?;
        let signed = [REGISTRATION_CONTEXT, challenge, &exchange_key].concat();
        // Strict: no second valid encoding of a signature, and no small-order component.
        key.verify_strict(&signed, &signature)
            .map_err(|_| refused("The device's proof does not fit its key, the challenge and its exchange key."))?;
        Ok(DeviceProof { id: device_id(&signing_key), signing_key, exchange_key })
    }
}

/// The points of small order on Curve25519 (RFC 7748, section 6.1; libsodium's list), with which every shared secret is
/// known beforehand. The highest bit does not count.
fn exchange_key_is_weak(key: &[u8; 32]) -> bool {
    const WEAK: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut masked = *key;
    masked[31] &= 0x7f;
    WEAK.contains(&hex::encode(masked).as_str())
}

/// How a password was hashed: stored beside it, so that the cost can be raised later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    /// Memory used.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Random, one for each password.
    pub salt: Vec<u8>,
    /// The result.
    pub hash: Vec<u8>,
}

/// What [`PasswordHash`] is, as the table says it.
pub const PASSWORD_ALGORITHM: &str = "argon2id";
/// 19 MiB and two passes: OWASP's first choice for Argon2id on one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const HASH_BYTES: usize = 32;
/// Passwords hashed at once.
const HASHERS: usize = 2;
/// Logins that may wait for a hasher.
const HASH_QUEUE_MAX: usize = 64;

/// Hashes passwords off the async threads, a few at a time.
#[derive(Clone)]
pub struct PasswordHasher {
    waiting: Arc<Semaphore>,
    running: Arc<Semaphore>,
    /// Compared when there is no such account, so that the answer takes as long.
    decoy: PasswordHash,
}

impl PasswordHasher {
    /// A hasher with the usual cost.
    pub fn new(environment: &dyn Environment) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(HASH_QUEUE_MAX)),
            running: Arc::new(Semaphore::new(HASHERS)),
            decoy: PasswordHash {
                memory_kib: MEMORY_KIB,
                passes: PASSES,
                salt: environment.random::<16>().to_vec(),
                hash: environment.random::<HASH_BYTES>().to_vec(),
            },
        }
    }

    /// The hash of a new password.
    pub async fn hash(&self, environment: &dyn Environment, password: &str) -> Result<PasswordHash, DbError> {
        let salt = environment.random::<16>().to_vec();
        let hash = self.run(password, salt.clone(), MEMORY_KIB, PASSES).await?;
        Ok(PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, salt, hash: hash.to_vec() })
    }

    /// Whether a password is the one that was hashed. Without one to compare with it takes as long and says no.
    pub async fn verify(&self, password: &str, expected: Option<&PasswordHash>) -> Result<bool, DbError> {
        let against = expected.unwrap_or(&self.decoy);
        let hash = self.run(password, against.salt.clone(), against.memory_kib, against.passes).await?;
        Ok(same(&*hash, &against.hash) && expected.is_some())
    }

    async fn run(
        &self,
        password: &str,
        salt: Vec<u8>,
        memory_kib: u32,
        passes: u32,
    ) -> Result<Zeroizing<[u8; HASH_BYTES]>, DbError> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Refusal::for_now(
                RefusalKind::Exhausted,
                "Too many people log in at this node just now. Try again in a moment, or another node.",
                Duration::from_secs(2),
            )
            .into());
        };
        let stopped = |_| DbError::Stopping;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(stopped)?;
        let password = Zeroizing::new(password.to_owned());
        let hashing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut hash = Zeroizing::new([0; HASH_BYTES]);
            let params = Params::new(memory_kib, passes, 1, Some(HASH_BYTES))?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password.as_bytes(), &salt, &mut *hash)?;
            Ok(hash)
        });
        let outcome: Result<_, argon2::Error> = hashing.await.map_err(|_| DbError::Stopping)?;
        outcome.map_err(|error| DbError::Fatal(format!("a password can't be hashed as its row says: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{ShiftedEnvironment, SystemEnvironment};
    use ed25519_dalek::{Signer, SigningKey};

    fn proof(key: &SigningKey, challenge: &[u8], exchange: &[u8; 32]) -> Vec<u8> {
        key.sign(&[REGISTRATION_CONTEXT, challenge, exchange].concat()).to_bytes().to_vec()
    }

    #[test]
    fn a_proof_holds_for_its_key_challenge_and_exchange_key_only() {
        let environment = ShiftedEnvironment::default();
        let challenger = Challenger::new([7; 32]);
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = key.verifying_key().to_bytes();
        let challenge = challenger.challenge(&environment);
        let good = proof(&key, &challenge, &[9; 32]);
        let verify = |challenger: &Challenger, exchange, proof: &[u8]| {
            challenger.verify(environment.now_us(), &challenge, public, exchange, proof)
        };
        assert_eq!(verify(&challenger, [9; 32], &good).unwrap().id, device_id(&public));
        assert!(verify(&challenger, [8; 32], &good).is_err(), "another exchange key");
        assert!(verify(&challenger, [9; 32], &good[1..]).is_err(), "not a signature");
        assert!(verify(&Challenger::new([8; 32]), [9; 32], &good).is_err(), "another cluster's challenge");
        environment.shift_by_us(CHALLENGE_US + 1_000_000);
        assert!(verify(&challenger, [9; 32], &good).is_err(), "too old");
        environment.shift_by_us(-3 * CHALLENGE_US);
        assert!(verify(&challenger, [9; 32], &good).is_err(), "from too far in the future");
    }

    #[test]
    fn weak_keys_are_refused() {
        let environment = SystemEnvironment;
        let challenger = Challenger::new([7; 32]);
        let challenge = challenger.challenge(&environment);
        let mut small_order = [0; 32];
        small_order[0] = 1;
        let refused = challenger.verify(environment.now_us(), &challenge, small_order, [9; 32], &[0; 64]).unwrap_err();
        assert!(refused.text.contains("signing key"), "{refused}");
        let key = SigningKey::from_bytes(&[1; 32]);
        let proof = proof(&key, &challenge, &[0; 32]);
        let public = key.verifying_key().to_bytes();
        let refused = challenger.verify(environment.now_us(), &challenge, public, [0; 32], &proof).unwrap_err();
        assert!(refused.text.contains("exchange key"), "{refused}");
    }

    #[tokio::test]
    async fn a_password_is_recognized_and_nobodys_is_not() {
        let hasher = PasswordHasher::new(&SystemEnvironment);
        let hash = hasher.hash(&SystemEnvironment, "correct horse").await.unwrap();
        assert!(hasher.verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!hasher.verify("correct horsf", Some(&hash)).await.unwrap());
        assert!(!hasher.verify("correct horse", None).await.unwrap());
    }
}
