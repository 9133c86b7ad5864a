//! Retention: prunes the log by age and by size, in small batches, on one server at a time, and folds the clocks of fields.

use std::time::{Duration, Instant};

use db::listener::WakeUp;
use db::{DbError, DbPool};
use filter::Backend;
use tracing::{debug, warn};

use crate::folding::{self, Place};
use crate::state::EngineState;

/// The pause between two batches, so that pruning holds nobody up.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// On SQLite nobody else can write meanwhile, and a program with its default settings does not even wait: the pause is
/// this many times as long as the batch took, so that few of its writes meet one.
const SQLITE_PAUSES: u32 = 200;

/// The longest pause, so that pruning keeps up with a busy log.
const SQLITE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Younger entries are kept whatever is configured: another server may not have read them yet.
const AGE_MIN: Duration = Duration::from_secs(2);

/// Prunes the log at every interval, until the engine shuts down.
pub(crate) async fn run(state: &EngineState) {
    let mut place = Place::default();
    loop {
        tokio::time::sleep(Duration::from_millis(state.config.retention.interval_ms)).await;
        let status = *state.listener.borrow();
        // Of several servers, the leader prunes. Without notifications there is no leader, and pruning twice
        // does no harm.
        if !status.leader && status.wake_up != WakeUp::Polling {
            continue;
        }
        if let Err(error) = prune(state).await {
            warn!(%error, "the log could not be pruned; retrying later");
        }
        if let Err(error) = folding::fold(state, &mut place, pause).await {
            warn!(%error, "what is known of rows could not be folded; retrying later");
        }
    }
}

async fn prune(state: &EngineState) -> Result<(), DbError> {
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
        let began = Instant::now();
        let pruned = db.prune_oldest().await?;
        let pause = pause(db, began.elapsed());
        count_pruned(pruned.rows);
        if !pruned.floor_moved && pruned.rows == 0 {
            // Everything below the newest checkpoint is gone; the rest is left to the next round.
            break;
        }
        // Prune everything below the floor before the floor moves again.
        tokio::time::sleep(pause).await;
        prune_older_than(db, age).await?;
    }
    // For later rounds: by then the other servers have read what the checkpoint contains.
    db.make_checkpoint().await
}

/// Prunes entries older than `age`, batch by batch, and returns their number.
pub(crate) async fn prune_older_than(db: &DbPool, age: Duration) -> Result<u64, DbError> {
    let mut rows = 0;
    loop {
        let began = Instant::now();
        let pruned = db.prune_older_than(age).await?;
        let pause = pause(db, began.elapsed());
        count_pruned(pruned.rows);
        rows += pruned.rows;
        if !pruned.more {
            return Ok(rows);
        }
        tokio::time::sleep(pause).await;
    }
}

fn pause(db: &DbPool, took: Duration) -> Duration {
    match db.filter_backend() {
        Backend::Postgres => BATCH_PAUSE,
        Backend::Sqlite => (took * SQLITE_PAUSES).clamp(BATCH_PAUSE, SQLITE_PAUSE_MAX),
    }
}

fn count_pruned(rows: u64) {
    if rows > 0 {
        debug!(rows, "pruned the log");
        metrics::counter!("rhtmx_sync_log_pruned_total").increment(rows);
    }
}
