//! Ordinary statements: which rows changed, and what the log says about it.

use serde_json::{Value, json};

use super::watch::Watch;
use super::*;

const NOTES: &str =
    "CREATE TABLE notes (id integer PRIMARY KEY, body text, stars integer NOT NULL DEFAULT 0)";

both_backends! {
    /// An insert logs no old values, an update those that changed, a delete the whole row.
    async fn a_row_is_logged_when_created_updated_and_deleted(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;

        watch.step("INSERT INTO notes VALUES (1, 'hello', 5)").await;
        assert_eq!(watch.row("notes", "1"), &json!({ "id": 1, "body": "hello", "stars": 5 }));
        assert_eq!(watch.sent(), [("put", "1")]);
        assert_eq!(watch.entries()[0].says(), ("create", Some("1"), &Value::Null));

        watch.step("UPDATE notes SET stars = 6 WHERE id = 1").await;
        assert_eq!(watch.row("notes", "1")["stars"], 6);
        assert_eq!(watch.sent(), [("put", "1")]);
        assert_eq!(watch.entries()[0].says(), ("update", Some("1"), &json!({ "stars": 5 })));

        watch.step("UPDATE notes SET body = NULL WHERE id = 1").await;
        assert_eq!(watch.entries()[0].says(), ("update", Some("1"), &json!({ "body": "hello" })));
        watch.step("UPDATE notes SET body = 'back', stars = 7 WHERE id = 1").await;
        let old = json!({ "body": null, "stars": 6 });
        assert_eq!(watch.entries()[0].says(), ("update", Some("1"), &old));

        watch.step("DELETE FROM notes WHERE id = 1").await;
        assert_eq!(watch.sent(), [("delete", "1")]);
        let old = json!({ "id": 1, "body": "back", "stars": 7 });
        assert_eq!(watch.entries()[0].says(), ("delete", Some("1"), &old));
        assert!(watch.rows("notes").is_empty());
    }

    async fn rows_from_before_the_capture_are_in_the_first_read(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("INSERT INTO notes (id, body) VALUES (1, 'old'), (2, 'older')").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        assert_eq!(watch.keys("notes"), ["1", "2"]);
        watch.step("UPDATE notes SET body = 'new' WHERE id = 2").await;
        watch.step("DELETE FROM notes WHERE id = 1").await;
    }

    /// A statement finds no row, or sets a row to what it is.
    async fn statements_without_effect_send_nothing(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("INSERT INTO notes (id, body) VALUES (1, 'same')").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("UPDATE notes SET body = 'x' WHERE id = 7").await;
        watch.step("DELETE FROM notes WHERE id = 7").await;
        watch.step("INSERT INTO notes (id) SELECT id FROM notes WHERE id = 7").await;
        assert_eq!(watch.entries(), []);
        assert_eq!(watch.sent(), []);

        watch.step("UPDATE notes SET body = 'same' WHERE id = 1").await;
        assert!(watch.entries().iter().all(|entry| entry.old == json!({})), "{:?}", watch.entries());
    }

    async fn each_row_of_a_large_statement_is_sent_once(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;

        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)";
        watch.step(&format!("INSERT INTO notes (id, body) {numbers} SELECT i, 'note' FROM n")).await;
        assert_eq!((watch.rows("notes").len(), watch.entries().len()), (3000, 3000));
        watch.step("UPDATE notes SET stars = stars + id").await;
        assert_eq!((watch.sent().len(), watch.entries().len()), (3000, 3000));
        assert_eq!(watch.row("notes", "2999")["stars"], 2999);
        watch.step("DELETE FROM notes WHERE id % 3 = 0").await;
        assert_eq!((watch.sent().len(), watch.entries().len()), (1000, 1000));
        watch.step("DELETE FROM notes").await;
        assert!(watch.rows("notes").is_empty());
    }

    /// All three results of an upsert, alone and mixed in one statement.
    async fn upserts_are_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let upsert = "ON CONFLICT (id) DO UPDATE SET body = excluded.body, stars = notes.stars + 1";

        watch.step(&format!("INSERT INTO notes (id, body) VALUES (1, 'a') {upsert}")).await;
        watch.step(&format!("INSERT INTO notes (id, body) VALUES (1, 'b') {upsert}")).await;
        assert_eq!(watch.row("notes", "1"), &json!({ "id": 1, "body": "b", "stars": 1 }));
        watch
            .step(&format!("INSERT INTO notes (id, body) VALUES (2, 'c'), (1, 'd'), (3, 'e') {upsert}"))
            .await;
        assert_eq!(watch.keys("notes"), ["1", "2", "3"]);

        watch.step("INSERT INTO notes (id) VALUES (1), (4) ON CONFLICT DO NOTHING").await;
        assert_eq!(watch.row("notes", "1")["body"], "d");
        watch.step(&format!("INSERT INTO notes (id) VALUES (1), (5) {upsert} WHERE notes.stars > 100")).await;
        assert_eq!(watch.row("notes", "1")["body"], "d");
    }

    /// The writes that the database makes itself for a foreign key.
    async fn cascades_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE lists (id integer PRIMARY KEY, name text)").await;
        db.execute(
            "CREATE TABLE todos (id integer PRIMARY KEY, \
             list_id integer REFERENCES lists (id) ON DELETE CASCADE ON UPDATE CASCADE, title text)",
        )
        .await;
        db.execute(
            "CREATE TABLE pins (id integer PRIMARY KEY, \
             todo_id integer DEFAULT 0 REFERENCES todos (id) ON DELETE SET NULL)",
        )
        .await;
        let mut watch = Watch::start(db, ["lists", "todos", "pins"]).await;
        watch.step("INSERT INTO lists VALUES (1, 'home'), (2, 'work')").await;
        watch.step("INSERT INTO todos VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c')").await;
        watch.step("INSERT INTO pins VALUES (1, 1), (2, 3)").await;

        watch.step("UPDATE lists SET id = 10 WHERE id = 1").await;
        assert_eq!(watch.row("todos", "2")["list_id"], 10);
        watch.step("DELETE FROM lists WHERE id = 10").await;
        assert_eq!(watch.keys("todos"), ["3"]);
        assert_eq!(watch.row("pins", "1")["todo_id"], Value::Null);
        assert_eq!(watch.row("pins", "2")["todo_id"], 3);
    }

    /// Several statements on one row in one transaction arrive as one change.
    async fn a_row_changed_often_is_sent_once(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch
            .step(
                "BEGIN; INSERT INTO notes (id, body) VALUES (1, 'a'); UPDATE notes SET body = 'b'; \
                 UPDATE notes SET stars = 3; INSERT INTO notes (id) VALUES (2); \
                 DELETE FROM notes WHERE id = 2; COMMIT",
            )
            .await;
        assert_eq!(watch.sent().iter().filter(|(_, key)| *key == "1").count(), 1);
        assert_eq!(watch.keys("notes"), ["1"]);

        watch
            .step(
                "BEGIN; DELETE FROM notes WHERE id = 1; INSERT INTO notes (id, body) VALUES (1, 'again'); \
                 COMMIT",
            )
            .await;
        assert_eq!(watch.sent(), [("put", "1")]);
        watch
            .step("BEGIN; UPDATE notes SET body = 'x' WHERE id = 1; DELETE FROM notes WHERE id = 1; COMMIT")
            .await;
        assert_eq!(watch.sent(), [("delete", "1")]);
    }

    async fn generated_columns_are_captured(db: TestDatabase) {
        db.execute(
            "CREATE TABLE boxes (id integer PRIMARY KEY, width integer NOT NULL, height integer NOT NULL, \
             area integer GENERATED ALWAYS AS (width * height) STORED)",
        )
        .await;
        let mut watch = Watch::start(db, ["boxes"]).await;
        watch.step("INSERT INTO boxes (id, width, height) VALUES (1, 2, 3)").await;
        assert_eq!(watch.row("boxes", "1")["area"], 6);
        watch.step("UPDATE boxes SET width = 10").await;
        assert_eq!(watch.entries()[0].old, json!({ "width": 2, "area": 6 }));
        watch.step("DELETE FROM boxes").await;
        assert_eq!(watch.entries()[0].old["area"], 30);
    }

    /// More columns than a function of PostgreSQL takes arguments.
    async fn a_table_of_120_columns_is_captured(db: TestDatabase) {
        let columns: Vec<String> = (0..120).map(|number| format!("c{number:03} integer")).collect();
        db.execute(&format!("CREATE TABLE wide (id integer PRIMARY KEY, {})", columns.join(", "))).await;
        let mut watch = Watch::start(db, ["wide"]).await;
        let names: Vec<String> = (0..120).map(|number| format!("c{number:03}")).collect();
        let values: Vec<String> = (0..120).map(|number| number.to_string()).collect();
        let insert = format!("INSERT INTO wide (id, {}) VALUES (1, {})", names.join(", "), values.join(", "));
        watch.step(&insert).await;
        assert_eq!(watch.row("wide", "1")["c119"], 119);

        // Columns of the first chunk of arguments alone, of the last alone, of both, and all of them.
        for (set, old) in [
            ("c000 = -1", json!({ "c000": 0 })),
            ("c119 = -1", json!({ "c119": 119 })),
            ("c001 = NULL, c118 = NULL", json!({ "c001": 1, "c118": 118 })),
        ] {
            watch.step(&format!("UPDATE wide SET {set}")).await;
            assert_eq!(watch.entries()[0].old, old);
        }
        let all: Vec<String> = names.iter().map(|name| format!("{name} = 777")).collect();
        watch.step(&format!("UPDATE wide SET {}", all.join(", "))).await;
        assert_eq!(watch.entries()[0].old.as_object().map(serde_json::Map::len), Some(120));
        watch.step("UPDATE wide SET c050 = c050").await;
        watch.step("DELETE FROM wide").await;
        assert_eq!(watch.entries()[0].old.as_object().map(serde_json::Map::len), Some(121));
    }

    /// Five megabytes are not copied into the log when a flag beside them flips.
    async fn an_unchanged_large_text_is_not_logged(db: TestDatabase) {
        db.execute("CREATE TABLE pages (id integer PRIMARY KEY, body text, seen integer NOT NULL)").await;
        let megabytes = 5;
        let body = dialect(
            &db,
            "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 5 * 32768) i)",
            "hex(randomblob(5 * 512 * 1024))",
        )
        .to_owned();
        let long = dialect(&db, "repeat('x', 100000)", "hex(zeroblob(50000))").to_owned();
        let mut watch = Watch::start(db, ["pages"]).await;
        watch.step(&format!("INSERT INTO pages VALUES (1, {body}, 0)")).await;
        let text = watch.row("pages", "1")["body"].as_str().expect("a text");
        assert_eq!(text.len(), megabytes * 1024 * 1024);

        watch.step("UPDATE pages SET seen = 1").await;
        assert_eq!(watch.entries()[0].says(), ("update", Some("1"), &json!({ "seen": 0 })));
        assert_eq!(watch.row("pages", "1")["seen"], 1);

        // Same length, so a comparison of lengths alone would miss it.
        watch.write("UPDATE pages SET body = '-' || substr(body, 2)").await;
        watch.compare().await;
        let old = &watch.entries()[0].old;
        let length = match watch.db.backend() {
            // So large a text is not kept.
            testkit::Backend::Postgres => None,
            testkit::Backend::Sqlite => Some(megabytes * 1024 * 1024),
        };
        assert_eq!(old["body"].as_str().map(str::len), length);
        assert_eq!(old.as_object().map(serde_json::Map::len), length.map(|_| 1));
        watch.write(&format!("UPDATE pages SET body = 'short'; UPDATE pages SET body = {long}")).await;
        watch.step("UPDATE pages SET body = 'short'").await;
        assert_eq!(watch.entries()[0].old["body"].as_str().map(str::len), Some(100_000));
        watch.step("DELETE FROM pages").await;
    }
}
