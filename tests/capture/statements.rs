//! Statements that only one of the databases has, and users' own triggers.

use std::pin::pin;

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use futures_util::SinkExt as _;
use serde_json::{Value, json};

use super::watch::Watch;
use super::*;

const NOTES: &str =
    "CREATE TABLE notes (id integer PRIMARY KEY, body text, stars integer NOT NULL DEFAULT 0)";

on_postgres! {
    /// COPY, whose rows come in one statement.
    async fn copy_is_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let writer = watch.db.connect_postgres().await;
        let sink = writer.copy_in("COPY notes (id, body) FROM STDIN").await.expect("COPY begins");
        let mut sink = pin!(sink);
        let lines: String = (1..=2000).map(|id| format!("{id}\tnote {id}\n")).collect();
        sink.send(std::io::Cursor::new(lines.into_bytes())).await.expect("COPY takes lines");
        assert_eq!(sink.finish().await.expect("COPY ends"), 2000);

        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.rows("notes").len(), 2000);
        assert_eq!(watch.entries().len(), 2000);
    }

    /// TRUNCATE: alone, with the tables that refer to it, and between other writes.
    async fn truncate_is_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("CREATE TABLE tags (id integer PRIMARY KEY, note_id integer REFERENCES notes (id))").await;
        let mut watch = Watch::start(db, ["notes", "tags"]).await;
        let fill = "INSERT INTO notes (id, body) SELECT i, 'note' FROM generate_series(1, 100) i";
        watch.step(fill).await;

        watch.step("TRUNCATE notes, tags").await;
        assert!(watch.rows("notes").is_empty());
        assert!(watch.sent().contains(&("truncate", "")), "{:?}", watch.sent());

        watch.step(fill).await;
        watch.step("INSERT INTO tags VALUES (1, 1), (2, 2)").await;
        watch.step("TRUNCATE notes RESTART IDENTITY CASCADE").await;
        assert!(watch.rows("tags").is_empty());

        watch.step(fill).await;
        watch
            .step(
                "BEGIN; INSERT INTO notes (id) VALUES (101); UPDATE notes SET body = 'x' WHERE id < 10; \
                 TRUNCATE notes, tags; INSERT INTO notes (id, body) VALUES (3, 'after'), (102, 'after'); \
                 UPDATE notes SET stars = 1 WHERE id = 3; COMMIT",
            )
            .await;
        assert_eq!(watch.keys("notes"), ["102", "3"]);
        watch.step("BEGIN; DELETE FROM notes WHERE id = 3; TRUNCATE tags; COMMIT").await;
        watch.step("BEGIN; TRUNCATE notes, tags; TRUNCATE notes, tags; COMMIT").await;
        assert!(watch.rows("notes").is_empty());
    }

    /// Seed rows that a user's trigger writes after a truncate, whether it runs before the capture's or after.
    async fn rows_written_by_a_trigger_on_truncate_arrive(db: TestDatabase) {
        for (table, trigger) in [("early", "A_seed"), ("late", "zz_seed")] {
            db.execute(&format!("CREATE TABLE {table} (id integer PRIMARY KEY, body text)")).await;
            db.execute(&format!(
                "CREATE FUNCTION seed_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   INSERT INTO {table} VALUES (1, 'seed'), (7, 'seed'), (8, 'seed'); DELETE FROM {table} WHERE id = 8; \
                   RETURN NULL; END $$; \
                 CREATE TRIGGER \"{trigger}\" AFTER TRUNCATE ON {table} EXECUTE FUNCTION seed_{table}()"
            ))
            .await;
        }
        let mut watch = Watch::start(db, ["early", "late"]).await;
        let selection = json!({ "entity": "early", "where": "body = 'seed'" });
        watch.client.subscribe_with("some", selection).await;
        watch.client.wait_subscribed("some").await;
        let url = watch.server.ws_url();
        let mut other = watch.server.connect().await;
        other.subscribe("early", "early").await;
        other.wait_subscribed("early").await;
        let state = other.into_state();
        for table in ["early", "late"] {
            watch.step(&format!("INSERT INTO {table} VALUES (1, 'a'), (2, 'seed')")).await;
            watch.step(&format!("TRUNCATE {table}")).await;
            assert_eq!(watch.keys(table), ["1", "7"]);
        }
        assert_eq!(watch.client.rows("some").keys().collect::<Vec<_>>(), ["1", "7"]);
        let mut other = testkit::SyncClient::reconnect(&url, testkit::ClientOptions::default(), &state).await;
        other.wait_until(|other| other.rows("early").len() == 2).await;

        // Page by page over HTTP the truncate and what follows it stay together.
        let first = watch.server.http().get("/api/sync/early?limit=100").await.json();
        watch.write("TRUNCATE early; UPDATE early SET body = 'x' WHERE id = 7; INSERT INTO early VALUES (9, 'y')").await;
        let (mut keys, mut cursor) = (Vec::new(), first["cursor"].as_str().expect("a cursor").to_owned());
        loop {
            let page = watch.server.http().get(&format!("/api/sync/early?limit=1&cursor={cursor}")).await.json();
            for change in page["changes"].as_array().expect("changes") {
                match change["op"].as_str() {
                    Some("truncate") => keys.clear(),
                    Some("put") => keys.push(change["key"].clone()),
                    _ => {}
                }
            }
            if page["more"] != true {
                break;
            }
            page["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        }
        keys.sort_by_key(ToString::to_string);
        assert_eq!(keys, [json!("1"), json!("7"), json!("9")]);
    }

    /// MERGE inserts, updates and deletes in one statement.
    async fn merge_is_captured(db: TestDatabase) {
        let version = db.query_text("SHOW server_version_num").await.remove(0).unwrap_or_default();
        if version.parse::<u32>().expect("a number") < 150_000 {
            return;
        }
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'stays', 1), (2, 'changes', 1), (3, 'goes', 0)").await;
        watch
            .step(
                "MERGE INTO notes t USING (VALUES (2, 'changed'), (3, ''), (4, 'comes'), (5, 'skipped')) s (id, body) \
                 ON t.id = s.id \
                 WHEN MATCHED AND t.stars = 0 THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET body = s.body \
                 WHEN NOT MATCHED AND s.id = 5 THEN DO NOTHING \
                 WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.body, 9)",
            )
            .await;
        assert_eq!(watch.keys("notes"), ["1", "2", "4"]);
        let mut sent = watch.sent();
        sent.sort_unstable();
        assert_eq!(sent, [("delete", "3"), ("put", "2"), ("put", "4")]);
    }

    /// One statement that writes the same table several times.
    async fn writes_inside_a_with_are_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("CREATE TABLE archive (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes", "archive"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a', 0), (2, 'b', 1), (3, 'c', 2)").await;
        watch
            .step(
                "WITH gone AS (DELETE FROM notes WHERE id = 1 RETURNING *), \
                 kept AS (INSERT INTO archive SELECT id, body FROM gone), \
                 starred AS (UPDATE notes SET stars = 10 WHERE id = 2 RETURNING id), \
                 more AS (UPDATE notes SET stars = 20 WHERE id = 3) \
                 INSERT INTO notes SELECT id + 100, 'new', 0 FROM starred",
            )
            .await;
        assert_eq!(watch.keys("notes"), ["102", "2", "3"]);
        assert_eq!(watch.keys("archive"), ["1"]);
    }

    /// The rows of a table that inherits do not belong to its parent: their keys may be the same.
    async fn rows_of_a_table_that_inherits_are_left_out(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("CREATE TABLE drafts (PRIMARY KEY (id)) INHERITS (notes)").await;
        let notes = super::watch::Table::new("notes".into(), "ONLY notes");
        let mut watch = Watch::start(db, [notes]).await;
        watch.step("INSERT INTO notes VALUES (1, 'note', 0)").await;
        watch.step("INSERT INTO drafts VALUES (1, 'draft', 0), (2, 'draft', 0)").await;
        assert_eq!(watch.keys("notes"), ["1"]);
        watch.write("UPDATE notes SET stars = stars + 1").await;
        watch.compare().await;
        assert_eq!(watch.row("notes", "1"), &json!({ "id": 1, "body": "note", "stars": 1 }));
        watch.write("DELETE FROM notes WHERE id = 1").await;
        watch.compare().await;
        assert!(watch.rows("notes").is_empty());
    }
}

on_sqlite! {
    /// `OR REPLACE` deletes every conflicting row, whatever its key.
    async fn rows_replaced_by_a_statement_are_deleted(db: TestDatabase) {
        db.execute("CREATE TABLE users (id integer PRIMARY KEY, email text UNIQUE, age integer, UNIQUE (age))").await;
        let mut watch = Watch::start(db, ["users"]).await;
        watch.step("INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)").await;

        watch.write("INSERT OR REPLACE INTO users VALUES (1, 'a2', 1)").await;
        watch.compare().await;
        watch.write("REPLACE INTO users VALUES (9, 'b', 3)").await;
        watch.compare().await;
        assert_eq!(watch.keys("users"), ["1", "4", "9"]);
        watch.write("UPDATE OR REPLACE users SET email = 'd' WHERE id = 9").await;
        watch.compare().await;
        assert_eq!(watch.keys("users"), ["1", "9"]);
        watch.write("UPDATE OR REPLACE users SET id = 1 WHERE id = 9").await;
        watch.compare().await;
        assert_eq!(watch.keys("users"), ["1"]);
        watch.write("INSERT OR IGNORE INTO users VALUES (2, 'd', 2), (3, 'new', 30)").await;
        watch.compare().await;
        watch.write("UPDATE OR IGNORE users SET age = 30").await;
        watch.compare().await;
    }

    /// As above where the table defines the conflict's resolution, and where triggers are recursive.
    async fn rows_replaced_by_the_tables_conflict_clause_are_deleted(db: TestDatabase) {
        db.execute(
            "CREATE TABLE users (id integer PRIMARY KEY ON CONFLICT REPLACE, \
             email text UNIQUE ON CONFLICT REPLACE, age integer)",
        )
        .await;
        let mut watch = Watch::start(db, ["users"]).await;
        watch.step("INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, NULL, 3)").await;
        watch.write("INSERT INTO users VALUES (4, 'a', 4)").await;
        watch.compare().await;
        watch.write("INSERT INTO users VALUES (2, NULL, 5)").await;
        watch.compare().await;
        watch.write("PRAGMA recursive_triggers = ON; INSERT INTO users VALUES (3, 'a', 6)").await;
        watch.compare().await;
        assert_eq!(watch.keys("users"), ["2", "3"]);
    }

    /// Tables without a rowid, and strict ones.
    async fn tables_without_rowid_and_strict_tables_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE words (word text PRIMARY KEY, count integer) WITHOUT ROWID, STRICT").await;
        db.execute("CREATE TABLE jobs (id integer PRIMARY KEY AUTOINCREMENT, name text) STRICT").await;
        let mut watch = Watch::start(db, ["words", "jobs"]).await;
        watch.step("INSERT INTO words VALUES ('one', 1), ('two', 2)").await;
        watch.step("UPDATE words SET count = count + 1").await;
        watch.step("UPDATE words SET word = 'three' WHERE word = 'one'").await;
        watch.step("INSERT INTO jobs (name) VALUES ('a'), ('b')").await;
        watch.step("DELETE FROM jobs WHERE id = 2").await;
        watch.step("INSERT INTO jobs (name) VALUES ('c')").await;
        assert_eq!(watch.keys("jobs"), ["1", "3"]);
        watch.step("DELETE FROM words").await;
    }

    /// Columns that are computed when they are read.
    async fn virtual_columns_are_captured(db: TestDatabase) {
        db.execute(
            "CREATE TABLE boxes (id integer PRIMARY KEY, width integer, \
             double integer GENERATED ALWAYS AS (width * 2) VIRTUAL)",
        )
        .await;
        let mut watch = Watch::start(db, ["boxes"]).await;
        watch.step("INSERT INTO boxes (id, width) VALUES (1, 2)").await;
        assert_eq!(watch.row("boxes", "1")["double"], 4);
        watch.step("UPDATE boxes SET width = 10").await;
        watch.step("DELETE FROM boxes").await;
    }

    /// Another program attaches the file under another name.
    async fn writes_to_an_attached_file_are_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut watch = Watch::start(db, ["notes"]).await;
        let file = watch.db.url().replacen("sqlite://", "", 1);
        let mut other = diesel::SqliteConnection::establish(":memory:").expect("memory opens");
        other
            .batch_execute(&format!(
                "ATTACH '{file}' AS app; INSERT INTO app.notes (id, body) VALUES (1, 'from afar'); \
                 UPDATE app.notes SET stars = 3;",
            ))
            .expect("another program may write");
        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.row("notes", "1")["stars"], 3);
    }
}

both_backends! {
    /// Users' triggers that write other tables, and the same one.
    async fn writes_by_users_triggers_are_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute("CREATE TABLE audit (id integer PRIMARY KEY, what text NOT NULL)").await;
        db.execute(dialect(
            &db,
            "CREATE FUNCTION note_added() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               INSERT INTO audit VALUES (new.id, 'added ' || new.body); \
               UPDATE notes SET stars = stars + 1 WHERE id <> new.id; RETURN NULL; END $$; \
             CREATE TRIGGER note_added AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note_added()",
            "CREATE TRIGGER note_added AFTER INSERT ON notes BEGIN \
               INSERT INTO audit VALUES (new.id, 'added ' || new.body); \
               UPDATE notes SET stars = stars + 1 WHERE id <> new.id; END",
        ))
        .await;
        let mut watch = Watch::start(db, ["notes", "audit"]).await;
        watch.step("INSERT INTO notes (id, body) VALUES (1, 'one')").await;
        assert_eq!(watch.row("audit", "1")["what"], "added one");
        watch.step("INSERT INTO notes (id, body) VALUES (2, 'two')").await;
        assert_eq!(watch.row("notes", "1")["stars"], 1);
        watch.write("INSERT INTO notes (id, body) VALUES (3, 'three'), (4, 'four')").await;
        watch.compare().await;
        assert_eq!(watch.rows("audit").len(), 4);
    }

    /// A user's trigger changes the row that was just written, or deletes it.
    async fn a_trigger_may_change_the_written_row(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute(dialect(
            &db,
            "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               UPDATE notes SET body = upper(body) WHERE id = new.id; \
               DELETE FROM notes WHERE id = new.id AND body = 'SPAM'; RETURN NULL; END $$; \
             CREATE TRIGGER tidy AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION tidy()",
            "CREATE TRIGGER tidy AFTER INSERT ON notes BEGIN \
               UPDATE notes SET body = upper(body) WHERE id = new.id; \
               DELETE FROM notes WHERE id = new.id AND body = 'SPAM'; END",
        ))
        .await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.write("INSERT INTO notes (id, body) VALUES (1, 'ham')").await;
        watch.compare().await;
        assert_eq!(watch.row("notes", "1")["body"], "HAM");
        watch.write("INSERT INTO notes (id, body) VALUES (2, 'spam'), (3, 'eggs')").await;
        watch.compare().await;
        assert_eq!(watch.keys("notes"), ["1", "3"]);
    }
}

on_postgres! {
    /// A row counts as its `BEFORE` trigger leaves it; one that the trigger rejects is not captured.
    async fn before_triggers_decide_what_is_captured(db: TestDatabase) {
        db.execute(NOTES).await;
        db.execute(
            "CREATE FUNCTION censor() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF new.body = 'never' THEN RETURN NULL; END IF; \
               new.body := new.body || '!'; new.id := new.id + 1000; RETURN new; END $$; \
             CREATE TRIGGER censor BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION censor()",
        )
        .await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'never')").await;
        assert_eq!(watch.rows("notes").len(), 1);
        assert_eq!(watch.row("notes", "1001"), &json!({ "id": 1001, "body": "a!", "stars": 0 }));
        assert_eq!(watch.entries()[0].says(), ("create", Some("1001"), &Value::Null));
    }
}
