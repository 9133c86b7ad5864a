//! Stamping makes no writer fail, whatever stands where metadata should.

use merge::Deletes;
use serde_json::{Value, json};
use testkit::TestDatabase;

use super::*;

on_postgres! {
    async fn metadata_that_somebody_broke_harms_no_writer(db: TestDatabase) {
        let broken = [
            json!(null), json!(1), json!("died"), json!([]), json!(["died", "fields"]), json!({ "fields": 1 }), json!({ "fields": [] }),
            json!({ "fields": { "likes": 1, "tags": [], "title": {} } }), json!({ "born": [], "died": {}, "edited": 1 }),
            json!({ "fields": { "likes": { "counter": 1 }, "tags": { "set": null } } }), json!({ "died": null, "fields": null }),
            json!({ "fields": { "likes": { "counter": [] } } }),
        ];
        for deletes in [Deletes::Win, Deletes::Revive] {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            for metadata in &broken {
                for newest in ["", "zzz", "9", "2026-13-99T99:99:99.999Z-FFFF-a", "2999-02-30T25:00:00.000Z-FFFF-\"", "3000-01-01T00:00:00.000Z-0000-\"\\"] {
                    for sql in [
                        "UPDATE todos SET title = title || 'x', likes = coalesce(likes, 0) + 1, tags = tags || 'x'::text WHERE id = 1",
                        "UPDATE todos SET likes = NULL, best = likes WHERE id = 1",
                        "DELETE FROM todos WHERE id = 1",
                        "INSERT INTO todos (id, title) VALUES (1, 'again')",
                        "UPDATE todos SET id = 9 WHERE id = 1",
                        "UPDATE todos SET id = 1 WHERE id = 9",
                    ] {
                        let break_it = format!(
                            "INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) SELECT 'todos', id, '{newest}', '{metadata}' \
                             FROM (VALUES ('1'), ('9')) v(id) ON CONFLICT (entity, entity_id) DO UPDATE SET newest = EXCLUDED.newest, \
                             metadata = EXCLUDED.metadata, image = EXCLUDED.image"
                        );
                        db.execute(&break_it).await;
                        let done = db.try_execute(sql).await;
                        assert_eq!(done, Ok(()), "{sql} over {metadata} and {newest}");
                    }
                }
            }
            // A creation mends it.
            db.execute("DELETE FROM todos; INSERT INTO todos (id) VALUES (1)").await;
            let born = db.query_json("SELECT metadata FROM _rhtmx_sync_field WHERE entity_id = '1'").await;
            assert_eq!(born[0].as_object().map(serde_json::Map::len), Some(1), "{born:?}");
        }
    }

    /// Nodes that somebody renamed, and a table of the engine that was emptied.
    async fn a_node_of_any_name_harms_no_writer(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        for node in ["UPDATE _rhtmx_sync_meta SET node = '\"\\, {'", "UPDATE _rhtmx_sync_meta SET node = ''", "DELETE FROM _rhtmx_sync_meta"] {
            db.execute(node).await;
            db.execute("UPDATE todos SET title = title || 'x'; UPDATE todos SET title = title || 'y' WHERE id = 1").await;
            db.execute("DELETE FROM todos WHERE id = 1; INSERT INTO todos (id) VALUES (1)").await;
        }
    }

    /// Values that no JSON holds: a row that had one leaves a tombstone that no edit brings back.
    async fn values_that_no_image_can_hold_harm_no_writer(db: TestDatabase) {
        db.execute(
            "CREATE TYPE amounts AS (list numeric[], n integer); \
             CREATE TABLE todos (id integer PRIMARY KEY, n integer, plain json, binary_json jsonb, body text, \
               amounts numeric[], pair amounts, bits bit varying, number double precision, bytes bytea)",
        )
        .await;
        capture_todos(&db, rules(Deletes::Revive, &[])).await;
        for (column, value, is_kept) in [
            ("plain", "'{\"a\": \"\\u0000\"}'", false),
            ("plain", "'1e500000'", false),
            ("body", "repeat(chr(1), 20000000)", false),
            ("number", "'-Infinity'", true),
            ("plain", "'{\"a\": [1.50]}'", true),
        ] {
            for sql in [
                format!("INSERT INTO todos (id, {column}) VALUES (1, {value})"),
                "UPDATE todos SET n = coalesce(n, 0) + 1".to_owned(),
                format!("UPDATE todos SET {column} = NULL"),
                format!("UPDATE todos SET {column} = {value}"),
                "DELETE FROM todos".to_owned(),
            ] {
                let done = db.try_execute(&sql).await;
                assert_eq!(done, Ok(()), "{sql}");
            }
            let dead = entry(&db, "1").await;
            assert_eq!(dead.clock("died"), dead.newest);
            assert_eq!(dead.image != Value::Null, is_kept, "{column} {value}");
        }
    }

    /// A table that is no longer what the function was made for.
    async fn a_table_that_has_changed_harms_no_writer(db: TestDatabase) {
        for deletes in [Deletes::Win, Deletes::Revive] {
            for change in [
                "ALTER TABLE todos RENAME COLUMN title TO text",
                "ALTER TABLE todos DROP COLUMN likes",
                "ALTER TABLE todos ALTER COLUMN due TYPE bytea USING NULL",
                "ALTER TABLE todos RENAME COLUMN id TO key",
                "ALTER TABLE todos DROP COLUMN tags, ADD COLUMN tags integer",
                "ALTER TABLE todos ADD COLUMN more text DEFAULT 'x'",
            ] {
                db.execute("DROP TABLE IF EXISTS todos").await;
                todos(&db, deletes).await;
                db.execute("UPDATE todos SET title = 'x'").await;
                db.execute(change).await;
                for sql in ["INSERT INTO todos SELECT 7", "UPDATE todos SET best = 1", "DELETE FROM todos"] {
                    let done = db.try_execute(sql).await;
                    assert_eq!(done, Ok(()), "{change}: {sql}");
                }
            }
        }
    }

    async fn statements_take_no_transaction_numbers(db: TestDatabase) {
        todos(&db, Deletes::Revive).await;
        db.execute(
            "DO $$ BEGIN FOR i IN 10..200 LOOP INSERT INTO todos (id) VALUES (i); UPDATE todos SET title = 'x' WHERE id = i; \
             DELETE FROM todos WHERE id = i - 1; INSERT INTO todos (id) VALUES (i - 1); END LOOP; END $$",
        )
        .await;
        let numbers = "SELECT count(DISTINCT xmin::text)::text FROM _rhtmx_sync_field";
        assert_eq!(db.query_text(numbers).await, [Some("1".to_owned())]);
    }
}
