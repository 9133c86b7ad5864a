//! Drains: everything new in the log goes to the subscriber, even while single tables cannot be read.
//!
//! A statement that reads a table waits for any transaction that holds an exclusive lock on it, or waits for
//! one (`ALTER TABLE`, `VACUUM FULL`, `REINDEX`). Such tables are left out until they are free again. If the
//! log has changes of one all the same, from just before the lock, they hold up those of the others for a
//! moment; then the table's clients are told to refetch, and only they wait.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sync_core::cursor::{Cursor, Position};
use tokio::time::Instant;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tracing::{debug, warn};

use super::{Ended, Line};
use crate::entity::Entity;
use crate::error::DbError;
use crate::feed::{Drain, DrainError};
use crate::postgres::connect::failed;
use crate::postgres::read::{commit_id, dialect, parameters};
use crate::read::collect::{ChangeRow, ChangesCollector};
use crate::read::{Fingerprints, sql};

/// Between two checks of locked tables.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);
/// How long the changes of a locked table hold up those of others.
const LOCKED_PATIENCE: Duration = Duration::from_secs(1);
/// The number of drains that may fail in a row before the connection is given up.
const FAILURES_MAX: u32 = 10;

type EntityMap = Arc<BTreeMap<String, Arc<Entity>>>;

/// The state that is kept from one drain to the next.
#[derive(Default)]
pub(super) struct Draining {
    prepared: Option<Prepared>,
    /// Entities whose tables cannot be read at the moment.
    locked: Vec<String>,
    locks_checked: Option<Instant>,
}

/// The drain's statement, valid as long as the tables stay as they are.
struct Prepared {
    entities: EntityMap,
    without: Vec<String>,
    /// Whether it returns undo records.
    undo: bool,
    statement: Statement,
}

impl Line<'_> {
    /// Reads and publishes everything that is new. Returns whether anything was.
    pub(super) async fn drain(&mut self, reached: &mut Option<Cursor>) -> Result<bool, Ended> {
        let Some(reached) = reached else {
            return Err(Ended::Gap);
        };
        self.pacer.rest(&*self.owner.context.subscriber).await;
        let began = Instant::now();
        let from = reached.position.clone();
        let mut failures = 0;
        let mut held_up_since: Option<Instant> = None;
        loop {
            self.check_locked().await?;
            let gives_up = held_up_since.is_some_and(|since| since.elapsed() >= LOCKED_PATIENCE);
            let error = match self.drain_once(&from, gives_up).await {
                Ok((position, found)) => {
                    reached.position = (*position).clone();
                    if found {
                        self.pacer.found(began);
                    }
                    return Ok(found);
                }
                Err(error) => error,
            };
            match error {
                DrainError::Gap => return Err(Ended::Gap),
                DrainError::Db(error) if error.is_retryable() && self.broken.is_cancelled() => {
                    return Err(error.into());
                }
                DrainError::Locked(entity) => {
                    debug!(entity, "waiting for a locked table");
                    held_up_since.get_or_insert_with(Instant::now);
                    self.pause(LOCKED_PAUSE).await?;
                }
                // A table may be locked, or may have changed.
                DrainError::Db(error) => {
                    failures += 1;
                    if failures > FAILURES_MAX {
                        return Err(error.into());
                    }
                    if failures > 1 {
                        warn!(%error, failures, "the log could not be read; reading the catalog again");
                        self.pause(crate::backoff::pause(failures)).await?;
                    }
                    let all = self.owner.context.entities.all();
                    self.draining.locked = self.locked_among(all.keys()).await?;
                    if self.draining.locked.is_empty() || failures > 1 {
                        self.owner.context.subscriber.refresh().await?;
                    }
                }
            }
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.broken.cancelled() => Err(self.lost()),
        }
    }

    async fn drain_once(
        &mut self,
        from: &Position,
        gives_up: bool,
    ) -> Result<(Arc<Position>, bool), DrainError> {
        let Position::Snapshot(snapshot) = from else {
            return Err(DrainError::Gap);
        };
        let entities = self.owner.context.entities.with_missing();
        // Taken before the statement starts. A shape attached later may need columns that this drain does
        // not read.
        let old_value_columns = self.owner.context.subscriber.old_value_columns();
        let statement = self
            .statement(&entities, !old_value_columns.is_empty())
            .await?;
        let parameters = parameters(snapshot, &entities, &old_value_columns);
        let context = "draining the log";
        let lines = self
            .l
            .query_raw(&statement, &parameters)
            .await
            .map_err(|error| failed(context, &error))?;
        let mut lines = pin!(lines);
        let subscriber = self.owner.context.subscriber.clone();
        let mut drain = Drain::new(&*subscriber, from, old_value_columns)
            .without(&self.draining.locked, gives_up);
        let mut collector = ChangesCollector::new(commit_id, Fingerprints::new());
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| failed(context, &error))?;
            let row = change_row(&line).map_err(|error| failed(context, &error))?;
            for part in collector.take(row)? {
                drain.take(part).await?;
            }
        }
        if let Some(part) = collector.finish() {
            drain.take(part).await?;
        }
        drain.finish().ok_or(DrainError::Gap)
    }

    /// The drain's statement, without the tables that are locked.
    async fn statement(&mut self, entities: &EntityMap, undo: bool) -> Result<Statement, DbError> {
        let without = &self.draining.locked;
        if let Some(prepared) = &self.draining.prepared
            && Arc::ptr_eq(&prepared.entities, entities)
            && prepared.without == *without
            && prepared.undo == undo
        {
            return Ok(prepared.statement.clone());
        }
        let readable: BTreeMap<String, Arc<Entity>> = entities
            .iter()
            .filter(|(name, _)| !without.contains(name))
            .map(|(name, entity)| (name.clone(), entity.clone()))
            .collect();
        let prepared = self
            .l
            .prepare(&sql::changes_sql(
                &dialect(&self.log_schema),
                &readable,
                undo,
                false,
            ))
            .await;
        let statement = prepared.map_err(|error| failed("preparing the drain", &error))?;
        let (entities, without) = (entities.clone(), without.clone());
        self.draining.prepared = Some(Prepared {
            entities,
            without,
            undo,
            statement: statement.clone(),
        });
        Ok(statement)
    }

    /// Checks whether the tables that were locked are free, unless that was done just now.
    async fn check_locked(&mut self) -> Result<(), Ended> {
        let just_now = self
            .draining
            .locks_checked
            .is_some_and(|at| at.elapsed() < LOCKED_PAUSE);
        if !self.draining.locked.is_empty() && !just_now {
            let locked = std::mem::take(&mut self.draining.locked);
            self.draining.locked = self.locked_among(locked.iter()).await?;
        }
        Ok(())
    }

    /// The entities of which no row can be read because another transaction holds the table, one of its
    /// partitions or an index. Planning such a read takes the same locks as the read.
    async fn locked_among(
        &mut self,
        names: impl Iterator<Item = &String>,
    ) -> Result<Vec<String>, Ended> {
        let all = self.owner.context.entities.all();
        let mut locked = Vec::new();
        for name in names {
            let Some(entity) = all.get(name).filter(|entity| entity.relation.is_some()) else {
                continue;
            };
            // The key is not known to the planner, so that it cannot prune partitions.
            let probe = format!(
                "BEGIN; SET LOCAL lock_timeout = '20ms'; \
                 EXPLAIN SELECT {} FROM (SELECT current_setting('rhtmx_sync.client_id', true) AS entity_id) ranked",
                entity.row_by_key
            );
            let probed = self.l.batch_execute(&probe).await;
            self.execute("checking for locks", "ROLLBACK").await?;
            if probed.is_err_and(|error| error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)) {
                locked.push(name.clone());
            }
        }
        self.draining.locks_checked = Some(Instant::now());
        Ok(locked)
    }
}

fn change_row(line: &tokio_postgres::Row) -> Result<ChangeRow, tokio_postgres::Error> {
    ChangeRow::read(
        |index, _| line.try_get(index),
        |index, _| line.try_get(index),
    )
}
