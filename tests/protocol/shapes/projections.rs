//! Some columns: only their changes are sent, and the key is always among them.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::both_backends;

use super::subscribers::{
    ENTITIES, changes_after, ops_after, ops_of, pending_changes, serve, subscribe,
};
use super::todos::{FENCE, todos};

both_backends! {
    async fn a_change_of_other_columns_sends_nothing(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let selection = json!({ "where": "list_id = 1", "columns": ["title"] });
        subscribe(&mut client, "a", selection).await;
        for sql in [
            "UPDATE todos SET done = NOT done",
            "UPDATE todos SET owner = 'eve' WHERE id = 1",
            "UPDATE todos SET title = title, done = NOT done",
            "UPDATE todos SET list_id = 1 WHERE list_id = 1",
            "UPDATE todos SET title = 'not on the list' WHERE list_id = 2",
        ] {
            let frames = changes_after(&mut client, &db, sql).await;
            assert_eq!(frames, [] as [Value; 0], "{sql}");
        }
        let sql = "UPDATE todos SET title = 'new', done = true WHERE id = 1";
        let frames = changes_after(&mut client, &db, sql).await;
        let put = json!({ "op": "put", "key": "1", "row": { "id": 1, "title": "new" } });
        assert_eq!(frames[0]["changes"], json!([put]));
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("a"), expected);
    }

    /// The filter looks at columns that the client does not receive.
    async fn a_filter_may_use_columns_outside_the_projection(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let selection = json!({ "where": "list_id = 1", "columns": ["title"] });
        subscribe(&mut client, "a", selection).await;
        let sql = "UPDATE todos SET list_id = 1 WHERE id = 3";
        let frames = changes_after(&mut client, &db, sql).await;
        let put = json!({ "op": "put", "key": "3", "row": { "id": 3, "title": "three" } });
        assert_eq!(frames[0]["changes"], json!([put]));
        let sql = "UPDATE todos SET list_id = 9 WHERE id = 3";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["leave 3"]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("a"), expected);
    }

    async fn a_projection_may_be_the_key_alone(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "columns": [] })).await;
        subscribe(&mut client, "b", json!({ "columns": ["id"] })).await;
        assert_eq!(client.subscription("a").shape(), client.subscription("b").shape());
        let sql = "UPDATE todos SET title = 'x', done = true, list_id = 7";
        assert_eq!(ops_after(&mut client, &db, sql).await, [""; 0]);
        let frames = changes_after(&mut client, &db, "INSERT INTO todos VALUES (9, 1, NULL, 'x', true)").await;
        assert_eq!(frames.len(), 1);
        let put = json!({ "op": "put", "key": "9", "row": { "id": 9 } });
        assert_eq!(frames[0]["changes"], json!([put]));
        assert_eq!(ops_after(&mut client, &db, "DELETE FROM todos WHERE id = 9").await, ["delete 9"]);
        assert_eq!(client.rows("a"), client.rows("b"));
    }

    /// The new row may differ in any column.
    async fn a_row_replaced_within_a_batch_is_sent(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        let selection = json!({ "where": "list_id = 1", "columns": ["title"] });
        subscribe(&mut client, "a", selection).await;
        let sql = "BEGIN; DELETE FROM todos WHERE id = 1; \
                   INSERT INTO todos VALUES (1, 1, NULL, 'other', true); COMMIT";
        assert_eq!(ops_after(&mut client, &db, sql).await, ["put 1"]);
        let expected = todos(&db, &["id", "title"], "list_id = 1").await;
        assert_eq!(*client.rows("a"), expected);
    }

    async fn several_projections_of_one_filter_differ_in_their_changes(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = server.connect().await;
        for (id, columns) in [
            ("a", json!(["title"])),
            ("b", json!(["owner"])),
            ("c", json!(["title", "owner"])),
        ] {
            let selection = json!({ "where": "list_id = 1", "columns": columns });
            subscribe(&mut client, id, selection).await;
        }
        db.execute("UPDATE todos SET title = 'new' WHERE id = 1").await;
        db.execute("UPDATE todos SET owner = 'eve' WHERE id = 2").await;
        pending_changes(&mut client).await;
        for (id, columns, puts) in [
            ("a", &["id", "title"][..], (2, 1)),
            ("b", &["id", "owner"], (1, 2)),
            ("c", &["id", "title", "owner"], (2, 2)),
        ] {
            let expected = todos(&db, columns, "list_id = 1").await;
            assert_eq!(*client.rows(id), expected, "{id}");
            assert_eq!((client.puts(id, "1"), client.puts(id, "2")), puts, "{id}");
        }
    }

    /// A column that the table computes changes with the columns it is computed from.
    async fn a_projected_generated_column_changes_with_its_sources(db: TestDatabase) {
        db.execute(
            "CREATE TABLE todos (id integer PRIMARY KEY, n integer NOT NULL, t text NOT NULL, \
             twice integer GENERATED ALWAYS AS (n * 2) STORED)",
        )
        .await;
        db.execute(FENCE).await;
        db.execute("INSERT INTO todos (id, n, t) VALUES (1, 1, 'a'), (2, 2, 'b')").await;
        let server = TestServer::start(&db, ENTITIES).await;
        let mut client = server.connect().await;
        subscribe(&mut client, "a", json!({ "columns": ["twice"] })).await;
        subscribe(&mut client, "b", json!({ "where": "twice = 4", "columns": ["t"] })).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET n = 2 WHERE id = 1").await;
        assert_eq!(client.row("a", "1"), Some(&json!({ "id": 1, "twice": 4 })));
        assert_eq!(ops_of(&client, "b", &frames), ["put 1"]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET n = 3 WHERE id = 2").await;
        assert_eq!(ops_of(&client, "b", &frames), ["leave 2"]);
        assert_eq!(client.row("a", "2"), Some(&json!({ "id": 2, "twice": 6 })));
    }
}
