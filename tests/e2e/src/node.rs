//! One `rockpool-node`.

use crate::process::{Process, binary, free_port, limited, wait_until};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a node may take until it serves.
pub const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A node and its data folder. The process can end and be started again.
#[derive(Debug)]
pub struct Node {
    /// Its data folder.
    pub data: PathBuf,
    /// Its gRPC listener.
    pub grpc: String,
    /// Its PostgreSQL listener's port.
    pub pg_port: u16,
    /// Its HTTP listener.
    pub http: String,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// How long a file of its may get, when that is bounded.
    pub file_bytes_max: Option<u64>,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Node {
    /// A node that will keep its data in `data`, on free ports of the loopback.
    pub fn new(data: &Path) -> Result<Node> {
        Ok(Node {
            data: data.to_path_buf(),
            grpc: format!("127.0.0.1:{}", free_port()?),
            pg_port: free_port()?,
            http: format!("127.0.0.1:{}", free_port()?),
            process: None,
            file_bytes_max: None,
            log: data.with_extension("log"),
        })
    }

    /// Its `start` command.
    pub fn start_command(&self) -> Result<Command> {
        let mut command = Command::new(binary("rockpool-node")?);
        command
            .arg("start")
            .arg("--data")
            .arg(&self.data)
            .args(["--grpc", &self.grpc, "--http", &self.http])
            .args(["--pg", &format!("127.0.0.1:{}", self.pg_port)]);
        Ok(limited(command, self.file_bytes_max))
    }

    /// Starts the process. `join` is the address of a member and a token.
    pub fn start(&mut self, join: Option<(&str, &str)>) -> Result<()> {
        let mut command = self.start_command()?;
        if let Some((address, token)) = join {
            command.args(["--join", address, "--token", token]);
        }
        let name = self.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.process = Some(Process::start(&name, command, &self.log, false)?);
        Ok(())
    }

    /// Waits until it serves.
    pub fn wait_ready(&mut self) -> Result<()> {
        let http = self.http.clone();
        let process = self.process.as_mut().context("the node was not started")?;
        let ready = wait_until("/ready", READY_DEADLINE, || {
            if !process.is_running() {
                return Some(false);
            }
            http_get(&http, "/ready").ok().filter(|(status, _)| *status == 200).map(|_| true)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(process.complain("ended before it was ready")),
            Err(error) => Err(process.complain(&error.to_string())),
        }
    }

    /// A token with which one more node may join.
    pub fn token(&self) -> Result<String> {
        let output = self.run(&["token"])?;
        let text = String::from_utf8(output.stdout)?;
        anyhow::ensure!(output.status.success(), "token failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(text.trim().to_string())
    }

    /// `status --json`.
    pub fn status(&self) -> Result<Value> {
        let output = self.run(&["status", "--json"])?;
        anyhow::ensure!(output.status.success(), "status failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The address to hand to people.
    pub fn address(&self) -> Result<String> {
        let log = std::fs::read_to_string(&self.log)?;
        let start = log.rfind("rockpool://").context("the node printed no address")?;
        Ok(log[start..].split_whitespace().next().unwrap_or_default().to_string())
    }

    /// The PGPASSFILE that it wrote.
    pub fn pgpass(&self) -> PathBuf {
        self.data.join("pgpass")
    }

    /// Kills it as a power failure would.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill9()?;
        }
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Result<std::process::Output> {
        let (command, rest) = words.split_first().context("a command")?;
        let mut process = Command::new(binary("rockpool-node")?);
        process.arg(command).arg("--data").arg(&self.data).args(rest);
        Ok(process.output()?)
    }
}

/// A GET over plain HTTP/1.1: status and body.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let status = reply.split_whitespace().nth(1).context("no status line")?.parse()?;
    let body = reply.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default();
    Ok((status, body))
}
