//! What is accepted from others, in one place, with the unit in the name.
//!
//! Who receives checks; who sends checks as well, so that people hear of it before it travels.

/// Characters (Unicode scalar values) in an account's login name.
pub const LOGIN_NAME_CHARS_MAX: usize = 50;
/// Characters in an account's display name, a device's name and a pool's name.
pub const DISPLAY_NAME_CHARS_MAX: usize = 50;
/// Bytes in a password, before hashing.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Characters in a password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Devices that an account may have at once, revoked ones not counted.
pub const DEVICES_PER_ACCOUNT_MAX: usize = 32;
/// Devices that an account may ever have had, revoked ones counted: others keep their keys, to check what they wrote.
pub const DEVICES_PER_ACCOUNT_EVER_MAX: usize = 256;
/// Accounts that one address (of IPv6: a /64) may make at one node at once, and in an hour, unless the node is set otherwise.
pub const SIGN_UPS_PER_HOUR_MAX: u32 = 30;
/// Pools that an account may belong to.
pub const POOLS_PER_ACCOUNT_MAX: usize = 256;
/// Devices that may be present in one pool at once.
pub const POOL_PRESENT_DEVICES_MAX: usize = 1_000;
/// Accounts that may belong to one pool.
pub const POOL_MEMBERS_MAX: usize = 1_000;
/// Invites of one pool that are neither used up nor expired.
pub const POOL_OPEN_INVITES_MAX: usize = 256;
/// Times that one invite may be used.
pub const INVITE_USES_MAX: u32 = 1_000;
/// Seconds that an invite may live.
pub const INVITE_TTL_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// Bytes in the payload of one relayed signal.
pub const SIGNAL_BYTES_MAX: usize = 64 * 1024;
/// Messages that a device may send at once on its signalling stream; beyond, the node reads as slowly as the next limit says.
pub const CLIENT_MESSAGES_BURST_MAX: u32 = 512;
/// Messages that a device may send in a second on its signalling stream, in the long run.
pub const CLIENT_MESSAGES_PER_SECOND_MAX: u32 = 64;
/// Bytes of signals that a device may send at once; beyond, likewise.
pub const SIGNALS_BYTES_BURST_MAX: u32 = 4 * 1024 * 1024;
/// Bytes of signals that a device may send in a second, in the long run.
pub const SIGNALS_BYTES_PER_SECOND_MAX: u32 = 512 * 1024;
/// Bytes in a gRPC message from a client.
pub const CLIENT_RPC_BYTES_MAX: usize = 256 * 1024;
/// Characters in the text of one message.
pub const MESSAGE_TEXT_CHARS_MAX: usize = 5_000;
/// Bytes in one frame between devices (a WebRTC message), whatever the other side would take.
pub const PEER_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes in one component of a file name on the wire.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Bytes in a path inside a manifest.
pub const FILE_PATH_BYTES_MAX: usize = 4_096;
/// Folders within folders in a manifest.
pub const FILE_DEPTH_MAX: usize = 64;
/// Files in one file offer.
pub const FILES_PER_OFFER_MAX: usize = 100_000;
/// Bytes in an encoded manifest.
pub const MANIFEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Open file offers of one device in one pool.
pub const OFFERS_PER_DEVICE_MAX: usize = 256;
/// Devices that a full mesh serves at once in one pool.
pub const FULL_MESH_DEVICES_MAX: usize = 8;
/// Slots in an overlay path.
pub const OVERLAY_PATH_SLOTS_MAX: usize = 16;

/// Bytes in a key of the store.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// Bytes in a value of the store.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes in all writes of one transaction.
pub const TRANSACTION_WRITES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes in one message between nodes.
pub const NODE_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes in one SQL statement.
pub const SQL_STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes in one message from a PostgreSQL client: a statement, or its parameters.
pub const PG_MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes in a message of a PostgreSQL client that has not logged in.
pub const PG_STARTUP_BYTES_MAX: usize = 10_000;
/// Bytes of rows that one suspended portal keeps for its client.
pub const PG_PORTAL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Prepared statements, and portals, of one SQL session.
pub const PG_PREPARED_MAX: usize = 4_096;
/// Bytes of messages that a frame between nodes gathers; a single larger message travels alone.
pub const NODE_FRAME_GATHER_BYTES_MAX: usize = 1024 * 1024;
/// Messages in a frame between nodes.
pub const NODE_FRAME_MESSAGES_MAX: usize = 1024;
