//! Tables whose rows merge, for a program with a database of its own.

mod bounds;
mod rows;
mod schema;
mod together;
mod transactions;
mod watching;

use merge::{Deletes, Rules};
use rhtmx_sync::crdt::{Crdt, CrdtError, Query, Row, Schema};
use rhtmx_sync::{DbPool, EntityConfig};
use serde_json::{Map, Value, json};
use testkit::{Backend, TestDatabase};

const TABLES: &str = "CREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT); \
     CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN NOT NULL DEFAULT FALSE)";

/// Lists, whose deletions win, and todos that a later edit brings back.
fn schema() -> Schema {
    let todos = EntityConfig::new("todos").fields(Rules {
        deletes: Deletes::Revive,
        ..Rules::default()
    });
    Schema::new(1)
        .entity("lists")
        .entity(todos)
        .on_create(async |tx| Ok(tx.execute(TABLES).await?))
}

async fn pool(db: &TestDatabase) -> DbPool {
    DbPool::from_url(&db.url()).await.expect("a database")
}

async fn open(db: &TestDatabase) -> Crdt {
    Crdt::open(pool(db).await, schema())
        .await
        .expect("it opens")
}

/// A todo's values.
fn todo(id: &str, title: &str) -> Value {
    json!({"id": id, "title": title, "done": false})
}

/// The keys of all rows.
async fn keys(crdt: &Crdt, entity: &str) -> Vec<String> {
    let rows = crdt.query(&Query::new(entity)).await.expect("rows");
    rows.into_iter().map(|row| row.key).collect()
}

fn values(row: Option<Row>) -> Map<String, Value> {
    row.expect("a row").values
}

/// What is known of the rows of an entity beside their values, by their keys.
async fn metadata(db: &TestDatabase, entity: &str) -> Map<String, Value> {
    let object = match db.backend() {
        Backend::Postgres => "json_build_object('key', entity_id, 'metadata', metadata)",
        Backend::Sqlite => "json_object('key', entity_id, 'metadata', json(metadata))",
    };
    let sql = format!("SELECT {object} FROM _rhtmx_sync_field WHERE entity = '{entity}'");
    let found = db.query_json(&sql).await.into_iter();
    let known = found.map(|mut row| {
        let key = row["key"].as_str().expect("a key").to_owned();
        (key, row["metadata"].take())
    });
    known.collect()
}

/// The code of a write that was rejected.
fn reject_code<T: std::fmt::Debug>(result: Result<T, CrdtError>) -> String {
    match result {
        Err(CrdtError::Rejected(reject)) => protocol::json::text(&reject.code),
        other => panic!("it was not rejected: {other:?}"),
    }
}
