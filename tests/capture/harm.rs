//! The capture does no harm: a statement that worked before works with it, costs nothing that others pay for, and
//! waits for nobody.

use std::time::{Duration, Instant};

use rhtmx_sync::{DbPool, SyncConfig, SyncEngine};
use serde_json::json;
use testkit::eventually;
use tokio_postgres::Client;

use super::watch::Watch;
use super::*;

/// A connection with an open transaction, in which a statement has run.
async fn open_transaction(db: &TestDatabase, sql: &str) -> Client {
    let client = db.connect_postgres().await;
    client
        .batch_execute(&format!("BEGIN; {sql}"))
        .await
        .expect("a transaction");
    client
}

on_postgres! {
    /// A subtransaction that writes takes a number, and beyond 64 of them every snapshot of the cluster pays.
    async fn statements_take_no_transaction_numbers(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0)").await;
        let Watch { server, db, .. } = Watch::start(db, ["notes"]).await;
        server.shutdown().await;
        db
            .execute(
                "DO $$ BEGIN FOR i IN 1..300 LOOP INSERT INTO notes VALUES (i); UPDATE notes SET n = 1 WHERE id = i; \
                 DELETE FROM notes WHERE id = i - 1; END LOOP; END $$",
            )
            .await;
        // A subtransaction's rows have its own number.
        let numbers = "SELECT count(DISTINCT xmin::text)::text FROM _rhtmx_sync_log WHERE entity = 'notes' AND entity_id IS NOT NULL";
        assert_eq!(db.query_text(numbers).await, [Some("1".to_owned())]);
        let logged = super::log::since(&db, 0, "fence").await;
        assert_eq!(logged.iter().filter(|entry| entry.entity == "notes" && entry.key.is_some()).count(), 899);
    }

    /// A transaction whose snapshot is older than a change of the table sees the old catalog, but not where
    /// statements are resolved.
    async fn a_transaction_from_before_a_schema_change_may_write(db: TestDatabase) {
        for change in [
            "ALTER TABLE notes RENAME COLUMN body TO text",
            "ALTER TABLE notes DROP COLUMN body",
            "ALTER TABLE notes ALTER COLUMN n TYPE text",
            "ALTER TABLE notes RENAME COLUMN id TO key",
            "ALTER TABLE notes ALTER COLUMN big TYPE numeric; ALTER TABLE notes ALTER COLUMN n TYPE bytea USING NULL",
        ] {
            db.execute("DROP TABLE IF EXISTS notes").await;
            db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text, n integer, big bigint)").await;
            let pool = DbPool::from_url(&db.url()).await.expect("a pool");
            let engine = SyncEngine::new(SyncConfig::new(pool, vec!["notes"])).await.expect("an engine");
            engine.shutdown().await;
            let old = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
            let writer = open_transaction(&db, old).await;
            db.execute(change).await;
            for sql in ["INSERT INTO notes DEFAULT VALUES", "UPDATE notes SET big = 1", "DELETE FROM notes"] {
                let sql = sql.replace("DEFAULT VALUES", "SELECT 7");
                writer.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{change}: {sql}: {error:?}"));
            }
            writer.batch_execute("COMMIT").await.expect("the commit");
        }
    }

    /// Values that JSON, `jsonb` or a text of PostgreSQL cannot hold.
    async fn values_that_the_log_cannot_hold_harm_no_writer(db: TestDatabase) {
        db.execute(
            "CREATE TYPE amounts AS (list numeric[], n integer); \
             CREATE TABLE t (id integer PRIMARY KEY, n integer, plain json, binary_json jsonb, body text, \
               amounts numeric[], pair amounts, bits bit varying, words tsvector)",
        )
        .await;
        // Without a client, because some of these rows cannot be read either.
        let pool = DbPool::from_url(&db.url()).await.expect("a pool");
        let engine = SyncEngine::new(SyncConfig::new(pool, vec!["t"])).await.expect("an engine");
        engine.shutdown().await;
        let bombs = [
            ("plain", "'{\"a\": \"\\u0000\"}'"),
            ("plain", "'1e500000'"),
            ("plain", "('\"' || repeat('x', 270000000) || '\"')::json"),
            ("body", "repeat(chr(1), 190000000)"),
            ("binary_json", "(SELECT jsonb_agg(1e131071) FROM generate_series(1, 8300))"),
            ("amounts", "(SELECT array_agg(1e131071::numeric) FROM generate_series(1, 8300))"),
            ("pair", "ROW((SELECT array_agg(1e131071::numeric) FROM generate_series(1, 8300)), 1)::amounts"),
        ];
        for (column, value) in bombs {
            for sql in [
                format!("INSERT INTO t (id, {column}) VALUES (1, {value})"),
                "UPDATE t SET n = 1".to_owned(),
                format!("UPDATE t SET {column} = NULL"),
                format!("UPDATE t SET {column} = {value}"),
                "DELETE FROM t".to_owned(),
            ] {
                let done = db.try_execute(&sql).await;
                assert_eq!(done, Ok(()), "{sql}");
            }
        }
        let schema_changes = "SELECT count(*)::text FROM _rhtmx_sync_log WHERE action = 'schema_change' AND entity = 't'";
        assert_eq!(db.query_text(schema_changes).await, [Some("1".to_owned())], "that of the start");
    }

    /// The settings of a writer's database session do not change how the capture is read.
    async fn a_writers_settings_do_not_change_the_capture(db: TestDatabase) {
        let names = ["back\\slash", "it's \\'; --", "\\\\", "\\\""];
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        for name in names {
            let column = quoted(&format!("{name}2"));
            db.execute(&format!("CREATE TABLE {} ({} integer PRIMARY KEY, {column} text)", quoted(name), quoted(name))).await;
        }
        let tables = names.map(|name| super::watch::Table::new(name.into(), &quoted(name)));
        let mut watch = Watch::start(db, tables).await;
        let settings = "SET standard_conforming_strings = off; SET escape_string_warning = off; SET backslash_quote = off; \
             SET array_nulls = off; SET transform_null_equals = on; SET quote_all_identifiers = on; SET row_security = off; \
             SET default_with_oids = off; SET check_function_bodies = off; SET plan_cache_mode = force_custom_plan";
        for name in names {
            let (table, column) = (quoted(name), quoted(&format!("{name}2")));
            watch.step(&format!("{settings}; INSERT INTO {table} VALUES (1, 'a'), (2, 'b')")).await;
            watch.step(&format!("{settings}; UPDATE {table} SET {column} = 'c' WHERE {} = 1", quoted(name))).await;
            assert_eq!(watch.entries()[0].says(), ("update", Some("1"), &json!({ format!("{name}2"): "a" })));
            watch.step(&format!("{settings}; DELETE FROM {table}")).await;
        }
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// While a long transaction keeps the engine from installing its triggers, other writers hardly notice.
    async fn installing_does_not_hold_up_writers(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, n integer); INSERT INTO notes VALUES (1, 0), (2, 0)").await;
        let long = open_transaction(&db, "UPDATE notes SET n = 1 WHERE id = 1").await;
        let pool = DbPool::from_url(&db.url()).await.expect("a pool");
        let engine = SyncEngine::new(SyncConfig::new(pool, vec!["notes"])).await.expect("an engine that waits");
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(5) {
            let write = Instant::now();
            db.execute("UPDATE notes SET n = n + 1 WHERE id = 2").await;
            waited += write.elapsed().saturating_sub(Duration::from_millis(20));
        }
        assert!(waited < Duration::from_millis(1500), "writers waited for {waited:?} of 5 s");
        long.batch_execute("COMMIT").await.expect("the commit");
        engine.ready().await;
        engine.shutdown().await;
    }

    /// Removing the triggers waits for a long reader, and nobody waits for that. Nothing is captured meanwhile.
    async fn uncapture_does_not_hold_up_readers(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, n integer); INSERT INTO notes VALUES (1, 0)").await;
        let Watch { server, db, .. } = Watch::start(db, ["notes"]).await;
        server.shutdown().await;
        let dump = open_transaction(&db, "SELECT * FROM notes").await;
        let pool = DbPool::from_url(&db.url()).await.expect("a pool");
        let removal = tokio::spawn(async move { SyncEngine::uncapture(&pool, None).await });
        eventually("nothing is captured", async || {
            let before = super::log::length(&db).await;
            db.execute("UPDATE notes SET n = n + 1").await;
            (super::log::length(&db).await == before).then_some(())
        })
        .await;
        let begun = Instant::now();
        for _ in 0..20 {
            db.execute("SELECT * FROM notes; UPDATE notes SET n = n + 1").await;
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "20 reads took {:?}", begun.elapsed());
        assert!(!removal.is_finished(), "the dump still reads the table");
        dump.batch_execute("COMMIT").await.expect("the commit");
        let removed = removal.await.expect("no panic").expect("the triggers are removed");
        assert_eq!(removed, ["fence", "notes"]);
    }
}
