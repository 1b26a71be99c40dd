//! `open`: being present in a pool, with a chat in this terminal, as JSON lines, or detached.
//!
//! One process has the pool open; this one becomes it, starts it in the background, or attaches a chat to the one that
//! already has this pool open. One that has another pool open is asked to leave first: a device is in one place. One that
//! is just starting or ending is waited for, so that of two who open at the same moment both end up in the pool.

use super::local::{Local, LocalEvents};
use super::{Context, pools, print};
use crate::api::{ApiError, ErrorCode, Event, Reply, ReplyBody, Request, StatusView};
use crate::client::Cluster;
use crate::daemon::{Daemon, DaemonOptions};
use crate::home::{Home, KnownPool};
use clap::Args;
use rockpool_proto::PoolId;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long a detached process may take to have the pool open, and another one to let go of the home.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(10);
const HANDOVER_POLL: Duration = Duration::from_millis(25);
/// The log of detached processes begins anew when it has this size.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Messages that a chat begins with.
const FIRST_MESSAGES: usize = 20;

/// `open`.
#[derive(Args, Debug)]
pub(super) struct OpenArgs {
    /// The pool's name, or its id or an unambiguous beginning of it
    pool: String,
    /// Stay in the background, and give this terminal back once the pool is open
    #[arg(long)]
    detach: bool,
    /// What `--detach` starts: no terminal, nothing printed, errors to the log
    #[arg(long, hide = true)]
    background: bool,
}

pub(super) async fn run(context: &Context, args: OpenArgs) -> Result<(), ApiError> {
    if args.background
        && let Err(error) = rustix::process::setsid()
    {
        // What a terminal that goes away sends should not reach us.
        tracing::debug!(%error, "this process stays with its terminal");
    }
    context.home.must_session()?;
    let cluster = Cluster::new(&context.home)?;
    let pool = pools::find(context, &cluster, &args.pool).await?;
    if let Some(running) = leave_other(&context.home, &pool).await? {
        if args.background {
            return Ok(());
        }
        if args.detach {
            context
                .print(&running, |status| say!("{} is open already (pid {})", print::clean(&status.pool), status.pid));
            return Ok(());
        }
        let local = Local::connect(&context.home).await?;
        return follow(context, local, None).await;
    }
    if args.detach {
        return detach(context, &pool).await;
    }
    // The nodes may have changed since; one that is known now can be tried when another is gone. Nobody waits for it.
    let described = cluster.clone();
    tokio::spawn(async move {
        if let Err(error) = described.describe().await {
            tracing::debug!(%error, "the cluster cannot be described");
        }
    });
    let options = DaemonOptions {
        home: context.home.clone(),
        cluster,
        pool: PoolId(pools::id_bytes(&pool)?),
        pool_name: pool.name.clone(),
    };
    let daemon = Daemon::start(options).await?;
    if args.background {
        return serve(daemon).await;
    }
    let local = Local::connect(&context.home).await?;
    follow(context, local, Some(daemon)).await
}

/// Has the pool open until it is closed or this process is told to end.
async fn serve(mut daemon: Daemon) -> Result<(), ApiError> {
    let mut told = Signals::new()?;
    tokio::select! {
        () = told.next() => daemon.stop().await,
        ended = daemon.ended() => ended,
    }
}

/// What asks a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Signals, ApiError> {
        let awaited = |kind| {
            signal(kind)
                .map_err(|error| ApiError::new(ErrorCode::Internal, format!("signals cannot be awaited: {error}")))
        };
        Ok(Signals {
            terminate: awaited(SignalKind::terminate())?,
            interrupt: awaited(SignalKind::interrupt())?,
            hangup: awaited(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Asks a process that has another pool open to leave it. Answers how things stand if it is this pool that is open.
async fn leave_other(home: &Home, pool: &KnownPool) -> Result<Option<StatusView>, ApiError> {
    let deadline = Instant::now() + HANDOVER_DEADLINE;
    loop {
        if let Some(mut local) = Local::try_connect(home).await? {
            match local.ask(Request::Status, drop).await {
                Ok(Reply::Status(status)) if status.pool_id == pool.pool_id => return Ok(Some(status)),
                Ok(Reply::Status(status)) => {
                    note!("Leaving {} first: a device is in one pool at a time", print::clean(&status.pool));
                    local.ask(Request::Close, drop).await?;
                }
                // It is ending.
                _ => {}
            }
        } else {
            match home.lock_daemon() {
                Ok(_) => return Ok(None),
                // Somebody is just starting or ending; or it does not serve, and then this says who it is.
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
        }
        if Instant::now() >= deadline {
            let text = "the process with the other pool does not end. Stop it, then try again";
            return Err(ApiError::new(ErrorCode::Unavailable, text));
        }
        tokio::time::sleep(HANDOVER_POLL).await;
    }
}

/// Waits until a process that was asked to close the pool has let go of the home.
pub(super) async fn wait_until_closed(home: &Home) {
    let free = async {
        while home.lock_daemon().is_err() {
            tokio::time::sleep(HANDOVER_POLL).await;
        }
    };
    let _ = tokio::time::timeout(HANDOVER_DEADLINE, free).await;
}

async fn detach(context: &Context, pool: &KnownPool) -> Result<(), ApiError> {
    let program = std::env::current_exe()
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("this program cannot find itself: {error}")))?;
    let log_path = context.home.daemon_log_path();
    if std::fs::metadata(&log_path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        let _ = std::fs::remove_file(&log_path);
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|error| ApiError::new(ErrorCode::Disk, format!("cannot write {}: {error}", log_path.display())))?;
    let log_start = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let mut child = Command::new(program)
        .arg("--home")
        .arg(context.home.root())
        .args(["-v", "open", "--background", &pool.pool_id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot start the background process: {error}")))?;
    let opened = async {
        loop {
            let ended = child.try_wait().ok().flatten();
            if let Some(mut local) = Local::try_connect(&context.home).await?
                && let Ok(Reply::Status(status)) = local.ask(Request::Status, drop).await
                && status.pool_id == pool.pool_id
            {
                return Ok(status);
            }
            if let Some(status) = ended {
                let log = std::fs::read(&log_path).unwrap_or_default();
                let said = String::from_utf8_lossy(&log[log.len().min(log_start as usize)..]).trim().to_string();
                return Err(ApiError::new(
                    ErrorCode::Unavailable,
                    match said.lines().last() {
                        Some(last) => format!(
                            "the background process ended: {} (more in {})",
                            last.trim_start_matches("rockpool: "),
                            log_path.display()
                        ),
                        None => {
                            format!("the background process ended ({status}); another one may have taken its place")
                        }
                    },
                ));
            }
            tokio::time::sleep(HANDOVER_POLL).await;
        }
    };
    let status = tokio::time::timeout(HANDOVER_DEADLINE, opened).await.map_err(|_| {
        ApiError::new(ErrorCode::Unavailable, format!("the pool is not open yet. See {}", log_path.display()))
    })??;
    context.print(&status, |status| say!("{} is open (pid {})", print::clean(&status.pool), status.pid));
    Ok(())
}

/// Shows what happens until the pool is closed, by whatever side.
async fn follow(context: &Context, local: Local, daemon: Option<Daemon>) -> Result<(), ApiError> {
    let own = daemon.is_some();
    let (events, mut requests) = local.split();
    requests.send(Request::Subscribe).await?;
    let chat = !context.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let outcome = if chat { converse(events, requests).await } else { print_events(context, events).await };
    match daemon {
        // The process ends with its chat; one that was running before stays.
        Some(daemon) if own => daemon.stop().await.and(outcome),
        _ => outcome,
    }
}

async fn print_events(context: &Context, mut events: LocalEvents) -> Result<(), ApiError> {
    let mut told = Signals::new()?;
    loop {
        let line = tokio::select! {
            line = events.next() => line?,
            () = told.next() => return Ok(()),
        };
        let Some(line) = line else { return Ok(()) };
        if let ReplyBody::Event(event) = line.body {
            if context.json {
                say!("{}", serde_json::to_string(&event).expect("events have string keys only"));
            } else if let Some(text) = print::event(&event) {
                say!("{text}");
            }
            if let Event::Closed { reason, text } = event {
                return closed(&reason, text);
            }
        }
    }
}

fn closed(reason: &str, text: String) -> Result<(), ApiError> {
    match reason {
        "asked" => Ok(()),
        _ => Err(ApiError::new(ErrorCode::Denied, text)),
    }
}

/// What a typed line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Nothing,
    Ask(Request),
    Quit,
    Help(String),
}

const HELP: &str = "  text               say it            //text             say /text
  /who               who is here       /history [N]       the newest messages
  /send PATH...      offer files       /offers            what is on offer
  /withdraw OFFER    take one back     /get OFFER [DIR]   download
  /cancel OFFER      stop a download   /quit              leave (Ctrl-D does, too)
  A path with spaces stands in \"quotes\"; ~ is your home folder.";

fn typed(line: &str) -> Typed {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Typed::Nothing } else { Typed::Ask(Request::Say { text: line.to_string() }) };
    };
    if command.starts_with('/') {
        return Typed::Ask(Request::Say { text: command.to_string() });
    }
    let Some(words) = words(command) else { return Typed::Help("A quote is not closed".into()) };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (verb, rest) = words.split_first().map_or(("", &[][..]), |(verb, rest)| (*verb, rest));
    match (verb, rest) {
        ("quit" | "q", []) => Typed::Quit,
        ("who", []) => Typed::Ask(Request::Status),
        ("offers", []) => Typed::Ask(Request::Offers),
        ("history", []) => Typed::Ask(Request::History { limit: FIRST_MESSAGES, before: None }),
        ("history", [count]) if count.parse::<usize>().is_ok() => {
            Typed::Ask(Request::History { limit: count.parse().unwrap_or(FIRST_MESSAGES), before: None })
        }
        ("send", [_, ..]) => Typed::Ask(Request::Send { paths: rest.iter().map(|text| path(text)).collect() }),
        ("get", [offer]) => Typed::Ask(Request::Get { offer: offer.to_string(), to: path(".") }),
        ("get", [offer, folder]) => Typed::Ask(Request::Get { offer: offer.to_string(), to: path(folder) }),
        ("withdraw", [offer]) => Typed::Ask(Request::Withdraw { offer: offer.to_string() }),
        ("cancel", [offer]) => Typed::Ask(Request::Cancel { offer: offer.to_string() }),
        ("help" | "?", _) => Typed::Help(HELP.into()),
        _ => Typed::Help(format!("/{} is not understood like that.\n{HELP}", print::clean(verb))),
    }
}

/// A path as it was typed, from this process's folder.
fn path(text: &str) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let typed = match (text.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    };
    std::path::absolute(&typed).unwrap_or(typed)
}

/// Words, of which those with spaces stand in quotes; `None` when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Gives the terminal back as it was: the thread that reads lines may hold it in its own mode when the chat ends.
struct Terminal {
    before: Option<Termios>,
}

impl Terminal {
    fn take() -> Terminal {
        Terminal { before: tcgetattr(std::io::stdin()).ok() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        // Only what a prompt leaves behind is undone; after a line that was answered with the end there is none.
        if tcgetattr(std::io::stdin()).is_ok_and(|now| now.local_modes != before.local_modes) {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
            // No pasting in brackets any more, and the next prompt is not ours: it gets a line of its own.
            let mut out = std::io::stdout();
            let _ = out.write_all(b"\x1b[?2004l\r\n").and_then(|()| out.flush());
        }
    }
}

/// A chat on a terminal: a thread reads lines, this task prints above the prompt.
async fn converse(mut events: LocalEvents, mut requests: super::local::LocalRequests) -> Result<(), ApiError> {
    let no_terminal =
        |error: ReadlineError| ApiError::new(ErrorCode::Internal, format!("the terminal refuses: {error}"));
    let mut told = Signals::new()?;
    let _terminal = Terminal::take();
    let mut editor = DefaultEditor::new().map_err(no_terminal)?;
    let mut printer = editor.create_external_printer().map_err(no_terminal)?;
    let (lines, mut typed_lines) = mpsc::channel::<String>(16);
    std::thread::spawn(move || {
        while let Ok(line) = editor.readline("> ") {
            let _ = editor.add_history_entry(&line);
            let last = typed(&line) == Typed::Quit;
            if lines.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    let mut show = move |text: String| {
        let _ = printer.print(format!("{text}\n"));
    };
    // What was said lately, less what has been shown by then as news.
    let first = requests.send(Request::History { limit: FIRST_MESSAGES, before: None }).await?;
    let mut shown = Some(BTreeSet::new());
    loop {
        tokio::select! {
            line = events.next() => {
                let Some(line) = line? else { return Ok(()) };
                match line.body {
                    ReplyBody::Event(Event::Closed { reason, text }) => return closed(&reason, text),
                    ReplyBody::Event(event) => {
                        if let (Event::Message(message), Some(shown)) = (&event, &mut shown) {
                            shown.insert(message.id.clone());
                        }
                        if let Some(text) = print::event(&event) {
                            show(text);
                        }
                    }
                    ReplyBody::Ok(Reply::History(mut messages)) if line.id == first => {
                        let shown = shown.take().unwrap_or_default();
                        messages.retain(|message| !shown.contains(&message.id));
                        messages.iter().for_each(|message| show(print::message_in_history(message)));
                    }
                    ReplyBody::Ok(reply) => {
                        if let Some(text) = answer(&reply) {
                            show(text);
                        }
                    }
                    ReplyBody::Error(error) => show(format!("! {}", print::clean_lines(&error.message))),
                }
            }
            line = typed_lines.recv() => match line.as_deref().map(typed) {
                None | Some(Typed::Quit) => return Ok(()),
                Some(Typed::Nothing) => {}
                Some(Typed::Help(text)) => show(text),
                Some(Typed::Ask(request)) => {
                    requests.send(request).await?;
                }
            },
            () = told.next() => return Ok(()),
        }
    }
}

/// What an answer looks like in the chat. What one said oneself comes as an event.
fn answer(reply: &Reply) -> Option<String> {
    let lines = |lines: Vec<String>| Some(lines.join("\n")).filter(|text| !text.is_empty());
    match reply {
        Reply::Done | Reply::Message(_) | Reply::Offered(_) => None,
        Reply::Status(status) => {
            lines(status.present.iter().map(|device| format!("  {}", print::device(device))).collect())
        }
        Reply::History(messages) => lines(messages.iter().map(print::message_in_history).collect()),
        Reply::Offers(offers) if offers.is_empty() => Some("  nothing is on offer".into()),
        Reply::Offers(offers) => lines(offers.iter().map(print::offer).collect()),
        Reply::Downloaded(download) => Some(format!("* {}", print::downloaded(download).join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_lines_mean_what_help_says() {
        assert_eq!(typed("  hello /there "), Typed::Ask(Request::Say { text: "hello /there".into() }));
        assert_eq!(typed(" "), Typed::Nothing);
        assert_eq!(typed("/quit"), Typed::Quit);
        assert_eq!(typed("/who"), Typed::Ask(Request::Status));
        assert_eq!(typed("/history 5"), Typed::Ask(Request::History { limit: 5, before: None }));
        assert_eq!(typed("//etc is a folder"), Typed::Ask(Request::Say { text: "/etc is a folder".into() }));
        let paths = vec![PathBuf::from("/a b/c"), PathBuf::from("/it's")];
        assert_eq!(typed(r#"/send '/a b/c' "/it's""#), Typed::Ask(Request::Send { paths }));
        assert!(matches!(typed("/send \"/a b"), Typed::Help(_)));
        let paths = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(typed("/send /a /b"), Typed::Ask(Request::Send { paths }));
        let wanted = Request::Get { offer: "3f".into(), to: PathBuf::from("/tmp") };
        assert_eq!(typed("/get 3f /tmp"), Typed::Ask(wanted));
        assert!(matches!(typed("/get"), Typed::Help(_)));
        assert!(matches!(typed("/nonsense"), Typed::Help(text) if text.starts_with("/nonsense")));
    }
}
