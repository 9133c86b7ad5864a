//! `REPLACE`, which deletes rows without firing a delete trigger, and upserts, which begin as inserts.

use super::{Synced, entry};

const USERS: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, \
    team INT, seat INT, UNIQUE (team, seat))";

async fn three_users() -> Synced {
    let mut synced = Synced::new(USERS, "users").await;
    synced.run(
        "INSERT INTO users VALUES (1, 'a@x', 'a', 1, 1), (2, 'b@x', 'b', 1, 2), (3, \
        'c@x', 'c', 2, 1)",
    );
    synced.follow().await;
    synced
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_rows_are_followed() {
    for recursive in ["OFF", "ON"] {
        let mut synced = three_users().await;
        synced.run(&format!("PRAGMA recursive_triggers = {recursive}"));
        synced
            .follow_each(&[
                "REPLACE INTO users VALUES (1, 'a@x', 'same key', 1, 1)",
                "REPLACE INTO users VALUES (9, 'a@x', 'same email', 7, 7)",
                "INSERT OR REPLACE INTO users (email, name, team, seat) VALUES ('b@x', 'same \
                 email and seat', 2, 1)",
                "UPDATE OR REPLACE users SET email = 'a@x' WHERE email = 'b@x'",
                "INSERT INTO users VALUES (20, 'd@x', 'd', 5, 5), (21, 'e@x', 'e', 5, 6)",
                "UPDATE OR REPLACE users SET id = 20 WHERE id = 21",
                "REPLACE INTO users SELECT id + 100, email, name, team, seat FROM users",
                "INSERT OR IGNORE INTO users VALUES (120, 'f@x', 'f', 8, 8)",
            ])
            .await;
    }
}

/// A client that resumes from before both statements must receive the delete.
#[tokio::test(flavor = "multi_thread")]
async fn the_delete_of_a_replaced_row_is_not_transient() {
    let mut synced = three_users().await;
    synced
        .run("REPLACE INTO users VALUES (1, 'a@x', 'again', 1, 1); DELETE FROM users WHERE id = 1");
    synced.follow().await;
    synced
        .run("REPLACE INTO users VALUES (8, 'b@x', 'again', 1, 2); DELETE FROM users WHERE id = 8");
    synced.follow().await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_rows_are_logged_as_deleted() {
    let mut synced = three_users().await;
    let replaced = synced.entries("REPLACE INTO users VALUES (9, 'a@x', 'n', 1, 2)");
    assert_eq!(
        replaced,
        [
            entry(
                "1",
                "delete",
                Some(r#"{"id":1,"email":"a@x","name":"a","team":1,"seat":1}"#)
            ),
            entry(
                "2",
                "delete",
                Some(r#"{"id":2,"email":"b@x","name":"b","team":1,"seat":2}"#)
            ),
            entry("9", "create", None),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_of_an_existing_row_is_logged_as_one_update() {
    let mut synced = three_users().await;
    let renamed = [entry("1", "update", Some(r#"{"name":"a"}"#))];
    let by_key =
        "INSERT INTO users VALUES (1, 'z@x', 'n', 1, 1) ON CONFLICT (id) DO UPDATE SET name = 'n'";
    assert_eq!(synced.entries(by_key), renamed);
    synced.run("UPDATE users SET name = 'a' WHERE id = 1");
    let by_email =
        "INSERT INTO users (email) VALUES ('a@x') ON CONFLICT (email) DO UPDATE SET name = 'n'";
    assert_eq!(synced.entries(by_email), renamed);
    synced
        .follow_each(&["INSERT INTO users (email) VALUES ('a@x') ON CONFLICT DO NOTHING"])
        .await;
    // A real delete stays in the log.
    let moved =
        synced.entries("DELETE FROM users WHERE id = 1; UPDATE users SET name = 'm' WHERE id = 2");
    assert_eq!(
        moved
            .iter()
            .map(|entry| entry.action.as_str())
            .collect::<Vec<_>>(),
        ["delete", "update"]
    );
    synced.follow().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cascades_from_replaced_rows_are_followed() {
    let mut synced = Synced::new(
        "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
         CREATE TABLE todos (id INTEGER PRIMARY KEY, list INT REFERENCES lists ON DELETE \
         CASCADE, parent INT REFERENCES todos ON DELETE CASCADE);
         INSERT INTO lists VALUES (1, 'a'), (2, 'b')",
        "todos",
    )
    .await;
    synced
        .follow_each(&[
            "INSERT INTO todos VALUES (1, 1, NULL), (2, 2, 1), (3, 2, 2), (4, 2, NULL)",
            "REPLACE INTO todos VALUES (2, 1, NULL)",
            "REPLACE INTO lists VALUES (3, 'b')",
        ])
        .await;
}

/// A computed column may be unique, too, and changes without being named in the statement.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_rows_are_followed_when_the_unique_column_is_computed() {
    let mut synced = Synced::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, l TEXT AS (lower(a)) UNIQUE)",
        "t",
    )
    .await;
    synced
        .follow_each(&[
            "INSERT INTO t (a) VALUES ('x'), ('y'), ('z')",
            "UPDATE OR REPLACE t SET a = 'X' WHERE a = 'y'",
            "REPLACE INTO t (id, a) VALUES (9, 'Z')",
        ])
        .await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), ["2", "9"]);
}

/// Random statements on a table with several unique keys, one or several at a time.
#[tokio::test(flavor = "multi_thread")]
async fn random_statements_are_followed() {
    let mut synced = Synced::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, a INT UNIQUE, b TEXT COLLATE NOCASE, \
         c INT, UNIQUE (b, c));
         CREATE TRIGGER again AFTER UPDATE OF c ON t WHEN NEW.c % 5 = 0 BEGIN UPDATE OR REPLACE \
         t SET a = a + 1 WHERE k = NEW.k; END",
        "t",
    )
    .await;
    let mut state = 20_261_120_u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..400 {
        for _ in 0..=draw(4) {
            let key = ["a", "A", "b", "B", "c", "d"][draw(6) as usize];
            let (a, b, c) = (draw(5), ["x", "X", "y"][draw(3) as usize], draw(7));
            let or = ["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"][draw(5) as usize];
            let sql = match draw(5) {
                0 => format!("INSERT {or} INTO t VALUES ('{key}', {a}, '{b}', {c})"),
                1 => format!("UPDATE {or} t SET a = {a}, c = {c} WHERE k <> '{key}'"),
                2 => format!("UPDATE {or} t SET k = '{key}', b = '{b}' WHERE a = {a}"),
                3 => format!(
                    "INSERT INTO t VALUES ('{key}', {a}, '{b}', {c}) ON CONFLICT (k) DO UPDATE \
                     SET a = {a}, k = '{key}'"
                ),
                _ => format!("DELETE FROM t WHERE a = {a}"),
            };
            // Many fail, and are meant to.
            let _ = diesel::connection::SimpleConnection::batch_execute(&mut synced.other, &sql);
        }
        synced.follow().await;
    }
}
