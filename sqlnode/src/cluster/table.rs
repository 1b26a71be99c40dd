//! The members as this node last knew them: in memory for everybody who asks, on disk for a start without a majority.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rockpool_proto::NodeId;
use tonic::transport::Channel;

use super::client::NodeClient;
use super::convert::{Addresses, MemberList};
use crate::error::StartError;
use crate::identity::{Identity, NodeTls, read_small, write_whole};
use crate::rooms::Nodes;

/// The members as this node last knew them.
pub struct MemberTable {
    identity: Identity,
    own: Addresses,
    tls: NodeTls,
    path: PathBuf,
    /// Held while the list is compared, written and swapped: whoever changes it uses the same temporary file.
    changing: Mutex<()>,
    members: RwLock<Arc<Vec<Addresses>>>,
    /// Of the list that the cluster gave last; zero before that.
    revision: Mutex<u64>,
    /// Where members say they listen now, until the cluster has written that down.
    heard: Mutex<BTreeMap<NodeId, String>>,
    /// Who belonged to the cluster once. Their certificates are good for ever and open nothing any more.
    former: RwLock<BTreeSet<NodeId>>,
    /// One channel to each node, made when it is first needed.
    clients: Mutex<HashMap<NodeId, (String, NodeClient)>>,
}

impl MemberTable {
    /// What the folder remembers, or `joined` at first.
    pub fn open(
        folder: &Path,
        identity: Identity,
        own: Addresses,
        tls: NodeTls,
        joined: Vec<Addresses>,
    ) -> Result<MemberTable, StartError> {
        let path = folder.join("nodes.toml");
        let mut members = if joined.is_empty() { read(&path)? } else { joined };
        members.retain(|member| member.node_id != identity.node_id);
        members.push(own.clone());
        members.sort_by_key(|member| member.node_id);
        write(&path, &members)?;
        Ok(MemberTable {
            identity,
            own,
            tls,
            path,
            changing: Mutex::default(),
            members: RwLock::new(Arc::new(members)),
            revision: Mutex::default(),
            heard: Mutex::default(),
            former: RwLock::default(),
            clients: Mutex::default(),
        })
    }

    /// Takes over the members as the cluster knows them, unless a later list is here already; true when something changed.
    /// What `tell` is given is where the engine reaches the others from now on.
    pub fn replace(
        &self,
        list: MemberList,
        tell: impl FnOnce(&BTreeMap<NodeId, String>) -> Result<(), StartError>,
    ) -> Result<bool, StartError> {
        let _changing = self.changing.lock();
        let MemberList { revision, nodes: members } = list;
        if revision < *self.revision.lock() {
            return Ok(false);
        }
        let before = self.all();
        if *before != members {
            write(&self.path, &members)?;
        }
        *self.revision.lock() = revision;
        if *before == members {
            return Ok(false);
        }
        // What the cluster has written down anew is newer than what a member said before.
        self.heard.lock().retain(|node, _| {
            let now = grpc_of(&members, *node);
            now.is_some() && now == grpc_of(&before, *node)
        });
        *self.members.write() = Arc::new(members);
        tell(&self.engine_peers())?;
        Ok(true)
    }

    /// A member says where it listens, or (`None`) could not have it written down. Its messages must arrive there before
    /// the cluster has decided on it: that may be what the majority is waiting for.
    pub fn hear(
        &self,
        node: NodeId,
        grpc: Option<&str>,
        tell: impl FnOnce(&BTreeMap<NodeId, String>) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let _changing = self.changing.lock();
        let before = self.engine_peers();
        match grpc {
            Some(grpc) if before.contains_key(&node) => self.heard.lock().insert(node, grpc.to_owned()),
            _ => self.heard.lock().remove(&node),
        };
        let peers = self.engine_peers();
        if peers == before { Ok(()) } else { tell(&peers) }
    }

    /// Takes over who was removed.
    pub fn set_former(&self, former: impl IntoIterator<Item = NodeId>) {
        *self.former.write() = former.into_iter().collect();
    }

    /// Whether a node was removed.
    pub fn is_former(&self, node: NodeId) -> bool {
        self.former.read().contains(&node)
    }

    /// Everybody.
    pub fn all(&self) -> Arc<Vec<Addresses>> {
        Arc::clone(&self.members.read())
    }

    /// Where this node listens.
    pub fn own(&self) -> &Addresses {
        &self.own
    }

    /// What the engine needs to reach the others.
    pub fn engine_peers(&self) -> BTreeMap<NodeId, String> {
        let heard = self.heard.lock();
        let address = |member: &Addresses| heard.get(&member.node_id).unwrap_or(&member.grpc).clone();
        self.all().iter().map(|member| (member.node_id, address(member))).collect()
    }

    /// A connection to another member.
    pub fn client(&self, node: NodeId) -> Option<NodeClient> {
        let members = self.all();
        let address = &members.iter().find(|member| member.node_id == node)?.grpc;
        let mut clients = self.clients.lock();
        if let Some((known, client)) = clients.get(&node)
            && known == address
        {
            return Some(client.clone());
        }
        match NodeClient::new(address, &self.tls) {
            Ok(client) => {
                clients.insert(node, (address.clone(), client.clone()));
                Some(client)
            }
            Err(error) => {
                tracing::warn!(%node, %address, %error, "this address can't be used");
                None
            }
        }
    }
}

impl Nodes for MemberTable {
    fn me(&self) -> NodeId {
        self.identity.node_id
    }

    fn channel(&self, node: NodeId) -> Option<Channel> {
        self.client(node).map(NodeClient::into_channel)
    }

    fn addresses(&self) -> Vec<String> {
        let members = self.all();
        let others = members.iter().filter(|member| member.node_id != self.identity.node_id);
        std::iter::once(self.own.grpc.clone()).chain(others.map(|member| member.grpc.clone())).collect()
    }

    fn cluster_id(&self) -> [u8; 16] {
        self.identity.cluster_id.0
    }
}

fn grpc_of(members: &[Addresses], node: NodeId) -> Option<&str> {
    members.iter().find(|member| member.node_id == node).map(|member| member.grpc.as_str())
}

fn write(path: &Path, members: &[Addresses]) -> Result<(), StartError> {
    let mut text = String::from("# The members as this node last knew them. Written by rockpool-node.\n");
    for Addresses { node_id, grpc, pg, http } in members {
        text += &format!("\n[[node]]\nid = {}\ngrpc = {grpc:?}\npg = {pg:?}\nhttp = {http:?}\n", node_id.0);
    }
    write_whole(path, text.as_bytes(), 0o644)
}

/// The members that a folder remembers.
pub fn read_members(folder: &Path) -> Result<Vec<Addresses>, StartError> {
    read(&folder.join("nodes.toml"))
}

fn read(path: &Path) -> Result<Vec<Addresses>, StartError> {
    let Some(text) = read_small(path)? else { return Ok(Vec::new()) };
    let parsed: Option<Vec<Addresses>> = text.parse::<toml::Table>().ok().and_then(|table| {
        let nodes = table.get("node")?.as_array()?;
        nodes
            .iter()
            .map(|node| {
                let text = |key: &str| Some(node.get(key)?.as_str()?.to_owned());
                let node_id = node.get("id")?.as_integer().and_then(|id| u64::try_from(id).ok())?;
                Some(Addresses { node_id: NodeId(node_id), grpc: text("grpc")?, pg: text("pg")?, http: text("http")? })
            })
            .collect()
    });
    if parsed.is_none() {
        // Only a memory of what the cluster knows: the node finds the others again when they find it.
        tracing::warn!(path = %path.display(), "the list of members is damaged and was passed over");
    }
    Ok(parsed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members<const N: usize>(ids: [u64; N], port: u16) -> [Addresses; N] {
        ids.map(|id| Addresses {
            node_id: NodeId(id),
            grpc: format!("host{id}:{port}"),
            pg: "[::1]:2".to_owned(),
            http: "h:3".to_owned(),
        })
    }

    fn table(folder: &Path) -> MemberTable {
        let authority = crate::identity::Authority::generate("test").unwrap();
        let key = crate::identity::NodeKey::generate().unwrap();
        let certificate = authority.issue(&key.request, NodeId(1), "host1").unwrap();
        let tls = key.with_certificate(&authority, certificate);
        let identity = Identity { cluster_id: crate::identity::ClusterId([7; 16]), node_id: NodeId(1) };
        let [own, other] = members([1, 2], 1);
        MemberTable::open(folder, identity, own.clone(), tls, vec![own, other]).unwrap()
    }

    fn replace<const N: usize>(table: &MemberTable, revision: u64, nodes: [Addresses; N]) -> bool {
        table.replace(MemberList { revision, nodes: nodes.to_vec() }, |_| Ok(())).unwrap()
    }

    #[test]
    fn a_list_that_arrives_late_replaces_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path());
        assert!(replace(&table, 4, members([1, 2], 4)));
        assert!(!replace(&table, 3, members([1, 2], 3)), "read before, arrived behind");
        assert!(!replace(&table, 4, members([1, 2], 4)), "the same again");
        assert_eq!(table.engine_peers()[&NodeId(2)], "host2:4");
        assert_eq!(read_members(folder.path()).unwrap(), members([1, 2], 4));
        assert!(replace(&table, 5, members([1, 2, 3], 5)));
    }

    #[test]
    fn the_list_may_be_changed_by_several_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for port in 2..50 {
                        replace(&table, 0, members([1, 2], port));
                    }
                });
            }
        });
        assert_eq!(read_members(folder.path()).unwrap(), **table.all());
    }

    #[test]
    fn what_a_member_says_holds_until_the_cluster_has_decided() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path());
        let hear = |node: u64, grpc: Option<&str>| {
            let mut told = None;
            let tell = |peers: &BTreeMap<NodeId, String>| {
                told = peers.get(&NodeId(2)).cloned();
                Ok(())
            };
            table.hear(NodeId(node), grpc, tell).unwrap();
            told
        };
        assert_eq!(hear(9, Some("host9:1")), None, "no member");
        assert_eq!(hear(2, Some("host2:1")), None, "known");
        assert_eq!(hear(2, Some("host2:2")).as_deref(), Some("host2:2"));
        assert_eq!(hear(2, Some("host2:2")), None, "told before");
        assert_eq!(hear(2, None).as_deref(), Some("host2:1"), "refused");

        // Other news doesn't take it back; the cluster's decision does.
        assert_eq!(hear(2, Some("host2:2")).as_deref(), Some("host2:2"));
        replace(&table, 0, members([1, 2, 3], 1));
        assert_eq!(table.engine_peers()[&NodeId(2)], "host2:2");
        replace(&table, 0, members([1, 2, 3], 4));
        assert_eq!(table.engine_peers()[&NodeId(2)], "host2:4");
        assert_eq!(read_members(folder.path()).unwrap(), **table.all());
    }

    #[test]
    fn the_list_on_disk_reads_back_and_damage_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.toml");
        assert_eq!(read(&path).unwrap(), []);
        let members = members([1, 2], 1);
        write(&path, &members).unwrap();
        assert_eq!(read(&path).unwrap(), members);
        std::fs::write(&path, "[[node]]\nid = -3\n").unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
