//! Tables whose columns, key or types change while clients are connected and programs write: no write
//! fails, no change is missed, and the copies have the new schema.

use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient};

use super::watch::{Watch, has_columns};
use super::writers::Writers;
use super::*;

/// A table that generates its key, for the writers below.
fn notes(db: &TestDatabase) -> &'static str {
    dialect(
        db,
        "CREATE SEQUENCE ids; CREATE TABLE notes \
         (id integer PRIMARY KEY DEFAULT nextval('ids'), n integer NOT NULL DEFAULT 0, body text DEFAULT 'a note')",
        "CREATE TABLE notes \
         (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0, body text DEFAULT 'a note')",
    )
}

/// Name no column but `n`, which no test touches. One transaction rolls back to a savepoint.
const WRITERS: [&str; 3] = [
    "INSERT INTO notes (n) VALUES (0)",
    "BEGIN; INSERT INTO notes (n) VALUES (1); SAVEPOINT s; INSERT INTO notes (n) VALUES (-1); \
     ROLLBACK TO s; INSERT INTO notes (n) VALUES (2); COMMIT",
    "UPDATE notes SET n = n + 1; DELETE FROM notes WHERE n > 20",
];

fn has_key(columns: &[&str]) -> impl Fn(&Value) -> bool {
    let columns = json!(columns);
    move |schema| schema["key"] == columns
}

fn has_type(column: &str, type_name: &str) -> impl Fn(&Value) -> bool {
    let (column, type_name) = (column.to_owned(), json!(type_name));
    move |schema| schema["columns"][&column] == type_name
}

/// A statement that changes the table, and a test of the schema that clients must receive after it.
type SchemaChange<'a> = (&'a str, Box<dyn Fn(&Value) -> bool + Send + Sync + 'a>);

/// Makes one schema change after another while programs write, and compares at the end.
async fn change_schema_under_writers(db: TestDatabase, changes: Vec<SchemaChange<'_>>) {
    db.execute(notes(&db)).await;
    let mut watch = Watch::start(db, ["notes"]).await;
    let mut writers = Writers::start(&watch.db, &WRITERS).await;
    for (sql, is_expected) in changes {
        writers.wait_for_progress().await;
        watch.db.execute(sql).await;
        writers.wait_for_progress().await;
        watch.wait_schema("notes", is_expected).await;
    }
    writers.wait_for_progress().await;
    writers.stop().await;
    watch.settle().await;
    watch.compare().await;
    assert!(!watch.rows("notes").is_empty());
    // And the capture works as before.
    watch.step("INSERT INTO notes (n) VALUES (100)").await;
    watch.step("UPDATE notes SET n = 200 WHERE n = 100").await;
    watch.step("DELETE FROM notes WHERE n = 200").await;
    assert_eq!(watch.entries().len(), 1);
}

both_backends! {
    async fn columns_may_be_added_and_renamed(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                ("ALTER TABLE notes ADD COLUMN stars integer", Box::new(has_columns(&["id", "n", "body", "stars"]))),
                (
                    "ALTER TABLE notes ADD COLUMN kind text NOT NULL DEFAULT 'plain'",
                    Box::new(has_columns(&["id", "n", "body", "stars", "kind"])),
                ),
                (
                    "ALTER TABLE notes RENAME COLUMN body TO \"The Body\"",
                    Box::new(has_columns(&["id", "n", "The Body", "stars", "kind"])),
                ),
            ],
        )
        .await;
    }

    /// Columns are dropped, and one is added again with another type.
    async fn columns_may_be_dropped(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                ("ALTER TABLE notes DROP COLUMN body", Box::new(has_columns(&["id", "n"]))),
                ("ALTER TABLE notes ADD COLUMN body boolean DEFAULT true", Box::new(has_type("body", "bool"))),
                ("ALTER TABLE notes DROP COLUMN body", Box::new(has_columns(&["id", "n"]))),
            ],
        )
        .await;
    }

    /// The key's column is renamed, twice.
    async fn the_key_may_be_renamed(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                ("ALTER TABLE notes RENAME COLUMN id TO note_id", Box::new(has_key(&["note_id"]))),
                ("ALTER TABLE notes RENAME COLUMN note_id TO entity_id", Box::new(has_key(&["entity_id"]))),
            ],
        )
        .await;
    }

    /// Two columns exchange their names, so that every name still exists.
    async fn columns_may_exchange_their_names(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text, b text)").await;
        db.execute("INSERT INTO t VALUES (1, 'first', 'second')").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch
            .db
            .execute(
                "BEGIN; ALTER TABLE t RENAME COLUMN a TO c; ALTER TABLE t RENAME COLUMN b TO a; \
                 ALTER TABLE t RENAME COLUMN c TO b; COMMIT",
            )
            .await;
        watch.refetched("t").await;
        assert_eq!(watch.row("t", "1"), &json!({ "id": 1, "a": "second", "b": "first" }));
        watch.step("UPDATE t SET a = 'new'").await;
        assert_eq!(watch.entries()[0].old, json!({ "a": "second" }));
    }

    /// The table is dropped, is missing for a while, and is created again with other columns.
    async fn a_table_may_be_dropped_and_created_again(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'old'), (2, 'old')").await;
        watch.db.execute("DROP TABLE t").await;
        watch.db.execute("CREATE TABLE t (id integer PRIMARY KEY, b text); INSERT INTO t VALUES (2, 'new')").await;
        watch.schema_changed("t", has_columns(&["id", "b"])).await;
        watch.step("INSERT INTO t VALUES (3, 'newer')").await;
        watch.step("UPDATE t SET b = 'newest'").await;

        // The same columns, in one transaction: only the rows differ.
        watch
            .db
            .execute(
                "BEGIN; DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY, b text); \
                 INSERT INTO t VALUES (9, 'again'); COMMIT",
            )
            .await;
        watch.client.wait_until(|client| client.rows("t").contains_key("9")).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("INSERT INTO t VALUES (10, 'and again')").await;
    }

    /// The server serves everything else, and a subscription to the missing table waits.
    async fn a_missing_table_holds_up_no_other(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY)").await;
        db.execute("CREATE TABLE u (id integer PRIMARY KEY)").await;
        let mut watch = Watch::start(db, ["t", "u"]).await;
        watch.db.execute("INSERT INTO t VALUES (1); DROP TABLE t").await;
        let http = watch.server.http();
        testkit::eventually("the server notices that the table is missing", || async {
            (http.get("/api/sync/t").await.status == 503).then_some(())
        })
        .await;
        watch.db.execute("INSERT INTO u VALUES (1)").await;
        watch.client.wait_until(|client| client.rows("u").contains_key("1")).await;

        // A client that subscribes in the meantime is served once the table is back.
        let mut late_client = watch.server.connect().await;
        late_client.subscribe("t", "t").await;
        late_client.subscribe("u", "u").await;
        late_client.wait_subscribed("u").await;
        watch.db.execute("CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (5)").await;
        late_client.wait_subscribed("t").await;
        assert!(late_client.rows("t").contains_key("5"));
        watch.client.wait_until(|client| client.rows("t").contains_key("5")).await;
        watch.settle().await;
        watch.step("INSERT INTO t VALUES (6)").await;
        late_client.wait_until(|client| client.rows("t").contains_key("6")).await;
    }

    /// As in a blue-green migration.
    async fn another_table_may_take_the_name(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        db.execute("CREATE TABLE t2 (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'blue'), (2, 'blue')").await;
        watch
            .db
            .execute(
                "BEGIN; INSERT INTO t2 SELECT id + 10, 'green' FROM t; ALTER TABLE t RENAME TO old; \
                 ALTER TABLE t2 RENAME TO t; COMMIT",
            )
            .await;
        watch.db.execute("INSERT INTO old VALUES (3, 'still blue'); INSERT INTO t VALUES (13, 'green')").await;
        watch.client.wait_until(|client| client.rows("t").contains_key("13")).await;
        watch.settle().await;
        watch.compare().await;
        watch.write("UPDATE old SET a = 'nobody sees it'; DELETE FROM old WHERE id = 1").await;
        watch.compare().await;
        watch.step("UPDATE t SET a = 'seen'").await;
        watch.step("DELETE FROM t WHERE id = 11").await;
    }

    /// A schema change within a transaction that writes the table, and one that is rolled back.
    async fn a_schema_change_inside_a_transaction_is_captured(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
        watch
            .step(
                "BEGIN; ALTER TABLE t RENAME COLUMN id TO key; INSERT INTO t VALUES (9, 'x'); \
                 ALTER TABLE t ADD COLUMN c text; UPDATE t SET c = 'y'; ROLLBACK",
            )
            .await;
        assert_eq!((watch.sent(), watch.client.frames("refetch")), (vec![], 0));
        watch
            .db
            .execute(
                "BEGIN; INSERT INTO t VALUES (3, 'before'); DELETE FROM t WHERE id = 1; \
                 ALTER TABLE t RENAME COLUMN id TO key; INSERT INTO t VALUES (4, 'after'); \
                 UPDATE t SET a = 'changed' WHERE key = 2; COMMIT",
            )
            .await;
        watch.schema_changed("t", has_key(&["key"])).await;
        assert_eq!(watch.keys("t"), ["2", "3", "4"]);
    }

    /// A restart finds the capture as it was, and no client refetches.
    async fn a_restart_causes_no_refetch(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
        let Watch { client, server, db, .. } = watch;
        let state = client.into_state();
        server.shutdown().await;
        db.execute("UPDATE t SET a = 'while the server was down' WHERE id = 1; DELETE FROM t WHERE id = 2").await;
        for _ in 0..2 {
            let server = rhtmx_sync_tests::TestServer::start(&db, ["t", "fence"]).await;
            let options = ClientOptions::default();
            let mut client = SyncClient::reconnect(&server.ws_url(), options, &state).await;
            client.wait_subscribed("t").await;
            client.wait_subscribed("fence").await;
            assert_eq!(client.rows("t").len(), 1);
            assert_eq!(client.row("t", "1").expect("the row exists")["a"], "while the server was down");
            assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
            server.shutdown().await;
        }
    }

    /// The table is also written; a client that resumes refetches.
    async fn a_schema_change_without_a_server_is_noticed_at_the_start(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let Watch { client, server, db, .. } = {
            let mut watch = Watch::start(db, ["t"]).await;
            watch.step("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
            watch
        };
        let state = client.into_state();
        server.shutdown().await;
        db.execute("ALTER TABLE t RENAME COLUMN id TO key").await;
        db.execute("UPDATE t SET a = 'changed' WHERE key = 1").await;
        db.execute("ALTER TABLE t ADD COLUMN b text").await;
        db.execute("INSERT INTO t VALUES (3, 'c', 'd'); DELETE FROM t WHERE key = 2").await;

        let server = rhtmx_sync_tests::TestServer::start(&db, ["t", "fence"]).await;
        let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
        assert_eq!((&refetch["id"], &refetch["reason"]), (&json!("t"), &json!("schema")));
        client.wait_subscribed("t").await;
        assert_eq!(client.rows("t").len(), 2);
        assert_eq!(client.row("t", "1"), Some(&json!({ "key": 1, "a": "changed", "b": null })));
        assert_eq!(client.row("t", "3"), Some(&json!({ "key": 3, "a": "c", "b": "d" })));
    }
}

on_postgres! {
    /// To another type and back.
    async fn a_column_may_change_its_type(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                (
                    "ALTER TABLE notes ALTER COLUMN body DROP DEFAULT, ALTER COLUMN body TYPE jsonb USING to_jsonb(body)",
                    Box::new(has_type("body", "jsonb")),
                ),
                ("ALTER TABLE notes ALTER COLUMN body TYPE text", Box::new(has_type("body", "text"))),
            ],
        )
        .await;
    }

    /// The keys become other texts in the JSON.
    async fn the_key_may_change_its_type(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                ("ALTER TABLE notes ALTER COLUMN id TYPE bigint", Box::new(has_type("id", "int8"))),
                (
                    "ALTER TABLE notes ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE text USING 'note-' || id, \
                     ALTER COLUMN id SET DEFAULT 'note-' || nextval('ids')",
                    Box::new(has_type("id", "text")),
                ),
            ],
        )
        .await;
    }

    /// The primary key is dropped, with and without its column, and another one is added.
    async fn the_key_may_be_dropped_and_another_added(db: TestDatabase) {
        change_schema_under_writers(
            db,
            vec![
                ("ALTER TABLE notes DROP CONSTRAINT notes_pkey", Box::new(|_| true)),
                (
                    "ALTER TABLE notes ADD COLUMN ref uuid NOT NULL DEFAULT gen_random_uuid()",
                    Box::new(|_| true),
                ),
                ("ALTER TABLE notes ADD PRIMARY KEY (ref)", Box::new(has_key(&["ref"]))),
                ("ALTER TABLE notes DROP COLUMN ref", Box::new(|_| true)),
                ("ALTER TABLE notes ADD PRIMARY KEY (body, id)", Box::new(has_key(&["body", "id"]))),
                (
                    "ALTER TABLE notes DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id, body)",
                    Box::new(has_key(&["id", "body"])),
                ),
            ],
        )
        .await;
    }

    /// The key changes while a writer still writes as for the old one. Changes of other tables do not
    /// wait for that writer.
    async fn the_key_may_change_during_a_write(db: TestDatabase) {
        db.execute("CREATE TABLE t (a text, b integer, n integer, PRIMARY KEY (a, b))").await;
        db.execute("CREATE TABLE u (id integer PRIMARY KEY)").await;
        let mut watch = Watch::start(db, ["t", "u"]).await;
        watch.step("INSERT INTO t VALUES ('x', 1, 0)").await;
        watch.db.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b, a)").await;
        let writer = watch.db.connect_postgres().await;
        let write = "BEGIN; INSERT INTO t VALUES ('x', 2, 0); UPDATE t SET n = 1";
        writer.batch_execute(write).await.expect("the writer may write");
        let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        testkit::eventually("the engine waits for the writer", || async {
            (!watch.db.query_text(waits).await.is_empty()).then_some(())
        })
        .await;
        for id in 0..5 {
            watch.db.execute(&format!("INSERT INTO u VALUES ({id})")).await;
            watch.client.wait_until(|client| client.rows("u").contains_key(&id.to_string())).await;
        }
        writer.batch_execute("INSERT INTO t VALUES ('x', 3, 0); COMMIT").await.expect("the writer may commit");
        watch.schema_changed("t", has_key(&["b", "a"])).await;
        assert_eq!(watch.keys("t"), [r#"[1,"x"]"#, r#"[2,"x"]"#, r#"[3,"x"]"#]);
        watch.step("UPDATE t SET n = 2").await;
    }

    /// After the rename one writer has committed, another is in a long transaction on the table: the
    /// table's clients wait for it, those of other tables do not.
    async fn the_key_may_be_renamed_during_a_long_write(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, n integer)").await;
        db.execute("CREATE TABLE u (id integer PRIMARY KEY)").await;
        let mut watch = Watch::start(db, ["t", "u"]).await;
        watch.step("INSERT INTO t VALUES (1, 0)").await;
        watch.db.execute("ALTER TABLE t RENAME COLUMN id TO key").await;
        let writer = watch.db.connect_postgres().await;
        writer.batch_execute("BEGIN; INSERT INTO t VALUES (2, 0)").await.expect("the writer may write");
        watch.db.execute("INSERT INTO t VALUES (3, 0)").await;
        for id in 0..5 {
            watch.db.execute(&format!("INSERT INTO u VALUES ({id})")).await;
            watch.client.wait_until(|client| client.rows("u").contains_key(&id.to_string())).await;
        }
        writer.batch_execute("COMMIT").await.expect("the writer may commit");
        watch.schema_changed("t", has_key(&["key"])).await;
        assert_eq!(watch.keys("t"), ["1", "2", "3"]);
        watch.step("UPDATE t SET n = 2").await;
    }

    /// The label is renamed while a writer has written the old one.
    async fn an_enum_label_may_be_renamed_during_a_write(db: TestDatabase) {
        db.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE t (id mood PRIMARY KEY, n integer)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES ('sad', 0)").await;
        let writer = watch.db.connect_postgres().await;
        writer.batch_execute("BEGIN; INSERT INTO t VALUES ('glad', 0)").await.expect("the writer may write");
        watch.db.execute("ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'").await;
        watch.db.execute("UPDATE t SET n = 1 WHERE id = 'sad'").await;
        writer.batch_execute("COMMIT").await.expect("the writer may commit");
        watch.client.wait_until(|client| client.rows("t").contains_key("happy")).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("UPDATE t SET n = 2").await;
    }

    /// A change of type that computes new values.
    async fn values_rewritten_by_a_change_of_type_arrive(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        db.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.db.execute("ALTER TABLE t ALTER COLUMN a TYPE text USING upper(a)").await;
        watch.refetched("t").await;
        assert_eq!(watch.row("t", "2")["a"], "TWO");
        watch.step("UPDATE t SET a = 'three' WHERE id = 2").await;
    }

    /// The label of an enum is renamed, and with it every value.
    async fn an_enum_label_may_be_renamed(db: TestDatabase) {
        db.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE t (id mood PRIMARY KEY, a mood)").await;
        db.execute("INSERT INTO t VALUES ('sad', 'glad'), ('glad', 'sad')").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.db.execute("ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'").await;
        watch.refetched("t").await;
        assert_eq!(watch.row("t", "happy")["a"], "sad");
        watch.step("UPDATE t SET a = 'happy'").await;
        watch.db.execute("ALTER TYPE mood ADD VALUE 'neither'").await;
        watch.db.execute("INSERT INTO t VALUES ('neither', 'neither')").await;
        watch.client.wait_until(|client| client.rows("t").contains_key("neither")).await;
        watch.settle().await;
        watch.compare().await;
    }

    /// A program drops the triggers; the engine creates them again and the missed change is fetched.
    async fn a_dropped_trigger_is_restored(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a')").await;
        let triggers = watch.db.query_text("SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 't'::regclass").await;
        for trigger in triggers.into_iter().flatten() {
            watch.db.execute(&format!("DROP TRIGGER {trigger} ON t")).await;
        }
        watch.db.execute("INSERT INTO t VALUES (2, 'unseen')").await;
        watch.client.wait_until(|client| client.rows("t").contains_key("2")).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("INSERT INTO t VALUES (3, 'seen')").await;
    }

    /// As `pg_restore --disable-triggers` does for a load.
    async fn rows_loaded_with_disabled_triggers_arrive(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a')").await;
        watch
            .db
            .execute(
                "BEGIN; ALTER TABLE t DISABLE TRIGGER ALL; INSERT INTO t VALUES (2, 'loaded'); \
                 ALTER TABLE t ENABLE TRIGGER ALL; COMMIT",
            )
            .await;
        watch.client.wait_until(|client| client.rows("t").contains_key("2")).await;
        watch.settle().await;
        watch.compare().await;
        watch.db.execute("ALTER TABLE t DISABLE TRIGGER USER; INSERT INTO t VALUES (3, 'loaded')").await;
        watch.client.wait_until(|client| client.rows("t").contains_key("3")).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("INSERT INTO t VALUES (4, 'captured')").await;
    }

    /// The table is rewritten without a change of its rows.
    async fn maintenance_causes_no_refetch(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i").await;
        for sql in ["VACUUM FULL t", "ANALYZE t", "CLUSTER t USING t_pkey", "REINDEX TABLE t", "CREATE INDEX ON t (a)"] {
            watch.db.execute(sql).await;
            watch.step("UPDATE t SET a = a || '.'").await;
        }
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// What changes no value and no column.
    async fn settings_of_columns_cause_no_refetch(db: TestDatabase) {
        db.execute(
            "CREATE TABLE t (id integer PRIMARY KEY, a text); \
             CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER mine AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
        .await;
        let mut watch = Watch::start(db, ["t"]).await;
        let seen = "SELECT observed FROM _rhtmx_sync_entity WHERE entity = 't'";
        for (number, sql) in [
            "ALTER TABLE t ALTER COLUMN a SET STATISTICS 500",
            "ALTER TABLE t ALTER COLUMN a SET DEFAULT 'x'",
            "ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL",
            "GRANT SELECT (a) ON t TO PUBLIC",
            "ALTER TABLE t ALTER COLUMN a SET (n_distinct = 5)",
        ]
        .into_iter()
        .enumerate()
        {
            let before = watch.db.query_text(seen).await;
            watch.db.execute(&format!(
                "{sql}; ALTER TABLE t DISABLE TRIGGER mine; ALTER TABLE t ENABLE TRIGGER mine; COMMENT ON COLUMN t.a IS 'x'"
            ))
            .await;
            // The engine has noticed it.
            testkit::eventually(sql, async || (watch.db.query_text(seen).await != before).then_some(())).await;
            watch.step(&format!("INSERT INTO t VALUES ({number}, 'a')")).await;
            if number == 0 {
                let before = watch.db.query_text(seen).await;
                watch.step("TRUNCATE t").await;
                testkit::eventually("another file", async || (watch.db.query_text(seen).await != before).then_some(())).await;
            }
        }
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// The fields of a composite type are columns of its own, however deep in a type they are.
    async fn a_composite_type_may_change(db: TestDatabase) {
        db.execute(
            "CREATE TYPE inner_pair AS (x integer, y text); CREATE TYPE pair AS (a inner_pair, b inner_pair[]); \
             CREATE TABLE t (id integer PRIMARY KEY, p pair)",
        )
        .await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, ROW(ROW(1, 'a'), ARRAY[ROW(2, 'b')::inner_pair]))").await;
        watch.db.execute("ALTER TYPE inner_pair ADD ATTRIBUTE z integer").await;
        watch.refetched("t").await;
        assert_eq!(watch.row("t", "1")["p"]["b"][0], json!({ "x": 2, "y": "b", "z": null }));
        watch.db.execute("ALTER TYPE inner_pair RENAME ATTRIBUTE x TO first").await;
        watch.refetched("t").await;
        assert_eq!(watch.row("t", "1")["p"]["a"]["first"], 1);
    }

    /// The key's column is renamed while no server runs to notice: every write logs a schema change and
    /// commits.
    async fn writes_to_an_unknown_schema_commit(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text)").await;
        let watch = Watch::start(db, ["t"]).await;
        let Watch { server, db, .. } = watch;
        server.shutdown().await;
        let last = super::log::since(&db, 0, "fence").await.last().map_or(0, |entry| entry.id);
        db.execute("ALTER TABLE t RENAME COLUMN id TO key").await;
        for sql in ["INSERT INTO t VALUES (1, 'a')", "UPDATE t SET a = 'b'", "DELETE FROM t"] {
            db.execute(sql).await;
        }
        let entries = super::log::since(&db, last, "fence").await;
        let said: Vec<_> = entries.iter().map(|entry| entry.says()).collect();
        assert_eq!(said, vec![("schema_change", None, &Value::Null); 3]);
    }
}

on_sqlite! {
    /// SQLite itself rejects dropping a column of a key or an index. No change is lost by it.
    async fn a_failed_schema_change_loses_nothing(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text UNIQUE, b text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a', 'b')").await;
        for column in ["id", "a"] {
            assert!(watch.db.try_execute(&format!("ALTER TABLE t DROP COLUMN {column}")).await.is_err());
        }
        watch.step("INSERT INTO t VALUES (2, 'c', 'd')").await;
        watch.step("UPDATE t SET b = 'e' WHERE id = 1").await;
        watch.step("DELETE FROM t WHERE id = 2").await;
        assert_eq!(watch.row("t", "1"), &json!({ "id": 1, "a": "a", "b": "e" }));
    }

    /// The procedure of SQLite's manual for what ALTER TABLE cannot do.
    async fn a_table_may_be_rebuilt(db: TestDatabase) {
        db.execute("CREATE TABLE t (id integer PRIMARY KEY, a text, b text)").await;
        let mut watch = Watch::start(db, ["t"]).await;
        watch.step("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', 'd')").await;
        watch
            .db
            .execute(
                "BEGIN; CREATE TABLE new_t (id text PRIMARY KEY, a text NOT NULL); \
                 INSERT INTO new_t SELECT 'key-' || id, a FROM t; DROP TABLE t; ALTER TABLE new_t RENAME TO t; COMMIT",
            )
            .await;
        watch.schema_changed("t", has_columns(&["id", "a"])).await;
        assert_eq!(watch.keys("t"), ["key-1", "key-2"]);
        watch.step("UPDATE t SET a = 'e' WHERE id = 'key-1'").await;
        watch.step("DELETE FROM t WHERE id = 'key-2'").await;
    }
}
