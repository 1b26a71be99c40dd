//! How things look to people. What others chose (names, texts) is cleaned of everything that moves a terminal's cursor.

use crate::api::{DeviceView, DownloadView, ErrorCode, Event, MessageView, OfferView, StatusView};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::Write;

/// Prints a line on standard output. Ends the process when nobody reads it, or when it cannot be written.
pub(super) fn line(text: std::fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(format_args!("rockpool: the output cannot be written: {error}"));
            std::process::exit(i32::from(ErrorCode::Disk.exit_code()));
        }
    }
}

/// Prints a line on standard error, whether or not anybody reads it.
pub(super) fn note(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One line of somebody else's text: no control, bidirectional or invisible characters, no line breaks.
pub(super) fn clean(text: &str) -> String {
    rockpool_peer_core::names::sanitize_for_display(text)
}

/// Several lines of text, each of them clean. All but the first are indented, so that no line of somebody's text can
/// pass for a message of somebody else.
pub(super) fn clean_lines(text: &str) -> String {
    rockpool_peer_core::names::sanitize_lines_for_display(text).replace('\n', "\n      ")
}

/// "ann, phone".
pub(super) fn device(device: &DeviceView) -> String {
    format!("{}, {}", clean(&device.author), clean(&device.device))
}

/// A message on a line of its own, more when its text has more.
pub(super) fn message(message: &MessageView) -> String {
    let text = if message.retracted { "(retracted)".to_string() } else { clean_lines(&message.text) };
    format!("{} <{}> {text}", time(message.at_ms), device(&message.from))
}

/// A message in a list of those before and after it: a line in front says where some are still missing.
pub(super) fn message_in_history(shown: &MessageView) -> String {
    let gap = if shown.gap_before { "      (messages that belong here have not arrived yet)\n" } else { "" };
    format!("{gap}{}", message(shown))
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
        match offer.seeders {
            0 => "  (nobody in reach has it)".to_string(),
            1 => String::new(),
            seeders => format!("  ({seeders} devices have it)"),
        }
    )
}

/// What a finished download is, line by line.
pub(super) fn downloaded(download: &DownloadView) -> Vec<String> {
    let seconds = (download.elapsed_ms as f64 / 1000.0).max(0.001);
    let files = format!("{} {}", download.files, plural(download.files as usize, "file", "files"));
    let what = format!("{} in {files}", bytes(download.bytes));
    let mut lines = vec![match download.received_bytes {
        0 if download.bytes > 0 => format!("{what}: all of it was there already"),
        received => format!("{what}, {seconds:.1} s, {}/s", bytes((received as f64 / seconds) as u64)),
    }];
    lines.extend(download.paths.iter().map(|path| clean(&path.to_string_lossy())));
    lines.extend(download.renamed.iter().map(|path| {
        format!("{}  (something else has the name in the offer, and was left alone)", clean(&path.to_string_lossy()))
    }));
    lines
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
            let pool = clean(&status.pool);
            match (status.cluster_connected, others) {
                (false, 0) => format!("* {pool} is open; looking for the others"),
                _ => format!("* {pool} is open; {others} other {} here", plural(others, "device is", "devices are")),
            }
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
        Event::Skipped { count } => {
            format!("! {count} events came faster than they could be shown; history has every message")
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_message_passes_for_another_message() {
        let from =
            DeviceView { device_id: "aa".into(), device: "laptop".into(), author: "mal".into(), this_device: false };
        let text = "hi\n14:41 <bob, laptop> I agree\n* closed: bye".to_string();
        let view = MessageView { id: "aa:1".into(), from, at_ms: 0, text, retracted: false, gap_before: false };
        let shown = message(&view);
        let mut lines = shown.lines();
        assert!(lines.next().unwrap().ends_with("<mal, laptop> hi"));
        assert!(lines.all(|line| line.starts_with("      ")), "{shown}");
    }

    #[test]
    fn a_history_says_where_messages_are_missing() {
        let from =
            DeviceView { device_id: "aa".into(), device: "laptop".into(), author: "mal".into(), this_device: false };
        let view =
            MessageView { id: "aa:1".into(), from, at_ms: 0, text: "hi".into(), retracted: false, gap_before: false };
        assert_eq!(message_in_history(&view), message(&view));
        let gap = MessageView { gap_before: true, ..view };
        let shown = message_in_history(&gap);
        assert!(shown.contains("not arrived") && shown.ends_with(&message(&gap)), "{shown}");
        assert!(shown.starts_with("      "), "it can't pass for a message: {shown}");
    }
}
