//! What transactions do: money between accounts, registers, and the pairs of reads and writes that skew a weak check.
//!
//! ```text
//!   account/NN   an amount; all of them together never change      transfer, audit
//!   key/NN       a value that names its writer                     set, get, append, swap, skew, list, remove
//! ```

use crate::history::Read;
use crate::rng::Stream;
use rockpool_engine::kv::{Direction, Pair};
use rockpool_engine::{Transaction, TransactionError};

/// What each account begins with.
const OPENING_AMOUNT: i64 = 100;

/// A kind of transaction, with its draws already made, so that running it again does the same.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Opens all accounts.
    Open { accounts: u64 },
    /// Moves an amount from one account to another.
    Transfer { from: u64, to: u64, amount: i64 },
    /// Adds all accounts up.
    Audit { accounts: u64 },
    /// Writes a key without looking.
    Set { key: u64, value: u64 },
    /// Reads a key.
    Get { key: u64 },
    /// Reads a key and writes it with something added.
    Append { key: u64, value: u64 },
    /// Exchanges two keys.
    Swap { one: u64, other: u64 },
    /// Reads two keys and writes the first: two of these cross over commit only under a check that is too weak.
    Skew { one: u64, other: u64, value: u64 },
    /// Reads all keys in a range, writes one outside of it.
    ListAndSet { key: u64, value: u64 },
    /// Removes a key.
    Remove { key: u64 },
}

/// What a transaction saw and wrote.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Work {
    /// The next thing that a client does. `value` is used once in a run.
    pub(crate) fn draw(draw: &mut Stream, keys: u64, accounts: u64, value: u64) -> Work {
        let (one, other) = (draw.below(keys), draw.below(keys));
        match draw.below(20) {
            0..=4 => {
                let amount = draw.between(1, 20) as i64;
                Work::Transfer { from: draw.below(accounts), to: draw.below(accounts), amount }
            }
            5 | 6 => Work::Audit { accounts },
            7 => Work::Set { key: one, value },
            8..=10 => Work::Get { key: one },
            11 | 12 => Work::Append { key: one, value },
            13 => Work::Swap { one, other },
            14..=16 => Work::Skew { one, other, value },
            17 | 18 => Work::ListAndSet { key: one, value },
            _ => Work::Remove { key: one },
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Work::Open { .. } => "open",
            Work::Transfer { .. } => "transfer",
            Work::Audit { .. } => "audit",
            Work::Set { .. } => "set",
            Work::Get { .. } => "get",
            Work::Append { .. } => "append",
            Work::Swap { .. } => "swap",
            Work::Skew { .. } => "skew",
            Work::ListAndSet { .. } => "list and set",
            Work::Remove { .. } => "remove",
        }
    }

    /// Runs it. The accounts' total is checked on the spot: an audit sees a consistent picture or the store is wrong.
    pub(crate) fn run(&self, transaction: &mut Transaction) -> Result<Result<Seen, String>, TransactionError> {
        let mut seen = Seen::default();
        let t = transaction;
        match self {
            Work::Open { accounts } => {
                for number in 0..*accounts {
                    put(t, &mut seen, account(number), amount_text(OPENING_AMOUNT))?;
                }
            }
            Work::Transfer { from, to, amount } => {
                let has = amount_of(get(t, &mut seen, account(*from))?);
                let had = amount_of(get(t, &mut seen, account(*to))?);
                if let (Some(has), Some(had)) = (has, had)
                    && from != to
                    && has >= *amount
                {
                    put(t, &mut seen, account(*from), amount_text(has - amount))?;
                    put(t, &mut seen, account(*to), amount_text(had + amount))?;
                }
            }
            Work::Audit { accounts } => {
                let all = scan(t, &mut seen, b"account/", b"account0")?;
                let total: i64 = all.iter().filter_map(|(_, value)| amount_of(Some(value.clone()))).sum();
                let wanted = OPENING_AMOUNT * *accounts as i64;
                if !all.is_empty() && total != wanted {
                    return Ok(Err(format!("{} accounts hold {total} together, which should be {wanted}", all.len())));
                }
            }
            Work::Set { key, value } => put(t, &mut seen, name(*key), text(*value))?,
            Work::Get { key } => {
                get(t, &mut seen, name(*key))?;
            }
            Work::Append { key, value } => {
                let mut old = get(t, &mut seen, name(*key))?.unwrap_or_default();
                old.truncate(64);
                old.extend_from_slice(b",");
                old.extend_from_slice(&text(*value));
                put(t, &mut seen, name(*key), old)?;
            }
            Work::Swap { one, other } => {
                let a = get(t, &mut seen, name(*one))?;
                let b = get(t, &mut seen, name(*other))?;
                if one != other {
                    write(t, &mut seen, name(*one), b)?;
                    write(t, &mut seen, name(*other), a)?;
                }
            }
            Work::Skew { one, other, value } => {
                get(t, &mut seen, name(*one))?;
                get(t, &mut seen, name(*other))?;
                put(t, &mut seen, name(*one), text(*value))?;
            }
            Work::ListAndSet { key, value } => {
                scan(t, &mut seen, b"key/", b"key/05")?;
                put(t, &mut seen, name(key + 5), text(*value))?;
            }
            Work::Remove { key } => write(t, &mut seen, name(*key), None)?,
        }
        Ok(Ok(seen))
    }
}

fn account(number: u64) -> Vec<u8> {
    format!("account/{number:02}").into_bytes()
}

fn name(number: u64) -> Vec<u8> {
    format!("key/{number:02}").into_bytes()
}

fn text(value: u64) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn amount_text(amount: i64) -> Vec<u8> {
    amount.to_string().into_bytes()
}

fn amount_of(value: Option<Vec<u8>>) -> Option<i64> {
    std::str::from_utf8(&value?).ok()?.parse().ok()
}

fn get(t: &Transaction, seen: &mut Seen, key: Vec<u8>) -> Result<Option<Vec<u8>>, TransactionError> {
    let value = t.get(&key)?;
    seen.reads.push(Read::Key(key, value.clone()));
    Ok(value)
}

fn scan(t: &Transaction, seen: &mut Seen, start: &[u8], end: &[u8]) -> Result<Vec<Pair>, TransactionError> {
    let all = t.scan(start, end, Direction::Forward).collect::<Result<Vec<_>, _>>()?;
    seen.reads.push(Read::Span(start.to_vec(), end.to_vec(), all.clone()));
    Ok(all)
}

fn put(t: &mut Transaction, seen: &mut Seen, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransactionError> {
    write(t, seen, key, Some(value))
}

fn write(t: &mut Transaction, seen: &mut Seen, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), TransactionError> {
    match &value {
        Some(value) => t.put(key.clone(), value.clone())?,
        None => t.delete(key.clone())?,
    }
    seen.writes.push((key, value));
    Ok(())
}
