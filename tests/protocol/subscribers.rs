//! Clients that are subscribed to the notes, and the changes that they receive.

use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use testkit::{ClientOptions, SyncClient, TestDatabase};

use crate::tables::notes;

/// A server over `notes`, and a client that is subscribed to them as `a`.
pub(crate) async fn serve_and_subscribe(db: &TestDatabase) -> (TestServer, SyncClient) {
    let server = TestServer::start(db, ["notes"]).await;
    let mut client = server.connect().await;
    client.subscribe("a", "notes").await;
    client.wait_subscribed("a").await;
    (server, client)
}

/// Waits until the copy equals the table as it is now.
pub(crate) async fn wait_equal(client: &mut SyncClient, db: &TestDatabase, id: &str) {
    let expected = notes(db).await;
    client
        .wait_until(|client| *client.rows(id) == expected)
        .await;
}

/// The changes of a resume, up to its `subscribed`.
pub(crate) async fn resumed_changes(client: &mut SyncClient, id: &str) -> Vec<Value> {
    let mut changes = Vec::new();
    loop {
        let frame = client.next_frame().await;
        match frame["type"].as_str() {
            Some("changes") if frame["id"] == id => {
                changes.extend(frame["changes"].as_array().expect("an array").clone());
            }
            Some("subscribed") if frame["id"] == id => return changes,
            _ => {}
        }
    }
}

/// The same client on a new connection.
pub(crate) async fn reconnect(server: &TestServer, client: SyncClient) -> SyncClient {
    let state = client.into_state();
    SyncClient::reconnect(&server.ws_url(), ClientOptions::default(), &state).await
}
