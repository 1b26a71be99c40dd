//! One entry of the message log: what a device said, signed, at its place in the device's chain.
//!
//! ```text
//!   content (exact bytes, protobuf EntryContent)          signature
//!   pool, device, counter, previous hash, clock, body  |  Ed25519(device key, "log entry", content)
//!            ^ hash(content of counter-1)
//! ```
//!
//! The content's bytes are what is signed, hashed, stored and relayed. They are decoded to read them and never encoded
//! again, so fields and kinds of a later version pass through a device that doesn't know them.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use rockpool_proto::peer::v1 as wire;
use rockpool_proto::{DeviceId, PoolId, limits};

use crate::identity::{DeviceKeys, DevicePublicKey, SIGNATURE_BYTES, SigningContext};
use crate::transfer::Root;

/// An entry's name in a pool: its author and its place in the author's chain. Also the id of a message or file offer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The author.
    pub device: DeviceId,
    /// From 1.
    pub counter: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.device, self.counter)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for EntryId {
    type Err = EntryError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<EntryId, EntryError> {
        let (device, counter) = text.split_once('.').ok_or(EntryError::Malformed("an id without a dot"))?;
        let counter = counter.parse().map_err(|_| EntryError::Malformed("an id without a counter"))?;
        if device.len() != 2 * DeviceId::LENGTH || !device.is_ascii() {
            return Err(EntryError::Malformed("an id without a device"));
        }
        let mut bytes = [0; DeviceId::LENGTH];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&device[2 * at..2 * at + 2], 16)
                .map_err(|_| EntryError::Malformed("an id without a device"))?;
        }
        Ok(EntryId { device: DeviceId(bytes), counter })
    }
}

/// A hybrid timestamp: milliseconds that follow the wall clock where they can, and a counter where they can't.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HybridTime {
    /// Since 1970-01-01 UTC.
    pub ms: u64,
    /// Within the same millisecond.
    pub counter: u32,
}

impl fmt::Debug for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.ms, self.counter)
    }
}

/// The order in which every device shows entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    /// First the clock,
    pub time: HybridTime,
    /// then the author and the counter, which settle ties the same way everywhere.
    pub id: EntryId,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A chat message.
    Text(String),
    /// Files that its author has and would send.
    FileOffer(FileOffer),
    /// The author's file offer with this counter holds no longer.
    FileWithdraw {
        /// Of the file offer.
        counter: u64,
    },
    /// This entry is taken back.
    Retract(EntryId),
    /// A kind of a later version: kept and passed on, not shown.
    Unknown,
}

/// A file offer. The entry's signature covers the manifest through its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOffer {
    /// BLAKE3 of the encoded manifest.
    pub manifest_root: Root,
    /// Its length.
    pub manifest_bytes: u64,
    /// The file, or the folder, or the first of several. Comes from another device: sanitize before showing.
    pub name: String,
    /// Of all files.
    pub size_bytes: u64,
    /// Number of files.
    pub file_count: u32,
}

/// Why bytes are not an entry of this pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not decodable, or a field out of its range.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Longer than `ENTRY_BYTES_MAX`.
    #[error("{0} bytes are too long for an entry")]
    TooLong(usize),
    /// Of another pool.
    #[error("it belongs to another pool")]
    OtherPool,
    /// Its author did not sign it.
    #[error("its signature doesn't fit")]
    BadSignature,
}

/// Bytes in an entry's content: the longest text at four bytes a character, and room for the rest.
pub const ENTRY_BYTES_MAX: usize = 4 * limits::MESSAGE_TEXT_CHARS_MAX + 4096;

/// BLAKE3 (derive-key) of an entry's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryHash(pub [u8; 32]);

impl fmt::Debug for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An entry, decoded, with the bytes it came in. That its signature fits is checked by [`StoredEntry::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Author and counter.
    pub id: EntryId,
    /// Of the author's entry before; `None` for the first.
    pub previous: Option<EntryHash>,
    /// Its place in the order.
    pub time: HybridTime,
    /// What the author's clock showed. For people only.
    pub wall_ms: u64,
    /// What it says.
    pub body: Body,
    hash: EntryHash,
    content: Bytes,
    signature: [u8; SIGNATURE_BYTES],
}

impl fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?} {:?}", self.id, self.time, self.body)
    }
}

impl StoredEntry {
    /// Writes and signs a new entry.
    pub fn write(
        keys: &DeviceKeys,
        pool: PoolId,
        counter: u64,
        previous: Option<EntryHash>,
        time: HybridTime,
        wall_ms: u64,
        body: Body,
    ) -> StoredEntry {
        let id = EntryId { device: keys.device_id(), counter };
        let content = wire::EntryContent {
            pool_id: Bytes::copy_from_slice(pool.as_bytes()),
            device_id: Bytes::copy_from_slice(id.device.as_bytes()),
            counter,
            previous_hash: previous.map(|hash| Bytes::copy_from_slice(&hash.0)).unwrap_or_default(),
            clock_ms: time.ms,
            clock_counter: time.counter,
            wall_ms,
            body: body_to_wire(&body),
        };
        let content = Bytes::from(content.encode_to_vec());
        let signature = keys.sign(SigningContext::LogEntry, &[&content]);
        StoredEntry { id, previous, time, wall_ms, body, hash: hash_of(&content), content, signature }
    }

    /// Reads an entry of `pool`; its signature is not checked yet.
    pub fn from_wire(pool: PoolId, entry: wire::Entry) -> Result<StoredEntry, EntryError> {
        if entry.content.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(entry.content.len()));
        }
        let signature =
            entry.signature.as_ref().try_into().map_err(|_| EntryError::Malformed("a signature has 64 bytes"))?;
        let content = wire::EntryContent::decode(entry.content.clone())
            .map_err(|_| EntryError::Malformed("its content doesn't decode"))?;
        if content.pool_id != pool.as_bytes()[..] {
            return Err(EntryError::OtherPool);
        }
        let device = DeviceId::try_from(content.device_id.as_ref()).map_err(|_| EntryError::Malformed("its device"))?;
        let previous = match (content.counter, content.previous_hash.len()) {
            (0, _) => return Err(EntryError::Malformed("counters begin with 1")),
            (1, 0) => None,
            (1, _) => return Err(EntryError::Malformed("a first entry has none before it")),
            (_, 32) => Some(EntryHash(content.previous_hash.as_ref().try_into().expect("its length was matched"))),
            _ => return Err(EntryError::Malformed("the hash of the entry before")),
        };
        Ok(StoredEntry {
            id: EntryId { device, counter: content.counter },
            previous,
            time: HybridTime { ms: content.clock_ms, counter: content.clock_counter },
            wall_ms: content.wall_ms,
            body: body_from_wire(content.body)?,
            hash: hash_of(&entry.content),
            content: entry.content,
            signature,
        })
    }

    /// Reads what [`StoredEntry::to_bytes`] wrote.
    pub fn from_bytes(pool: PoolId, bytes: Bytes) -> Result<StoredEntry, EntryError> {
        let entry = wire::Entry::decode(bytes).map_err(|_| EntryError::Malformed("it doesn't decode"))?;
        StoredEntry::from_wire(pool, entry)
    }

    /// For a store: an encoded `Entry`.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// For the wire; shares the content's bytes.
    pub fn to_wire(&self) -> wire::Entry {
        wire::Entry { content: self.content.clone(), signature: Bytes::copy_from_slice(&self.signature) }
    }

    /// Bytes that it takes in a frame, near enough.
    pub fn wire_bytes(&self) -> usize {
        self.content.len() + SIGNATURE_BYTES + 16
    }

    /// Whether its author signed it.
    pub fn verify(&self, key: &DevicePublicKey) -> Result<(), EntryError> {
        if key.device_id() != self.id.device {
            return Err(EntryError::BadSignature);
        }
        key.verify(SigningContext::LogEntry, &[&self.content], &self.signature).map_err(|_| EntryError::BadSignature)
    }

    /// What the next entry of the chain refers to.
    pub fn hash(&self) -> EntryHash {
        self.hash
    }

    /// Its place among all entries of the pool.
    pub fn order_key(&self) -> OrderKey {
        OrderKey { time: self.time, id: self.id }
    }
}

fn hash_of(content: &[u8]) -> EntryHash {
    EntryHash(blake3::derive_key("rockpool 2026 entry hash v1", content))
}

fn body_to_wire(body: &Body) -> Option<wire::entry_content::Body> {
    Some(match body {
        Body::Text(text) => wire::entry_content::Body::Text(wire::Text { text: text.clone() }),
        Body::FileOffer(offer) => wire::entry_content::Body::FileOffer(wire::FileOffer {
            manifest_root: Bytes::copy_from_slice(&offer.manifest_root.0),
            manifest_bytes: offer.manifest_bytes,
            name: offer.name.clone(),
            size_bytes: offer.size_bytes,
            file_count: offer.file_count,
        }),
        Body::FileWithdraw { counter } => {
            wire::entry_content::Body::FileWithdraw(wire::FileWithdraw { counter: *counter })
        }
        Body::Retract(id) => wire::entry_content::Body::Retract(wire::Retract {
            device_id: Bytes::copy_from_slice(id.device.as_bytes()),
            counter: id.counter,
        }),
        Body::Unknown => return None,
    })
}

fn body_from_wire(body: Option<wire::entry_content::Body>) -> Result<Body, EntryError> {
    Ok(match body {
        None => Body::Unknown,
        Some(wire::entry_content::Body::Text(text)) => {
            if text.text.chars().count() > limits::MESSAGE_TEXT_CHARS_MAX {
                return Err(EntryError::Malformed("its text is too long"));
            }
            Body::Text(text.text)
        }
        Some(wire::entry_content::Body::FileOffer(offer)) => {
            if offer.manifest_bytes > limits::MANIFEST_BYTES_MAX as u64 {
                return Err(EntryError::Malformed("its manifest is too long"));
            }
            Body::FileOffer(FileOffer {
                manifest_root: Root::try_from(offer.manifest_root.as_ref())
                    .map_err(|_| EntryError::Malformed("its manifest's root"))?,
                manifest_bytes: offer.manifest_bytes,
                name: offer.name,
                size_bytes: offer.size_bytes,
                file_count: offer.file_count,
            })
        }
        Some(wire::entry_content::Body::FileWithdraw(withdraw)) => Body::FileWithdraw { counter: withdraw.counter },
        Some(wire::entry_content::Body::Retract(retract)) => Body::Retract(EntryId {
            device: DeviceId::try_from(retract.device_id.as_ref())
                .map_err(|_| EntryError::Malformed("the device of what it retracts"))?,
            counter: retract.counter,
        }),
    })
}
