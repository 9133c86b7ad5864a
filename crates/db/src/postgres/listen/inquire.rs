//! A drain that also asks: one transaction, and so one snapshot, for its entries and for all questions about them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::{FutureExt as _, StreamExt as _};
use sync_core::cursor::{CommitId, Position};
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::Answer;
use tokio_postgres::RowStream;
use tracing::debug;

use super::Line;
use super::ask::{Asking, Clock, prepare_fingerprints, typed};
use super::drain::{CONTEXT, change_row};
use super::settings::settings_of_drains;
use crate::entity::Entity;
use crate::feed::{Drain, DrainError, InquiryStart};
use crate::health::Unreadable;
use crate::postgres::connect::failed;
use crate::postgres::one_snapshot::{ONE_SNAPSHOT, lock_sql};
use crate::postgres::read::{changes_sql, commit_id, parameters};
use crate::read::collect::{ChangesCollector, ITEMS_PER_CHUNK};
use crate::read::inquiry::{self, Collected, TIME_OF_DRAIN};
use crate::read::{Fingerprints, OldValueColumns, Part};

type Entities = BTreeMap<String, Arc<Entity>>;

impl Line<'_> {
    /// Drains once, and asks the subscriber's questions at the drain's snapshot.
    pub(super) async fn drain_inquiring(
        &mut self,
        from: &Position,
        gives_up: bool,
    ) -> Result<(Arc<Position>, bool), DrainError> {
        let subscriber = self.owner.context.subscriber.clone();
        let old_value_columns = subscriber.old_value_columns();
        let mut drain = Drain::new(&*subscriber, from, old_value_columns.clone());
        if !gives_up {
            drain = drain.awaiting(self.draining.left_out.because_of(Unreadable::Locked));
        }
        let mut read = self
            .read_and_ask(&mut drain, from, &old_value_columns)
            .await;
        if read.is_ok() {
            let given = self.give_snapshot().await;
            let begun = match given {
                Ok(()) => self.begin_backfill().await,
                failed => failed,
            };
            if let Err(error) = begun {
                read = Err(error.into());
            }
        }
        if !self.is_own_session {
            // Closed before the transaction ends, as long as the pooler still leads to the same session.
            self.draining.prepared = None;
        }
        let entries = match read {
            Ok(entries) => entries,
            Err(error) => {
                let _ = self.l.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        };
        let l = self.l.clone();
        let mut committing = Box::pin(async move { l.batch_execute("COMMIT").await });
        let ending = |error| failed("ending a drain", &error);
        if (entries.iter()).any(|entry| entry.kind == ChangeKind::SchemaChange) {
            // Looking at a table that has changed may wait for the drain's own locks.
            committing.await.map_err(ending)?;
            return publish(drain, entries).await;
        }
        // This sends it. What has been read is committed, so nobody needs to wait for the end of the transaction.
        if let Some(ended) = (&mut committing).now_or_never() {
            ended.map_err(ending)?;
            return publish(drain, entries).await;
        }
        let published = publish(drain, entries).await?;
        // Nothing is awaited from here to where the position is noted: to publish it twice would be wrong.
        let broken = self.broken.clone();
        tokio::spawn(async move {
            if let Err(error) = committing.await {
                debug!(%error, "a drain that has been published could not be ended");
                broken.cancel();
            }
        });
        Ok(published)
    }

    /// Reads what is new and asks about it. Returns the entries that are still to be published.
    async fn read_and_ask(
        &mut self,
        drain: &mut Drain<'_>,
        from: &Position,
        old_value_columns: &Arc<OldValueColumns>,
    ) -> Result<Vec<NetChange>, DrainError> {
        let Position::Snapshot(snapshot) = from else {
            return Err(DrainError::Gap);
        };
        let entities = self.owner.context.entities.with_missing();
        let parameters = parameters(snapshot, &entities, old_value_columns);
        let undo = !old_value_columns.is_empty();
        let begin = self.begin_inquiring(&entities);
        let beginning = |error| failed("beginning a drain", &error);
        let (statement, lines) = if self.is_own_session {
            // Together they are one round trip.
            let statement = self.statement(&entities, undo).await?;
            let read = self.l.query_raw(&statement, &parameters);
            let (begun, lines) = join(self.l.batch_execute(&begin), read).await;
            begun.map_err(beginning)?;
            (statement, lines)
        } else {
            self.l.batch_execute(&begin).await.map_err(beginning)?;
            let statement = self.statement(&entities, undo).await?;
            let lines = self.l.query_raw(&statement, &parameters).await;
            (statement, lines)
        };
        let lines = lines.map_err(|error| failed(CONTEXT, &error))?;
        let askable = self.askable(&entities);
        let mut kept = Collected::default();
        if self.collect(lines, Some(drain), &mut kept).await? {
            self.inquire(drain, &kept.entries, &askable).await?;
            return Ok(kept.entries);
        }
        let mut deciding = (*entities).clone();
        let decides = self.owner.context.subscriber.deciding();
        deciding.retain(|name, _| decides.contains(name));
        let entries = self.read_deciding(from, &deciding, old_value_columns);
        let entries = entries.await?;
        self.inquire(drain, &entries, &askable).await?;
        let lines = self.l.query_raw(&statement, &parameters).await;
        let mut lines = pin!(lines.map_err(|error| failed(CONTEXT, &error))?);
        let mut collector = self.collector();
        while let Some(line) = lines.next().await {
            let row = line.and_then(|line| change_row(&line));
            let row = row.map_err(|error| failed(CONTEXT, &error))?;
            for part in collector.take(row)? {
                drain.take(part).await?;
            }
        }
        Ok(match collector.finish() {
            Some(Part::Items(last)) => last,
            _ => Vec::new(),
        })
    }

    /// Begins the transaction, and locks its tables before it has a snapshot: a table that is truncated behind a
    /// snapshot is empty for it.
    fn begin_inquiring(&self, entities: &Entities) -> String {
        let lock = lock_sql(entities, &self.draining.left_out.names());
        let settings = if self.is_own_session {
            String::new()
        } else {
            settings_of_drains("SET LOCAL")
        };
        format!("BEGIN {ONE_SNAPSHOT}; {settings}; {lock}")
    }

    /// The entities that questions may be about.
    pub(super) fn askable(&self, entities: &Entities) -> Entities {
        let mut askable = entities.clone();
        askable.retain(|name, _| !self.draining.left_out.contains(name));
        askable
    }

    fn collector(&self) -> ChangesCollector {
        ChangesCollector::new(commit_id, Fingerprints::new(), self.owner.health.clone())
    }

    /// Keeps what a statement returns. Returns whether all of it could be kept.
    async fn collect(
        &self,
        lines: RowStream,
        mut drain: Option<&mut Drain<'_>>,
        kept: &mut Collected,
    ) -> Result<bool, DrainError> {
        let mut lines = pin!(lines.fuse());
        let mut collector = self.collector();
        loop {
            let parts = match lines.next().await {
                Some(line) => {
                    let row = line.and_then(|line| change_row(&line));
                    let row = row.map_err(|error| failed(CONTEXT, &error))?;
                    if row.is_without_floor() {
                        return Err(DrainError::Gap);
                    }
                    collector.take(row)?
                }
                None => match collector.finish() {
                    Some(last) => vec![last],
                    None => return Ok(true),
                },
            };
            for part in parts {
                match (part, &mut drain) {
                    (Part::Start(start), Some(drain)) => drain.begin(start)?,
                    (Part::Items(entries), drain) => {
                        if let Some(drain) = drain {
                            drain.check(&entries)?;
                        }
                        if !kept.take(entries) {
                            return Ok(false);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The new entries of the entities that decide what is asked, of a drain that is too large to be kept.
    async fn read_deciding(
        &self,
        from: &Position,
        deciding: &Entities,
        old_value_columns: &OldValueColumns,
    ) -> Result<Vec<NetChange>, DrainError> {
        let Position::Snapshot(snapshot) = from else {
            return Err(DrainError::Gap);
        };
        let metadata = self.owner.context.subscriber.metadata_entities();
        let sql = changes_sql(
            &self.log_schema,
            deciding,
            &self.draining.left_out.names(),
            &self.owner.health,
            (
                !old_value_columns.is_empty(),
                &metadata,
                &Fingerprints::new(),
            ),
        );
        let lines = self
            .l
            .query_typed_raw(
                &sql,
                typed(&parameters(snapshot, deciding, old_value_columns)),
            )
            .await
            .map_err(|error| failed(CONTEXT, &error))?;
        let mut kept = Collected::default();
        if self.collect(lines, None, &mut kept).await? {
            return Ok(kept.entries);
        }
        Ok(inquiry::unread(deciding.keys(), CommitId::Xid(0)))
    }

    /// Asks until the subscriber has no more questions.
    async fn inquire(
        &mut self,
        drain: &Drain<'_>,
        entries: &[NetChange],
        askable: &Entities,
    ) -> Result<(), DrainError> {
        let subscriber = &self.owner.context.subscriber;
        let (position, old_value_columns) = drain.read().ok_or(DrainError::Gap)?;
        let mut questions = subscriber.begin_inquiry(&InquiryStart {
            position,
            entries,
            old_value_columns,
        });
        if questions.is_empty() {
            return Ok(());
        }
        if self.is_own_session && self.fingerprints.is_none() {
            self.fingerprints = Some(prepare_fingerprints(&self.l, &self.log_schema).await?);
        }
        let asking = Asking {
            client: &self.l,
            log_schema: &self.log_schema,
            health: &self.owner.health,
            entities: askable,
            fingerprints: self.fingerprints.as_ref(),
        };
        let clock = Clock::start(TIME_OF_DRAIN);
        while !questions.is_empty() {
            let answers = asking.ask(&questions, &clock).await?.into_iter();
            let answers = answers.map(|answer| answer.unwrap_or(Answer::TooLong));
            questions = subscriber.answer(answers.collect());
        }
        Ok(())
    }
}

/// Publishes the last entries of a drain. Returns the position reached, and whether anything was new.
async fn publish(
    mut drain: Drain<'_>,
    entries: Vec<NetChange>,
) -> Result<(Arc<Position>, bool), DrainError> {
    let mut kept = entries.into_iter().peekable();
    while kept.peek().is_some() {
        let chunk = kept.by_ref().take(ITEMS_PER_CHUNK).collect();
        drain.take_entries(chunk).await?;
    }
    drain.finish().ok_or(DrainError::Gap)
}
