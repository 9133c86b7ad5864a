//! A database that goes away while clients are subscribed.

use rhtmx_sync::{DbPool, EntityConfig, SyncConfig};
use rhtmx_sync_tests::{TcpProxy, TestServer};
use serde_json::json;
use testkit::{ClientOptions, SyncClient, TestDatabase, eventually};

use super::subscribers::{ENTITIES, subscribe};
use super::todos::{ALL, make_todos, todos};

/// Reads until the copies are right, over as many connections as that takes.
async fn until_right(db: &TestDatabase, server: &TestServer, mut client: SyncClient) -> SyncClient {
    let lists = todos(db, &ALL, "list_id = 1").await;
    let titles = todos(db, &["id", "title"], "owner = 'ann'").await;
    loop {
        let right = |client: &SyncClient| *client.rows("a") == lists && *client.rows("b") == titles;
        if client.try_wait_until(right).await.is_ok() {
            return client;
        }
        let state = client.into_state();
        let reconnected = async || {
            let options = ClientOptions::default();
            SyncClient::try_reconnect(&server.ws_url(), options, &state)
                .await
                .ok()
        };
        client = eventually("the client reconnects", reconnected).await;
    }
}

/// The database's connections are cut again and again while rows enter and leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_right_after_database_connections_are_cut() {
    let db = TestDatabase::postgres().await;
    make_todos(&db).await;
    let (proxy, through) = TcpProxy::of_database(&db.url()).await;
    let pool = DbPool::from_url(&through)
        .await
        .expect("the database opens");
    let entities = ENTITIES.into_iter().map(EntityConfig::from).collect();
    let server = TestServer::with_config(SyncConfig::new(pool, entities)).await;
    let mut client = server.connect().await;
    subscribe(&mut client, "a", json!({ "where": "list_id = 1" })).await;
    subscribe(
        &mut client,
        "b",
        json!({ "where": "owner = 'ann'", "columns": ["title"] }),
    )
    .await;
    for round in 0..8 {
        db.execute("UPDATE todos SET list_id = 3 - list_id").await;
        proxy.cut();
        db.execute(&format!(
            "UPDATE todos SET owner = 'ann', title = '{round}' WHERE id = 1 + {round} % 4"
        ))
        .await;
        db.execute(&format!("DELETE FROM todos WHERE id = 10 + {round} - 1"))
            .await;
        if round % 2 == 0 {
            proxy.cut();
        }
        db.execute(&format!(
            "INSERT INTO todos VALUES (10 + {round}, 1, 'ann', 'x', true)"
        ))
        .await;
        db.execute(&format!(
            "UPDATE todos SET owner = NULL WHERE id = 1 + ({round} + 1) % 4"
        ))
        .await;
        client = until_right(&db, &server, client).await;
    }
}

/// The read is repeated, and ends with the table's rows as they are by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_first_read_is_repeated() {
    let db = TestDatabase::postgres().await;
    make_todos(&db).await;
    db.execute(
        "INSERT INTO todos SELECT i, i % 2, 'ann', repeat('x', 2000), false FROM generate_series(10, 5000) i",
    )
    .await;
    let (proxy, through) = TcpProxy::of_database(&db.url()).await;
    let pool = DbPool::from_url(&through)
        .await
        .expect("the database opens");
    let entities = ENTITIES.into_iter().map(EntityConfig::from).collect();
    let server = TestServer::with_config(SyncConfig::new(pool, entities)).await;
    let mut client = server.connect().await;
    proxy.break_after(600_000);
    proxy.cut();
    client
        .subscribe_with("a", json!({ "entity": "todos", "where": "list_id = 1" }))
        .await;
    client
        .wait_until(|client| !client.errors().is_empty() || client.frames("snapshot") > 0)
        .await;
    db.execute("UPDATE todos SET list_id = 1 - list_id WHERE id BETWEEN 10 AND 3000")
        .await;
    proxy.break_after(0);
    proxy.cut();
    let expected = todos(&db, &ALL, "list_id = 1").await;
    while client
        .try_wait_until(|client| *client.rows("a") == expected)
        .await
        .is_err()
    {
        let state = client.into_state();
        let reconnected = async || {
            let options = ClientOptions::default();
            SyncClient::try_reconnect(&server.ws_url(), options, &state)
                .await
                .ok()
        };
        client = eventually("the client reconnects", reconnected).await;
    }
}
