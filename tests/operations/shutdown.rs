//! The shutdown of an engine: sessions are closed so that clients reconnect, and running mutations
//! finish.

use diesel::connection::SimpleConnection;
use rhtmx_sync::Readiness;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient, TestDatabase, both_backends};
use tokio::sync::oneshot;

use crate::writers::{NOTES, insert};

/// Locks row 1 until it is released.
async fn hold(db: &TestDatabase) -> oneshot::Sender<()> {
    let (release, released) = oneshot::channel();
    let (holds, held) = oneshot::channel();
    match db.backend() {
        Backend::Postgres => {
            let conn = db.connect_postgres().await;
            let lock = "BEGIN; SELECT FROM notes WHERE id = 1 FOR UPDATE";
            conn.batch_execute(lock).await.expect("the lock");
            holds.send(()).expect("the test waits");
            tokio::spawn(async move {
                let _ = released.await;
                conn.batch_execute("COMMIT")
                    .await
                    .expect("the lock is released");
            });
        }
        Backend::Sqlite => {
            let mut conn = db.connect_sqlite();
            tokio::task::spawn_blocking(move || {
                conn.batch_execute("BEGIN IMMEDIATE").expect("the lock");
                holds.send(()).expect("the test waits");
                let _ = released.blocking_recv();
                conn.batch_execute("COMMIT").expect("the lock is released");
            });
        }
    }
    held.await.expect("the lock");
    release
}

fn update(body: &str) -> Value {
    json!([{ "entity": "notes", "op": "update", "key": 1, "values": { "body": body } }])
}

async fn bodies(db: &TestDatabase) -> Vec<String> {
    db.query_text("SELECT body FROM notes ORDER BY id")
        .await
        .into_iter()
        .flatten()
        .collect()
}

both_backends! {
    async fn a_shutdown_closes_every_session(db: TestDatabase) {
        db.execute(NOTES).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = server.connect().await;
            client.subscribe("notes", "notes").await;
            client.wait_subscribed("notes").await;
            clients.push(client);
        }
        let silent = SyncClient::open(&server.ws_url(), ClientOptions::default()).await;
        clients.push(silent.expect("a connection without a hello"));
        let engine = server.engine().clone();
        engine.shutdown().await;
        for client in &mut clients {
            assert_eq!(client.close_code().await, 1001);
        }
        assert_eq!(engine.readiness(), Readiness::NotReady("shutting down".to_owned()));
        // A new client is rejected.
        let late = SyncClient::try_connect(&server.ws_url(), ClientOptions::default()).await;
        assert!(late.is_err());
    }

    /// A mutation waits for a lock when the shutdown begins. It is applied once, although its client
    /// has disconnected by then.
    async fn a_running_mutation_finishes_before_the_shutdown(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {}", insert([1]))).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        let release = hold(&db).await;
        client.send_push(1, update("first")).await;
        // The server has read the push when it answers this ping.
        client.ping().await;

        let engine = server.engine().clone();
        let stopping = tokio::spawn(async move { engine.shutdown().await });
        assert_eq!(client.close_code().await, 1001);
        assert!(!stopping.is_finished(), "the shutdown waits for the mutation");
        release.send(()).expect("the lock is held");
        stopping.await.expect("the shutdown");
        assert_eq!(bodies(&db).await, ["first"]);

        db.execute("UPDATE notes SET body = body || ' and more'").await;
        let second = TestServer::start(&db, ["notes"]).await;
        let state = client.into_state();
        assert_eq!(state.unanswered.len(), 1, "the push was never answered");
        let mut again = SyncClient::reconnect(&second.ws_url(), ClientOptions::default(), &state).await;
        assert_eq!(again.welcome()["last_mutation"], 1);
        again.push(1, update("first")).await.acked();
        assert_eq!(bodies(&db).await, ["first and more"], "the mutation is not applied again");
    }
}
