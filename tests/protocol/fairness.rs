//! The reads of one user who asks for much do not hold up those of another.
//!
//! A read is held up where the test wants it: nothing is kept for a client that does not read, so the read of a large
//! table waits for its client, and keeps its turn.

use std::sync::Arc;

use futures_util::future::select_all;
use rhtmx_sync::{JwtAuthenticator, JwtConfig, OperatorToken, SyncConfig};
use rhtmx_sync_tests::{TestServer, sign_with_secret};
use serde_json::{Value, json};
use testkit::{ClientOptions, SyncClient, TestDatabase, eventually};

use crate::claims::OPERATOR;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";
/// More than the sockets between server and client hold.
const LARGE: &str = "INSERT INTO big SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g";

/// A large and a small table, and a server that makes so many reads at once.
async fn server(db: &TestDatabase, reads_at_once: u32) -> TestServer {
    let table = |name: &str| format!("CREATE TABLE {name} (id integer PRIMARY KEY, body text)");
    db.execute(&format!(
        "{}; {LARGE}; {}; INSERT INTO small VALUES (1, 'one')",
        table("big"),
        table("small"),
    ))
    .await;
    let mut config: SyncConfig = TestServer::config(db, ["big", "small"]).await;
    let mut jwt = JwtConfig::default();
    jwt.jwt_secret = Some(SECRET.to_owned());
    let authenticator = JwtAuthenticator::new(jwt).await;
    config.auth.authenticator = Arc::new(authenticator.expect("tokens can be verified"));
    config.auth.operator_token = Some(OperatorToken::new(OPERATOR).expect("a token"));
    config.reads.spool_memory_bytes_max = 0;
    config.reads.spool_bytes_max = 1;
    // Three eighths of it are for reads.
    config.database.pool_size = (reads_at_once * 8).div_ceil(3);
    TestServer::with_config(config).await
}

async fn connect(server: &TestServer, user: &str) -> SyncClient {
    let options = ClientOptions {
        token: Some(sign_with_secret(SECRET, json!({ "sub": user }))),
        ..ClientOptions::default()
    };
    SyncClient::connect(&server.ws_url(), options).await
}

/// A connection that has subscribed to this entity, under its name.
async fn subscriber(server: &TestServer, user: &str, entity: &str, filter: &str) -> SyncClient {
    let mut client = connect(server, user).await;
    let selection = json!({ "entity": entity, "where": filter });
    client.subscribe_with(entity, selection).await;
    client
}

/// Waits until so many reads run and so many wait.
async fn until_reads(server: &TestServer, running: u64, waiting: u64) {
    let operator = server.http().with_token(OPERATOR);
    let description = format!("{running} reads, and {waiting} that wait");
    eventually(&description, async || {
        let status = operator.get("/api/sync/status").await.json();
        let reads = &status["reads"];
        (reads["running"] == running && reads["waiting"] == waiting).then_some(())
    })
    .await;
}

fn is_snapshot(frame: &Value) -> bool {
    frame["type"] == "snapshot"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_reads_leave_a_turn_to_everybody_else() {
    let db = TestDatabase::postgres().await;
    let server = server(&db, 2).await;
    let mut of_ann = vec![subscriber(&server, "ann", "big", "id > 0").await];
    until_reads(&server, 1, 0).await;
    for connection in 1..10 {
        let entity = if connection % 2 == 0 { "big" } else { "small" };
        let filter = format!("id > {}", 20_000 - connection);
        of_ann.push(subscriber(&server, "ann", entity, &filter).await);
    }
    until_reads(&server, 1, 9).await;
    // Ben's goes through while none of Ann's does.
    let mut ben = connect(&server, "ben").await;
    ben.subscribe("small", "small").await;
    ben.wait_subscribed("small").await;
    assert_eq!(ben.rows("small").len(), 1);
    let page = sign_with_secret(SECRET, json!({ "sub": "ben" }));
    let page = server.http().with_token(page).get("/api/sync/small").await;
    assert_eq!(page.json()["rows"].as_array().map(Vec::len), Some(1));
    until_reads(&server, 1, 9).await;
    // Nothing is lost of what has waited.
    for (connection, mut client) in of_ann.into_iter().enumerate() {
        let entity = if connection % 2 == 0 { "big" } else { "small" };
        client.wait_subscribed(entity).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_read_waits_behind_one_of_another_user_however_many_that_one_asks_for() {
    let db = TestDatabase::postgres().await;
    let server = server(&db, 1).await;
    let mut of_ann = Vec::new();
    for connection in 0..8 {
        let filter = format!("id > {connection}");
        of_ann.push(subscriber(&server, "ann", "big", &filter).await);
    }
    until_reads(&server, 1, 7).await;
    let mut ben = subscriber(&server, "ben", "big", "id = 1").await;
    until_reads(&server, 1, 8).await;
    // Twice one of Ann's has the turn; without it, Ben's comes.
    for _ in 0..2 {
        let firsts = of_ann
            .iter_mut()
            .map(|client| Box::pin(client.wait_for(is_snapshot)));
        let (_, index, _) = select_all(firsts).await;
        drop(of_ann.swap_remove(index));
    }
    ben.wait_subscribed("big").await;
    assert_eq!(ben.rows("big").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_two_users_wait_for_has_the_turn_of_either() {
    let db = TestDatabase::postgres().await;
    let server = server(&db, 2).await;
    let mut of_ann = vec![subscriber(&server, "ann", "big", "id > 0").await];
    until_reads(&server, 1, 0).await;
    for connection in 1..4 {
        let filter = format!("id > {connection}");
        of_ann.push(subscriber(&server, "ann", "big", &filter).await);
    }
    // Ann asks first for what Ben wants.
    of_ann.push(subscriber(&server, "ann", "small", "id = 1").await);
    until_reads(&server, 1, 4).await;
    let mut ben = subscriber(&server, "ben", "small", "id = 1").await;
    ben.wait_subscribed("small").await;
    // And has it, too.
    let mut ann = of_ann.pop().expect("the last");
    ann.wait_subscribed("small").await;
    until_reads(&server, 1, 3).await;
}
