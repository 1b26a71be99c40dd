//! Golden scripts: a cluster told what to do line by line. `UPDATE_GOLDENFILES=1` writes the answers; read them.
//!
//! ```text
//!   cluster N                    N voters, n1 the first        config KEY=VALUE...   before: keep= flush= (entries) chunk=
//!   join nN                      a node that waits to be added  add|remove nA nB      ask nA to add or remove nB
//!   put nA k=v...  delete nA k   a transaction                  get nA k...  scan nA  another
//!   T: begin nA                  one that stays open            T: get|put|delete|scan|savepoint|rollback
//!   T: commit [nowait]  reply T  its end                        outcome nA T          what became of it, asked at nA
//!   advance MS  settle           let time pass                  leader  status        who leads, how everybody is
//!   isolate nA  heal             the network                    duplicate             every message twice
//!   delay MS                     how long messages travel
//!   hold nA persist|apply|flush  release nA                     crash nA [log=N state=N]  restart nA
//!   transfer nA [nB]             leadership                     collect nA            versions nobody reads
//!   notices [WORD]               what was noticed
//! ```

mod common;

use common::{GROUP, Hold, World, describe};
use goldenscript::{Argument, Command, Context};
use rockpool_engine::kv::Direction;
use rockpool_engine::{
    CommitRequest, Input, MembershipChange, NodeId, Reply, RequestId, Savepoint, Start, Timestamp, Transaction, TxnId,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

/// One test per script.
macro_rules! scripts {
    ($($folder:ident { $($name:ident)* })*) => {
        $(mod $folder {
            $(#[test]
            fn $name() {
                super::run(concat!("tests/scripts/", stringify!($folder), "/", stringify!($name)));
            })*
        })*

        #[test]
        fn every_script_is_run() {
            let listed = [$($(concat!(stringify!($folder), "/", stringify!($name)),)*)*];
            for folder in [$(stringify!($folder)),*] {
                for file in std::fs::read_dir(format!("tests/scripts/{folder}")).expect("scripts are here") {
                    let name = file.expect("a folder can be read").file_name().to_string_lossy().into_owned();
                    assert!(listed.contains(&format!("{folder}/{name}").as_str()), "{folder}/{name} is not listed");
                }
            }
        }
    };
}

scripts! {
    cluster {
        conflict_is_found_across_nodes
        crash_between_state_and_log
        crash_loses_unsynced_entries
        election_after_a_crash
        exactly_once_over_a_leader_change
        follower_restarts
        forgotten_outcome_is_no_conflict
        lagging_follower_gets_a_snapshot
        leader_change_keeps_commit
        learner_becomes_voter
        lost_answer_is_found_out
        minority_leader_commits_nothing
        remove_and_hand_over
        removed_node_is_not_served
        slow_links_still_read
        snapshot_resumes_after_a_gap
        snapshot_twice_in_a_row
        wiped_disk_is_refused
    }
    mvcc {
        anomaly_dirty_read
        anomaly_fuzzy_read
        anomaly_lost_update
        anomaly_phantom
        anomaly_read_skew
        anomaly_write_skew
        blind_writes
        collection
        savepoints
        scan_merges_own_writes
        tombstones
    }
}

fn run(path: &str) {
    goldenscript::run(&mut Runner::new(), path).expect("the script's answers hold");
}

struct Open {
    node: NodeId,
    transaction: Option<Transaction>,
    marks: BTreeMap<String, Savepoint>,
    read_timestamp: Timestamp,
    request: Option<RequestId>,
    id: TxnId,
}

struct Runner {
    world: World,
    open: BTreeMap<String, Open>,
    last_txn: u64,
    keep: u64,
    flush: u64,
    chunk: usize,
}

type Answer = Result<String, Box<dyn Error>>;

impl Runner {
    fn new() -> Self {
        Runner { world: World::new(), open: BTreeMap::new(), last_txn: 0, keep: 1_000, flush: 1_000, chunk: 64 }
    }

    fn next_txn(&mut self) -> TxnId {
        self.last_txn += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.last_txn.to_be_bytes());
        TxnId(id)
    }

    fn submit(&mut self, node: NodeId, commit: CommitRequest) -> RequestId {
        self.world.ask(node, |request| Input::Commit { request, commit })
    }

    /// A transaction from begin to commit.
    fn transact(
        &mut self,
        node: NodeId,
        work: impl FnOnce(&mut Transaction) -> Result<String, Box<dyn Error>>,
    ) -> Answer {
        let mut transaction = self.world.transaction(node)?;
        let output = work(&mut transaction)?;
        let read_only = transaction.is_read_only();
        let id = self.next_txn();
        let request = self.submit(node, transaction.into_commit(id));
        let reply = describe(self.world.wait(request));
        Ok(if read_only { output } else { format!("{output}{reply}\n") })
    }

    fn within(&mut self, name: &str, command: &Command) -> Answer {
        let mut args = command.consume_args();
        if command.name == "begin" {
            let node = node_arg(args.next_pos())?;
            let transaction = self.world.transaction(node)?;
            let read_timestamp = transaction.read_timestamp();
            let id = self.next_txn();
            let (marks, transaction) = (BTreeMap::new(), Some(transaction));
            self.open.insert(name.to_owned(), Open { node, transaction, marks, read_timestamp, request: None, id });
            return Ok(String::new());
        }
        let open = self.open.get_mut(name).ok_or("no such transaction")?;
        let transaction = open.transaction.as_mut().ok_or("it has ended")?;
        let mut output = String::new();
        match command.name.as_str() {
            "get" => {
                for key in args.by_ref().map(positional) {
                    output += &show(&key?, transaction)?;
                }
            }
            "put" => put_all(transaction, command)?,
            "delete" => {
                for key in args.by_ref().map(positional) {
                    transaction.delete(key?.into_bytes())?;
                }
            }
            "scan" => output += &scan(transaction, command)?,
            "savepoint" => {
                let mark = transaction.savepoint();
                open.marks.insert(args.next_pos().ok_or("no name")?.to_owned(), mark);
            }
            "rollback" => {
                let mark = open.marks.get(args.next_pos().ok_or("no name")?).ok_or("no such savepoint")?;
                transaction.rollback_to(*mark);
            }
            "commit" => {
                let nowait = args.next_pos() == Some("nowait");
                let (node, commit) = (open.node, open.transaction.take().ok_or("it has ended")?.into_commit(open.id));
                let request = self.submit(node, commit);
                if nowait {
                    self.open.get_mut(name).ok_or("no such transaction")?.request = Some(request);
                } else {
                    output = format!("{}\n", describe(self.world.wait(request)));
                }
            }
            other => return Err(format!("no verb {other} in a transaction").into()),
        }
        Ok(output)
    }

    fn membership(&mut self, command: &Command, change: fn(NodeId) -> MembershipChange) -> Answer {
        let mut args = command.consume_args();
        let (at, node) = (node_arg(args.next_pos())?, node_arg(args.next_pos())?);
        let change = change(node);
        let request = self.world.ask(at, |request| Input::ChangeMembership { request, group: GROUP, change });
        Ok(format!("{}\n", describe(self.world.wait(request))))
    }

    fn status(&mut self) -> String {
        let mut output = String::new();
        for id in self.world.hosts.keys().copied().collect::<Vec<_>>() {
            match (self.world.status(id), &self.world.host(id).fatal) {
                (Some(status), _) => {
                    let _ = writeln!(output, "{id}: {status} last_commit={}", status.last_commit);
                }
                (None, Some(fatal)) => {
                    let _ = writeln!(output, "{id}: stopped: {fatal}");
                }
                (None, None) => {
                    let _ = writeln!(output, "{id}: down");
                }
            }
        }
        self.world.check_states();
        output
    }

    fn command(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "config" => {
                let mut number = |key: &str, value: u64| {
                    args.take_key(key).map_or(Ok(value), str::parse).map_err(|_| format!("{key} is no number"))
                };
                self.keep = number("keep", self.keep)?;
                self.flush = number("flush", self.flush)?;
                self.chunk = number("chunk", self.chunk as u64)? as usize;
                Ok(String::new())
            }
            "cluster" => {
                let (keep, flush, chunk) = (self.keep, self.flush, self.chunk);
                self.world.tune = Box::new(move |config| {
                    config.limits.log_keep_entries = keep;
                    config.limits.log_flush_entries = flush;
                    config.limits.snapshot_chunk_bytes = chunk;
                });
                self.world.cluster(args.next_pos().ok_or("how many?")?.parse()?);
                Ok(String::new())
            }
            "join" => {
                self.world.start(node_arg(args.next_pos())?, Start::Join);
                Ok(String::new())
            }
            "add" => self.membership(command, MembershipChange::Add),
            "remove" => self.membership(command, MembershipChange::Remove),
            "put" => self.transact(node_arg(args.next_pos())?, |transaction| {
                put_all(transaction, command)?;
                Ok(String::new())
            }),
            "delete" => {
                let node = node_arg(args.next_pos())?;
                self.transact(node, |transaction| {
                    for key in args.map(positional) {
                        transaction.delete(key?.into_bytes())?;
                    }
                    Ok(String::new())
                })
            }
            "get" => {
                let node = node_arg(args.next_pos())?;
                self.transact(node, |transaction| args.map(positional).map(|key| show(&key?, transaction)).collect())
            }
            "scan" => self.transact(node_arg(args.next_pos())?, |transaction| scan(transaction, command)),
            "reply" => {
                let open = self.open.get(args.next_pos().ok_or("whose?")?).ok_or("no such transaction")?;
                let request = open.request.ok_or("not committed")?;
                Ok(format!("{}\n", describe(self.world.wait(request))))
            }
            "answered" => {
                let open = self.open.get(args.next_pos().ok_or("whose?")?).ok_or("no such transaction")?;
                Ok(format!("{}\n", open.request.is_some_and(|request| self.world.replies.contains_key(&request))))
            }
            "outcome" => {
                let node = node_arg(args.next_pos())?;
                let open = self.open.get(args.next_pos().ok_or("whose?")?).ok_or("no such transaction")?;
                let (txn, read_timestamp) = (open.id, open.read_timestamp);
                let request =
                    self.world.ask(node, |request| Input::QueryOutcome { request, group: GROUP, txn, read_timestamp });
                Ok(format!("{}\n", describe(self.world.wait(request))))
            }
            "advance" => {
                self.world.advance(args.next_pos().ok_or("how long?")?.parse()?);
                Ok(String::new())
            }
            "settle" => {
                let settled = self.world.settle();
                self.world.check_states();
                Ok(if settled.is_some() { String::new() } else { "does not settle\n".to_owned() })
            }
            "leader" => {
                // Time without a leader, from here.
                let old = args.next_pos().map(|not| node_arg(Some(not))).transpose()?;
                let found = self.world.until(10_000, |world| world.leader().is_some_and(|leader| Some(leader) != old));
                let fast = found.is_some_and(|ms| ms < 1_200);
                Ok(match self.world.leader() {
                    Some(leader) if found.is_some() => {
                        format!("{leader}{}\n", if fast { ", in less than 1.2 s" } else { ", late" })
                    }
                    _ => "none\n".to_owned(),
                })
            }
            "status" => Ok(self.status()),
            "isolate" => {
                self.world.isolate(node_arg(args.next_pos())?);
                Ok(String::new())
            }
            "heal" => {
                self.world.heal();
                Ok(String::new())
            }
            "delay" => {
                let delay_us = args.next_pos().ok_or("how long?")?.parse::<u64>()? * 1_000;
                self.world.set_network_delay(move || delay_us);
                Ok(String::new())
            }
            "duplicate" => {
                self.world.duplicate = true;
                Ok(String::new())
            }
            "hold" => {
                let node = node_arg(args.next_pos())?;
                let what = match args.next_pos() {
                    Some("persist") => Hold::Persist,
                    Some("apply") => Hold::Apply,
                    Some("flush") => Hold::Flush,
                    _ => return Err("hold what?".into()),
                };
                self.world.host(node).held.insert(what);
                Ok(String::new())
            }
            "release" => {
                self.world.host(node_arg(args.next_pos())?).held.clear();
                Ok(String::new())
            }
            "crash" => {
                let mut keep = |key| args.take_key(key).map_or(Ok(0), str::parse);
                let (log, state) = (keep("log")?, keep("state")?);
                self.world.crash(node_arg(args.next_pos())?, log, state);
                Ok(String::new())
            }
            "wipe" => {
                // The disks are gone; the node comes back as if it were new.
                let node = node_arg(args.next_pos())?;
                self.world.crash(node, 0, 0);
                self.world.start(node, Start::Join);
                Ok(String::new())
            }
            "restart" => {
                self.world.restart(node_arg(args.next_pos())?)?;
                Ok(String::new())
            }
            "transfer" => {
                let node = node_arg(args.next_pos())?;
                let to = args.next_pos().map(|to| node_arg(Some(to))).transpose()?;
                let request = self.world.ask(node, |request| Input::TransferLeadership { request, group: GROUP, to });
                Ok(format!("{}\n", describe(self.world.wait(request))))
            }
            "collect" => {
                let node = node_arg(args.next_pos())?;
                let safe_point = self.world.begin(node)?;
                let request = self.world.ask(node, |request| Input::Collect { request, group: GROUP, safe_point });
                let reply = describe(self.world.wait(request));
                self.world.advance(500);
                let pairs = self.world.fingerprint(node).map_or(0, |print| print.pairs);
                Ok(format!("{reply}, {pairs} versions and outcomes\n"))
            }
            "notices" => {
                let word = args.next_pos().unwrap_or_default();
                let notices = std::mem::take(&mut self.world.notices);
                Ok(notices.iter().filter(|notice| notice.contains(word)).map(|notice| format!("{notice}\n")).collect())
            }
            other => Err(format!("no verb {other}").into()),
        }
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Answer {
        match &context.prefix {
            Some(name) => self.within(name, command),
            None => self.command(command),
        }
    }
}

fn node_arg(arg: Option<&str>) -> Result<NodeId, Box<dyn Error>> {
    let text = arg.and_then(|arg| arg.strip_prefix('n')).ok_or("a node like n1 is missing")?;
    Ok(NodeId(text.parse()?))
}

fn positional(arg: &Argument) -> Result<String, Box<dyn Error>> {
    match arg {
        Argument::Positional(text) => Ok(text.clone()),
        _ => Err("a key is expected".into()),
    }
}

fn show(key: &str, transaction: &Transaction) -> Answer {
    let value = transaction.get(key.as_bytes())?;
    Ok(format!("{key} = {}\n", value.map_or("nothing".to_owned(), |value| value.escape_ascii().to_string())))
}

fn put_all(transaction: &mut Transaction, command: &Command) -> Result<(), Box<dyn Error>> {
    for arg in &command.args {
        let Argument::KeyValue(key, value) = arg else { continue };
        // `k@20=v` writes k0 to k19.
        match key.split_once('@') {
            Some((stem, count)) => {
                for number in 0..count.parse::<u32>()? {
                    transaction.put(format!("{stem}{number}").into_bytes(), value.clone().into_bytes())?;
                }
            }
            None => transaction.put(key.clone().into_bytes(), value.clone().into_bytes())?,
        }
    }
    Ok(())
}

/// `scan [from=] [to=] [limit=] [backward=true]`
fn scan(transaction: &Transaction, command: &Command) -> Answer {
    let mut args = command.consume_args();
    let from = args.take_key("from").unwrap_or("");
    let to = args.take_key("to").unwrap_or("\u{10ffff}");
    let limit: usize = args.take_key("limit").map_or(Ok(usize::MAX), str::parse)?;
    let backward = args.take_key("backward") == Some("true");
    let direction = if backward { Direction::Backward } else { Direction::Forward };
    let mut output = String::new();
    for pair in transaction.scan(from.as_bytes(), to.as_bytes(), direction).take(limit) {
        let (key, value) = pair?;
        let _ = writeln!(output, "{} = {}", key.escape_ascii(), value.escape_ascii());
    }
    Ok(if output.is_empty() { "nothing\n".to_owned() } else { output })
}

#[test]
fn a_reply_prints_in_one_line() {
    assert_eq!(describe(Some(Reply::Conflict { key: b"a".to_vec() })), "conflict at \"a\"");
    assert_eq!(describe(None), "no answer");
}
