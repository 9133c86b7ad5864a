//! Watches the catalog for changed tables, and installs captures again where needed. Tries again what could not
//! be read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use db::entity::EntityConfig;
use db::health::Unreadable;
use db::{DbError, backoff};
use sync_core::log::ChangeKind;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::policy_watch;
use crate::state::EngineState;

/// Interval of checks for tables that have changed.
const CATALOG_INTERVAL: Duration = Duration::from_secs(1);
/// After this many refreshes that failed in a row, a table no longer counts as what it was.
const FAILURES_MAX: u32 = 2;

/// Watches for changes that no trigger reports: a new column, a new partition, a dropped trigger.
pub(crate) async fn watch(state: &EngineState) {
    let mut known = None;
    let mut failing: BTreeSet<String> = BTreeSet::new();
    let mut failures = 0;
    let mut retry_at = Instant::now();
    loop {
        publish_health(state);
        tokio::time::sleep(CATALOG_INTERVAL).await;
        for entity in policy_watch::refresh(state).await {
            refetch(state, &entity).await;
        }
        try_rows_again(state).await;
        let entities = state.entities.all();
        let version = match state.config.db_pool.catalog_version(&entities).await {
            Ok(version) => version,
            Err(error) => {
                warn!(%error, "the catalog could not be checked");
                continue;
            }
        };
        let configured = state.entities.configured();
        let is_new = known.as_ref() != Some(&version);
        let due: BTreeSet<String> = if is_new {
            configured.clone()
        } else {
            // A missing table may exist by now.
            let missing = configured
                .iter()
                .filter(|name| !entities.contains_key(*name) && !failing.contains(*name));
            let failing = failing.iter().filter(|_| retry_at <= Instant::now());
            missing.chain(failing).cloned().collect()
        };
        if due.is_empty() {
            continue;
        }
        let failed = refresh(state, &due).await;
        failing.retain(|name| !due.contains(name));
        failing.extend(failed);
        failures = if failing.is_empty() { 0 } else { failures + 1 };
        retry_at = Instant::now() + backoff::pause(failures);
        // The version was read before the refresh. If the catalog changed in between, the next check finds another
        // version.
        known = Some(version);
    }
}

/// Reads these entities' tables again, and installs the captures of those that have changed. One that is locked,
/// or fails, stays as it was known and is returned.
pub(crate) async fn refresh(state: &EngineState, names: &BTreeSet<String>) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    for config in &state.config.entities {
        if names.contains(&config.name) && !refresh_one(state, config).await {
            failed.insert(config.name.clone());
        }
    }
    failed
}

/// Reads one entity's table again. Returns whether that was possible.
async fn refresh_one(state: &EngineState, config: &EntityConfig) -> bool {
    let name = &config.name;
    let Some(failures) = state.refreshing.get(name) else {
        return true;
    };
    let mut failures = failures.lock().await;
    let before = state.entities.find(name);
    let health = state.config.db_pool.health();
    let reason = match state.config.db_pool.install(config).await {
        Ok(Ok(Some(described))) => {
            let entity = Arc::new(described.entity);
            let has_changed = before.is_none_or(|known| known.fingerprint != entity.fingerprint);
            if has_changed {
                info!(
                    entity = name,
                    "the schema of the table has changed; clients refetch it"
                );
                health.forget_rows(name);
            }
            state.entities.replace_one(name, Some(entity));
            if has_changed {
                check_policies(state);
            }
            if config.rls {
                let mut changed = policy_watch::refresh(state).await;
                // Its own clients are told by the caller.
                changed.remove(name);
                for entity in changed {
                    refetch(state, &entity).await;
                }
            }
            None
        }
        Ok(Ok(None)) => {
            if before.is_some() {
                error!(
                    entity = name,
                    "the table is missing; its clients wait until it exists again"
                );
            }
            state.entities.replace_one(name, None);
            health.forget_rows(name);
            Some(Unreadable::Missing)
        }
        Ok(Err(reason)) => {
            if before.is_some() {
                error!(entity = name, %reason, "the table can no longer be synced");
            }
            state.entities.replace_one(name, None);
            Some(Unreadable::NotCaptured)
        }
        Err(error) => {
            not_refreshed(state, name, &error, &mut failures).await;
            return false;
        }
    };
    *failures = 0;
    health.captured(name, reason);
    true
}

/// Checks the policies of all entities: those of others may read the table that has changed.
fn check_policies(state: &EngineState) {
    for entity in state.entities.all().values() {
        if let Err(error) = state.check_policies(entity) {
            error!(%error, "a policy no longer fits its table, or one that it reads; clients get nothing by it");
        }
    }
}

/// A table could not be looked at, or captured. As long as it is only locked, it is what it was. Otherwise it may
/// be another table of the same name, whose changes nobody captures: then its clients must not go on with what
/// they have.
async fn not_refreshed(state: &EngineState, name: &str, error: &DbError, failures: &mut u32) {
    warn!(%error, entity = name, failures, "the table could not be read again");
    if error.is_retryable() {
        return;
    }
    *failures += 1;
    if *failures < FAILURES_MAX {
        return;
    }
    let health = state.config.db_pool.health();
    health.captured(name, Some(error.unreadable()));
    if state.entities.find(name).is_some() {
        error!(
            entity = name,
            "the table can no longer be captured; its clients wait until it can"
        );
        state.entities.replace_one(name, None);
        refetch(state, name).await;
    }
}

/// Tells everyone through the log to read an entity again.
async fn refetch(state: &EngineState, name: &str) {
    let db = &state.config.db_pool;
    match db.record(name, None, ChangeKind::SchemaChange, None).await {
        Ok(_) => state.wake(),
        Err(error) => warn!(%error, entity = name, "clients could not be told to refetch"),
    }
}

/// Tries to read rows that could not be read. When that is possible again although nothing wrote to them, clients
/// learn it by a refetch.
async fn try_rows_again(state: &EngineState) {
    let db = &state.config.db_pool;
    for (name, keys) in db.health().due() {
        let Some(entity) = state.entities.find(&name) else {
            continue;
        };
        match db.readable_rows(&entity, &keys).await {
            Ok(readable) => {
                db.health().checked(&name, &readable);
                if !readable.is_empty() {
                    refetch(state, &name).await;
                }
            }
            Err(error) => warn!(%error, entity = name, "unreadable rows could not be tried again"),
        }
    }
}

/// Updates the metrics of what cannot be read.
fn publish_health(state: &EngineState) {
    let report = state.config.db_pool.health().report();
    for config in &state.config.entities {
        let found = report.iter().find(|found| found.entity == config.name);
        let whole = found.is_some_and(|found| found.reason.is_some());
        let rows = found.map_or(0, |found| found.rows);
        let name = || config.name.clone();
        metrics::gauge!("rhtmx_sync_entity_unreadable", "entity" => name())
            .set(f64::from(u8::from(whole)));
        metrics::gauge!("rhtmx_sync_unreadable_rows", "entity" => name()).set(rows as f64);
    }
}
