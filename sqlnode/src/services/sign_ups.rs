//! How many accounts an address may make.
//!
//! Each address has a bucket: so many at once, then as many an hour, evenly. Buckets stand in this node's memory: what they
//! guard, the time and the room that accounts cost, needs no exact count over all nodes, and an attacker should not cause
//! a write. A bucket that is full again is forgotten; if there are more addresses than are told apart, the rest share one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::throttle::network;
use crate::database::{Refusal, RefusalKind};

const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// Addresses that are told apart.
const ADDRESSES_MAX: usize = 16_384;

/// The buckets of one node.
pub struct SignUps {
    /// What one account takes to be refilled.
    interval_us: i64,
    at_once: i64,
    /// When each address's bucket will be full again. `None` stands for addresses that are not known, or not told apart.
    full_at_us: Mutex<HashMap<Option<IpAddr>, i64>>,
}

impl SignUps {
    /// Full buckets for so many accounts an hour, at least one.
    pub fn new(per_hour: u32) -> Self {
        let at_once = i64::from(per_hour.max(1));
        Self { interval_us: HOUR_US / at_once, at_once, full_at_us: Mutex::default() }
    }

    /// Takes one account out of an address's bucket, or says when there will be one.
    pub fn take(&self, now_us: i64, address: Option<IpAddr>) -> Result<(), Refusal> {
        let mut full_at_us = self.full_at_us.lock();
        let mut address = address.map(network);
        if !full_at_us.contains_key(&address) && full_at_us.len() >= ADDRESSES_MAX {
            full_at_us.retain(|_, full| *full > now_us);
            if full_at_us.len() >= ADDRESSES_MAX {
                address = None;
            }
        }
        let empty_us = now_us.saturating_add(self.interval_us * self.at_once);
        // Should the clock have gone back, a bucket is empty at worst.
        let full = full_at_us.get(&address).map_or(now_us, |full| (*full).clamp(now_us, empty_us));
        let next = full.saturating_add(self.interval_us);
        if next > empty_us {
            let wait = Duration::from_micros((next - empty_us).unsigned_abs());
            let text = format!(
                "Many accounts were made from your address, so the next one has to wait. Try again in {} min, or through \
                 another node. An account that exists can be logged in to at any time.",
                wait.as_secs().div_ceil(60).max(1)
            );
            return Err(Refusal::for_now(RefusalKind::Exhausted, text, wait));
        }
        full_at_us.insert(address, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(number.into()))
    }

    #[test]
    fn an_address_makes_so_many_at_once_and_then_as_many_an_hour() {
        let sign_ups = SignUps::new(4);
        let mut now_us = 1_000 * HOUR_US;
        for _ in 0..4 {
            sign_ups.take(now_us, address(1)).unwrap();
        }
        let refusal = sign_ups.take(now_us, address(1)).unwrap_err();
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(15 * 60)));
        assert!(refusal.text.contains("15 min"), "{refusal}");
        sign_ups.take(now_us, address(2)).unwrap();
        now_us += HOUR_US / 4;
        sign_ups.take(now_us, address(1)).unwrap();
        sign_ups.take(now_us, address(1)).unwrap_err();
        // An hour back: as long as it takes to refill, and no longer.
        let refusal = sign_ups.take(now_us - HOUR_US, address(1)).unwrap_err();
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(15 * 60)));
    }

    #[test]
    fn more_addresses_than_are_told_apart_share_one_bucket() {
        let sign_ups = SignUps::new(1);
        for number in 0..ADDRESSES_MAX as u32 {
            sign_ups.take(0, address(number)).unwrap();
        }
        sign_ups.take(0, address(u32::MAX)).unwrap();
        sign_ups.take(0, address(u32::MAX - 1)).unwrap_err();
        assert_eq!(sign_ups.full_at_us.lock().len(), ADDRESSES_MAX + 1);
        sign_ups.take(HOUR_US, address(u32::MAX)).unwrap();
        assert_eq!(sign_ups.full_at_us.lock().len(), 1, "full buckets are forgotten");
    }
}
