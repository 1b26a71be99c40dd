//! What one link carries over loopback, between two processes.
//!
//! ```text
//!   cargo run --release -p rockpool-peer --example link_throughput -- [--mib 1024] [--frame 65536] [--mtu N] [--window N] [--one-process]
//! ```
//!
//! The parent sends, the child (this program again) receives; descriptions and candidates travel over the child's
//! standard input and output, one JSON line each. Prints Gbit/s as the receiver sees it, from the first byte to the last.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use rockpool_peer::link::{FrameSender, Link, LinkCandidate, LinkConfig, LinkEvent};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, clap::Parser)]
struct Options {
    /// Mebibytes to send.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Bytes in one message.
    #[arg(long, default_value_t = 65536)]
    frame: usize,
    /// Bytes of SCTP packet in a datagram.
    #[arg(long)]
    mtu: Option<u32>,
    /// Receive window in bytes.
    #[arg(long)]
    window: Option<u32>,
    /// Both ends in this process.
    #[arg(long)]
    one_process: bool,
    /// Set for the receiving process.
    #[arg(long, hide = true)]
    receive: bool,
}

impl Options {
    fn config(&self) -> LinkConfig {
        LinkConfig {
            listen: vec!["127.0.0.1:0".into()],
            mtu_bytes: self.mtu,
            receive_window_bytes: self.window,
            ..LinkConfig::default()
        }
    }

    fn bytes(&self) -> u64 {
        self.mib * 1024 * 1024
    }
}

/// What the two ends tell each other outside the link.
#[derive(Serialize, Deserialize)]
enum Signal {
    Offer(String),
    Answer(String),
    Candidate(String, String, u16),
    Received { bytes: u64, seconds: f64 },
}

impl From<LinkCandidate> for Signal {
    fn from(found: LinkCandidate) -> Self {
        Signal::Candidate(found.candidate, found.sdp_mid, found.sdp_mline_index)
    }
}

type Signals = (mpsc::Sender<Signal>, mpsc::Receiver<Signal>);

#[tokio::main]
async fn main() -> Result<()> {
    let options = <Options as clap::Parser>::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    if options.receive {
        return receive(&options, lines(tokio::io::stdin(), tokio::io::stdout())).await;
    }
    if options.one_process {
        let (to_sender, at_sender) = mpsc::channel(64);
        let (to_receiver, at_receiver) = mpsc::channel(64);
        let receiver = options.clone();
        tokio::spawn(async move { receive(&receiver, (to_sender, at_receiver)).await });
        return send(&options, (to_receiver, at_sender)).await;
    }
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .arg("--receive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("the child's standard output is piped")?;
    let stdin = child.stdin.take().context("the child's standard input is piped")?;
    send(&options, lines(stdout, stdin)).await?;
    child.wait().await?;
    Ok(())
}

/// Signals as JSON lines.
fn lines(
    read: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    mut write: impl tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Signals {
    let (in_tx, in_rx) = mpsc::channel(64);
    let (out_tx, mut out_rx) = mpsc::channel::<Signal>(64);
    tokio::spawn(async move {
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(signal) = serde_json::from_str(&line) else { break };
            if in_tx.send(signal).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(signal) = out_rx.recv().await {
            let line = serde_json::to_string(&signal).expect("strings and numbers are JSON") + "\n";
            if write.write_all(line.as_bytes()).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
    });
    (out_tx, in_rx)
}

async fn send(options: &Options, (out, mut signals): Signals) -> Result<()> {
    let (link, mut events) = Link::new(&options.config()).await?;
    out.send(Signal::Offer(link.create_offer().await?)).await?;
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                LinkEvent::Candidate(Some(found)) => out.send(found.into()).await?,
                LinkEvent::Candidate(None) | LinkEvent::Connected(_) | LinkEvent::Disconnected => {}
                LinkEvent::Open(sender) => { tokio::spawn(flood(options.clone(), sender)); }
                LinkEvent::Frame(_) => {}
                LinkEvent::Closed(reason) => bail!("the link went down: {reason}"),
            },
            Some(signal) = signals.recv() => match signal {
                Signal::Answer(sdp) => link.apply_answer(&sdp).await?,
                Signal::Candidate(candidate, sdp_mid, sdp_mline_index) => {
                    link.add_candidate(LinkCandidate { candidate, sdp_mid, sdp_mline_index }).await?;
                }
                Signal::Received { bytes, seconds } => {
                    println!("{:.2} Gbit/s ({bytes} bytes in {seconds:.3} s)", bytes as f64 * 8e-9 / seconds);
                    link.close().await;
                    return Ok(());
                }
                Signal::Offer(_) => bail!("an offer to the offerer"),
            },
            else => bail!("the receiver is gone"),
        }
    }
}

async fn flood(options: Options, sender: FrameSender) -> Result<()> {
    let body = vec![0x5a; options.frame];
    let mut left = options.bytes();
    while left > 0 {
        let len = left.min(options.frame as u64) as usize;
        sender.send(BytesMut::from(&body[..len])).await?;
        left -= len as u64;
    }
    Ok(())
}

async fn receive(options: &Options, (out, mut signals): Signals) -> Result<()> {
    let (link, mut events) = Link::new(&options.config()).await?;
    let (mut bytes, mut started) = (0, None);
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                LinkEvent::Candidate(Some(found)) => out.send(found.into()).await?,
                LinkEvent::Candidate(None) | LinkEvent::Connected(_) | LinkEvent::Disconnected => {}
                LinkEvent::Open(_) => {}
                LinkEvent::Frame(frame) => {
                    let started = *started.get_or_insert_with(Instant::now);
                    bytes += frame.len() as u64;
                    if bytes == options.bytes() {
                        out.send(Signal::Received { bytes, seconds: started.elapsed().as_secs_f64() }).await?;
                    }
                }
                LinkEvent::Closed(_) => return Ok(()),
            },
            Some(signal) = signals.recv() => match signal {
                Signal::Offer(sdp) => out.send(Signal::Answer(link.accept_offer(&sdp).await?)).await?,
                Signal::Candidate(candidate, sdp_mid, sdp_mline_index) => {
                    link.add_candidate(LinkCandidate { candidate, sdp_mid, sdp_mline_index }).await?;
                }
                Signal::Answer(_) | Signal::Received { .. } => bail!("not for the receiver"),
            },
            else => return Ok(()),
        }
    }
}
