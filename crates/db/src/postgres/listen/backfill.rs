//! What is asked behind a drain: on connections of their own, at the drain's snapshot.
//!
//! The drain's transaction exports its snapshot, and ends only when another connection has taken it over. That one has
//! locked its tables by then, because a table that is truncated behind a snapshot is empty for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sync_core::membership::Answer;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::Line;
use super::ask::{Asking, Clock};
use super::settings::settings_of_drains;
use crate::entity::Entity;
use crate::error::DbResult;
use crate::health::Health;
use crate::postgres::connect::{Driven, failed};
use crate::postgres::one_snapshot::ONE_SNAPSHOT;
use crate::quote::literal;
use crate::read::Backfill;
use crate::read::inquiry::entities_of;

/// How many connections there are at most.
const CONNECTIONS_MAX: usize = 4;
/// How long a drain waits for a connection to take its snapshot over.
const TAKE_OVER_PATIENCE: Duration = Duration::from_millis(250);
/// How long after a failure a backfill is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How many questions are asked before their answers are handed on.
const HANDED_ON_TOGETHER: usize = 16;

/// The connections, and what is asked on them.
#[derive(Default)]
pub(super) struct Backfilling {
    idle: Arc<Mutex<Vec<Driven>>>,
    /// What is asked, and connections that are being opened. All of it ends with the listener's own connections.
    tasks: JoinSet<()>,
    /// No backfill begins before this.
    not_before: Option<Instant>,
}

impl Backfilling {
    fn take(&mut self) -> Option<Driven> {
        while self.tasks.try_join_next().is_some() {}
        let now = Instant::now();
        if self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|asker| !asker.client.is_closed());
        idle.pop()
    }

    /// Closes the connections that are not used.
    pub(super) fn close_idle(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
    }

    /// Opens another connection, unless there are enough.
    fn open(&mut self, line: &super::PostgresNotifyListener) {
        let connections = self.tasks.len();
        if connections >= CONNECTIONS_MAX
            || self.not_before.is_some_and(|time| Instant::now() < time)
        {
            return;
        }
        let (connector, idle) = (line.connector.clone(), self.idle.clone());
        let wake = line.context.wake.clone();
        self.tasks.spawn(async move {
            match connector.connect_driven().await {
                Ok(asker) => keep(&idle, asker),
                Err(error) => {
                    debug!(%error, "no connection could be opened to ask for new sets");
                    sleep(PAUSE).await;
                }
            }
            wake.notify_one();
        });
    }
}

fn keep(idle: &Mutex<Vec<Driven>>, asker: Driven) {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    idle.push(asker);
}

impl Line<'_> {
    /// Gives the snapshot of the drain whose transaction is open to the reads that wait for one.
    pub(super) async fn give_snapshot(&mut self) -> DbResult<()> {
        let drains = self.owner.context.drain_snapshots.clone();
        if drains.is_awaited() {
            let snapshot = self.export_snapshot().await?;
            drains.export(&snapshot, TAKE_OVER_PATIENCE).await;
        }
        Ok(())
    }

    async fn export_snapshot(&self) -> DbResult<String> {
        let exported = self
            .l
            .query_typed_one("SELECT pg_catalog.pg_export_snapshot()", &[]);
        let snapshot = exported.await.and_then(|row| row.try_get(0));
        snapshot.map_err(|error| failed("exporting the snapshot of a drain", &error))
    }

    /// Begins what is to be asked behind the drain whose transaction is open.
    pub(super) async fn begin_backfill(&mut self) -> DbResult<()> {
        let subscriber = self.owner.context.subscriber.clone();
        let Some(asker) = self.backfilling.take() else {
            self.backfilling.open(self.owner);
            return Ok(());
        };
        let Some(backfill) = subscriber.backfill() else {
            keep(&self.backfilling.idle, asker);
            return Ok(());
        };
        let snapshot = match self.export_snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // The drain is tried again, without this.
                self.backfilling.not_before = Some(Instant::now() + PAUSE);
                return Err(error);
            }
        };
        let askable = self.askable(&self.owner.context.entities.with_missing());
        let begin = begin(&snapshot, &backfill, &askable);
        let begun = timeout(TAKE_OVER_PATIENCE, asker.client.batch_execute(&begin)).await;
        if !matches!(begun, Ok(Ok(()))) {
            let code = begun.ok().and_then(Result::err);
            let code = code.and_then(|error| error.code().map(|code| code.code().to_owned()));
            debug!(
                code,
                "the snapshot of a drain could not be taken over; trying again"
            );
            self.backfilling.tasks.spawn(async move {
                sleep(PAUSE).await;
                drop(backfill);
            });
            return Ok(());
        }
        let asking = BackfillTask {
            asker,
            askable,
            log_schema: self.log_schema.clone(),
            health: self.owner.health.clone(),
        };
        let idle = self.backfilling.idle.clone();
        self.backfilling.tasks.spawn(async move {
            let mut backfill = backfill;
            match asking.run(&mut backfill).await {
                Ok(asker) => keep(&idle, asker),
                Err(error) => debug!(%error, "new sets could not be asked for; trying again"),
            }
            // Another one may follow, now that there is a connection for it.
            drop(backfill);
        });
        Ok(())
    }
}

/// Begins a transaction at this snapshot, with its tables locked. A session that waits for an exclusive lock goes first.
fn begin(snapshot: &str, backfill: &Backfill, askable: &BTreeMap<String, Arc<Entity>>) -> String {
    let questions = backfill.questions.iter();
    let entities =
        questions.flat_map(|question| entities_of(question, askable).unwrap_or_default());
    let relations: BTreeSet<String> = entities.filter_map(|it| it.relation.clone()).collect();
    let lock = match relations.is_empty() {
        true => String::new(),
        false => {
            let relations: Vec<String> = relations.into_iter().collect();
            format!(
                "LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT",
                relations.join(", ")
            )
        }
    };
    let settings = settings_of_drains("SET LOCAL");
    let snapshot = literal(snapshot);
    format!("BEGIN {ONE_SNAPSHOT}; SET TRANSACTION SNAPSHOT {snapshot}; {settings}; {lock}")
}

struct BackfillTask {
    asker: Driven,
    askable: BTreeMap<String, Arc<Entity>>,
    log_schema: String,
    health: Arc<Health>,
}

impl BackfillTask {
    /// Asks, and hands the answers on. Returns the connection.
    async fn run(self, backfill: &mut Backfill) -> DbResult<Driven> {
        let asking = Asking {
            client: &self.asker.client,
            log_schema: &self.log_schema,
            health: &self.health,
            entities: &self.askable,
            fingerprints: None,
        };
        let clock = Clock::start(backfill.time);
        let chunks = backfill.questions.chunks(HANDED_ON_TOGETHER);
        for (chunk, questions) in chunks.enumerate() {
            let answers = match asking.ask(questions, &clock).await {
                Ok(answers) => answers,
                Err(error) => {
                    let unanswered = chunk * HANDED_ON_TOGETHER..backfill.questions.len();
                    unanswered.for_each(|index| backfill.answers.take(index, Answer::Unknown));
                    return Err(error);
                }
            };
            for (index, answer) in answers.into_iter().enumerate() {
                if let Some(answer) = answer {
                    backfill
                        .answers
                        .take(chunk * HANDED_ON_TOGETHER + index, answer);
                }
            }
        }
        let ended = self.asker.client.batch_execute("COMMIT").await;
        ended.map_err(|error| failed("ending a backfill", &error))?;
        Ok(self.asker)
    }
}
