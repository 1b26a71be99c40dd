//! Child processes.

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// Children that were started and not waited for: an interrupted program ends them.
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn children() -> MutexGuard<'static, BTreeSet<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child's place on the list of those that an interruption ends.
#[derive(Debug)]
pub struct Listed(u32);

impl Drop for Listed {
    fn drop(&mut self) {
        children().remove(&self.0);
    }
}

/// Starts a child that ends with this program, if the program asked for that by [`on_interrupt`].
pub fn spawn(command: &mut Command) -> std::io::Result<(Child, Listed)> {
    // Locked until it is on the list, so that none is started while an interruption ends them.
    let mut children = children();
    let child = command.spawn()?;
    children.insert(child.id());
    let listed = Listed(child.id());
    Ok((child, listed))
}

/// From now on SIGINT, SIGTERM and SIGHUP end all children, run `tidy`, and end this program with the status it answers.
pub fn on_interrupt(tidy: impl FnOnce() -> i32 + Send + 'static) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        let children = children();
        for pid in children.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::process::exit(tidy());
    });
    Ok(())
}

/// Removes a folder in which killed processes may still be writing their last.
pub fn remove_folder(folder: &Path) {
    let gone = || std::fs::remove_dir_all(folder).is_ok() || !folder.exists();
    if wait_until("the folder to be gone", Duration::from_secs(5), || gone().then_some(())).is_err() {
        eprintln!("{} could not be removed", folder.display());
    }
}

/// A child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _listed: Listed,
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
        let (child, listed) = spawn(&mut command).with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Process { child, _listed: listed, name: name.to_string(), log: log.to_path_buf() })
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
