//! Whether the change of a single write arrives at once, or only with the listener's next look at the
//! log.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{ClientOptions, SyncClient};
use tokio::time::sleep;

use crate::database::Database;

/// Long enough for a listener to fall asleep, which it does after 20 quiet milliseconds.
const QUIET: Duration = Duration::from_millis(100);
/// Half the interval after which a listener looks by itself.
const LATE: Duration = Duration::from_millis(500);
const WRITES: usize = 7;

/// Writes now and then while everything else is at rest. When most changes are late, the doorbell does
/// not ring; a busy machine delays a few.
pub(crate) async fn late_writes(db: &Database, url: &str) -> Result<(), String> {
    let mut client = SyncClient::connect(url, ClientOptions::default()).await;
    client.subscribe("accounts", "accounts").await;
    client.wait_subscribed("accounts").await;
    let writer = db.connect().await;
    let mut took = Vec::new();
    for number in 0..WRITES {
        sleep(QUIET).await;
        let note = format!("lone {number}");
        writer
            .batch_execute(&format!("UPDATE accounts SET note = '{note}' WHERE id = 1"))
            .await
            .map_err(|error| error.to_string())?;
        let written = Instant::now();
        client
            .wait_until(|client| {
                client
                    .row("accounts", "1")
                    .is_some_and(|row| row["note"] == json!(note))
            })
            .await;
        took.push(written.elapsed());
    }
    let late = took.iter().filter(|took| **took > LATE).count();
    if late > WRITES / 2 {
        Err(format!("lone writes arrive late: {took:?}"))
    } else {
        Ok(())
    }
}
