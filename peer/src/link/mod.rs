//! Links: one WebRTC connection to another device, with one reliable ordered channel in it.
//!
//! Two devices keep two links, so that a transfer never delays a word: SCTP has no interleaving, and a full send buffer
//! holds up every channel of its association. A [`Link`] is one of the two:
//!
//! ```text
//!   offerer                        answerer
//!   create_offer ----- sdp ----->  accept_offer
//!   apply_answer <---- sdp ------
//!         <-------- candidates, both ways, as they are found -------->
//!   LinkEvent::Connected           LinkEvent::Connected  with the certificate that the other side showed
//!   LinkEvent::Open                LinkEvent::Open       the channel takes frames
//!   LinkEvent::Frame ...                                 one event for each message
//!   LinkEvent::Closed                                    last event, once
//! ```
//!
//! **Who is there.** The library compares the certificate of the handshake with the description's fingerprint (its default,
//! and nothing here turns it off). The description is signed by the device; `Connected` carries the SHA-256 of the
//! certificate that was really used, so that the machine compares it once more with what was signed.
//!
//! Nothing outside this folder names a type of `webrtc`. The library's traits are sealed, so whoever wants a link without
//! a network stands behind [`LinkEvent`] and [`FrameSender`], not behind a double of theirs.
//!
//! **Back-pressure.** Sending waits while [`SEND_BUFFER_BYTES_MAX`] are unsent in the channel. Receiving: events wait in a
//! bounded queue; when its reader falls behind, the library stops reading, the SCTP window closes and the sender waits.
//!
//! **Cycles.** The library keeps the handler, the handler keeps only a queue's sending end, and the task that reads the
//! channel ends when the link closes. A link that is dropped closes itself; [`Link::close`] waits for it.

mod machine;
mod network;
mod pump;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::ice::mdns::MulticastDnsMode;
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceServer,
    RTCSessionDescription, SettingEngineBuilder,
};

use rockpool_proto::limits;

pub use machine::is_from_this_machine;
pub use network::Network;

/// Unsent bytes in a channel above which sending waits.
pub const SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Received messages that wait for their reader.
const EVENTS_QUEUED_MAX: usize = 64;
/// Candidates that wait for the description they belong to.
const CANDIDATES_WAITING_MAX: usize = 64;
/// Characters in a session description. Ours have about 600; a browser's with data only about 1,500.
const DESCRIPTION_BYTES_MAX: usize = 32 * 1024;
/// Window that a device grants its peers, in bytes, where the socket's buffer can hold it.
const RECEIVE_WINDOW_BYTES: usize = 1024 * 1024;
/// SCTP packets on a link that stays on the machine. Larger ones gain little more, and eight fit one offloaded write.
const ONE_MACHINE_MTU_BYTES: u32 = 8_000;
/// Least window: it must hold two of the largest messages.
const RECEIVE_WINDOW_BYTES_MIN: usize = 2 * limits::PEER_FRAME_BYTES_MAX;
/// Without a sign of life for this long a link is disconnected, and after the second time it has failed.
const ICE_DISCONNECTED: Duration = Duration::from_secs(5);
const ICE_FAILED: Duration = Duration::from_secs(10);
const ICE_KEEPALIVE: Duration = Duration::from_secs(1);

const FLUSH_POLL: Duration = Duration::from_millis(2);
/// The label of a connection's one channel.
const CHANNEL_LABEL: &str = "rockpool";

/// Settings of links, the same for all of a process.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where to listen, as `address:port`. A wildcard stands for every interface except loopback.
    pub listen: Vec<String>,
    /// STUN and TURN servers, as `stun:` and `turn:` addresses.
    pub ice_servers: Vec<String>,
    /// Bytes of SCTP packet in one datagram. The default passes every path; only what never leaves the machine may have more.
    pub mtu_bytes: Option<u32>,
    /// Window that this device grants, in bytes; by default 1 MiB or what the socket buffers can hold.
    pub receive_window_bytes: Option<u32>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let listen = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"].map(str::to_owned).to_vec();
        Self { listen, ice_servers: Vec::new(), mtu_bytes: None, receive_window_bytes: None }
    }
}

impl LinkConfig {
    /// Settings for a link whose other end is on this machine too.
    #[must_use]
    pub fn on_one_machine(&self) -> LinkConfig {
        LinkConfig { mtu_bytes: Some(ONE_MACHINE_MTU_BYTES), ..self.clone() }
    }
}

/// Why a link could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side sent something that is no session description or candidate of ours.
    #[error("not acceptable from the other device: {0}")]
    Refused(String),
    /// A message larger than a frame may be.
    #[error("a frame of {found} bytes, where at most {limit} are allowed")]
    Oversized {
        /// Its size.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The link is closed or not open yet.
    #[error("the link is not open")]
    NotOpen,
    /// The network or the library failed.
    #[error("WebRTC: {0}")]
    Transport(#[from] webrtc::error::Error),
}

/// A candidate as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCandidate {
    /// RFC 8839's candidate attribute.
    pub candidate: String,
    /// Which media section, by name.
    pub sdp_mid: String,
    /// Which media section, by place.
    pub sdp_mline_index: u16,
}

/// What happens on a link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A candidate of this side, to be sent to the other; `None` when there are no more.
    Candidate(Option<LinkCandidate>),
    /// DTLS is up; SHA-256 of the certificate that the other side used.
    Connected([u8; 32]),
    /// The channel takes frames.
    Open(FrameSender),
    /// A message.
    Frame(Bytes),
    /// The path is lost for now.
    Disconnected,
    /// The link is of no use any more, and why. The last event.
    Closed(String),
}

/// Sends frames over an open link. Cheap to clone.
#[derive(Clone)]
pub struct FrameSender {
    channel: Arc<dyn DataChannel>,
}

impl std::fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameSender({})", self.channel.id())
    }
}

impl FrameSender {
    /// Sends one message, after waiting until the buffer has room.
    pub async fn send(&self, frame: BytesMut) -> Result<(), LinkError> {
        if frame.len() > limits::PEER_FRAME_BYTES_MAX {
            return Err(LinkError::Oversized { found: frame.len(), limit: limits::PEER_FRAME_BYTES_MAX });
        }
        self.channel.send(frame).await.map_err(|error| match error {
            webrtc::error::Error::ErrDataChannelClosed | webrtc::error::Error::ErrDataChannelNotOpen => {
                LinkError::NotOpen
            }
            other => other.into(),
        })
    }
}

impl FrameSender {
    /// Waits until the other side has all that was sent. Whoever calls it sets a deadline.
    pub async fn flush(&self) {
        // The library tells of a falling buffer, not of an empty one.
        while self.channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
            tokio::time::sleep(FLUSH_POLL).await;
        }
    }
}

/// What has to wait until the other side's description is known.
enum Remote {
    /// Not known yet; its candidates, in order of arrival.
    Awaited(Vec<LinkCandidate>),
    /// Known and applied.
    Applied,
}

/// One WebRTC connection. See the module's text for the order of calls.
pub struct Link {
    connection: Arc<dyn PeerConnection>,
    remote: tokio::sync::Mutex<Remote>,
    pump: pump::Pump,
    closed: watch::Sender<bool>,
}

impl Link {
    /// Binds sockets and makes a connection that does nothing yet.
    pub async fn new(config: &LinkConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        let (events_tx, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (closed, closed_rx) = watch::channel(false);
        let window = config.receive_window_bytes.unwrap_or_else(|| {
            let fits = socket::granted_receive_bytes().clamp(RECEIVE_WINDOW_BYTES_MIN, RECEIVE_WINDOW_BYTES);
            u32::try_from(fits).expect("at most RECEIVE_WINDOW_BYTES, which fits")
        });
        let mut settings = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
            .with_include_loopback_candidate(true)
            // Resolving browsers' `.local` names needs a multicast socket, and a host without one could not connect at all.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_discard_local_candidates_during_ice_restart(true)
            .with_sctp_max_receive_buffer_size(window);
        if let Some(mtu_bytes) = config.mtu_bytes {
            settings = settings.with_sctp_mtu(mtu_bytes);
        }
        let servers = config
            .ice_servers
            .iter()
            .map(|url| RTCIceServer { urls: vec![url.clone()], ..Default::default() })
            .collect();
        let pump = pump::Pump::new(events_tx, closed_rx);
        let connection: Arc<dyn PeerConnection> = Arc::new(
            PeerConnectionBuilder::new()
                .with_configuration(RTCConfigurationBuilder::new().with_ice_servers(servers).build())
                .with_setting_engine(settings.build())
                .with_handler(Arc::new(pump.handler()))
                .with_runtime(Arc::new(socket::TunedRuntime))
                .with_udp_addrs(config.listen.clone())
                .with_data_channel_send_buffer_limit(SEND_BUFFER_BYTES_MAX)
                .build()
                .await?,
        );
        pump.set_connection(Arc::downgrade(&connection));
        let remote = tokio::sync::Mutex::new(Remote::Awaited(Vec::new()));
        Ok((Self { connection, remote, pump, closed }, events))
    }

    /// Opens the channel and returns the offer to sign and send.
    pub async fn create_offer(&self) -> Result<String, LinkError> {
        let channel = self
            .connection
            .create_data_channel(CHANNEL_LABEL, Some(RTCDataChannelInit { ordered: true, ..Default::default() }))
            .await?;
        self.pump.read(channel);
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        Ok(machine::marked(sdp))
    }

    /// A new offer for a connection that lost its path: other candidates, the same channel and its unsent data.
    pub async fn restart(&self) -> Result<String, LinkError> {
        self.connection.restart_ice().await?;
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        *self.remote.lock().await = Remote::Awaited(Vec::new());
        self.connection.set_local_description(offer).await?;
        Ok(machine::marked(sdp))
    }

    /// Takes the other side's offer, a first or a restart's, and returns the answer to sign and send.
    pub async fn accept_offer(&self, sdp: &str) -> Result<String, LinkError> {
        let offer = RTCSessionDescription::offer(checked(sdp)?).map_err(refused)?;
        self.apply_remote(offer).await?;
        let answer = self.connection.create_answer(None).await?;
        let answer_sdp = answer.sdp.clone();
        self.connection.set_local_description(answer).await?;
        Ok(machine::marked(answer_sdp))
    }

    /// Takes the answer to our offer.
    pub async fn apply_answer(&self, sdp: &str) -> Result<(), LinkError> {
        let answer = RTCSessionDescription::answer(checked(sdp)?).map_err(refused)?;
        self.apply_remote(answer).await
    }

    /// Takes a candidate of the other side, at any time: before its description it waits.
    pub async fn add_candidate(&self, candidate: LinkCandidate) -> Result<(), LinkError> {
        let mut remote = self.remote.lock().await;
        match &mut *remote {
            Remote::Awaited(waiting) if waiting.len() == CANDIDATES_WAITING_MAX => {
                Err(LinkError::Refused("more candidates than any device has".into()))
            }
            Remote::Awaited(waiting) => {
                waiting.push(candidate);
                Ok(())
            }
            Remote::Applied => self.add(candidate).await,
        }
    }

    /// Closes the link and waits until its sockets are free. `Closed` follows on the events.
    pub async fn close(&self) {
        self.closed.send_replace(true);
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing a link");
        }
    }

    async fn apply_remote(&self, description: RTCSessionDescription) -> Result<(), LinkError> {
        let mut remote = self.remote.lock().await;
        self.connection.set_remote_description(description).await.map_err(refused)?;
        if let Remote::Awaited(waiting) = std::mem::replace(&mut *remote, Remote::Applied) {
            for candidate in waiting {
                // One unusable candidate costs one path, not the link.
                if let Err(error) = self.add(candidate).await {
                    tracing::debug!(%error, "a candidate that cannot be used");
                }
            }
        }
        Ok(())
    }

    async fn add(&self, candidate: LinkCandidate) -> Result<(), LinkError> {
        let init = RTCIceCandidateInit {
            candidate: candidate.candidate,
            sdp_mid: Some(candidate.sdp_mid),
            sdp_mline_index: Some(candidate.sdp_mline_index),
            ..Default::default()
        };
        self.connection.add_ice_candidate(init).await.map_err(refused)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.closed.send_replace(true) {
            return;
        }
        // The library's driver runs on after its handle is gone: only `close` ends it. Without a runtime all is ending.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connection = self.connection.clone();
            runtime.spawn(async move { connection.close().await });
        }
    }
}

fn checked(sdp: &str) -> Result<String, LinkError> {
    if sdp.len() > DESCRIPTION_BYTES_MAX {
        return Err(LinkError::Oversized { found: sdp.len(), limit: DESCRIPTION_BYTES_MAX });
    }
    Ok(sdp.to_owned())
}

fn refused(error: webrtc::error::Error) -> LinkError {
    LinkError::Refused(error.to_string())
}
