//! What people ask for.

use std::sync::Arc;

use rockpool_proto::limits::{MESSAGE_TEXT_CHARS_MAX, OFFERS_PER_DEVICE_MAX};

use super::Peer;
use super::writing::Draft;
use crate::entry::{Body, EntryId, FileOffer};
use crate::frame::Frame;
use crate::input::{Command, CommandId};
use crate::manifest::Manifest;
use crate::output::{Output, Refusal, Reply};
use crate::time::Now;
use crate::transfer::DownloadJournal;

impl Peer {
    pub(super) fn handle_command(&mut self, now: Now, id: CommandId, command: Command) {
        // `None`: the answer comes once the entry is durable.
        let result = match command {
            _ if self.left => Err(Refusal::Left),
            Command::Say(text) => self.say(id, text).map(|()| None),
            Command::Offer { manifest, name } => self.offer(id, manifest, name).map(|()| None),
            Command::Withdraw(offer) => self.withdraw(now, id, offer).map(|()| None),
            Command::Retract(entry) => self.retract(now, id, entry).map(|()| None),
            Command::Get { offer, journal } => self.get(now, offer, journal).map(Some),
            Command::Pause(download) => self.files.set_paused(now.time, download, true).map(|()| Some(Reply::Done)),
            Command::Resume(download) => self.files.set_paused(now.time, download, false).map(|()| Some(Reply::Done)),
            Command::Cancel(download) => self.files.cancel(download).map(|()| Some(Reply::Done)),
            Command::Leave => {
                self.leave(now);
                Ok(Some(Reply::Done))
            }
        };
        match result {
            Ok(None) => {}
            Ok(Some(reply)) => self.outputs.push_back(Output::Reply(id, Ok(reply))),
            Err(refusal) => self.outputs.push_back(Output::Reply(id, Err(refusal))),
        }
    }

    fn say(&mut self, id: CommandId, text: String) -> Result<(), Refusal> {
        let found = text.chars().count();
        if found == 0 || found > MESSAGE_TEXT_CHARS_MAX {
            return Err(Refusal::TextLength { found, max: MESSAGE_TEXT_CHARS_MAX });
        }
        self.write(Draft { command: Some(id), body: Body::Text(text), manifest: None })
    }

    fn offer(&mut self, id: CommandId, manifest: Manifest, name: String) -> Result<(), Refusal> {
        let me = self.device_id();
        if self.offers().iter().filter(|(offer, _)| offer.device == me).count() >= OFFERS_PER_DEVICE_MAX {
            return Err(Refusal::TooMany { what: "open file offers", max: OFFERS_PER_DEVICE_MAX });
        }
        let offer = FileOffer {
            manifest_root: manifest.root(),
            manifest_bytes: manifest.encoded().len() as u64,
            name: name.chars().take(MESSAGE_TEXT_CHARS_MAX).collect(),
            size_bytes: manifest.size_bytes(),
            file_count: manifest.file_count(),
        };
        let manifest = Some(Arc::new(manifest));
        self.write(Draft { command: Some(id), body: Body::FileOffer(offer), manifest })
    }

    /// The file offer behind an id.
    fn file_offer(&self, id: EntryId) -> Result<FileOffer, Refusal> {
        match self.log.entry(id).map(|entry| &entry.body) {
            Some(Body::FileOffer(_)) if self.log.is_withdrawn(&self.directory, id) => Err(Refusal::Withdrawn),
            Some(Body::FileOffer(offer)) if offer.manifest_bytes > 0 => Ok(offer.clone()),
            _ => Err(Refusal::NotFound("file offer")),
        }
    }

    fn withdraw(&mut self, now: Now, id: CommandId, offer: EntryId) -> Result<(), Refusal> {
        self.file_offer(offer)?;
        if offer.device != self.device_id() {
            return Err(Refusal::NotYours);
        }
        let body = Body::FileWithdraw { counter: offer.counter };
        self.write(Draft { command: Some(id), body, manifest: None })?;
        self.stop_offer(now.time, offer);
        Ok(())
    }

    fn retract(&mut self, now: Now, id: CommandId, target: EntryId) -> Result<(), Refusal> {
        self.log.entry(target).ok_or(Refusal::NotFound("message"))?;
        if !self.directory.same_account(target.device, self.device_id()) {
            return Err(Refusal::NotYours);
        }
        self.write(Draft { command: Some(id), body: Body::Retract(target), manifest: None })?;
        self.stop_offer(now.time, target);
        Ok(())
    }

    fn get(&mut self, now: Now, offer: EntryId, journal: Option<DownloadJournal>) -> Result<Reply, Refusal> {
        let file_offer = self.file_offer(offer)?;
        let download = self.files.start(now.time, offer, &file_offer, journal)?;
        self.refresh_seeders(now.time);
        Ok(Reply::Download(download))
    }

    fn leave(&mut self, now: Now) {
        self.left = true;
        for device in self.linked().collect::<Vec<_>>() {
            self.send_control(device, Frame::Goodbye);
        }
        self.negotiation.set_cluster(now, false);
        for device in self.links.keys().copied().collect::<Vec<_>>() {
            self.negotiation.drop_device(device);
        }
        self.negotiation.set_wanted(now, Vec::new());
    }
}
