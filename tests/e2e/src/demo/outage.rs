//! How long the cluster takes no writes when its leader dies: a client that never stops writing.

use anyhow::Result;
use rockpool_e2e::{Node, sql};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest that one write is waited for.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// A writer of single rows through nodes that stay alive, and when each row was acknowledged.
pub struct Writer {
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Writer {
    /// Starts writing through `node`.
    pub fn start(node: &Node) -> Writer {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (data, port) = (node.data.clone(), node.pg_port);
        let thread = std::thread::spawn({
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            move || write(data, port, &acknowledged, &stop)
        });
        Writer { acknowledged, stop, thread }
    }

    /// Rows acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("nobody panics with it").len()
    }

    /// Time from `killed` to the first row that was acknowledged after the longest pause since.
    pub fn gap_after(&self, killed: Instant) -> Duration {
        let times = self.acknowledged.lock().expect("nobody panics with it");
        let mut last = killed;
        let mut gap = Duration::ZERO;
        for time in times.iter().filter(|time| **time > killed) {
            gap = gap.max(*time - last);
            last = *time;
        }
        gap.max(if last == killed { killed.elapsed() } else { Duration::ZERO })
    }

    /// Stops, and answers how many rows were acknowledged and how many the table holds.
    pub fn finish(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        let stored = self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it").len() as u64;
        Ok((acknowledged, stored))
    }
}

fn write(data: PathBuf, port: u16, acknowledged: &Mutex<Vec<Instant>>, stop: &AtomicBool) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = sql::connect_at(&data, port).await?;
        client
            .batch_execute("CREATE TABLE heartbeat (id int8 PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
            .await?;
        let insert = client.prepare("INSERT INTO heartbeat (id) VALUES ($1) ON CONFLICT DO NOTHING").await?;
        let mut id = 0i64;
        while !stop.load(Ordering::SeqCst) {
            // A write that fails or is lost is sent again with the same id: that is what a careful client does.
            if let Ok(Ok(_)) = tokio::time::timeout(WRITE_DEADLINE, client.execute(&insert, &[&id])).await {
                acknowledged.lock().expect("nobody panics with it").push(Instant::now());
                id += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let row = client.query_one("SELECT count(*) FROM heartbeat", &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    })
}
