//! Keeps the plans as the catalog says, and has asked again what changes without a write.

use std::collections::BTreeSet;
use std::time::Duration;

use db::DbResult;
use tracing::warn;

use crate::state::EngineState;

/// How often it is looked at the clock.
const TICK: Duration = Duration::from_secs(1);
/// What failed is asked again after so many looks.
const FAILED_TICKS: u64 = 5;

/// Makes the plans, when the engine starts.
///
/// # Errors
/// When the database fails, or has no policies.
pub(crate) async fn start(state: &EngineState) -> DbResult<()> {
    if state.row_level.is_unused() {
        return Ok(());
    }
    look(state).await.map(drop)
}

/// Makes those plans afresh that the catalog has changed. Returns the entities of which roles may see something else.
pub(crate) async fn refresh(state: &EngineState) -> BTreeSet<String> {
    if state.row_level.is_unused() {
        return BTreeSet::new();
    }
    match look(state).await {
        Ok(changed) => changed,
        Err(error) => {
            warn!(%error, "the policies could not be read; what roles saw so far still counts");
            BTreeSet::new()
        }
    }
}

/// Has asked again what depends on the clock, as it passes, however long the catalog takes.
pub(crate) async fn watch_clock(state: &EngineState) {
    if state.row_level.is_unused() {
        return;
    }
    for tick in 1_u64.. {
        tokio::time::sleep(TICK).await;
        let is_failed_due = tick.is_multiple_of(FAILED_TICKS);
        if !state.hub.ask_groups_again(is_failed_due) {
            continue;
        }
        // What is found is published at a position of its own, and without a transaction there would be none.
        match state.config.db_pool.advance().await {
            Ok(()) => state.wake(),
            Err(error) => {
                warn!(%error, "policies that depend on the time could not be asked again");
            }
        }
    }
}

async fn look(state: &EngineState) -> DbResult<BTreeSet<String>> {
    let all = state.entities.all();
    state.row_level.look(&state.config.db_pool, &all).await
}
