//! Drains: everything new in the log goes to the subscriber, even while single tables cannot be read.
//!
//! A drain is one statement, so a table that cannot be read makes all of it fail. Then the
//! [culprits](super::culprits) are found and left out, until they can be read again. The changes of a table that
//! is left out make its clients refetch, and only they wait.
//!
//! A statement that reads a table waits for any transaction that holds an exclusive lock on it, or waits for
//! one (`ALTER TABLE`, `VACUUM FULL`, `REINDEX`). If the log has changes of such a table, from just before the
//! lock, they hold up those of the others for a moment, because most such locks are short.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sync_core::cursor::{Cursor, Position};
use tokio::time::Instant;
use tokio_postgres::Statement;
use tracing::{debug, warn};

use super::left_out::{LOCKED_PAUSE, LeftOut};
use super::{Ended, Line};
use crate::entity::EntityMap;
use crate::error::DbError;
use crate::feed::{Drain, DrainError};
use crate::health::Unreadable;
use crate::postgres::connect::failed;
use crate::postgres::read::{changes_sql, commit_id, parameters};
use crate::read::Fingerprints;
use crate::read::collect::{ChangeRow, ChangesCollector};

/// How long the changes of a locked table hold up those of others.
const LOCKED_PATIENCE: Duration = Duration::from_secs(1);
/// The number of drains that may fail in a row before the connection is given up.
const FAILURES_MAX: u32 = 10;

/// What fails when a drain does.
pub(super) const CONTEXT: &str = "draining the log";

/// The state that is kept from one drain to the next.
#[derive(Default)]
pub(super) struct Draining {
    pub(super) prepared: Option<Prepared>,
    pub(super) left_out: LeftOut,
}

/// The drain's statement, valid as long as the tables stay as they are.
pub(super) struct Prepared {
    entities: EntityMap,
    left_out: BTreeSet<String>,
    /// The version of the health for which it was made.
    health: u64,
    /// Whether it returns undo records.
    undo: bool,
    /// The entities of whose rows it returns what is known beside their values.
    metadata: Arc<BTreeSet<String>>,
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
            self.try_left_out().await?;
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
                DrainError::Db(error) if self.broken.is_cancelled() || self.l.is_closed() => {
                    return Err(error.into());
                }
                DrainError::Locked(entity) => {
                    debug!(entity, "waiting for a locked table");
                    held_up_since.get_or_insert_with(Instant::now);
                    self.pause(LOCKED_PAUSE).await?;
                }
                DrainError::Db(error) => {
                    failures += 1;
                    if failures > FAILURES_MAX {
                        return Err(error.into());
                    }
                    if failures > 1 {
                        warn!(%error, failures, "the log could not be read; trying again");
                        self.pause(crate::backoff::pause(failures)).await?;
                    }
                    self.find_culprits(&from).await?;
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

    /// Drains once. In a session that is not the listener's own, the settings and the statement last as long as a
    /// transaction.
    async fn drain_once(
        &mut self,
        from: &Position,
        gives_up: bool,
    ) -> Result<(Arc<Position>, bool), DrainError> {
        if self.owner.context.subscriber.inquires() {
            return self.drain_inquiring(from, gives_up).await;
        }
        self.backfilling.close_idle();
        if self.is_own_session {
            return self.drain_here(from, gives_up).await;
        }
        self.begin_drain().await?;
        let drained = self.drain_here(from, gives_up).await;
        // Closed before the transaction ends, as long as the pooler still leads to the same session.
        self.draining.prepared = None;
        let end = if drained.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        let ended = self.l.batch_execute(end).await;
        let drained = drained?;
        ended.map_err(|error| failed("ending a drain", &error))?;
        Ok(drained)
    }

    async fn drain_here(
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
        let lines = self
            .l
            .query_raw(&statement, &parameters)
            .await
            .map_err(|error| failed(CONTEXT, &error))?;
        let mut lines = pin!(lines);
        let subscriber = self.owner.context.subscriber.clone();
        let mut drain = Drain::new(&*subscriber, from, old_value_columns);
        if !gives_up {
            drain = drain.awaiting(self.draining.left_out.because_of(Unreadable::Locked));
        }
        let health = self.owner.health.clone();
        let mut collector = ChangesCollector::new(commit_id, Fingerprints::new(), health);
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| failed(CONTEXT, &error))?;
            let row = change_row(&line).map_err(|error| failed(CONTEXT, &error))?;
            if row.is_without_floor() {
                return Err(DrainError::Gap);
            }
            for part in collector.take(row)? {
                drain.take(part).await?;
            }
        }
        if let Some(part) = collector.finish() {
            drain.take(part).await?;
        }
        drain.finish().ok_or(DrainError::Gap)
    }

    /// The drain's statement, without the tables that are left out.
    pub(super) async fn statement(
        &mut self,
        entities: &EntityMap,
        undo: bool,
    ) -> Result<Statement, DbError> {
        let metadata = self.owner.context.subscriber.metadata_entities();
        let (health, left_out) = (&self.owner.health, &self.draining.left_out);
        if let Some(prepared) = &self.draining.prepared
            && Arc::ptr_eq(&prepared.entities, entities)
            && left_out.is(&prepared.left_out)
            && prepared.health == health.version()
            && prepared.undo == undo
            && prepared.metadata == metadata
        {
            return Ok(prepared.statement.clone());
        }
        let (left_out, version) = (left_out.names(), health.version());
        let unchecked = Fingerprints::new();
        let sql = changes_sql(
            &self.log_schema,
            entities,
            &left_out,
            health,
            (undo, &metadata, &unchecked),
        );
        let prepared = self.l.prepare(&sql).await;
        let statement = prepared.map_err(|error| failed("preparing the drain", &error))?;
        self.draining.prepared = Some(Prepared {
            entities: entities.clone(),
            left_out,
            health: version,
            undo,
            metadata,
            statement: statement.clone(),
        });
        Ok(statement)
    }
}

pub(super) fn change_row(line: &tokio_postgres::Row) -> Result<ChangeRow, tokio_postgres::Error> {
    ChangeRow::read(
        |index, _| line.try_get(index),
        |index, _| line.try_get(index),
    )
}
