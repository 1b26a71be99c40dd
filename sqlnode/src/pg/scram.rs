//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, as a machine of two messages; and verifiers as PostgreSQL
//! stores them: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
//!
//! A role that isn't there is answered like one that is, with a salt derived from its name, and refused at the end: who
//! guesses names learns nothing.
//!
//! Inside TLS the exchange may be bound to the connection (`SCRAM-SHA-256-PLUS`, RFC 5929 `tls-server-end-point`): the
//! client repeats the hash of the certificate that it saw, so that nobody can stand in between with another one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Rounds of PBKDF2 for new passwords, PostgreSQL's default.
const ITERATIONS: u32 = 4_096;
/// Rounds that a stored verifier may ask of clients.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes in a nonce of a client.
const NONCE_BYTES_MAX: usize = 256;

type Key = [u8; 32];

/// What is stored of a password: enough to check it, not to be it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// Of a password.
    pub fn of_password(password: &str, salt: [u8; 16]) -> Verifier {
        // As clients prepare what is typed; what can't be prepared is taken as it is, there and here.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = salted_password(&prepared, &salt, ITERATIONS);
        let client_key = hmac(&salted, b"Client Key");
        Verifier {
            iterations: ITERATIONS,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// As it is stored.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| -> Option<Key> { BASE64.decode(text).ok()?.try_into().ok() };
        Some(Verifier {
            iterations: iterations.parse().ok().filter(|count| (1..=ITERATIONS_MAX).contains(count))?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// Whether this is the password. Takes as long as making a verifier does.
    pub fn accepts(&self, password: &str) -> bool {
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = salted_password(&prepared, &self.salt, self.iterations);
        let stored_key: Key = Sha256::digest(hmac(&salted, b"Client Key")).into();
        bool::from(stored_key.ct_eq(&self.stored_key))
    }

    /// A verifier that no password opens, the same every time for one name.
    pub(crate) fn of_nobody(name: &str, secret: &Key) -> Verifier {
        let seed = hmac(secret, name.as_bytes());
        Verifier {
            iterations: ITERATIONS,
            salt: seed[..16].to_vec(),
            stored_key: hmac(&seed, b"stored"),
            server_key: hmac(&seed, b"server"),
        }
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key].map(|it| BASE64.encode(it));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// Why an exchange ends without a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScramError {
    /// The messages aren't SCRAM's.
    Malformed,
    /// The proof doesn't fit the password.
    Refused,
}

/// Whether an exchange is bound to its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binding<'a> {
    /// There is nothing to bind it to.
    None,
    /// It could be, and the client chose the mechanism without.
    Declined,
    /// It is, to the certificate with this hash.
    Bound(&'a [u8]),
}

/// How the message of a client begins that binds the exchange.
const BINDING_FLAG: &str = "p=tls-server-end-point";

/// An exchange that waits for the client's final message.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    verifier: Verifier,
    /// `client-first-message-bare,server-first-message,`
    transcript: String,
    nonce: String,
    /// What the client must repeat of its header, in base64.
    binding: String,
}

impl Exchange {
    /// Takes the client's first message; answers the exchange and the server's first message.
    pub(crate) fn begin(
        message: &[u8],
        verifier: Verifier,
        server_nonce: [u8; 18],
        binding: Binding<'_>,
    ) -> Result<(Exchange, String), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        // gs2-header: "n,,", "y,," or "p=tls-server-end-point,,", possibly with an authorization identity, which
        // PostgreSQL ignores too.
        let mut parts = message.splitn(3, ',');
        let flag = parts.next().ok_or(ScramError::Malformed)?;
        let bound: &[u8] = match (binding, flag) {
            (Binding::Bound(certificate), BINDING_FLAG) => certificate,
            (Binding::None | Binding::Declined, "n") | (Binding::None, "y") => &[],
            // Among others "y" where binding was offered: the client believes that we can't, so somebody in between took
            // the offer out.
            _ => return Err(ScramError::Malformed),
        };
        let identity = parts.next().filter(|it| it.is_empty() || it.starts_with("a=")).ok_or(ScramError::Malformed)?;
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        let mut attributes = bare.split(',');
        attributes.next().filter(|user| user.starts_with("n=")).ok_or(ScramError::Malformed)?;
        let client_nonce = attributes.next().and_then(|it| it.strip_prefix("r=")).ok_or(ScramError::Malformed)?;
        if client_nonce.is_empty() || client_nonce.len() > NONCE_BYTES_MAX {
            return Err(ScramError::Malformed);
        }
        let nonce = format!("{client_nonce}{}", BASE64.encode(server_nonce));
        let answer = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let exchange = Exchange {
            verifier,
            transcript: format!("{bare},{answer},"),
            nonce,
            binding: BASE64.encode([format!("{flag},{identity},").as_bytes(), bound].concat()),
        };
        Ok((exchange, answer))
    }

    /// Takes the client's final message; answers the server's, which proves that it knew the password's verifier.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|it| it.strip_prefix("c="));
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r="));
        if binding != Some(&self.binding) || nonce != Some(&self.nonce) {
            return Err(ScramError::Malformed);
        }
        let proof: Key = BASE64.decode(proof).ok().and_then(|it| it.try_into().ok()).ok_or(ScramError::Malformed)?;
        let transcript = format!("{}{without_proof}", self.transcript);
        let signature = hmac(&self.verifier.stored_key, transcript.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(left, right)| left ^ right).collect();
        let offered: Key = Sha256::digest(&client_key).into();
        if !bool::from(offered.ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Refused);
        }
        Ok(format!("v={}", BASE64.encode(hmac(&self.verifier.server_key, transcript.as_bytes()))))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 with HMAC-SHA-256, one block.
fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Key {
    let keyed = Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length");
    let round = |data: &[&[u8]]| -> Key {
        let mut mac = keyed.clone();
        data.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut last = round(&[salt, &1u32.to_be_bytes()]);
    let mut result = last;
    for _ in 1..iterations {
        last = round(&[&last]);
        result.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_published_exchange_is_accepted() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let verifier = Verifier::of_password("pencil", salt);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
        let first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let exchange = Exchange {
            verifier,
            transcript: format!("{bare},{first},"),
            nonce: nonce.to_owned(),
            binding: "biws".to_owned(),
        };
        let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(exchange.finish(last.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_verifier_is_stored_and_read_back() {
        let verifier = Verifier::of_password("secret", [9; 16]);
        assert!(verifier.accepts("secret") && !verifier.accepts("Secret"));
        assert_eq!(Verifier::parse(&verifier.to_string()), Some(verifier));
        for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "md5abc", "SCRAM-SHA-256$4096:$:"] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_proof_and_a_wrong_nonce_are_refused() {
        let begin = || {
            let verifier = Verifier::of_password("secret", [9; 16]);
            Exchange::begin(b"n,,n=,r=abc", verifier, [1; 18], Binding::None).unwrap()
        };
        let (exchange, _) = begin();
        let proof = BASE64.encode([0u8; 32]);
        let message = format!("c=biws,r={},p={proof}", exchange.nonce);
        assert_eq!(exchange.finish(message.as_bytes()), Err(ScramError::Refused));
        let (exchange, _) = begin();
        assert_eq!(exchange.finish(format!("c=biws,r=abc,p={proof}").as_bytes()), Err(ScramError::Malformed));
        for message in [&b""[..], b"p=tls-server-end-point,,n=,r=x", b"n,,n=,r=", b"n,,r=x", b"\xff\xfe"] {
            let verifier = Verifier::of_nobody("x", &[0; 32]);
            assert_eq!(Exchange::begin(message, verifier, [1; 18], Binding::None).unwrap_err(), ScramError::Malformed);
        }
    }

    #[test]
    fn an_exchange_is_bound_to_the_certificate_that_the_client_saw() {
        let finish = |header: &str, seen: &[u8], binding: Binding<'_>| {
            let verifier = Verifier::of_password("secret", [9; 16]);
            let first = format!("{header},n=,r=abc");
            let (exchange, _) = Exchange::begin(first.as_bytes(), verifier, [1; 18], binding)?;
            let repeated = BASE64.encode([format!("{header},").as_bytes(), seen].concat());
            let proof = BASE64.encode([0u8; 32]);
            exchange.clone().finish(format!("c={repeated},r={},p={proof}", exchange.nonce).as_bytes())
        };
        // A proof of zeros is refused as wrong, so the binding before it was accepted.
        let bound = Binding::Bound(b"hash");
        assert_eq!(finish("p=tls-server-end-point,", b"hash", bound), Err(ScramError::Refused));
        assert_eq!(finish("p=tls-server-end-point,", b"other", bound), Err(ScramError::Malformed));
        assert_eq!(finish("n,", b"", bound), Err(ScramError::Malformed));
        assert_eq!(finish("p=tls-unique,", b"hash", bound), Err(ScramError::Malformed));
        assert_eq!(finish("n,", b"", Binding::Declined), Err(ScramError::Refused));
        assert_eq!(finish("y,", b"", Binding::Declined), Err(ScramError::Malformed));
        assert_eq!(finish("y,", b"", Binding::None), Err(ScramError::Refused));
    }

    #[test]
    fn passwords_are_prepared_as_clients_prepare_them() {
        let salt = [9; 16];
        // Examples of RFC 4013, section 3: a soft hyphen goes, a Roman nine is two letters.
        assert_eq!(Verifier::of_password("I\u{ad}X", salt), Verifier::of_password("IX", salt));
        assert_eq!(Verifier::of_password("\u{2168}", salt), Verifier::of_password("IX", salt));
        assert_ne!(Verifier::of_password("\u{7}", salt), Verifier::of_password("", salt));
    }
}
