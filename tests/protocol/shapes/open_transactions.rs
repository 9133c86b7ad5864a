//! Transactions that are open while clients connect and leave: whatever the order of their commits,
//! each row that they move into or out of a selection is sent.

use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::subscribers::{
    ENTITIES, changes_after, ops_of, pending_changes, serve, subscribe, subscriber, wait_equal,
};
use super::todos::{ALL, todos};
use crate::subscribers::{reconnect, resumed_changes};

/// An open transaction that has moved row 1 out of list 1 and row 3 into it.
async fn open(db: &TestDatabase) -> tokio_postgres::Client {
    let open = db.connect_postgres().await;
    open.batch_execute(
        "BEGIN; UPDATE todos SET list_id = 2 WHERE id = 1; UPDATE todos SET list_id = 1 WHERE id = 3; \
         UPDATE todos SET id = 20 WHERE id = 2",
    )
    .await
    .expect("a write");
    open
}

async fn commit(open: &tokio_postgres::Client) {
    open.batch_execute("COMMIT").await.expect("a commit");
}

fn keys(client: &SyncClient) -> Vec<&String> {
    client.rows("a").keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_during_an_open_transaction_misses_nothing() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    let open = open(&db).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    assert_eq!(keys(&client), ["1", "2"]);
    // Changes that others commit in the meantime are sent at once.
    db.execute("UPDATE todos SET list_id = 1 WHERE id = 4")
        .await;
    client
        .wait_until(|client| client.row("a", "4").is_some())
        .await;
    assert_eq!(keys(&client), ["1", "2", "4"]);
    commit(&open).await;
    wait_equal(&mut client, &db, "a", "list_id = 1").await;
    assert_eq!(keys(&client), ["20", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_committed_during_an_absence_is_sent_on_resume() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    let open = open(&db).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    for id in 30..40 {
        db.execute(&format!(
            "INSERT INTO todos VALUES ({id}, 1, NULL, 'x', true)"
        ))
        .await;
    }
    wait_equal(&mut client, &db, "a", "list_id = 1").await;
    let state = client.into_state();
    let tracker = server.engine().change_tracker();
    commit(&open).await;
    db.execute("UPDATE todos SET list_id = 1 WHERE id = 1")
        .await;
    db.execute("DELETE FROM todos WHERE id = 3").await;
    let options = ClientOptions::default();
    let mut client = SyncClient::reconnect(&server.ws_url(), options, &state).await;
    resumed_changes(&mut client, "a").await;
    assert_eq!(client.frames("refetch"), 0);
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    tracker
        .cleanup_older_than(Duration::ZERO)
        .await
        .expect("the log is cleaned up");
    let mut client = reconnect(&server, client).await;
    client.wait_subscribed("a").await;
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
}

/// Two transactions move one row to and fro, the second waiting for the first's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_behind_the_lock_of_another_is_sent() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serve(&db).await;
    let mut client = subscriber(&server, "list_id = 1").await;
    for _ in 0..10 {
        let open = open(&db).await;
        let second = db.execute("UPDATE todos SET list_id = 3 - list_id WHERE id IN (1, 3)");
        let first = async {
            db.execute("UPDATE todos SET title = title || '.' WHERE id = 4")
                .await;
            commit(&open).await;
        };
        tokio::join!(second, first);
        wait_equal(&mut client, &db, "a", "list_id = 1").await;
        db.execute(
            "UPDATE todos SET list_id = 1 WHERE id = 1; UPDATE todos SET list_id = 2 WHERE id = 3; \
                    UPDATE todos SET id = 2 WHERE id = 20",
        )
        .await;
    }
    wait_equal(&mut client, &db, "a", "list_id = 1").await;
    assert_eq!(client.frames("refetch"), 0);
}

both_backends! {
    async fn a_server_that_does_not_lead_sends_the_same_changes(db: TestDatabase) {
        let _leader = serve(&db).await;
        let server = TestServer::start(&db, ENTITIES).await;
        let mut client = subscriber(&server, "list_id = 1").await;
        subscribe(&mut client, "b", json!({ "where": "list_id = 2", "columns": ["title"] })).await;
        pending_changes(&mut client).await;
        let frames = changes_after(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 1"]);
        assert_eq!(ops_of(&client, "b", &frames), ["put 1"]);
        let frames = changes_after(&mut client, &db, "UPDATE todos SET done = true WHERE id = 1").await;
        assert_eq!(frames.len(), 0);
        let frames = changes_after(&mut client, &db, "DELETE FROM todos WHERE id = 4").await;
        assert_eq!(frames.len(), 0);
    }
}
