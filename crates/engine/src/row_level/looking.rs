//! Looks at the catalog whether the plans are still right.

use std::collections::BTreeSet;
use std::sync::Arc;

use db::entity::EntityMap;
use db::{DbError, DbPool, DbResult, PolicyReader};
use tracing::info;

use super::{RowLevel, making};

impl RowLevel {
    /// Looks at the catalog, and makes those plans afresh that it has changed. Returns the entities of which roles may see
    /// something else.
    pub(crate) async fn look(&self, db: &DbPool, all: &EntityMap) -> DbResult<BTreeSet<String>> {
        let mut kept = self.reader.lock().await;
        let reader = match kept.take() {
            Some(reader) => reader,
            None => open(db).await?,
        };
        let known = self.plans();
        let version = reader.version().await?;
        let is_right = known.version == version
            && self.entities.iter().all(|name| {
                let fingerprint = all.get(name).map(|entity| entity.fingerprint.as_str());
                let planned = known.entities.get(name);
                planned.map(|planned| planned.fingerprint.as_str()) == fingerprint
            });
        if is_right {
            *kept = Some(reader);
            return Ok(BTreeSet::new());
        }
        let mut plans = making::make(
            &reader,
            &self.entities,
            all,
            &known,
            &self.relations,
            &version,
        )
        .await?;
        plans.settings = Arc::new(self.made(&plans.settings));
        db.empty_settings(&plans.settings);
        let changed = self.replace(plans);
        for entity in &changed {
            info!(
                entity,
                "the policies of {entity:?}, or what they depend on, have changed; clients refetch it"
            );
        }
        *kept = Some(reader);
        Ok(changed)
    }
}

async fn open(db: &DbPool) -> DbResult<PolicyReader> {
    let reader = db.policy_reader().await?;
    reader.ok_or_else(|| DbError::Unsupported("SQLite has no row level security".to_owned()))
}
