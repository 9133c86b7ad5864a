//! A hot standby is no place for the engine until it is promoted.

use rhtmx_sync::{Check, DbPool, Level, Readiness, SyncConfig, SyncEngine};
use rhtmx_sync_tests::TestServer;
use testkit::eventually;

use crate::cluster::{execute, start};
use crate::restore::{comes_back, device, serve};

/// Its snapshots do not say which transactions are running. A server that starts on it says so and waits;
/// after the promotion it serves, in a new epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_until_it_is_promoted() {
    let primary = start().await;
    execute(
        &primary.url(),
        "CREATE TABLE items (id int PRIMARY KEY, t text)",
    )
    .await;
    let server = serve(&primary.url(), false).await;
    let state = device(&server).await;
    server.shutdown().await;
    let standby = tokio::task::block_in_place(|| primary.standby()).expect("a standby");
    eventually("the standby has the rows", async || {
        let counted = execute(&standby.url(), "SELECT count(*) FROM items").await;
        (counted == [Some("3".to_owned())]).then_some(())
    })
    .await;

    let pool = DbPool::from_url(&standby.url()).await.expect("a pool");
    let config = SyncConfig::new(pool, vec!["items"]);
    assert_doctor_names_standby(&config).await;
    let server = TestServer::with_config(config).await;
    assert_names_standby(&server).await;

    drop(primary);
    execute(&standby.url(), "SELECT pg_promote()").await;
    server.engine().ready().await;
    let _client = comes_back(&server, &state, &standby.url()).await;
}

/// Only the listener's address is a standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_as_the_listeners_address() {
    let primary = start().await;
    execute(
        &primary.url(),
        "CREATE TABLE items (id int PRIMARY KEY, t text)",
    )
    .await;
    let standby = tokio::task::block_in_place(|| primary.standby()).expect("a standby");
    let pool = DbPool::from_url(&primary.url()).await.expect("a pool");
    let mut config = SyncConfig::new(pool, vec!["items"]);
    config.database.listen_url = Some(standby.url());
    assert_doctor_names_standby(&config).await;
    let server = TestServer::with_config(config).await;
    assert_names_standby(&server).await;
}

async fn assert_doctor_names_standby(config: &SyncConfig) {
    let found = SyncEngine::examine(config).await.expect("an examination");
    let errors: Vec<Check> = found
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| finding.check)
        .collect();
    assert_eq!(errors, [Check::Primary], "{found:?}");
}

async fn assert_names_standby(server: &TestServer) {
    eventually("the readiness names the standby", async || {
        let readiness = server.engine().readiness();
        matches!(readiness, Readiness::NotReady(why) if why.contains("standby")).then_some(())
    })
    .await;
}
