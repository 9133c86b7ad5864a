//! Transactions that are open while clients come and go: whatever order they end in, each row that
//! they move in or out of a part is heard of.

use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};

use super::followers::{ENTITIES, follow, follower, heard, ops_of, serving, up_to_now, wait_equal};
use super::todos::{ALL, todos};
use crate::followers::{again, caught_up};

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
async fn subscribing_amid_one() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serving(&db).await;
    let open = open(&db).await;
    let mut client = follower(&server, "list_id = 1").await;
    assert_eq!(keys(&client), ["1", "2"]);
    // What others commit meanwhile is told at once.
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
async fn away_while_one_ends() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serving(&db).await;
    let open = open(&db).await;
    let mut client = follower(&server, "list_id = 1").await;
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
    caught_up(&mut client, "a").await;
    assert_eq!(client.frames("refetch"), 0);
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
    tracker
        .cleanup_older_than(Duration::ZERO)
        .await
        .expect("the log is cleaned up");
    let mut client = again(&server, client).await;
    client.wait_subscribed("a").await;
    assert_eq!(*client.rows("a"), todos(&db, &ALL, "list_id = 1").await);
}

/// Two of them move one row to and fro, the second behind the first's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_behind_the_lock_of_another() {
    let db = TestDatabase::new(Backend::Postgres).await;
    let server = serving(&db).await;
    let mut client = follower(&server, "list_id = 1").await;
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
    /// A server that does not lead tells its clients the same.
    async fn through_a_second_server(db: TestDatabase) {
        let _leader = serving(&db).await;
        let server = TestServer::start(&db, ENTITIES).await;
        let mut client = follower(&server, "list_id = 1").await;
        follow(&mut client, "b", json!({ "where": "list_id = 2", "columns": ["title"] })).await;
        up_to_now(&mut client).await;
        let frames = heard(&mut client, &db, "UPDATE todos SET list_id = 2 WHERE id = 1").await;
        assert_eq!(ops_of(&client, "a", &frames), ["leave 1"]);
        assert_eq!(ops_of(&client, "b", &frames), ["put 1"]);
        let frames = heard(&mut client, &db, "UPDATE todos SET done = true WHERE id = 1").await;
        assert_eq!(frames.len(), 0);
        let frames = heard(&mut client, &db, "DELETE FROM todos WHERE id = 4").await;
        assert_eq!(frames.len(), 0);
    }
}
