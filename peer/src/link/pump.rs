//! Carries what the library reports into the link's queue of events.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use rockpool_proto::limits;

use super::{CHANNEL_LABEL, FrameSender, LinkCandidate, LinkEvent};

/// The link's end of the library's callbacks. Clones share everything.
#[derive(Clone)]
pub(super) struct Pump {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once `Closed` was said, so that it is the last event and said once.
    events: Mutex<Option<mpsc::Sender<LinkEvent>>>,
    connection: Mutex<Option<Weak<dyn PeerConnection>>>,
    closed: watch::Receiver<bool>,
    /// Whether a channel was taken: the other side may open one, not many.
    reading: Mutex<bool>,
}

/// What the library calls.
pub(super) struct Handler {
    pump: Pump,
}

impl Pump {
    pub(super) fn new(events: mpsc::Sender<LinkEvent>, closed: watch::Receiver<bool>) -> Self {
        let events = Mutex::new(Some(events));
        let shared = Shared { events, connection: Mutex::new(None), closed, reading: Mutex::new(false) };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn handler(&self) -> Handler {
        Handler { pump: self.clone() }
    }

    /// Weak, because the connection keeps its handler, which keeps this.
    pub(super) fn set_connection(&self, connection: Weak<dyn PeerConnection>) {
        *self.shared.connection.lock() = Some(connection);
    }

    /// Reads a channel until it closes.
    pub(super) fn read(&self, channel: Arc<dyn DataChannel>) {
        if std::mem::replace(&mut *self.shared.reading.lock(), true) {
            self.close("the other device opened a second channel");
            return;
        }
        let pump = self.clone();
        tokio::spawn(async move {
            let reason = pump.run(channel).await;
            pump.close(&reason);
        });
    }

    async fn run(&self, channel: Arc<dyn DataChannel>) -> String {
        let mut closed = self.shared.closed.clone();
        let Some(events) = self.shared.events.lock().clone() else { return "closed".into() };
        if channel.label().await.is_ok_and(|label| label != CHANNEL_LABEL) {
            return "the other device opened a channel of another program".into();
        }
        let mut open = false;
        loop {
            let event = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return "closed".into(),
                event = channel.poll() => event,
            };
            let outs = match event {
                Some(DataChannelEvent::OnOpen) => {
                    let certificate = match self.certificate().await {
                        Ok(certificate) => certificate,
                        Err(reason) => return reason,
                    };
                    open = true;
                    let fingerprint = LinkEvent::Connected(Sha256::digest(&certificate).into());
                    vec![fingerprint, LinkEvent::Open(FrameSender { channel: channel.clone() })]
                }
                Some(DataChannelEvent::OnMessage(_)) if !open => return "a message before the channel opened".into(),
                Some(DataChannelEvent::OnMessage(message)) if message.data.len() > limits::PEER_FRAME_BYTES_MAX => {
                    return format!("the other device sent a frame of {} bytes", message.data.len());
                }
                Some(DataChannelEvent::OnMessage(message)) => vec![LinkEvent::Frame(message.data.freeze())],
                Some(DataChannelEvent::OnClosing | DataChannelEvent::OnClose) => {
                    return "the other device closed the link".into();
                }
                Some(DataChannelEvent::OnError) => return "the channel failed".into(),
                Some(_) => continue,
                None => return "closed".into(),
            };
            for out in outs {
                tokio::select! {
                    biased;
                    _ = closed.wait_for(|closed| *closed) => return "closed".into(),
                    sent = events.send(out) => if sent.is_err() { return "closed".into() },
                }
            }
        }
    }

    /// The other side's certificate, DER.
    async fn certificate(&self) -> Result<Vec<u8>, String> {
        let connection = self.shared.connection.lock().as_ref().and_then(Weak::upgrade).ok_or("closed")?;
        let sctp = connection.sctp().await.ok_or("a link without SCTP")?;
        let chain = sctp.transport().get_remote_certificates().await.map_err(|error| error.to_string())?;
        chain.into_iter().next().ok_or_else(|| "the other device showed no certificate".into())
    }

    /// Says something from the library's own task. Waiting is right: whoever has a link always reads its events.
    async fn say(&self, event: LinkEvent) {
        let events = self.shared.events.lock().clone();
        if let Some(events) = events {
            let _ = events.send(event).await;
        }
    }

    /// Says `Closed` unless it was said. It must not be lost to a full queue, so it may wait in a task of its own.
    fn close(&self, reason: &str) {
        let Some(events) = self.shared.events.lock().take() else { return };
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(LinkEvent::Closed(reason.to_owned())) {
            tokio::spawn(async move { events.send(event).await });
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        match event.candidate.to_json() {
            Ok(init) => {
                let candidate = LinkCandidate {
                    candidate: init.candidate,
                    sdp_mid: init.sdp_mid.unwrap_or_default(),
                    sdp_mline_index: init.sdp_mline_index.unwrap_or_default(),
                };
                self.pump.say(LinkEvent::Candidate(Some(candidate))).await;
            }
            Err(error) => tracing::debug!(%error, "a local candidate that cannot be written down"),
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.pump.say(LinkEvent::Candidate(None)).await;
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Disconnected => self.pump.say(LinkEvent::Disconnected).await,
            RTCPeerConnectionState::Failed => self.pump.close("no path to the other device works"),
            RTCPeerConnectionState::Closed => self.pump.close("closed"),
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.pump.read(channel);
    }
}
