//! Upserts, replaced rows, and rows that move between partitions.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, SyncClient, TestDatabase, both_backends};

use super::subscribers::{
    ENTITIES, changes_after, ops_after, ops_of, pending_changes, serve, subscribe, subscriber,
};
use super::todos::{ALL, FENCE, make_todos, todos};

both_backends! {
    async fn an_upserted_row_may_enter_and_leave(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        pending_changes(&mut client).await;
        for (id, list, expected) in [
            (1, "2", "leave 1"),
            (1, "3", ""),
            (1, "1", "put 1"),
            (9, "2", ""),
            (9, "1", "put 9"),
            (9, "NULL", "leave 9"),
        ] {
            let sql = format!(
                "INSERT INTO todos VALUES ({id}, {list}, NULL, 'new', true) \
                 ON CONFLICT (id) DO UPDATE SET list_id = {list}"
            );
            assert_eq!(ops_after(&mut client, &db, &sql).await.concat(), expected, "{sql}");
            assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        }
    }

    async fn an_insert_that_does_nothing_leaves_the_copy(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        pending_changes(&mut client).await;
        let sql = "INSERT INTO todos VALUES (1, 2, NULL, 'x', true), (3, 1, NULL, 'x', true) \
                   ON CONFLICT DO NOTHING";
        let frames = changes_after(&mut client, &db, sql).await;
        assert!(ops_of(&client, "a", &frames).iter().all(|op| op == "put 1"), "{frames:?}");
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }
}

/// SQLite runs no delete trigger for a replaced row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_replaced_on_sqlite_are_deleted() {
    let db = TestDatabase::new(Backend::Sqlite).await;
    make_todos(&db).await;
    db.execute("CREATE UNIQUE INDEX titles ON todos (title)")
        .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    subscribe(
        &mut client,
        "b",
        json!({ "where": "list_id = 2", "columns": ["title"] }),
    )
    .await;
    pending_changes(&mut client).await;
    for (sql, a, b) in [
        (
            "REPLACE INTO todos VALUES (1, 2, NULL, 'moved', true)",
            "leave 1",
            "put 1",
        ),
        (
            "REPLACE INTO todos VALUES (1, 2, NULL, 'again', true)",
            "",
            "put 1",
        ),
        // Row 2 has this title and is replaced.
        (
            "REPLACE INTO todos VALUES (8, 2, NULL, 'two', true)",
            "delete 2",
            "put 8",
        ),
        (
            "REPLACE INTO todos VALUES (4, 1, NULL, 'three', true)",
            "put 4",
            "delete 3",
        ),
        (
            "UPDATE OR REPLACE todos SET title = 'again' WHERE id = 4",
            "put 4",
            "delete 1",
        ),
        (
            "INSERT OR IGNORE INTO todos VALUES (4, 7, NULL, 'ignored', true)",
            "put 4",
            "",
        ),
    ] {
        let frames = changes_after(&mut client, &db, sql).await;
        assert_eq!(ops_of(&client, "a", &frames).concat(), a, "{sql}");
        assert_eq!(ops_of(&client, "b", &frames).concat(), b, "{sql}");
        assert_eq!(
            *client.rows("a"),
            todos(&db, &ALL, "list_id = 1").await,
            "{sql}"
        );
        assert_eq!(
            *client.rows("b"),
            todos(&db, &["id", "title"], "list_id = 2").await,
            "{sql}"
        );
    }
}

/// Rows move between the partitions of a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_move_between_partitions_stay_in_their_shape() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute(FENCE).await;
    db.execute(
        "CREATE TABLE todos (id integer, list_id integer, title text, PRIMARY KEY (id, list_id)) \
         PARTITION BY LIST (list_id); \
         CREATE TABLE todos_1 PARTITION OF todos FOR VALUES IN (1); \
         CREATE TABLE todos_2 PARTITION OF todos FOR VALUES IN (2, 3); \
         INSERT INTO todos VALUES (1, 1, 'one'), (2, 2, 'two')",
    )
    .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    subscribe(&mut client, "b", json!({ "where": "title = 'two'" })).await;
    pending_changes(&mut client).await;
    let titles = |client: &SyncClient, id: &str| -> Vec<Value> {
        client
            .rows(id)
            .values()
            .map(|row| row["title"].clone())
            .collect()
    };
    for (sql, a, b) in [
        (
            "UPDATE todos SET list_id = 3 - list_id",
            vec!["two"],
            vec!["two"],
        ),
        (
            "UPDATE todos_2 SET list_id = 3 WHERE id = 1",
            vec!["two"],
            vec!["two"],
        ),
        (
            "UPDATE todos SET title = 'new' WHERE id = 2",
            vec!["new"],
            vec![],
        ),
        ("DELETE FROM todos_1", vec![], vec![]),
        (
            "INSERT INTO todos_1 VALUES (5, 1, 'two')",
            vec!["two"],
            vec!["two"],
        ),
    ] {
        changes_after(&mut client, &db, sql).await;
        assert_eq!(
            (titles(&client, "a"), titles(&client, "b")),
            (
                a.into_iter().map(Value::from).collect(),
                b.into_iter().map(Value::from).collect()
            ),
            "{sql}"
        );
    }
}
