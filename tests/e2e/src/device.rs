//! One device: a home folder, and `rockpool` run in it.

use crate::process::{Process, binary, limited, spawn};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status; `None` for a signal.
    pub code: Option<i32>,
    /// The last JSON line on standard output.
    pub json: Value,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its home.
    pub home: PathBuf,
    /// What tests call it.
    pub name: String,
    /// How long a file of its processes may get, when that is bounded.
    pub file_bytes_max: Option<u64>,
}

impl Device {
    /// A device called `name` with its home below `root`, which knows the cluster at `address`.
    pub fn new(root: &Path, name: &str, address: &str) -> Result<Device> {
        let device = Device { home: root.join(name), name: name.to_string(), file_bytes_max: None };
        device.must(&["server", "add", address])?;
        Ok(device)
    }

    /// A command of this device.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("rockpool")?);
        command.arg("--home").arg(&self.home).arg("--json").args(words);
        Ok(limited(command, self.file_bytes_max))
    }

    /// Runs a command to its end, with `input` on its standard input.
    pub fn run_with(&self, words: &[&str], input: &str) -> Result<Outcome> {
        let mut command = self.command(words)?;
        let (mut child, _listed) = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let mut stdin = child.stdin.take().context("standard input is piped")?;
        // A command that reads nothing may have closed its end: no harm.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Outcome { code: output.status.code(), json, stdout, stderr })
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Result<Outcome> {
        self.run_with(words, "")
    }

    /// Runs a command that must succeed, and answers what it printed.
    pub fn must(&self, words: &[&str]) -> Result<Value> {
        self.must_with(words, "")
    }

    /// The same with something on standard input.
    pub fn must_with(&self, words: &[&str], input: &str) -> Result<Value> {
        let outcome = self.run_with(words, input)?;
        if outcome.code != Some(0) {
            bail!(
                "{}: rockpool {} failed ({:?}): {}{}",
                self.name,
                words.join(" "),
                outcome.code,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(outcome.json)
    }

    /// Signs up a new account with this device.
    pub fn sign_up(&self, login: &str, display: &str, password: &str) -> Result<Value> {
        let words = ["signup", login, "--display", display, "--device", &self.name, "--password-file", "-"];
        self.must_with(&words, &format!("{password}\n"))
    }

    /// Logs this device in.
    pub fn log_in(&self, login: &str, password: &str) -> Result<Value> {
        let words = ["login", login, "--device", &self.name, "--password-file", "-"];
        self.must_with(&words, &format!("{password}\n"))
    }

    /// Opens a pool and waits until it is open.
    pub fn open(&self, pool: &str) -> Result<OpenPool> {
        let log = self.home.join("open.log");
        let mut command = self.command(&["-v", "open", pool])?;
        command.env("RUST_BACKTRACE", "1");
        let mut process = Process::start(&self.name, command, &log, true)?;
        let stdout = process.take_stdout().context("standard output is piped")?;
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let at = Instant::now();
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if sender.send((at, event)).is_err() {
                    return;
                }
            }
        });
        let mut open = OpenPool { process, events, seen: Vec::new() };
        open.wait_for("opened", Duration::from_secs(20), |event| event["event"] == "opened")?;
        Ok(open)
    }
}

/// A process that has a pool open, and what it reported.
#[derive(Debug)]
pub struct OpenPool {
    /// The process.
    pub process: Process,
    events: Receiver<(Instant, Value)>,
    seen: Vec<(Instant, Value)>,
}

impl OpenPool {
    /// Waits for an event, one that came already included.
    pub fn wait_for(
        &mut self,
        what: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<(Instant, Value)> {
        if let Some(found) = self.seen.iter().find(|(_, event)| wanted(event)) {
            return Ok(found.clone());
        }
        let until = Instant::now() + deadline;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event.1) {
                        return Ok(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seen: Vec<String> =
                        self.seen.iter().rev().take(12).rev().map(|(_, event)| event.to_string()).collect();
                    return Err(self
                        .process
                        .complain(&format!("no {what} within {deadline:?}; last events:\n{}", seen.join("\n"))));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.process.complain(&format!("ended before {what}")));
                }
            }
        }
    }

    /// Waits for a message with this text.
    pub fn wait_message(&mut self, text: &str) -> Result<Value> {
        let what = format!("message {text:?}");
        let wanted = |event: &Value| event["event"] == "message" && event["text"] == text;
        self.wait_for(&what, Duration::from_secs(15), wanted).map(|(_, event)| event)
    }

    /// Waits until a direct connection to the device called `name` stands.
    pub fn wait_linked(&mut self, name: &str) -> Result<()> {
        let what = format!("link to {name}");
        self.wait_for(&what, Duration::from_secs(20), |event| event["event"] == "linked" && event["device"] == name)?;
        Ok(())
    }

    /// Everything reported so far.
    pub fn seen(&mut self) -> impl Iterator<Item = &Value> {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        self.seen.iter().map(|(_, event)| event)
    }
}
