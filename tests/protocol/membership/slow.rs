//! A subquery that the database takes long for holds up nobody but its own subscription.

use std::time::Duration;

use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::{mark, tables};

/// Texts that take a pattern long to look through, so many that they take minutes.
const TEXTS: usize = 8000;
const TEXT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn serve(db: &TestDatabase, timeout: Duration) -> TestServer {
    tables(db).await;
    db.execute("CREATE TABLE texts (id integer PRIMARY KEY, body text NOT NULL)")
        .await;
    let entities = ["lists", "list_members", "todos", "notes", "texts"].map(EntityConfig::new);
    let mut config = TestServer::config(db, entities).await;
    config.reads.subquery_timeout_ms = timeout.as_millis() as u64;
    db.execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {TEXTS}) INSERT INTO texts SELECT i, {} FROM n",
        match db.backend() {
            Backend::Postgres => "repeat('a', 8192)".to_owned(),
            Backend::Sqlite => format!("replace(hex(zeroblob(64)), '00', '{TEXT}')"),
        }
    ))
    .await;
    TestServer::with_config(config).await
}

fn dear() -> Value {
    let pattern = format!("%{}b%", "a".repeat(900));
    json!({
        "entity": "todos",
        "where": "id IN (SELECT id FROM texts WHERE body LIKE $1)",
        "params": [pattern],
    })
}

/// The questions that PostgreSQL works on, each with the time of its beginning.
async fn questions(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT pid || ' ' || query_start FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT NULL::text AS key%'";
    db.query_text(sql).await.into_iter().flatten().collect()
}

both_backends! {
    async fn a_subquery_that_takes_long_holds_up_nobody(db: TestDatabase) {
        let server = serve(&db, Duration::from_secs(100)).await;
        let mut ann = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
        ann.subscribe("n", "notes").await;
        ann.wait_subscribed("n").await;
        let mut ben = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
        ben.subscribe_with("dear", dear()).await;
        ben.subscribe("n", "notes").await;
        ben.wait_subscribed("n").await;
        for id in 1.. {
            let before = questions_of(&db).await;
            mark(&db, &mut [&mut ann, &mut ben], id).await;
            let after = questions_of(&db).await;
            // The same question is worked on before and after a change has come through.
            let goes_on = before.iter().any(|question| after.contains(question));
            if goes_on || db.backend() == Backend::Sqlite && id > 20 {
                break;
            }
        }
        assert!(!ben.subscription("dear").is_live() && ben.errors().is_empty());
        // Others with subqueries do not wait either.
        ann.subscribe_with("s", json!({ "entity": "todos", "where": "list_id IN (SELECT list_id FROM list_members WHERE user_id = 'ann')" })).await;
        ann.wait_subscribed("s").await;
        db.execute("UPDATE list_members SET list_id = 2 WHERE id = 1").await;
        ann.wait_until(|ann| ann.rows("s").keys().eq(["3", "4"])).await;
        assert!(!ben.subscription("dear").is_live());
    }

    async fn a_subquery_that_takes_too_long_ends_its_subscription_alone(db: TestDatabase) {
        let server = serve(&db, Duration::from_millis(300)).await;
        let mut ben = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
        ben.subscribe("n", "notes").await;
        ben.wait_subscribed("n").await;
        ben.subscribe_with("dear", dear()).await;
        ben.wait_until(|ben| !ben.errors().is_empty()).await;
        let error = format!("{:?}", ben.errors());
        assert!(error.contains("too_large") || error.contains("TooLarge"), "{error}");
        assert!(error.contains("reads.subquery_timeout_ms"), "{error}");
        mark(&db, &mut [&mut ben], 1).await;
    }
}

async fn questions_of(db: &TestDatabase) -> Vec<String> {
    match db.backend() {
        Backend::Postgres => questions(db).await,
        Backend::Sqlite => Vec::new(),
    }
}
