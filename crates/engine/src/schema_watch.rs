//! Watches the catalog for changed tables, and installs captures again where needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use db::DbError;
use tracing::{error, info, warn};

use crate::state::EngineState;

/// Interval of checks for tables that have changed.
const CATALOG_INTERVAL: Duration = Duration::from_secs(1);

/// Watches for changes that no trigger reports: a new column, a new partition, a dropped trigger.
pub(crate) async fn watch(state: &EngineState) {
    let mut known = None;
    loop {
        tokio::time::sleep(CATALOG_INTERVAL).await;
        let entities = state.entities.all();
        let complete = entities.len() == state.config.entities.len();
        let version = match state.config.db_pool.catalog_version(&entities).await {
            Ok(version) => version,
            Err(error) => {
                warn!(%error, "the catalog could not be checked");
                continue;
            }
        };
        if complete && known.as_ref() == Some(&version) {
            continue;
        }
        match refresh(state).await {
            // The version was read before the refresh. If the catalog changed in between, the next check finds
            // another version.
            Ok(()) => known = Some(version),
            Err(error) => warn!(%error, "the tables could not be read again"),
        }
    }
}

/// Reads the catalog again, and installs the captures of changed tables.
pub(crate) async fn refresh(state: &EngineState) -> Result<(), DbError> {
    let _one_at_a_time = state.refreshing.lock().await;
    let before = state.entities.all();
    let mut entities = BTreeMap::new();
    let mut failed = None;
    for config in &state.config.entities {
        let name = &config.name;
        let installed = match state.config.db_pool.install(config).await {
            Ok(installed) => installed,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                // A table that cannot be read must not keep the others from being read.
                entities.extend(before.get(name).map(|known| (name.clone(), known.clone())));
                failed = Some(error);
                continue;
            }
        };
        match installed {
            Ok(Some(described)) => {
                let entity = Arc::new(described.entity);
                if before
                    .get(name)
                    .is_none_or(|known| known.fingerprint != entity.fingerprint)
                {
                    info!(
                        entity = name,
                        "the schema of the table has changed; clients refetch it"
                    );
                }
                entities.insert(name.clone(), entity);
            }
            Ok(None) => {
                if before.contains_key(name) {
                    error!(
                        entity = name,
                        "the table is missing; its clients wait until it exists again"
                    );
                }
            }
            Err(reason) => {
                if before.contains_key(name) {
                    error!(entity = name, %reason, "the table can no longer be synced");
                }
            }
        }
    }
    state.entities.replace(entities);
    failed.map_or(Ok(()), Err)
}
