//! A server that has not looked at a table since it changed its shape, while another has.

use rhtmx_sync_testkit::{ClientOptions, ServerProcess, SyncClient};
use rhtmx_sync_tests::TcpProxy;

use crate::database::Database;

async fn subscriber(server: &ServerProcess) -> SyncClient {
    let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
    client.subscribe("accounts", "accounts").await;
    client.wait_subscribed("accounts").await;
    client
}

/// Whoever takes the rows from the second server gets the new shape at once, or is told of it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_looks_later_leaves_nobody_with_the_old_shape() {
    let db = Database::start().await;
    let args = ["--bind", "127.0.0.1:0", "--entity", "accounts"];
    let one = ServerProcess::spawn(args, [("DATABASE_URL", db.url())]).await;
    // Its news are late.
    let (news, listen_url) = TcpProxy::of_database(&db.url()).await;
    let settings = [
        ("DATABASE_URL", db.url()),
        ("RHTMX_SYNC_DATABASE_LISTEN_URL", listen_url),
    ];
    let two = ServerProcess::spawn(args, settings).await;
    subscriber(&two).await.close().await;
    let mut at_one = subscriber(&one).await;
    for number in 0..8 {
        let column = format!("x{number}");
        let has_it = |client: &SyncClient| {
            let rows = client.rows("accounts");
            !rows.is_empty() && rows.values().all(|row| row.get(&column).is_some())
        };
        news.stall(true);
        db.execute(&format!(
            "ALTER TABLE accounts ADD COLUMN {column} int DEFAULT 1"
        ))
        .await;
        at_one.wait_until(has_it).await;
        let mut at_two = subscriber(&two).await;
        news.stall(false);
        at_two.wait_until(has_it).await;
    }
}
