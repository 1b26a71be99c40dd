//! What people see of devices, messages and offers.

use rockpool_peer_core::names::sanitize_for_display;
use rockpool_peer_core::{Body, EntryId, FileOffer, Peer, Root, StoredEntry};
use rockpool_proto::DeviceId;

use crate::api::{ApiError, DeviceView, ErrorCode, MessageView, OfferView};

/// How a message is called outside.
pub(super) fn message_id(id: EntryId) -> String {
    format!("{}:{}", id.device, id.counter)
}

/// Reads what [`message_id`] writes.
pub(super) fn parse_message_id(text: &str) -> Option<EntryId> {
    // The core's own form differs in the separator only.
    text.replacen(':', ".", 1).parse().ok()
}

/// A device, with the names that its account and itself chose.
pub(super) fn device(peer: &Peer, id: DeviceId) -> DeviceView {
    let directory = peer.directory();
    let author =
        directory.member_of(id).map_or_else(|| "somebody unknown".into(), |member| member.display_name.clone());
    let name = directory.device(id).map_or_else(|| id.to_string()[..8].to_owned(), |device| device.name.clone());
    DeviceView {
        device_id: id.to_string(),
        device: sanitize_for_display(&name),
        author: sanitize_for_display(&author),
        this_device: id == peer.device_id(),
    }
}

/// A chat message; `None` for entries of other kinds.
pub(super) fn message(peer: &Peer, entry: &StoredEntry) -> Option<MessageView> {
    let Body::Text(text) = &entry.body else { return None };
    let retracted = peer.log().is_retracted(peer.directory(), entry.id);
    Some(MessageView {
        id: message_id(entry.id),
        from: device(peer, entry.id.device),
        at_ms: entry.time.ms,
        text: if retracted { String::new() } else { text.clone() },
        retracted,
        gap_before: false,
    })
}

/// The newest messages, oldest first.
pub(super) fn history(peer: &Peer, limit: usize) -> Vec<MessageView> {
    let newest = peer.log().in_order(None).rev().filter_map(|entry| message(peer, entry)).take(limit);
    let mut messages: Vec<MessageView> = newest.collect();
    messages.reverse();
    messages
}

/// A file offer.
pub(super) fn offer(peer: &Peer, id: EntryId, offer: &FileOffer) -> OfferView {
    OfferView {
        id: offer.manifest_root.to_string(),
        name: sanitize_for_display(&offer.name),
        files: u64::from(offer.file_count),
        bytes: offer.size_bytes,
        from: device(peer, id.device),
        seeders: authors_in_reach(peer, offer.manifest_root),
        at_ms: peer.log().entry(id).map_or(0, |entry| entry.time.ms),
    }
}

/// Devices that offer this content and can be asked for it now.
fn authors_in_reach(peer: &Peer, root: Root) -> usize {
    let linked: Vec<DeviceId> = peer.linked().chain([peer.device_id()]).collect();
    let authors = peer.offers().into_iter().filter(|(_, offer)| offer.manifest_root == root).map(|(id, _)| id.device);
    let reachable: std::collections::BTreeSet<DeviceId> = authors.filter(|device| linked.contains(device)).collect();
    reachable.len()
}

/// All file offers that hold, each content once: the newest of those who offer it, and our own before others'.
pub(super) fn open_offers(peer: &Peer) -> Vec<(EntryId, &FileOffer)> {
    let mut offers: Vec<(EntryId, &FileOffer)> = Vec::new();
    for (id, offer) in peer.offers() {
        match offers.iter_mut().find(|(_, known)| known.manifest_root == offer.manifest_root) {
            Some(known) if known.0.device == peer.device_id() => {}
            Some(known) => *known = (id, offer),
            None => offers.push((id, offer)),
        }
    }
    offers
}

/// The one offer whose id begins like this.
pub(super) fn find_offer<'a>(peer: &'a Peer, beginning: &str) -> Result<(EntryId, &'a FileOffer), ApiError> {
    let wanted = beginning.to_ascii_lowercase();
    let matching =
        open_offers(peer).into_iter().filter(|(_, offer)| offer.manifest_root.to_string().starts_with(&wanted));
    let mut matching: Vec<_> = matching.collect();
    match (matching.len(), wanted.is_empty()) {
        (1, false) => Ok(matching.remove(0)),
        (0, _) | (_, true) => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("nothing that is on offer has an id that begins with {beginning:?}"),
        )),
        (count, _) => Err(ApiError::new(
            ErrorCode::Ambiguous,
            format!("{count} offers have an id that begins with {beginning:?}: give more of it"),
        )),
    }
}

/// Our own entries that offer this content.
pub(super) fn own_offers_of(peer: &Peer, root: Root) -> Vec<EntryId> {
    let offers = peer.offers().into_iter();
    offers
        .filter(|(id, offer)| id.device == peer.device_id() && offer.manifest_root == root)
        .map(|(id, _)| id)
        .collect()
}
