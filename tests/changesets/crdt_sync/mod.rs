//! Nodes of the family of CRDTs over SQL, by their own protocol.

mod converging;
mod node;
mod refused;
mod resuming;

use std::collections::BTreeMap;

use rhtmx_sync::{EntityConfig, Rules, SyncConfig};
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::{TestDatabase, eventually};

use self::node::Node;

/// What a node has of the tables.
const TABLES: &[(&str, &[&str])] = &[
    ("lists", &["id", "name!"]),
    ("todos", &["id", "list_id", "title!", "note", "done!"]),
];

async fn config(db: &TestDatabase) -> SyncConfig {
    db.execute("CREATE TABLE lists (id BIGINT PRIMARY KEY, name TEXT NOT NULL)")
        .await;
    db.execute(
        "CREATE TABLE todos (id BIGINT PRIMARY KEY, list_id BIGINT REFERENCES lists (id), title TEXT NOT NULL, \
         note TEXT, done BOOLEAN NOT NULL DEFAULT FALSE)",
    )
    .await;
    let entities = ["lists", "todos"].map(|name| EntityConfig::new(name).fields(Rules::default()));
    let mut config = TestServer::config(db, entities).await;
    config.crdt = true;
    config
}

async fn serve(db: &TestDatabase) -> TestServer {
    TestServer::with_config(config(db).await).await
}

/// The route of a server.
fn url(server: &TestServer) -> String {
    let of_clients = server.ws_url();
    let prefix = of_clients
        .strip_suffix("/ws")
        .expect("the route of clients");
    format!("{prefix}/crdt")
}

fn node(id: &str) -> Node {
    Node::new(id, TABLES)
}

/// The rows of a table in the database, with numbers for truth values.
async fn rows(db: &TestDatabase, table: &str) -> BTreeMap<String, Value> {
    let columns: &[&str] = match table {
        "lists" => &["id", "name"],
        _ => &["id", "list_id", "title", "note", "done"],
    };
    let members: Vec<String> = columns
        .iter()
        .map(|column| match *column {
            "done" => "'done', CASE WHEN done THEN 1 ELSE 0 END".to_owned(),
            column => format!("'{column}', {column}"),
        })
        .collect();
    let object = match db.backend() {
        testkit::Backend::Postgres => "json_build_object",
        testkit::Backend::Sqlite => "json_object",
    };
    let sql = format!(
        "SELECT CAST({object}({}) AS text) FROM {table}",
        members.join(", ")
    );
    let rows = db.query_json(&sql).await.into_iter();
    rows.map(|row| (row["id"].to_string(), row)).collect()
}

/// Waits until a row of a table has this value.
async fn wait_for(db: &TestDatabase, table: &str, id: i64, column: &str, value: Value) {
    eventually(&format!("{table} {id} {column} = {value}"), || async {
        let rows = rows(db, table).await;
        let row = rows.get(&id.to_string());
        row.is_some_and(|row| row[column] == value).then_some(())
    })
    .await;
}

/// Waits until the database has other rows, or none.
async fn wait_for_count(db: &TestDatabase, table: &str, count: usize) {
    eventually(&format!("{count} rows of {table}"), || async {
        (rows(db, table).await.len() == count).then_some(())
    })
    .await;
}
