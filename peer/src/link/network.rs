//! Notices that this device's addresses change: another network, a cable, a tunnel, waking up somewhere else.
//!
//! The addresses are compared every second, with the library's own list of them: whatever it would gather candidates
//! from. That costs less than a millisecond and works everywhere; what it loses is at most [`LOOK_EVERY`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often addresses are compared. SCTP repeats what was lost after 1, 3, 7 and 15 seconds: a path that is back before
/// the third is used at the seventh, and one that is late by a moment waits for the fifteenth.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The addresses of this device, watched.
pub struct Network {
    looks: Interval,
    seen: Seen,
}

impl Network {
    /// Begins with the addresses of now.
    #[allow(clippy::new_without_default)] // It starts a timer.
    pub fn new() -> Network {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Network { looks, seen: Seen { addresses: addresses().unwrap_or_default() } }
    }

    /// Waits until others can reach this device under other addresses than before.
    pub async fn changed(&mut self) {
        loop {
            self.looks.tick().await;
            // Addresses that cannot be listed are no change.
            if addresses().is_some_and(|now| self.seen.differs(now)) {
                return;
            }
        }
    }
}

/// The addresses when they were looked at last.
struct Seen {
    addresses: BTreeSet<IpAddr>,
}

impl Seen {
    /// Whether links should look for other paths. Not when there is no address left: that is said when one is back.
    fn differs(&mut self, now: BTreeSet<IpAddr>) -> bool {
        let differs = now != self.addresses && !now.is_empty();
        self.addresses = now;
        differs
    }
}

/// Addresses under which others could reach this device.
fn addresses() -> Option<BTreeSet<IpAddr>> {
    let interfaces = rtc::shared::ifaces::ifaces().ok()?;
    let addresses = interfaces.into_iter().filter_map(|interface| Some(interface.addr?.ip()));
    Some(addresses.filter(is_reachable).collect())
}

fn is_reachable(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || is_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).filter(is_reachable).collect()
    }

    #[test]
    fn another_network_is_a_change_and_being_offline_is_told_when_it_is_over() {
        let mut seen = Seen { addresses: set(&["192.168.1.5", "127.0.0.1", "::1", "fe80::1"]) };
        assert!(!seen.differs(set(&["192.168.1.5"])), "nobody is reached by loopback and link-local addresses");
        assert!(seen.differs(set(&["192.168.1.5", "2001:db8::7"])));
        assert!(seen.differs(set(&["10.0.0.9"])));
        assert!(!seen.differs(set(&[])), "without any address there is nothing to look for");
        assert!(seen.differs(set(&["10.0.0.9"])), "the same network again: paths were lost meanwhile");
        assert!(!seen.differs(set(&["10.0.0.9"])));
    }

    #[test]
    fn the_addresses_of_this_machine_can_be_listed() {
        assert!(addresses().is_some_and(|addresses| addresses.iter().all(is_reachable)));
    }
}
