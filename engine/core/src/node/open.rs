//! Opening a group on what a stop or a crash has left.
//!
//! State and log become durable apart from each other, so they need not fit at start:
//!
//! ```text
//!   state    log                  what happened                              what is done
//!   none     nothing              a new node                                 bootstrap, join, or refuse
//!   none     a vote, no entry     joining, no snapshot yet                   go on joining
//!   none     entries              the state was lost                         stop
//!   @i       holds i              ordinary                                   replay after i
//!   @i       ends before i, or    a snapshot was made durable, the           the log is reset to i
//!            has another term     log's reset was not
//!   @i       begins after i       state was lost, or the log was cut         stop
//!                                 too far
//! ```

use super::group::Group;
use crate::codec::{StateKeys, StateMeta, meta_key};
use crate::config::{Config, Start};
use crate::error::Fatal;
use crate::kv::{HardState, LogBatch, LogImage, StateStore, WriteBatch};
use crate::raft::{LogStart, Replica};
use crate::state::{clear_others, put_meta};
use rockpool_proto::GroupId;
use std::sync::Arc;

/// Opens one group.
pub(super) fn open_group(
    config: &Config,
    group: GroupId,
    store: &Arc<dyn StateStore>,
    log: Option<&LogImage>,
) -> Result<Group, Fatal> {
    let empty = LogImage { group, hard_state: HardState::default(), truncated_to: (0, 0), entries: Vec::new() };
    let log = log.unwrap_or(&empty);
    let meta = match StateMeta::read(&*store.view()?, group)? {
        Some(meta) => Some(meta),
        None => first_state(config, group, &**store, log)?,
    };
    let (start, reset) = match &meta {
        Some(meta) => fit(group, log, meta)?,
        None => {
            let start = LogStart {
                hard_state: log.hard_state,
                truncated_to: (0, 0),
                entries: Vec::new(),
                membership: Default::default(),
            };
            (start, None)
        }
    };
    let keys = StateKeys { group, generation: meta.as_ref().map_or(0, |meta| meta.generation) };
    store.write(&clear_others(keys))?;
    let flushed = store.get_durable(&meta_key(group))?;
    let flushed = flushed.map(|value| StateMeta::from_value(group, &value)).transpose()?;
    let flushed = flushed.map_or(0, |meta| meta.applied_index);
    let applied = meta.as_ref().map_or(0, |meta| meta.applied_index);
    let replica = Replica::open(config, group, start, applied, Arc::clone(store))?;
    Ok(Group::new(config, group, Arc::clone(store), replica, meta, flushed, reset))
}

/// The state of a group that has none: made here, or to come.
fn first_state(
    config: &Config,
    group: GroupId,
    store: &dyn StateStore,
    log: &LogImage,
) -> Result<Option<StateMeta>, Fatal> {
    if log.truncated_to.0 > 0 || !log.entries.is_empty() {
        let what = "the log goes on from a state that is not there: the state store was lost or replaced".to_owned();
        return Err(Fatal::Log { group, what });
    }
    match config.start {
        Start::Join => Ok(None),
        Start::Existing => Err(Fatal::Start {
            what: format!(
                "{group} should have state here, but the store is empty; a node that lost its disk has to join \
                           again under a new id"
            ),
        }),
        Start::Bootstrap if log.hard_state != HardState::default() => {
            Err(Fatal::Start { what: format!("{group} has voted in elections already and can't be created again") })
        }
        Start::Bootstrap => {
            let meta = StateMeta::bootstrap(config.node);
            let mut batch = WriteBatch::new();
            put_meta(&mut batch, group, &meta);
            store.write(&batch)?;
            store.flush()?;
            Ok(Some(meta))
        }
    }
}

/// Makes the log go on from the state; also the batch that makes the stored log do so.
fn fit(group: GroupId, log: &LogImage, meta: &StateMeta) -> Result<(LogStart, Option<LogBatch>), Fatal> {
    let (applied, term) = (meta.applied_index, meta.applied_term);
    let damaged = |what: String| Fatal::Log { group, what };
    let (cut, cut_term) = log.truncated_to;
    for (expected, entry) in (cut + 1..).zip(&log.entries) {
        if entry.index != expected {
            return Err(damaged(format!("entry {} stands where {expected} was expected", entry.index)));
        }
    }
    if applied < cut {
        return Err(damaged(format!(
            "the state holds entries up to {applied}, but the log begins after {cut}: the state store lost what it had \
             flushed"
        )));
    }
    let last = cut + log.entries.len() as u64;
    let held = match applied - cut {
        0 => Some(cut_term),
        ahead => usize::try_from(ahead - 1).ok().and_then(|at| log.entries.get(at)).map(|entry| entry.term),
    };
    let fits = held == Some(term);
    let mut hard_state = log.hard_state;
    if hard_state.term < term {
        // The term came with a snapshot whose vote was never written: none was given in it.
        hard_state = HardState { term, vote: 0, ..hard_state };
    }
    let last = if fits { last } else { applied };
    if hard_state.commit > last {
        return Err(damaged(format!(
            "entries up to {} were committed, but the log ends at {last}: the disk lost acknowledged writes",
            hard_state.commit
        )));
    }
    hard_state.commit = hard_state.commit.max(applied);
    let membership = meta.membership.clone();
    if fits {
        let start = LogStart { hard_state, truncated_to: log.truncated_to, entries: log.entries.clone(), membership };
        return Ok((start, None));
    }
    let reset = LogBatch { hard_state: Some(hard_state), truncate_to: Some((applied, term)), ..LogBatch::new(group) };
    Ok((LogStart { hard_state, truncated_to: (applied, term), entries: Vec::new(), membership }, Some(reset)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{EntryKind, LogEntry, MemoryState};
    use rockpool_proto::NodeId;

    const GROUP: GroupId = GroupId(1);

    fn log(cut: (u64, u64), terms: &[u64], hard: (u64, u64)) -> LogImage {
        let entry = |(index, &term): (u64, &u64)| LogEntry {
            index,
            term,
            kind: EntryKind::Normal,
            data: Default::default(),
            context: Default::default(),
        };
        LogImage {
            group: GROUP,
            hard_state: HardState { term: hard.0, vote: 1, commit: hard.1 },
            truncated_to: cut,
            entries: (cut.0 + 1..).zip(terms).map(entry).collect(),
        }
    }

    fn state(index: u64, term: u64) -> StateMeta {
        StateMeta { applied_index: index, applied_term: term, ..StateMeta::bootstrap(NodeId(1)) }
    }

    /// What is made of a log and a state: where the log begins and ends, its term and commit index, whether it is reset.
    fn check(log: &LogImage, meta: &StateMeta) -> Result<(u64, u64, u64, u64, bool), Fatal> {
        let (start, reset) = fit(GROUP, log, meta)?;
        let last = start.truncated_to.0 + start.entries.len() as u64;
        Ok((start.truncated_to.0, last, start.hard_state.term, start.hard_state.commit, reset.is_some()))
    }

    #[test]
    fn a_log_is_fitted_to_the_state() {
        let held = log((3, 1), &[1, 1, 2], (2, 4));
        assert_eq!(check(&held, &state(4, 1)), Ok((3, 6, 2, 4, false)), "ordinary");
        assert_eq!(
            check(&held, &state(5, 1)),
            Ok((3, 6, 2, 5, false)),
            "applied is committed, whatever was written down"
        );
        assert_eq!(check(&held, &state(3, 1)), Ok((3, 6, 2, 4, false)), "at the cut");
        assert_eq!(check(&held, &state(9, 2)), Ok((9, 9, 2, 9, true)), "a snapshot ahead of the log");
        assert_eq!(check(&held, &state(6, 4)), Ok((6, 6, 4, 6, true)), "a snapshot of another term");
        assert_eq!(check(&held, &state(9, 5)), Ok((9, 9, 5, 9, true)), "a term that was never written down");
        check(&held, &state(2, 1)).unwrap_err();
        check(&log((3, 1), &[1], (1, 8)), &state(4, 1)).unwrap_err();
        let mut holed = held.clone();
        holed.entries.remove(1);
        check(&holed, &state(4, 1)).unwrap_err();
    }

    #[test]
    fn a_flag_left_on_does_no_harm_and_a_lost_state_is_noticed() {
        let open = |start: Start, store: &MemoryState, log: Option<&LogImage>| {
            let config = Config::new(NodeId(1), start, 1);
            let store: Arc<dyn StateStore> = Arc::new(store.clone());
            open_group(&config, GROUP, &store, log).map(|group| group.applied_index())
        };
        let store = MemoryState::new();
        assert!(open(Start::Existing, &store, None).is_err(), "nothing there");
        assert_eq!(open(Start::Join, &store, None).ok(), Some(0));
        assert!(open(Start::Bootstrap, &store, Some(&log((0, 0), &[], (3, 0)))).is_err(), "it has voted");
        assert_eq!(open(Start::Bootstrap, &store, None).ok(), Some(1));
        assert_eq!(open(Start::Bootstrap, &store, None).ok(), Some(1), "the flag was left on");
        assert_eq!(open(Start::Existing, &store, Some(&log((1, 1), &[2, 2], (2, 2)))).ok(), Some(1));
        let lost = MemoryState::new();
        for start in [Start::Bootstrap, Start::Join, Start::Existing] {
            assert!(open(start, &lost, Some(&log((1, 1), &[2, 2], (2, 2)))).is_err(), "a log without its state");
        }
    }
}
