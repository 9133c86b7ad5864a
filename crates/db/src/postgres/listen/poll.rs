//! Polling, for a connection on which notifications do not arrive.

use std::convert::Infallible;
use std::time::Duration;

use sync_core::cursor::Cursor;
use tracing::warn;

use super::{Ended, Line};
use crate::listener::WakeUp;
use crate::postgres::capture::CHANNEL;
use crate::postgres::connect::failed;

/// How long the test notification may take before the listener gives up notifications.
const SELF_TEST: Duration = Duration::from_secs(3);
/// Between two drains.
const POLL: Duration = Duration::from_millis(100);

impl Line<'_> {
    /// Listens, and returns whether a notification of the other connection arrives while this one is idle. A pooler that
    /// gives a session to each transaction swallows it silently: it would pass on only what L itself sends.
    pub(super) async fn is_notified(&self) -> Result<bool, Ended> {
        // One backend for two connections shows the pooler before anything is left behind in its sessions.
        let is_heard = self.l_pid != self.w_pid && self.hears_the_other().await?;
        if !is_heard {
            warn!(
                "notifications do not arrive on this connection (a transaction pooler?): polling the log instead; set \
                 `database.listen_url` to a direct connection"
            );
        }
        Ok(is_heard)
    }

    async fn hears_the_other(&self) -> Result<bool, Ended> {
        self.execute("listening", &format!("LISTEN {CHANNEL}"))
            .await?;
        let notify = format!("SELECT pg_catalog.pg_notify('{CHANNEL}', 'test')");
        self.w
            .batch_execute(&notify)
            .await
            .map_err(|error| failed("testing notifications", &error))?;
        tokio::select! {
            () = self.rung.notified() => Ok(true),
            () = self.broken.cancelled() => Err(self.lost()),
            () = tokio::time::sleep(SELF_TEST) => Ok(false),
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
