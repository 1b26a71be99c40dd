//! `open`: being present in a pool, with a chat in this terminal, as JSON lines, or detached.
//!
//! One process has the pool open; this one becomes it, starts it in the background, or attaches a chat to the one that
//! already has this pool open. One that has another pool open is asked to leave first: a device is in one place.

use super::local::{Local, LocalEvents};
use super::{Context, pools, print};
use crate::api::{ApiError, ErrorCode, Event, Reply, ReplyBody, Request, StatusView};
use crate::client::Cluster;
use crate::daemon::{Daemon, DaemonOptions};
use crate::home::{Home, KnownPool};
use clap::Args;
use rockpool_proto::PoolId;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a detached process may take to have the pool open, and another one to let go of the home.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(10);
const HANDOVER_POLL: Duration = Duration::from_millis(25);

/// `open`.
#[derive(Args, Debug)]
pub(super) struct OpenArgs {
    /// The pool's name, or its id or an unambiguous beginning of it
    pool: String,
    /// Stay in the background, and give this terminal back once the pool is open
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(context: &Context, args: OpenArgs) -> Result<(), ApiError> {
    context.home.must_session()?;
    let cluster = Cluster::new(&context.home)?;
    let pool = pools::find(context, &cluster, &args.pool).await?;
    if let Some(running) = leave_other(&context.home, &pool).await? {
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
    // The nodes may have changed since; one that is known now can be tried when another is gone.
    if let Err(error) = cluster.describe().await {
        tracing::debug!(%error, "the cluster cannot be described");
    }
    let options = DaemonOptions {
        home: context.home.clone(),
        cluster,
        pool: PoolId(pools::id_bytes(&pool)?),
        pool_name: pool.name.clone(),
    };
    let daemon = Daemon::start(options).await?;
    let local = Local::connect(&context.home).await?;
    follow(context, local, Some(daemon)).await
}

/// Asks a process that has another pool open to leave it. Answers how things stand if it is this pool that is open.
async fn leave_other(home: &Home, pool: &KnownPool) -> Result<Option<StatusView>, ApiError> {
    let Some(mut local) = Local::try_connect(home).await? else { return Ok(None) };
    if let Reply::Status(status) = local.ask(Request::Status, drop).await? {
        if status.pool_id == pool.pool_id {
            return Ok(Some(status));
        }
        eprintln!("Leaving {} first: a device is in one pool at a time", print::clean(&status.pool));
    }
    local.ask(Request::Close, drop).await?;
    let (mut events, _requests) = local.split();
    let gone = async {
        while let Ok(Some(_)) = events.next().await {}
        while home.lock_daemon().is_err() {
            tokio::time::sleep(HANDOVER_POLL).await;
        }
    };
    tokio::time::timeout(HANDOVER_DEADLINE, gone).await.map_err(|_| {
        ApiError::new(ErrorCode::Unavailable, "the process with the other pool does not end. Stop it, then try again")
    })?;
    Ok(None)
}

async fn detach(context: &Context, pool: &KnownPool) -> Result<(), ApiError> {
    let program = std::env::current_exe()
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("this program cannot find itself: {error}")))?;
    let log_path = context.home.daemon_log_path();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|error| ApiError::new(ErrorCode::Disk, format!("cannot write {}: {error}", log_path.display())))?;
    let log_start = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let mut child = Command::new(program)
        .arg("--home")
        .arg(context.home.root())
        .args(["--json", "-v", "open", &pool.pool_id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot start the background process: {error}")))?;
    let opened = async {
        loop {
            if let Some(mut local) = Local::try_connect(&context.home).await?
                && let Reply::Status(status) = local.ask(Request::Status, drop).await?
            {
                return Ok(status);
            }
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read(&log_path).unwrap_or_default();
                let said = String::from_utf8_lossy(&log[log.len().min(log_start as usize)..]).trim().to_string();
                return Err(ApiError::new(
                    ErrorCode::Unavailable,
                    format!(
                        "the background process ended ({status}): {}",
                        if said.is_empty() { "it said nothing" } else { &said }
                    ),
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
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("signals cannot be awaited: {error}")))?;
    loop {
        let line = tokio::select! {
            line = events.next() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
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

const HELP: &str = "\
  text               say it            /history [N]       the newest messages
  /who               who is here       /offers            what is on offer
  /send PATH...      offer files       /get OFFER [DIR]   download
  /withdraw OFFER    take an offer back
  /quit              leave (Ctrl-D does, too)";

fn typed(line: &str) -> Typed {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Typed::Nothing } else { Typed::Ask(Request::Say { text: line.to_string() }) };
    };
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let path = |text: &str| std::path::absolute(Path::new(text)).unwrap_or_else(|_| PathBuf::from(text));
    match (verb, rest.as_slice()) {
        ("quit" | "q", []) => Typed::Quit,
        ("who", []) => Typed::Ask(Request::Status),
        ("offers", []) => Typed::Ask(Request::Offers),
        ("history", []) => Typed::Ask(Request::History { limit: 20 }),
        ("history", [count]) if count.parse::<usize>().is_ok() => {
            Typed::Ask(Request::History { limit: count.parse().unwrap_or(20) })
        }
        ("send", [_, ..]) => Typed::Ask(Request::Send { paths: rest.iter().map(|text| path(text)).collect() }),
        ("get", [offer]) => Typed::Ask(Request::Get { offer: offer.to_string(), to: path(".") }),
        ("get", [offer, folder]) => Typed::Ask(Request::Get { offer: offer.to_string(), to: path(folder) }),
        ("withdraw", [offer]) => Typed::Ask(Request::Withdraw { offer: offer.to_string() }),
        ("help" | "?", _) => Typed::Help(HELP.into()),
        _ => Typed::Help(format!("/{verb} is not understood like that.\n{HELP}")),
    }
}

/// A chat on a terminal: a thread reads lines, this task prints above the prompt.
async fn converse(mut events: LocalEvents, mut requests: super::local::LocalRequests) -> Result<(), ApiError> {
    let no_terminal =
        |error: ReadlineError| ApiError::new(ErrorCode::Internal, format!("the terminal refuses: {error}"));
    let mut editor = DefaultEditor::new().map_err(no_terminal)?;
    let mut printer = editor.create_external_printer().map_err(no_terminal)?;
    let (lines, mut typed_lines) = mpsc::channel::<String>(16);
    std::thread::spawn(move || {
        while let Ok(line) = editor.readline("> ") {
            let _ = editor.add_history_entry(&line);
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut show = move |text: String| {
        let _ = printer.print(format!("{text}\n"));
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("signals cannot be awaited: {error}")))?;
    loop {
        tokio::select! {
            line = events.next() => {
                let Some(line) = line? else { return Ok(()) };
                match line.body {
                    ReplyBody::Event(Event::Closed { reason, text }) => return closed(&reason, text),
                    ReplyBody::Event(event) => {
                        if let Some(text) = print::event(&event) {
                            show(text);
                        }
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
            _ = terminate.recv() => return Ok(()),
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
        Reply::History(messages) => lines(messages.iter().map(print::message).collect()),
        Reply::Offers(offers) if offers.is_empty() => Some("  nothing is on offer".into()),
        Reply::Offers(offers) => lines(offers.iter().map(print::offer).collect()),
        Reply::Downloaded(download) => Some(format!(
            "* downloaded {} in {:.1} s",
            print::bytes(download.bytes),
            download.elapsed_ms as f64 / 1000.0
        )),
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
        assert_eq!(typed("/history 5"), Typed::Ask(Request::History { limit: 5 }));
        let paths = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(typed("/send /a /b"), Typed::Ask(Request::Send { paths }));
        let wanted = Request::Get { offer: "3f".into(), to: PathBuf::from("/tmp") };
        assert_eq!(typed("/get 3f /tmp"), Typed::Ask(wanted));
        assert!(matches!(typed("/get"), Typed::Help(_)));
        assert!(matches!(typed("/nonsense"), Typed::Help(text) if text.starts_with("/nonsense")));
    }
}
