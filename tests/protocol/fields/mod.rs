//! Rows that merge by their fields.

mod configured;
mod conflicts;
mod folding;
mod pushing;
mod rights;
mod routes;
mod tracker;

use rhtmx_sync::{ColumnMerge, ColumnRule, Deletes, EntityConfig, Rules, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::{ClientOptions, SyncClient, TestDatabase};
use uuid::Uuid;

/// A table of tasks, whose likes add up and whose tags are a set.
const TASKS: &str = "CREATE TABLE tasks (id integer PRIMARY KEY, title text, due text, likes integer DEFAULT 0, tags json)";

/// How tasks merge.
pub(crate) fn rules(deletes: Deletes) -> Rules {
    let rule = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    let columns = [("likes", ColumnMerge::Counter), ("tags", ColumnMerge::Set)];
    Rules {
        deletes,
        columns: columns
            .map(|(column, merge)| (column.to_owned(), rule(merge)))
            .into(),
        ..Rules::default()
    }
}

/// A configuration with tasks that merge.
pub(crate) async fn config(db: &TestDatabase, deletes: Deletes) -> SyncConfig {
    config_of(db, rules(deletes)).await
}

/// A configuration with tasks that merge by these rules.
async fn config_of(db: &TestDatabase, rules: Rules) -> SyncConfig {
    db.execute(TASKS).await;
    db.execute(
        "INSERT INTO tasks (id, title, due, likes, tags) VALUES (1, 'a', 'b', 1, '[\"x\"]')",
    )
    .await;
    let tasks = EntityConfig::new("tasks").fields(rules);
    SyncConfig::new(
        rhtmx_sync::DbPool::from_url(&db.url())
            .await
            .expect("a pool"),
        vec![tasks],
    )
}

pub(crate) async fn serve(db: &TestDatabase, deletes: Deletes) -> TestServer {
    TestServer::with_config(config(db, deletes).await).await
}

/// A client whose node is its number.
pub(crate) async fn connect(server: &TestServer, number: u8) -> SyncClient {
    let mut id = [0; 16];
    id[4] = number;
    let options = ClientOptions {
        client_id: Uuid::from_bytes(id),
        ..ClientOptions::default()
    };
    let mut client = SyncClient::connect(&server.ws_url(), options).await;
    client.subscribe("t", "tasks").await;
    client.wait_subscribed("t").await;
    client
}

/// The write, stamped by the client of this number in this second.
pub(crate) fn stamped(mut write: Value, number: u8, second: u64) -> Value {
    write["hlc"] = format!("2026-01-01T00:00:{second:02}.000Z-0000-0000000{number}").into();
    write
}

/// The first task's values.
pub(crate) async fn task(db: &TestDatabase, column: &str) -> Option<String> {
    let found = db
        .query_text(&format!(
            "SELECT CAST({column} AS text) FROM tasks WHERE id = 1"
        ))
        .await;
    found.into_iter().next().flatten()
}
