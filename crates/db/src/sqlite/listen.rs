//! The listener on SQLite: the engine's own commits wake it; a [watch](super::watch) reports those of others.

use std::sync::Arc;
use std::time::Duration;

use sync_core::cursor::{Cursor, Position};
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Inquiry, Question};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use super::pool::SqlitePool;
use super::store;
use super::watch::Watch;
use crate::backoff;
use crate::error::DbError;
use crate::feed::{Drain, DrainError, InquiryStart, LogSubscriber, Pacer};
use crate::listener::{ListenerContext, ListenerStatus, WakeUp};
use crate::read::inquiry::{BehindRead, TIME_OF_DRAIN};
use crate::read::{Backfill, BackfillAnswers, ChangesQuery, Inquiring, OldValueColumns};

/// The longest time between two drains.
const SAFETY_DRAIN: Duration = Duration::from_secs(1);
/// The same for a database in memory, which cannot be watched for commits of the pool's other users.
const MEMORY_DRAIN: Duration = Duration::from_millis(20);

/// How many connections are used at most to ask behind drains, and at most a quarter of the pool. A database in memory has
/// one connection, on which everybody waits.
const BACKFILLS_MAX: usize = 4;

/// After this many drains that failed in a row, the database counts as out of reach.
const FAILURES_MAX: u32 = 3;

/// The questions of a drain's subscriber.
struct DrainInquiry {
    subscriber: Arc<dyn LogSubscriber>,
    old_value_columns: Arc<OldValueColumns>,
    position: Option<Arc<Position>>,
}

impl Inquiry for DrainInquiry {
    fn at(&mut self, position: &Arc<Position>) {
        self.position = Some(position.clone());
    }

    fn begin(&mut self, entries: &[NetChange]) -> Vec<Question> {
        let Some(position) = &self.position else {
            return Vec::new();
        };
        self.subscriber.begin_inquiry(&InquiryStart {
            position,
            entries,
            old_value_columns: &self.old_value_columns,
        })
    }

    fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        self.subscriber.answer(answers)
    }
}

/// The answers of a backfill that has a connection.
struct InTurn {
    /// Given back before the end is told, because another backfill may follow.
    _turn: OwnedSemaphorePermit,
    answers: Box<dyn BackfillAnswers>,
}

impl BackfillAnswers for InTurn {
    fn take(&mut self, index: usize, answer: Answer) {
        self.answers.take(index, answer);
    }
}

/// Drains the log and publishes what it finds, for as long as the engine lives.
pub(crate) struct SqliteListener {
    pool: SqlitePool,
    context: ListenerContext,
    /// Watches the file for as long as the listener lives.
    _watch: Option<Watch>,
    safety_drain: Duration,
    /// For each connection that may be used to ask behind drains.
    backfill_turns: Arc<Semaphore>,
    /// Ends what is asked there with the listener, however that ends.
    ended: CancellationToken,
    _end: DropGuard,
}

impl SqliteListener {
    pub(crate) fn new(pool: SqlitePool, context: ListenerContext) -> Result<Self, DbError> {
        let watch = pool
            .path()
            .map(|path| Watch::start(path, context.wake.clone()))
            .transpose()?;
        let safety_drain = if watch.is_some() {
            SAFETY_DRAIN
        } else {
            MEMORY_DRAIN
        };
        let backfills_max = (pool.size() / 4).clamp(1, BACKFILLS_MAX);
        let ended = context.shutdown.child_token();
        Ok(Self {
            _end: ended.clone().drop_guard(),
            ended,
            pool,
            context,
            _watch: watch,
            safety_drain,
            backfill_turns: Arc::new(Semaphore::new(backfills_max)),
        })
    }

    /// Listens until the engine shuts down.
    pub(crate) async fn run(self) {
        let ListenerContext {
            subscriber,
            wake,
            status,
            shutdown,
            ..
        } = self.context.clone();
        let mut reached: Option<Cursor> = None;
        let mut replaced = 0;
        let mut pacer = Pacer::default();
        let mut failures = 0;
        loop {
            pacer.rest(&*subscriber).await;
            let began = Instant::now();
            let pause = match self.drain(&mut reached, &mut replaced).await {
                Ok(found) => {
                    if found {
                        pacer.found(began);
                    }
                    failures = 0;
                    let listening = ListenerStatus {
                        wake_up: WakeUp::DataVersion,
                        leader: true,
                    };
                    status.send_if_modified(|status| {
                        std::mem::replace(status, listening) != listening
                    });
                    self.safety_drain
                }
                Err(DrainError::Gap) => {
                    warn!(
                        "the log no longer reaches back to this server's position; clients refetch their rows"
                    );
                    failures += 1;
                    if let Err(error) = self.leave_epoch(reached.take()).await {
                        warn!(%error, "no new epoch could be begun");
                    }
                    backoff::pause(failures)
                }
                Err(error) => {
                    failures += 1;
                    warn!(%error, failures, "the log could not be read; trying again");
                    let entities = &self.context.entities;
                    // If a row was the reason, the next drain reads the rows one by one.
                    if failures > 1 {
                        // The engine's own tables may be gone, or empty.
                        if let Err(error) = self.pool.migrate().await {
                            warn!(%error, "the engine's own tables could not be looked at");
                        }
                    }
                    if failures >= FAILURES_MAX {
                        status.send_replace(ListenerStatus::default());
                        if let DrainError::Db(error) = &error {
                            subscriber.failed(error);
                        }
                    }
                    subscriber.refresh(entities.configured()).await;
                    backoff::pause(failures)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wake.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Begins a new epoch if the file has gone back to a state before the position reached.
    async fn leave_epoch(&self, reached: Option<Cursor>) -> Result<(), DbError> {
        if let Some(Position::Log(reached)) = reached.map(|reached| reached.position)
            && store::begin_epoch(&mut *self.pool.get().await?, reached).await?
        {
            warn!("the SQLite file has gone back to an earlier state; a new epoch begins");
        }
        let all = self.context.entities.configured();
        self.context.subscriber.refresh(all).await;
        Ok(())
    }

    /// Begins what is asked behind a drain, on the drain's connection; none when as many are in use for that as may be.
    fn behind_drain(&self) -> Option<BehindRead> {
        let turn = self.backfill_turns.clone().try_acquire_owned().ok()?;
        let subscriber = self.context.subscriber.clone();
        let begin = move || {
            let Backfill {
                questions,
                time,
                answers,
            } = subscriber.backfill()?;
            let answers = Box::new(InTurn {
                answers,
                _turn: turn,
            });
            Some(Backfill {
                questions,
                time,
                answers,
            })
        };
        Some(BehindRead {
            begin: Box::new(begin),
            shutdown: self.ended.clone(),
        })
    }

    /// Reads and publishes everything that is new. Returns whether anything was.
    async fn drain(
        &self,
        reached: &mut Option<Cursor>,
        replaced: &mut u64,
    ) -> Result<bool, DrainError> {
        let subscriber = &*self.context.subscriber;
        let now = self.pool.replaced()?;
        if now != *replaced {
            // The file may be of another time, or another database.
            self.pool.migrate().await?;
            let all = self.context.entities.configured();
            subscriber.refresh(all).await;
            (*reached, *replaced) = (None, now);
        }
        let from = match reached {
            Some(reached) => &mut reached.position,
            None => {
                let head = self.pool.head().await?;
                subscriber.reset(head.clone());
                &mut reached.insert(head).position
            }
        };
        let old_value_columns = subscriber.old_value_columns();
        let query = ChangesQuery {
            from: from.clone(),
            old_value_columns: (*old_value_columns).clone(),
            metadata: (*subscriber.metadata_entities()).clone(),
            checked: false,
            entries_max: None,
            entities: None,
            at_drain: None,
            inquiry: subscriber.inquires().then(|| {
                let inquiry = Box::new(DrainInquiry {
                    subscriber: self.context.subscriber.clone(),
                    old_value_columns: old_value_columns.clone(),
                    position: None,
                });
                let inquiring = Inquiring::new(subscriber.deciding(), inquiry, TIME_OF_DRAIN);
                Inquiring {
                    backfill: self.behind_drain(),
                    ..inquiring
                }
            }),
        };
        let waiting = &self.context.drain_snapshots;
        let entities = self.context.entities.with_missing();
        let mut changes = self.pool.drain(entities, query, waiting);
        let mut drain = Drain::new(subscriber, from, old_value_columns);
        drain.begin(changes.start().await?)?;
        while let Some(entries) = changes.next().await? {
            drain.take_entries(entries).await?;
        }
        let (position, found) = drain.finish().ok_or(DrainError::Gap)?;
        *from = (*position).clone();
        // Those for which this drain had no time.
        waiting.wake_if_wanted();
        Ok(found)
    }
}
