//! The table whose parts the clients want, and what is in them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{Backend, TestDatabase};

use crate::tables::rows;

pub(super) const TODOS: &str = "CREATE TABLE todos (id integer PRIMARY KEY, list_id integer, \
     owner text, title text NOT NULL, done boolean NOT NULL)";
/// What clients push to when they want to know that nothing more is coming.
pub(super) const MARKS: &str = "CREATE TABLE marks (id integer PRIMARY KEY)";
pub(super) const ALL: [&str; 5] = ["id", "list_id", "owner", "title", "done"];

/// The tables, and four todos: two on list 1, one on list 2, one on none.
pub(super) async fn make_todos(db: &TestDatabase) {
    db.execute(&format!("{TODOS}; {MARKS}")).await;
    db.execute(
        "INSERT INTO todos VALUES (1, 1, 'ann', 'one', false), (2, 1, 'bob', 'two', true), \
         (3, 2, 'ann', 'three', false), (4, NULL, NULL, 'four', false)",
    )
    .await;
}

/// Some columns of the todos that a condition holds for, as a client's copy has to hold them.
pub(super) async fn todos(
    db: &TestDatabase,
    columns: &[&str],
    condition: &str,
) -> BTreeMap<String, Value> {
    let mut found = rows(db, &format!("todos WHERE {condition}"), columns).await;
    if db.backend() == Backend::Sqlite {
        // It keeps a boolean as a number.
        for row in found.values_mut().filter(|row| row.get("done").is_some()) {
            row["done"] = json!(row["done"] == 1);
        }
    }
    found
}
