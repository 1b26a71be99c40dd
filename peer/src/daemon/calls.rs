//! Requests of the local socket.

use std::path::PathBuf;
use std::time::Instant;

use rockpool_peer_core::Command;
use rockpool_proto::limits;

use super::caller::{Caller, Subscriber};
use super::downloads::{self, Audited};
use super::running::{OwnOffer, Pending, Running};
use super::{Call, Happening, offers, view};
use crate::api::{ApiError, ErrorCode, Event, LINE_BYTES_MAX, Reply, Request};

/// Messages in one answer.
const HISTORY_MESSAGES_MAX: usize = 1_000;
/// Offers in one answer.
const OFFERS_MAX: usize = 1_000;
/// Bytes of messages or offers in one answer, so that it fits a line.
const LIST_BYTES_MAX: usize = LINE_BYTES_MAX / 2;

impl Running {
    pub(super) fn called(&mut self, Call { request, caller }: Call) {
        let refused = |error| caller.answer(Err(error));
        match request {
            Request::Status => caller.answer(Ok(Reply::Status(self.status()))),
            Request::Say { text } => self.command(Command::Say(text), Pending::Say(caller)),
            Request::Retract { message } => match view::parse_message_id(&message) {
                Some(id) => self.command(Command::Retract(id), Pending::Plain(caller)),
                None => refused(not_a_message(&message)),
            },
            Request::History { limit, before } => match before.as_deref().map(|id| (id, view::parse_message_id(id))) {
                Some((text, None)) => refused(not_a_message(text)),
                before => {
                    let before = before.and_then(|(_, id)| id);
                    let messages = view::messages_before(&self.peer, before).take(limit.min(HISTORY_MESSAGES_MAX));
                    caller.answer(Ok(Reply::History(newest_that_fit(messages))));
                }
            },
            Request::Offers => {
                let offers = view::open_offers(&self.peer).into_iter().rev().take(OFFERS_MAX);
                let offers = offers.map(|(id, offer)| view::offer(&self.peer, id, offer));
                caller.answer(Ok(Reply::Offers(newest_that_fit(offers))));
            }
            Request::Send { paths } => self.send(paths, caller),
            Request::Withdraw { offer } => self.take_back(&offer, caller),
            Request::Get { offer, to } => self.get(&offer, to, caller),
            Request::Cancel { offer } => self.cancel(&offer, caller),
            Request::Subscribe => {
                let mut subscriber = Subscriber::new(caller);
                if subscriber.tell(&Event::Opened(self.status())) {
                    self.subscribers.push(subscriber);
                }
            }
            Request::Close => {
                self.closers.push(caller);
                self.end("asked", "the pool was closed on this device", Ok(()));
            }
        }
    }

    fn send(&mut self, paths: Vec<PathBuf>, caller: Caller) {
        let relative = paths.iter().find(|path| !path.is_absolute());
        if paths.is_empty() || relative.is_some() {
            let why = relative.map_or("no path is given".into(), |path| format!("{} is not absolute", path.display()));
            return caller.answer(Err(ApiError::new(ErrorCode::Invalid, why)));
        }
        if self.own_offers.len() >= limits::OFFERS_PER_DEVICE_MAX {
            let why = format!("{} offers are open: withdraw one first", limits::OFFERS_PER_DEVICE_MAX);
            return caller.answer(Err(ApiError::new(ErrorCode::Limit, why)));
        }
        let folder = self.sources.folder().clone();
        let home = self.home.root().to_owned();
        offers::prepare(paths, home, self.store.clone(), folder, caller, self.happenings.clone());
    }

    pub(super) fn hashed(&mut self, prepared: offers::Prepared) {
        let offers::Prepared { caller, result } = prepared;
        let content = match result {
            Ok(content) => content,
            Err(error) => return caller.answer(Err(error)),
        };
        for warning in &content.warnings {
            caller.event(Event::Warning { text: format!("left out: {warning}") });
        }
        let root = content.manifest.root();
        if let Some(id) = view::own_offers_of(&self.peer, root).first()
            && let Some(rockpool_peer_core::Body::FileOffer(offer)) =
                self.peer.log().entry(*id).map(|entry| &entry.body)
        {
            // The same content is on offer already: a second entry would say nothing new.
            let view = view::offer(&self.peer, *id, offer);
            return caller.answer(Ok(Reply::Offered(view)));
        }
        let source = std::sync::Arc::new(content.source);
        // Before the others hear of it: the first request may come at once.
        self.sources.share(root, source.clone());
        let own = OwnOffer { root, source };
        let command = Command::Offer { manifest: content.manifest, name: content.name };
        self.command(command, Pending::Offer(caller, Box::new((content.record, own))));
    }

    fn take_back(&mut self, offer: &str, caller: Caller) {
        let root = match view::find_offer(&self.peer, offer) {
            Ok((_, offer)) => offer.manifest_root,
            Err(error) => return caller.answer(Err(error)),
        };
        let own = view::own_offers_of(&self.peer, root);
        let Some((last, others)) = own.split_last() else {
            let why = "it is somebody else's offer: only who made it can take it back";
            return caller.answer(Err(ApiError::new(ErrorCode::Denied, why)));
        };
        for id in others {
            self.withdraw(*id, Caller::nobody());
        }
        self.withdraw(*last, caller);
    }

    fn get(&mut self, offer: &str, to: PathBuf, caller: Caller) {
        if !to.is_absolute() {
            return caller.answer(Err(ApiError::new(ErrorCode::Invalid, format!("{} is not absolute", to.display()))));
        }
        let (id, root) = match view::find_offer(&self.peer, offer) {
            Ok((id, offer)) => (id, offer.manifest_root),
            Err(error) => return caller.answer(Err(error)),
        };
        if !view::own_offers_of(&self.peer, root).is_empty() {
            let why = "this device offers it itself: its files are here already";
            return caller.answer(Err(ApiError::new(ErrorCode::Invalid, why)));
        }
        let known = self.downloads.iter_mut().find(|(_, download)| download.root == root);
        match known {
            Some((_, download)) if download.to != to && !download.paused => {
                let why = format!("it is being downloaded into {}: wait for that, or cancel it", download.to.display());
                return caller.answer(Err(ApiError::new(ErrorCode::Invalid, why)));
            }
            // Somebody thought better of the place. What has arrived there stays there.
            Some((download_id, download)) if download.to != to => {
                let download_id = *download_id;
                self.forget_download(download_id);
            }
            Some((download_id, download)) => {
                download.waiters.push(caller);
                if std::mem::take(&mut download.paused) {
                    let command = Command::Resume(*download_id);
                    self.command(command, Pending::Plain(Caller::nobody()));
                }
                return;
            }
            None => {}
        }
        self.auditing.insert(root, false);
        let (store, pool, happenings) = (self.store.clone(), self.pool, self.happenings.clone());
        self.workers.in_order(move || {
            let found = (|| {
                let known = store.download(pool, root).map_err(super::start::store_error)?;
                match known.filter(|known| known.to_path() == to && !known.manifest.is_empty()) {
                    Some(known) => downloads::audit(&known),
                    None => {
                        store
                            .put_download(pool, root, Some(&downloads::record(id, &to)))
                            .map_err(super::start::store_error)?;
                        Ok(None)
                    }
                }
            })();
            let audited = Audited { offer: id, root, to, caller, found };
            let _ = happenings.blocking_send(Happening::Audited(Box::new(audited)));
        });
    }

    pub(super) fn audited(&mut self, audited: Audited) {
        let Audited { offer, root, to, caller, found } = audited;
        if self.auditing.remove(&root) == Some(true) {
            return caller.answer(Err(stopped()));
        }
        let found = match found {
            Ok(found) => found,
            Err(error) => return caller.answer(Err(error)),
        };
        if self.downloads.values().any(|download| download.root == root) {
            // Asked for twice at once: the other one was first.
            return self.get(&root.to_string(), to, caller);
        }
        let (disk, journal) = found.map_or((None, None), |(disk, journal)| (Some(disk), Some(journal)));
        let download = downloads::Running {
            offer,
            root,
            to,
            disk,
            waiters: vec![caller],
            started: Instant::now(),
            received_bytes: 0,
            paused: false,
            speed: downloads::Speed::default(),
            shown: None,
        };
        self.command(Command::Get { offer, journal }, Pending::Get(Box::new(download)));
    }

    fn cancel(&mut self, offer: &str, caller: Caller) {
        let wanted = offer.to_ascii_lowercase();
        let matching = self.downloads.iter_mut().filter(|(_, download)| download.root.to_string().starts_with(&wanted));
        let mut matching: Vec<_> = matching.collect();
        let [(id, download)] = matching.as_mut_slice() else {
            let (code, text) = match matching.len() {
                0 => match self.auditing.iter_mut().find(|(root, _)| root.to_string().starts_with(&wanted)) {
                    // It has not begun yet, and never will.
                    Some((_, cancelled)) => {
                        *cancelled = true;
                        return caller.answer(Ok(Reply::Done));
                    }
                    None => (ErrorCode::NotFound, "no such download is under way"),
                },
                _ => (ErrorCode::Ambiguous, "several downloads have an id that begins like this"),
            };
            return caller.answer(Err(ApiError::new(code, text)));
        };
        download.waiters.drain(..).for_each(|waiter| waiter.answer(Err(stopped())));
        download.paused = true;
        let command = Command::Pause(**id);
        self.command(command, Pending::Plain(caller));
    }
}

fn stopped() -> ApiError {
    ApiError::new(ErrorCode::Cancelled, "stopped; what has arrived is kept, and getting it again resumes")
}

fn not_a_message(text: &str) -> ApiError {
    ApiError::new(ErrorCode::Invalid, format!("{text:?} is not a message's id"))
}

/// As many as fit a line, at least one, in the order in which people read: the oldest first.
fn newest_that_fit<T: serde::Serialize>(newest_first: impl Iterator<Item = T>) -> Vec<T> {
    let mut bytes = 0;
    let mut listed: Vec<T> = Vec::new();
    for one in newest_first {
        bytes += serde_json::to_vec(&one).map_or(0, |text| text.len());
        if bytes > LIST_BYTES_MAX && !listed.is_empty() {
            break;
        }
        listed.push(one);
    }
    listed.reverse();
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_fits_a_line_and_is_never_cut_to_nothing() {
        let escaped = "\u{1}".repeat(5_000);
        let listed = newest_that_fit((0..1_000).map(|number| format!("{number} {escaped}")));
        assert!(listed.len() > 1 && listed.len() < 20);
        assert!(serde_json::to_vec(&listed).unwrap().len() < LINE_BYTES_MAX);
        assert!(listed.last().unwrap().starts_with("0 "), "the newest is last");
        assert_eq!(newest_that_fit(std::iter::once("x".repeat(LINE_BYTES_MAX))).len(), 1);
    }
}
