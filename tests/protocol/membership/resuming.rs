//! A resume gives the difference that memberships made in the meantime.

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{ClientState, SyncClient, TestDatabase, both_backends, eventually};

use super::{config, keys, mark, serve, subscriber, tables, user, usual, wait_keys};
use crate::claims::options;
use crate::subscribers::resumed_changes;

async fn reconnect(server: &TestServer, name: &str, state: &ClientState) -> SyncClient {
    SyncClient::reconnect(&server.ws_url(), options(&user(name)), state).await
}

/// The changes of `t` on a resume, such as `put 3`.
async fn difference(client: &mut SyncClient) -> Vec<String> {
    let changes = resumed_changes(client, "t").await;
    let text = |change: &serde_json::Value| {
        let [op, key] = ["op", "key"].map(|name| change[name].as_str().unwrap_or_default());
        format!("{op} {key}")
    };
    let mut changes: Vec<String> = changes.iter().map(text).collect();
    changes.sort();
    changes
}

const ABSENCES: [(&[&str], &[&str], &[&str]); 9] = [
    (
        &["INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')"],
        &["put 3", "put 4"],
        &["1", "2", "3", "4"],
    ),
    (
        &["DELETE FROM list_members WHERE id = 1"],
        &["leave 1", "leave 2"],
        &["3", "4"],
    ),
    // Given, and taken again.
    (
        &[
            "INSERT INTO list_members VALUES (1, 1, 'ann', 'reader')",
            "DELETE FROM list_members WHERE id = 1",
        ],
        &[],
        &["3", "4"],
    ),
    // Taken, and given again.
    (
        &[
            "DELETE FROM list_members WHERE id = 5",
            "INSERT INTO list_members VALUES (5, 2, 'ann', 'writer')",
        ],
        &[],
        &["3", "4"],
    ),
    (
        &[
            "DELETE FROM list_members WHERE id = 5",
            "UPDATE todos SET title = 'new' WHERE id = 3",
            "INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')",
        ],
        &["put 3"],
        &["3", "4"],
    ),
    (
        &[
            "UPDATE list_members SET list_id = 1 WHERE id = 5",
            "UPDATE todos SET list_id = 1 WHERE id = 3",
        ],
        &["leave 4", "put 1", "put 2", "put 3"],
        &["1", "2", "3"],
    ),
    (
        &[
            "UPDATE todos SET list_id = 2 WHERE id = 3",
            "INSERT INTO list_members VALUES (6, 2, 'ann', 'reader')",
            "DELETE FROM lists WHERE id = 1",
        ],
        &["leave 1", "leave 2", "put 3", "put 4"],
        &["3", "4"],
    ),
    (
        &[
            "DELETE FROM todos WHERE id = 4",
            "DELETE FROM list_members WHERE id = 6",
            "INSERT INTO todos VALUES (7, 2, 'g')",
        ],
        &["delete 4", "leave 3"],
        &[],
    ),
    (
        &["INSERT INTO list_members VALUES (6, 2, 'ann', 'reader')"],
        &["put 3", "put 7"],
        &["3", "7"],
    ),
];

/// Goes away, and comes back to a server after each absence.
async fn resume_after_each(db: &TestDatabase, servers: &[&TestServer]) {
    let mut state = subscriber(servers[0], "ann").await.into_state();
    for (number, (statements, changes, held)) in ABSENCES.into_iter().enumerate() {
        for statement in statements {
            db.execute(statement).await;
        }
        let mut ann = reconnect(servers[number % servers.len()], "ann", &state).await;
        let mut arrived = difference(&mut ann).await;
        // A row that is in the selection as before may be sent, and one that was not there may be said to have gone.
        let is_idle = |change: &String| {
            changes.is_empty()
                || change == "put 3" && changes.contains(&"leave 4")
                || change == "delete 4"
                || change == "put 4" && changes == ["put 3"]
        };
        if !changes.contains(&"delete 4") {
            assert!(
                arrived
                    .iter()
                    .all(|change| changes.contains(&change.as_str()) || is_idle(change)),
                "{statements:?}: {arrived:?}"
            );
        }
        arrived.retain(|change| changes.contains(&change.as_str()));
        assert_eq!(arrived, changes, "{statements:?}");
        mark(db, &mut [&mut ann], number as u32 + 1).await;
        assert_eq!(keys(&ann), held, "{statements:?}");
        assert_eq!(
            (ann.frames("refetch"), ann.frames("snapshot")),
            (0, 0),
            "{statements:?}"
        );
        state = ann.into_state();
    }
}

both_backends! {
    async fn a_resume_gives_the_difference_that_memberships_made(db: TestDatabase) {
        let server = serve(&db).await;
        resume_after_each(&db, &[&server]).await;
    }

    async fn a_resume_after_a_restart_gives_the_difference(db: TestDatabase) {
        let server = serve(&db).await;
        let (ann, ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        let (ann, ben) = (ann.into_state(), ben.into_state());
        server.shutdown().await;
        db.execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        db.execute("DELETE FROM list_members WHERE user_id = 'ben'").await;
        let server = TestServer::with_config(config(&db, usual()).await).await;
        let mut ann = reconnect(&server, "ann", &ann).await;
        assert_eq!(difference(&mut ann).await, ["put 3", "put 4"]);
        let mut ben = reconnect(&server, "ben", &ben).await;
        assert_eq!(difference(&mut ben).await, ["leave 3", "leave 4"]);
        mark(&db, &mut [&mut ann, &mut ben], 1).await;
        assert_eq!((ann.frames("refetch"), ben.frames("refetch")), (0, 0));
    }

    /// Nobody knows who was a member: only what asks for that begins again.
    async fn a_resume_without_the_history_refetches_what_it_decides(db: TestDatabase) {
        tables(&db).await;
        let server = TestServer::with_config(config(&db, usual()).await).await;
        let mut ann = subscriber(&server, "ann").await;
        ann.subscribe_with("all", json!({ "entity": "list_members" })).await;
        ann.wait_subscribed("all").await;
        let state = ann.into_state();
        // More than is kept of one row's past.
        let large = "x".repeat(600_000);
        db.execute("INSERT INTO list_members VALUES (5, 2, 'cleo', 'reader')").await;
        for user in ["1", "2", "3"] {
            db.execute(&format!("UPDATE list_members SET user_id = '{user}{large}' WHERE id = 5")).await;
        }
        db.execute("UPDATE list_members SET user_id = 'ann' WHERE id = 5").await;
        let mut ann = reconnect(&server, "ann", &state).await;
        ann.wait_until(|ann| ann.subscriptions().values().all(testkit::Subscription::is_live)).await;
        assert_eq!(keys(&ann), ["1", "2", "3", "4"]);
        assert_eq!(ann.rows("m").len(), 2);
        // The notes, at least, do not begin again.
        assert!(ann.frames("refetch") <= 3, "{}", ann.frames("refetch"));
        ann.wait_until(|ann| ann.subscription("n").is_live()).await;
        assert!(!ann.transcript().contains("\"id\":\"n\",\"reason\""));
    }

    async fn a_resume_from_a_pruned_log_refetches(db: TestDatabase) {
        tables(&db).await;
        let mut config = config(&db, usual()).await;
        config.retention.hours = 0;
        config.retention.interval_ms = 40;
        let server = TestServer::with_config(config).await;
        let mut ben = subscriber(&server, "ben").await;
        let state = subscriber(&server, "ann").await.into_state();
        db.execute("DELETE FROM list_members WHERE id = 1; INSERT INTO list_members VALUES (5, 2, 'ann', 'reader')").await;
        mark(&db, &mut [&mut ben], 1).await;
        eventually("the log is pruned", async || {
            let left = db.query_text("SELECT entity_id FROM _rhtmx_sync_log WHERE entity_id IS NOT NULL").await;
            left.is_empty().then_some(())
        }).await;
        let mut ann = reconnect(&server, "ann", &state).await;
        wait_keys(&mut ann, &["3", "4"]).await;
        // Those that were live all the time go on as before, without the log.
        db.execute("INSERT INTO list_members VALUES (6, 1, 'ben', 'reader')").await;
        wait_keys(&mut ben, &["1", "2", "3", "4"]).await;
        assert_eq!(ben.frames("refetch"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_at_another_server_gives_the_difference() {
    let db = TestDatabase::postgres().await;
    let one = serve(&db).await;
    let other = TestServer::with_config(config(&db, usual()).await).await;
    resume_after_each(&db, &[&one, &other]).await;
    // Both see the same, live.
    let (mut ann, mut ben) = (
        subscriber(&one, "ann").await,
        subscriber(&other, "ann").await,
    );
    db.execute("INSERT INTO lists VALUES (8, NULL, ''); INSERT INTO list_members VALUES (8, 8, 'ann', 'reader')").await;
    db.execute("INSERT INTO todos VALUES (80, 8, '')").await;
    mark(&db, &mut [&mut ann, &mut ben], 100).await;
    assert_eq!(keys(&ann), keys(&ben));
    assert!(ann.row("t", "80").is_some());
}

/// A transaction that began before the client left ends after it has come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memberships_of_transactions_that_overlap_a_resume_arrive_once() {
    let db = TestDatabase::postgres().await;
    tables(&db).await;
    let server = TestServer::with_config(config(&db, usual()).await).await;
    let ann = subscriber(&server, "ann").await;
    let mut writer = db.connect_postgres().await;
    let open = writer.transaction().await.expect("a transaction");
    open.batch_execute("INSERT INTO list_members VALUES (5, 2, 'ann', 'reader'); UPDATE todos SET title = 'late' WHERE id = 4")
        .await
        .expect("writes");
    let state = ann.into_state();
    db.execute("UPDATE todos SET title = 'early' WHERE id = 3")
        .await;
    db.execute("DELETE FROM list_members WHERE id = 1").await;
    let mut ann = reconnect(&server, "ann", &state).await;
    assert_eq!(difference(&mut ann).await, ["leave 1", "leave 2"]);
    open.commit().await.expect("a commit");
    wait_keys(&mut ann, &["3", "4"]).await;
    assert_eq!(ann.row("t", "3").expect("a row")["title"], "early");
    assert_eq!(ann.row("t", "4").expect("a row")["title"], "late");
    assert_eq!((ann.puts("t", "3"), ann.puts("t", "4")), (1, 1));
}
