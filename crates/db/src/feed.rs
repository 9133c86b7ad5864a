//! From the log to its subscriber: what the listeners of both databases share.
//!
//! A drain reads everything that is new since the position reached and hands it on in batches; the last one
//! completes the position. When an entity's schema has changed, the catalog is read again before the change
//! is published.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sync_core::cursor::{Cursor, Position};
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::{Answer, Question};
use tokio::time::Instant;

use crate::error::DbError;
#[cfg(feature = "postgres")]
use crate::read::Part;
use crate::read::{Backfill, OldValueColumns, ReadError, ReadStart};

/// A part of what one drain found.
#[derive(Debug)]
pub struct LogBatch {
    /// The database's position at the drain's snapshot.
    pub position: Arc<Position>,
    /// In the log's order; may be empty.
    pub entries: Vec<NetChange>,
    /// Whether this is the last batch for that position.
    pub complete: bool,
    /// The columns whose previous values the entries' undo records contain.
    pub old_value_columns: Arc<OldValueColumns>,
}

/// What a drain has read when its inquiry begins.
#[derive(Debug, Clone, Copy)]
pub struct InquiryStart<'a> {
    /// The database's position at the drain's snapshot.
    pub position: &'a Arc<Position>,
    /// The drain's entries: at least those of the [entities that decide](LogSubscriber::deciding). Where even these are
    /// too many there is one for each of the entities, which says that they are [unread](ChangeKind::Unread).
    pub entries: &'a [NetChange],
    /// The columns whose previous values the entries' undo records contain.
    pub old_value_columns: &'a Arc<OldValueColumns>,
}

/// Receives the log's new entries. It must not wait: what it cannot take at once is still in the log.
pub trait LogSubscriber: Send + Sync {
    /// The columns whose previous values the next drain must bring along.
    fn old_value_columns(&self) -> Arc<OldValueColumns>;
    /// The entities of whose rows the next drain must bring along what is known beside their values.
    fn metadata_entities(&self) -> Arc<BTreeSet<String>> {
        Arc::default()
    }
    /// Whether the next drain must be one transaction, in which it also asks what its entries do not say. Called once
    /// before each drain.
    fn inquires(&self) -> bool {
        false
    }
    /// The entities whose entries decide what is asked.
    fn deciding(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
    /// Begins the inquiry of a drain. One that did not end with a batch is forgotten: its drain failed, and is tried
    /// again. Tables that have changed are looked at after the inquiry, because that may wait for the drain's own locks.
    fn begin_inquiry(&self, start: &InquiryStart<'_>) -> Vec<Question> {
        let _ = start;
        Vec::new()
    }
    /// Takes the answers, in the order of the questions, all of them at the drain's snapshot. Returns the next questions;
    /// none when the drain can be published.
    fn answer(&self, answers: Vec<Answer>) -> Vec<Question> {
        let _ = answers;
        Vec::new()
    }
    /// What is to be asked behind the drain whose inquiry has just ended, at its snapshot. Called when there is a
    /// connection for it. If the drain fails nevertheless, what is answered is of no use.
    fn backfill(&self) -> Option<Backfill> {
        None
    }
    /// Takes a batch, in order.
    fn publish(&self, batch: LogBatch);
    /// Waits until all recipients of the last batch have begun to take it, and returns when that was.
    fn taken(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>>;
    /// Starts over at a cursor of another epoch: nothing published before is valid any more.
    fn reset(&self, cursor: Cursor);
    /// The listener works no more, for this reason, until it has connected again.
    fn failed(&self, error: &DbError);
    /// Reads the catalog again for these entities, because their tables may have changed. It does not wait long
    /// for a table that is locked, and a table that cannot be looked at stays as it was known.
    fn refresh(&self, entities: BTreeSet<String>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Takes a message that a server has sent to all.
    fn message(&self, message: &str);
    /// Makes the engine's own tables again, because they are gone.
    fn prepare_again(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>>;
}

/// The longest time by which one drain delays the next.
const REST_MAX: Duration = Duration::from_millis(10);
/// How long drains and deliveries may take beyond half of the time before the next one waits.
const BURST: Duration = Duration::from_millis(50);

/// Keeps drains, and the deliveries that follow them, from taking more than half of the time: once they have,
/// by more than a burst, after each comes a rest as long as it took. Under load each drain then finds more; a
/// lone change finds nothing to wait for, even just after one that took long.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// When the last drain that found something began.
    last_found: Option<Instant>,
    duty_cycle: DutyCycle,
}

impl Pacer {
    /// Notes that a drain that began at this time found something.
    pub(crate) fn found(&mut self, began: Instant) {
        self.last_found = Some(began);
    }

    /// Waits until the next drain may begin.
    pub(crate) async fn rest(&mut self, subscriber: &dyn LogSubscriber) {
        let Some(began) = self.last_found.take() else {
            return;
        };
        let taken_by = if self.duty_cycle.has_burst(began, Instant::now()) {
            Instant::now()
        } else {
            began + REST_MAX
        };
        let taken = tokio::time::timeout_at(taken_by, subscriber.taken());
        let ended = taken.await.unwrap_or_else(|_| Instant::now());
        let rest = self.duty_cycle.rest_after(began, ended);
        if !rest.is_zero() {
            tokio::time::sleep_until(ended + rest).await;
        }
    }
}

/// How much more than half of the time the drains have taken.
#[derive(Debug, Default)]
struct DutyCycle {
    /// At most [`BURST`] and [`REST_MAX`].
    excess: Duration,
    /// When the last drain's deliveries had ended.
    ended: Option<Instant>,
}

impl DutyCycle {
    /// Whether the next drain may begin at `now`, even while the last one, which began at `began`, is being delivered.
    fn has_burst(&self, began: Instant, now: Instant) -> bool {
        self.excess_at(began) + now.duration_since(began) <= BURST
    }

    /// Takes in a drain. Returns how long the next one must wait after it.
    fn rest_after(&mut self, began: Instant, ended: Instant) -> Duration {
        let took = ended.duration_since(began);
        self.excess = (self.excess_at(began) + took).min(BURST + REST_MAX);
        self.ended = Some(ended);
        self.excess.saturating_sub(BURST).min(took)
    }

    /// What is left of the excess after the time that passed without a drain.
    fn excess_at(&self, began: Instant) -> Duration {
        let idle = self.ended.map(|ended| began.duration_since(ended));
        self.excess.saturating_sub(idle.unwrap_or_default())
    }
}

/// Why a drain did not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Entries between the position reached and now have been pruned.
    #[error("the log no longer reaches back to this server's position")]
    Gap,
    /// A table with new entries is locked by another transaction.
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
            ReadError::Refused(_) => Self::Gap,
        }
    }
}

/// A drain in progress.
pub(crate) struct Drain<'a> {
    subscriber: &'a dyn LogSubscriber,
    from: &'a Position,
    old_value_columns: Arc<OldValueColumns>,
    /// Entities whose unread changes are an error, because the wait for them is expected to be short.
    awaited: BTreeSet<String>,
    position: Option<Arc<Position>>,
    /// The newest chunk, held back until it is known whether it is the last.
    held: Option<Vec<NetChange>>,
    found: bool,
}

impl<'a> Drain<'a> {
    /// A drain from `from`, whose undo records contain the previous values of `old_value_columns`.
    pub(crate) fn new(
        subscriber: &'a dyn LogSubscriber,
        from: &'a Position,
        old_value_columns: Arc<OldValueColumns>,
    ) -> Self {
        Self {
            subscriber,
            from,
            old_value_columns,
            awaited: BTreeSet::new(),
            position: None,
            held: None,
            found: false,
        }
    }

    /// The same drain, which fails when one of these entities has changes that the read leaves out. Those of
    /// others make clients refetch.
    #[cfg(feature = "postgres")]
    pub(crate) fn awaiting(self, awaited: BTreeSet<String>) -> Self {
        Self { awaited, ..self }
    }

    /// Takes the next part of the read.
    #[cfg(feature = "postgres")]
    pub(crate) async fn take(&mut self, part: Part<NetChange>) -> Result<(), DrainError> {
        match part {
            Part::Start(start) => self.begin(start),
            Part::Items(entries) => self.take_entries(entries).await,
            // A drain is not bound to one form of the tables: the log says when they change.
            Part::Outdated(_) | Part::Refused(_) => Ok(()),
            #[cfg(feature = "sqlite")]
            Part::Last => Ok(()),
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

    /// The position to which the drain reads, and the columns whose previous values it brings along.
    #[cfg(feature = "postgres")]
    pub(crate) fn read(&self) -> Option<(&Arc<Position>, &Arc<OldValueColumns>)> {
        Some((self.position.as_ref()?, &self.old_value_columns))
    }

    /// Fails when changes are left out that the drain must wait for.
    pub(crate) fn check(&self, entries: &[NetChange]) -> Result<(), DrainError> {
        let unread = |entry: &&NetChange| {
            entry.kind == ChangeKind::Unread && self.awaited.contains(&entry.entity)
        };
        match entries.iter().find(unread) {
            Some(entry) => Err(DrainError::Locked(entry.entity.clone())),
            None => Ok(()),
        }
    }

    /// Takes a chunk of new entries.
    pub(crate) async fn take_entries(&mut self, entries: Vec<NetChange>) -> Result<(), DrainError> {
        self.found = true;
        self.check(&entries)?;
        let changed: BTreeSet<String> = entries
            .iter()
            .filter(|entry| entry.kind == ChangeKind::SchemaChange)
            .map(|entry| entry.entity.clone())
            .collect();
        if !changed.is_empty() {
            self.subscriber.refresh(changed).await;
        }
        if let Some(before) = self.held.replace(entries) {
            self.publish(before, false);
        }
        Ok(())
    }

    /// Publishes the last batch. Returns the position reached, and whether anything was new.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_drain_that_took_long_does_not_delay_the_next_one() {
        let mut duty_cycle = DutyCycle::default();
        let mut now = Instant::now();
        for _ in 0..10 {
            assert!(duty_cycle.has_burst(now, now + ms(20)));
            assert_eq!(duty_cycle.rest_after(now, now + ms(20)), Duration::ZERO);
            now += ms(20);
            assert!(duty_cycle.has_burst(now, now + ms(1)));
            assert_eq!(duty_cycle.rest_after(now, now + ms(1)), Duration::ZERO);
            now += ms(100);
        }
    }

    proptest! {
        /// Drains that begin as soon as they may, of any length, take half of the time once the burst is spent.
        #[test]
        fn drains_without_end_take_half_of_the_time(lengths in prop::collection::vec(0_u64..=10, 100..200)) {
            let mut duty_cycle = DutyCycle::default();
            let mut now = Instant::now();
            let (mut busy, mut rested) = (Duration::ZERO, Duration::ZERO);
            for length in lengths.into_iter().map(ms) {
                let rest = duty_cycle.rest_after(now, now + length);
                prop_assert!(rest <= length.min(REST_MAX));
                now += length + rest;
                busy += length;
                rested += rest;
            }
            prop_assert!(busy.saturating_sub(rested) <= BURST + REST_MAX, "{busy:?} {rested:?}");
            prop_assert!(rested <= busy);
        }

        #[test]
        fn a_rest_is_never_longer_than_its_bound(steps in prop::collection::vec((0_u64..500, 0_u64..500), 1..50)) {
            let mut duty_cycle = DutyCycle::default();
            let mut now = Instant::now();
            for (took, idle) in steps {
                let rest = duty_cycle.rest_after(now, now + ms(took));
                prop_assert!(rest <= REST_MAX);
                prop_assert!(rest.is_zero() || !duty_cycle.has_burst(now + ms(took), now + ms(took)));
                now += ms(took) + rest + ms(idle);
            }
        }
    }
}
