//! What happens, step by step.

use crate::Args;
use crate::outage::Writer;
use crate::summary::{Summary, seconds};
use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use rockpool_e2e::{Cluster, Device, Node, OpenPool, files, process, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A file that marks a folder as the demonstration's.
pub const MARK: &str = ".rockpool-demo";
const PASSWORD: &str = "correct horse battery";
const POOL: &str = "reef";
const THROUGHPUT_MIN_BITS: f64 = 1e9;
const GAP_MAX: Duration = Duration::from_secs(2);
/// Part of every message and of the shared folder, so that it can be looked for where it must not be.
const MARKER: &str = "marker-7c1f0e5b-only-for-the-pool";

/// Everything that runs, and what came of it.
pub struct Story {
    pub summary: Summary,
    cluster: Cluster,
    /// Kept because a pool is open only as long as its process runs.
    _open: Vec<OpenPool>,
}

fn step(text: &str) {
    println!("\n── {text}");
}

impl Story {
    /// Tells it from beginning to end.
    pub fn tell(args: &Args, data: &Path) -> Result<Story> {
        let started = Instant::now();
        let mut summary = Summary::default();
        let share = prepare_share(args, data)?;

        step("Three nodes: the second and third join the first with a token");
        let mut cluster = Cluster::start(data, 3)?;
        for node in &cluster.nodes {
            println!("   {}   gRPC {}   PostgreSQL 127.0.0.1:{}", node.data.display(), node.grpc, node.pg_port);
        }
        let address = cluster.address()?;
        println!("   leader: node {}   address for people: {address}", cluster.leader()? + 1);

        step("Two people, three devices, one pool");
        let laptop = Device::new(data, "ann-laptop", &address)?;
        let phone = Device::new(data, "ann-phone", &address)?;
        let desktop = Device::new(data, "bob-desktop", &address)?;
        laptop.sign_up("ann", "Ann", PASSWORD)?;
        phone.log_in("ann", PASSWORD)?;
        desktop.sign_up("bob", "Bob", PASSWORD)?;
        laptop.must(&["pool", "create", POOL])?;
        let invite = laptop.must(&["pool", "invite", POOL])?["invite"].as_str().context("an invite")?.to_string();
        desktop.must_with(&["pool", "join", "-"], &invite)?;
        println!("   Ann: laptop, phone.  Bob: desktop.  Ann made the pool “{POOL}” and invited Bob.");

        let mut at_laptop = laptop.open(POOL)?;
        let mut at_desktop = desktop.open(POOL)?;
        at_laptop.wait_linked("bob-desktop")?;
        at_desktop.wait_linked("ann-laptop")?;
        println!("   ann-laptop and bob-desktop are linked, device to device");

        step("Talk");
        talk(&laptop, &mut at_desktop, &format!("hello Bob ({MARKER} 1)"))?;
        talk(&desktop, &mut at_laptop, &format!("hello Ann ({MARKER} 2)"))?;

        step("A folder on its way, and kill -9 of the leader meanwhile");
        let offer = laptop.must(&["send", share.to_str().context("a printable path")?])?;
        let offer_id = offer["id"].as_str().context("an offer has an id")?.to_string();
        println!(
            "   on offer: {} in {} files",
            HumanBytes(offer["bytes"].as_u64().unwrap_or(0)),
            offer["files"].as_u64().unwrap_or(0)
        );
        at_desktop.wait_for("the offer", Duration::from_secs(20), |event| {
            event["event"] == "offer" && event["id"] == offer["id"]
        })?;

        let leader = cluster.leader()?;
        let survivor = (leader + 1) % cluster.nodes.len();
        let writer = Writer::start(&cluster.nodes[survivor]);
        wait_until("the first rows", Duration::from_secs(10), || (writer.count() > 20).then_some(()))?;

        let mut download = Download::start(&desktop, &offer_id, &data.join("bob-downloads"))?;
        download.wait_started()?;
        let killed = Instant::now();
        cluster.nodes[leader].kill9()?;
        let progress_at_kill = download.done_bytes;
        println!("   killed node {} at {} of the transfer", leader + 1, HumanBytes(progress_at_kill));
        let during = talk(&laptop, &mut at_desktop, &format!("still here ({MARKER} 3)"));
        let finished = download.finish()?;
        let rate_bits = finished["received_bytes"].as_u64().unwrap_or(0) as f64 * 8.0
            / (finished["elapsed_ms"].as_u64().unwrap_or(1).max(1) as f64 / 1000.0);
        let after = talk(&desktop, &mut at_laptop, &format!("got it ({MARKER} 4)"));

        wait_until("writes after the leader's death", Duration::from_secs(15), || {
            let count = writer.count();
            (writer.gap_after(killed) < killed.elapsed() && count > 40).then_some(())
        })?;
        let gap = writer.gap_after(killed);
        let (acknowledged, stored) = writer.finish()?;

        step("A third device joins through the surviving nodes");
        let mut at_phone = phone.open(POOL)?;
        at_phone.wait_linked("ann-laptop")?;
        for number in 1..=4 {
            at_phone.wait_for("the history", Duration::from_secs(15), |event| {
                event["event"] == "message"
                    && event["text"].as_str().is_some_and(|text| text.contains(&format!("{MARKER} {number}")))
            })?;
        }
        let histories: Vec<Value> = [&laptop, &desktop, &phone]
            .map(|device| device.must(&["history"]).map(|messages| order(&messages)))
            .into_iter()
            .collect::<Result<_>>()?;
        at_phone.wait_for("the offer", Duration::from_secs(20), |event| {
            event["event"] == "offer" && event["id"] == offer["id"]
        })?;
        let mut second = Download::start(&phone, &offer_id, &data.join("phone-downloads"))?;
        let phone_finished = second.finish()?;
        println!("   ann-phone has the history and {}", HumanBytes(phone_finished["bytes"].as_u64().unwrap_or(0)));

        step("Fingerprints and tables");
        let wanted = files::fingerprints(&share)?;
        let name = share.file_name().context("the shared folder has a name")?;
        let at_bob = files::fingerprints(&data.join("bob-downloads").join(name))?;
        let at_anns_phone = files::fingerprints(&data.join("phone-downloads").join(name))?;
        println!("   {} files compared on both devices", wanted.len());
        let tables = show_tables(&cluster.nodes[survivor])?;
        let seen = content_in_cluster(&cluster.nodes, &share)?;

        summary.figure("set-up to summary", seconds(started.elapsed()));
        summary.figure("transfer, file to file", format!("{:.2} Gbit/s", rate_bits / 1e9));
        summary.figure("without a leader", seconds(gap));
        summary.figure("rows acknowledged / stored", format!("{acknowledged} / {stored}"));
        summary.figure("files compared", wanted.len().to_string());
        summary.figure("content bytes on the cluster's disks", seen.to_string());
        summary.check(rate_bits >= THROUGHPUT_MIN_BITS, "the transfer ran at 1 Gbit/s or more");
        summary.check(gap < GAP_MAX, "writes went on within 2 s of the leader's death");
        summary.check(
            progress_at_kill > 0 && progress_at_kill < offer["bytes"].as_u64().unwrap_or(0),
            "the leader died while the transfer ran",
        );
        summary.check(stored >= acknowledged, "no acknowledged row was lost");
        summary.check(during.is_ok() && after.is_ok(), "talk went on without the leader");
        summary.check(wanted == at_bob, "every file on bob-desktop has the source's BLAKE3");
        summary.check(wanted == at_anns_phone, "every file on ann-phone has the source's BLAKE3");
        summary.check(
            histories.iter().all(|history| *history == histories[0]),
            "the history is the same on all three devices",
        );
        summary.check(tables, "the surviving nodes answer SQL");
        summary.check(seen == 0, "the cluster has seen no content");
        Ok(Story { summary, cluster, _open: vec![at_laptop, at_desktop, at_phone] })
    }

    /// Says how to join in. Everything runs until this program is interrupted.
    pub fn tell_how_to_join(&self, data: &Path) -> Result<()> {
        // The first node may be the one that was killed: its address would lead nowhere.
        let node = self.cluster.running().next().context("a node runs")?;
        let rockpool = process::binary("rockpool")?.display().to_string();
        let home = |device: &str| data.join(device).display().to_string();
        step("Everything is left running. Ctrl-C ends it");
        println!("   Ask the tables:   {}", psql_line(node));
        println!("   Be Ann's phone:   {rockpool} --home {} history", home("ann-phone"));
        println!("   Say something:    {rockpool} --home {} say hello", home("bob-desktop"));
        println!("   Join as yourself: {rockpool} --home /tmp/me server add '{}'", node.address()?);
        println!("                     {rockpool} --home /tmp/me signup NAME");
        let invite = format!("{rockpool} --home {} pool invite {POOL}", home("ann-laptop"));
        println!("                     {invite} | {rockpool} --home /tmp/me pool join -");
        println!("                     {rockpool} --home /tmp/me open {POOL}");
        Ok(())
    }
}

/// The project's own sources and one generated file.
fn prepare_share(args: &Args, data: &Path) -> Result<PathBuf> {
    step("Files to share: this source tree and a generated file");
    let share = data.join("shared-folder");
    let tree = share.join("rockpool");
    let source = args.source.canonicalize()?;
    copy_sources(&source, &source, &tree, data)?;
    fs::write(tree.join("marker.txt"), MARKER.repeat(64))?;
    files::generate(&share.join("generated.bin"), args.size_mib << 20, 7)?;
    println!("   {}", share.display());
    Ok(share)
}

fn copy_sources(root: &Path, folder: &Path, to: &Path, data: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type()?;
        // Neither what was built, nor git's own store, nor demonstrations, nor a node's folder with its keys.
        let left_out = ["target", "demo-data", "rockpool-data"];
        let at_top = folder == root && left_out.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if path == data || name == ".git" || at_top {
            continue;
        }
        if kind.is_dir() {
            copy_sources(root, &path, &to.join(&name), data)?;
        } else if kind.is_file() {
            fs::copy(&path, to.join(&name))?;
        }
    }
    Ok(())
}

/// Says something on one device and waits for it on another.
fn talk(from: &Device, to: &mut OpenPool, text: &str) -> Result<()> {
    from.must(&["say", text])?;
    let message = to.wait_message(text)?;
    println!(
        "   {} <{}, {}> {text}",
        to.process.name,
        message["author"].as_str().unwrap_or("?"),
        message["device"].as_str().unwrap_or("?")
    );
    Ok(())
}

/// Ids of messages, in the order shown.
fn order(messages: &Value) -> Value {
    messages
        .as_array()
        .map(|messages| messages.iter().map(|message| message["id"].clone()).collect())
        .unwrap_or(Value::Null)
}

/// `rockpool get`, whose progress is shown.
struct Download {
    child: std::process::Child,
    _listed: process::Listed,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    bar: ProgressBar,
    done_bytes: u64,
    last: Value,
}

impl Download {
    fn start(device: &Device, offer: &str, to: &Path) -> Result<Download> {
        let mut command = device.command(&["get", offer, "--to", to.to_str().context("a printable path")?])?;
        let (mut child, listed) = process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::inherit()))?;
        let lines = BufReader::new(child.stdout.take().context("standard output is piped")?).lines();
        let bar = ProgressBar::new(0);
        let style = "   {prefix} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
        bar.set_style(ProgressStyle::with_template(style)?);
        bar.set_prefix(device.name.clone());
        Ok(Download { child, _listed: listed, lines, bar, done_bytes: 0, last: Value::Null })
    }

    /// Reads one line; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let Some(line) = self.lines.next() else { return Ok(false) };
        let value: Value = serde_json::from_str(&line?)?;
        if value["event"] == "progress" {
            self.done_bytes = value["done_bytes"].as_u64().unwrap_or(0);
            self.bar.set_length(value["total_bytes"].as_u64().unwrap_or(0));
            self.bar.set_position(self.done_bytes);
        }
        self.last = value;
        Ok(true)
    }

    /// Waits until bytes have arrived.
    fn wait_started(&mut self) -> Result<()> {
        while self.done_bytes == 0 {
            anyhow::ensure!(self.advance()?, "the download ended before it began: {}", self.last);
        }
        Ok(())
    }

    /// Waits for the end and answers the summary that the command prints.
    fn finish(&mut self) -> Result<Value> {
        while self.advance()? {}
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the download failed: {}", self.last);
        self.bar.finish();
        println!();
        Ok(self.last.clone())
    }
}

fn psql_line(node: &Node) -> String {
    format!(
        "PGPASSFILE={} psql \"host=localhost port={} user=root dbname=rockpool sslmode=verify-full sslrootcert={}\"",
        node.pgpass().display(),
        node.pg_port,
        node.data.join("ca.crt").display()
    )
}

const QUERY: &str = "SELECT p.name AS pool, a.display_name AS member, d.name AS device, d.kind \
    FROM meta.pools p JOIN meta.members m ON m.pool_id = p.pool_id JOIN meta.accounts a ON a.account_id = m.account_id \
    JOIN meta.devices d ON d.account_id = a.account_id ORDER BY 1, 2, 3";

/// Shows what the cluster holds, through psql where it is installed.
fn show_tables(node: &Node) -> Result<bool> {
    let connection = format!(
        "host=localhost port={} user=root dbname=rockpool sslmode=verify-full sslrootcert={}",
        node.pg_port,
        node.data.join("ca.crt").display()
    );
    let psql = Command::new("psql")
        .env("PGPASSFILE", node.pgpass())
        .arg(&connection)
        .args(["-X", "-P", "pager=off", "-c", "\\dt meta.*", "-c", QUERY])
        .output();
    match psql {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().for_each(|line| println!("   {line}"));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            Ok(output.status.success() && text.contains("ann-phone") && text.contains("accounts"))
        }
        Err(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let rows = runtime
                .block_on(async { anyhow::Ok(rockpool_e2e::sql::connect(node).await?.query(QUERY, &[]).await?) })?;
            for row in &rows {
                println!("   {} | {} | {}", row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, String>(2));
            }
            Ok(rows.len() == 3)
        }
    }
}

/// Bytes of messages and of shared files on the nodes' disks.
fn content_in_cluster(nodes: &[Node], share: &Path) -> Result<u64> {
    let mut sample = fs::read(share.join("generated.bin")).context("the generated file")?;
    sample.truncate(64);
    let needles: [&[u8]; 2] = [MARKER.as_bytes(), &sample[..sample.len().min(48)]];
    let mut seen = 0;
    for node in nodes {
        let mut folders = vec![node.data.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let bytes = fs::read(entry.path())?;
                for needle in needles.iter().filter(|needle| !needle.is_empty()) {
                    let hits = bytes.windows(needle.len()).filter(|window| window == needle).count();
                    seen += (hits * needle.len()) as u64;
                }
            }
        }
    }
    Ok(seen)
}
