//! A follower: drains when the leader or a writer rings, and takes the lead when the leader is gone.

use std::time::Duration;

use sync_core::cursor::Cursor;
use sync_core::doorbell::Event;
use tokio::time::Instant;

use super::line::try_lock_shared;
use super::{Ended, FOLLOWER_KEY, Line};
use crate::listener::WakeUp;
use crate::postgres::connect::failed;
use crate::postgres::store::in_schema;

/// Claims the lead for this database session, unless the session that claimed it still exists. Any role could
/// keep an advisory lock.
const CLAIM_LEAD: &str = "\
UPDATE _rhtmx_sync_lock l SET pid = pg_backend_pid(), \
backend_start = (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) \
WHERE name = 'leader' AND (l.pid IS NULL OR NOT EXISTS ( \
SELECT FROM pg_stat_get_activity(l.pid) a WHERE a.backend_start = l.backend_start))";

/// Between two attempts to take the lead.
const LEAD_PAUSE: Duration = Duration::from_secs(1);

impl Line<'_> {
    /// Tries to become the leader. An observer never does.
    pub(super) async fn takes_the_lead(&self) -> Result<bool, Ended> {
        if self.owner.context.observes {
            return Ok(false);
        }
        let claim = in_schema(CLAIM_LEAD, &self.log_schema);
        let claimed = self.l.execute(&claim, &[]).await;
        Ok(claimed.map_err(|error| failed("taking the lead", &error))? > 0)
    }

    /// Follows until this server has become the leader.
    pub(super) async fn follow(&mut self, reached: &mut Option<Cursor>) -> Result<(), Ended> {
        self.owner.report(WakeUp::Notify, false);
        // The leader takes this lock for moments only; any other session that keeps it makes the leader ring.
        let mut announced = false;
        while !self.takes_the_lead().await? {
            if !announced {
                // From here on the leader rings for this server; what it found before is in the log.
                announced = try_lock_shared(&self.l, FOLLOWER_KEY, "following").await?;
            }
            self.drain_when_rung(reached).await?;
        }
        if announced {
            let unlock = format!("SELECT pg_advisory_unlock_shared({FOLLOWER_KEY})");
            self.execute("leading", &unlock).await?;
        }
        Ok(())
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
