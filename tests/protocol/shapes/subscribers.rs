//! Clients that are subscribed to selections of the todos, and the changes that they receive.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase};

use super::todos::{ALL, make_todos, todos};
use crate::writes::upsert;

pub(super) const ENTITIES: [&str; 2] = ["todos", "fence"];

/// A server over the todos.
pub(super) async fn serve(db: &TestDatabase) -> TestServer {
    make_todos(db).await;
    TestServer::start(db, ENTITIES).await
}

/// A client that is subscribed as `a` to the todos that match a condition.
pub(super) async fn subscriber(server: &TestServer, condition: &str) -> SyncClient {
    let mut client = server.connect().await;
    subscribe(&mut client, "a", json!({ "where": condition })).await;
    client
}

/// Adds a subscription and waits until it is live.
pub(super) async fn subscribe(client: &mut SyncClient, id: &str, selection: Value) {
    let mut fields = selection;
    fields["entity"] = json!("todos");
    client.subscribe_with(id, fields).await;
    client.wait_subscribed(id).await;
}

/// Runs a statement and returns all `changes` frames that it causes.
pub(super) async fn changes_after(
    client: &mut SyncClient,
    db: &TestDatabase,
    sql: &str,
) -> Vec<Value> {
    db.execute(sql).await;
    pending_changes(client).await
}

/// The `changes` frames that are still in flight: those up to the cursor of a mutation pushed now.
pub(super) async fn pending_changes(client: &mut SyncClient) -> Vec<Value> {
    let mutation = client.next_mutation();
    let write = upsert("fence", json!({ "id": 1 }));
    client.send_push(mutation, json!([write])).await;
    let mut frames = Vec::new();
    let mut acked = false;
    loop {
        let frame = client.next_frame().await;
        match frame["type"].as_str() {
            Some("changes") => frames.push(frame),
            Some("ack") => acked = true,
            Some("reject" | "error") => panic!("{frame}"),
            Some("cursor") if acked => return frames,
            _ => {}
        }
    }
}

/// Each change of these frames in short: `put 7`, `leave 7`, `truncate`.
pub(super) fn ops(frames: &[Value]) -> Vec<String> {
    let changes = frames
        .iter()
        .filter_map(|frame| frame["changes"].as_array())
        .flatten();
    let short = |change: &Value| {
        let op = change["op"].as_str().expect("an op");
        match change["key"].as_str() {
            Some(key) => format!("{op} {key}"),
            None => op.to_owned(),
        }
    };
    changes.map(short).collect()
}

/// As [`ops`], for one subscription of several.
pub(super) fn ops_of(client: &SyncClient, id: &str, frames: &[Value]) -> Vec<String> {
    let shape = client.subscription(id).shape();
    let own = frames
        .iter()
        .filter(|frame| frame["shape"].as_str() == shape);
    ops(&own.cloned().collect::<Vec<_>>())
}

/// As [`changes_after`], in short.
pub(super) async fn ops_after(
    client: &mut SyncClient,
    db: &TestDatabase,
    sql: &str,
) -> Vec<String> {
    ops(&changes_after(client, db, sql).await)
}

/// Waits until the copy equals the rows that match a condition now.
pub(super) async fn wait_equal(
    client: &mut SyncClient,
    db: &TestDatabase,
    id: &str,
    condition: &str,
) {
    let expected = todos(db, &ALL, condition).await;
    client
        .wait_until(|client| *client.rows(id) == expected)
        .await;
}
