//! Statements a second over the PostgreSQL protocol: prepared, every insert a transaction of its own that is durable (on a
//! majority, where there is one) before it is acknowledged.
//!
//! The load is a *closed loop*: each connection sends its next statement when the last one was answered. So the latency is
//! a statement's own, and a stall delays what would have been sent meanwhile instead of counting it late: percentiles say
//! nothing of clients that send at a fixed rate (coordinated omission).
//!
//! What is compared runs alternately: in each round every system runs each load, and the next round takes the systems in
//! the opposite order, so that neither drifts with the machine.

use crate::report::{Report, number};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rockpool_e2e::{Cluster, sql};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// Bytes in the text column of a row.
const ROW_BYTES: usize = 256;
/// Rows that point selects draw from.
const SELECT_ROWS: i64 = 10_000;
/// Rows in one statement while the table is filled.
const FILL_ROWS: i64 = 500;
/// Connections are made and statements prepared before this begins; what runs in it is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// The table, so called that nobody else's is taken for it.
const TABLE: &str = "rockpool_bench";

/// How to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nodes of the cluster that is started.
    pub nodes: usize,
    /// How many connections, one run each.
    pub connections: Vec<usize>,
    /// How long each run lasts.
    pub time: Duration,
    /// How often each is repeated.
    pub rounds: u32,
    /// Another server, by its URL, that does the same in turn.
    pub against: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Insert,
    Select,
}

const LOADS: [Load; 2] = [Load::Insert, Load::Select];

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Insert => "single-row insert",
            Load::Select => "point select",
        }
    }
}

/// Where a connection goes.
enum Place {
    Node { data: PathBuf, port: u16 },
    Url(String),
}

impl Place {
    async fn connect(&self) -> Result<Client> {
        match self {
            Place::Node { data, port } => sql::connect_at(data, *port).await,
            Place::Url(url) => sql::connect_url(url).await,
        }
    }
}

/// Something that is measured.
struct System {
    name: String,
    places: Vec<Place>,
    next_id: Arc<AtomicI64>,
}

/// What one run gave.
struct Run {
    rate: f64,
    times: Histogram<u64>,
}

/// Measures inserts and selects with each number of connections, spread over all nodes.
pub fn run(root: &Path, settings: &Settings, report: &mut Report) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    if let Some(url) = &settings.against {
        // Before anything is started: a typing error should not cost a minute.
        runtime.block_on(sql::connect_url(url)).context("the server named by --against")?;
    }
    std::fs::create_dir_all(root)?;
    let cluster = Cluster::start(root, settings.nodes)?;
    let nodes = if settings.nodes == 1 { "1 node".to_string() } else { format!("{} nodes", settings.nodes) };
    let places = cluster.nodes.iter().map(|node| Place::Node { data: node.data.clone(), port: node.pg_port }).collect();
    let mut systems = vec![System { name: format!("Rockpool, {nodes}"), places, next_id: Arc::default() }];
    if let Some(url) = &settings.against {
        let places = vec![Place::Url(url.clone())];
        systems.push(System { name: "the other server".into(), places, next_id: Arc::default() });
    }
    report.fact(format!("SQL, {nodes}"), conditions(settings, threads));
    runtime.block_on(async {
        for system in &mut systems {
            prepare(system, report).await.with_context(|| format!("filling {TABLE} in {}", system.name))?;
        }
        let mut runs: BTreeMap<(usize, Load, usize), Vec<Run>> = BTreeMap::new();
        for round in 0..settings.rounds {
            let order: Vec<usize> =
                if round % 2 == 0 { (0..systems.len()).collect() } else { (0..systems.len()).rev().collect() };
            for load in LOADS {
                for &count in &settings.connections {
                    for &at in &order {
                        let system = &systems[at];
                        let run = measure(system, load, count, settings.time)
                            .await
                            .with_context(|| format!("{}, {count} connections to {}", load.name(), system.name))?;
                        eprintln!(
                            "  round {} of {}: {}, {}, {count} connections: {}/s",
                            round + 1,
                            settings.rounds,
                            system.name,
                            load.name(),
                            number(run.rate)
                        );
                        runs.entry((at, load, count)).or_default().push(run);
                    }
                }
            }
        }
        for ((at, load, count), runs) in runs {
            let mut times = Histogram::<u64>::new(3)?;
            runs.iter().try_for_each(|run| times.add(&run.times))?;
            let rates = runs.iter().map(|run| run.rate).collect();
            let connections = if count == 1 { "connection" } else { "connections" };
            let what = format!("{}, {count} {connections}", load.name());
            report.rates(&format!("SQL over pgwire, {}", systems[at].name), what, rates, times);
        }
        for system in &systems {
            system.places[0].connect().await?.batch_execute(&format!("DROP TABLE {TABLE}")).await?;
        }
        Ok(())
    })
}

fn conditions(settings: &Settings, threads: usize) -> String {
    format!(
        "{} rounds of {} s, each after {} s of warm-up; closed loop from {threads} thread(s); prepared statements; \
         rows of {ROW_BYTES} bytes, ids rising; selects of random ones of {SELECT_ROWS} rows",
        settings.rounds,
        settings.time.as_secs(),
        WARM_UP.as_secs()
    )
}

/// What a server says of itself that decides how fast it may be.
const SAID: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "ssl",
    "default_transaction_isolation",
];

async fn prepare(system: &mut System, report: &mut Report) -> Result<()> {
    let place = &system.places[0];
    let client = place.connect().await?;
    let version: String = client.query_one("SELECT version()", &[]).await?.get(0);
    if let Place::Url(_) = place {
        let mut said = Vec::new();
        for setting in SAID {
            if let Ok(row) = client.query_one(&format!("SHOW {setting}"), &[]).await {
                said.push(format!("{setting}={}", row.get::<_, String>(0)));
            }
        }
        // "PostgreSQL 15.18 (Debian ...) on x86_64, compiled by ...": the name is enough in headings.
        system.name = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        report.fact("against", format!("{version}; {}", said.join(" ")));
    }
    client.batch_execute(&format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    client.batch_execute(&format!("CREATE TABLE {TABLE} (id int8 PRIMARY KEY, body text NOT NULL)")).await?;
    let body = "x".repeat(ROW_BYTES);
    for start in (0..SELECT_ROWS).step_by(FILL_ROWS as usize) {
        let rows: Vec<String> = (start..start + FILL_ROWS).map(|id| format!("({id}, '{body}')")).collect();
        client.batch_execute(&format!("INSERT INTO {TABLE} VALUES {}", rows.join(","))).await?;
    }
    system.next_id.store(SELECT_ROWS, Ordering::Relaxed);
    Ok(())
}

async fn measure(system: &System, load: Load, count: usize, time: Duration) -> Result<Run> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = system.places[number % system.places.len()].connect().await?;
        let statement = match load {
            Load::Insert => client.prepare(&format!("INSERT INTO {TABLE} VALUES ($1, $2)")).await?,
            Load::Select => client.prepare(&format!("SELECT body FROM {TABLE} WHERE id = $1")).await?,
        };
        clients.push((client, statement));
    }
    let start = Instant::now() + WARM_UP;
    let end = start + time;
    let mut workers = JoinSet::new();
    for (number, (client, statement)) in clients.into_iter().enumerate() {
        let next_id = system.next_id.clone();
        workers.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            let mut done = 0u64;
            let mut draw = Draw(number as u64);
            let body = "y".repeat(ROW_BYTES);
            loop {
                let began = Instant::now();
                if began >= end {
                    return anyhow::Ok((done, times));
                }
                match load {
                    Load::Insert => {
                        let id = next_id.fetch_add(1, Ordering::Relaxed);
                        client.execute(&statement, &[&id, &body]).await?;
                    }
                    Load::Select => {
                        let id = draw.below(SELECT_ROWS);
                        client.query_one(&statement, &[&id]).await?;
                    }
                }
                let ended = Instant::now();
                // The rate counts what ended within the time; the latencies are of all that began in it, so that one
                // which hangs over the end is not forgotten.
                done += u64::from(ended >= start && ended <= end);
                if began >= start {
                    times.record((ended - began).as_micros() as u64)?;
                }
            }
        });
    }
    let mut times = Histogram::<u64>::new(3)?;
    let mut done = 0;
    while let Some(worker) = workers.join_next().await {
        let (its_done, its_times) = worker??;
        done += its_done;
        times.add(its_times)?;
    }
    Ok(Run { rate: done as f64 / time.as_secs_f64(), times })
}

/// Chance that is the same in each run: SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The first version drew from a handful of rows: its multiplier and the number of rows had common factors.
    #[test]
    fn selects_draw_from_all_rows() {
        for connection in 0..64 {
            let mut draw = Draw(connection);
            let drawn: BTreeSet<i64> = (0..SELECT_ROWS * 4).map(|_| draw.below(SELECT_ROWS)).collect();
            assert!(drawn.len() as i64 > SELECT_ROWS * 95 / 100, "connection {connection} drew {} rows", drawn.len());
            assert!(drawn.iter().all(|id| (0..SELECT_ROWS).contains(id)));
        }
    }
}
