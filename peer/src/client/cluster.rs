//! Calls to the cluster: any node will do, and another one where one does not answer.
//!
//! A call that never reached a node is tried on the next. One that was sent and whose answer was lost is repeated only if
//! it may happen twice ([`Cluster::read`]); for the others the caller hears that the outcome is unknown.
//!
//! Tokens: the access token is exchanged for a new pair shortly before it ends, or when a node refuses it. Several
//! processes share a home, and a refresh token works once, so the exchange happens under the home's session lock, and who
//! comes second takes the pair that the first one saved.

use crate::api::{ApiError, ErrorCode};
use crate::client::authority::CLUSTER_NAME;
use crate::home::{Home, LoginSession, Server};
use parking_lot::Mutex;
use rockpool_proto::meta::v1::auth_client::AuthClient;
use rockpool_proto::meta::v1::cluster_info_client::ClusterInfoClient;
use rockpool_proto::meta::v1::devices_client::DevicesClient;
use rockpool_proto::meta::v1::pools_client::PoolsClient;
use rockpool_proto::meta::v1::signalling_client::SignallingClient;
use rockpool_proto::meta::v1::{self as meta, DeviceClaim, DeviceType};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// An access token is exchanged when less than this is left of it.
const REFRESH_BEFORE_US: i64 = 60_000_000;
/// Bytes in one answer: a full pool's members and roster come in one.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Signs a challenge.
pub type Prove = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What a device says of itself when it signs up or logs in.
#[derive(Clone)]
pub struct DeviceIdentity {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: DeviceType,
    /// Ed25519 public key.
    pub signing_key: [u8; 32],
    /// X25519 public key.
    pub exchange_key: [u8; 32],
    /// Proves possession of the signing key: given the challenge, answers the signature over
    /// "rockpool 2026 device registration v1\0" || challenge || exchange key.
    pub prove: Prove,
}

impl DeviceIdentity {
    fn claim(&self, challenge: Vec<u8>) -> DeviceClaim {
        DeviceClaim {
            name: self.name.clone(),
            r#type: self.kind as i32,
            signing_key: self.signing_key.to_vec().into(),
            exchange_key: self.exchange_key.to_vec().into(),
            proof: (self.prove)(&challenge).into(),
            challenge: challenge.into(),
        }
    }
}

/// The cluster as a client of it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    home: Home,
    tls: ClientTlsConfig,
    state: Mutex<State>,
}

struct State {
    server: Server,
    channel: Option<Channel>,
}

impl Cluster {
    /// A client of the cluster that `home` knows. Connects when first needed.
    pub fn new(home: &Home) -> Result<Cluster, ApiError> {
        let server = home.must_server()?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&server.authority_pem))
            .domain_name(CLUSTER_NAME);
        let state = Mutex::new(State { server, channel: None });
        Ok(Cluster { shared: Arc::new(Shared { home: home.clone(), tls, state }) })
    }

    /// Asks who the cluster is and where its nodes are, and keeps that for when this node is gone.
    pub async fn describe(&self) -> Result<meta::DescribeReply, ApiError> {
        let reply = self
            .open(true, |channel| async move {
                ClusterInfoClient::new(channel).describe(meta::DescribeRequest {}).await.map(|reply| reply.into_inner())
            })
            .await?;
        let mut state = self.shared.state.lock();
        let mut addresses = reply.addresses.clone();
        for known in &state.server.addresses {
            // An address that a person gave stays, even when the nodes know each other by other names.
            if !addresses.contains(known) && addresses.len() < 32 {
                addresses.push(known.clone());
            }
        }
        let cluster_id = hex::encode(&reply.cluster_id);
        if addresses != state.server.addresses || cluster_id != state.server.cluster_id {
            state.server.addresses = addresses;
            state.server.cluster_id = cluster_id;
            self.shared.home.save_server(&state.server)?;
        }
        Ok(reply)
    }

    /// A new account with this device.
    pub async fn sign_up(
        &self,
        login_name: &str,
        display_name: &str,
        password: &str,
        device: &DeviceIdentity,
    ) -> Result<LoginSession, ApiError> {
        let challenge = self.challenge().await?;
        let request = meta::SignUpRequest {
            login_name: login_name.into(),
            display_name: display_name.into(),
            password: password.into(),
            device: Some(device.claim(challenge)),
        };
        let reply = self
            .open(false, |channel| {
                let request = request.clone();
                async move { AuthClient::new(channel).sign_up(request).await.map(|reply| reply.into_inner()) }
            })
            .await?;
        self.keep_login(reply)
    }

    /// Logs this device in, adding it to the account when it is new.
    pub async fn login(
        &self,
        login_name: &str,
        password: &str,
        device: &DeviceIdentity,
    ) -> Result<LoginSession, ApiError> {
        let challenge = self.challenge().await?;
        let device = Some(device.claim(challenge));
        let request = meta::LoginRequest { login_name: login_name.into(), password: password.into(), device };
        let reply = self
            .open(true, |channel| {
                let request = request.clone();
                async move { AuthClient::new(channel).login(request).await.map(|reply| reply.into_inner()) }
            })
            .await?;
        self.keep_login(reply)
    }

    /// Ends the login session, on the cluster and here.
    pub async fn logout(&self) -> Result<(), ApiError> {
        let ended = self
            .read(|channel, request| async move {
                AuthClient::new(channel).logout(request.put(meta::LogoutRequest {})).await.map(|_| ())
            })
            .await;
        match ended {
            Ok(()) => {}
            Err(error) if error.code == ErrorCode::Denied => {} // it had ended already
            Err(error) => return Err(error),
        }
        self.shared.home.forget_session()
    }

    /// The account and device behind the login session.
    pub async fn who_am_i(&self) -> Result<meta::WhoAmIReply, ApiError> {
        self.read(|channel, request| async move {
            AuthClient::new(channel).who_am_i(request.put(meta::WhoAmIRequest {})).await.map(|reply| reply.into_inner())
        })
        .await
    }

    /// The account's devices.
    pub async fn devices(&self) -> Result<Vec<meta::Device>, ApiError> {
        self.read(|channel, request| async move {
            let reply = DevicesClient::new(channel).list(request.put(meta::ListDevicesRequest {})).await?;
            Ok(reply.into_inner().devices)
        })
        .await
    }

    /// Gives a device another name.
    pub async fn rename_device(&self, device_id: &[u8], name: &str) -> Result<meta::Device, ApiError> {
        let message = meta::RenameDeviceRequest { device_id: device_id.to_vec().into(), name: name.into() };
        self.read(|channel, request| {
            let message = message.clone();
            async move { DevicesClient::new(channel).rename(request.put(message)).await.map(|reply| reply.into_inner()) }
        })
        .await
    }

    /// Throws a device out. May be repeated.
    pub async fn revoke_device(&self, device_id: &[u8]) -> Result<meta::Device, ApiError> {
        let message = meta::RevokeDeviceRequest { device_id: device_id.to_vec().into() };
        self.read(|channel, request| {
            let message = message.clone();
            async move { DevicesClient::new(channel).revoke(request.put(message)).await.map(|reply| reply.into_inner()) }
        })
        .await
    }

    /// A new pool.
    pub async fn create_pool(&self, name: &str) -> Result<meta::Pool, ApiError> {
        let message = meta::CreatePoolRequest { name: name.into() };
        self.write(|channel, request| {
            let message = message.clone();
            async move { PoolsClient::new(channel).create(request.put(message)).await.map(|reply| reply.into_inner()) }
        })
        .await
    }

    /// The account's pools.
    pub async fn pools(&self) -> Result<Vec<meta::Pool>, ApiError> {
        self.read(|channel, request| async move {
            let reply = PoolsClient::new(channel).list(request.put(meta::ListPoolsRequest {})).await?;
            Ok(reply.into_inner().pools)
        })
        .await
    }

    /// A pool's members with their devices.
    pub async fn members(&self, pool_id: &[u8]) -> Result<Vec<meta::Member>, ApiError> {
        let message = meta::MembersRequest { pool_id: pool_id.to_vec().into() };
        self.read(|channel, request| {
            let message = message.clone();
            async move {
                let mut client = PoolsClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
                let reply = client.members(request.put(message)).await?;
                Ok(reply.into_inner().members)
            }
        })
        .await
    }

    /// A new invite to a pool. Zeros ask for the defaults.
    pub async fn invite(&self, pool_id: &[u8], uses: u32, ttl: Duration) -> Result<meta::InviteReply, ApiError> {
        let message = meta::InviteRequest { pool_id: pool_id.to_vec().into(), uses, ttl_seconds: ttl.as_secs() };
        self.write(|channel, request| {
            let message = message.clone();
            async move { PoolsClient::new(channel).invite(request.put(message)).await.map(|reply| reply.into_inner()) }
        })
        .await
    }

    /// Joins a pool. Joining twice with one account uses an invite once, so this may be repeated.
    pub async fn join(&self, invite: &[u8]) -> Result<meta::Pool, ApiError> {
        let message = meta::JoinRequest { invite: invite.to_vec().into() };
        self.read(|channel, request| {
            let message = message.clone();
            async move { PoolsClient::new(channel).join(request.put(message)).await.map(|reply| reply.into_inner()) }
        })
        .await
    }

    /// Leaves a pool.
    pub async fn leave(&self, pool_id: &[u8]) -> Result<(), ApiError> {
        let message = meta::LeaveRequest { pool_id: pool_id.to_vec().into() };
        self.write(|channel, request| {
            let message = message.clone();
            async move { PoolsClient::new(channel).leave(request.put(message)).await.map(|_| ()) }
        })
        .await
    }

    /// Opens a signalling stream on the first node that answers. The caller feeds `outgoing`, whose first message is Open.
    pub(super) async fn attach(
        &self,
        outgoing: tokio::sync::mpsc::Receiver<meta::ToCluster>,
    ) -> Result<tonic::Streaming<meta::FromCluster>, ApiError> {
        let token = self.access_token(None).await?;
        let channel = self.channel().await?;
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
        authorize(&mut request, &token);
        let mut client = SignallingClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let reply = tokio::time::timeout(CALL_DEADLINE, client.attach(request)).await;
        match reply {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                // The next attempt of the caller goes with a fresh token.
                self.access_token(Some(&token)).await?;
                Err(ApiError::new(ErrorCode::Unavailable, "the login session was renewed"))
            }
            Ok(Err(status)) => {
                self.abandon_channel(&status);
                Err(explain(status))
            }
            Err(_) => {
                self.rotate();
                Err(ApiError::new(ErrorCode::Unavailable, "the node gave no answer in time"))
            }
        }
    }

    /// Exchanges the session's tokens if the time has come. A stream that stands needs none, and a refresh token that lies
    /// unused ends: then the stream could not be made again.
    pub(super) async fn keep_session(&self) -> Result<(), ApiError> {
        self.access_token(None).await.map(drop)
    }

    /// Forgets the node in use, so that the next call tries another.
    pub(super) fn rotate(&self) {
        let mut state = self.shared.state.lock();
        state.channel = None;
        if state.server.addresses.len() > 1 {
            state.server.addresses.rotate_left(1);
        }
    }

    async fn challenge(&self) -> Result<Vec<u8>, ApiError> {
        self.open(true, |channel| async move {
            let reply = AuthClient::new(channel).challenge(meta::ChallengeRequest {}).await?;
            Ok(reply.into_inner().challenge.to_vec())
        })
        .await
    }

    fn keep_login(&self, reply: meta::LoginReply) -> Result<LoginSession, ApiError> {
        let (Some(account), Some(device), Some(tokens)) = (reply.account, reply.device, reply.tokens) else {
            return Err(ApiError::new(
                ErrorCode::Internal,
                "the cluster's answer lacks the account, the device or the tokens",
            ));
        };
        let session = LoginSession {
            account_id: hex::encode(&account.account_id),
            login_name: account.login_name,
            display_name: account.display_name,
            device_id: hex::encode(&device.device_id),
            device_name: device.name,
            access_token: hex::encode(&tokens.access_token),
            refresh_token: hex::encode(&tokens.refresh_token),
            access_expires_at_us: tokens.access_expires_at_us,
        };
        let _held = self.shared.home.lock_session()?;
        self.shared.home.save_session(&session)?;
        Ok(session)
    }

    /// A call that may happen twice without harm.
    async fn read<T, F>(&self, call: impl Fn(Channel, Authorized) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.authorized(true, call).await
    }

    /// A call that must not happen twice.
    async fn write<T, F>(&self, call: impl Fn(Channel, Authorized) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.authorized(false, call).await
    }

    async fn authorized<T, F>(&self, repeatable: bool, call: impl Fn(Channel, Authorized) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut token = self.access_token(None).await?;
        for last in [false, true] {
            let attempt = self.attempt(repeatable, |channel| call(channel, Authorized { token: token.clone() })).await;
            match attempt {
                Err(status) if status.code() == Code::Unauthenticated && !last => {
                    token = self.access_token(Some(&token)).await?;
                }
                other => return other.map_err(explain),
            }
        }
        unreachable!("the second round returns")
    }

    async fn open<T, F>(&self, repeatable: bool, call: impl Fn(Channel) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.attempt(repeatable, call).await.map_err(explain)
    }

    async fn attempt<T, F>(&self, repeatable: bool, call: impl Fn(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let rounds = if repeatable { 3 } else { 1 };
        let mut outcome = Err(Status::unavailable("no node was asked"));
        for _ in 0..rounds {
            let channel = match self.channel().await {
                Ok(channel) => channel,
                Err(error) => return Err(Status::unavailable(error.message)),
            };
            outcome = match tokio::time::timeout(CALL_DEADLINE, call(channel)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Status::deadline_exceeded("the node gave no answer in time")),
            };
            match &outcome {
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted) => {
                    self.abandon_channel(status);
                }
                _ => return outcome,
            }
        }
        outcome
    }

    fn abandon_channel(&self, status: &Status) {
        if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled) {
            self.rotate();
        }
    }

    /// A connection to the first node, in the order of the list, that takes one.
    async fn channel(&self) -> Result<Channel, ApiError> {
        let addresses = {
            let mut state = self.shared.state.lock();
            if let Some(channel) = &state.channel {
                return Ok(channel.clone());
            }
            self.take_up_addresses(&mut state);
            state.server.addresses.clone()
        };
        let mut reasons = Vec::new();
        for (position, address) in addresses.iter().enumerate() {
            match self.connect(address).await {
                Ok(channel) => {
                    let mut state = self.shared.state.lock();
                    if state.server.addresses.get(position) == Some(address) {
                        state.server.addresses.rotate_left(position);
                    }
                    state.channel = Some(channel.clone());
                    return Ok(channel);
                }
                Err(reason) => reasons.push(format!("{address}: {reason}")),
            }
        }
        Err(ApiError::new(
            ErrorCode::Unavailable,
            format!(
                "no node of the cluster can be reached ({}). Talking and transfers between connected devices go on; logging \
                 in, joining and inviting wait until it is back",
                reasons.join("; ")
            ),
        ))
    }

    /// Addresses that another process of this device has learned meanwhile: a cluster that moved is added anew with
    /// `server add`, while the process with the open pool goes on looking for it.
    fn take_up_addresses(&self, state: &mut State) {
        let Ok(Some(kept)) = self.shared.home.server() else { return };
        if kept.fingerprint != state.server.fingerprint {
            return;
        }
        let mut fresh = kept.addresses;
        fresh.retain(|address| !state.server.addresses.contains(address));
        // In front, because those that were known are being tried without success.
        state.server.addresses.splice(0..0, fresh);
    }

    async fn connect(&self, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(self.shared.tls.clone()))
            .map_err(|error| error.to_string())?
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5));
        match tokio::time::timeout(CONNECT_DEADLINE * 2, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err("no answer in time".into()),
        }
    }

    /// An access token that is good for a while. `refused` is one that a node did not take.
    async fn access_token(&self, refused: Option<&str>) -> Result<String, ApiError> {
        let usable = |session: &LoginSession| {
            Some(session.access_token.as_str()) != refused
                && session.access_expires_at_us - now_us() > REFRESH_BEFORE_US
        };
        let session = self.shared.home.must_session()?;
        // A device whose clock is wrong may think each token outlived, or none. The cluster decides by its own clock, so
        // a token is only given up before its time when it was refused or is younger than this device can tell.
        if usable(&session) {
            return Ok(session.access_token);
        }
        let home = self.shared.home.clone();
        let held = tokio::task::spawn_blocking(move || home.lock_session()).await.map_err(|error| {
            ApiError::new(ErrorCode::Internal, format!("waiting for the session lock failed: {error}"))
        })??;
        let session = self.shared.home.must_session()?;
        if usable(&session) {
            return Ok(session.access_token);
        }
        let refresh_token = hex::decode(&session.refresh_token).unwrap_or_default();
        let renewed = self
            .attempt(false, |channel| {
                let request = meta::RefreshRequest { refresh_token: refresh_token.clone().into() };
                async move { AuthClient::new(channel).refresh(request).await.map(|reply| reply.into_inner()) }
            })
            .await;
        let tokens = match renewed {
            Ok(tokens) => tokens,
            Err(status) if status.code() == Code::Unauthenticated => {
                return Err(ApiError::new(
                    ErrorCode::Denied,
                    format!(
                        "the login session has ended ({}). Run: rockpool login {}",
                        status.message(),
                        session.login_name
                    ),
                ));
            }
            Err(status) => return Err(explain(status)),
        };
        let session = LoginSession {
            access_token: hex::encode(&tokens.access_token),
            refresh_token: hex::encode(&tokens.refresh_token),
            access_expires_at_us: tokens.access_expires_at_us,
            ..session
        };
        self.shared.home.save_session(&session)?;
        drop(held);
        Ok(session.access_token)
    }
}

/// Turns a message into a request that carries the access token.
pub(super) struct Authorized {
    token: String,
}

impl Authorized {
    fn put<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        authorize(&mut request, &self.token);
        request
    }
}

fn authorize<T>(request: &mut Request<T>, token: &str) {
    let mut value: MetadataValue<_> = format!("Bearer {token}").parse().expect("hex is valid in a header");
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
}

/// A status as people read it.
fn explain(status: Status) -> ApiError {
    let code = match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange => ErrorCode::Invalid,
        Code::NotFound => ErrorCode::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => ErrorCode::Denied,
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled => ErrorCode::Unavailable,
        Code::ResourceExhausted => ErrorCode::Limit,
        _ => ErrorCode::Internal,
    };
    let message = match status.message() {
        "" => format!("the cluster refused: {}", status.code()),
        message => message.to_string(),
    };
    ApiError::new(code, message)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(fingerprint: &str, addresses: &[&str]) -> Server {
        Server {
            addresses: addresses.iter().map(|address| address.to_string()).collect(),
            fingerprint: fingerprint.into(),
            authority_pem: String::new(),
            cluster_id: String::new(),
        }
    }

    #[test]
    fn a_cluster_that_moved_is_found_once_its_new_address_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        home.save_server(&server("aa", &["old:1"])).unwrap();
        let cluster = Cluster::new(&home).unwrap();
        let addresses = || {
            let mut state = cluster.shared.state.lock();
            cluster.take_up_addresses(&mut state);
            state.server.addresses.clone()
        };
        assert_eq!(addresses(), ["old:1"]);
        // Another command of this device, while the pool is open.
        home.save_server(&server("aa", &["new:1"])).unwrap();
        assert_eq!(addresses(), ["new:1", "old:1"]);
        home.save_server(&server("bb", &["stranger:1"])).unwrap();
        assert_eq!(addresses(), ["new:1", "old:1"]);
    }
}
