//! Rows that come and go without having changed, because memberships change.

mod constant;
mod doors;
mod filters;
mod many;
mod moves;
mod resuming;
mod slow;
mod tables;
mod writing;

use std::sync::Arc;

use rhtmx_sync::{EntityConfig, EntityPolicy, Policies, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase};

use crate::claims::{ClaimsAreTokens, options};
use crate::tables::NOTES;

/// Two lists with two todos each, of which Ann is a member of the first, and Ben of the second.
const TABLES: [&str; 4] = [
    "CREATE TABLE lists (id integer PRIMARY KEY, parent_id integer, name text NOT NULL DEFAULT '')",
    "CREATE TABLE list_members (id integer PRIMARY KEY, list_id integer REFERENCES lists ON DELETE CASCADE, user_id text, \
     role text NOT NULL DEFAULT 'reader')",
    "CREATE TABLE todos (id integer PRIMARY KEY, list_id integer, title text NOT NULL DEFAULT '')",
    NOTES,
];
const ROWS: [&str; 3] = [
    "INSERT INTO lists VALUES (1, NULL, 'one'), (2, NULL, 'two')",
    "INSERT INTO list_members VALUES (1, 1, 'ann', 'reader'), (2, 2, 'ben', 'writer')",
    "INSERT INTO todos VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 2, 'd'), (5, NULL, 'e')",
];
const MINE: &str = "list_id IN (SELECT list_id FROM list_members WHERE user_id = auth.sub)";

async fn tables(db: &TestDatabase) {
    for statement in TABLES.into_iter().chain(ROWS) {
        db.execute(statement).await;
    }
}

/// A policy for everything that may be done.
fn all(policy: &str) -> EntityPolicy {
    EntityPolicy {
        read: Some(policy.to_owned()),
        create: Some(policy.to_owned()),
        update: Some(policy.into()),
        delete: Some(policy.to_owned()),
        ..EntityPolicy::default()
    }
}

/// Todos of one's lists, one's own memberships, and everybody's notes.
fn usual() -> Vec<(&'static str, EntityPolicy)> {
    vec![
        (
            "lists",
            all("id IN (SELECT list_id FROM list_members WHERE user_id = auth.sub)"),
        ),
        ("list_members", all("user_id = auth.sub")),
        ("todos", all(MINE)),
        ("notes", all("TRUE")),
    ]
}

async fn config(db: &TestDatabase, policies: Vec<(&str, EntityPolicy)>) -> SyncConfig {
    let mut config = TestServer::config(db, ["lists", "list_members", "todos", "notes"]).await;
    let policies = policies.into_iter();
    let policies = policies.map(|(name, policy)| (name.to_owned(), policy));
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer = Arc::new(Policies::new(policies).expect("policies"));
    config
}

/// As [`config`], with memberships that are never served.
async fn with_internal_members(db: &TestDatabase) -> SyncConfig {
    let mut policies = usual();
    policies.retain(|(name, _)| *name != "list_members");
    let mut config = config(db, policies).await;
    for entity in &mut config.entities {
        entity.internal = entity.name == "list_members";
    }
    config
}

async fn serve(db: &TestDatabase) -> TestServer {
    tables(db).await;
    TestServer::with_config(config(db, usual()).await).await
}

/// An engine without users, over all tables.
async fn serve_everybody(db: &TestDatabase) -> TestServer {
    tables(db).await;
    let entities = ["lists", "list_members", "todos", "notes"].map(EntityConfig::new);
    TestServer::start(db, entities).await
}

fn user(name: &str) -> Value {
    json!({ "sub": name })
}

/// A client that is subscribed to its todos as `t`, its memberships as `m`, and the notes as `n`.
async fn subscriber(server: &TestServer, name: &str) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), options(&user(name))).await;
    for (id, entity) in [("t", "todos"), ("m", "list_members"), ("n", "notes")] {
        client.subscribe(id, entity).await;
        client.wait_subscribed(id).await;
    }
    client
}

fn keys(client: &SyncClient) -> Vec<&str> {
    client.rows("t").keys().map(String::as_str).collect()
}

/// The changes that take effect at the next cursor that has any: `t put 3`, in order.
async fn next_changes(client: &mut SyncClient) -> Vec<String> {
    let mut changes = Vec::new();
    loop {
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
            Some("cursor") if !changes.is_empty() => {
                changes.sort();
                return changes;
            }
            Some("cursor" | "ack") => {}
            _ => panic!("unexpected: {frame}"),
        }
    }
}

/// Writes a note that everybody has read when it returns.
async fn mark(db: &TestDatabase, clients: &mut [&mut SyncClient], id: u32) {
    db.execute(&format!("INSERT INTO notes VALUES ({id}, 'a mark')"))
        .await;
    for client in clients {
        let key = id.to_string();
        client
            .wait_until(|client| client.row("n", &key).is_some())
            .await;
    }
}

/// Waits until all is live and the copy of `t` holds these keys.
async fn wait_keys(client: &mut SyncClient, expected: &[&str]) {
    client
        .wait_until(|client| client.subscription("t").is_live() && keys(client) == expected)
        .await;
}
