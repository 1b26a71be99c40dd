//! Join tokens: `rockpool-join:` and 72 bytes in base64url, which are the authority's fingerprint, an id and a secret.
//!
//! The fingerprint authenticates the cluster to the node that joins, the secret the node to the cluster, once. The
//! cluster keeps a hash of the secret only.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::identity::Fingerprint;

const PREFIX: &str = "rockpool-join:";
const HASH_CONTEXT: &str = "rockpool 2026 join token secret v1";

/// What lets one more node in.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Of the authority of the cluster to join.
    pub fingerprint: Fingerprint,
    /// Which token it is.
    pub id: [u8; 8],
    /// What only its holder knows.
    pub secret: [u8; 32],
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token begins with {PREFIX} and is printed by `rockpool-node token` on a member; copy it whole")]
pub struct TokenError;

impl JoinToken {
    /// What the cluster keeps of a secret.
    pub fn hash(secret: &[u8]) -> [u8; 32] {
        blake3::derive_key(HASH_CONTEXT, secret)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError)?;
        let bytes = BASE64URL.decode(encoded).map_err(|_| TokenError)?;
        let bytes: [u8; 72] = bytes.try_into().map_err(|_| TokenError)?;
        let (fingerprint, rest) = bytes.split_first_chunk::<32>().ok_or(TokenError)?;
        let (id, secret) = rest.split_first_chunk::<8>().ok_or(TokenError)?;
        let secret = secret.try_into().map_err(|_| TokenError)?;
        Ok(JoinToken { fingerprint: Fingerprint(*fingerprint), id: *id, secret })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.fingerprint.0[..], &self.id, &self.secret].concat();
        write!(f, "{PREFIX}{}", BASE64URL.encode(bytes))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", hex::encode(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_rubbish_is_not() {
        let token = JoinToken { fingerprint: Fingerprint([1; 32]), id: [2; 8], secret: [3; 32] };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for wrong in ["", "rockpool-join:", &text[1..], &text[..text.len() - 1], "rockpool-join:!!!"] {
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("03"));
    }
}
