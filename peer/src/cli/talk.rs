//! Commands that the process with the open pool carries out.

use super::local::Local;
use super::{Context, print};
use crate::api::{ApiError, ErrorCode, Event, LINE_BYTES_MAX, MessageView, ProgressView, Reply, Request};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `say`.
#[derive(Args, Debug)]
pub(super) struct SayArgs {
    /// The message; "-" reads it from standard input
    #[arg(required = true, num_args = 1.., allow_hyphen_values = true)]
    text: Vec<String>,
}

/// `retract`.
#[derive(Args, Debug)]
pub(super) struct RetractArgs {
    /// The message's id, as history --json shows it
    message: String,
}

/// `history`.
#[derive(Args, Debug)]
pub(super) struct HistoryArgs {
    /// How many of the newest messages
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
}

/// `send`.
#[derive(Args, Debug)]
pub(super) struct SendArgs {
    /// Files and folders; together they are one offer
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// `withdraw` and `cancel`.
#[derive(Args, Debug)]
pub(super) struct OfferArgs {
    /// The offer's id or an unambiguous beginning of it
    offer: String,
}

/// `get`.
#[derive(Args, Debug)]
pub(super) struct GetArgs {
    /// The offer's id or an unambiguous beginning of it
    offer: String,
    /// The folder to download into; made where there is none. What lies there is never overwritten, and what of the
    /// offer lies there already is not downloaded again
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
}

pub(super) async fn status(context: &Context) -> Result<(), ApiError> {
    match Local::connect(&context.home).await?.ask(Request::Status, drop).await? {
        Reply::Status(status) => context.print(&status, print::status),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

pub(super) async fn say(context: &Context, args: SayArgs) -> Result<(), ApiError> {
    let text = match args.text.as_slice() {
        // Far more than a message may have, so that the refusal says how much it has.
        [dash] if dash == "-" => std::io::read_to_string(std::io::stdin().take(LINE_BYTES_MAX as u64 / 2))
            .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("cannot read the message: {error}")))?,
        words => words.join(" "),
    };
    let text = text.trim_end_matches('\n').to_string();
    match Local::connect(&context.home).await?.ask(Request::Say { text }, drop).await? {
        Reply::Message(message) => context.print(&message, |message| say!("{}", print::message(message))),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

pub(super) async fn retract(context: &Context, args: RetractArgs) -> Result<(), ApiError> {
    done(context, Request::Retract { message: args.message }, "Taken back").await
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> Result<(), ApiError> {
    let mut local = Local::connect(&context.home).await?;
    let mut messages: Vec<MessageView> = Vec::new();
    // Newest part first, until there are enough or an answer is empty.
    while messages.len() < args.limit {
        let limit = args.limit - messages.len();
        let before = messages.first().map(|message| message.id.clone());
        match local.ask(Request::History { limit, before }, drop).await? {
            Reply::History(older) if older.is_empty() => break,
            Reply::History(older) => drop(messages.splice(0..0, older)),
            other => return Err(unexpected(&other)),
        }
    }
    context.print(&messages, |messages| {
        messages.iter().for_each(|message| say!("{}", print::message_in_history(message)));
    });
    Ok(())
}

pub(super) async fn offers(context: &Context) -> Result<(), ApiError> {
    match Local::connect(&context.home).await?.ask(Request::Offers, drop).await? {
        Reply::Offers(offers) => context.print(&offers, |offers| {
            offers.iter().for_each(|offer| say!("{}", print::offer(offer)));
        }),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

pub(super) async fn send(context: &Context, args: SendArgs) -> Result<(), ApiError> {
    let paths = args.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
    let mut local = Local::connect(&context.home).await?;
    let mut bar = Progress::new(context.json);
    let reply = local.ask(Request::Send { paths }, |event| bar.show(&event)).await;
    bar.clear();
    match reply? {
        Reply::Offered(offer) => context.print(&offer, |offer| say!("{}", print::offer(offer))),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

pub(super) async fn withdraw(context: &Context, args: OfferArgs) -> Result<(), ApiError> {
    done(context, Request::Withdraw { offer: args.offer }, "Withdrawn").await
}

pub(super) async fn cancel(context: &Context, args: OfferArgs) -> Result<(), ApiError> {
    done(context, Request::Cancel { offer: args.offer }, "Stopped; what has arrived is kept").await
}

pub(super) async fn get(context: &Context, args: GetArgs) -> Result<(), ApiError> {
    let request = Request::Get { offer: args.offer.clone(), to: absolute(&args.to)? };
    let mut local = Local::connect(&context.home).await?;
    let mut bar = Progress::new(context.json);
    let outcome = tokio::select! {
        reply = local.ask(request, |event| bar.show(&event)) => reply,
        _ = tokio::signal::ctrl_c() => {
            let stop = Request::Cancel { offer: args.offer };
            match Local::connect(&context.home).await?.ask(stop, drop).await {
                // It had ended at the same moment.
                Err(error) if error.code != ErrorCode::NotFound => Err(error),
                _ => Err(ApiError::new(ErrorCode::Cancelled, "stopped. Run the same command again to go on from here")),
            }
        }
    };
    bar.clear();
    match outcome? {
        Reply::Downloaded(download) => context.print(&download, |download| {
            print::downloaded(download).iter().for_each(|line| say!("{line}"));
        }),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

pub(super) async fn close(context: &Context) -> Result<(), ApiError> {
    match Local::connect(&context.home).await?.ask(Request::Close, drop).await? {
        // Whoever opens a pool right after this finds the home free.
        Reply::Done => super::open::wait_until_closed(&context.home).await,
        other => return Err(unexpected(&other)),
    }
    context.print(&serde_json::json!({ "done": true }), |_| say!("Closed"));
    Ok(())
}

async fn done(context: &Context, request: Request, text: &str) -> Result<(), ApiError> {
    match Local::connect(&context.home).await?.ask(request, drop).await? {
        Reply::Done => context.print(&serde_json::json!({ "done": true }), |_| say!("{text}")),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, ApiError> {
    let refused = |why: &str| ApiError::new(ErrorCode::Invalid, format!("{}: {why}", path.to_string_lossy()));
    let absolute = std::path::absolute(path).map_err(|error| refused(&error.to_string()))?;
    // Requests and offers are text.
    if absolute.to_str().is_none() {
        return Err(refused("a path whose names are not UTF-8 cannot be used; rename it, or go by another path"));
    }
    Ok(absolute)
}

fn unexpected(reply: &Reply) -> ApiError {
    tracing::debug!(?reply, "an answer to another question");
    ApiError::new(ErrorCode::Internal, "the open pool's process answered another question. Is it of another version?")
}

/// A bar on a terminal, JSON lines with `--json`, a line now and then elsewhere.
pub(super) struct Progress {
    json: bool,
    terminal: bool,
    bar: Option<ProgressBar>,
    said_percent: u64,
    said_waiting: bool,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stderr().is_terminal(), bar: None, said_percent: 0, said_waiting: false }
    }

    /// Shows how far hashing or downloading is.
    pub(super) fn show(&mut self, event: &Event) {
        if self.json {
            say!("{}", serde_json::to_string(event).expect("events have string keys only"));
            return;
        }
        match event {
            Event::Hashing { done_bytes, total_bytes, .. } => {
                self.draw("reading", *done_bytes, *total_bytes, String::new())
            }
            Event::Progress(ProgressView {
                done_bytes,
                total_bytes,
                done_files,
                total_files,
                seeders,
                waiting,
                ..
            }) => {
                if !self.terminal && std::mem::replace(&mut self.said_waiting, waiting.is_some()) != waiting.is_some() {
                    match waiting {
                        Some(reason) => note!("waiting: {} (it goes on by itself)", print::clean(reason)),
                        None => note!("going on"),
                    }
                }
                let note = match waiting {
                    Some(reason) => format!("waiting: {}", print::clean(reason)),
                    None if *total_files > 1 => format!("{done_files}/{total_files} files, from {seeders}"),
                    None => format!("from {seeders}"),
                };
                self.draw("getting", *done_bytes, *total_bytes, note);
            }
            other => {
                if let Some(line) = print::event(other) {
                    match &self.bar {
                        Some(bar) => bar.println(line),
                        None => note!("{line}"),
                    }
                }
            }
        }
    }

    fn draw(&mut self, what: &'static str, done: u64, total: u64, note: String) {
        if !self.terminal {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            if percent >= self.said_percent + 10 {
                self.said_percent = percent - percent % 10;
                note!("{}", format!("{what} {percent} % of {}  {note}", print::bytes(total)).trim_end());
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}";
            let bar = ProgressBar::new(total);
            bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
            bar.set_prefix(what);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(note);
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
