//! Whole pools under everything at once, from one seed each: crashes at any step, old copies of stores, cut links, lost
//! signals, a cluster that goes and comes, clocks a day off, and a member that sends whatever it likes. In the end all
//! show the same history, nothing that was answered is gone, and every download is complete and right.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::world::{Source, World};
use crate::frame::{Frame, RefusedReason};
use crate::seeds::for_each_seed;
use crate::transfer::{GroupRange, bulk};
use crate::*;

const SECOND: u64 = 1_000_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// What was asked of the pool, and what must be true in the end.
struct Campaign {
    world: World,
    hostile: Option<usize>,
    /// Devices whose store was set back: their chains may have two branches.
    set_back: BTreeSet<usize>,
    said: Vec<(usize, CommandId, String)>,
    /// Answered messages, kept beyond restarts.
    answered: BTreeSet<String>,
    retracted: BTreeSet<String>,
    sources: BTreeMap<EntryId, Source>,
    withdrawn: BTreeSet<EntryId>,
    /// Which device wants which offer, and the download of its present run.
    wants: BTreeMap<(usize, EntryId), Option<DownloadId>>,
    complete: BTreeSet<(usize, EntryId)>,
}

fn content(world: &mut World, most: u64) -> Vec<u8> {
    let (size, seed) = (world.random(most), world.random(u64::MAX));
    let mut bytes = vec![0; size as usize];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Campaign {
    fn new(seed: u64) -> Campaign {
        let mut world = World::new(seed, &[1, 2, 3, 1, 4][..2 + (seed % 4) as usize]);
        let count = world.nodes.len();
        for node in 0..count {
            world.nodes[node].clock_off_ms = [0, 0, DAY_MS, -DAY_MS][world.random(4) as usize] / 2;
        }
        world.signal_loss = [0.0, 0.0, 0.1, 0.3][world.random(4) as usize];
        world.delay_us = [2_000, 20_000, 200_000][world.random(3) as usize];
        world.bulk_delay_us = [None, Some(2_000), Some(500_000)][world.random(3) as usize];
        let hostile = (count > 2 && world.random(3) == 0).then(|| world.random(count as u64) as usize);
        (0..count).for_each(|node| world.start(node));
        Campaign {
            world,
            hostile,
            set_back: BTreeSet::new(),
            said: Vec::new(),
            answered: BTreeSet::new(),
            retracted: BTreeSet::new(),
            sources: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            wants: BTreeMap::new(),
            complete: BTreeSet::new(),
        }
    }

    fn some_node(&mut self) -> usize {
        self.world.random(self.world.nodes.len() as u64) as usize
    }

    fn is_running(&self, node: usize) -> bool {
        self.world.nodes[node].peer.is_some()
    }

    /// Takes note of answers and completions before a crash forgets them.
    fn look(&mut self) {
        for (node, command, text) in &self.said {
            if matches!(self.world.nodes[*node].replies.get(command), Some(Ok(_))) {
                self.answered.insert(text.clone());
            }
        }
        for ((node, offer), download) in &self.wants {
            if download.is_some_and(|download| self.world.is_complete(*node, download)) {
                self.complete.insert((*node, *offer));
            }
        }
        if let Some(hostile) = self.hostile {
            self.world.nodes[hostile].sources.values_mut().for_each(|source| source.lies = true);
        }
    }

    fn kill(&mut self, node: usize) {
        self.look();
        self.world.kill(node);
        self.wants.iter_mut().filter(|((of, _), _)| *of == node).for_each(|(_, download)| *download = None);
    }

    /// Asks (again) for what is wanted, as the driver does after a start.
    fn get_what_is_wanted(&mut self) {
        self.look();
        let wanted: Vec<_> =
            self.wants.iter().filter(|(_, download)| download.is_none()).map(|(key, _)| *key).collect();
        for (node, offer) in wanted {
            let knows = self.is_running(node) && self.world.peer(node).offers().iter().any(|(open, _)| *open == offer);
            if knows && !self.complete.contains(&(node, offer)) {
                let download = self.world.get(node, offer);
                self.wants.insert((node, offer), Some(download));
            }
        }
    }

    fn step(&mut self) {
        let node = self.some_node();
        let running = self.is_running(node);
        match self.world.random(24) {
            0..=7 if running => {
                let text = format!("{}", self.said.len());
                let command = self.world.command(node, Command::Say(text.clone()));
                self.said.push((node, command, text));
            }
            8 | 9
                if running
                    && self.hostile != Some(node)
                    && self.world.peer(node).log().forked_at(self.id(node)).is_none() =>
            {
                let files: Vec<_> = (0..1 + self.world.random(3))
                    .map(|n| (format!("f{n}"), content(&mut self.world, 3 << 20)))
                    .collect();
                let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
                let source = Source::new(&files);
                let offer = self.world.offer(node, source.clone());
                self.sources.insert(offer, source);
            }
            10..=12 if running => {
                let offers = self.world.peer(node).offers();
                let others: Vec<EntryId> =
                    offers.iter().map(|(offer, _)| *offer).filter(|offer| offer.device != self.id(node)).collect();
                if !others.is_empty() {
                    let offer = others[self.world.random(others.len() as u64) as usize];
                    self.wants.entry((node, offer)).or_insert(None);
                    self.get_what_is_wanted();
                }
            }
            13 | 14 if running => self.kill(node),
            15 if running => {
                // In the middle of whatever comes next.
                for _ in 0..self.world.random(40) {
                    self.world.step();
                }
                self.kill(node);
            }
            16 => {
                let other = self.some_node();
                if node != other {
                    self.world.cut(node, other);
                }
            }
            17 => self.world.heal(),
            18 if self.world.cluster_up => self.world.stop_cluster(),
            18 => self.world.start_cluster(),
            19 if running => self.world.input(node, Input::NetworkChanged),
            20 if running && self.world.random(4) == 0 => {
                let own = self.world.peer(node).offers().into_iter().map(|(offer, _)| offer);
                let own: Vec<EntryId> = own.filter(|offer| offer.device == self.id(node)).collect();
                if let Some(offer) = own.first() {
                    self.world.command(node, Command::Withdraw(*offer));
                    self.withdrawn.insert(*offer);
                }
            }
            21 if running => {
                let log = self.world.peer(node).log();
                let own = log.in_order(None).filter(|entry| entry.id.device == self.id(node));
                let newest = own.filter_map(|entry| match &entry.body {
                    Body::Text(text) => Some((entry.id, text.clone())),
                    _ => None,
                });
                let newest = newest.max_by_key(|(id, _)| id.counter);
                if let Some((id, text)) = newest {
                    self.world.command(node, Command::Retract(id));
                    self.retracted.insert(text);
                }
            }
            22 if running && self.world.random(6) == 0 => {
                // Its folder is set back to an older state.
                self.kill(node);
                let keep = self.world.random(self.world.nodes[node].disk.len() as u64 + 1) as usize;
                self.world.nodes[node].disk.truncate(keep);
                self.set_back.insert(node);
            }
            _ => {}
        }
        let down: Vec<usize> = (0..self.world.nodes.len()).filter(|node| !self.is_running(*node)).collect();
        for node in down {
            if self.world.random(3) == 0 {
                self.world.start(node);
                self.get_what_is_wanted();
            }
        }
        if let Some(hostile) = self.hostile {
            self.harm(hostile);
        }
        let pause = [1_000, 50_000, SECOND, 10 * SECOND][self.world.random(4) as usize];
        let pause = self.world.random(pause);
        self.world.run_for(pause);
    }

    fn id(&self, node: usize) -> rockpool_proto::DeviceId {
        self.world.nodes[node].id
    }

    /// Sends somebody what it likes.
    fn harm(&mut self, hostile: usize) {
        let victim = self.some_node();
        if victim == hostile || !self.is_running(victim) || !self.is_running(hostile) {
            return;
        }
        let world = &mut self.world;
        let (a, b) = (world.random(u64::MAX), world.random(u64::MAX));
        let of = world.random(world.nodes.len() as u64) as usize;
        let (from, author) = (world.nodes[hostile].id, world.nodes[of].id);
        let roots: Vec<Root> = world.peer(victim).offers().iter().map(|(_, offer)| offer.manifest_root).collect();
        let root = roots.get(a as usize % roots.len().max(1)).copied().unwrap_or(Root([7; 32]));
        let request = (a % 30) as u32;
        let range = GroupRange { first: b % 200, count: (a % 70) as u32 };
        let entries = world.peer(hostile).log().in_order(None).map(|entry| entry.to_wire()).take(20).collect();
        let frame = match world.random(12) {
            0 => Frame::Have(vec![(author, a), (world.nodes[victim].id, u64::MAX)]),
            1 => Frame::EntriesRequest { device: author, first_counter: a % 9, last_counter: b },
            2 => Frame::Entries { entries, answers: Some(author) },
            3 => Frame::Seeding { roots: vec![root, Root([8; 32])], stopped: vec![] },
            4 => Frame::Seeding { roots: vec![], stopped: roots },
            5 => Frame::ManifestRequest { root, offset: a % 100_000 },
            6 => Frame::ManifestPage { root, offset: 0, total_bytes: b, data: Bytes::from_static(b"x") },
            7 => Frame::RangesRequest { request, root, pieces: vec![((b % 4) as u32, range); 3] },
            8 => Frame::RangesRefused { request, reason: RefusedReason::SourceChanged },
            9 => Frame::RangesCancel { request },
            10 => Frame::Goodbye,
            _ => Frame::Ping { nonce: a },
        };
        let mut message = frame.encode().to_vec();
        if world.random(5) == 0 {
            let at = world.random(message.len() as u64) as usize;
            message[at] = world.random(256) as u8;
        }
        if let Some(connection) = world.connection(victim, from, Purpose::Control) {
            world.input(victim, Input::Frame(connection, message.into()));
        }
        if let Some(connection) = world.connection(victim, from, Purpose::Bulk) {
            let proof = bulk::encode_proof(request, (b % 4) as u32, GroupRange { first: b % 99, count: 3 }, &[[0; 32]]);
            world.input(victim, Input::Frame(connection, proof));
        }
    }

    /// All is well from now on.
    fn heal(&mut self) {
        self.world.heal();
        self.world.signal_loss = 0.0;
        if !self.world.cluster_up {
            self.world.start_cluster();
        }
        for node in 0..self.world.nodes.len() {
            if !self.is_running(node) {
                self.world.start(node);
            }
        }
        let begin = self.world.now_us;
        while !self.world.all_linked() {
            let goes_on = self.world.step() && self.world.now_us < begin + 200 * SECOND;
            assert!(goes_on, "not linked: {}", self.world.links());
        }
        self.world.run_for(60 * SECOND);
    }

    /// What each device has of each chain, up to where its author has made two of it.
    fn history(&self, node: usize) -> Vec<(EntryId, Bytes)> {
        let log = self.world.peer(node).log();
        let branched: BTreeSet<_> = self.set_back.iter().map(|node| self.id(*node)).collect();
        let entries = log.in_order(None).filter(|entry| !branched.contains(&entry.id.device));
        entries.map(|entry| (entry.id, entry.to_wire().content)).collect()
    }

    fn check(&mut self) {
        let expected = self.history(0);
        for node in 1..self.world.nodes.len() {
            assert!(self.history(node) == expected, "{node} and 0 show different histories");
        }
        self.look();
        let writers = self.said.iter().filter(|(node, _, _)| !self.set_back.contains(node));
        let answered = writers.filter(|(_, _, text)| self.answered.contains(text) && !self.retracted.contains(text));
        for (node, _, text) in answered {
            assert!(self.world.texts(0).contains(text), "{text} of {node} was answered and is gone");
        }
        for node in 0..self.world.nodes.len() {
            let missing = self.world.peer(node).missing_entries();
            assert!(missing == 0 || self.hostile.is_some(), "{node} misses {missing}");
            for warning in self.world.warnings(node) {
                match warning {
                    Warning::WrongBytes { device, .. } => {
                        assert_eq!(Some(*device), self.hostile.map(|node| self.id(node)), "{warning}");
                    }
                    Warning::Equivocation(id) | Warning::OwnChainForked(id) => {
                        assert!(self.set_back.iter().any(|node| self.id(*node) == id.device), "{warning}");
                    }
                    Warning::FingerprintMismatch(_) => panic!("nobody sits in the middle"),
                    _ => {}
                }
            }
        }
    }

    /// Every download of what is still offered by an honest device ends, with the right bytes.
    fn check_downloads(&mut self) {
        let honest: BTreeSet<_> = (0..self.world.nodes.len())
            .filter(|node| self.hostile != Some(*node) && !self.set_back.contains(node))
            .map(|node| self.id(node))
            .collect();
        let due: Vec<(usize, EntryId)> = self
            .wants
            .keys()
            .filter(|(node, offer)| {
                self.hostile != Some(*node) && honest.contains(&offer.device) && !self.withdrawn.contains(offer)
            })
            .copied()
            .collect();
        // A download that failed or was refused is asked for again, as a person would.
        for (node, offer) in &due {
            let ended = self.world.nodes[*node].events.iter().any(|event| {
                matches!(event, Event::DownloadFailed { download, .. } if self.wants[&(*node, *offer)] == Some(*download))
            });
            if ended {
                self.wants.insert((*node, *offer), None);
            }
        }
        self.get_what_is_wanted();
        for (node, offer) in due {
            let Some(download) = self.wants[&(node, offer)] else {
                assert!(self.complete.contains(&(node, offer)), "{node} does not know {offer}");
                continue;
            };
            let begin = self.world.now_us;
            while !self.world.is_complete(node, download) {
                let goes_on = self.world.step() && self.world.now_us < begin + 200 * SECOND;
                assert!(goes_on, "{node} waits for {offer}: {}", self.world.download(node));
            }
            let landing = &self.world.nodes[node].landings[&download];
            for (index, content) in self.sources[&offer].contents.iter().enumerate() {
                assert!(landing.parts[&(index as u32)] == *content, "file {index} of {offer} differs at {node}");
            }
        }
    }
}

#[test]
fn whatever_happens_all_agree_and_all_downloads_end() {
    for_each_seed("whatever_happens_all_agree", 0..40, |seed| {
        let mut campaign = Campaign::new(seed);
        for _ in 0..20 + seed % 40 {
            campaign.step();
        }
        campaign.heal();
        campaign.check();
        campaign.check_downloads();
        campaign.check();
    });
}
