//! Whether a history is strictly serializable.
//!
//! The engine names, for each transaction, the timestamp at which it took effect. That is a witness, and checking a witness
//! is easy where searching for one is not: replay all committed transactions in the order of their timestamps on a plain map;
//! each must have read exactly what the map holds at its place, and no transaction that ended before another began may come
//! after it. If both hold, the order is a legal serial one that respects real time, whatever the engine was thinking. If not,
//! the engine's own account of itself is false.
//!
//! Transactions that only read stand after the writer with their timestamp, and so do those that were aborted: a program has
//! seen what they read and may have acted on it. A transaction whose client never learned its fate
//! must have been settled before the check: the run asks for it in its second phase.

use crate::history::{Event, Fate, Read, option, pairs, text};
use rockpool_engine::{Time, Timestamp};
use std::collections::BTreeMap;

/// What a history violates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Keys and values at one moment.
pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Checks a history; the answer is the state that it ends with.
pub fn check(history: &[Event]) -> Result<State, Violation> {
    let mut order: Vec<(Timestamp, bool, &Event)> = Vec::new();
    for event in history {
        match event.fate {
            Fate::Committed(at) => order.push((at, false, event)),
            Fate::Read(at) => order.push((at, true, event)),
            // It has no effect, but it began, and what it was shown has to be true.
            Fate::Aborted => order.push((event.read_timestamp, true, event)),
            Fate::Unknown => return Err(Violation(format!("the fate of {} was never settled", describe(event)))),
        }
    }
    order.sort_by_key(|(at, reads_only, event)| (*at, *reads_only, event.invoked));
    let mut state = State::new();
    let mut last_write = None;
    for (at, reads_only, event) in &order {
        if !reads_only && last_write.replace(*at) == Some(*at) {
            return Err(Violation(format!("two transactions committed at {at}, one of them {}", describe(event))));
        }
        for read in &event.reads {
            check_read(&state, read).map_err(|what| Violation(format!("{} at {at}: {what}", describe(event))))?;
        }
        if *reads_only {
            continue;
        }
        for (key, value) in &event.writes {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
    }
    check_real_time(&order)?;
    Ok(state)
}

/// Walks backwards: whoever stands before something that returned earlier than it began is out of order.
fn check_real_time(order: &[(Timestamp, bool, &Event)]) -> Result<(), Violation> {
    let mut earliest: Option<(Time, &Event)> = None;
    for (at, _, event) in order.iter().rev() {
        if let Some((returned, later)) = earliest
            && returned < event.invoked
        {
            return Err(Violation(format!(
                "{} ended before {} began, but is ordered after it (at {at})",
                describe(later),
                describe(event)
            )));
        }
        if let Some(returned) = event.returned
            && earliest.is_none_or(|(time, _)| returned < time)
        {
            earliest = Some((returned, event));
        }
    }
    Ok(())
}

fn check_read(state: &State, read: &Read) -> Result<(), String> {
    match read {
        Read::Key(key, seen) => {
            let holds = state.get(key);
            if holds != seen.as_ref() {
                return Err(format!("read {} as {}, but it was {}", text(key), option(seen.as_ref()), option(holds)));
            }
        }
        Read::Span(start, end, seen) => {
            let holds: Vec<_> = state.range(start.clone()..end.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
            if &holds != seen {
                return Err(format!(
                    "scanned {}..{} as {}, but it was {}",
                    text(start),
                    text(end),
                    pairs(seen),
                    pairs(&holds)
                ));
            }
        }
    }
    Ok(())
}

fn describe(event: &Event) -> String {
    format!("client {}'s {} {}", event.client, event.what, event.txn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rockpool_engine::TxnId;

    fn event(number: u8, times: (u64, u64), fate: Fate, reads: &[(&str, &str)], writes: &[(&str, &str)]) -> Event {
        let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Event {
            client: 1,
            what: "test",
            txn: TxnId([number; 16]),
            read_timestamp: Timestamp(6),
            invoked: Time(times.0),
            returned: Some(Time(times.1)),
            reads: reads.iter().map(|(key, seen)| Read::Key(key.as_bytes().to_vec(), value(seen))).collect(),
            writes: writes.iter().map(|(key, new)| (key.as_bytes().to_vec(), value(new))).collect(),
            fate,
        }
    }

    fn at(timestamp: u64) -> Fate {
        Fate::Committed(Timestamp(timestamp))
    }

    #[test]
    fn a_serial_history_passes() {
        let history = [
            event(1, (0, 10), at(5), &[("x", "")], &[("x", "1")]),
            event(2, (20, 30), at(6), &[("x", "1")], &[("y", "2")]),
            event(3, (20, 30), Fate::Read(Timestamp(6)), &[("x", "1"), ("y", "2")], &[]),
            event(4, (20, 30), Fate::Aborted, &[("x", "1")], &[("x", "9")]),
        ];
        assert_eq!(check(&history).unwrap().len(), 2);
    }

    #[test]
    fn what_an_aborted_transaction_saw_counts() {
        let wrote = event(1, (0, 10), at(5), &[], &[("x", "1")]);
        let aborted = event(2, (20, 30), Fate::Aborted, &[("x", "9")], &[("x", "3")]);
        assert!(check(&[wrote.clone(), aborted]).unwrap_err().0.contains("read x as 9, but it was 1"));
        let stale = Event { read_timestamp: Timestamp(4), ..event(2, (20, 30), Fate::Aborted, &[("x", "")], &[]) };
        assert!(check(&[wrote, stale]).unwrap_err().0.contains("ended before"));
    }

    #[test]
    fn an_effect_that_nobody_was_told_of_is_convicted() {
        let history =
            [event(1, (0, 10), at(5), &[], &[("x", "1")]), event(2, (20, 30), at(8), &[("x", "2")], &[("x", "3")])];
        assert!(check(&history).unwrap_err().0.contains("read x as 2, but it was 1"));
    }

    #[test]
    fn write_skew_is_convicted() {
        let history = [
            event(1, (0, 10), at(5), &[("x", ""), ("y", "")], &[("x", "1")]),
            event(2, (0, 10), at(6), &[("x", ""), ("y", "")], &[("y", "1")]),
        ];
        assert!(check(&history).unwrap_err().0.contains("read x as nothing, but it was 1"));
    }

    #[test]
    fn stale_reads_are_convicted() {
        let history = [
            event(1, (0, 10), at(5), &[], &[("x", "1")]),
            event(2, (11, 20), at(6), &[], &[("x", "2")]),
            event(3, (21, 30), Fate::Read(Timestamp(5)), &[("x", "1")], &[]),
        ];
        assert!(check(&history).unwrap_err().0.contains("ended before"));
    }

    #[test]
    fn lost_and_phantom_writes_are_convicted() {
        let lost =
            [event(1, (0, 10), at(5), &[], &[("x", "1")]), event(2, (11, 20), at(6), &[("x", "")], &[("z", "1")])];
        assert!(check(&lost).is_err());
        let mut phantom = event(3, (0, 10), Fate::Read(Timestamp(9)), &[], &[]);
        phantom.reads = vec![Read::Span(b"a".to_vec(), b"z".to_vec(), vec![(b"b".to_vec(), b"1".to_vec())])];
        assert!(check(&[phantom]).unwrap_err().0.contains("scanned a..z as b=1"));
    }

    #[test]
    fn an_unsettled_fate_is_no_pass() {
        assert!(check(&[event(1, (0, 10), Fate::Unknown, &[], &[])]).is_err());
        let twice = [event(1, (0, 10), at(5), &[], &[("x", "1")]), event(2, (0, 10), at(5), &[], &[("y", "1")])];
        assert!(check(&twice).unwrap_err().0.contains("two transactions committed"));
    }
}
