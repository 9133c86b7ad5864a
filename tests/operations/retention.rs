//! Retention prunes the log by age and by size; no change is held up or missed.

use rhtmx_sync::SyncConfig;
use rhtmx_sync_tests::TestServer;
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends, eventually};

use crate::engines::{exists, status};
use crate::writers::{NOTES, insert};

/// Retention that runs all the time.
async fn eager(db: &TestDatabase) -> SyncConfig {
    let mut config = TestServer::config(db, ["notes"]).await;
    config.retention.interval_ms = 40;
    config
}

async fn subscriber(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("notes", "notes").await;
    client.wait_subscribed("notes").await;
    client
}

async fn entries(db: &TestDatabase, condition: &str) -> usize {
    let query = format!("SELECT entity_id FROM _rhtmx_sync_log WHERE {condition}");
    db.query_text(&query).await.len()
}

async fn until_none(db: &TestDatabase, condition: &str) {
    eventually("the log is pruned", async || {
        (entries(db, condition).await == 0).then_some(())
    })
    .await;
}

both_backends! {
    async fn the_log_is_pruned_by_age(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = eager(&db).await;
        config.retention.hours = 0;
        let server = TestServer::with_config(config).await;
        let mut client = subscriber(&server).await;
        let away = client.state();
        for first in (0..20_000).step_by(1000) {
            db.execute(&insert(first..first + 1000)).await;
        }
        client.wait_until(|client| client.rows("notes").len() == 20_000).await;
        until_none(&db, "entity_id IS NOT NULL").await;

        db.execute("UPDATE notes SET body = 'new' WHERE id = 7").await;
        client.wait_until(|client| client.row("notes", "7").is_some_and(|row| row["body"] == "new")).await;
        assert_eq!(client.frames("refetch"), 0);
        let mut resumed = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &away).await;
        resumed.wait_subscribed("notes").await;
        assert_eq!(resumed.frames("refetch"), 1);
        assert_eq!(resumed.rows("notes"), client.rows("notes"));
    }

    /// The oldest entries are deleted, the newest stay.
    async fn the_log_is_pruned_by_size(db: TestDatabase) {
        const LIMIT: u64 = 1024 * 1024;
        db.execute(NOTES).await;
        db.execute(&insert(0..200)).await;
        let mut config = eager(&db).await;
        config.retention.size_max_mb = 1;
        let server = TestServer::with_config(config).await;
        let mut client = subscriber(&server).await;
        // Every update logs the previous body: a kilobyte that cannot be compressed.
        let body = match db.backend() {
            Backend::Postgres => {
                "(SELECT string_agg(md5(random()::text || n), '') FROM generate_series(1, 32) n)"
            }
            Backend::Sqlite => "hex(randomblob(512))",
        };
        for _ in 0..30 {
            db.execute(&format!("UPDATE notes SET body = {body}")).await;
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
        db.execute("UPDATE notes SET body = 'small'").await;
        let http = server.http();
        let mut bytes = u64::MAX;
        while bytes > LIMIT {
            bytes = eventually("the log becomes smaller", async || {
                let now = status(&http).await["log"]["bytes"].as_u64().expect("a size");
                (now < bytes).then_some(now)
            })
            .await;
        }
        let left = entries(&db, "action = 'update'").await;
        assert!((200..3000).contains(&left), "{left} entries are left of 6200");
        client.wait_until(|client| client.rows("notes").values().all(|row| row["body"] == "small")).await;
        assert_eq!(client.frames("refetch"), 0);
    }
}

/// A publication of all tables forbids deletes from tables without a key; the engine's have one each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_of_all_tables_changes_nothing() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    db.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        .await;
    let mut config = eager(&db).await;
    config.retention.hours = 0;
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server).await;
    db.execute(&insert(0..100)).await;
    until_none(&db, "entity_id IS NOT NULL").await;
    client
        .push_next(serde_json::json!([{ "entity": "notes", "op": "delete", "key": 7 }]))
        .await
        .acked();
    client
        .wait_until(|client| client.rows("notes").len() == 99)
        .await;
}

/// Retention runs while a transaction is open, and does not delete what no client has received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_an_open_transaction_are_not_pruned() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let mut config = eager(&db).await;
    config.retention.hours = 0;
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server).await;
    let away = client.state();
    let open = db.connect_postgres().await;
    open.batch_execute(&format!("BEGIN; {}", insert([1])))
        .await
        .expect("a write");
    for id in 2..5 {
        db.execute(&insert([id])).await;
        until_none(&db, "entity_id IS NOT NULL").await;
    }
    open.batch_execute("COMMIT").await.expect("a commit");
    client
        .wait_until(|client| client.rows("notes").len() == 4)
        .await;
    assert_eq!(
        (client.puts("notes", "1"), client.frames("refetch")),
        (1, 0)
    );
    let mut resumed =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &away).await;
    resumed.wait_subscribed("notes").await;
    assert_eq!(resumed.rows("notes"), client.rows("notes"));
    until_none(&db, "entity_id IS NOT NULL").await;
}

/// Retention is stuck in the middle of a batch; writers continue, and their changes arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_do_not_wait_for_retention() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let mut config = eager(&db).await;
    config.retention.hours = 0;
    let server = TestServer::with_config(config).await;
    let mut client = subscriber(&server).await;
    let holder = db.connect_postgres().await;
    holder
        .batch_execute("BEGIN; INSERT INTO notes VALUES (1, ''); COMMIT; BEGIN; SELECT FROM _rhtmx_sync_log FOR UPDATE")
        .await
        .expect("the log's rows");
    let stuck = "FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND query LIKE '%DELETE FROM _rhtmx_sync_log%'";
    exists(&db, "retention waits", stuck).await;
    for id in 2..40 {
        db.execute(&insert([id])).await;
        client
            .wait_until(|client| client.row("notes", &id.to_string()).is_some())
            .await;
    }
    exists(&db, "retention still waits", stuck).await;
    holder
        .batch_execute("COMMIT")
        .await
        .expect("the lock is released");
    until_none(&db, "entity_id IS NOT NULL").await;
    assert_eq!(client.frames("refetch"), 0);
}
