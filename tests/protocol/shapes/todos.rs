//! The table that the selections are of, and its rows.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{Backend, TestDatabase};

use crate::tables::rows;

pub(super) const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, list_id integer, \
     owner text, title text NOT NULL, done boolean NOT NULL)";
/// Clients push to it when they need to know that no earlier change is in flight.
pub(super) const FENCE: &str = "CREATE TABLE fence (id integer PRIMARY KEY)";
pub(super) const ALL: [&str; 5] = ["id", "list_id", "owner", "title", "done"];

/// The tables, and four todos: two on list 1, one on list 2, one on none.
pub(super) async fn make_todos(db: &TestDatabase) {
    db.execute(&format!("{TODOS}; {FENCE}")).await;
    db.execute(
        "INSERT INTO todos VALUES (1, 1, 'ann', 'one', false), (2, 1, 'bob', 'two', true), \
         (3, 2, 'ann', 'three', false), (4, NULL, NULL, 'four', false)",
    )
    .await;
}

/// Some columns of the todos that match a condition, as a client's copy must hold them.
pub(super) async fn todos(
    db: &TestDatabase,
    columns: &[&str],
    condition: &str,
) -> BTreeMap<String, Value> {
    let mut found = rows(db, &format!("todos WHERE {condition}"), columns).await;
    if db.backend() == Backend::Sqlite {
        // SQLite stores a boolean as a number.
        for row in found.values_mut().filter(|row| row.get("done").is_some()) {
            row["done"] = json!(row["done"] == 1);
        }
    }
    found
}
