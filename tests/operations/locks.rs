//! Locks: what others hold does not stop the engine, and what it holds does not stop others.

use rhtmx_sync::SyncConfig;
use rhtmx_sync_tests::TestServer;
use testkit::{TestDatabase, eventually};

use crate::writers::NOTES;

/// The keys of the advisory locks that the engine uses, or used.
const KEYS: std::ops::RangeInclusive<i64> = 0x7268_746d_785f_0001..=0x7268_746d_785f_0005;

/// Any role may take any advisory lock and keep it. The engine starts, leads, captures and prunes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_locks_of_a_stranger_stop_nothing() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let stranger = db.connect_postgres().await;
    for key in KEYS {
        stranger
            .batch_execute(&format!("SELECT pg_advisory_lock({key})"))
            .await
            .expect("a lock");
    }
    let mut config: SyncConfig = TestServer::config(&db, ["notes"]).await;
    (config.retention.hours, config.retention.interval_ms) = (0, 100);
    let server = TestServer::with_config(config).await;
    server.engine().ready().await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    db.execute("INSERT INTO notes VALUES (1, 'note')").await;
    db.execute("ALTER TABLE notes ADD COLUMN added int DEFAULT 5")
        .await;
    db.execute("INSERT INTO notes VALUES (2, 'note')").await;
    client
        .wait_until(|client| {
            client
                .row("notes", "2")
                .is_some_and(|row| row["added"] == 5)
        })
        .await;
    eventually("the log is pruned", async || {
        let left = db
            .query_text("SELECT 1 FROM _rhtmx_sync_log WHERE entity_id IS NOT NULL LIMIT 1")
            .await;
        left.is_empty().then_some(())
    })
    .await;
}

/// A writer of a captured table stays open, and the listener waits for it. An index on another table, made
/// concurrently, waits for neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_index_on_another_table_does_not_wait() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    db.execute("CREATE TABLE other (id int PRIMARY KEY, x int)")
        .await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    let waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut id = 100;
    // The writer must write while the listener is awake; otherwise it rings, and nobody waits for it.
    let _open = loop {
        let writer = db.connect_postgres().await;
        db.execute(&format!("INSERT INTO notes VALUES ({id}, '')"))
            .await;
        let write = format!("BEGIN; INSERT INTO notes VALUES ({}, '')", id + 1);
        writer.batch_execute(&write).await.expect("a write");
        id += 2;
        let mut looks = 0;
        while looks < 10 && db.query_text(waits).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            looks += 1;
        }
        if looks < 10 {
            break writer;
        }
    };
    db.execute("CREATE INDEX CONCURRENTLY ON other (x)").await;
}
