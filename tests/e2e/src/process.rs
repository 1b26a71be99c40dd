//! Child processes.

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(10);

/// Where the binaries are.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("ROCKPOOL_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().context("the test has no folder")?;
            // Tests run from target/release/deps, the demonstration from target/release.
            if folder.ends_with("deps") {
                folder.parent().context("deps has no parent")?.to_path_buf()
            } else {
                folder.to_path_buf()
            }
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is not built. Run: cargo build --release -p rockpool-sqlnode -p rockpool-peer", path.display());
    }
    Ok(path)
}

/// Calls `condition` until it answers something, or fails with what was awaited.
pub fn wait_until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return Ok(answer);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} in vain for: {what}");
        }
        std::thread::sleep(POLL);
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The same command, whose files may not get longer than `file_bytes_max`: a write beyond it fails, as on a full disk.
pub fn limited(command: Command, file_bytes_max: Option<u64>) -> Command {
    let Some(bytes) = file_bytes_max else { return command };
    let mut shell = Command::new("sh");
    // The limit counts blocks of 512 bytes. Without the trap, the signal would end the process instead of its write.
    shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512)).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// A child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it is called in messages.
    pub name: String,
    /// Where its standard error goes.
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard error in `log`. Standard output goes there too, unless `piped`.
    pub fn start(name: &str, mut command: Command, log: &Path, piped: bool) -> Result<Process> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?);
        if piped {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(file);
        }
        let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Process { child, name: name.to_string(), log: log.to_path_buf() })
    }

    /// Its standard output, once.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a child has a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait_until(&what, deadline, || self.child.try_wait().ok().flatten())
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(deadline)
    }

    /// The last lines of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// An error that carries the log's end.
    pub fn complain(&self, what: &str) -> anyhow::Error {
        anyhow!("{}: {what}\n--- end of {} ---\n{}", self.name, self.log.display(), self.log_tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
