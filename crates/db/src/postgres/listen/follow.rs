//! A follower: drains when the leader or a writer rings, and takes the lead when the leader is gone.

use std::time::Duration;

use sync_core::cursor::Cursor;
use sync_core::doorbell::Event;
use tokio::time::Instant;

use super::line::try_lock;
use super::{Ended, FOLLOWER_KEY, LEADER_KEY, Line};
use crate::listener::WakeUp;

/// Between two attempts to take the lead.
const LEAD_PAUSE: Duration = Duration::from_secs(1);

impl Line<'_> {
    /// Tries to become the leader.
    pub(super) async fn takes_the_lead(&self) -> Result<bool, Ended> {
        Ok(try_lock(&self.l, LEADER_KEY, "taking the lead").await?)
    }

    /// Follows until this server has become the leader.
    pub(super) async fn follow(&mut self, reached: &mut Option<Cursor>) -> Result<(), Ended> {
        self.owner.report(WakeUp::Notify, false);
        // The leader takes this lock for moments only.
        self.execute(
            "following",
            &format!("SELECT pg_advisory_lock_shared({FOLLOWER_KEY})"),
        )
        .await?;
        // From here on the leader rings for this server; what it found before is in the log.
        while !self.takes_the_lead().await? {
            self.drain_when_rung(reached).await?;
        }
        self.execute(
            "leading",
            &format!("SELECT pg_advisory_unlock_shared({FOLLOWER_KEY})"),
        )
        .await
    }

    /// Drains, and again at every ring, until the next attempt to take the lead is due.
    async fn drain_when_rung(&mut self, reached: &mut Option<Cursor>) -> Result<(), Ended> {
        let ends = Instant::now() + LEAD_PAUSE;
        loop {
            self.drain(reached).await?;
            let left = ends.saturating_duration_since(Instant::now());
            // The check of `left` ends the loop even when rings come faster than they can be answered.
            if left.is_zero() || self.wait(left, None).await? == Event::Elapsed {
                return Ok(());
            }
        }
    }
}
