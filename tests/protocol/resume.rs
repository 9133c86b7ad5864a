//! Resuming: the changes in the meantime, or a refetch of everything.

use std::collections::BTreeMap;
use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{ClientOptions, SyncClient, TestDatabase, both_backends};

use crate::subscribers::{reconnect, resumed_changes, serve_and_subscribe, wait_equal};
use crate::tables::{NOTES, begin_another_epoch, count, insert_notes, notes};

both_backends! {
    async fn a_resume_sends_each_changed_row_once(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 1000).await;
        let (server, client) = serve_and_subscribe(&db).await;
        let state = client.into_state();
        for text in ["first", "second", "third"] {
            db.execute(&format!("UPDATE notes SET body = '{text}' WHERE id = 1"))
                .await;
        }
        db.execute("DELETE FROM notes WHERE id = 2").await;
        db.execute("DELETE FROM notes WHERE id = 3; INSERT INTO notes VALUES (3, 'again')")
            .await;
        db.execute("INSERT INTO notes VALUES (2000, 'stays')").await;
        db.execute("INSERT INTO notes VALUES (2001, 'passes')")
            .await;
        db.execute("UPDATE notes SET body = 'passing' WHERE id = 2001")
            .await;
        db.execute("DELETE FROM notes WHERE id = 2001").await;

        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let changes = resumed_changes(&mut client, "a").await;
        let received: BTreeMap<&str, &str> = changes
            .iter()
            .map(|change| {
                (
                    change["key"].as_str().expect("a key"),
                    change["op"].as_str().expect("an op"),
                )
            })
            .collect();
        let expected = [("1", "put"), ("2", "delete"), ("2000", "put"), ("3", "put")];
        assert_eq!(received.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(
            (
                changes.len(),
                client.frames("snapshot"),
                client.frames("refetch")
            ),
            (4, 0, 0)
        );
        assert_eq!(*client.rows("a"), notes(&db).await);
        db.execute("INSERT INTO notes VALUES (2001, 'again')").await;
        wait_equal(&mut client, &db, "a").await;
    }

    async fn a_long_absence_is_resumed_in_pages(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 1500).await;
        let (server, client) = serve_and_subscribe(&db).await;
        db.execute("UPDATE notes SET body = 'changed' WHERE id <= 1400")
            .await;
        db.execute("DELETE FROM notes WHERE id > 1400").await;
        insert_notes(&db, 5001, 6500).await;
        let mut client = reconnect(&server, client).await;
        let changes = resumed_changes(&mut client, "a").await;
        assert_eq!(changes.len(), 3000);
        assert!(client.frames("changes") > 1);
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn a_resume_without_changes_sends_none(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (server, client) = serve_and_subscribe(&db).await;
        let mut client = reconnect(&server, client).await;
        client.wait_subscribed("a").await;
        assert_eq!(
            (client.frames("changes"), client.frames("snapshot")),
            (0, 0)
        );
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn a_resume_survives_a_restart_of_the_engine(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (server, client) = serve_and_subscribe(&db).await;
        let state = client.into_state();
        server.shutdown().await;
        db.execute("UPDATE notes SET body = 'while it was down' WHERE id = 5")
            .await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        client.wait_subscribed("a").await;
        assert_eq!(
            (
                client.frames("refetch"),
                client.puts("a", "5"),
                client.puts("a", "4")
            ),
            (0, 1, 0)
        );
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn invalid_cursors_refetch(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (server, client) = serve_and_subscribe(&db).await;
        let good = client.cursor().expect("a cursor").to_owned();
        let cut = &good[..good.len() - 4];
        let long = "A".repeat(100_000);
        let mut client = server.connect().await;
        let texts = [
            "",
            "garbage",
            "cursor'; DROP TABLE notes; --",
            "\0",
            "MC8",
            cut,
            &long,
        ];
        for (id, text) in texts.into_iter().enumerate() {
            let id = id as u64;
            client.reset_counters();
            client.resume(id, "notes", text).await;
            let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
            assert_eq!(refetch["reason"], "epoch", "{text}");
            client.wait_subscribed(id).await;
            assert_eq!(*client.rows(id), notes(&db).await);
            assert!(client.frames("snapshot") > 0);
        }
        db.execute("INSERT INTO notes VALUES (77, 'live')").await;
        client
            .wait_until(|client| client.row(0, "77").is_some())
            .await;
    }

    async fn a_cursor_of_another_database_refetches(db: TestDatabase) {
        let elsewhere = TestDatabase::new(db.backend()).await;
        for db in [&db, &elsewhere] {
            db.execute(NOTES).await;
        }
        insert_notes(&db, 1, 3).await;
        insert_notes(&elsewhere, 1, 5).await;
        let (_other, client) = serve_and_subscribe(&elsewhere).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = reconnect(&server, client).await;
        let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
        assert_eq!(refetch["reason"], "epoch");
        client.wait_subscribed("a").await;
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn an_expired_cursor_refetches(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (server, client) = serve_and_subscribe(&db).await;
        let state = client.into_state();
        db.execute("DELETE FROM notes WHERE id = 5; UPDATE notes SET body = 'x' WHERE id = 6")
            .await;
        let tracker = server.engine().change_tracker();
        tracker
            .cleanup_older_than(Duration::ZERO)
            .await
            .expect("the log is cleaned up");
        assert_eq!(count(&db, "_rhtmx_sync_log").await, 0);

        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
        assert_eq!(
            (&refetch["reason"], &refetch["id"]),
            (&json!("expired"), &json!("a"))
        );
        client.wait_subscribed("a").await;
        assert_eq!(*client.rows("a"), notes(&db).await);
        assert!(client.frames("snapshot") > 0);

        // A cursor above the floor is still good.
        let state = client.into_state();
        db.execute("UPDATE notes SET body = 'y' WHERE id = 7").await;
        let mut client =
            SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
        client.wait_subscribed("a").await;
        assert_eq!(
            (
                client.frames("refetch"),
                client.puts("a", "7"),
                client.puts("a", "8")
            ),
            (0, 1, 0)
        );
        assert_eq!(*client.rows("a"), notes(&db).await);
    }

    async fn a_live_session_outlives_the_cleanup_of_the_log(db: TestDatabase) {
        db.execute(NOTES).await;
        insert_notes(&db, 1, 10).await;
        let (server, mut client) = serve_and_subscribe(&db).await;
        let tracker = server.engine().change_tracker();
        for id in 1..=10 {
            db.execute(&format!(
                "UPDATE notes SET body = 'changed' WHERE id = {id}"
            ))
            .await;
            wait_equal(&mut client, &db, "a").await;
            tracker
                .cleanup_older_than(Duration::ZERO)
                .await
                .expect("the log is cleaned up");
        }
        assert_eq!(client.frames("refetch"), 0);
    }
}

/// The database is restored to another state while clients are connected: their sessions end, and they
/// refetch when they reconnect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_epoch_ends_every_session() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    insert_notes(&db, 1, 3).await;
    let (server, mut client) = serve_and_subscribe(&db).await;
    begin_another_epoch(&db).await;
    assert_eq!(client.close_code().await, 1001);
    let mut client = reconnect(&server, client).await;
    let refetch = client.wait_for(|frame| frame["type"] == "refetch").await;
    assert_eq!(refetch["reason"], "epoch");
    client.wait_subscribed("a").await;
    db.execute("DELETE FROM notes WHERE id = 1").await;
    wait_equal(&mut client, &db, "a").await;
}
