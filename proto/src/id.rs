//! Identifiers as types, so that one cannot be passed for another.

use std::fmt;

/// Why bytes are not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of {found} bytes, where {wanted} were expected")]
pub struct IdError {
    /// Length expected.
    pub wanted: usize,
    /// Length found.
    pub found: usize,
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Length in bytes.
            pub const LENGTH: usize = $length;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map($name).map_err(|_| IdError { wanted: $length, found: bytes.len() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

byte_id!(
    /// An account. A random UUID.
    AccountId,
    16
);
byte_id!(
    /// A pool. A random UUID.
    PoolId,
    16
);
byte_id!(
    /// A device: the first 16 bytes of BLAKE3 (derive-key mode, context "rockpool 2026 device id v1") of its Ed25519
    /// public key. The hash is computed by those who link BLAKE3.
    DeviceId,
    16
);

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

counter_id!(
    /// A node of the cluster. Given once, never reused: a wiped node comes back under another. Never zero.
    NodeId,
    "n"
);
counter_id!(
    /// A Raft group: the replicas of one key range. Never zero.
    GroupId,
    "g"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(DeviceId::try_from(&[0u8; 15][..]), Err(IdError { wanted: 16, found: 15 }));
        assert_eq!(PoolId::try_from(&[7u8; 16][..]), Ok(PoolId([7; 16])));
    }

    #[test]
    fn ids_print_as_people_write_them() {
        assert_eq!(AccountId([0xab; 16]).to_string(), "ab".repeat(16));
        assert_eq!(format!("{:?}@{}", NodeId(3), GroupId(1)), "n3@g1");
    }
}
