//! What a transfer carries from file to file, between two daemons in two processes over loopback.
//!
//! ```text
//!   cargo run --release -p rockpool-peer --example file_throughput -- [--mib 1024] [--files 1] [--dir /tmp] [--rounds 3]
//! ```
//!
//! Everything is the real thing but the cluster, in whose place a relay in this process passes signals on. Prints Gbit/s
//! from the request to the last rename, the receiver's syncs included, and the processor time of both processes.

#[path = "../tests/hub/mod.rs"]
mod hub;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rockpool_peer::api::{OfferView, Reply, ReplyBody, Request};
use rockpool_peer::daemon::Daemon;
use rockpool_peer::home::Home;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, clap::Parser)]
struct Options {
    /// Mebibytes in all.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Files that they are spread over.
    #[arg(long, default_value_t = 1)]
    files: u64,
    /// Where source and target lie.
    #[arg(long, default_value = "/tmp")]
    dir: PathBuf,
    /// Downloads one after the other.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Set for the receiving process: the hub's address.
    #[arg(long, hide = true)]
    hub: Option<std::net::SocketAddr>,
    /// Set for the receiving process: the offer.
    #[arg(long, hide = true, default_value = "")]
    offer: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = <Options as clap::Parser>::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match options.hub {
        Some(hub) => receive(&options, hub).await,
        None => offer(&options).await,
    }
}

async fn offer(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir_in(&options.dir)?;
    let source = folder.path().join("source");
    std::fs::create_dir(&source)?;
    let bytes = options.mib * 1024 * 1024 / options.files;
    for number in 0..options.files {
        let mut output = blake3::Hasher::new_derive_key("file_throughput").update(&number.to_le_bytes()).finalize_xof();
        let mut file = std::fs::File::create(source.join(format!("file{number}")))?;
        let (mut left, mut buffer) = (bytes, vec![0; 1 << 20]);
        while left > 0 {
            let part = left.min(buffer.len() as u64) as usize;
            output.fill(&mut buffer[..part]);
            file.write_all(&buffer[..part])?;
            left -= part as u64;
        }
    }
    let hub = hub::Hub::start().await;
    let home = Home::open(Some(&folder.path().join("home")))?;
    let daemon = hub::open(&home, "ann", hub.address).await;
    let started = Instant::now();
    let Reply::Offered(offer) = ask(&daemon, Request::Send { paths: vec![source.clone()] }).await? else {
        bail!("another answer than the offer")
    };
    println!("hashed {} bytes in {:.2} s", offer.bytes, started.elapsed().as_secs_f64());
    for _ in 0..options.rounds {
        let cpu = cpu_seconds();
        let child = tokio::process::Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .args(["--hub", &hub.address.to_string(), "--offer", &offer.id])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.wait_with_output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("the receiver failed: {text}");
        }
        println!("{}; sender {:.2} s of processor time", text.trim(), cpu_seconds() - cpu);
    }
    daemon.stop().await?;
    Ok(())
}

async fn receive(options: &Options, hub: std::net::SocketAddr) -> Result<()> {
    let folder = tempfile::tempdir_in(&options.dir)?;
    let home = Home::open(Some(&folder.path().join("home")))?;
    let daemon = hub::open(&home, "bob", hub).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let Reply::Offers(offers) = ask(&daemon, Request::Offers).await? else { bail!("another answer than offers") };
        if offers.iter().any(|offer: &OfferView| offer.id == options.offer) {
            break;
        }
        if Instant::now() > deadline {
            bail!("the offer does not arrive");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let to = folder.path().join("to");
    let cpu = cpu_seconds();
    let started = Instant::now();
    let Reply::Downloaded(download) =
        ask(&daemon, Request::Get { offer: options.offer.clone(), to: to.clone() }).await?
    else {
        bail!("another answer than the download")
    };
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    for (_, path) in files(&to.join("source"))? {
        let name = path.file_name().context("a file has a name")?;
        let source = options.dir.join("source").join(name);
        if read_hash(&path)? != read_hash(&source)? {
            bail!("{} differs from its source", path.display());
        }
    }
    println!(
        "{:.2} Gbit/s: {} bytes in {seconds:.2} s; receiver {cpu:.2} s, peak {} MiB",
        download.bytes as f64 * 8e-9 / seconds,
        download.bytes,
        peak_mib()
    );
    daemon.stop().await?;
    Ok(())
}

async fn ask(daemon: &Daemon, request: Request) -> Result<Reply> {
    let mut lines = daemon.ask(request).await;
    while let Some(line) = lines.recv().await {
        match line {
            ReplyBody::Event(_) => {}
            ReplyBody::Ok(reply) => return Ok(reply),
            ReplyBody::Error(error) => bail!(error),
        }
    }
    bail!("the daemon ended")
}

fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(folder)?;
    entries
        .map(|entry| entry.and_then(|entry| Ok((entry.metadata()?.len(), entry.path()))).map_err(Into::into))
        .collect()
}

fn read_hash(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&buffer[..length]),
        };
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<u64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Without the state letter, user and system time are the 11th and 12th number; a tick is 10 ms.
    fields.get(10).zip(fields.get(11)).map_or(0.0, |(user, system)| (user + system) as f64 / 100.0)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}
