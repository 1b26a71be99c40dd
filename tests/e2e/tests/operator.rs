//! An operator's bad days, over real processes: every refusal is a sentence that helps and an exit status that scripts can
//! tell apart, and nothing that was acknowledged is lost.

use anyhow::{Context, Result};
use rockpool_e2e::{Cluster, Node, Process, SmallDisk, sql, wait_until};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Within which a node that refuses to start has to say so.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(20);

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Runs a command that has to fail: its exit status and all that it said.
fn refusal(folder: &Path, command: Command) -> Result<(i32, String)> {
    let log = folder.join("refusal.log");
    let _ = std::fs::remove_file(&log);
    let status = Process::start("refused", command, &log, false)?.wait(REFUSAL_DEADLINE)?;
    Ok((status.code().context("it was ended by a signal")?, std::fs::read_to_string(&log)?))
}

#[track_caller]
fn assert_refused(refusal: Result<(i32, String)>, code: i32, sentence: &str) {
    let (found, text) = refusal.expect("it ends and says something");
    assert!(text.contains(sentence), "{text:?} lacks {sentence:?}");
    assert_eq!(found, code, "{text}");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_chooses_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for flag in ["--grpc", "--pg", "--http"] {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let mut node = Node::new(&folder.path().join("node"))?;
        let address = taken.local_addr()?;
        match flag {
            "--grpc" => node.grpc = address.to_string(),
            "--pg" => node.pg_port = address.port(),
            _ => node.http = address.to_string(),
        }
        let sentence = format!("{address} is in use by another program; choose another address with {flag}");
        assert_refused(refusal(folder.path(), node.start_command()?), 4, &sentence);
    }
    // The attempts cost nothing: the folder is as good as new.
    let mut node = Node::new(&folder.path().join("node"))?;
    node.start(None)?;
    node.wait_ready()
}

#[test]
fn a_setting_that_cannot_be_is_named_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("node.toml");
    let start = || -> Result<Command> {
        let mut command = Command::new(rockpool_e2e::process::binary("rockpool-node")?);
        command.arg("start").arg("--data").arg(folder.path().join("data")).arg("--config").arg(&config);
        Ok(command)
    };
    std::fs::write(&config, "# ports\ngrpc = \"127.0.0.1:0\"\ngprc = \"127.0.0.1:0\"\n")?;
    let sentence = "node.toml, line 3: `gprc` is not a setting; did you mean `grpc`?";
    assert_refused(refusal(folder.path(), start()?), 2, sentence);
    std::fs::write(&config, "grpc = \"127.0.0.1:0\"\npg = \"nowhere\"\n")?;
    assert_refused(refusal(folder.path(), start()?), 2, "node.toml, line 2: `nowhere` can't be the value of `pg`");
    assert!(!folder.path().join("data").exists(), "bad settings touch nothing");
    Ok(())
}

#[test]
fn a_folder_belongs_to_one_process_of_one_node_of_one_cluster() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path(), 1)?;
    let first = &cluster.nodes[0];

    // A second process on a folder that is in use.
    let mut second = Node::new(&first.data)?;
    let pid = first.process.as_ref().context("it runs")?.pid();
    let sentence = format!("is in use by another rockpool-node process (process {pid})");
    assert_refused(refusal(folder.path(), second.start_command()?), 3, &sentence);

    // A folder of another cluster.
    let mut other = Node::new(&folder.path().join("other"))?;
    other.start(None)?;
    other.wait_ready()?;
    other.process.take().context("it runs")?.terminate(Duration::from_secs(10))?;
    let mut joins = other.start_command()?;
    joins.args(["--join", &first.grpc, "--token", &first.token()?]);
    assert_refused(refusal(folder.path(), joins), 3, "the token lets into another cluster");
    // It was refused, not harmed.
    other.start(None)?;
    other.wait_ready()?;

    // A store that was wiped under an identity that has voted.
    other.kill9()?;
    for store in ["state", "log"] {
        std::fs::remove_dir_all(other.data.join("store").join(store))?;
    }
    second.data = other.data.clone();
    assert_refused(refusal(folder.path(), second.start_command()?), 3, "its store is gone");
    Ok(())
}

#[test]
fn sigterm_lets_open_work_finish_and_hands_leadership_over() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 3)?;
    let leader = cluster.leader()?;
    let runtime = runtime()?;
    let at_leader = runtime.block_on(sql::connect(&cluster.nodes[leader]))?;
    runtime.block_on(at_leader.batch_execute("CREATE TABLE drained (id int8 PRIMARY KEY)"))?;
    runtime.block_on(at_leader.batch_execute("BEGIN; INSERT INTO drained VALUES (1)"))?;

    let began = Instant::now();
    let mut stopping = cluster.nodes[leader].process.take().context("it runs")?;
    stopping.signal(rustix::process::Signal::TERM)?;
    // It takes no more connections and leads no longer, but stays as long as a block is open.
    let port = cluster.nodes[leader].pg_port;
    wait_until("the listener to close", Duration::from_secs(5), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    })?;
    let next = cluster.leader()?;
    assert_ne!(next, leader);
    let ended = wait_until("an early end", Duration::from_millis(500), || (!stopping.is_running()).then_some(()));
    assert!(ended.is_err(), "it did not wait for the open block");
    runtime.block_on(at_leader.batch_execute("INSERT INTO drained VALUES (2); COMMIT"))?;
    let status = stopping.wait(Duration::from_secs(10))?;
    assert!(status.success(), "{status}: {}", stopping.log_tail());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let at_next = runtime.block_on(sql::connect(&cluster.nodes[next]))?;
    let rows: i64 = runtime.block_on(at_next.query_one("SELECT count(*) FROM drained", &[]))?.get(0);
    assert_eq!(rows, 2);
    Ok(())
}

#[test]
fn a_terminal_that_closes_stops_the_node_in_order_and_costs_nobody_a_panic() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut node = Node::new(&folder.path().join("node"))?;
    node.start(None)?;
    node.wait_ready()?;
    // Nobody reads what the command says.
    let mut unread = Command::new(rockpool_e2e::process::binary("rockpool-node")?);
    unread.args(["status", "--data"]).arg(&node.data).stdout(std::process::Stdio::piped());
    unread.stderr(std::process::Stdio::piped());
    let mut unread = unread.spawn()?;
    drop(unread.stdout.take());
    let said = unread.wait_with_output()?;
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));

    let mut process = node.process.take().context("it runs")?;
    process.signal(rustix::process::Signal::HUP)?;
    let status = process.wait(Duration::from_secs(10))?;
    assert!(status.success(), "{status}: {}", process.log_tail());
    Ok(())
}

#[test]
fn a_full_disk_ends_the_node_with_a_sentence_and_keeps_what_was_acknowledged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut disk = SmallDisk::new(&folder.path().join("disk"), 48 << 20, 6 << 20)?;
    let mut node = Node::new(&disk.path.join("node"))?;
    node.log = folder.path().join("node.log");
    node.file_bytes_max = disk.file_bytes_max();
    node.start(None)?;
    node.wait_ready()?;

    let runtime = runtime()?;
    let (acknowledged, said) = runtime.block_on(async {
        let client = sql::connect(&node).await?;
        client.batch_execute("CREATE TABLE heap (id int8 PRIMARY KEY, content bytea NOT NULL)").await?;
        let mut content = vec![0; 256 << 10];
        for id in 0..1024i64 {
            blake3::Hasher::new().update(&id.to_le_bytes()).finalize_xof().fill(&mut content);
            if let Err(error) = client.execute("INSERT INTO heap VALUES ($1, $2)", &[&id, &content]).await {
                let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                return anyhow::Ok((id, text));
            }
        }
        anyhow::bail!("256 MiB went onto a small disk")
    })?;
    assert!(acknowledged > 0);
    let mut process = node.process.take().context("it was started")?;
    let status = process.wait(Duration::from_secs(15))?;
    let log = std::fs::read_to_string(&node.log)?;
    assert!(log.contains(disk.full_text()), "{log}");
    assert!(log.contains("nothing that was acknowledged is lost"), "{log}");
    assert_eq!(status.code(), Some(1), "the client was told {said:?}\n{log}");

    disk.make_room()?;
    node.file_bytes_max = None;
    node.start(None)?;
    node.wait_ready()?;
    let ids: Vec<i64> = runtime.block_on(async {
        let rows = sql::connect(&node).await?.query("SELECT id FROM heap ORDER BY id", &[]).await?;
        anyhow::Ok(rows.iter().map(|row| row.get(0)).collect())
    })?;
    // The last one may have been written without an answer.
    assert!(ids.len() as i64 >= acknowledged && ids.len() as i64 <= acknowledged + 1, "{acknowledged}: {ids:?}");
    assert!(ids.iter().zip(0..).all(|(id, wanted)| *id == wanted), "{ids:?}");
    Ok(())
}

/// Inserts numbers through one node, connecting again whenever it has to, and remembers those that were acknowledged.
async fn insert_until(node: (std::path::PathBuf, u16), first: i64, step: i64, stop: Arc<AtomicBool>) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    let mut client: Option<Client> = None;
    let mut id = first;
    while !stop.load(Ordering::SeqCst) {
        let Some(open) = &client else {
            client = sql::connect_at(&node.0, node.1).await.ok();
            if client.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            continue;
        };
        match open.execute("INSERT INTO numbers VALUES ($1)", &[&id]).await {
            Ok(_) => acknowledged.push(id),
            // Stored or not, nobody was promised anything: the next number is another one.
            Err(_) => client = None,
        }
        id += step;
    }
    acknowledged
}

#[test]
fn every_node_killed_in_turn_under_load_loses_no_acknowledged_row() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 3)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let client = sql::connect(&cluster.nodes[0]).await?;
        client.batch_execute("CREATE TABLE numbers (id int8 PRIMARY KEY)").await?;
        anyhow::Ok(())
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let nodes = cluster.nodes.iter().map(|node| (node.data.clone(), node.pg_port));
    let writers: Vec<_> =
        nodes.zip(0..).map(|(node, at)| runtime.spawn(insert_until(node, at, 3, stop.clone()))).collect();

    let count = |node: &Node| -> Option<i64> {
        let counting =
            async { sql::connect(node).await.ok()?.query_one("SELECT count(*) FROM numbers", &[]).await.ok() };
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(5), counting).await.ok()? })
            .map(|row| row.get(0))
    };
    for victim in 0..3 {
        let survivor = (victim + 1) % 3;
        let rows = wait_until("rows", Duration::from_secs(10), || count(&cluster.nodes[survivor]))?;
        cluster.nodes[victim].kill9()?;
        wait_until("rows from the others", Duration::from_secs(20), || {
            count(&cluster.nodes[survivor]).filter(|now| *now > rows + 20)
        })?;
        cluster.nodes[victim].start(None)?;
        cluster.nodes[victim].wait_ready()?;
    }
    // All of them at once, as when the power fails.
    for node in &mut cluster.nodes {
        node.kill9()?;
    }
    for node in &mut cluster.nodes {
        node.start(None)?;
    }
    for node in &mut cluster.nodes {
        node.wait_ready()?;
    }
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(runtime.block_on(writer)?);
    }
    assert!(acknowledged.len() > 100, "{} rows are no load", acknowledged.len());
    for node in &cluster.nodes {
        let rows = runtime
            .block_on(async { anyhow::Ok(sql::connect(node).await?.query("SELECT id FROM numbers", &[]).await?) })?;
        let stored: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
    }
    Ok(())
}

#[test]
fn a_node_that_reaches_no_majority_says_so_and_serves_again_when_it_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 3)?;
    cluster.nodes[0].kill9()?;
    cluster.nodes[1].kill9()?;
    let http = cluster.nodes[2].http.clone();
    wait_until("/ready to say no", Duration::from_secs(15), || {
        let (status, text) = rockpool_e2e::node::http_get(&http, "/ready").ok()?;
        (status == 503 && !text.trim().is_empty()).then_some(())
    })?;
    cluster.nodes[0].start(None)?;
    cluster.nodes[0].wait_ready()?;
    cluster.nodes[2].wait_ready()
}
