//! Transactions: one commit, and one clock.
//!
//! The clock is issued when a transaction begins. Where it meets a row that is already as late (another node's clock was
//! ahead, or somebody else wrote in the same millisecond) everything is taken back, and begins again under a clock above
//! that row's. So it is one clock that everything counts under, or nothing is written.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use db::open_mutation::OpenMutation;
use db::write::{Began, Mutation};
use db::{DbError, backoff};
use merge::Clock;
use serde::Serialize;
use serde_json::Value;
use sync_core::mutation::Applied;
use sync_core::mutation::chain::{Place, WritesDigest};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::limits::{TRANSACTION_TIMEOUT, TRANSACTION_WRITES_MAX};
use super::query::result_of;
use super::{Crdt, CrdtError, Query, Row, RowWrite};
use crate::authors::Author;
use crate::lost_values;
use crate::schema_watch;

/// How long it is waited for what a function has left running, before the transaction is given up.
const RETURN_PATIENCE: Duration = Duration::from_secs(1);

/// Attempts to carry out a transaction.
const ATTEMPTS_MAX: u32 = 8;

/// A transaction that is open, for the function that it was given to. Its writes and reads see what it has written so far.
#[derive(Debug, Clone)]
pub struct CrdtTx {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    crdt: Crdt,
    clock: Clock,
    /// None once the function has ended.
    open: Mutex<Option<OpenMutation>>,
    so_far: std::sync::Mutex<SoFar>,
}

impl Drop for Shared {
    /// Takes it back where the function's caller has not waited for its end.
    fn drop(&mut self) {
        if let (Some(open), Ok(runtime)) = (
            self.open.get_mut().take(),
            tokio::runtime::Handle::try_current(),
        ) {
            runtime.spawn(open.abandon());
        }
    }
}

/// What a transaction has done.
#[derive(Debug, Default)]
struct SoFar {
    rows: BTreeSet<(String, String)>,
    writes: usize,
    /// The newest clock under which a write counts that met a row as late as the transaction.
    behind: Option<Clock>,
    /// The first failure of the database in a write, after which it cannot go on.
    failure: Option<DbError>,
    /// The entities whose tables a write did not fit any more.
    outdated: BTreeSet<String>,
}

/// What became of an attempt.
enum Attempt<T, E> {
    Done(T),
    Failed(E),
    /// To be tried again.
    Again(Again),
}

enum Again {
    /// Under a clock above this one.
    Above(Clock),
    /// After a while, when the database may not fail any more.
    Later(DbError, BTreeSet<String>),
}

/// A mutation of which it is unknown whether it was committed.
struct Unknown<T> {
    named: Named,
    value: T,
}

/// A mutation and its author.
#[derive(Clone)]
struct Named {
    mutation: Arc<Mutation>,
    author: Author,
}

impl Crdt {
    /// Runs a function in one transaction. All that it writes has one clock, and is committed together when the function
    /// succeeds; else nothing of it is left. A row that it writes twice counts the second time under the next clock, because
    /// it comes after the first.
    ///
    /// The function is a closure that returns a future: `|tx| async move { … }`. It may run more than once, of which at most
    /// one run is committed: what it does outside of the transaction is its own concern. It must not write with the [`Crdt`]
    /// itself: SQLite has one writer at a time.
    ///
    /// # Errors
    /// What the function returns. When the function takes longer than [`TRANSACTION_TIMEOUT`], or the database fails: also
    /// where it goes on failing at the commit, of which it is then unknown whether it took place.
    pub async fn transaction<T, E, F, Fut>(&self, mut work: F) -> Result<T, E>
    where
        E: From<CrdtError>,
        F: FnMut(CrdtTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let state = self.state().clone();
        let permit = tokio::select! {
            permit = state.authors.permit() => permit,
            () = state.shutdown.cancelled() => None,
        };
        let _permit = permit.ok_or(CrdtError::Closed)?;
        let (mut above, mut failures) = (None, 0);
        let mut unknown = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let clock = self.next_clock(above.take())?;
            let again = match self.attempt(&mut work, clock, &mut unknown).await {
                Attempt::Done(value) => return Ok(value),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(again) => again,
            };
            match again {
                Again::Above(clock) => above = Some(clock),
                Again::Later(error, outdated)
                    if attempt == ATTEMPTS_MAX || failures > 0 && !outdated.is_empty() =>
                {
                    return Err(CrdtError::from(error).into());
                }
                Again::Later(_, outdated) => {
                    failures += 1;
                    tokio::time::sleep(backoff::pause(failures)).await;
                    schema_watch::refresh(&state, &outdated).await;
                }
            }
        }
        Err(CrdtError::NoClock.into())
    }

    async fn attempt<T, E, Fut>(
        &self,
        work: &mut impl FnMut(CrdtTx) -> Fut,
        clock: Clock,
        unknown: &mut Option<Unknown<T>>,
    ) -> Attempt<T, E>
    where
        E: From<CrdtError>,
        Fut: Future<Output = Result<T, E>>,
    {
        let (open, named) = match self.begin(unknown).await {
            ControlFlow::Continue(begun) => begun,
            ControlFlow::Break(attempt) => return attempt,
        };
        let tx = CrdtTx::new(self.clone(), clock, open);
        let worked = tokio::time::timeout(TRANSACTION_TIMEOUT, work(tx.clone())).await;
        let (open, so_far) = tx.take_back().await;
        let Some(open) = open else {
            return Attempt::Failed(CrdtError::Ended.into());
        };
        let give_back = || self.state().authors.give_back(named.author.unused());
        match (worked, so_far.failure, so_far.behind) {
            (Err(_), ..) => {
                open.abandon().await;
                Attempt::Failed(CrdtError::TooSlow.into())
            }
            (Ok(_), Some(failure), _) => {
                open.abandon().await;
                retried(failure, so_far.outdated)
            }
            (Ok(Ok(_)), None, Some(behind)) => {
                open.roll_back().await;
                give_back();
                Attempt::Again(Again::Above(behind))
            }
            (Ok(Err(error)), None, _) => {
                open.roll_back().await;
                give_back();
                Attempt::Failed(error)
            }
            (Ok(Ok(value)), None, None) => {
                let written = (value, so_far.writes);
                self.commit(open, named, written, unknown).await
            }
        }
    }

    /// Begins a transaction, or finds out what became of the one before.
    async fn begin<T, E: From<CrdtError>>(
        &self,
        unknown: &mut Option<Unknown<T>>,
    ) -> ControlFlow<Attempt<T, E>, (OpenMutation, Named)> {
        let authors = &self.state().authors;
        let before = unknown.take();
        let named = match &before {
            Some(before) => before.named.clone(),
            None => Named::new(authors.take()),
        };
        let begun = self.pool().begin(&named.mutation, TRANSACTION_TIMEOUT);
        let attempt = match (begun.await, before) {
            (Ok(Began::Open(open)), _) => return ControlFlow::Continue((open, named)),
            // It was committed, only nobody heard of it.
            (Ok(Began::Answered(Applied::Committed { .. })), Some(before)) => {
                authors.give_back(named.author);
                self.done(before.value)
            }
            (Ok(Began::Answered(Applied::Committed { .. })), None) => {
                let message = "the database does not say what became of a transaction";
                let error = DbError::Unreachable(message.to_owned());
                Attempt::Failed(CrdtError::from(error).into())
            }
            (Ok(Began::Answered(Applied::Rejected(reject))), _) => {
                Attempt::Failed(CrdtError::rejected(reject).into())
            }
            (Err(error), before) => {
                *unknown = before;
                retried(error, BTreeSet::new())
            }
        };
        ControlFlow::Break(attempt)
    }

    async fn commit<T, E: From<CrdtError>>(
        &self,
        open: OpenMutation,
        named: Named,
        (value, writes): (T, usize),
        unknown: &mut Option<Unknown<T>>,
    ) -> Attempt<T, E> {
        match open.commit().await {
            Ok(Ok(applied)) => {
                self.state().authors.give_back(named.author);
                self.state().field_stats.count(writes, &[], &applied);
                if let Applied::Committed { merged, .. } = applied {
                    lost_values::tell(self.state(), &merged.of_others);
                }
                self.done(value)
            }
            Ok(Err(reject)) => {
                self.state().authors.give_back(named.author.unused());
                Attempt::Failed(CrdtError::rejected(reject).into())
            }
            Err(error) => {
                *unknown = Some(Unknown { named, value });
                retried(error, BTreeSet::new())
            }
        }
    }

    fn done<T, E>(&self, value: T) -> Attempt<T, E> {
        self.state().wake();
        Attempt::Done(value)
    }
}

impl Named {
    /// A mutation whose writes nobody knows yet.
    fn new(author: Author) -> Self {
        let place = Place {
            number: author.number,
            claimed: None,
            digest: WritesDigest::of(&Uuid::new_v4().to_string()),
        };
        let mutation = Mutation::new(author.client_id, None, place, Ok(Vec::new()));
        Self {
            mutation: Arc::new(mutation),
            author,
        }
    }
}

fn retried<T, E: From<CrdtError>>(error: DbError, outdated: BTreeSet<String>) -> Attempt<T, E> {
    match error.is_retryable() || !outdated.is_empty() {
        true => Attempt::Again(Again::Later(error, outdated)),
        false => Attempt::Failed(CrdtError::from(error).into()),
    }
}

impl CrdtTx {
    fn new(crdt: Crdt, clock: Clock, open: OpenMutation) -> Self {
        Self {
            shared: Arc::new(Shared {
                crdt,
                clock,
                open: Mutex::new(Some(open)),
                so_far: std::sync::Mutex::default(),
            }),
        }
    }

    /// Ends it for the function, and takes back what it was given.
    async fn take_back(&self) -> (Option<OpenMutation>, SoFar) {
        let lock = tokio::time::timeout(RETURN_PATIENCE, self.shared.open.lock());
        let open = lock.await.ok().and_then(|mut open| open.take());
        (open, std::mem::take(&mut *self.so_far()))
    }

    fn so_far(&self) -> std::sync::MutexGuard<'_, SoFar> {
        let so_far = self.shared.so_far.lock();
        so_far.unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of all that it writes.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// As [`Crdt::insert`].
    ///
    /// # Errors
    /// As there. Nothing of the write is left then, and the transaction can go on.
    pub async fn insert(
        &self,
        entity: &str,
        values: impl Serialize + Send,
    ) -> Result<(), CrdtError> {
        self.write(&RowWrite::insert(entity, values)).await
    }

    /// As [`Crdt::update`].
    ///
    /// # Errors
    /// As [`CrdtTx::insert`].
    pub async fn update(
        &self,
        entity: &str,
        key: impl Into<Value> + Send,
        values: impl Serialize + Send,
    ) -> Result<(), CrdtError> {
        self.write(&RowWrite::update(entity, key, values)).await
    }

    /// As [`Crdt::put`].
    ///
    /// # Errors
    /// As [`CrdtTx::insert`].
    pub async fn put(&self, entity: &str, values: impl Serialize + Send) -> Result<(), CrdtError> {
        self.write(&RowWrite::put(entity, values)).await
    }

    /// As [`Crdt::delete`].
    ///
    /// # Errors
    /// As [`CrdtTx::insert`].
    pub async fn delete(
        &self,
        entity: &str,
        key: impl Into<Value> + Send,
    ) -> Result<(), CrdtError> {
        self.write(&RowWrite::delete(entity, key)).await
    }

    /// The rows that match, as the transaction sees them.
    ///
    /// # Errors
    /// As [`Crdt::query`].
    pub async fn query(&self, query: &Query) -> Result<Vec<Row>, CrdtError> {
        let resolved = self.shared.crdt.resolve(query)?;
        let mut open = self.shared.open.lock().await;
        let open = open.as_mut().ok_or(CrdtError::Ended)?;
        result_of(&open.rows(&resolved.entity, &resolved.rows).await?)
    }

    /// The row of this key, as the transaction sees it.
    ///
    /// # Errors
    /// As [`Crdt::query`].
    pub async fn get(
        &self,
        entity: &str,
        key: impl Into<Value> + Send,
    ) -> Result<Option<Row>, CrdtError> {
        let query = self.shared.crdt.of_key(entity, &key.into())?;
        Ok(self.query(&query).await?.into_iter().next())
    }

    /// Writes a row.
    ///
    /// # Errors
    /// As [`CrdtTx::insert`].
    pub async fn write(&self, row: &RowWrite) -> Result<(), CrdtError> {
        let mut open = self.shared.open.lock().await;
        let open = open.as_mut().ok_or(CrdtError::Ended)?;
        let write = self.shared.crdt.check(row, &self.shared.clock)?;
        let key = write.canonical_key().unwrap_or_default();
        let written = (write.entity.clone(), key);
        let index = self.so_far().writes;
        if index == TRANSACTION_WRITES_MAX {
            return Err(CrdtError::TooManyWrites);
        }
        match open.write(index, write).await {
            Ok(Ok(())) => {}
            Ok(Err(reject)) => return Err(CrdtError::rejected(reject)),
            Err(error) => {
                let mut so_far = self.so_far();
                // It may have been made for columns that have changed since.
                if matches!(error, DbError::Table { .. }) {
                    so_far.outdated.insert(written.0);
                }
                let text = error.to_string();
                so_far.failure.get_or_insert(error);
                return Err(DbError::Unreachable(text).into());
            }
        }
        let stamps = open.take_stamps();
        let newest = stamps
            .iter()
            .filter_map(|stamp| Clock::read(&stamp.hlc).ok());
        let newest = newest.max();
        let mut so_far = self.so_far();
        so_far.writes += 1;
        let is_first = so_far.rows.insert(written);
        let is_behind = newest.as_ref() > Some(&self.shared.clock);
        if is_first && is_behind {
            so_far.behind = newest.max(so_far.behind.take());
        }
        Ok(())
    }
}
