//! `kill -9` in the middle of a transfer, of the receiver and of the sender.
//!
//! The process to be killed is this test program again: [`device`] is a device when the environment says so, and an empty
//! test otherwise.

mod hub;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rockpool_peer::api::{DownloadView, Event, OfferView, Reply, ReplyBody, Request};
use rockpool_peer::daemon::Daemon;
use rockpool_peer::home::Home;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const FILE_BYTES: usize = 256 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// What a device process is to do: `offer PATH` or `get OFFER TO`.
const TASK: &str = "ROCKPOOL_TEST_TASK";

#[tokio::test(flavor = "multi_thread")]
async fn device() {
    let Ok(task) = std::env::var(TASK) else { return };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let words: Vec<&str> = task.split('\n').collect();
    let home = Home::open(Some(Path::new(words[0]))).unwrap();
    let daemon = hub::open(&home, words[1], words[2].parse().unwrap()).await;
    let request = match words[3..] {
        ["offer", path] => Request::Send { paths: vec![path.into()] },
        ["get", offer, to] => {
            wait_for_offer(&daemon, offer).await;
            Request::Get { offer: offer.into(), to: to.into() }
        }
        _ => panic!("an unknown task"),
    };
    let mut lines = daemon.ask(request).await;
    while let Some(line) = lines.recv().await {
        println!("\n{}", serde_json::to_string(&line).unwrap());
    }
    // A sender serves until it is killed.
    std::future::pending::<()>().await;
}

async fn wait_for_offer(daemon: &Daemon, id: &str) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let mut lines = daemon.ask(Request::Offers).await;
        if let Some(ReplyBody::Ok(Reply::Offers(offers))) = lines.recv().await
            && offers.iter().any(|offer: &OfferView| offer.id == id)
        {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the offer does not arrive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A device in a process of its own.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(task: &[&str]) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "device", "--nocapture", "--test-threads", "1"])
            .env(TASK, task.join("\n"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, lines }
    }

    async fn next(&mut self) -> ReplyBody {
        let read = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the device process goes on");
                if let Ok(line) = serde_json::from_str(&line) {
                    return line;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("a line in time")
    }

    async fn until_received(&mut self, bytes: u64) {
        loop {
            match self.next().await {
                ReplyBody::Event(Event::Progress(progress)) if progress.done_bytes > bytes => return,
                ReplyBody::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn downloaded(&mut self) -> DownloadView {
        loop {
            match self.next().await {
                ReplyBody::Ok(Reply::Downloaded(download)) => return download,
                ReplyBody::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn offered(&mut self) -> OfferView {
        loop {
            match self.next().await {
                ReplyBody::Ok(Reply::Offered(offer)) => return offer,
                ReplyBody::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// SIGKILL.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

struct Scene {
    folder: tempfile::TempDir,
    hub: hub::Hub,
    content: Vec<u8>,
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let mut content = vec![0; FILE_BYTES];
        blake3::Hasher::new_derive_key("killed").finalize_xof().fill(&mut content);
        std::fs::write(folder.path().join("file"), &content).unwrap();
        Scene { folder, hub: hub::Hub::start().await, content }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn process(&self, name: &str, task: &[&str]) -> Process {
        let (home, hub) = (self.path(&format!("home of {name}")), self.hub.address.to_string());
        Process::start(&[&[home.to_str().unwrap(), name, &hub], task].concat())
    }

    fn offer(&self) -> Process {
        self.process("ann", &["offer", self.path("file").to_str().unwrap()])
    }

    fn get(&self, offer: &OfferView) -> Process {
        self.process("bob", &["get", &offer.id, self.path("to").to_str().unwrap()])
    }

    fn check(&self) {
        assert!(std::fs::read(self.path("to/file")).unwrap() == self.content, "every byte is right");
        assert_eq!(std::fs::read_dir(self.path("to")).unwrap().count(), 1, "no .part file stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_receiver_goes_on_where_it_was() {
    let scene = Scene::new().await;
    let mut sender = scene.offer();
    let offer = sender.offered().await;
    let mut receiver = scene.get(&offer);
    receiver.until_received(160 << 20).await;
    receiver.kill().await;
    let download = scene.get(&offer).downloaded().await;
    // What was not synced yet comes again, and no more.
    assert!(download.received_bytes < (FILE_BYTES as u64) * 3 / 4, "{} bytes came again", download.received_bytes);
    scene.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sender_comes_back_and_the_download_goes_on() {
    let scene = Scene::new().await;
    let mut sender = scene.offer();
    let offer = sender.offered().await;
    let mut receiver = scene.get(&offer);
    receiver.until_received(60 << 20).await;
    sender.kill().await;
    // Asked to offer the same again, it answers with the offer that it restored.
    let mut sender = scene.offer();
    assert_eq!(sender.offered().await.id, offer.id);
    let download = receiver.downloaded().await;
    assert!(download.received_bytes < FILE_BYTES as u64 + (64 << 20), "{} bytes in all", download.received_bytes);
    scene.check();
}
