//! The entries that triggers write to the log, and what a reader makes of them.

use super::{Synced, entry};

const TODOS: &str = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done \
    BOOLEAN DEFAULT 0, note TEXT)";

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_followed() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced
        .follow_each(&[
            "INSERT INTO todos (title) VALUES ('a'), ('b'), ('c'), ('d')",
            "UPDATE todos SET done = 1 WHERE id > 1",
            "UPDATE todos SET title = title || '!'",
            "INSERT INTO todos (id, title) VALUES (2, 'x'), (9, 'y') ON CONFLICT (id) DO UPDATE \
             SET title = excluded.title",
            "INSERT INTO todos SELECT id + 20, title, done, note FROM todos",
            "UPDATE todos SET id = id + 100 WHERE id = 3",
            "BEGIN; UPDATE todos SET id = -1 WHERE id = 1; UPDATE todos SET id = 1 WHERE id = 2; \
             UPDATE todos SET id = 2 WHERE id = -1; COMMIT",
            "UPDATE todos SET id = -id; UPDATE todos SET id = 1 - id",
            "DELETE FROM todos WHERE done = 1",
            "BEGIN; INSERT INTO todos VALUES (70, 'gone', 0, NULL); DELETE FROM todos WHERE id = \
             70; COMMIT",
            "DELETE FROM todos",
            "INSERT INTO todos (id, title) VALUES (9223372036854775807, 'last'), \
             (-9007199254740993, 'far')",
        ])
        .await;
    let (_, rows) = synced.rows().await;
    assert_eq!(rows["9223372036854775807"]["id"], "9223372036854775807");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_contains_only_the_old_values_that_changed() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let created = synced
        .entries("INSERT INTO todos (id, title, note) VALUES (1, 'a', hex(zeroblob(500000)))");
    assert_eq!(created, [entry("1", "create", None)]);
    let flipped = synced.entries("UPDATE todos SET done = 1, title = title");
    assert_eq!(flipped, [entry("1", "update", Some(r#"{"done":false}"#))]);
    let emptied = synced.entries("UPDATE todos SET note = NULL, done = NULL");
    assert_eq!(
        emptied[0].old.as_ref().map(String::len),
        Some(r#"{"done":true,"note":""}"#.len() + 1_000_000)
    );
    let filled = synced.entries("UPDATE todos SET note = 'n', done = 0");
    assert_eq!(
        filled,
        [entry("1", "update", Some(r#"{"done":null,"note":null}"#))]
    );
    let moved = synced.entries("UPDATE todos SET id = 2");
    let whole = r#"{"id":1,"title":"a","done":false,"note":"n"}"#;
    assert_eq!(
        moved,
        [
            entry("1", "delete", Some(whole)),
            entry("2", "create", None)
        ]
    );
    let gone = synced.entries("DELETE FROM todos");
    assert_eq!(
        gone,
        [entry(
            "2",
            "delete",
            Some(&whole.replace("\"id\":1", "\"id\":2"))
        )]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_write_leaves_no_entry() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let before = synced.newest_id();
    synced.run("BEGIN; INSERT INTO todos VALUES (1, 'a', 0, ''); ROLLBACK");
    synced.fails("INSERT INTO todos VALUES (1, 'a', 0, ''), (2, NULL, 0, '')");
    assert_eq!(synced.log(before), []);
    let entries = synced.entries(
        "BEGIN; INSERT INTO todos VALUES (1, 'a', 0, ''); SAVEPOINT s; DELETE FROM todos; \
         ROLLBACK TO s; COMMIT",
    );
    assert_eq!(entries, [entry("1", "create", None)]);
    synced.follow().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cascades_and_the_users_own_triggers_are_followed() {
    let mut synced = Synced::new(
        "CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
         CREATE TABLE todos (id INTEGER PRIMARY KEY, list INTEGER REFERENCES lists ON DELETE \
         CASCADE ON UPDATE CASCADE,
             parent INTEGER REFERENCES todos ON DELETE SET NULL, title TEXT, changed INTEGER \
             DEFAULT 0);
         CREATE TRIGGER touch AFTER UPDATE OF title ON todos BEGIN UPDATE todos SET changed = \
         changed + 1 WHERE id = NEW.id; END;
         CREATE TRIGGER first AFTER INSERT ON lists BEGIN INSERT INTO todos (list, title) VALUES \
         (NEW.id, 'first'); END;
         INSERT INTO lists VALUES (1, 'one'), (2, 'two')",
        "todos",
    )
    .await;
    synced
        .follow_each(&[
            "INSERT INTO todos (id, list, parent, title) VALUES (10, 1, NULL, 'a'), (11, 1, 10, \
             'b'), (12, 2, 11, 'c')",
            "UPDATE todos SET title = 'touched' WHERE id >= 10",
            "UPDATE lists SET id = 5 WHERE id = 1",
            "DELETE FROM todos WHERE id = 10",
            "REPLACE INTO lists VALUES (7, 'two')",
            "DELETE FROM lists",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_table_is_captured() {
    for (tables, table, statements) in [
        (
            "CREATE TABLE \"we\"\"ird. tab'le 🙂\" (\"i\"\"d\" INTEGER PRIMARY KEY, \"a 'b\" \
             TEXT, \"💥.c\" TEXT, \"order\" INT)",
            "we\"ird. tab'le 🙂",
            [
                "INSERT INTO \"we\"\"ird. tab'le 🙂\" VALUES (1, 'x', 'y', 2)",
                "UPDATE \"we\"\"ird. tab'le 🙂\" SET \"a 'b\" = 'z', \"💥.c\" = NULL",
                "DELETE FROM \"we\"\"ird. tab'le 🙂\"",
            ],
        ),
        (
            "CREATE TABLE pairs (a TEXT, b INTEGER, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
            "main.pairs",
            [
                "INSERT INTO pairs VALUES ('x\"y', 1, 2), ('', 1, 3)",
                "UPDATE pairs SET a = a || 'z', c = 7",
                "DELETE FROM pairs WHERE c",
            ],
        ),
        (
            "CREATE TABLE strict (id TEXT PRIMARY KEY NOT NULL, n INTEGER, r REAL, b BLOB, x \
             ANY) STRICT",
            "STRICT",
            [
                "INSERT INTO strict VALUES ('k', 1, 2.5, x'00', '1')",
                "UPDATE strict SET b = x'ff', x = 1",
                "DELETE FROM strict",
            ],
        ),
        (
            "CREATE TABLE sums (id INTEGER PRIMARY KEY, a INT, v INT AS (a * 2), s INT AS (a + \
             1) STORED)",
            "sums",
            [
                "INSERT INTO sums (a) VALUES (1), (2)",
                "UPDATE sums SET a = a + 1",
                "DELETE FROM sums WHERE v = 4",
            ],
        ),
        (
            "CREATE TABLE bare (id INTEGER PRIMARY KEY)",
            "bare",
            [
                "INSERT INTO bare VALUES (1), (2)",
                "UPDATE bare SET id = 5 WHERE id = 1",
                "DELETE FROM bare",
            ],
        ),
    ] {
        Synced::new(tables, table)
            .await
            .follow_each(&statements)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_widest_table_of_sqlite_is_captured() {
    let columns: Vec<String> = (0..1999)
        .map(|n| format!("c{n} TEXT DEFAULT 'v{n}'"))
        .collect();
    let wide = format!(
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, {})",
        columns.join(", ")
    );
    let mut synced = Synced::new(&wide, "wide").await;
    synced
        .follow_each(&[
            "INSERT INTO wide (id) VALUES (1)",
            "UPDATE wide SET c5 = 'x', c1998 = NULL",
        ])
        .await;
    let old = synced.log(0).pop().and_then(|entry| entry.old);
    assert_eq!(old.as_deref(), Some(r#"{"c5":"v5","c1998":"v1998"}"#));
    synced.follow_each(&["DELETE FROM wide"]).await;
}

/// `last_insert_rowid`, `changes` and `RETURNING` are about the program's own statement, not about the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_capture_is_invisible_to_writers() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced.run(
        "INSERT INTO todos (id, title) VALUES (41, 'a'); INSERT INTO todos (title) VALUES \
        ('b')",
    );
    let answer = "SELECT last_insert_rowid() || ' ' || changes() AS text";
    assert_eq!(synced.ask(answer), ["42 1"]);
    synced.run("UPDATE todos SET done = 1");
    assert_eq!(synced.ask(answer), ["42 2"]);
    let returned = "INSERT INTO todos (title) VALUES ('c') RETURNING id || title AS text";
    assert_eq!(synced.ask(returned), ["43c"]);
    synced.follow().await;
}

/// The user's columns have the names that the generated SQL uses itself.
#[tokio::test(flavor = "multi_thread")]
async fn column_names_do_not_collide_with_the_generated_sql() {
    let mut synced = Synced::new(
        "CREATE TABLE t (entity_id TEXT PRIMARY KEY, id, entity, action, commit_id, key, row, t, old, \
         new, data, b, e, rank)",
        "t",
    )
    .await;
    synced
        .follow_each(&[
            "INSERT INTO t (entity_id, id, row) VALUES ('k', 1, 'r'), ('l', 2, 's')",
            "UPDATE t SET entity = 'x', t = 5, old = 6, new = 7, e = 8 WHERE entity_id = 'k'",
            "UPDATE t SET entity_id = 'm' WHERE id = 2",
        ])
        .await;
}
