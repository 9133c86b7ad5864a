//! Coming back to a part: what entered, changed and left meanwhile, and nothing else.

use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::followers::{ENTITIES, follow, follower, ops, serving, wait_equal};
use super::todos::{ALL, todos};
use crate::followers::{again, caught_up};

/// The changes of a resume, in short and sorted: rows of one resume come in no order of meaning.
fn short(changes: Vec<Value>) -> Vec<String> {
    let mut found = ops(&[json!({ "changes": changes })]);
    found.sort();
    found
}

/// What a client of these todos is told that was away during these statements, each by itself.
async fn told_after(
    db: &TestDatabase,
    server: &TestServer,
    part: Value,
    statements: &[&str],
) -> Vec<String> {
    let mut client = server.connect().await;
    follow(&mut client, "a", part).await;
    let state = client.into_state();
    for statement in statements {
        db.execute(statement).await;
    }
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    let changes = caught_up(&mut client, "a").await;
    assert_eq!(
        (client.frames("refetch"), client.frames("snapshot")),
        (0, 0)
    );
    short(changes)
}

both_backends! {
    async fn exactly_what_is_needed(db: TestDatabase) {
        let server = serving(&db).await;
        db.execute("INSERT INTO todos VALUES (5, 1, NULL, 'five', false), (6, 1, NULL, 'six', false), (7, 2, NULL, 'seven', false)").await;
        let client = follower(&server, "list_id = 1").await;
        for statement in [
            // 1 leaves, 2 is deleted, 3 enters, 5 changes, 6 leaves and goes, 7 goes unseen.
            "UPDATE todos SET title = 'later' WHERE id = 1",
            "UPDATE todos SET list_id = 2 WHERE id = 1",
            "DELETE FROM todos WHERE id = 2",
            "UPDATE todos SET list_id = 1 WHERE id = 3",
            "UPDATE todos SET title = 'new' WHERE id = 5",
            "UPDATE todos SET list_id = 2 WHERE id = 6",
            "DELETE FROM todos WHERE id = 6",
            "DELETE FROM todos WHERE id = 7",
            // 8 comes and goes, 9 comes and leaves, 10 comes and stays, 4 changes unseen.
            "INSERT INTO todos VALUES (8, 1, NULL, 'x', true), (9, 1, NULL, 'x', true), (10, 1, NULL, 'x', true)",
            "DELETE FROM todos WHERE id = 8",
            "UPDATE todos SET list_id = 2 WHERE id = 9",
            "UPDATE todos SET title = 'unseen' WHERE id = 4",
        ] {
            db.execute(statement).await;
        }
        let mut client = again(&server, client).await;
        let changes = caught_up(&mut client, "a").await;
        assert_eq!(
            short(changes),
            ["delete 2", "delete 6", "leave 1", "put 10", "put 3", "put 5"]
        );
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        // And live from there.
        db.execute("UPDATE todos SET list_id = 1").await;
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
    }

    async fn rows_that_were_never_the_clients(db: TestDatabase) {
        let server = serving(&db).await;
        let statements = [
            "UPDATE todos SET list_id = 3 WHERE id = 3",
            "INSERT INTO todos VALUES (9, 1, NULL, 'x', true)",
            "DELETE FROM todos WHERE id = 9",
            "DELETE FROM todos WHERE id = 4",
            "UPDATE todos SET id = 40 WHERE id = 3",
        ];
        let part = json!({ "where": "list_id = 1" });
        assert_eq!(told_after(&db, &server, part.clone(), &statements).await, [""; 0]);
        // On SQLite the order of a row's changes is not sure: what was there in between may be told.
        let passing = [
            "INSERT INTO todos VALUES (3, 2, NULL, 'x', true)",
            "UPDATE todos SET list_id = 1 WHERE id = 3",
            "UPDATE todos SET list_id = 2 WHERE id = 3",
        ];
        let told = told_after(&db, &server, part, &passing).await;
        assert!(told.is_empty() || (db.backend() == Backend::Sqlite && told == ["leave 3"]), "{told:?}");
    }

    async fn columns_that_did_not_change(db: TestDatabase) {
        let server = serving(&db).await;
        let part = json!({ "where": "list_id = 1", "columns": ["title"] });
        let elsewhere = [
            "UPDATE todos SET done = NOT done",
            "UPDATE todos SET owner = 'eve' WHERE id = 1",
        ];
        assert_eq!(told_after(&db, &server, part.clone(), &elsewhere).await, [""; 0]);
        let there = ["UPDATE todos SET title = 'new' WHERE id = 1", "UPDATE todos SET done = true"];
        assert_eq!(told_after(&db, &server, part, &there).await, ["put 1"]);
    }

    async fn keys_that_changed(db: TestDatabase) {
        let server = serving(&db).await;
        let statements = [
            "UPDATE todos SET id = 11 WHERE id = 1",
            "UPDATE todos SET id = 12, list_id = 2 WHERE id = 2",
            "UPDATE todos SET id = 13, list_id = 1 WHERE id = 3",
        ];
        let part = json!({ "where": "list_id = 1" });
        let told = told_after(&db, &server, part, &statements).await;
        assert_eq!(told, ["delete 1", "delete 2", "put 11", "put 13"]);
    }

    /// The copy of several parts comes from one connection's cursor.
    async fn several_parts_come_back(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        follow(&mut client, "b", json!({ "where": "list_id = 2", "columns": ["title"] })).await;
        follow(&mut client, "c", json!({})).await;
        let state = client.into_state();
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        for id in ["a", "b", "c"] {
            client.wait_subscribed(id).await;
        }
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        assert_eq!(*client.rows("b"), todos(&db, &["id", "title"], "list_id = 2").await);
        assert_eq!(*client.rows("c"), todos(&db, &ALL, "TRUE").await);
    }

    async fn a_resume_survives_a_restart_of_the_engine(db: TestDatabase) {
        let server = serving(&db).await;
        let state = follower(&server, "list_id = 1").await.into_state();
        server.shutdown().await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let server = TestServer::start(&db, ENTITIES).await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = caught_up(&mut client, "a").await;
        assert_eq!(short(changes), ["leave 1", "leave 2", "put 3"]);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    /// Away for longer than the log remembers: everything anew, and what left is gone.
    async fn an_expired_cursor_gets_the_part_anew(db: TestDatabase) {
        let server = serving(&db).await;
        let state = follower(&server, "list_id = 1").await.into_state();
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let tracker = server.engine().change_tracker();
        tracker.cleanup_older_than(Duration::ZERO).await.expect("the log is cleaned up");
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
        assert_eq!((&refetch["reason"], &refetch["id"]), (&json!("expired"), &json!("a")));
        client.wait_subscribed("a").await;
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        assert_eq!(client.rows("a").keys().collect::<Vec<_>>(), ["3"]);

        // What is younger than the floor is still good.
        let state = client.into_state();
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = caught_up(&mut client, "a").await;
        assert_eq!(short(changes), ["leave 3", "put 1", "put 2"]);
    }

    /// Whoever is there hears that a row left, though the entry that let it enter is forgotten.
    async fn a_live_part_outlives_the_cleaning_of_the_log(db: TestDatabase) {
        let server = serving(&db).await;
        let mut client = follower(&server, "list_id = 1").await;
        let tracker = server.engine().change_tracker();
        for _ in 0..6 {
            db.execute("UPDATE todos SET list_id = 3 - list_id").await;
            wait_equal(&mut client, &db, "a", "list_id = 1").await;
            tracker.cleanup_older_than(Duration::ZERO).await.expect("the log is cleaned up");
        }
        assert_eq!(client.frames("refetch"), 0);
    }

    /// A client that has a cursor and no rows is told what changed in the part that it asks for.
    async fn a_cursor_is_good_for_any_part(db: TestDatabase) {
        let server = serving(&db).await;
        let client = follower(&server, "list_id = 1").await;
        let cursor = client.cursor().expect("a cursor").to_owned();
        db.execute("UPDATE todos SET list_id = 7 WHERE id IN (1, 3)").await;
        let mut other = server.connect().await;
        for (id, condition, expected) in [
            ("a", "list_id = 2", vec!["leave 3"]),
            ("b", "list_id = 7", vec!["put 1", "put 3"]),
            ("c", "id = 4", vec![]),
        ] {
            let part = json!({ "entity": "todos", "where": condition, "cursor": cursor });
            other.subscribe_with(id, part).await;
            assert_eq!(short(caught_up(&mut other, id).await), expected);
        }
    }

    async fn a_long_absence(db: TestDatabase) {
        let server = serving(&db).await;
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3009) \
             INSERT INTO todos SELECT i, i % 3, NULL, 'todo', false FROM n",
        )
        .await;
        let client = follower(&server, "list_id = 1").await;
        for _ in 0..3 {
            db.execute("UPDATE todos SET list_id = (list_id + 1) % 3, done = NOT done").await;
            db.execute("UPDATE todos SET list_id = 1 WHERE id % 7 = 0").await;
            db.execute("DELETE FROM todos WHERE id % 11 = 0").await;
        }
        let mut client = again(&server, client).await;
        let changes = caught_up(&mut client, "a").await;
        assert!(client.frames("changes") > 1 && changes.len() < 3009);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_meanwhile() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serving(&db).await;
    let client = follower(&server, "list_id = 1").await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    db.execute("TRUNCATE todos").await;
    db.execute("INSERT INTO todos VALUES (1, 1, NULL, 'x', true), (2, 2, NULL, 'x', true), (3, 1, NULL, 'x', true)")
        .await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 3")
        .await;
    let mut client = again(&server, client).await;
    let changes = caught_up(&mut client, "a").await;
    assert_eq!(ops(&[json!({ "changes": changes })]), ["truncate", "put 1"]);
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
}
