//! Clients of parts of the todos, and what they are told.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase};

use super::todos::{ALL, make_todos, todos};
use crate::writes::upsert;

pub(super) const ENTITIES: [&str; 2] = ["todos", "marks"];

/// A server over the todos.
pub(super) async fn serving(db: &TestDatabase) -> TestServer {
    make_todos(db).await;
    TestServer::start(db, ENTITIES).await
}

/// A client that follows the todos that a condition holds for as `a`.
pub(super) async fn follower(server: &TestServer, condition: &str) -> SyncClient {
    let mut client = server.connect().await;
    follow(&mut client, "a", json!({ "where": condition })).await;
    client
}

/// One more subscription, live.
pub(super) async fn follow(client: &mut SyncClient, id: &str, part: Value) {
    let mut fields = part;
    fields["entity"] = json!("todos");
    client.subscribe_with(id, fields).await;
    client.wait_subscribed(id).await;
}

/// Runs a statement and gives the `changes` frames that it brings, all of them: behind it the client
/// pushes something, and takes in what comes up to the cursor of that.
pub(super) async fn heard(client: &mut SyncClient, db: &TestDatabase, sql: &str) -> Vec<Value> {
    db.execute(sql).await;
    up_to_now(client).await
}

/// The `changes` frames that are still under way.
pub(super) async fn up_to_now(client: &mut SyncClient) -> Vec<Value> {
    let mutation = client.next_mutation();
    let mark = upsert("marks", json!({ "id": 1 }));
    client.send_push(mutation, json!([mark])).await;
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

/// The same for one subscription of several.
pub(super) fn ops_of(client: &SyncClient, id: &str, frames: &[Value]) -> Vec<String> {
    let shape = client.subscription(id).shape();
    let own = frames
        .iter()
        .filter(|frame| frame["shape"].as_str() == shape);
    ops(&own.cloned().collect::<Vec<_>>())
}

/// As [`heard`], in short.
pub(super) async fn told(client: &mut SyncClient, db: &TestDatabase, sql: &str) -> Vec<String> {
    ops(&heard(client, db, sql).await)
}

/// Waits until the copy is what the table holds now for a condition.
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
