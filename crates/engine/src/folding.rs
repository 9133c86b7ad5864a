//! Folds what is kept beside rows that merge by their fields, and forgets tombstones, once nobody can write before them any
//! more: in small batches, a bounded number in a round, on one server at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db::entity::Entity;
use db::folding::Folded;
use db::{DbError, DbPool};
use merge::{Clock, NodeId, Peers};
use tracing::debug;

use crate::clock::now_ms;
use crate::state::EngineState;

/// The most batches of one round.
const BATCHES_MAX: u32 = 40;

/// Servers refuse writes by their own clocks, and a write takes a while from its receipt to its commit. What is folded is so
/// much older than what is refused.
const MARGIN_MS: u64 = 5 * 60 * 1000;

/// Where the next round goes on.
#[derive(Debug, Default)]
pub(crate) struct Place {
    entity: String,
    after: Option<String>,
}

/// Writes that were made before this moment, in milliseconds from 1970, are refused.
pub(crate) fn oldest_write_ms(state: &EngineState, received_ms: u64) -> u64 {
    let kept = state.config.clock_hours().saturating_mul(3_600_000);
    received_ms.saturating_sub(kept)
}

/// Up to where clocks may be folded: where no write comes before any more and, of several databases that write to each other,
/// all have what any of them has admitted up to there.
fn horizon(state: &EngineState, peers: &Peers) -> Option<Clock> {
    let millis = oldest_write_ms(state, now_ms()).saturating_sub(MARGIN_MS);
    let own = Clock::new(millis, 0, &NodeId::of_client(&[0; 16]));
    match peers.is_alone() {
        true => Some(own),
        false => peers.frontier().map(|frontier| own.min(frontier.clone())),
    }
}

/// Folds some entries from `place` on. `pause` says how long to wait after a batch that took so long.
pub(crate) async fn fold(
    state: &EngineState,
    place: &mut Place,
    pause: fn(&DbPool, Duration) -> Duration,
) -> Result<(), DbError> {
    let db = &state.config.db_pool;
    if state.config.clock_hours() == u64::MAX {
        return Ok(());
    }
    let mut wraps = 0;
    for _ in 0..BATCHES_MAX {
        let Some(entity) = next(state, place) else {
            wraps += 1;
            if wraps > 1 {
                break;
            }
            *place = Place::default();
            continue;
        };
        let Some(rules) = &entity.fields else {
            continue;
        };
        let began = Instant::now();
        let peers = db.peers(&place.entity).await?;
        let folded = match horizon(state, &peers) {
            Some(horizon) => {
                let horizon = (&horizon, peers.is_alone());
                db.fold_fields(&place.entity, rules, horizon, place.after.as_deref())
                    .await?
            }
            None => Folded::default(),
        };
        let pause = pause(db, began.elapsed());
        if folded.folded + folded.forgotten > 0 {
            debug!(
                entity = place.entity,
                ?folded,
                "folded what is known of rows"
            );
            metrics::counter!("rhtmx_sync_fields_folded_total").increment(folded.folded);
            metrics::counter!("rhtmx_sync_fields_folded_early_total").increment(folded.early);
            metrics::counter!("rhtmx_sync_fields_forgotten_total").increment(folded.forgotten);
        }
        match folded.last {
            Some(last) => place.after = Some(last),
            // No entity's name sorts between it and this.
            None => {
                place.entity.push('\0');
                place.after = None;
            }
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// The entity of the place, or else the next one, whose rows merge by their fields; the place moves to it.
fn next(state: &EngineState, place: &mut Place) -> Option<Arc<Entity>> {
    let entities = state.entities.all();
    let mut from_here = entities.range(place.entity.clone()..);
    let (name, entity) = from_here.find(|(_, entity)| entity.fields.is_some())?;
    if *name != place.entity {
        *place = Place {
            entity: name.clone(),
            after: None,
        };
    }
    Some(entity.clone())
}
