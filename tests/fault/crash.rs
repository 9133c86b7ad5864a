//! A crash of PostgreSQL takes back transaction numbers that nothing durable had used. Whoever then
//! gets such a number must not be taken for somebody whom a cursor has seen.

use testkit::{ClientOptions, ServerProcess, SyncClient};

use crate::database::Database;

/// A cursor sees a transaction that was rolled back and never written down; after the crash another
/// one has its number, and commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_used_again_is_not_taken_for_the_old_one() {
    let db = Database::start().await;
    let server = ServerProcess::spawn(
        ["--bind", "127.0.0.1:0", "--entity", "accounts"],
        [("DATABASE_URL", db.url())],
    )
    .await;
    // The log is written when somebody commits; in between only every ten seconds, so that what is
    // not committed stays unwritten for sure.
    db.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        .await;
    db.execute("SELECT pg_reload_conf()").await;
    let writer = db.connect().await;
    writer
        .batch_execute("INSERT INTO pulse DEFAULT VALUES")
        .await
        .expect("a commit");
    let rolled_back = "BEGIN; INSERT INTO pulse DEFAULT VALUES; ROLLBACK";
    for _ in 0..20 {
        writer.batch_execute(rolled_back).await.expect("a rollback");
    }

    let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
    client.subscribe("accounts", "accounts").await;
    client.wait_subscribed("accounts").await;
    let state = client.into_state();
    db.stop();
    db.start_again().await;
    for account in 0..16 {
        db.execute(&format!(
            "UPDATE accounts SET note = 'changed' WHERE id = {account}"
        ))
        .await;
    }

    let mut client = loop {
        // The server finds the database again in its own time.
        if let Ok(client) =
            SyncClient::try_reconnect(&server.ws_url(), ClientOptions::default(), &state).await
        {
            break client;
        }
    };
    client.wait_subscribed("accounts").await;
    client
        .wait_until(|client| {
            client
                .rows("accounts")
                .values()
                .all(|row| row["note"] == "changed")
        })
        .await;
}
