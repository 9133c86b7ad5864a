//! From the log to its subscriber: what the two listeners share.
//!
//! A drain reads everything that is new since the position reached and hands it on in batches; the last one
//! completes the position. Entities whose schema changed are looked at again before anybody receives it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sync_core::cursor::{Cursor, Position};
use sync_core::log::{ChangeKind, NetChange};
use tokio::time::Instant;

use crate::error::DbError;
#[cfg(feature = "postgres")]
use crate::read::Part;
use crate::read::{OldValueColumns, ReadError, ReadStart};

/// Part of what one drain found.
#[derive(Debug)]
pub struct LogBatch {
    /// Where the database was when it was read.
    pub position: Arc<Position>,
    /// In the log's order; may be empty.
    pub entries: Vec<NetChange>,
    /// Whether this is the last part for that position.
    pub complete: bool,
    /// The columns whose previous values the entries' undo records have.
    pub old_value_columns: Arc<OldValueColumns>,
}

/// Receives what is new in the log. It must not wait: what it cannot take at once it finds in the log.
pub trait LogSubscriber: Send + Sync {
    /// The columns whose previous values somebody wants.
    fn old_value_columns(&self) -> Arc<OldValueColumns>;
    /// Takes what is new, in order.
    fn publish(&self, batch: LogBatch);
    /// Waits until the recipients of the last batch have begun to take it, and says when they had.
    fn taken(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>>;
    /// Begins at this cursor: its history is not the one before, so nothing that was published still holds.
    fn reset(&self, cursor: Cursor);
    /// Reads the catalog again, because some tables may have changed.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>>;
}

/// The most that one drain puts off the next.
const REST_MAX: Duration = Duration::from_millis(10);

/// Keeps drains, and the deliveries that follow them, from taking more than half of the time: after
/// each, as long a rest as it took. Under load more comes together in each; a change that comes alone
/// finds the rest over.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// When the last drain that found something began.
    found_since: Option<Instant>,
}

impl Pacer {
    /// A drain that began then has found something.
    pub(crate) fn found(&mut self, began: Instant) {
        self.found_since = Some(began);
    }

    /// Waits until the next drain may begin.
    pub(crate) async fn rest(&mut self, subscriber: &dyn LogSubscriber) {
        let Some(began) = self.found_since.take() else {
            return;
        };
        let taken = tokio::time::timeout_at(began + REST_MAX, subscriber.taken());
        let ended = taken.await.unwrap_or_else(|_| Instant::now());
        let took = ended.duration_since(began).min(REST_MAX);
        tokio::time::sleep_until(ended + took).await;
    }
}

/// Why a drain did not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The log has forgotten what lies between the position reached and now.
    #[error("the log no longer reaches back to where this server was")]
    Gap,
    /// A table that has changed is locked by another transaction.
    #[error("{0:?} is locked by another transaction")]
    Locked(String),
}

impl From<ReadError> for DrainError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Db(error) => Self::Db(error),
            ReadError::Outdated(entity) => Self::Db(DbError::Unreachable(format!(
                "the table of {entity:?} has just changed"
            ))),
        }
    }
}

/// One drain under way.
pub(crate) struct Drain<'a> {
    subscriber: &'a dyn LogSubscriber,
    from: &'a Position,
    old_value_columns: Arc<OldValueColumns>,
    /// Entities whose rows are not in what is read.
    without: &'a [String],
    gives_up: bool,
    given_up: BTreeSet<String>,
    position: Option<Arc<Position>>,
    held: Option<Vec<NetChange>>,
    found: bool,
}

impl<'a> Drain<'a> {
    /// A drain from `from`, whose entries have these old_value_columns.
    pub(crate) fn new(
        subscriber: &'a dyn LogSubscriber,
        from: &'a Position,
        old_value_columns: Arc<OldValueColumns>,
    ) -> Self {
        Self {
            subscriber,
            from,
            old_value_columns,
            without: &[],
            gives_up: false,
            given_up: BTreeSet::new(),
            position: None,
            held: None,
            found: false,
        }
    }

    /// The same, where the rows of some entities are not in what is read. Changes of them are an error, or,
    /// when it `gives_up` waiting, a reason to refetch those entities.
    #[cfg(feature = "postgres")]
    pub(crate) fn without(self, without: &'a [String], gives_up: bool) -> Self {
        Self {
            without,
            gives_up,
            ..self
        }
    }

    /// Takes a part of the read.
    #[cfg(feature = "postgres")]
    pub(crate) async fn take(&mut self, part: Part<NetChange>) -> Result<(), DrainError> {
        match part {
            Part::Start(start) => self.begin(start),
            Part::Items(entries) => self.take_entries(entries).await,
            // A drain is not bound to one version of the tables: the log says when they change.
            Part::Outdated(_) => Ok(()),
        }
    }

    /// Takes the start of the read.
    pub(crate) fn begin(&mut self, start: ReadStart) -> Result<(), DrainError> {
        if !self.from.covers(&start.floor) || !start.position.covers(self.from) {
            return Err(DrainError::Gap);
        }
        self.position = Some(Arc::new(start.position));
        Ok(())
    }

    /// Takes a chunk of what is new.
    pub(crate) async fn take_entries(
        &mut self,
        mut entries: Vec<NetChange>,
    ) -> Result<(), DrainError> {
        self.found = true;
        if entries
            .iter()
            .any(|entry| entry.kind == ChangeKind::SchemaChange)
        {
            self.subscriber.refresh().await?;
        }
        self.leave_out(&mut entries)?;
        if let Some(before) = self.held.replace(entries) {
            self.publish(before, false);
        }
        Ok(())
    }

    /// Puts one schema change in the place of the entries whose rows could not be read.
    fn leave_out(&mut self, entries: &mut Vec<NetChange>) -> Result<(), DrainError> {
        if self.without.is_empty() {
            return Ok(());
        }
        let lacks_row =
            |entry: &NetChange| entry.key.is_some() && self.without.contains(&entry.entity);
        if let Some(entry) = entries
            .iter()
            .find(|entry| lacks_row(entry) && !self.gives_up)
        {
            return Err(DrainError::Locked(entry.entity.clone()));
        }
        let given_up = &mut self.given_up;
        entries.retain_mut(|entry| {
            if !lacks_row(entry) {
                return true;
            }
            (entry.key, entry.kind) = (None, ChangeKind::SchemaChange);
            given_up.insert(entry.entity.clone())
        });
        Ok(())
    }

    /// Ends it: the position reached, and whether anything was new.
    pub(crate) fn finish(mut self) -> Option<(Arc<Position>, bool)> {
        let position = self.position.clone()?;
        let last = self.held.take().unwrap_or_default();
        self.publish(last, true);
        Some((position, self.found))
    }

    fn publish(&self, entries: Vec<NetChange>, complete: bool) {
        if let Some(position) = self.position.clone() {
            self.subscriber.publish(LogBatch {
                position,
                entries,
                complete,
                old_value_columns: self.old_value_columns.clone(),
            });
        }
    }
}
