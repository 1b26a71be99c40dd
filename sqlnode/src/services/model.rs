//! What the metadata tables hold, as values: accounts, devices, members. `convert` turns them into what travels.

use rockpool_proto::{AccountId, DeviceId, PoolId};

/// An account, as its owner and those who share a pool with it see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub id: AccountId,
    /// Unique, case-insensitively.
    pub login_name: String,
    /// What others are shown.
    pub display_name: String,
}

/// What kind of machine a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Not said.
    Unspecified,
    /// A desktop or laptop.
    Desktop,
    /// A telephone or tablet.
    Mobile,
    /// A tab of a browser.
    Browser,
    /// A machine without a person before it.
    Server,
}

/// Each kind with the word that stands in the table.
const DEVICE_KINDS: [(DeviceKind, &str); 5] = [
    (DeviceKind::Unspecified, "unspecified"),
    (DeviceKind::Desktop, "desktop"),
    (DeviceKind::Mobile, "mobile"),
    (DeviceKind::Browser, "browser"),
    (DeviceKind::Server, "server"),
];

impl DeviceKind {
    /// The word that stands in the table.
    pub fn as_str(self) -> &'static str {
        DEVICE_KINDS.iter().find(|(kind, _)| *kind == self).map_or("unspecified", |(_, word)| word)
    }

    /// The kind for a word of the table; an unknown word is an unspecified kind.
    pub fn from_word(word: &str) -> Self {
        DEVICE_KINDS.iter().find(|(_, known)| *known == word).map_or(Self::Unspecified, |(kind, _)| *kind)
    }
}

/// A device of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who; follows from the signing key.
    pub id: DeviceId,
    /// Whose.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Ed25519 public key.
    pub signing_key: [u8; 32],
    /// X25519 public key.
    pub exchange_key: [u8; 32],
    /// When it was first seen.
    pub created_at_us: i64,
    /// When it was thrown out.
    pub revoked_at_us: Option<i64>,
    /// When it last spoke to the cluster; absent where the asker may not know.
    pub last_seen_us: Option<i64>,
}

/// What somebody may do in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads, writes, invites.
    Member,
    /// Also runs the pool.
    Admin,
    /// Made the pool, or inherited it.
    Owner,
}

impl Role {
    /// The word that stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    /// The role for a word of the table.
    pub fn from_word(word: &str) -> Self {
        match word {
            "owner" => Role::Owner,
            "admin" => Role::Admin,
            _ => Role::Member,
        }
    }
}

/// Somebody who belongs to a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub account: Account,
    /// What they may do.
    pub role: Role,
    /// Since when.
    pub joined_at_us: i64,
    /// All their devices, revoked ones included.
    pub devices: Vec<Device>,
}

/// A pool as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Which.
    pub id: PoolId,
    /// What its members call it.
    pub name: String,
    /// What the asker may do in it.
    pub my_role: Role,
    /// How many belong to it.
    pub member_count: u32,
    /// Since when it exists.
    pub created_at_us: i64,
}
