//! How things look to people. What others chose (names, texts) is cleaned of everything that moves a terminal's cursor.

use crate::api::{DeviceView, Event, MessageView, OfferView, StatusView};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::Write;

/// Prints a line on standard output; ends the process when nobody reads it.
pub(super) fn line(text: std::fmt::Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// One line of somebody else's text: no control, bidirectional or invisible characters, no line breaks.
pub(super) fn clean(text: &str) -> String {
    rockpool_peer_core::names::sanitize_for_display(text)
}

/// Several lines of text, each of them clean.
pub(super) fn clean_lines(text: &str) -> String {
    rockpool_peer_core::names::sanitize_lines_for_display(text)
}

/// "ann, phone".
pub(super) fn device(device: &DeviceView) -> String {
    format!("{}, {}", clean(&device.author), clean(&device.device))
}

/// A message on a line of its own, more when its text has more.
pub(super) fn message(message: &MessageView) -> String {
    let gap = if message.gap_before { "  (earlier messages of this device have not arrived yet)\n" } else { "" };
    let text = if message.retracted { "(retracted)".to_string() } else { clean_lines(&message.text) };
    format!("{gap}{} <{}> {text}", time(message.at_ms), device(&message.from))
}

/// An offer on one line.
pub(super) fn offer(offer: &OfferView) -> String {
    format!(
        "{}  {}  {} in {} {}  from {}{}",
        &offer.id[..offer.id.len().min(12)],
        clean(&offer.name),
        bytes(offer.bytes),
        offer.files,
        if offer.files == 1 { "file" } else { "files" },
        device(&offer.from),
        if offer.seeders == 0 { "  (nobody in reach has it)" } else { "" }
    )
}

/// How the open pool stands.
pub(super) fn status(status: &StatusView) {
    say!("pool      {} ({})", clean(&status.pool), status.pool_id);
    say!("device    {}", device(&status.me));
    say!(
        "cluster   {}",
        if status.cluster_connected { "connected" } else { "out of reach: talking goes on, joining and inviting wait" }
    );
    for present in &status.present {
        let link = if present.this_device {
            "this device"
        } else if status.linked.contains(&present.device_id) {
            "linked"
        } else {
            "connecting"
        };
        say!("present   {} ({link})", device(present));
    }
    say!("messages  {}{}", status.messages, if status.gaps { ", some still missing" } else { "" });
    say!("offers    {}", status.offers);
    for download in &status.downloads {
        say!("download  {download}");
    }
}

/// A line for the chat, or nothing for what only machines want.
pub(super) fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Opened(status) => {
            let others = status.present.iter().filter(|device| !device.this_device).count();
            format!(
                "* {} is open; {others} other {} here",
                clean(&status.pool),
                plural(others, "device is", "devices are")
            )
        }
        Event::Message(view) => message(view),
        Event::Retracted { .. } => "* a message was taken back".to_string(),
        Event::Joined(view) => format!("* {} is here", device(view)),
        Event::Left(view) => format!("* {} left", device(view)),
        Event::Linked(_) | Event::Unlinked(_) | Event::Hashing { .. } | Event::Progress(_) => return None,
        Event::Offer(view) => format!("* on offer: {}", offer(view)),
        Event::Withdrawn { offer, reason } => {
            format!("* offer {} is gone: {}", &offer[..offer.len().min(12)], clean(reason))
        }
        Event::Cluster { connected: true, .. } => "* the cluster is in reach".to_string(),
        Event::Cluster { connected: false, text } => {
            format!("* the cluster is out of reach ({}); talking goes on", clean(text))
        }
        Event::Warning { text } => format!("! {}", clean_lines(text)),
        Event::Closed { text, .. } => format!("* closed: {}", clean(text)),
    })
}

/// Local time of day, with the date when it is not today's.
pub(super) fn time(at_ms: u64) -> String {
    let zone = TimeZone::system();
    let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(at) = at else { return "--:--".into() };
    let at = at.to_zoned(zone.clone());
    let form = if at.date() == Timestamp::now().to_zoned(zone).date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(form).to_string()
}

/// Bytes with a binary unit.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// The right word for a number of things.
pub(super) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
