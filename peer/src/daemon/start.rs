//! Opening a pool: the home's lock, the store, and what an earlier run left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rockpool_peer_core::{Config, DeviceKeys, EntryId, Member, Peer, Restored, Root};
use tokio::sync::{mpsc, watch};

use super::links::Links;
use super::running::{Clock, OwnOffer, Running};
use super::socket::LocalSocket;
use super::{Call, DaemonParts, HAPPENINGS_QUEUED_MAX, Happening, offers};
use crate::api::{ApiError, ErrorCode};
use crate::files::{OutboardFolder, Source, Sources, Workers};
use crate::home::{DaemonLock, Home};
use crate::store::{DownloadState, Store, StoreError, Writer, Written};

/// How often the lock is tried for, and how long apart.
const LOCK_ATTEMPTS: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What was read from the home.
struct Loaded {
    lock: DaemonLock,
    keys: DeviceKeys,
    store: Store,
    sources: Arc<Sources>,
    restored: Restored,
    own_offers: HashMap<EntryId, OwnOffer>,
}

pub(super) fn store_error(error: StoreError) -> ApiError {
    ApiError::new(ErrorCode::Disk, error.to_string())
}

pub(super) async fn start(parts: DaemonParts, calls: mpsc::Sender<Call>) -> Result<Running, ApiError> {
    let internal = |error: std::io::Error| ApiError::new(ErrorCode::Internal, format!("starting threads: {error}"));
    let DaemonParts { home, pool, pool_name, links, connect } = parts;
    let loaded = {
        let home = home.clone();
        tokio::task::spawn_blocking(move || load(&home, pool))
            .await
            .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))??
    };
    let Loaded { lock, keys, store, sources, restored, own_offers } = loaded;
    let (happenings, happenings_rx) = mpsc::channel(HAPPENINGS_QUEUED_MAX);
    let written = {
        let happenings = happenings.clone();
        move |written: Written| {
            let _ = happenings.blocking_send(Happening::Written(written));
        }
    };
    let writer = Writer::start(store.clone(), pool, written).map_err(internal)?;
    let workers = Workers::start().map_err(internal)?;
    let socket = LocalSocket::bind(home.socket_path()).map_err(|error| {
        let path = home.socket_path();
        ApiError::new(ErrorCode::Disk, format!("cannot listen at {}: {error}", path.display()))
    })?;
    let clock = Clock::start();
    let peer = Peer::new(clock.now(), Config { pool, keys }, restored);
    let (port, cluster_events) = connect(peer.device_id());
    let (stop_serving, stop) = watch::channel(false);
    let serving = tokio::spawn(socket.serve(calls, stop));
    let mut running = Running::new(
        home,
        pool,
        pool_name,
        lock,
        clock,
        peer,
        Links::new(links, happenings.clone()),
        workers,
        store,
        writer,
        sources,
        port,
        cluster_events,
        happenings,
        happenings_rx,
        serving,
        stop_serving,
    );
    running.own_offers = own_offers;
    Ok(running)
}

/// The home's lock. Whoever waits for somebody else's end takes it for a moment, too, to see whether it is free.
fn lock(home: &Home) -> Result<DaemonLock, ApiError> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Ok(lock) = home.lock_daemon() {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    home.lock_daemon()
}

fn load(home: &Home, pool: rockpool_proto::PoolId) -> Result<Loaded, ApiError> {
    let lock = lock(home)?;
    let keys = DeviceKeys::from_secret(&home.device_secret()?.signing);
    let store = Store::open(&home.store_path()).map_err(store_error)?;
    let folder = OutboardFolder::open(home.outboards_path()).map_err(|error| {
        ApiError::new(ErrorCode::Disk, format!("cannot make {}: {error}", home.outboards_path().display()))
    })?;
    let sources = Arc::new(Sources::new(folder));
    let entries = store.entries(pool).map_err(store_error)?;
    let members = store.members(pool).map_err(store_error)?;
    let members = members.iter().filter_map(|member| Member::from_wire(member).ok()).collect();

    let mut restored = Restored { entries, members, ..Restored::default() };
    let mut own_offers = HashMap::new();
    for (counter, record) in store.offers(pool).map_err(store_error)? {
        let id = EntryId { device: keys.device_id(), counter };
        // Own offers that are not restored, the core withdraws: their files are gone or are not what was offered.
        if let Some(offer) = offers::restore(&record.manifest, &record.sources) {
            let source = Arc::new(offer.source);
            sources.share(offer.manifest.root(), source.clone());
            own_offers.insert(id, OwnOffer { root: offer.manifest.root(), source });
            restored.offers.push((id, offer.manifest));
        }
    }
    for record in store.downloads(pool).map_err(store_error)? {
        if record.state != DownloadState::Finished as i32 {
            continue;
        }
        // One that has changed since is not served; nobody is told that we would.
        if let Some(seed) = offers::restore(&record.manifest, &record.sources) {
            put_seed(&sources, seed.manifest.root(), seed.source);
            restored.seeds.push(seed.manifest);
        }
    }
    Ok(Loaded { lock, keys, store, sources, restored, own_offers })
}

fn put_seed(sources: &Sources, root: Root, source: Source) {
    if !sources.contains(root) {
        sources.share(root, Arc::new(source));
    }
}
