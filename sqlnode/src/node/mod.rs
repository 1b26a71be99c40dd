//! A node, put together: folder, identity, listeners, engine, database, sessions, services; and taken apart again.
//!
//! ```text
//!   start:  folder locked -> ports bound -> identity (found a cluster, join one, or go on) -> engine open
//!           -> listeners serve -> [a majority] -> system tables -> announced -> services open -> ready
//!   stop:   leadership handed over -> sessions and streams drained -> engine closed -> listeners closed
//! ```
//!
//! Ports are bound before anything is given away: a node whose port is taken has not used up its token. What needs a
//! majority runs behind the listeners, because the majority itself is made over them.

mod identify;
mod keeper;
mod probe;
mod root;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rockpool_runtime::{Engine, EngineError, EngineOptions, TlsOptions};
use rockpool_sql::Caches;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::backend_engine::EngineBackend;
use crate::cluster::{Addresses, AdminService, MemberTable, Members, MembershipService};
use crate::config::Config;
use crate::database::{Database, SystemEnvironment};
use crate::error::StartError;
use crate::identity::{
    DataFolder, Fingerprint, INTERNAL_NAME, Identity, IdentityRecord, NodeTls, RootPassword, StoreState,
};
use crate::listen::{GrpcServer, LateRoutes, bind, router};
use crate::metrics::Metrics;
use crate::pg::{PgOptions, PgSecrets, PgServer};
use crate::rooms::Rooms;

use identify::Identified;
use probe::NodeProbe;

/// How long stopping may take in all.
const STOP_DEADLINE: Duration = Duration::from_millis(9_500);
/// How long open SQL transactions may go on while the node stops.
const SQL_DRAIN: Duration = Duration::from_secs(3);
/// How long the rooms may take to say goodbye.
const ROOMS_DRAIN: Duration = Duration::from_secs(2);
/// How long an HTTP request may go on while the node stops.
const HTTP_DRAIN: Duration = Duration::from_millis(500);
/// How long handing over leadership may take.
const HAND_OVER: Duration = Duration::from_secs(2);

/// How far a node has come.
#[derive(Clone, Debug)]
pub enum Stage {
    /// It waits for a majority; the sentence says what for.
    Waiting(String),
    /// It serves.
    Ready,
    /// It can't go on.
    Failed(Arc<StartError>),
}

/// A running node.
pub struct Node {
    folder: Arc<DataFolder>,
    identity: Identity,
    fingerprint: Fingerprint,
    addresses: Addresses,
    engine: Engine,
    database: Database,
    pg: Arc<PgServer>,
    rooms: Arc<Mutex<Option<Rooms>>>,
    stage: watch::Receiver<Stage>,
    /// Ends the keeper and whatever waits for a majority.
    stopping: CancellationToken,
    /// Ends the gRPC and HTTP listeners.
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// What the node's parts share while it runs.
struct Parts {
    identity: Identity,
    table: Arc<MemberTable>,
    members: Members,
    engine: Engine,
    database: Database,
    late: LateRoutes,
    rooms: Arc<Mutex<Option<Rooms>>>,
    /// Rung when a member announced itself.
    changed: Arc<Notify>,
    stage: watch::Sender<Stage>,
    ready: Arc<AtomicBool>,
    stopping: CancellationToken,
    root_password: Arc<RootPassword>,
    sign_ups_per_hour: u32,
}

struct Listeners {
    grpc: TcpListener,
    pg: TcpListener,
    http: TcpListener,
}

impl Node {
    /// Starts a node. Returns when it listens; [`Node::ready`] tells when it serves.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        let folder = Arc::new(DataFolder::open(&config.data)?);
        let (listeners, own) = listen(&config).await?;
        let Identified { record, authority, tls, root_password, addresses, joined } =
            identify::identify(&config, &folder, own).await?;
        let identity = record.identity;

        let engine = open_engine(&folder, &record, &tls).await?;
        folder.write_identity(&IdentityRecord { identity, store: StoreState::Opened })?;
        let table = MemberTable::open(folder.path(), identity, addresses.clone(), tls.clone(), joined)?;
        let table = Arc::new(table);
        engine.set_peers(&table.engine_peers()).map_err(engine_error)?;

        let backend = Arc::new(EngineBackend::new(engine.clone()));
        let database = Database::new(backend, Caches::default(), Arc::new(SystemEnvironment));
        let root_password = Arc::new(root_password);
        let metrics = Arc::new(Metrics::new());
        let pg = Arc::new(PgServer::new(
            database.clone(),
            PgSecrets {
                tls: Arc::new(tls.server_config()?),
                certificate_hash: tls.certificate_hash(),
                nobody_secret: authority.nobody_secret(),
                root_password: Some(Arc::clone(&root_password)),
            },
            PgOptions {
                plaintext: config.pg_plaintext_loopback,
                connections_max: config.pg_connections_max,
                statement_timeout: config.statement_timeout,
                idle_in_transaction_timeout: config.idle_in_transaction_timeout,
            },
            Arc::clone(&metrics),
        ));
        let members = Members::new(database.clone(), identity.cluster_id);
        let fingerprint = authority.fingerprint();
        let authority = Arc::new(authority);
        let (stage, stage_seen) = watch::channel(Stage::Waiting("the node is starting".to_owned()));
        let parts = Arc::new(Parts {
            identity,
            table: Arc::clone(&table),
            members: members.clone(),
            engine: engine.clone(),
            database: database.clone(),
            late: LateRoutes::default(),
            rooms: Arc::default(),
            changed: Arc::default(),
            stage,
            ready: Arc::new(AtomicBool::new(false)),
            stopping: CancellationToken::new(),
            root_password,
            sign_ups_per_hour: config.sign_ups_per_hour,
        });
        let probe = Arc::new(NodeProbe::new(&parts, &folder, Arc::clone(&pg), metrics));

        let membership = MembershipService::new(
            Arc::clone(&probe) as Arc<dyn crate::cluster::LocalNode>,
            members.clone(),
            Arc::clone(&authority),
            Arc::clone(&parts.root_password),
            Arc::clone(&parts.changed),
        );
        let admin =
            AdminService::new(Arc::clone(&probe) as _, members, authority, tls.clone(), Arc::clone(&parts.changed));
        let routes = Routes::new(engine.grpc_service()).add_service(membership.server()).add_service(admin.server());
        let grpc = GrpcServer::new(routes, parts.late.clone(), &tls, table);

        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let node = Node {
            folder,
            identity,
            fingerprint,
            addresses,
            engine,
            database,
            pg: Arc::clone(&pg),
            rooms: Arc::clone(&parts.rooms),
            stage: stage_seen,
            stopping: parts.stopping.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(serve_grpc(grpc, listeners.grpc, Arc::clone(&parts), closing.clone()));
        tasks.spawn(async move {
            let until = closing.clone().cancelled_owned();
            let served = axum::serve(listeners.http, router(probe)).with_graceful_shutdown(until);
            // Whoever began a request and never ended it is not waited for.
            let late = async {
                closing.cancelled().await;
                tokio::time::sleep(HTTP_DRAIN).await;
            };
            tokio::select! {
                served = served.into_future() => if let Err(error) = served {
                    tracing::error!(%error, "the HTTP listener failed");
                },
                () = late => {}
            }
        });
        tasks.spawn(async move { pg.serve(listeners.pg).await });
        tasks.spawn(keeper::run(parts));
        Ok(node)
    }

    /// Waits until the node serves, or can't.
    pub async fn ready(&self) -> Result<(), Arc<StartError>> {
        let mut stage = self.stage.clone();
        loop {
            let seen = stage.borrow_and_update().clone();
            match seen {
                Stage::Ready => return Ok(()),
                Stage::Failed(error) => return Err(error),
                Stage::Waiting(_) => {}
            }
            if stage.changed().await.is_err() {
                return Err(Arc::new(StartError::Store("the node stopped while it was starting".to_owned())));
            }
        }
    }

    /// Waits until the node can't go on, and answers why.
    pub async fn failed(&self) -> Arc<StartError> {
        let mut stage = self.stage.clone();
        loop {
            if let Stage::Failed(error) = &*stage.borrow_and_update() {
                return Arc::clone(error);
            }
            if stage.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where it listens, as others reach it.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// The fingerprint of the cluster's authority.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Stops in order, within ten seconds whatever happens.
    pub async fn stop(self) {
        let Node { engine, pg, rooms, stopping, closing, tasks, .. } = self;
        let in_order = async {
            stopping.cancel();
            let leads = engine
                .status()
                .groups
                .iter()
                .any(|group| group.role == rockpool_runtime::Role::Leader && group.voters.len() > 1);
            if leads {
                match tokio::time::timeout(HAND_OVER, engine.transfer_leadership(None)).await {
                    Ok(Ok(())) => tracing::info!("leadership was handed over"),
                    Ok(Err(error)) => {
                        tracing::info!(%error, "leadership could not be handed over; another will be elected")
                    }
                    Err(_) => tracing::info!("nobody took leadership over in time; another will be elected"),
                }
            }
            pg.stop();
            let rooms = rooms.lock().take();
            let drain_rooms = async {
                if let Some(rooms) = rooms
                    && tokio::time::timeout(ROOMS_DRAIN, rooms.drain()).await.is_err()
                {
                    tracing::warn!("the rooms could not be closed in time");
                }
            };
            tokio::join!(pg.drained(SQL_DRAIN), drain_rooms);
            engine.shutdown().await;
            closing.cancel();
            tasks.close();
            tasks.wait().await;
        };
        if tokio::time::timeout(STOP_DEADLINE, in_order).await.is_err() {
            tracing::warn!("not everything had ended when the time for stopping was over");
        }
    }
}

async fn listen(config: &Config) -> Result<(Listeners, Addresses), StartError> {
    let (grpc, grpc_address) = bind("--grpc", config.grpc).await?;
    let (pg, pg_address) = bind("--pg", config.pg).await?;
    let (http, http_address) = bind("--http", config.http).await?;
    let host = config.advertised_host();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let own = Addresses {
        node_id: rockpool_proto::NodeId(0),
        grpc: format!("{host}:{}", grpc_address.port()),
        pg: format!("{host}:{}", pg_address.port()),
        http: format!("{host}:{}", http_address.port()),
    };
    Ok((Listeners { grpc, pg, http }, own))
}

async fn open_engine(folder: &DataFolder, record: &IdentityRecord, tls: &NodeTls) -> Result<Engine, StartError> {
    let mut options = EngineOptions::new(folder.store_path(), record.identity.node_id);
    // Only the first node of a cluster, and only while there is no store, may make one out of nothing.
    options.bootstrap = record.identity.node_id == identify::FIRST_NODE && record.store == StoreState::Absent;
    options.transport.tls = Some(TlsOptions {
        authority_pem: tls.authority_pem(),
        certificate_pem: tls.chain_pem(),
        key_pem: tls.key_pem().to_string(),
        server_name: INTERNAL_NAME.to_owned(),
        node_of: NodeTls::node_of,
    });
    Engine::open(options).await.map_err(engine_error)
}

fn engine_error(error: EngineError) -> StartError {
    StartError::Store(error.to_string())
}

async fn serve_grpc(server: GrpcServer, listener: TcpListener, parts: Arc<Parts>, closing: CancellationToken) {
    if let Err(error) = server.serve(listener, closing).await {
        parts.ready.store(false, Ordering::SeqCst);
        parts.stage.send_replace(Stage::Failed(Arc::new(error)));
    }
}
