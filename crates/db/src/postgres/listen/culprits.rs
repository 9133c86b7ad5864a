//! After a drain has failed: which tables cannot be read, and when to try them again.
//!
//! A table that cannot be read at all is left out of the drains. Planning a read of it tells that: it takes the
//! same locks and asks for the same rights as the read. When all plans are good, reading some row fails. Then
//! all entities with new entries are guarded for a while, which means that their rows are read one by one. One whose
//! changes cannot be read even so is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sync_core::cursor::Position;
use sync_core::snapshot::Snapshot;
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, warn};

use super::{Ended, Line};
use crate::entity::Entity;
use crate::health::Unreadable;
use crate::postgres::connect::{failed, unreadable};
use crate::postgres::dialect::dialect;
use crate::postgres::read::{changes_sql, parameters};
use crate::postgres::store::in_schema;
use crate::read::{Fingerprints, OldValueColumns};

/// How often a table is looked at when that fails for reasons that may not be the table's. A damaged one fails each time.
const PROBES_MAX: u32 = 3;

impl Line<'_> {
    /// Takes in again what was left out and can be read now.
    pub(super) async fn try_left_out(&mut self) -> Result<(), Ended> {
        for name in self.draining.left_out.due() {
            match self.why_unplannable(&name).await? {
                Some(reason) => {
                    self.draining.left_out.failed_again(&name, reason);
                    self.owner.health.leave_out(&name, reason);
                }
                None => {
                    self.draining.left_out.remove(&name);
                    self.owner.health.take_in(&name);
                }
            }
        }
        Ok(())
    }

    /// Finds out which entities make drains from this position fail, and guards them or leaves them out.
    pub(super) async fn find_culprits(&mut self, from: &Position) -> Result<(), Ended> {
        let Position::Snapshot(from) = from else {
            return Ok(());
        };
        let mut unplannable = BTreeMap::new();
        for name in self.read_entities().keys() {
            if let Some(reason) = self.why_unplannable(name).await? {
                unplannable.insert(name.clone(), reason);
            }
        }
        let changed: BTreeSet<String> = unplannable
            .iter()
            .filter(|(_, reason)| **reason != Unreadable::Locked)
            .map(|(name, _)| name.clone())
            .collect();
        if !changed.is_empty() {
            // Most often a column was renamed or dropped a moment ago.
            self.owner.context.subscriber.refresh(changed.clone()).await;
            for name in changed {
                match self.why_unplannable(&name).await? {
                    Some(reason) => unplannable.insert(name, reason),
                    None => unplannable.remove(&name),
                };
            }
        }
        let found = !unplannable.is_empty();
        for (name, reason) in unplannable {
            self.leave_out(&name, reason, from).await?;
        }
        if found {
            return Ok(());
        }
        // Some row fails. To find out of which entity, each would have to be read; reading rows one by one for a
        // while costs less.
        let changed = self.entities_with_entries(from).await?;
        let guarded: Vec<bool> = changed
            .iter()
            .map(|name| self.owner.health.guard(name))
            .collect();
        if guarded.contains(&true) {
            return Ok(());
        }
        for name in changed {
            if let Some((reason, error)) = self.why_unreadable(&name, from).await? {
                warn!(
                    entity = name,
                    error, "the changes of the table cannot be read"
                );
                self.leave_out(&name, reason, from).await?;
            }
        }
        Ok(())
    }

    /// The entities that drains read.
    fn read_entities(&self) -> BTreeMap<String, Arc<Entity>> {
        let mut all = (*self.owner.context.entities.all()).clone();
        all.retain(|name, _| !self.draining.left_out.contains(name));
        all
    }

    /// Why a row of the entity cannot even be looked up. Planning that takes the same locks as the read.
    async fn why_unplannable(&self, name: &str) -> Result<Option<Unreadable>, Ended> {
        let all = self.owner.context.entities.all();
        let Some(entity) = all.get(name).filter(|entity| entity.relation.is_some()) else {
            return Ok(None);
        };
        // A drain that asks locks its tables, for which some rights are not enough that are for a read.
        let lock = match &entity.relation {
            Some(relation) if self.owner.context.subscriber.inquires() => {
                format!("LOCK TABLE {relation} IN ACCESS SHARE MODE; ")
            }
            _ => String::new(),
        };
        // The key is not known to the planner, so that it cannot prune partitions, and does not try to read a number in it.
        let probe = format!(
            "BEGIN; SET LOCAL lock_timeout = '20ms'; {lock}\
             EXPLAIN SELECT {} FROM (SELECT NULL::text AS entity_id OFFSET 0) ranked",
            entity.row_by_key
        );
        let context = "looking for unreadable tables";
        let (mut reason, mut code) = (None, None);
        for _ in 0..PROBES_MAX {
            let probed = self.l.batch_execute(&probe).await;
            self.execute(context, "ROLLBACK").await?;
            let Err(error) = probed else {
                return Ok(None);
            };
            let found = unreadable(&error);
            reason = Some(found);
            code = error.code().map(|code| code.code().to_owned());
            // A statement that was cancelled, or for which there was no memory, may say nothing of the table.
            if found != Unreadable::Failing || !failed(context, &error).is_retryable() {
                break;
            }
        }
        if reason == Some(Unreadable::Failing) {
            debug!(entity = name, code, "reads of the table cannot be planned");
        }
        Ok(reason)
    }

    /// The entities that drains read and that have new entries since this position.
    async fn entities_with_entries(&self, from: &Snapshot) -> Result<Vec<String>, Ended> {
        let entities = self.read_entities();
        let sql = format!(
            "SELECT DISTINCT entity FROM ({}) n",
            dialect(&self.log_schema).new_entries
        );
        let parameters = parameters(from, &entities, &OldValueColumns::new());
        let lines = self.l.query_typed(&sql, &borrowed(&parameters)).await;
        let lines = lines.map_err(|error| failed("looking for entries", &error))?;
        Ok(lines
            .iter()
            .filter_map(|line| line.try_get(0).ok())
            .collect())
    }

    /// Why the entity's changes cannot be read, with the database's message. None of them is sent here.
    async fn why_unreadable(
        &self,
        name: &str,
        from: &Snapshot,
    ) -> Result<Option<(Unreadable, String)>, Ended> {
        let entities: BTreeMap<String, Arc<Entity>> = self
            .read_entities()
            .into_iter()
            .filter(|(other, _)| other == name)
            .collect();
        let mut old_value_columns = (*self.owner.context.subscriber.old_value_columns()).clone();
        old_value_columns.retain(|other, _| other == name);
        let metadata = self.owner.context.subscriber.metadata_entities();
        let changes = changes_sql(
            &self.log_schema,
            &entities,
            &BTreeSet::new(),
            &self.owner.health,
            (
                !old_value_columns.is_empty(),
                &metadata,
                &Fingerprints::new(),
            ),
        );
        // A text that cannot be sent to a client in UTF-8 fails here, too.
        let sql = format!(
            "SELECT sum(length(convert_to(concat(x.key, x.row, x.undo), 'UTF8'))) FROM ({changes}) x"
        );
        let parameters = parameters(from, &entities, &old_value_columns);
        match self.l.query_typed_one(&sql, &borrowed(&parameters)).await {
            Ok(_) => Ok(None),
            Err(_) if self.l.is_closed() => Err(self.lost()),
            Err(error) => Ok(Some((
                unreadable(&error),
                failed("reading the changes of one table", &error).to_string(),
            ))),
        }
    }

    /// Leaves an entity out of the drains. Its clients must learn that what they have is not kept up to date. They
    /// when the log has new entries of it; if not, it gets one.
    async fn leave_out(
        &mut self,
        name: &str,
        reason: Unreadable,
        from: &Snapshot,
    ) -> Result<(), Ended> {
        self.draining.left_out.add(name, reason);
        self.owner.health.leave_out(name, reason);
        if reason == Unreadable::Locked {
            return Ok(());
        }
        let all = self.owner.context.entities.all();
        let only: BTreeMap<String, Arc<Entity>> = all
            .get_key_value(name)
            .map(|(name, entity)| (name.clone(), entity.clone()))
            .into_iter()
            .collect();
        let entries = dialect(&self.log_schema).new_entries;
        let insert = in_schema("INSERT INTO _rhtmx_sync_log", &self.log_schema);
        let sql = format!(
            "{insert} (entity, action) SELECT e.entity, 'schema_change' FROM unnest($3::text::text[]) e(entity) \
             WHERE NOT EXISTS ({entries})"
        );
        let parameters = parameters(from, &only, &OldValueColumns::new());
        if let Err(error) = self.l.execute_typed(&sql, &borrowed(&parameters)).await {
            debug!(%error, entity = name, "clients could not be told through the log");
        }
        Ok(())
    }
}

/// Parameters of an unnamed statement, of which nothing stays in a pooler's session.
fn borrowed(parameters: &[String]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    let borrowed = parameters.iter();
    borrowed
        .map(|parameter| (parameter as _, Type::TEXT))
        .collect()
}
