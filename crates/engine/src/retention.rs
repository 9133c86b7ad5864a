//! Retention: the log forgets by age and by size, in small batches, on one server at a time.

use std::time::Duration;

use db::listener::WakeUp;
use db::{DbError, DbPool};
use tracing::{debug, warn};

use crate::state::EngineState;

/// Between two batches, so that nobody is held up.
const BREATH: Duration = Duration::from_millis(20);

/// Younger entries stay whatever is configured: another server may not have read them yet.
const AGE_MIN: Duration = Duration::from_secs(2);

/// Looks now and then, until the engine shuts down.
pub(crate) async fn run(state: &EngineState) {
    loop {
        tokio::time::sleep(Duration::from_millis(state.config.retention.interval_ms)).await;
        let status = *state.listener.borrow();
        // Of several servers the leader does it; without notifications there is none, and doing it
        // twice does no harm.
        if !status.leader && status.wake_up != WakeUp::Polling {
            continue;
        }
        if let Err(error) = round(state).await {
            warn!(%error, "the log could not be pruned; trying again later");
        }
    }
}

async fn round(state: &EngineState) -> Result<(), DbError> {
    let (db, config) = (&state.config.db_pool, &state.config.retention);
    let age = Duration::from_secs(config.hours.saturating_mul(3600)).max(AGE_MIN);
    state.caught_up().await?;
    prune_older_than(db, age).await?;
    loop {
        let (size, _) = db.log_size().await?;
        metrics::gauge!("rhtmx_sync_log_bytes").set(size as f64);
        if size <= config.size_max_mb.saturating_mul(1024 * 1024) {
            break;
        }
        let pruned = db.prune_oldest().await?;
        counted(pruned.rows);
        if !pruned.floor_moved && pruned.rows == 0 {
            // Everything that is old enough for a mark is gone; the rest has its turn next time.
            break;
        }
        // The rest of what lies below the floor goes before the floor moves again.
        tokio::time::sleep(BREATH).await;
        prune_older_than(db, age).await?;
    }
    // For the rounds to come: by then other servers have read what it sees.
    db.make_checkpoint().await
}

/// Forgets what is older than `age`, batch by batch; gives the number of entries that went.
pub(crate) async fn prune_older_than(db: &DbPool, age: Duration) -> Result<u64, DbError> {
    let mut gone = 0;
    loop {
        let pruned = db.prune_older_than(age).await?;
        counted(pruned.rows);
        gone += pruned.rows;
        if !pruned.more {
            return Ok(gone);
        }
        tokio::time::sleep(BREATH).await;
    }
}

fn counted(rows: u64) {
    if rows > 0 {
        debug!(rows, "pruned the log");
        metrics::counter!("rhtmx_sync_log_pruned_total").increment(rows);
    }
}
