//! How many single-row commits and reads per second the engine does, alone and as three nodes on one machine.
//!
//!     cargo run --release -p rockpool-runtime --example commits -- [seconds per line] [bytes per value]
//!
//! Every caller begins a transaction, writes one row of its own and commits, over and over; callers are spread over the
//! nodes. Messages travel over loopback in the clear. The sync line is what the disk alone can do: one small write and
//! fdatasync after the other, beside the same folder.

use hdrhistogram::Histogram;
use rockpool_runtime::{Class, Engine, EngineError, EngineOptions, GroupId, NodeId};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

const GROUP: GroupId = GroupId(1);

async fn start(folder: &Path, size: u64) -> Vec<Engine> {
    let mut engines = Vec::new();
    let mut addresses = BTreeMap::new();
    for id in (1..=size).map(NodeId) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let mut options = EngineOptions::new(folder.join(id.to_string()), id);
        options.bootstrap = id == NodeId(1);
        let engine = Engine::open(options).await.expect("the folder is new");
        let server = Server::builder().tcp_nodelay(true).add_service(engine.grpc_service());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        addresses.insert(id, address.clone());
        engines.push(engine);
        for engine in &engines {
            engine.set_peers(&addresses).expect("loopback addresses make sense");
        }
        let mut status = engines[0].subscribe();
        status.wait_for(|status| status.leads(GROUP)).await.expect("the first node leads");
        if id != NodeId(1) {
            while let Err(error) = engines[0].add_node(id, address.clone()).await {
                assert_eq!(error.class(), Class::Retry, "{error}");
            }
            let votes = |voters: &[NodeId]| voters.contains(&id);
            status.wait_for(|status| votes(&status.groups[0].voters)).await.expect("it votes in the end");
        }
    }
    engines
}

async fn write(engine: &Engine, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
    let mut transaction = engine.begin().await?;
    transaction.put(key.to_vec(), value.to_vec()).map_err(EngineError::Transaction)?;
    engine.commit(transaction).await.map(drop)
}

async fn read(engine: &Engine, key: &[u8]) -> Result<(), EngineError> {
    let transaction = engine.begin().await?;
    transaction.get(key).map(drop).map_err(EngineError::Transaction)
}

/// The histogram grows as needed.
fn record(latencies: &mut Histogram<u64>, begun: Instant) {
    latencies.record(begun.elapsed().as_micros() as u64).expect("microseconds of a run fit");
}

async fn measure(engines: &[Engine], callers: usize, duration: Duration, value_bytes: usize, reads: bool) {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let engine = engines[caller % engines.len()].clone();
        tasks.spawn(async move {
            let mut latencies = Histogram::<u64>::new(3).expect("three digits are allowed");
            let value = vec![b'v'; value_bytes];
            let mut failures = 0;
            for number in 0u64.. {
                let begun = Instant::now();
                if begun - started > duration {
                    break;
                }
                let key = format!("caller {caller:04} row {number:08}");
                let done = if reads {
                    read(&engine, key.as_bytes()).await
                } else {
                    write(&engine, key.as_bytes(), &value).await
                };
                match done {
                    Ok(()) => record(&mut latencies, begun),
                    Err(_) => failures += 1,
                }
            }
            (latencies, failures)
        });
    }
    let mut all = Histogram::<u64>::new(3).expect("three digits are allowed");
    let mut failures = 0;
    while let Some(task) = tasks.join_next().await {
        let (latencies, failed) = task.expect("callers don't panic");
        all.add(latencies).expect("the bounds are the same");
        failures += failed;
    }
    let per_second = all.len() as f64 / started.elapsed().as_secs_f64();
    let what = if reads { "reads" } else { "commits" };
    println!(
        "{} nodes {callers:3} callers {per_second:9.0} {what}/s   p50 {:6} us   p99 {:6} us   failed {failures}",
        engines.len(),
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99),
    );
}

fn measure_sync(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("sync")).expect("the folder is new");
    let mut latencies = Histogram::<u64>::new(3).expect("three digits are allowed");
    for _ in 0..1000 {
        file.write_all(&[0; 256]).expect("there is room");
        let begun = Instant::now();
        file.sync_data().expect("there is room");
        record(&mut latencies, begun);
    }
    let at = |quantile| latencies.value_at_quantile(quantile);
    println!("fdatasync p50 {} us   p99 {} us", at(0.5), at(0.99));
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("numbers only"));
    let duration = Duration::from_secs(args.next().unwrap_or(5));
    let value_bytes = args.next().unwrap_or(256) as usize;
    for size in [1, 3] {
        let folder = tempfile::tempdir_in(".").expect("the present folder can be written");
        measure_sync(folder.path());
        let engines = start(folder.path(), size).await;
        for reads in [false, true] {
            for callers in [1, 16, 64] {
                measure(&engines, callers, duration, value_bytes, reads).await;
            }
        }
        let writes = engines[0].status().log_writes;
        println!(
            "{size} nodes: {} log writes, mean {} us, longest {} us, {} bytes each",
            writes.writes,
            writes.total_us / writes.writes.max(1),
            writes.max_us,
            writes.bytes / writes.writes.max(1)
        );
        for engine in &engines {
            engine.shutdown().await;
        }
    }
}
