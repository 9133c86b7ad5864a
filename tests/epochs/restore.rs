//! `pg_dump` and its restore, between two clusters and within one database.

use rhtmx_sync::{DbPool, SyncConfig};
use rhtmx_sync_tests::{Dump, TestServer, dump_into, of_database};
use serde_json::{Value, json};
use testkit::{ClientOptions, ClientState, SyncClient, eventually};

use crate::cluster::{execute, start, use_numbers};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, t text)";

pub(crate) async fn serve(url: &str, prunes: bool) -> TestServer {
    let pool = DbPool::from_url(url).await.expect("the engine connects");
    let mut config = SyncConfig::new(pool, vec!["items"]);
    config.retention.interval_ms = 100;
    if prunes {
        config.retention.hours = 0;
    }
    let server = TestServer::with_config(config).await;
    server.engine().ready().await;
    server
}

pub(crate) fn upsert(id: u32, t: &str) -> Value {
    json!([{ "entity": "items", "op": "upsert", "key": id, "values": { "t": t } }])
}

/// A client with three acknowledged mutations and a cursor, as it is when its connection has ended.
pub(crate) async fn device(server: &TestServer) -> ClientState {
    let mut client = server.connect().await;
    client.subscribe("items", "items").await;
    client.wait_subscribed("items").await;
    for id in 1..=3 {
        client.push_next(upsert(id, "pushed")).await.acked();
    }
    client
        .wait_until(|client| client.rows("items").len() == 3)
        .await;
    client.into_state()
}

/// The device comes back to a server of another epoch: it refetches, its last mutation is not applied
/// again, it goes on writing, and it is live.
pub(crate) async fn comes_back(server: &TestServer, state: &ClientState, url: &str) -> SyncClient {
    let mut client = SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), state).await;
    client.wait_subscribed("items").await;
    assert_eq!(client.frames("refetch"), 1, "a cursor of the old epoch");
    execute(url, "UPDATE items SET t = 'since' WHERE id = 3").await;
    client.push(3, upsert(3, "pushed")).await.acked();
    let third = execute(url, "SELECT t FROM items WHERE id = 3").await;
    assert_eq!(third, [Some("since".to_owned())], "not applied again");
    client.push(4, upsert(4, "pushed")).await.acked();
    execute(url, "INSERT INTO items VALUES (77, 'live')").await;
    client
        .wait_until(|client| client.row("items", "77").is_some())
        .await;
    let counted = execute(url, "SELECT count(*) FROM items").await;
    assert_eq!(counted, [Some(client.rows("items").len().to_string())]);
    client
}

async fn floor(url: &str) -> Option<String> {
    execute(url, "SELECT floor FROM _rhtmx_sync_meta")
        .await
        .remove(0)
}

/// From one cluster to the other. `prunes`: the floor has moved before.
async fn restore(from: &str, to: &str, name: &str, dump: Dump, prunes: bool) {
    for url in [from, to] {
        execute(url, &format!("CREATE DATABASE {name}")).await;
    }
    let (from, to) = (of_database(from, name), of_database(to, name));
    execute(&from, ITEMS).await;
    let server = serve(&from, prunes).await;
    let state = device(&server).await;
    if prunes {
        let before = floor(&from).await;
        eventually("the floor moves", async || {
            (floor(&from).await != before).then_some(())
        })
        .await;
        execute(&from, "UPDATE items SET t = 'last' WHERE id = 1").await;
    }
    server.shutdown().await;
    dump_into(&from, &to, dump);

    let server = serve(&to, false).await;
    let mut fresh = server.connect().await;
    fresh.subscribe("items", "items").await;
    fresh.wait_subscribed("items").await;
    let _client = comes_back(&server, &state, &to).await;
    fresh
        .wait_until(|client| client.row("items", "77").is_some())
        .await;
    // Nothing of the old log is taken for new.
    assert_eq!(fresh.frames("refetch"), 0);
    assert_eq!((fresh.puts("items", "1"), fresh.puts("items", "2")), (1, 1));
    server.shutdown().await;
}

/// Both directions of the numbers, and each way in which a dump travels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_restored_into_another_cluster_begins_a_new_epoch() {
    let (low, high) = tokio::join!(start(), start());
    use_numbers(&high.url(), 50_000).await;
    let (low, high) = (low.url(), high.url());
    restore(&high, &low, "to_lower", Dump::Custom, false).await;
    restore(&high, &low, "to_lower_pruned", Dump::Plain, true).await;
    restore(
        &high,
        &low,
        "to_lower_unmarked",
        Dump::WithoutUnlogged,
        true,
    )
    .await;
    restore(&low, &high, "to_higher", Dump::Custom, false).await;
    restore(&low, &high, "to_higher_pruned", Dump::Plain, true).await;
}

/// Cluster, database and timeline are the same, the numbers go on, and still the rows are those of the dump.
/// A server runs all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_restored_into_its_own_database_begins_a_new_epoch() {
    let cluster = start().await;
    let url = cluster.url();
    execute(&url, ITEMS).await;
    let server = serve(&url, false).await;
    let state = device(&server).await;
    execute(&url, "CREATE DATABASE kept").await;
    let kept = of_database(&url, "kept");
    dump_into(&url, &kept, Dump::Custom);
    execute(&url, "INSERT INTO items VALUES (50, 'lost')").await;
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    client.wait_subscribed("items").await;
    client
        .wait_until(|client| client.row("items", "50").is_some())
        .await;
    let state = client.into_state();
    let tracker = server.engine().change_tracker();
    let before = tracker.latest_cursor().await.expect("a cursor");

    execute(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    dump_into(&kept, &url, Dump::Custom);
    eventually("the server has begun a new epoch", async || {
        let now = tracker.latest_cursor().await.ok()?;
        (now.epoch != before.epoch).then_some(())
    })
    .await;
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    client.wait_subscribed("items").await;
    client
        .wait_until(|client| client.row("items", "50").is_none() && client.rows("items").len() == 3)
        .await;
    execute(&url, "INSERT INTO items VALUES (51, 'live')").await;
    client
        .wait_until(|client| client.row("items", "51").is_some())
        .await;
}

/// A copy of the files (`CREATE DATABASE … TEMPLATE`) is another database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_database_begins_a_new_epoch() {
    let cluster = start().await;
    execute(&cluster.url(), "CREATE DATABASE original").await;
    let (original, copy) = (
        of_database(&cluster.url(), "original"),
        of_database(&cluster.url(), "copy"),
    );
    execute(&original, ITEMS).await;
    let server = serve(&original, false).await;
    let state = device(&server).await;
    server.shutdown().await;
    execute(&cluster.url(), "CREATE DATABASE copy TEMPLATE original").await;
    let server = serve(&copy, false).await;
    let _client = comes_back(&server, &state, &copy).await;
}

/// The same database goes on: an orderly restart of the server, and of PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_restart_continues_the_epoch() {
    let mut cluster = start().await;
    let url = cluster.url();
    execute(&url, ITEMS).await;
    let server = serve(&url, false).await;
    let state = device(&server).await;
    server.shutdown().await;
    tokio::task::block_in_place(|| cluster.restart().expect("an orderly restart"));
    execute(&url, "INSERT INTO items VALUES (9, 'meanwhile')").await;
    let server = serve(&url, false).await;
    let mut client =
        SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await;
    client.wait_subscribed("items").await;
    client
        .wait_until(|client| client.row("items", "9").is_some())
        .await;
    assert_eq!(client.frames("refetch"), 0);
}
