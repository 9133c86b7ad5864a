//! Which database has what of which, so that each may forget what all have.

use merge::{Clock, Horizons, NodeId};

use super::{Replica, ReplicaError, now_ms};

/// The clocks of servers may differ, and a write takes a while from its receipt to its commit. A horizon is so much older than
/// what servers refuse.
const MARGIN_MS: u64 = 24 * 3_600_000;

/// A horizon rises once an hour: databases that rest are written to no more often.
const STEP_MS: u64 = 3_600_000;

impl Replica {
    /// What this database tells others of an entity, once they have merged all that it had when this was asked.
    pub(super) async fn horizons(&self, entity: &str) -> Result<Horizons, ReplicaError> {
        let mut peers = self.pool.peers(entity).await?;
        let before = peers.horizons().clone();
        let kept_ms = self.clock_hours.saturating_mul(3_600_000);
        let millis = now_ms().saturating_sub(kept_ms.saturating_add(MARGIN_MS));
        let millis = millis - millis % STEP_MS;
        peers.raise_horizon(Clock::new(millis, 0, &NodeId::of_client(&[0; 16])));
        self.store(entity, &before, peers.horizons()).await?;
        Ok(peers.horizons().clone())
    }

    /// Takes what another database told, after all that it had then has been merged here. While some of it is parked, that is
    /// not so.
    pub(super) async fn hear(
        &self,
        entity: &str,
        from: &NodeId,
        told: &Horizons,
    ) -> Result<(), ReplicaError> {
        if !self.pool.parked(entity, None, 1).await?.is_empty() {
            return Ok(());
        }
        let mut peers = self.pool.peers(entity).await?;
        let before = peers.horizons().clone();
        match peers.hear(from, told) {
            Ok(()) => self.store(entity, &before, peers.horizons()).await,
            Err(error) => {
                tracing::warn!(%error, entity, "old clocks and tombstones are kept");
                Ok(())
            }
        }
    }

    /// Up to where all databases have everything of an entity.
    pub(super) async fn frontier(&self, entity: &str) -> Result<Clock, ReplicaError> {
        let peers = self.pool.peers(entity).await?;
        Ok(peers.frontier().cloned().unwrap_or_else(Clock::ground))
    }

    async fn store(
        &self,
        entity: &str,
        before: &Horizons,
        after: &Horizons,
    ) -> Result<(), ReplicaError> {
        match before == after {
            true => Ok(()),
            false => Ok(self.pool.raise_horizons(entity, after).await?),
        }
    }
}
