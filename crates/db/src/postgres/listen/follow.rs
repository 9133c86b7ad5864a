//! A follower: drains when the leader or a writer rings, and takes the lead when the leader is gone.

use std::time::Duration;

use sync_core::cursor::Cursor;
use sync_core::doorbell::Event;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::line::try_lock_shared;
use super::{Ended, FOLLOWER_KEY, Line};
use crate::listener::WakeUp;
use crate::postgres::connect::failed;
use crate::postgres::store::in_schema;

/// Claims the lead for this database session with the advisory lock `$1`, unless the session that claimed it still holds
/// its own. An advisory lock alone would not do: any role could keep one whose number it knows.
const CLAIM_LEAD: &str = "\
UPDATE _rhtmx_sync_lock l SET pid = pg_backend_pid(), key = $1 \
WHERE name = 'leader' AND NOT EXISTS (SELECT FROM pg_locks k \
WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted AND k.pid = l.pid \
AND k.classid::bigint << 32 | k.objid::bigint = l.key) \
RETURNING pg_try_advisory_lock($1)";

/// Between two attempts to take the lead.
const LEAD_PAUSE: Duration = Duration::from_secs(1);

impl Line<'_> {
    /// Tries to become the leader. An observer never does.
    pub(super) async fn takes_the_lead(&self) -> Result<bool, Ended> {
        if self.owner.context.observes {
            return Ok(false);
        }
        let key = Uuid::new_v4().as_u64_pair().0.cast_signed();
        let claim = in_schema(CLAIM_LEAD, &self.log_schema);
        let claimed = self.l.query_typed(&claim, &[(&key, Type::INT8)]).await;
        let claimed = claimed.map_err(|error| failed("taking the lead", &error))?;
        Ok(claimed.first().is_some_and(|row| row.get(0)))
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
