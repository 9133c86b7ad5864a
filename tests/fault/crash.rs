//! A crash of PostgreSQL takes back transaction numbers that nothing durable has used. A later
//! transaction with such a number must not be taken for the one that a cursor has seen.

use testkit::{ClientOptions, ServerProcess, SyncClient};

use crate::database::Database;

/// A cursor sees a transaction that was rolled back and never written to disk; after the crash another
/// one with the same number commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_transaction_number_is_not_taken_for_the_old_one() {
    let db = Database::start().await;
    let server = ServerProcess::spawn(
        ["--bind", "127.0.0.1:0", "--entity", "accounts"],
        [("DATABASE_URL", db.url())],
    )
    .await;
    // A commit writes the WAL; otherwise it is written only every ten seconds, so that uncommitted
    // changes stay unwritten for certain.
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
        // The server reconnects to the database in its own time.
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
