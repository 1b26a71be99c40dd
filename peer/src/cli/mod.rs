//! The command line: what can be typed, and which part answers.
//!
//! ```text
//!   account   signup login logout whoami, device ls|rename|revoke, server add|show       cluster
//!   pools     pool create|ls|invite|join|leave                                           cluster
//!   open      open: presence, interactive chat, detaching                                daemon
//!   talk      status say retract history offers send withdraw get cancel close           local socket
//! ```
//!
//! Every command prints for people, or with `--json` one JSON value (several lines where things go on for a while).
//! Exit statuses: [`crate::api::ErrorCode::exit_code`]. Secrets come from a prompt, standard input or a file.

/// `println!` that ends the process quietly when nobody reads any more, as in `rockpool history | head`.
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::print::line(format_args!($($argument)*)) };
}

/// `eprintln!` that does not mind when nobody reads.
macro_rules! note {
    ($($argument:tt)*) => { $crate::cli::print::note(format_args!($($argument)*)) };
}

mod account;
mod local;
mod open;
mod pools;
mod print;
mod secret;
mod talk;

use crate::api::{ApiError, ErrorCode};
use crate::home::Home;
use clap::{Args, Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Talk and share files with your pools, device to device.
#[derive(Parser, Debug)]
#[command(name = "rockpool", version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
First steps:
  rockpool server add rockpool://HOST:7400/#FINGERPRINT   the operator gives you this address
  rockpool signup ann                                     asks for a password
  rockpool pool create reef                               or: rockpool pool join rockpool-invite:...
  rockpool open reef                                      chat; /help inside shows more
In another terminal while a pool is open:
  rockpool send ./photos        rockpool offers        rockpool get 3f9a --to ~/Downloads

Exit status: 0 done, 1 a fault of this program, 2 wrong use, 3 not found, 4 not allowed, 5 out of reach,
6 disk, 7 damaged data, 8 a limit, 130 interrupted.";

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Folder with this device's keys, session and history [default: $ROCKPOOL_HOME or ~/.rockpool]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make an account; this becomes its first device
    Signup(account::SignupArgs),
    /// Log in on this device, adding it to the account when it is new
    Login(account::LoginArgs),
    /// End the login session; keys and history stay
    Logout,
    /// Who is logged in here
    Whoami,
    /// The devices of your account
    #[command(subcommand)]
    Device(account::DeviceCommand),
    /// The cluster that this device talks to
    #[command(subcommand)]
    Server(account::ServerCommand),
    /// Your pools
    #[command(subcommand)]
    Pool(pools::PoolCommand),
    /// Be present in a pool: chat here, serve the other commands, share files. Leaves the pool that was open
    Open(open::OpenArgs),
    /// How the open pool stands
    Status,
    /// Write a message into the open pool
    Say(talk::SayArgs),
    /// Take back one of your messages
    Retract(talk::RetractArgs),
    /// The messages of the open pool
    History(talk::HistoryArgs),
    /// What is on offer in the open pool
    Offers,
    /// Offer files or folders to the open pool
    Send(talk::SendArgs),
    /// Take back one of your offers
    Withdraw(talk::OfferArgs),
    /// Download an offer; run it again to resume
    Get(talk::GetArgs),
    /// Stop a download and keep what has arrived
    Cancel(talk::OfferArgs),
    /// Leave the open pool's presence and end its process
    Close,
}

/// Reads the command line, carries it out, and decides the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    keep_no_core();
    start_logging(cli.common.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("rockpool: the system gives no threads: {error}");
            return ExitCode::from(ErrorCode::Internal.exit_code());
        }
    };
    let json = cli.common.json;
    let outcome = runtime.block_on(run(cli));
    // A prompt may still be waiting in a thread for a line that will never come.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if json {
                say!("{}", serde_json::json!({ "error": error }));
            } else {
                note!("rockpool: {}", print::clean_lines(&error.message));
            }
            ExitCode::from(error.code.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), ApiError> {
    let home = Home::open(cli.common.home.as_deref())?;
    let context = Context { home, json: cli.common.json };
    match cli.command {
        Command::Signup(args) => account::signup(&context, args).await,
        Command::Login(args) => account::login(&context, args).await,
        Command::Logout => account::logout(&context).await,
        Command::Whoami => account::whoami(&context).await,
        Command::Device(command) => account::device(&context, command).await,
        Command::Server(command) => account::server(&context, command).await,
        Command::Pool(command) => pools::run(&context, command).await,
        Command::Open(args) => open::run(&context, args).await,
        Command::Status => talk::status(&context).await,
        Command::Say(args) => talk::say(&context, args).await,
        Command::Retract(args) => talk::retract(&context, args).await,
        Command::History(args) => talk::history(&context, args).await,
        Command::Offers => talk::offers(&context).await,
        Command::Send(args) => talk::send(&context, args).await,
        Command::Withdraw(args) => talk::withdraw(&context, args).await,
        Command::Get(args) => talk::get(&context, args).await,
        Command::Cancel(args) => talk::cancel(&context, args).await,
        Command::Close => talk::close(&context).await,
    }
}

/// What every command works with.
struct Context {
    home: Home,
    json: bool,
}

impl Context {
    /// Prints a value as JSON, or calls `text` to print it for people.
    fn print<T: serde::Serialize>(&self, value: &T, text: impl FnOnce(&T)) {
        if self.json {
            let line = serde_json::to_string(value).expect("what is printed has string keys only");
            say!("{line}");
        } else {
            text(value);
        }
    }
}

/// A crash must not leave keys, passwords and messages in a core file.
fn keep_no_core() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core files stay possible");
    }
}

fn start_logging(verbose: u8) {
    // The WebRTC library calls each packet an error that comes too early or finds its network gone: thousands, in a chat.
    let level = match verbose {
        0 => "error,webrtc=off,rtc=off",
        1 => "rockpool_peer=info,rockpool_peer_core=info,warn,webrtc=off,rtc=off,rtc_dtls=error,rtc_ice=error",
        _ => "rockpool_peer=debug,rockpool_peer_core=debug,info,rtc=error,rtc_dtls=error,rtc_ice=error",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("ROCKPOOL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let signup = ["rockpool", "signup", "ann", "--display", "Ann", "--device", "laptop", "--password-file", "-"];
        assert!(Cli::try_parse_from(signup).is_ok());
        assert!(Cli::try_parse_from(["rockpool", "get", "3f", "--to", "/tmp", "--json"]).is_ok());
        assert!(Cli::try_parse_from(["rockpool", "pool", "invite", "reef", "--uses", "0"]).is_err());
        assert!(Cli::try_parse_from(["rockpool", "login", "ann", "--password", "secret"]).is_err(), "never from argv");
    }
}
