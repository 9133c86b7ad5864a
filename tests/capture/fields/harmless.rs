//! Stamping makes no writer fail, whatever stands where metadata should.

use merge::Deletes;
use serde_json::{Value, json};
use testkit::TestDatabase;

use super::*;

/// Whether another database merges with this one, which is named `here`.
async fn set_peers(db: &TestDatabase, has_peers: bool) {
    db.execute("DELETE FROM _rhtmx_sync_peer; UPDATE _rhtmx_sync_meta SET node = 'here'")
        .await;
    if has_peers {
        db.execute("INSERT INTO _rhtmx_sync_peer VALUES ('there', 'todos', '')")
            .await;
    }
}

on_postgres! {
    async fn metadata_that_somebody_broke_harms_no_writer(db: TestDatabase) {
        let broken = [
            json!(null), json!(1), json!("died"), json!([]), json!(["died", "fields"]), json!({ "fields": 1 }), json!({ "fields": [] }),
            json!({ "fields": { "likes": 1, "tags": [], "title": {} } }), json!({ "born": [], "died": {}, "edited": 1 }),
            json!({ "fields": { "likes": { "counter": 1 }, "tags": { "set": null } } }), json!({ "died": null, "fields": null }),
            json!({ "fields": { "likes": { "counter": [] } } }),
            json!({ "fields": { "likes": { "counter": { "sums": 1 } }, "tags": { "set": { "\"x\"": 1 } } } }),
            json!({ "fields": { "likes": { "counter": { "sums": { "here": [] } } }, "tags": { "set": { "\"x\"": { "added": 1 } } } } }),
            json!({ "fields": { "likes": { "counter": { "sums": { "here": { "added": "NaN", "taken": "1e999999" } } } } } }),
        ];
        let kinds = [Deletes::Win, Deletes::Revive].map(|deletes| [(deletes, false), (deletes, true)]);
        for (deletes, has_peers) in kinds.into_iter().flatten() {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            set_peers(&db, has_peers).await;
            for metadata in &broken {
                for newest in ["", "zzz", "9", "2026-13-99T99:99:99.999Z-FFFF-a", "2999-02-30T25:00:00.000Z-FFFF-\"", "3000-01-01T00:00:00.000Z-0000-\"\\"] {
                    for sql in [
                        "UPDATE todos SET title = title || 'x', likes = coalesce(likes, 0) + 1, tags = tags || 'x'::text WHERE id = 1",
                        "UPDATE todos SET likes = likes - 3, tags = '{}' WHERE id = 1",
                        "UPDATE todos SET likes = NULL, best = likes, tags = NULL WHERE id = 1",
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

    /// Numbers that nobody can add, and what is no element of a set.
    async fn values_that_no_mark_can_hold_harm_no_writer(db: TestDatabase) {
        db.execute(
            "CREATE TABLE todos (id integer PRIMARY KEY, n numeric, number double precision, plain json, binary_json jsonb, \
             list text[], amounts numeric[])",
        )
        .await;
        let counters = ["n", "number"].map(|name| (name, ColumnMerge::Counter));
        let sets = ["plain", "binary_json", "list", "amounts"].map(|name| (name, ColumnMerge::Set));
        capture_todos(&db, rules(Deletes::Win, &[counters.as_slice(), &sets].concat())).await;
        set_peers(&db, true).await;
        db.execute("INSERT INTO todos (id, n, number, plain, binary_json, list, amounts) VALUES (1, 0, 0, '[]', '[]', '{}', '{}')").await;
        let values: [(&str, &[&str]); 6] = [
            ("n", &["'NaN'", "1e130000", "-1e130000", "1e-16000", "0.1", "NULL", "1e27", "7"]),
            ("number", &["'NaN'", "'Infinity'", "'-Infinity'", "1e308", "-1e308", "1e-300", "NULL", "7"]),
            ("plain", &["'[\"\\u0000\"]'", "'[1e500000]'", "'[\"a\", \"a\", null, [], {}, 1.0, 1]'", "'5'", "'\"[\"'", "NULL", "'[]'"]),
            ("binary_json", &["'[1e100000, \"a\", null, {}]'", "'{\"a\": 1}'", "'\"[\"'", "to_jsonb(repeat('x', 100000))", "'null'", "'[]'"]),
            ("list", &["ARRAY[NULL, 'a', chr(1), repeat('x', 100000)]", "'{{a,b},{c,d}}'", "ARRAY(SELECT generate_series(1, 5000)::text)", "'{}'"]),
            ("amounts", &["'{NaN,1e10000}'", "NULL", "'{1.50}'"]),
        ];
        for (column, values) in values {
            for value in values {
                let done = db.try_execute(&format!("UPDATE todos SET {column} = {value}")).await;
                assert_eq!(done, Ok(()), "{column} = {value}");
                entry(&db, "1").await;
            }
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
                set_peers(&db, deletes == Deletes::Win).await;
                db.execute("UPDATE todos SET title = 'x'").await;
                db.execute(change).await;
                for sql in ["INSERT INTO todos SELECT 7", "UPDATE todos SET best = 1, tags = NULL", "DELETE FROM todos"] {
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
