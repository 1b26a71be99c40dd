//! Slowing down those who guess.
//!
//! A try is counted *before* the password is looked at, in the same transaction that asks whether trying is allowed, so a
//! hundred guesses sent at once are counted like a hundred sent one by one, on whichever nodes. A right password takes
//! its own try back. Counters stand in a table: any node enforces, and a restart forgets nothing.
//!
//! Subjects: the account's name, and the address that asks. A device that the account knows, and that has proved its key,
//! has a counter of its own instead of both: who guesses can't lock its owner out, not even from the same address, which
//! whole households and offices share.

use std::net::IpAddr;
use std::time::Duration;

use rockpool_proto::DeviceId;
use rockpool_sql::Value;

use crate::database::{DbError, Refusal, RefusalKind, Tx, time};

/// A subject's failures are forgotten after this long without another.
const FORGET_US: i64 = 60 * 60 * 1_000_000;
/// Rows of subjects that were quiet for so long are swept away.
const SWEEP_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Rows swept away for each new one.
const SWEEP_ROWS_MAX: i64 = 4;
/// The first delay; each further failure doubles it.
const DELAY_FIRST_US: i64 = 1_000_000;

/// What counts as one address: one household or attacker gets a whole /64 of IPv6. A listener on `[::]` sees addresses of
/// IPv4 as IPv6, and they all look alike in their first half.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

/// Who tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Somebody who wants to be this account, from a device that it does not know.
    Account(String),
    /// A device that the account knows.
    Device(DeviceId),
    /// An address from which people log in.
    Address(Option<IpAddr>),
}

impl Subject {
    fn key(&self) -> String {
        match self {
            Self::Account(login_key) => format!("account:{login_key}"),
            Self::Device(device) => format!("device:{device}"),
            Self::Address(Some(address)) => match network(*address) {
                IpAddr::V6(network) => format!("address:{network}/64"),
                IpAddr::V4(address) => format!("address:{address}"),
            },
            Self::Address(None) => "address:unknown".to_owned(),
        }
    }

    /// Failures that cost nothing: people mistype, and many may share one address.
    fn free_failures(&self) -> i64 {
        match self {
            Self::Account(_) | Self::Device(_) => 4,
            Self::Address(_) => 20,
        }
    }

    fn delay_max_us(&self) -> i64 {
        match self {
            Self::Account(_) | Self::Device(_) => 60 * 1_000_000,
            Self::Address(_) => 5 * 60 * 1_000_000,
        }
    }

    /// How long the next try has to wait after that many failures.
    fn delay_us(&self, failures: i64) -> i64 {
        let beyond = failures - self.free_failures();
        if beyond <= 0 {
            return 0;
        }
        let doublings = u32::try_from(beyond - 1).unwrap_or(u32::MAX).min(20);
        (DELAY_FIRST_US << doublings).min(self.delay_max_us())
    }
}

/// Counts a try of each subject, or refuses because one of them has to wait.
pub fn begin_try(tx: &mut Tx<'_>, subjects: &[Subject]) -> Result<(), DbError> {
    let now_us = tx.now_us();
    for subject in subjects {
        let key = Value::text(subject.key());
        let row = tx.query_opt(
            "SELECT failures, last_failure_at, blocked_until FROM meta.login_attempts WHERE subject = $1",
            std::slice::from_ref(&key),
        )?;
        let mut failures = 0;
        if let Some(row) = &row {
            let wait_us = row.time_us(2)?.saturating_sub(now_us);
            if wait_us > 0 {
                let wait_us = wait_us.min(subject.delay_max_us());
                return Err(slow_down(Duration::from_micros(wait_us.unsigned_abs())).into());
            }
            if row.time_us(1)?.saturating_add(FORGET_US) > now_us {
                failures = row.int(0)?;
            }
        }
        failures = (failures + 1).min(i64::from(i32::MAX));
        let blocked_until = time(now_us.saturating_add(subject.delay_us(failures)));
        let failures = Value::Int4(i32::try_from(failures).unwrap_or(i32::MAX));
        let params = [key, failures, time(now_us), blocked_until];
        let sql = if row.is_some() {
            "UPDATE meta.login_attempts SET failures = $2, last_failure_at = $3, blocked_until = $4 WHERE subject = $1"
        } else {
            "INSERT INTO meta.login_attempts (subject, failures, last_failure_at, blocked_until) VALUES ($1, $2, $3, $4)"
        };
        tx.execute(sql, &params)?;
        if row.is_none() {
            // Who fails for ever, under invented names, makes room for the rows that this leaves.
            sweep(tx)?;
        }
    }
    Ok(())
}

/// Takes a try back, because the password was right: all of them for the account or device, one for the address, or
/// somebody with an account of their own could guess at others for ever.
pub fn forgive(tx: &mut Tx<'_>, subjects: &[Subject]) -> Result<(), DbError> {
    for subject in subjects {
        let key = [Value::text(subject.key())];
        match subject {
            Subject::Account(_) | Subject::Device(_) => {
                tx.execute("DELETE FROM meta.login_attempts WHERE subject = $1", &key)?;
            }
            Subject::Address(_) => {
                tx.execute(
                    "UPDATE meta.login_attempts SET failures = failures - 1, blocked_until = last_failure_at \
                     WHERE subject = $1 AND failures > 0",
                    &key,
                )?;
            }
        }
    }
    Ok(())
}

/// Forgets some subjects that have been quiet for long, so that invented names don't fill the table.
fn sweep(tx: &mut Tx<'_>) -> Result<(), DbError> {
    let before = time(tx.now_us().saturating_sub(SWEEP_US));
    let stale = tx.query(
        "SELECT subject FROM meta.login_attempts WHERE last_failure_at < $1 ORDER BY last_failure_at LIMIT $2",
        &[before, Value::Int8(SWEEP_ROWS_MAX)],
    )?;
    for row in stale {
        tx.execute("DELETE FROM meta.login_attempts WHERE subject = $1", &[row.value(0)?.clone()])?;
    }
    Ok(())
}

fn slow_down(wait: Duration) -> Refusal {
    let seconds = wait.as_secs_f64().ceil();
    let text = format!(
        "There were too many wrong passwords, so the next try has to wait. Try again in {seconds} s; \
         a device that logged in before is not slowed by others' guesses."
    );
    Refusal::for_now(RefusalKind::Exhausted, text, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_the_first_failure_that_counts_to_a_bound() {
        let account = Subject::Account("ann".into());
        let delays: Vec<i64> = [1, 4, 5, 6, 7, 10, 11, 1_000].map(|n| account.delay_us(n) / 1_000_000).into();
        assert_eq!(delays, [0, 0, 1, 2, 4, 32, 60, 60]);
        assert_eq!(Subject::Address(None).delay_us(20), 0);
        assert_eq!(Subject::Address(None).delay_us(i64::from(i32::MAX)), 300_000_000);
    }

    #[test]
    fn a_whole_network_prefix_is_one_subject() {
        let subject = |text: &str| Subject::Address(Some(text.parse().unwrap())).key();
        assert_eq!(subject("2001:db8:1:2:3::9"), subject("2001:db8:1:2:ffff::1"));
        assert_ne!(subject("10.0.0.1"), subject("10.0.0.2"));
        assert_eq!(subject("::ffff:10.0.0.1"), subject("10.0.0.1"), "as a listener on [::] sees it");
    }
}
