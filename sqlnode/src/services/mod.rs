//! The metadata services: what a device asks of the cluster by gRPC.
//!
//! ```text
//!   auth, devices, pools, info    one file each: validate, one or two transactions, reply
//!   accounts, sessions, throttle  what several of them do inside a transaction
//!   secrets, validate, sign_ups   no database: proofs, hashes, names, buckets
//!   convert, status               the edges: generated types, gRPC codes
//!   schema                        the tables
//! ```
//!
//! They are the first users of our SQL: every row they keep can be looked at with `psql`, in the schema `meta`. What has to
//! reach a device's live stream goes through [`crate::rooms`] after the commit; the commit alone suffices within a second,
//! because the owner of a room watches its pool's change number.

pub mod accounts;
mod auth;
pub mod convert;
mod devices;
mod info;
pub mod model;
pub mod pools;
pub mod schema;
pub mod secrets;
pub mod sessions;
mod sign_ups;
pub mod status;
mod throttle;
pub mod validate;

use std::sync::Arc;

use rockpool_proto::limits::CLIENT_RPC_BYTES_MAX;
use rockpool_proto::meta::v1::auth_server::AuthServer;
use rockpool_proto::meta::v1::cluster_info_server::ClusterInfoServer;
use rockpool_proto::meta::v1::devices_server::DevicesServer;
use rockpool_proto::meta::v1::pools_server::PoolsServer;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;

use crate::database::{Database, DbError, Refusal, RefusalKind};
use crate::rooms::Rooms;
use secrets::{Challenger, PasswordHasher};
use sessions::Caller;
use sign_ups::SignUps;

/// The services of one node. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Services {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    challenger: Challenger,
    hasher: PasswordHasher,
    sign_ups: SignUps,
    rooms: Rooms,
}

impl Services {
    /// Brings the tables to this version's shape and makes the services ready. `rooms` was started on the same database.
    /// An address may make `sign_ups_per_hour` accounts.
    pub async fn open(database: Database, rooms: Rooms, sign_ups_per_hour: u32) -> Result<Self, DbError> {
        schema::migrate(&database).await?;
        let challenger = auth::challenger(&database).await?;
        let hasher = PasswordHasher::new(&**database.environment());
        let sign_ups = SignUps::new(sign_ups_per_hour);
        Ok(Self { shared: Arc::new(Shared { database, challenger, hasher, sign_ups, rooms }) })
    }

    /// All services that clients call, signalling included, and the one for other nodes, which asks for their certificate:
    /// to be mounted on the node's gRPC listener.
    pub fn routes(&self) -> Routes {
        let this = self.clone();
        Routes::new(AuthServer::new(this.clone()).max_decoding_message_size(CLIENT_RPC_BYTES_MAX))
            .add_service(DevicesServer::new(this.clone()).max_decoding_message_size(CLIENT_RPC_BYTES_MAX))
            .add_service(PoolsServer::new(this.clone()).max_decoding_message_size(CLIENT_RPC_BYTES_MAX))
            .add_service(ClusterInfoServer::new(this).max_decoding_message_size(CLIENT_RPC_BYTES_MAX))
            .add_service(self.rooms().signalling_server())
            .add_service(self.rooms().node_server())
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }

    fn challenger(&self) -> &Challenger {
        &self.shared.challenger
    }

    fn hasher(&self) -> &PasswordHasher {
        &self.shared.hasher
    }

    fn sign_ups(&self) -> &SignUps {
        &self.shared.sign_ups
    }

    /// The rooms of this node.
    pub fn rooms(&self) -> &Rooms {
        &self.shared.rooms
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, DbError> {
        caller(self.database(), metadata).await
    }
}

/// Who makes a call, by its `authorization: Bearer <access token, hex>`.
pub async fn caller(database: &Database, metadata: &MetadataMap) -> Result<Caller, DbError> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| {
        let (scheme, token) = header.split_once(' ')?;
        let mut bytes = [0; 32];
        (scheme.eq_ignore_ascii_case("bearer") && hex::decode_to_slice(token.trim(), &mut bytes).is_ok())
            .then_some(bytes)
    });
    let Some(token) = token else {
        let text =
            "This call needs `authorization: Bearer` and an access token of 64 hexadecimal digits. Log in first.";
        return Err(Refusal::new(RefusalKind::Unauthenticated, text).into());
    };
    database.transaction(|tx| sessions::caller(tx, &token)).await
}
