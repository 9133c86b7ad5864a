//! Polling, for a connection on which notifications do not arrive.

use std::convert::Infallible;
use std::time::Duration;

use sync_core::cursor::Cursor;
use tracing::warn;

use super::{Ended, Line};
use crate::listener::WakeUp;
use crate::postgres::capture::CHANNEL;

/// How long the test notification may take before the listener gives up notifications.
const SELF_TEST: Duration = Duration::from_secs(3);
/// Between two drains.
const POLL: Duration = Duration::from_millis(100);

impl Line<'_> {
    /// Whether a notification sent to this connection arrives. A transaction pooler swallows it silently.
    pub(super) async fn is_notified(&self) -> Result<bool, Ended> {
        self.execute(
            "testing notifications",
            &format!("SELECT pg_notify('{CHANNEL}', 'test')"),
        )
        .await?;
        tokio::select! {
            () = self.rung.notified() => Ok(true),
            () = self.broken.cancelled() => Err(self.lost()),
            () = tokio::time::sleep(SELF_TEST) => {
                warn!(
                    "notifications do not arrive on this connection (a transaction pooler?): polling the log \
                     instead; set `database.listen_url` to a direct connection"
                );
                Ok(false)
            }
        }
    }

    /// Drains at a fixed interval.
    pub(super) async fn poll(&mut self, reached: &mut Option<Cursor>) -> Result<Infallible, Ended> {
        self.owner.report(WakeUp::Polling, false);
        loop {
            self.drain(reached).await?;
            self.wait(POLL, None).await?;
        }
    }
}
