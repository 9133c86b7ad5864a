//! Statements that insert, update or replace, whichever fits.

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, SyncClient, TestDatabase, both_backends};

use super::followers::{ENTITIES, follow, follower, heard, ops_of, serving, told, up_to_now};
use super::todos::{ALL, MARKS, make_todos, todos};

both_backends! {
    async fn an_upsert_in_and_out(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        up_to_now(&mut client).await;
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
            assert_eq!(told(&mut client, &db, &sql).await.concat(), expected, "{sql}");
            assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        }
    }

    async fn an_insert_that_does_nothing(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        up_to_now(&mut client).await;
        let sql = "INSERT INTO todos VALUES (1, 2, NULL, 'x', true), (3, 1, NULL, 'x', true) \
                   ON CONFLICT DO NOTHING";
        let frames = heard(&mut client, &db, sql).await;
        assert!(ops_of(&client, "a", &frames).iter().all(|op| op == "put 1"), "{frames:?}");
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }
}

/// On SQLite a row may be replaced without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replace() {
    let db = TestDatabase::new(Backend::Sqlite).await;
    make_todos(&db).await;
    db.execute("CREATE UNIQUE INDEX titles ON todos (title)")
        .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = follower(&server, "list_id = 1").await;
    follow(
        &mut client,
        "b",
        json!({ "where": "list_id = 2", "columns": ["title"] }),
    )
    .await;
    up_to_now(&mut client).await;
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
        // The title belongs to row 2, which goes.
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
        let frames = heard(&mut client, &db, sql).await;
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

/// Rows that move between the partitions of a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions() {
    let db = TestDatabase::new(Backend::Postgres).await;
    db.execute(MARKS).await;
    db.execute(
        "CREATE TABLE todos (id integer, list_id integer, title text, PRIMARY KEY (id, list_id)) \
         PARTITION BY LIST (list_id); \
         CREATE TABLE todos_1 PARTITION OF todos FOR VALUES IN (1); \
         CREATE TABLE todos_2 PARTITION OF todos FOR VALUES IN (2, 3); \
         INSERT INTO todos VALUES (1, 1, 'one'), (2, 2, 'two')",
    )
    .await;
    let server = TestServer::start(&db, ENTITIES).await;
    let mut client = follower(&server, "list_id = 1").await;
    follow(&mut client, "b", json!({ "where": "title = 'two'" })).await;
    up_to_now(&mut client).await;
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
        heard(&mut client, &db, sql).await;
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
