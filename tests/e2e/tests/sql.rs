//! Any node answers any statement, before and after one of them dies: through `psql`, and through a driver.

use anyhow::{Context, Result};
use rockpool_e2e::{Cluster, Node, sql, wait_until};
use std::process::Command;
use std::time::Duration;

/// Runs a script through psql and answers what it prints, unaligned and without headings.
fn psql(node: &Node, script: &str) -> Result<String> {
    let connection = format!(
        "host=localhost port={} user=root dbname=rockpool sslmode=verify-full sslrootcert={}",
        node.pg_port,
        node.data.join("ca.crt").display()
    );
    let output = Command::new("psql")
        .env("PGPASSFILE", node.pgpass())
        .args([&connection, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", script])
        .output()
        .context("psql is not installed; make setup installs it")?;
    anyhow::ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

const FILL: &str = "
    CREATE TABLE reefs (id int PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE corals (
        id int PRIMARY KEY, reef int NOT NULL REFERENCES reefs, species text NOT NULL, size numeric(6,2), seen timestamptz DEFAULT now()
    );
    CREATE INDEX corals_by_species ON corals (species);
    INSERT INTO reefs VALUES (1, 'north'), (2, 'south'), (3, 'empty');
    INSERT INTO corals (id, reef, species, size)
        SELECT n, 1 + n % 2, CASE WHEN n % 3 = 0 THEN 'acropora' ELSE 'porites' END, n * 1.25 FROM generate_series(1, 60) AS n;";

const QUESTION: &str = "SELECT r.name, count(c.id), sum(c.size) FROM reefs r LEFT JOIN corals c ON c.reef = r.id AND c.species = 'acropora' \
     GROUP BY r.name ORDER BY r.name";
const ANSWER: &str = "empty|0|\nnorth|10|412.50\nsouth|10|375.00";

#[test]
fn psql_works_on_every_node_and_after_one_is_gone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 3)?;
    psql(&cluster.nodes[1], FILL)?;
    for node in &cluster.nodes {
        assert_eq!(psql(node, QUESTION)?, ANSWER);
    }
    let described = psql(&cluster.nodes[2], "\\di")?;
    assert!(described.contains("corals_by_species"), "{described}");

    cluster.nodes[0].kill9()?;
    assert_eq!(psql(&cluster.nodes[2], QUESTION)?, ANSWER, "right after node 1 died");
    psql(&cluster.nodes[1], "UPDATE corals SET species = 'acropora' WHERE id = 1")?;
    assert_eq!(psql(&cluster.nodes[2], "SELECT count(*) FROM corals WHERE species = 'acropora'")?, "21");
    let refused = psql(&cluster.nodes[1], "INSERT INTO corals (id, reef, species) VALUES (99, 7, 'nowhere')")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("foreign key"), "{refused}");

    cluster.nodes[0].start(None)?;
    cluster.nodes[0].wait_ready()?;
    assert_eq!(
        psql(&cluster.nodes[0], "SELECT count(*) FROM corals WHERE species = 'acropora'")?,
        "21",
        "after its return"
    );
    Ok(())
}

/// Two transactions that each read what the other writes: one of them must be told to try again.
#[test]
fn write_skew_is_refused_across_nodes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path(), 3)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let one = sql::connect(&cluster.nodes[1]).await?;
        let other = sql::connect(&cluster.nodes[2]).await?;
        one.batch_execute("CREATE TABLE on_call (name text PRIMARY KEY, here bool NOT NULL); INSERT INTO on_call VALUES ('ann', true), ('bob', true)").await?;
        one.batch_execute("BEGIN").await?;
        other.batch_execute("BEGIN").await?;
        for client in [&one, &other] {
            let here: i64 = client.query_one("SELECT count(*) FROM on_call WHERE here", &[]).await?.get(0);
            assert_eq!(here, 2);
        }
        one.execute("UPDATE on_call SET here = false WHERE name = 'ann'", &[]).await?;
        other.execute("UPDATE on_call SET here = false WHERE name = 'bob'", &[]).await?;
        one.batch_execute("COMMIT").await?;
        let refused = other.batch_execute("COMMIT").await.expect_err("both would leave nobody on call");
        assert_eq!(refused.code().map(|code| code.code()), Some("40001"), "{refused}");
        let left: i64 = one.query_one("SELECT count(*) FROM on_call WHERE here", &[]).await?.get(0);
        assert_eq!(left, 1);
        Ok(())
    })
}

#[test]
fn a_node_that_was_killed_again_and_again_has_every_acknowledged_row() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut acknowledged = 0i64;
    for round in 0..3 {
        let node = &cluster.nodes[0];
        runtime.block_on(async {
            let client = sql::connect(node).await?;
            client.batch_execute("CREATE TABLE IF NOT EXISTS kept (id int8 PRIMARY KEY)").await?;
            let stored: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await?.get(0);
            assert!(stored >= acknowledged, "round {round}: {stored} rows, but {acknowledged} were acknowledged");
            for _ in 0..50 {
                client.execute("INSERT INTO kept VALUES ($1) ON CONFLICT DO NOTHING", &[&acknowledged]).await?;
                acknowledged += 1;
            }
            anyhow::Ok(())
        })?;
        let node = &mut cluster.nodes[0];
        node.kill9()?;
        node.start(None)?;
        node.wait_ready()?;
    }
    wait_until("a leader", Duration::from_secs(10), || cluster.nodes[0].status().ok()?["leader"].as_u64())?;
    runtime.block_on(async {
        let client = sql::connect(&cluster.nodes[0]).await?;
        let stored: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await?.get(0);
        assert_eq!(stored, acknowledged, "after the last kill");
        Ok(())
    })
}
