//! Whether a lone write is heard of at once, or only when somebody looks at the clock.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{ClientOptions, SyncClient};
use tokio::time::sleep;

use crate::database::Database;

/// Long enough for a listener to fall asleep, which it does after a quiet 20 milliseconds.
const QUIET: Duration = Duration::from_millis(100);
/// Half the time after which it looks by itself.
const LATE: Duration = Duration::from_millis(500);
const WRITES: usize = 7;

/// Writes now and then while all else is at rest. Most writes that come late are a doorbell that does
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
