//! A client that does not read while rows enter and leave its selections: it catches up from the log
//! instead of the stream, and loses nothing.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{SyncClient, both_backends};

use super::subscribers::{ENTITIES, pending_changes, serve, subscribe, wait_equal};
use super::todos::{ALL, make_todos, todos};

/// Makes a row much larger than its key, so that sockets fill up.
const PADDING_BYTES: usize = 64 * 1024;
/// More than the buffers of a socket and the mailbox hold.
const CHANGES: usize = 240;

both_backends! {
    async fn a_slow_client_catches_up_and_is_live_again(db: TestDatabase) {
        make_todos(&db).await;
        let mut config = TestServer::config(&db, ENTITIES).await;
        config.limits.queue_batches_max = 2;
        let server = TestServer::with_config(config).await;
        let mut slow = server.connect().await;
        subscribe(&mut slow, "a", json!({ "where": "list_id = 1" })).await;
        subscribe(&mut slow, "b", json!({ "where": "list_id = 2", "columns": ["title"] })).await;
        subscribe(&mut slow, "c", json!({ "where": "id < 3", "columns": [] })).await;
        let mut fast = server.connect().await;
        subscribe(&mut fast, "a", json!({ "where": "list_id = 1" })).await;
        slow.reset_counters();

        let padding = "x".repeat(PADDING_BYTES);
        for number in 0..CHANGES {
            let id = 1 + number % 3;
            db.execute(&format!(
                "UPDATE todos SET list_id = 1 + {number} % 2, title = '{number} {padding}' WHERE id = {id}"
            ))
            .await;
            let title = format!("{number} {padding}");
            let key = id.to_string();
            fast.wait_until(|client: &SyncClient| match client.row("a", &key) {
                Some(row) => number % 2 == 0 && row["title"] == title,
                None => number % 2 == 1,
            })
            .await;
        }
        db.execute("INSERT INTO todos VALUES (9, 1, NULL, 'passes', true)").await;
        db.execute("DELETE FROM todos WHERE id = 9").await;
        db.execute("DELETE FROM todos WHERE id = 2").await;

        wait_equal(&mut slow, &db, "a", "list_id = 1").await;
        pending_changes(&mut slow).await;
        let expected = todos(&db, &["id", "title"], "list_id = 2").await;
        assert_eq!(*slow.rows("b"), expected);
        assert_eq!(*slow.rows("c"), todos(&db, &["id"], "id < 3").await);
        assert_eq!((slow.frames("refetch"), slow.frames("snapshot")), (0, 0));
        let puts: u64 = ["a", "b"].iter().map(|id| slow.subscription(*id).puts().values().sum::<u64>()).sum();
        assert!(puts < CHANGES as u64, "{puts} of {CHANGES}: every change was sent live");

        // It reads again, so it is live again: one frame for each change.
        slow.reset_counters();
        for list in [2, 1, 2] {
            db.execute(&format!("UPDATE todos SET list_id = {list}")).await;
            pending_changes(&mut slow).await;
            assert_eq!(*slow.rows("a"), todos(&db, &ALL, "list_id = 1").await);
        }
        assert_eq!(slow.frames("refetch"), 0);
    }

    async fn changes_that_match_no_selection_fill_no_mailbox(db: TestDatabase) {
        let server = serve(&db).await;
        drop(server);
        let mut config = TestServer::config(&db, ENTITIES).await;
        config.limits.queue_batches_max = 1;
        let server = TestServer::with_config(config).await;
        let mut idle = server.connect().await;
        subscribe(&mut idle, "a", json!({ "where": "list_id = 1" })).await;
        let mut busy = server.connect().await;
        subscribe(&mut busy, "a", json!({ "where": "list_id = 2" })).await;
        let hub = async || server.http().get("/api/sync/status").await.json()["hub"].clone();
        let before = hub().await;
        for number in 0..50 {
            let title = format!("title {number}");
            db.execute(&format!("UPDATE todos SET title = '{title}' WHERE id = 3")).await;
            busy.wait_until(|client: &SyncClient| {
                client.row("a", "3").is_some_and(|row| row["title"] == title)
            })
            .await;
        }
        let after = hub().await;
        let grown = |name: &str| after[name].as_u64().zip(before[name].as_u64()).map(|(a, b)| a - b);
        assert_eq!((grown("changes"), grown("deliveries")), (Some(50), Some(50)));
        idle.ping().await;
        assert_eq!((idle.frames("changes"), idle.frames("cursor")), (0, 0));
    }
}
