//! Tables whose schema changes while they are captured.

use serde_json::json;

use super::Synced;
use crate::catalog::{DescribeError, Described};
use crate::entity::EntityConfig;
use crate::sqlite::{capture, catalog, install};

const TODOS: &str = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT, done BOOL, note TEXT)";

/// Describes a table from the catalog.
fn describe(synced: &mut Synced, table: &str) -> Option<Described> {
    let described = catalog::describe(&mut synced.other, "e", table, None).expect("no error");
    let found = described.expect("a suitable table");
    found.map(|current| current.described)
}

fn captured(synced: &mut Synced) -> bool {
    describe(synced, "todos").expect("a table").captured
}

/// Until the engine has read the catalog again, writers can go on, and all their changes are captured.
#[tokio::test(flavor = "multi_thread")]
async fn columns_can_be_added_dropped_and_renamed() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced.run("INSERT INTO todos VALUES (1, 'a', 0, 'n'), (2, 'b', 1, 'n')");
    let fingerprint = synced.entities["e"].fingerprint.clone();
    let mut before = synced.newest_id();
    for ddl in [
        "ALTER TABLE todos ADD COLUMN extra TEXT DEFAULT 'x'",
        "ALTER TABLE todos DROP COLUMN note",
        "ALTER TABLE todos RENAME COLUMN title TO name",
        "ALTER TABLE todos RENAME COLUMN id TO number",
        "ALTER TABLE todos DROP COLUMN done",
        "CREATE UNIQUE INDEX by_name ON todos (name)",
    ] {
        synced.run(ddl);
        for sql in [
            "UPDATE todos SET rowid = rowid + 10",
            "INSERT INTO todos DEFAULT VALUES",
            "DELETE FROM todos WHERE rowid = (SELECT max(rowid) FROM todos)",
        ] {
            let entries = synced.entries(sql);
            assert!(
                !entries.is_empty() && entries.iter().all(|entry| entry.key.is_some()),
                "{ddl}: {sql}"
            );
        }
    }
    let entries = synced.log(before);
    assert_eq!(
        entries[0].old.as_deref(),
        Some(r#"{"id":1,"title":"a","done":false,"note":"n"}"#)
    );
    assert!(!captured(&mut synced));
    before = synced.newest_id();
    let entity = synced.install("e", "todos").await;
    assert_ne!(entity.fingerprint, fingerprint);
    assert_eq!(synced.log(before)[0].action, "schema_change");
    assert!(captured(&mut synced));
    let summary = sync_core::schema::summary(&entity.schema);
    assert_eq!(summary.key, ["number"]);
    assert_eq!(
        summary.columns.into_keys().collect::<Vec<_>>(),
        ["extra", "name", "number"]
    );
    synced.follow().await;
    assert_eq!(synced.copy.len(), 2);
    // An index whose columns needed stand-ins can be dropped again, and its column with it.
    synced.run("DROP INDEX by_name; ALTER TABLE todos DROP COLUMN name");
    let entries = synced.entries(
        "INSERT INTO todos DEFAULT VALUES; UPDATE todos SET extra = \
        'y'; REPLACE INTO todos VALUES (1, 'z')",
    );
    assert!(entries.len() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_installed_again_only_if_a_trigger_is_missing() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let before = synced.newest_id();
    // Reading the catalog does not wait for a writer.
    synced.run("BEGIN IMMEDIATE");
    synced.install("e", "todos").await;
    synced.run("COMMIT");
    assert_eq!(synced.log(before), []);
    let drop = synced.ask(
        "SELECT 'DROP TRIGGER ' || name AS text FROM sqlite_schema WHERE type = 'trigger' LIMIT 1",
    );
    synced.run(&drop[0]);
    assert!(!captured(&mut synced));
    synced.install("e", "todos").await;
    assert!(captured(&mut synced));
    assert_eq!(synced.log(before).len(), 1);
}

/// SQLite's manual describes these steps for changes that `ALTER TABLE` does not support.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rebuilt_is_refetched() {
    let mut synced = Synced::new(TODOS, "todos").await;
    synced
        .follow_each(&["INSERT INTO todos VALUES (1, 'a', 0, 'n'), (2, 'b', 1, 'n')"])
        .await;
    synced.run(
        "BEGIN; CREATE TABLE new (list TEXT DEFAULT 'l', id INT, title TEXT, PRIMARY KEY (list, \
         id)); \
         INSERT INTO new (id, title) SELECT id, title FROM todos; DROP TABLE todos; ALTER TABLE \
         new RENAME TO todos; COMMIT",
    );
    synced.run("DELETE FROM todos WHERE id = 1");
    synced.install("e", "todos").await;
    synced.follow().await;
    assert_eq!(synced.copy.keys().collect::<Vec<_>>(), [r#"["l",2]"#]);
    synced.follow_each(&["UPDATE todos SET title = 'c'"]).await;
    assert_eq!(synced.copy[r#"["l",2]"#]["title"], json!("c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_logged_once() {
    let mut synced = Synced::new(TODOS, "todos").await;
    let before = synced.newest_id();
    synced.run("ALTER TABLE todos RENAME TO elsewhere");
    // Writes to the renamed table must not fail.
    synced.run("REPLACE INTO elsewhere (id) VALUES (1); UPDATE elsewhere SET id = 2");
    let before = before.max(synced.newest_id());
    let config = EntityConfig::on_table("e", "todos");
    for _ in 0..2 {
        assert!(
            install::install(&mut synced.conn, &config, capture::GENERATION)
                .await
                .expect("no error")
                .expect("fit")
                .is_none()
        );
    }
    assert_eq!(synced.log(before).len(), 1);
    synced.run("CREATE TABLE todos (id TEXT PRIMARY KEY)");
    synced.install("e", "todos").await;
    synced.follow().await;
    synced
        .follow_each(&["INSERT INTO todos VALUES ('x')"])
        .await;
    // The old table is no longer captured.
    assert_eq!(synced.entries("INSERT INTO elsewhere (id) VALUES (5)"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_synced_is_reported_with_the_reason() {
    let mut synced = Synced::new(
        "CREATE TABLE todos (id INTEGER PRIMARY KEY); CREATE TABLE keyless (a); CREATE VIEW seen \
         AS SELECT 1 AS id; \
         CREATE VIRTUAL TABLE words USING fts5(a); CREATE TABLE \"main.dot\" (id TEXT PRIMARY KEY)",
        "todos",
    )
    .await;
    for (table, error) in [
        ("keyless", DescribeError::NoPrimaryKey("keyless".to_owned())),
        ("seen", DescribeError::NotATable("seen".to_owned())),
        ("words", DescribeError::NotATable("words".to_owned())),
        (
            "sqlite_schema",
            DescribeError::NotATable("sqlite_schema".to_owned()),
        ),
    ] {
        let config = EntityConfig::on_table("other", table);
        let described = install::install(&mut synced.conn, &config, capture::GENERATION)
            .await
            .expect("no error");
        assert_eq!(described.expect_err(table), error);
    }
    for missing in ["nothing", "", "other.todos", "main.", "main.nothing"] {
        assert!(describe(&mut synced, missing).is_none(), "{missing}");
    }
    synced.install("dotted", "main.dot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_has_the_columns_types_nullability_and_defaults() {
    let mut synced = Synced::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INT DEFAULT 5, c BOOL, g INT \
         AS (b + 1))",
        "t",
    )
    .await;
    synced.run("CREATE TABLE u (k TEXT PRIMARY KEY, v INT NOT NULL DEFAULT (1 + 1))");
    let t = synced.entities["e"].schema.clone();
    let facts: Vec<_> = t
        .columns
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.type_name.as_str(),
                c.nullable,
                c.has_default,
                c.generated,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("id", "int8", false, true, false),
            ("a", "text", false, false, false),
            ("b", "int8", true, true, false),
            ("c", "bool", true, false, false),
            ("g", "int8", true, false, true),
        ]
    );
    let u = synced.install("u", "u").await;
    let facts: Vec<_> = u
        .schema
        .columns
        .iter()
        .map(|c| (c.nullable, c.has_default))
        .collect();
    assert_eq!(facts, [(false, false), (false, true)]);
}
