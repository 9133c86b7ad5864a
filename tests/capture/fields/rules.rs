//! What each kind of statement does to what is known of the rows.

use merge::{Clock, Deletes};
use serde_json::{Value, json};
use testkit::TestDatabase;

use super::*;

on_postgres! {
    async fn an_update_stamps_the_columns_that_change(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("INSERT INTO todos (id, title) VALUES (4, 'four')").await;
        assert!(entries(&db).await.is_empty(), "rows that are only created");
        db.execute("UPDATE todos SET title = title, due = NULL").await;
        assert!(entries(&db).await.is_empty(), "nothing has changed");

        db.execute("UPDATE todos SET title = 'ONE', due = due WHERE id = 1").await;
        let first = entry(&db, "1").await;
        assert_eq!(first.json, json!({ "fields": { "title": first.newest.as_str() } }));
        let node = db.query_text("SELECT node FROM _rhtmx_sync_meta").await.remove(0).expect("a node");
        assert_eq!(first.newest.node().as_str(), node);
        let now = "SELECT abs(extract(epoch FROM clock_timestamp()) * 1000)::bigint::text";
        let now: u64 = db.query_text(now).await.remove(0).expect("a time").parse().expect("a number");
        assert!(now.abs_diff(first.newest.millis()) < 600_000, "{first:?} at {now}");

        db.execute("UPDATE todos SET due = '2026-12-01' WHERE id < 3").await;
        let second = entry(&db, "1").await;
        assert_eq!(second.field("title"), first.newest);
        assert_eq!(second.field("due"), second.newest);
        assert!(second.newest > first.newest);
        assert_eq!(entry(&db, "2").await.fields(), ["due"]);
        assert_eq!(entries(&db).await.len(), 2);
    }

    async fn columns_that_are_no_registers_get_no_clock(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("UPDATE todos SET likes = 5, best = 5, tags = '{a}'").await;
        assert!(entries(&db).await.is_empty());
        // A generated column changes with another.
        db.execute("UPDATE todos SET title = 'x', likes = likes + 1 WHERE id = 1").await;
        assert_eq!(entry(&db, "1").await.fields(), ["title"]);
        db.execute("UPDATE todos SET likes = NULL, tags = NULL WHERE id = 1").await;
        assert_eq!(entry(&db, "1").await.fields(), ["title"]);
    }

    /// What is known of a counter or a set must show the value that SQL wrote.
    async fn marks_of_counters_and_sets_follow_the_values(db: TestDatabase) {
        let at = "2020-01-01T00:00:00.000Z-0000-a";
        for deletes in [Deletes::Win, Deletes::Revive] {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            let marks = json!({ "fields": {
                "likes": { "counter": { "set": at, "null": true } },
                "tags": { "set": { "\"gone\"": { "added": at }, "\"a\"": { "added": null, "removed": { "seen": null, "at": at } } } },
            } });
            db.execute("UPDATE todos SET likes = NULL").await;
            let insert = format!(
                "DELETE FROM _rhtmx_sync_field; INSERT INTO _rhtmx_sync_field (entity, entity_id, newest, metadata) \
                 SELECT 'todos', id, '{at}', '{marks}' FROM todos"
            );
            db.execute(&insert).await;
            let shown = async || {
                let row = db.query_json("SELECT row_to_json(t) FROM (SELECT likes, tags, title FROM todos WHERE id = 1) t").await;
                let Value::Object(values) = &row[0] else { panic!("a row") };
                let known = entry(&db, "1").await;
                let row = merge::Row::new(&known.metadata, values, &todo_rules(deletes)).expect("a row");
                let mut shown = Value::Object(row.values());
                shown["title"] = Value::Null;
                shown
            };
            db.execute("UPDATE todos SET likes = 5").await;
            assert_eq!(shown().await["likes"], 5);
            db.execute("UPDATE todos SET tags = '{a,b}'").await;
            assert_eq!(shown().await, json!({ "likes": 5, "tags": ["a", "b"], "title": null }));
            assert_eq!(entry(&db, "1").await.json["fields"]["likes"], json!({ "counter": { "set": at } }));
            db.execute("UPDATE todos SET likes = NULL, title = 'new'").await;
            assert_eq!(shown().await, json!({ "likes": null, "tags": ["a", "b"], "title": null }));
        }
    }

    async fn a_deleted_row_leaves_a_tombstone(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("UPDATE todos SET title = 'x' WHERE id = 1").await;
        let edited = entry(&db, "1").await;
        db.execute("DELETE FROM todos WHERE id < 3").await;
        for key in ["1", "2"] {
            let dead = entry(&db, key).await;
            let expected = json!({ "born": Clock::ground().as_str(), "died": dead.newest.as_str() });
            assert_eq!((dead.json, dead.image), (expected, Value::Null));
        }
        assert!(entry(&db, "1").await.newest > edited.newest);

        db.execute("INSERT INTO todos (id, title) VALUES (1, 'again'), (9, 'new')").await;
        let born = entry(&db, "1").await;
        assert_eq!(born.json, json!({ "born": born.newest.as_str() }));
        assert_eq!(entries(&db).await.keys().collect::<Vec<_>>(), ["1", "2"]);

        db.execute("UPDATE todos SET title = 'y' WHERE id = 1").await;
        db.execute("DELETE FROM todos WHERE id = 1").await;
        let dead = entry(&db, "1").await;
        assert_eq!(dead.json, json!({ "born": born.newest.as_str(), "died": dead.newest.as_str() }));
    }

    async fn a_row_that_may_come_back_keeps_its_values_and_clocks(db: TestDatabase) {
        todos(&db, Deletes::Revive).await;
        db.execute("UPDATE todos SET title = 'x', due = '2026-12-01' WHERE id = 1").await;
        db.execute("UPDATE todos SET likes = 7, tags = '{a,b}' WHERE id = 1").await;
        let edited = entry(&db, "1").await;
        assert_eq!(edited.clock("edited"), edited.newest, "an edit without a field's clock");
        assert_eq!(edited.fields(), ["due", "title"]);

        db.execute("DELETE FROM todos WHERE id IN (1, 2)").await;
        let dead = entry(&db, "1").await;
        let image = json!({ "title": "x", "due": "2026-12-01", "likes": 7, "best": null, "tags": ["a", "b"] });
        assert_eq!(dead.image, image);
        assert_eq!(dead.clock("died"), dead.newest);
        assert_eq!(dead.json["fields"], edited.json["fields"]);
        let Value::Object(values) = &dead.image else { panic!("an object") };
        let row = merge::Row::new(&dead.metadata, values, &todo_rules(Deletes::Revive)).expect("a row");
        assert!(!row.is_alive(&todo_rules(Deletes::Revive)));
        assert_eq!(entry(&db, "2").await.image["title"], "two");

        db.execute("INSERT INTO todos (id) VALUES (1)").await;
        let born = entry(&db, "1").await;
        assert_eq!((born.json, born.image), (json!({ "born": born.newest.as_str() }), Value::Null));
    }

    async fn a_new_key_is_another_row(db: TestDatabase) {
        for deletes in [Deletes::Win, Deletes::Revive] {
            db.execute("DROP TABLE IF EXISTS todos").await;
            todos(&db, deletes).await;
            db.execute("UPDATE todos SET id = 4, title = 'four' WHERE id = 3").await;
            let dead = entry(&db, "3").await;
            assert_eq!(dead.clock("died"), dead.newest);
            assert_eq!(dead.image["title"], if deletes == Deletes::Win { Value::Null } else { "three".into() });
            assert_eq!(entries(&db).await.len(), 1);
            // Back to the tombstone's key.
            db.execute("UPDATE todos SET id = id - 1 WHERE id = 4; UPDATE todos SET id = 5 WHERE id = 2").await;
            let all = entries(&db).await;
            assert_eq!(all["3"].json, json!({ "born": all["3"].newest.as_str() }));
            assert_eq!(all["2"].clock("died"), all["2"].newest);
            assert_eq!(all["4"].clock("died"), all["4"].newest);
            assert_eq!(all.len(), 3);
        }
    }

    /// Keys that are exchanged are rows whose other columns change.
    async fn keys_may_be_exchanged(db: TestDatabase) {
        db.execute("CREATE TABLE todos (id integer PRIMARY KEY DEFERRABLE, title text)").await;
        db.execute("INSERT INTO todos VALUES (1, 'one'), (2, 'two')").await;
        capture_todos(&db, rules(Deletes::Win, &[])).await;
        db.execute("UPDATE todos SET id = 3 - id").await;
        let all = entries(&db).await;
        assert_eq!((all["1"].fields(), all["2"].fields()), (vec!["title"], vec!["title"]));
        // For a while, there are two rows of one key.
        db.execute(
            "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO todos VALUES (1, 'x'); UPDATE todos SET title = title || '!'; \
             DELETE FROM todos WHERE id = 1; INSERT INTO todos VALUES (1, 'y'); COMMIT",
        )
        .await;
        let all = entries(&db).await;
        assert_eq!(all["1"].json, json!({ "born": all["1"].newest.as_str() }));
    }

    async fn a_truncate_drops_all_that_is_known(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, title text); INSERT INTO notes VALUES (1, '')").await;
        let pool = DbPool::from_url(&db.url()).await.expect("a pool");
        let both = ["todos", "notes"].map(|name| EntityConfig::new(name).fields(Rules::default()));
        SyncEngine::new(SyncConfig::new(pool, both.into())).await.expect("an engine").shutdown().await;
        db.execute("UPDATE todos SET title = 'x'; DELETE FROM todos WHERE id = 1; UPDATE notes SET title = 'x'").await;
        db.execute("TRUNCATE todos").await;
        assert!(entries(&db).await.is_empty());
        assert_eq!(entries_of(&db, "notes").await.len(), 1);
    }

    /// Upserts, COPY, and statements that write a table several times.
    async fn statements_of_several_parts_are_stamped(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("DELETE FROM todos WHERE id = 3").await;
        db.execute(
            "INSERT INTO todos (id, title) VALUES (1, 'x'), (3, 'x'), (5, 'x') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title",
        )
        .await;
        let all = entries(&db).await;
        assert_eq!(all.keys().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((all["1"].fields(), all["3"].fields()), (vec!["title"], vec![]));
        db.execute(
            "WITH gone AS (DELETE FROM todos WHERE id = 1 RETURNING *), changed AS (UPDATE todos SET title = 'w' WHERE id = 2), \
             more AS (UPDATE todos SET due = '2026-12-01' WHERE id = 3), late AS (DELETE FROM todos WHERE id = 5) \
             INSERT INTO todos (id, title) SELECT 6, title FROM gone",
        )
        .await;
        let all = entries(&db).await;
        assert_eq!(all["1"].clock("died"), all["1"].newest);
        assert_eq!((all["2"].fields(), all["3"].fields()), (vec!["title"], vec!["due"]));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["1", "2", "3", "5"]);
        db.execute("COPY todos (id, title) FROM PROGRAM 'printf \"1\\ta\\n5\\tb\\n7\\tc\\n\"'").await;
        let all = entries(&db).await;
        assert_eq!((all["1"].clock("born"), all["5"].clock("born")), (all["1"].newest.clone(), all["5"].newest.clone()));
        assert!(!all.contains_key("7"));
    }

    /// Partitions, at every level; a partition of its own is not told apart from its siblings, and refused.
    async fn rows_of_partitions_are_stamped(db: TestDatabase) {
        db.execute(
            "CREATE TABLE todos (id integer NOT NULL, region text NOT NULL, title text, PRIMARY KEY (id, region)) \
               PARTITION BY LIST (region); \
             CREATE TABLE todos_eu PARTITION OF todos FOR VALUES IN ('eu'); \
             CREATE TABLE todos_us PARTITION OF todos FOR VALUES IN ('us'); \
             INSERT INTO todos VALUES (1, 'eu', ''), (1, 'us', ''), (2, 'eu', '')",
        )
        .await;
        capture_todos(&db, Rules::default()).await;
        db.execute("UPDATE todos SET title = 'a'").await;
        db.execute("UPDATE todos_eu SET title = 'b' WHERE id = 1; DELETE FROM todos_us").await;
        let all = entries(&db).await;
        assert!(all["[1,\"eu\"]"].newest > all["[2,\"eu\"]"].newest);
        assert_eq!(all["[1,\"us\"]"].clock("died"), all["[1,\"us\"]"].newest);
        db.execute("UPDATE todos SET region = 'us' WHERE id = 2").await;
        let all = entries(&db).await;
        assert_eq!(all["[2,\"eu\"]"].clock("died"), all["[2,\"eu\"]"].newest);
        db.execute("TRUNCATE todos").await;
        assert!(entries(&db).await.is_empty());

        let config = EntityConfig::new("todos_eu").fields(Rules::default());
        let reason = super::super::refusals::start_error(&db, config).await;
        assert!(reason.contains("todos_eu") && reason.contains("partition"), "{reason}");
    }

    /// Keys of several columns, of other schemas' types, and names that need quotes.
    async fn keys_and_names_are_those_of_the_log(db: TestDatabase) {
        db.execute(
            "CREATE SCHEMA other; CREATE TYPE other.state AS ENUM ('open', 'done'); \
             CREATE TABLE other.\"to'dos\" (at timestamptz, state other.state, \"ti\"\"t\\le\" text, \"$1\" numeric, \
               PRIMARY KEY (at, state)); \
             INSERT INTO other.\"to'dos\" VALUES ('2026-01-01 00:00+00', 'open', 'a', 1.0)",
        )
        .await;
        let config = EntityConfig::on_table("todos", "other.to'dos").fields(rules(Deletes::Revive, &[]));
        capture(&db, config).await;
        db.execute("UPDATE other.\"to'dos\" SET \"ti\"\"t\\le\" = 'b'; UPDATE other.\"to'dos\" SET \"$1\" = 12345678901234567890").await;
        let key = db.query_text("SELECT entity_id FROM _rhtmx_sync_log WHERE action = 'update' LIMIT 1").await.remove(0);
        let key = key.expect("an entry of the log");
        assert_eq!(entry(&db, &key).await.fields(), ["$1", "ti\"t\\le"]);
        db.execute("DELETE FROM other.\"to'dos\"").await;
        assert_eq!(entry(&db, &key).await.image, json!({ "ti\"t\\le": "b", "$1": "12345678901234567890" }));
    }
}
