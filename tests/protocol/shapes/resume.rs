//! A client that resumes a selection receives what entered, changed and left in the meantime, and
//! nothing else.

use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::subscribers::{ENTITIES, ops, serve, subscribe, subscriber, wait_equal};
use super::todos::{ALL, todos};
use crate::subscribers::{reconnect, resumed_changes};

/// The changes of a resume, in short and sorted: the order of its rows has no meaning.
fn short(changes: Vec<Value>) -> Vec<String> {
    let mut found = ops(&[json!({ "changes": changes })]);
    found.sort();
    found
}

/// The changes that a client of these todos receives after an absence during these statements.
async fn changes_after_absence(
    db: &TestDatabase,
    server: &TestServer,
    selection: Value,
    statements: &[&str],
) -> Vec<String> {
    let mut client = server.connect().await;
    subscribe(&mut client, "a", selection).await;
    let state = client.into_state();
    for statement in statements {
        db.execute(statement).await;
    }
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    let changes = resumed_changes(&mut client, "a").await;
    assert_eq!(
        (client.frames("refetch"), client.frames("snapshot")),
        (0, 0)
    );
    short(changes)
}

both_backends! {
    /// More is known to have changed in the row than is looked at. To name it would tell its key to a client
    /// that never had it.
    async fn a_resume_over_unknown_history_refetches_and_names_no_row(db: TestDatabase) {
        let server = serve(&db).await;
        let filter = "list_id = 1 AND title <> 'x'";
        let client = subscriber(&server, filter).await;
        let mut all = server.connect().await;
        subscribe(&mut all, "a", json!({ "columns": ["title"] })).await;
        let (state, all_state) = (client.into_state(), all.into_state());
        for number in 0..3 {
            let title = format!("{number} {}", "x".repeat(600_000));
            db.execute(&format!("UPDATE todos SET title = '{title}' WHERE id = 3")).await;
        }
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        client.wait_for(|frame| {
            assert_ne!(frame["type"], "changes", "{frame}");
            frame["type"] == "subscribed"
        })
        .await;
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (1, 1));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, filter).await);
        // A client that has every row is told.
        db.execute("DELETE FROM todos WHERE id = 3").await;
        let mut all =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &all_state).await;
        let changes = resumed_changes(&mut all, "a").await;
        assert_eq!((short(changes), all.frames("refetch")), (vec!["delete 3".to_owned()], 0));
    }

    async fn a_resume_sends_exactly_the_needed_changes(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute("INSERT INTO todos VALUES (5, 1, NULL, 'five', false), (6, 1, NULL, 'six', false), (7, 2, NULL, 'seven', false)").await;
        let client = subscriber(&server, "list_id = 1").await;
        for statement in [
            // 1 leaves, 2 is deleted, 3 enters, 5 changes, 6 leaves and is deleted, 7 is deleted
            // without ever matching.
            "UPDATE todos SET title = 'later' WHERE id = 1",
            "UPDATE todos SET list_id = 2 WHERE id = 1",
            "DELETE FROM todos WHERE id = 2",
            "UPDATE todos SET list_id = 1 WHERE id = 3",
            "UPDATE todos SET title = 'new' WHERE id = 5",
            "UPDATE todos SET list_id = 2 WHERE id = 6",
            "DELETE FROM todos WHERE id = 6",
            "DELETE FROM todos WHERE id = 7",
            // 8 is created and deleted, 9 is created and leaves, 10 is created and stays, 4 never
            // matches.
            "INSERT INTO todos VALUES (8, 1, NULL, 'x', true), (9, 1, NULL, 'x', true), (10, 1, NULL, 'x', true)",
            "DELETE FROM todos WHERE id = 8",
            "UPDATE todos SET list_id = 2 WHERE id = 9",
            "UPDATE todos SET title = 'unseen' WHERE id = 4",
        ] {
            db.execute(statement).await;
        }
        let mut client = reconnect(&server, client).await;
        let changes = resumed_changes(&mut client, "a").await;
        assert_eq!(
            short(changes),
            ["delete 2", "delete 6", "leave 1", "put 10", "put 3", "put 5"]
        );
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        // And the subscription is live from there.
        db.execute("UPDATE todos SET list_id = 1").await;
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
    }

    async fn rows_that_never_matched_are_not_sent_on_resume(db: TestDatabase) {
        let server = serve(&db).await;
        let statements = [
            "UPDATE todos SET list_id = 3 WHERE id = 3",
            "INSERT INTO todos VALUES (9, 1, NULL, 'x', true)",
            "DELETE FROM todos WHERE id = 9",
            "DELETE FROM todos WHERE id = 4",
            "UPDATE todos SET id = 40 WHERE id = 3",
        ];
        let selection = json!({ "where": "list_id = 1" });
        assert_eq!(changes_after_absence(&db, &server, selection.clone(), &statements).await, [""; 0]);
        // SQLite does not keep the order of a row's changes, so an intermediate state may be sent.
        let transient = [
            "INSERT INTO todos VALUES (3, 2, NULL, 'x', true)",
            "UPDATE todos SET list_id = 1 WHERE id = 3",
            "UPDATE todos SET list_id = 2 WHERE id = 3",
        ];
        let received = changes_after_absence(&db, &server, selection, &transient).await;
        assert!(received.is_empty() || (db.backend() == Backend::Sqlite && received == ["leave 3"]), "{received:?}");
    }

    async fn unchanged_columns_are_not_sent_on_resume(db: TestDatabase) {
        let server = serve(&db).await;
        let selection = json!({ "where": "list_id = 1", "columns": ["title"] });
        let elsewhere = [
            "UPDATE todos SET done = NOT done",
            "UPDATE todos SET owner = 'eve' WHERE id = 1",
        ];
        assert_eq!(changes_after_absence(&db, &server, selection.clone(), &elsewhere).await, [""; 0]);
        let there = ["UPDATE todos SET title = 'new' WHERE id = 1", "UPDATE todos SET done = true"];
        assert_eq!(changes_after_absence(&db, &server, selection, &there).await, ["put 1"]);
    }

    async fn changed_keys_are_sent_on_resume(db: TestDatabase) {
        let server = serve(&db).await;
        let statements = [
            "UPDATE todos SET id = 11 WHERE id = 1",
            "UPDATE todos SET id = 12, list_id = 2 WHERE id = 2",
            "UPDATE todos SET id = 13, list_id = 1 WHERE id = 3",
        ];
        let selection = json!({ "where": "list_id = 1" });
        let received = changes_after_absence(&db, &server, selection, &statements).await;
        assert_eq!(received, ["delete 1", "delete 2", "put 11", "put 13"]);
    }

    /// The connection's cursor resumes several selections.
    async fn several_selections_resume_from_one_cursor(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "list_id = 2", "columns": ["title"] })).await;
        subscribe(&mut client, "c", json!({})).await;
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
        let server = serve(&db).await;
        let state = subscriber(&server, "list_id = 1").await.into_state();
        server.shutdown().await;
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let server = TestServer::start(&db, ENTITIES).await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = resumed_changes(&mut client, "a").await;
        assert_eq!(short(changes), ["leave 1", "leave 2", "put 3"]);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    }

    /// The absence was longer than the retention: all rows are sent again, and those that left are
    /// gone.
    async fn an_expired_cursor_refetches_the_selection(db: TestDatabase) {
        let server = serve(&db).await;
        let state = subscriber(&server, "list_id = 1").await.into_state();
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

        // A cursor above the floor is still good.
        let state = client.into_state();
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = resumed_changes(&mut client, "a").await;
        assert_eq!(short(changes), ["leave 3", "put 1", "put 2"]);
    }

    /// A live subscription receives a leave although the entry that let the row enter is deleted.
    async fn a_live_selection_outlives_the_cleanup_of_the_log(db: TestDatabase) {
        let server = serve(&db).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        let tracker = server.engine().change_tracker();
        for _ in 0..6 {
            db.execute("UPDATE todos SET list_id = 3 - list_id").await;
            wait_equal(&mut client, &db, "a", "list_id = 1").await;
            tracker.cleanup_older_than(Duration::ZERO).await.expect("the log is cleaned up");
        }
        assert_eq!(client.frames("refetch"), 0);
    }

    /// A client that has a cursor and no rows receives the changes in the selection that it asks for.
    async fn a_cursor_is_good_for_any_selection(db: TestDatabase) {
        let server = serve(&db).await;
        let client = subscriber(&server, "list_id = 1").await;
        let cursor = client.cursor().expect("a cursor").to_owned();
        db.execute("UPDATE todos SET list_id = 7 WHERE id IN (1, 3)").await;
        let mut other = server.connect().await;
        for (id, condition, expected) in [
            ("a", "list_id = 2", vec!["leave 3"]),
            ("b", "list_id = 7", vec!["put 1", "put 3"]),
            ("c", "id = 4", vec![]),
        ] {
            let selection = json!({ "entity": "todos", "where": condition, "cursor": cursor });
            other.subscribe_with(id, selection).await;
            assert_eq!(short(resumed_changes(&mut other, id).await), expected);
        }
    }

    async fn a_long_absence_is_resumed_in_pages(db: TestDatabase) {
        let server = serve(&db).await;
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 3009) \
             INSERT INTO todos SELECT i, i % 3, NULL, 'todo', false FROM n",
        )
        .await;
        let client = subscriber(&server, "list_id = 1").await;
        for _ in 0..3 {
            db.execute("UPDATE todos SET list_id = (list_id + 1) % 3, done = NOT done").await;
            db.execute("UPDATE todos SET list_id = 1 WHERE id % 7 = 0").await;
            db.execute("DELETE FROM todos WHERE id % 11 = 0").await;
        }
        let mut client = reconnect(&server, client).await;
        let changes = resumed_changes(&mut client, "a").await;
        assert!(client.frames("changes") > 1 && changes.len() < 3009);
        assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        assert_eq!((client.frames("refetch"), client.frames("snapshot")), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_during_an_absence_is_sent() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    let client = subscriber(&server, "list_id = 1").await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    db.execute("TRUNCATE todos").await;
    db.execute("INSERT INTO todos VALUES (1, 1, NULL, 'x', true), (2, 2, NULL, 'x', true), (3, 1, NULL, 'x', true)")
        .await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 3")
        .await;
    let mut client = reconnect(&server, client).await;
    let changes = resumed_changes(&mut client, "a").await;
    assert_eq!(ops(&[json!({ "changes": changes })]), ["truncate", "put 1"]);
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
}
