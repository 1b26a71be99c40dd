//! A small signalling relay, for tests and benches without a cluster: presence, roster and signals of one pool.
//!
//! It is the real thing in small: devices connect over TCP, so they may be in one process or in several, get a Welcome,
//! hear of each other's coming and going, and have their signals relayed unread. Frames are length-prefixed protobuf.

#![allow(dead_code)] // Each test uses its part of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use rockpool_peer::client::ClusterEvent;
use rockpool_peer::daemon::{ClusterPort, Daemon, DaemonParts};
use rockpool_peer::home::Home;
use rockpool_peer::link::LinkConfig;
use rockpool_peer_core::DeviceKeys;
use rockpool_proto::meta::v1::{self as meta, ended::Reason, from_cluster, to_cluster};
use rockpool_proto::{DeviceId, PoolId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::{mpsc, watch};

pub const POOL: PoolId = PoolId([0x70; 16]);

#[derive(Default)]
struct State {
    sequence: u64,
    members: BTreeMap<Bytes, meta::Member>,
    present: BTreeMap<Bytes, (meta::RosterNode, mpsc::UnboundedSender<meta::FromCluster>)>,
}

/// The relay. Dropping it ends all streams.
pub struct Hub {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    up: watch::Sender<bool>,
}

impl Hub {
    pub async fn start() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (up, up_rx) = watch::channel(true);
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, mut up) = (shared.clone(), up_rx.clone());
                if !*up.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, state) => {}
                        _ = up.wait_for(|up| !up) => {}
                    }
                });
            }
        });
        Hub { address, state, up }
    }

    /// Takes the cluster away: streams break, and none can be made.
    pub fn cut(&self) {
        self.up.send_replace(false);
        self.state.lock().present.clear();
    }

    /// Ends a device's presence on purpose.
    pub fn end(&self, device: &str, reason: Reason) {
        let state = self.state.lock();
        let ended = meta::Ended { reason: reason as i32, text: format!("{reason:?}") };
        for (id, (_, to)) in &state.present {
            if hex::encode(id) == device {
                let _ = to.send(from(from_cluster::Kind::Ended(ended.clone())));
            }
        }
    }

    /// Brings it back.
    pub fn heal(&self) {
        self.up.send_replace(true);
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (mut read, mut write) = stream.into_split();
    let Some(member) = receive::<meta::Member>(&mut read).await else { return };
    let (out, mut out_rx) = mpsc::unbounded_channel();
    let device = member.devices[0].device_id.clone();
    let (node, welcome) = {
        let mut state = state.lock();
        state.sequence += 1;
        let number = state.sequence;
        let node = meta::RosterNode {
            device_id: device.clone(),
            presence_epoch: number,
            place: None,
            placement_number: number,
        };
        let account = member.account.as_ref().unwrap().account_id.clone();
        let known = state.members.entry(account).or_insert_with(|| member.clone());
        if !known.devices.iter().any(|known| known.device_id == device) {
            known.devices.push(member.devices[0].clone());
        }
        let known = known.clone();
        for (_, others) in state.present.values() {
            let _ = others.send(from(from_cluster::Kind::Member(known.clone())));
            let event = meta::RosterEvent {
                lease_epoch: 1,
                sequence: number,
                joined: Some(node.clone()),
                ..Default::default()
            };
            let _ = others.send(from(from_cluster::Kind::Roster(event)));
        }
        state.present.insert(device.clone(), (node.clone(), out));
        let nodes = state.present.values().map(|(node, _)| node.clone()).collect();
        let roster = meta::Roster { pool_id: POOL.0.to_vec().into(), lease_epoch: 1, sequence: number, nodes };
        let members = state.members.values().cloned().collect();
        (node, meta::Welcome { presence_epoch: number, roster: Some(roster), members, absence: None })
    };
    if send(&mut write, &from(from_cluster::Kind::Welcome(welcome))).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            message = receive::<meta::ToCluster>(&mut read) => match message.map(|message| message.kind) {
                Some(Some(to_cluster::Kind::Signal(mut signal))) => {
                    signal.from_device_id = device.clone();
                    let state = state.lock();
                    if let Some((_, to)) = state.present.get(&signal.to_device_id) {
                        let _ = to.send(from(from_cluster::Kind::Signal(signal)));
                    }
                }
                Some(_) => {}
                None => break,
            },
            Some(message) = out_rx.recv() => {
                if send(&mut write, &message).await.is_err() {
                    break;
                }
            }
        }
    }
    let mut state = state.lock();
    if state.present.get(&device).is_some_and(|(present, _)| present.presence_epoch == node.presence_epoch) {
        state.present.remove(&device);
        state.sequence += 1;
        let event = meta::RosterEvent {
            lease_epoch: 1,
            sequence: state.sequence,
            removed_device_id: device,
            ..Default::default()
        };
        for (_, others) in state.present.values() {
            let _ = others.send(from(from_cluster::Kind::Roster(event.clone())));
        }
    }
}

fn from(kind: from_cluster::Kind) -> meta::FromCluster {
    meta::FromCluster { kind: Some(kind) }
}

async fn receive<M: prost::Message + Default>(read: &mut tcp::OwnedReadHalf) -> Option<M> {
    let length = read.read_u32().await.ok()?;
    let mut bytes = vec![0; length as usize];
    read.read_exact(&mut bytes).await.ok()?;
    M::decode(bytes.as_slice()).ok()
}

async fn send<M: prost::Message>(write: &mut tcp::OwnedWriteHalf, message: &M) -> std::io::Result<()> {
    let bytes = message.encode_to_vec();
    let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&bytes);
    write.write_all(&frame).await
}

/// A device's stream to the hub.
struct HubPort {
    out: mpsc::UnboundedSender<meta::ToCluster>,
}

#[async_trait::async_trait]
impl ClusterPort for HubPort {
    fn signal(&self, to: DeviceId, payload: Bytes) -> bool {
        let signal =
            meta::Signal { from_device_id: Bytes::new(), to_device_id: to.as_bytes().to_vec().into(), payload };
        self.out.send(meta::ToCluster { kind: Some(to_cluster::Kind::Signal(signal)) }).is_ok()
    }

    async fn close(self: Box<Self>) {}
}

async fn keep_stream(
    address: SocketAddr,
    member: meta::Member,
    mut out: mpsc::UnboundedReceiver<meta::ToCluster>,
    events: mpsc::Sender<ClusterEvent>,
) {
    loop {
        let Ok(stream) = TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (mut read, mut write) = stream.into_split();
        if send(&mut write, &member).await.is_ok() {
            loop {
                let event = tokio::select! {
                    message = receive::<meta::FromCluster>(&mut read) => match message.and_then(|message| message.kind) {
                        Some(from_cluster::Kind::Welcome(welcome)) => ClusterEvent::Up(welcome),
                        Some(from_cluster::Kind::Ended(ended)) => {
                            let (reason, text) = (ended.reason(), ended.text);
                            let _ = events.send(ClusterEvent::Ended { reason, text }).await;
                            return;
                        }
                        Some(kind) => ClusterEvent::Message(kind),
                        None => break,
                    },
                    message = out.recv() => match message {
                        Some(message) => {
                            if send(&mut write, &message).await.is_err() {
                                break;
                            }
                            continue;
                        }
                        None => return,
                    },
                };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
        if events.send(ClusterEvent::Lost { text: "the hub is gone".into() }).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The member that a home's device belongs to; each name is an account of its own.
pub fn member(home: &Home, name: &str) -> meta::Member {
    let keys = DeviceKeys::from_secret(&home.device_secret().unwrap().signing);
    let mut account_id = [0; 16];
    account_id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    let account_id = Bytes::copy_from_slice(&account_id);
    let account = meta::Account { account_id: account_id.clone(), login_name: name.into(), display_name: name.into() };
    let device = meta::Device {
        device_id: Bytes::copy_from_slice(keys.device_id().as_bytes()),
        account_id,
        name: format!("{name}'s device"),
        signing_key: Bytes::copy_from_slice(keys.public().as_bytes()),
        ..Default::default()
    };
    meta::Member { account: Some(account), devices: vec![device], ..Default::default() }
}

/// A daemon whose cluster is the hub.
pub async fn open(home: &Home, name: &str, hub: SocketAddr) -> Daemon {
    try_open(home, name, hub).await.unwrap()
}

pub async fn try_open(home: &Home, name: &str, hub: SocketAddr) -> Result<Daemon, rockpool_peer::api::ApiError> {
    let member = member(home, name);
    let connect = Box::new(move |_: DeviceId| {
        let (out, out_rx) = mpsc::unbounded_channel();
        let (events, events_rx) = mpsc::channel(256);
        tokio::spawn(keep_stream(hub, member, out_rx, events));
        (Box::new(HubPort { out }) as Box<dyn ClusterPort>, events_rx)
    });
    let links = LinkConfig { listen: vec!["127.0.0.1:0".into()], ..LinkConfig::default() };
    let parts = DaemonParts { home: home.clone(), pool: POOL, pool_name: "test".into(), links, connect };
    Daemon::start_parts(parts).await
}
