//! Mutations of many clients, and of some that wait for others.

use futures_util::future::join_all;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{SyncClient, TestDatabase, both_backends};

use crate::writers::{NOTES, TASKS};

fn note(id: usize) -> Value {
    json!([{ "entity": "notes", "op": "create", "values": { "id": id, "body": "note" } }])
}

fn update(key: usize) -> Value {
    json!([{ "entity": "notes", "op": "update", "key": key, "values": { "body": "updated" } }])
}

fn task(id: usize) -> Value {
    json!([{ "entity": "tasks", "op": "create", "values": { "id": id, "body": "task" } }])
}

/// As many as a shared transaction takes several times over.
const WAITING: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_that_wait_for_locked_rows_hold_up_no_others() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{NOTES}; {TASKS}")).await;
    db.execute("INSERT INTO notes SELECT n, 'note' FROM generate_series(1, 10) n")
        .await;
    let server = TestServer::start(&db, ["notes", "tasks"]).await;
    let conn = db.connect_postgres().await;
    conn.batch_execute("BEGIN; SELECT FROM notes FOR UPDATE")
        .await
        .expect("a transaction");
    let mut waiting = Vec::new();
    for index in 0..WAITING {
        let mut client = server.connect().await;
        client.send_push(1, update(index % 10 + 1)).await;
        let path = server.http();
        let body = json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": update(1) });
        let posted = tokio::spawn(async move { path.post("/api/sync/notes", &body).await.status });
        waiting.push((client, posted));
    }
    // Newcomers, other rows of the same table, other tables.
    for id in 100..120 {
        let mut client: SyncClient = server.connect().await;
        client.subscribe("tasks", "tasks").await;
        client.wait_subscribed("tasks").await;
        client.push(1, note(id)).await.acked();
        client.push(2, task(id)).await.acked();
        client
            .wait_until(|client| client.row("tasks", &id.to_string()).is_some())
            .await;
    }
    conn.batch_execute("COMMIT").await.expect("a commit");
    for (mut client, posted) in waiting {
        client.wait_until(|client| client.frames("ack") == 1).await;
        assert_eq!(posted.await.expect("an answer"), 200);
    }
}

both_backends! {
    async fn a_thousand_mutations_at_once_are_all_acked(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.extend(join_all((0..50).map(|_| server.connect())).await);
        }
        let pushes = clients.iter_mut().enumerate().map(async |(id, client)| {
            client.push(1, note(id)).await.acked();
            assert_eq!(client.frames("ack"), 1);
        });
        join_all(pushes).await;
        let found = db.query_text("SELECT count(*) FROM notes").await;
        assert_eq!(found, [Some("1000".to_owned())]);
    }

    /// Some are rejected, each for its own reason, and take no other with them.
    async fn mutations_that_fail_take_no_others_with_them(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut clients = join_all((0..60).map(|_| server.connect())).await;
        let pushes = clients.iter_mut().enumerate().map(async |(index, client)| {
            for round in 1_usize..=5 {
                let id = index * 10 + round;
                let number = u64::try_from(round).expect("small");
                match index % 3 {
                    0 => client.push(number, note(id)).await.acked(),
                    1 => {
                        let outcome = client.push(number, update(100_000 + id)).await;
                        assert_eq!(outcome.rejected().code, "not_found");
                    }
                    _ => {
                        let writes = json!([note(id)[0], note(id)[0]]);
                        let outcome = client.push(number, writes).await;
                        assert_eq!(outcome.rejected().code, "exists");
                    }
                }
            }
        });
        join_all(pushes).await;
        let found = db.query_text("SELECT count(*) FROM notes").await;
        assert_eq!(found, [Some("100".to_owned())]);
    }
}
