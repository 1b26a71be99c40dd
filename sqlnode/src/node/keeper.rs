//! What a node does besides serving: it comes up once there is a majority, then keeps its list of members fresh, and
//! while it leads brings announced members into the Raft group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use rockpool_runtime::{Engine, GroupStatus, NodeId, Role};

use super::root::RootKept;
use super::{Parts, Stage, identify};
use crate::cluster::{MemberList, MemberTable, no_member, prepare_database};
use crate::database::{DbError, RefusalKind};
use crate::error::StartError;
use crate::roles;
use crate::rooms::Rooms;
use crate::services::Services;

/// Between two looks at the members.
const PERIOD: Duration = Duration::from_secs(1);
/// How long telling the other members may take.
const TELL_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries while there is no majority.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Brings the node up, then keeps it.
pub(super) async fn run(parts: Arc<Parts>) {
    let brought_up = tokio::select! {
        () = parts.stopping.cancelled() => return,
        brought_up = bring_up(&parts) => brought_up,
    };
    if let Err(error) = brought_up {
        parts.stage.send_replace(Stage::Failed(Arc::new(error)));
        return;
    }
    parts.ready.store(true, Ordering::SeqCst);
    parts.stage.send_replace(Stage::Ready);
    let mut status = parts.engine.subscribe();
    let mut root = RootKept::default();
    loop {
        if let Some(failure) = &status.borrow_and_update().failure {
            parts.ready.store(false, Ordering::SeqCst);
            parts.stage.send_replace(Stage::Failed(Arc::new(StartError::Store(failure.to_string()))));
            return;
        }
        // A node that stops has no use for what a transaction would find out after some more tries.
        let kept = tokio::select! {
            biased;
            () = parts.stopping.cancelled() => return,
            kept = keep(&parts, &mut root) => kept,
        };
        match kept {
            Ok(()) => {}
            Err(removed @ StartError::Removed(_)) => {
                parts.ready.store(false, Ordering::SeqCst);
                parts.stage.send_replace(Stage::Failed(Arc::new(removed)));
                return;
            }
            Err(error) => tracing::debug!(%error, "the members can't be looked at now"),
        }
        let next = tokio::time::sleep(PERIOD);
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                () = parts.stopping.cancelled() => return,
                () = parts.changed.notified() => break,
                () = &mut next => break,
                // The status moves with every commit; only a failure can't wait.
                changed = status.changed() => {
                    if changed.is_err() || status.borrow().failure.is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn bring_up(parts: &Parts) -> Result<(), StartError> {
    // Where there are others, they are asked first: a node that was removed would wait for a majority for ever.
    let alone = parts.table.all().len() == 1;
    let mut members = if alone { None } else { Some(announced(parts).await?) };
    if parts.identity.node_id == identify::FIRST_NODE {
        let verifier = roles::new_verifier(&parts.database, &parts.root_password.current())
            .map_err(|error| StartError::Store(error.to_string()))?;
        let own = parts.table.own();
        retried(parts, "its system tables", || {
            prepare_database(&parts.database, parts.identity.cluster_id, own, &verifier)
        })
        .await?;
    }
    let members = match members.take() {
        Some(members) => members,
        None => announced(parts).await?,
    };
    take_over(parts, members)?;
    let rooms = Rooms::start(parts.database.clone(), Arc::clone(&parts.table) as _);
    let services = retried(parts, "the metadata services", || {
        Services::open(parts.database.clone(), rooms.clone(), parts.sign_ups_per_hour)
    })
    .await?;
    *parts.rooms.lock() = Some(rooms);
    parts.late.put(services.routes());
    Ok(())
}

/// Does something that needs a majority, until there is one. Anything but its absence is an error.
async fn retried<T, F: Future<Output = Result<T, DbError>>>(
    parts: &Parts,
    what: &str,
    work: impl Fn() -> F,
) -> Result<T, StartError> {
    parts.stage.send_replace(Stage::Waiting(format!("waiting for a majority of the members, for {what}")));
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error @ (DbError::Unavailable(_) | DbError::Conflict(_) | DbError::OutcomeUnknown(_))) => {
                let why = format!("waiting for a majority of the members, for {what}: {error}");
                tracing::info!("{why}");
                parts.stage.send_replace(Stage::Waiting(why));
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(failure) = &parts.engine.status().failure {
            return Err(StartError::Store(failure.to_string()));
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Tells the cluster where this node listens, through whichever member answers; answers the members.
async fn announced(parts: &Parts) -> Result<MemberList, StartError> {
    let own = parts.table.own();
    let cluster_id = parts.identity.cluster_id;
    let others: Vec<NodeId> =
        parts.table.all().iter().map(|member| member.node_id).filter(|node| *node != own.node_id).collect();
    let mut last = None;
    let why = "waiting for a majority of the members, to say where this one listens".to_owned();
    parts.stage.send_replace(Stage::Waiting(why));
    loop {
        for node in &others {
            let Some(client) = parts.table.client(*node) else { continue };
            match client.announce(cluster_id, own).await {
                Ok(members) => {
                    tell_the_others(parts, *node, &members).await?;
                    return Ok(members);
                }
                Err(StartError::Unreachable(why) | StartError::Undecided(why)) => last = Some(why),
                Err(refused) => return Err(refused),
            }
        }
        // Without a member that answers, this node may be (part of) the majority itself.
        match parts.members.announce(cluster_id, own, env!("CARGO_PKG_VERSION")).await {
            Ok(members) => return Ok(members),
            Err(DbError::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                return Err(StartError::Removed(refusal.to_string()));
            }
            Err(DbError::Refused(refusal)) if refusal.kind != RefusalKind::Unavailable => {
                return Err(StartError::Refused(refusal.to_string()));
            }
            Err(error) => {
                let why = last.take().unwrap_or_else(|| error.to_string());
                let why = format!("waiting for a majority of the members: {why}");
                tracing::info!("{why}");
                parts.stage.send_replace(Stage::Waiting(why));
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Every member must know where this node listens before the next one is lost, or the rest could not find each other.
/// Who doesn't answer learns it from the members when it is back.
async fn tell_the_others(parts: &Parts, told: NodeId, members: &MemberList) -> Result<(), StartError> {
    take_over(parts, members.clone())?;
    let own = parts.table.own();
    let others = members.nodes.iter().map(|member| member.node_id);
    let others = others.filter(|node| *node != told && *node != own.node_id);
    let clients = others.filter_map(|node| Some((node, parts.table.client(node)?)));
    let calls = clients.map(|(node, client)| async move {
        let told = tokio::time::timeout(TELL_WITHIN, client.announce(parts.identity.cluster_id, own)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(%node, "could not be told where this node listens");
        }
    });
    join_all(calls).await;
    Ok(())
}

fn take_over(parts: &Parts, members: MemberList) -> Result<(), StartError> {
    take_members(&parts.table, &parts.engine, members)
}

/// Takes over the members as the cluster knows them: for this node's calls, its folder and its engine.
pub(super) fn take_members(table: &MemberTable, engine: &Engine, members: MemberList) -> Result<(), StartError> {
    let count = members.nodes.len();
    if table.replace(members, |peers| tell_engine(engine, peers))? {
        tracing::info!(members = count, "the members have changed");
    }
    Ok(())
}

/// A member says where it listens, or could not have it written down: see [`MemberTable::hear`].
pub(super) fn hear(table: &MemberTable, engine: &Engine, node: NodeId, grpc: Option<&str>) -> Result<(), StartError> {
    table.hear(node, grpc, |peers| tell_engine(engine, peers))
}

fn tell_engine(engine: &Engine, peers: &BTreeMap<NodeId, String>) -> Result<(), StartError> {
    engine.set_peers(peers).map_err(|error| StartError::Store(error.to_string()))
}

async fn keep(parts: &Parts, root: &mut RootKept) -> Result<(), StartError> {
    let list = match parts.members.list().await {
        Ok(list) => list,
        Err(error) => {
            ask_whether_removed(parts).await?;
            return Err(error.into());
        }
    };
    let own = parts.identity.node_id;
    // A leader that was removed hands over first.
    let leads = parts.engine.status().groups.iter().any(|group| group.role == Role::Leader);
    if !leads && !list.nodes.iter().any(|member| member.node_id == own) {
        return Err(StartError::Removed(no_member(own)));
    }
    let members = list.nodes.clone();
    take_over(parts, list)?;
    parts.table.set_former(parts.members.removed().await?);
    root.look(parts, &members).await?;
    let status = parts.engine.status();
    for group in status.groups.iter().filter(|group| group.role == Role::Leader) {
        for member in members.iter().filter(|member| !belongs(group, member.node_id)) {
            let added = parts.engine.add_node(member.node_id, member.grpc.clone()).await;
            match added {
                Ok(()) => tracing::info!(node = %member.node_id, group = %group.group, "added to the group"),
                // The next look tries again: one change at a time, and only by the leader.
                Err(error) => tracing::debug!(node = %member.node_id, %error, "can't be added yet"),
            }
        }
        remove_former(parts, group).await?;
    }
    Ok(())
}

/// A node that was taken out of the group hears no more from it, and for all it knows there is no majority. The others
/// know better.
async fn ask_whether_removed(parts: &Parts) -> Result<(), StartError> {
    let (own, cluster_id) = (parts.table.own(), parts.identity.cluster_id);
    let members = parts.table.all();
    let others = members.iter().map(|member| member.node_id).filter(|node| *node != own.node_id);
    let clients = others.filter_map(|node| parts.table.client(node));
    let calls =
        clients.map(|client| async move { tokio::time::timeout(TELL_WITHIN, client.announce(cluster_id, own)).await });
    let removed = |answer| match answer {
        Ok(Err(removed @ StartError::Removed(_))) => Some(removed),
        _ => None,
    };
    join_all(calls).await.into_iter().find_map(removed).map_or(Ok(()), Err)
}

/// Takes nodes that were removed out of the group. A leader that was removed itself hands over first.
async fn remove_former(parts: &Parts, group: &GroupStatus) -> Result<(), StartError> {
    let former = parts.members.removed().await?;
    for node in former.into_iter().filter(|node| belongs(group, *node)) {
        let changed = if node == parts.identity.node_id {
            parts.engine.transfer_leadership(None).await
        } else {
            parts.engine.remove_node(node).await
        };
        match changed {
            Ok(()) => tracing::info!(%node, group = %group.group, "removed from the group"),
            Err(error) => tracing::debug!(%node, %error, "can't be removed yet"),
        }
    }
    Ok(())
}

fn belongs(group: &GroupStatus, node: NodeId) -> bool {
    [&group.voters, &group.voters_outgoing, &group.learners].into_iter().any(|nodes| nodes.contains(&node))
}
