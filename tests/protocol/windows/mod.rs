//! Windows: the first rows in an order, live.

mod copies;
mod ordered;
mod pages;
mod refusals;
mod resuming;
mod rights;
mod wire;

use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::{Backend, SyncClient, TestDatabase};

use crate::tables::NOTES;

/// Posts with every kind of order: numbers, nulls, text in a collation of its own, and in that of bytes.
fn posts(backend: Backend) -> String {
    let collation = match backend {
        Backend::Postgres => r#"COLLATE "en-x-icu""#,
        Backend::Sqlite => "COLLATE NOCASE",
    };
    let bytes = match backend {
        Backend::Postgres => r#"COLLATE "C""#,
        Backend::Sqlite => "",
    };
    format!(
        "CREATE TABLE posts (id integer PRIMARY KEY, at integer, title text {collation}, code text {bytes}, \
         author text NOT NULL DEFAULT 'ann')"
    )
}

async fn tables(db: &TestDatabase) {
    db.execute(&posts(db.backend())).await;
    db.execute(
        "CREATE TABLE members (id integer PRIMARY KEY, author text NOT NULL, reader text NOT NULL)",
    )
    .await;
    db.execute(NOTES).await;
}

async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    TestServer::start(db, ["posts", "members", "notes"]).await
}

/// A client that is subscribed to the notes as `n`.
async fn connect(server: &TestServer) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("n", "notes").await;
    client.wait_subscribed("n").await;
    client
}

/// Subscribes to a window of the posts.
async fn subscribe(client: &mut SyncClient, id: &str, window: Value) {
    client.subscribe_with(id, of_posts(window)).await;
    client.wait_subscribed(id).await;
}

fn of_posts(mut window: Value) -> Value {
    window["entity"] = "posts".into();
    window
}

fn keys(client: &SyncClient, id: &str) -> Vec<String> {
    client.rows(id).keys().cloned().collect()
}

/// Writes a note, and waits until the client has it.
async fn mark(db: &TestDatabase, client: &mut SyncClient, id: u32) {
    db.execute(&format!("INSERT INTO notes VALUES ({id}, 'a mark')"))
        .await;
    let key = id.to_string();
    client
        .wait_until(|client| client.row("n", &key).is_some())
        .await;
}

/// Waits until the stream has passed all first reads: one that a change meets in between may be read again.
async fn settle(db: &TestDatabase, client: &mut SyncClient) {
    mark(db, client, 900).await;
}

/// The changes of all subscriptions but the notes' up to the cursor with a note, such as `w put 3`.
async fn changes_until_note(client: &mut SyncClient, note: u32) -> Vec<String> {
    let mut changes = Vec::new();
    let key = note.to_string();
    while client.row("n", &key).is_none() {
        let frame = client.next_frame().await;
        match frame["type"].as_str() {
            Some("changes") => {
                let shape = frame["shape"].as_str();
                let mut all = client.subscriptions().iter();
                let found = all.find(|(_, subscription)| subscription.shape() == shape);
                let id = match found {
                    Some((id, _)) => id.to_json(),
                    None => frame["id"].clone(),
                };
                for change in frame["changes"].as_array().expect("changes") {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let (op, key) = (text(&change["op"]), text(&change["key"]));
                    changes.push(format!("{} {op} {key}", text(&id)));
                }
            }
            Some("cursor" | "ack") => {}
            _ => panic!("unexpected: {frame}"),
        }
    }
    changes.retain(|change| !change.starts_with("n "));
    changes.sort();
    changes
}

/// How many questions the reads of the log have asked.
async fn questions(server: &TestServer) -> u64 {
    let status = server.http().get("/api/sync/status").await.json();
    status["hub"]["questions"].as_u64().expect("a number")
}
