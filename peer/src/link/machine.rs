//! Whether the other end of a link is on this very machine.
//!
//! What goes between two addresses of one machine never leaves it, so its datagrams may be as large as loopback carries, and
//! that triples the throughput. Each description carries a token of the machine it was written on: a keyed hash of the
//! boot's random id and of the network namespace, which says nothing to anybody else. It is covered by the device's
//! signature like the rest of the description; a device that lies about it only slows down its own link.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

const ATTRIBUTE: &str = "a=x-rockpool-machine:";

/// The attribute's line, to be put into a description; `None` where the system does not tell.
fn line() -> Option<&'static str> {
    static LINE: OnceLock<Option<String>> = OnceLock::new();
    LINE.get_or_init(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::metadata("/proc/self/ns/net").ok()?.ino();
        let mut hasher = blake3::Hasher::new_derive_key("rockpool 2026 one machine v1");
        hasher.update(boot.trim().as_bytes()).update(&namespace.to_be_bytes());
        Some(format!("{ATTRIBUTE}{}", &hasher.finalize().to_hex()[..16]))
    })
    .as_deref()
}

/// The description with the token, as an attribute of the session: before the first media section.
pub(super) fn marked(sdp: String) -> String {
    let (Some(line), Some(at)) = (line(), sdp.find("m=application")) else { return sdp };
    format!("{}{line}\r\n{}", &sdp[..at], &sdp[at..])
}

/// Whether the description was written on this machine.
pub fn is_from_this_machine(sdp: &str) -> bool {
    line().is_some_and(|line| sdp.lines().any(|found| found.trim_end() == line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_descriptions_are_known_again() {
        let sdp = "v=0\r\ns=-\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n".to_owned();
        assert!(!is_from_this_machine(&sdp));
        let marked = marked(sdp);
        assert!(is_from_this_machine(&marked));
        assert!(marked.find(ATTRIBUTE) < marked.find("m=application"));
    }
}
