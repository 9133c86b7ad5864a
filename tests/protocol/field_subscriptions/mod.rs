//! Subscriptions to fields: rows with what is known of them beside their values.

mod changes;
mod columns;
mod reading;

use std::collections::BTreeMap;

use rhtmx_sync::{ColumnMerge, ColumnRule, EntityConfig, Rules, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Map, Value, json};
use testkit::{SyncClient, TestDatabase};

use crate::tables::{TASKS, rows};

const CARDS: &str = "CREATE TABLE cards (id integer PRIMARY KEY, list integer NOT NULL, title text, body text, \
    likes integer NOT NULL DEFAULT 0)";
const ALL: [&str; 5] = ["id", "list", "title", "body", "likes"];

/// A clock that is later for a greater number.
fn clock(number: u32) -> String {
    format!("2099-11-20T07:00:00.000Z-{number:04X}-node")
}

async fn config(db: &TestDatabase) -> SyncConfig {
    db.execute(CARDS).await;
    db.execute(TASKS).await;
    db.execute(
        "INSERT INTO cards (id, list, title, body) VALUES (1, 1, 'one', 'a'), (2, 1, 'two', 'b'), (3, 2, 'three', 'c')",
    )
    .await;
    let mut rules = Rules::default();
    let counter = ColumnRule {
        merge: ColumnMerge::Counter,
        strategy: None,
    };
    rules.columns.insert("likes".to_owned(), counter);
    let cards = EntityConfig::new("cards").fields(rules);
    TestServer::config(db, [cards, EntityConfig::new("tasks")]).await
}

async fn serve(db: &TestDatabase) -> TestServer {
    TestServer::with_config(config(db).await).await
}

/// Subscribes to cards, with their metadata, and to the tasks as `t`.
async fn subscribe(server: &TestServer, id: &str, selection: Value) -> SyncClient {
    let mut client = server.connect().await;
    client.subscribe("t", "tasks").await;
    client.subscribe_with(id, of_cards(selection)).await;
    client.wait_subscribed("t").await;
    client.wait_subscribed(id).await;
    client
}

fn of_cards(mut selection: Value) -> Value {
    selection["entity"] = json!("cards");
    selection["mode"] = json!("fields");
    selection
}

/// Writes to a card and its metadata, in one transaction.
async fn write(db: &TestDatabase, sql: &str, key: u32, metadata: Value) {
    let entry = format!(
        "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) VALUES ('cards', '{key}', '{}', '{metadata}') \
         ON CONFLICT (entity, entity_id) DO UPDATE SET newest = excluded.newest, metadata = excluded.metadata",
        clock(0xffff)
    );
    db.execute(&format!("BEGIN; {sql}; {entry}; COMMIT")).await;
}

/// The metadata with the clocks of these columns.
fn stamped(clocks: &[(&str, u32)]) -> Value {
    let clocks = clocks.iter();
    let clocks = clocks.map(|(column, number)| ((*column).to_owned(), clock(*number).into()));
    json!({ "born": clock(0), "fields": clocks.collect::<Map<String, Value>>() })
}

/// What a client of all columns must know of the rows beside their values.
async fn metadata(db: &TestDatabase, condition: &str) -> BTreeMap<String, Value> {
    let sql = match db.backend() {
        testkit::Backend::Postgres => "json_build_object('key', f.entity_id, 'kept', f.metadata)",
        testkit::Backend::Sqlite => "json_object('key', f.entity_id, 'kept', json(f.metadata))",
    };
    let query = format!(
        "SELECT {sql} FROM _rhtmx_sync_field f JOIN cards c ON f.entity_id = CAST(c.id AS text) \
         WHERE f.entity = 'cards' AND {condition}"
    );
    let entries = db.query_json(&query).await.into_iter();
    let entries = entries.map(|mut entry| {
        let key = entry["key"].as_str().expect("a key").to_owned();
        let mut kept = entry["kept"].take();
        let fields = kept.as_object_mut().expect("an object").remove("fields");
        if let Some(fields) = fields.filter(|fields| *fields != json!({})) {
            kept["clocks"] = fields;
        }
        (key, kept)
    });
    entries.collect()
}

/// Waits until the client is where the database is, and compares its rows and their metadata.
async fn assert_equal(db: &TestDatabase, client: &mut SyncClient, id: &str, condition: &str) {
    reach(db, client).await;
    let mut cards = rows(db, "cards c", &ALL).await;
    let kept = keys(db, condition).await;
    cards.retain(|key, _| kept.contains(key));
    let subscription = client.subscription(id);
    assert_eq!(*subscription.rows(), cards, "{}", client.transcript());
    let known = metadata(db, condition).await;
    assert_eq!(*subscription.metadata(), known, "{}", client.transcript());
}

async fn keys(db: &TestDatabase, condition: &str) -> Vec<String> {
    let query = format!("SELECT CAST(c.id AS text) FROM cards c WHERE {condition}");
    db.query_text(&query).await.into_iter().flatten().collect()
}

/// Waits until the client has all that has been written.
async fn reach(db: &TestDatabase, client: &mut SyncClient) {
    let last = db
        .query_text("SELECT CAST(coalesce(max(id), 0) + 1 AS text) FROM tasks")
        .await;
    let key = last[0].clone().expect("a number");
    db.execute(&format!("INSERT INTO tasks VALUES ({key}, 'a mark')"))
        .await;
    client
        .wait_until(|client| client.row("t", &key).is_some())
        .await;
}

/// The changes of the next frame that are about this card.
async fn next_changes(client: &mut SyncClient, key: &str) -> Vec<Value> {
    let is_of = |change: &&Value| change["key"] == key;
    let of_key = |frame: &Value| -> Vec<Value> {
        let changes = frame["changes"].as_array().into_iter().flatten();
        changes.filter(is_of).cloned().collect()
    };
    let frame = client
        .wait_for(|frame| {
            let is_of_cards = frame["shape"]
                .as_str()
                .is_none_or(|it| it.starts_with("cards"));
            is_of_cards && !of_key(frame).is_empty()
        })
        .await;
    of_key(&frame)
}
