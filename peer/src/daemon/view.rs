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
        gap_before: peer.has_gap_before(entry),
    })
}

/// Messages that come before a given one, or all; the newest first.
pub(super) fn messages_before(peer: &Peer, before: Option<EntryId>) -> impl Iterator<Item = MessageView> {
    let before = before.and_then(|id| peer.log().entry(id)).map(|entry| entry.order_key());
    let entries = peer.log().in_order(None).rev();
    let older = entries.skip_while(move |entry| before.is_some_and(|before| entry.order_key() >= before));
    older.filter_map(|entry| message(peer, entry))
}

/// A file offer.
pub(super) fn offer(peer: &Peer, id: EntryId, offer: &FileOffer) -> OfferView {
    OfferView {
        id: offer.manifest_root.to_string(),
        name: sanitize_for_display(&offer.name),
        files: u64::from(offer.file_count),
        bytes: offer.size_bytes,
        from: device(peer, id.device),
        seeders: peer.seeders_in_reach(offer.manifest_root),
        at_ms: peer.log().entry(id).map_or(0, |entry| entry.time.ms),
    }
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
