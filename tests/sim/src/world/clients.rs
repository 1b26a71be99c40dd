//! Clients in the world: they begin, read, write and commit at whatever node runs, lose their node, and hear late.

use super::*;

impl World {
    pub(super) fn running_node(&mut self, client: usize) -> Option<NodeId> {
        let running: Vec<NodeId> =
            self.hosts.values().filter(|host| host.machine.is_some()).map(|host| host.id).collect();
        self.clients[client].draw.pick(&running).copied()
    }

    pub(super) fn client_acts(&mut self, client: usize, step: u64) -> Result<(), Failure> {
        if self.clients[client].step != step {
            return Ok(());
        }
        let Some(node) = self.running_node(client) else {
            self.after(100_000, Happening::Client { client, step });
            return Ok(());
        };
        let group = self.plan.group();
        let request = self.requests.next();
        let (keys, accounts, now) = (self.plan.keys, self.plan.accounts, self.now);
        let it = &mut self.clients[client];
        let input = match std::mem::replace(&mut it.phase, Phase::Idle) {
            Phase::Idle if self.healed => return Ok(()),
            Phase::Idle => {
                let value = it.fresh_value();
                let first = it.id == 1 && value == 1_000_001;
                let again = it.again.then(|| it.last.take()).flatten();
                it.again = false;
                let work = match again {
                    Some(work) => work,
                    None if first => Work::Open { accounts },
                    None => Work::draw(&mut it.draw, keys, accounts, value),
                };
                it.last = Some(work.clone());
                if self.plan.mutant == Some(Mutant::StaleReads)
                    && let Some(status) = self.hosts.get(&node).and_then(|host| host.status(&self.plan))
                    && status.initialized
                {
                    it.step += 1;
                    return self.client_works(client, node, work, now, status.last_commit);
                }
                it.phase = Phase::Beginning { request, node, work, invoked: now };
                Input::Begin { request, group }
            }
            Phase::Unsettled { request: None, event } => {
                let (txn, read_timestamp) = (event.txn, event.read_timestamp);
                it.phase = Phase::Unsettled { request: Some((request, node)), event };
                self.trace.mark(mark::FATE_ASKED);
                Input::QueryOutcome { request, group, txn, read_timestamp }
            }
            busy => {
                it.phase = busy;
                return Ok(());
            }
        };
        it.step += 1;
        let step = it.step;
        self.askers.insert(request, Asker::Client(client));
        self.after(PATIENCE_US, Happening::Impatience { client, step });
        self.input(node, None, input)
    }

    pub(super) fn client_loses(&mut self, client: usize, node: NodeId) {
        if let Some((request, _)) = self.clients[client].waits_for() {
            if self.clients[client].lose_node(node) {
                self.askers.remove(&request);
                self.take_for_a_failure(client);
            }
            self.client_rests(client, 100_000);
        }
    }

    /// Lets a client act again after a while.
    pub(super) fn client_rests(&mut self, client: usize, at_most_us: u64) {
        let rest = if self.history.len() > TRANSACTIONS_AT_FULL_SPEED { REST_US } else { 0 };
        let it = &mut self.clients[client];
        let (step, pause) = (it.step, rest + it.draw.below(at_most_us));
        self.after(pause, Happening::Client { client, step });
    }

    pub(super) fn client_hears(
        &mut self,
        client: usize,
        node: NodeId,
        request: RequestId,
        reply: Reply,
    ) -> Result<(), Failure> {
        let think = self.plan.think_us;
        let it = &mut self.clients[client];
        if it.waits_for() != Some((request, node)) {
            return Ok(());
        }
        it.step += 1;
        let asked = matches!(it.phase, Phase::Unsettled { .. });
        match std::mem::replace(&mut it.phase, Phase::Idle) {
            Phase::Idle => {}
            Phase::Beginning { work, invoked, .. } => {
                if let Reply::Begun { read_timestamp } = reply {
                    return self.client_works(client, node, work, invoked, read_timestamp);
                }
            }
            Phase::Committing { event, .. } | Phase::Unsettled { event, .. } => match reply {
                Reply::Committed { timestamp } => {
                    if asked {
                        self.trace.mark(mark::FATE_COMMITTED);
                    }
                    self.settle(event, Fate::Committed(timestamp));
                }
                Reply::Conflict { .. } => {
                    self.trace.mark(mark::CONFLICT);
                    self.settle(event, Fate::Aborted);
                }
                Reply::Retry(_) | Reply::Aborted => {
                    self.trace.mark(if asked { mark::FATE_ABORTED } else { mark::RETRIED });
                    self.settle(event, Fate::Aborted);
                }
                _ => {
                    self.clients[client].phase = Phase::Unsettled { request: None, event };
                    self.take_for_a_failure(client);
                }
            },
        }
        let pause = if reply_is_trouble(&self.clients[client].phase) { 200_000 } else { think };
        self.client_rests(client, pause);
        Ok(())
    }

    /// The transaction's own code: reads and writes over a view, then off to commit.
    pub(super) fn client_works(
        &mut self,
        client: usize,
        node: NodeId,
        work: Work,
        invoked: Time,
        read_timestamp: Timestamp,
    ) -> Result<(), Failure> {
        let group = self.plan.group();
        let Some(host) = self.hosts.get(&node) else { return Ok(()) };
        let view = host.state.view().map_err(|error| error.to_string())?;
        let mut transaction = match Transaction::new(view, group, read_timestamp) {
            Ok(transaction) => transaction,
            Err(TransactionError::TooOld) => {
                self.trace.mark(mark::TOO_OLD);
                self.client_rests(client, self.plan.think_us);
                return Ok(());
            }
            Err(error) => return Err(format!("client {} can't begin at {node}: {error}", client + 1)),
        };
        let seen = match work.run(&mut transaction) {
            Ok(Ok(seen)) => seen,
            Ok(Err(wrong)) => {
                return Err(format!("client {} at {node}, reading at {read_timestamp}: {wrong}", client + 1));
            }
            Err(error) => return Err(format!("client {}'s {} failed: {error}", client + 1, work.name())),
        };
        let life = host.life;
        let it = &mut self.clients[client];
        // A begin that took long may answer a timestamp from before the safe point. What is read there is true as long as it
        // is there, but the outcome of a commit might be forgotten before it is asked for: production waits half a minute.
        let only_reads = transaction.is_read_only() || read_timestamp < self.safe_point;
        let txn = if only_reads { TxnId([0xff; 16]) } else { it.fresh_txn() };
        let event = Event {
            client: it.id,
            what: work.name(),
            txn,
            read_timestamp,
            invoked,
            returned: None,
            reads: seen.reads,
            writes: if only_reads { Vec::new() } else { seen.writes },
            fate: Fate::Unknown,
        };
        if only_reads {
            it.step += 1;
            self.settle(event, Fate::Read(read_timestamp));
            self.client_rests(client, self.plan.think_us);
            return Ok(());
        }
        let request = self.requests.next();
        let commit = transaction.into_commit(txn);
        it.step += 1;
        it.phase = Phase::Committing { request, node, event };
        let (step, took) = (it.step, it.draw.between(1, self.plan.work_us));
        self.askers.insert(request, Asker::Client(client));
        self.after(took + PATIENCE_US, Happening::Impatience { client, step });
        self.after(took, Happening::Request { node, life, input: Input::Commit { request, commit } });
        Ok(())
    }

    pub(super) fn settle(&mut self, event: Event, fate: Fate) {
        let event = Event { returned: Some(self.now), fate, ..event };
        self.trace.line(self.now, format_args!("c{}", event.client), format_args!("{event}"));
        self.history.push(event);
    }

    /// What a client must not do when it does not know a transaction's fate: a mutant.
    pub(super) fn take_for_a_failure(&mut self, client: usize) {
        if self.plan.mutant != Some(Mutant::RetryBlindly) {
            return;
        }
        let it = &mut self.clients[client];
        match std::mem::replace(&mut it.phase, Phase::Idle) {
            Phase::Unsettled { event, .. } => {
                it.again = true;
                self.settle(event, Fate::Aborted);
            }
            other => it.phase = other,
        }
    }
}

/// Whether a client should wait a little longer before it goes on.
fn reply_is_trouble(phase: &Phase) -> bool {
    matches!(phase, Phase::Unsettled { .. })
}
