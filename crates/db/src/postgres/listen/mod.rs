//! The listener on PostgreSQL: two direct connections, one doorbell, one stream of log batches. Others ask for
//! [new sets](backfill).
//!
//! Connection L listens, drains, and claims the lead; connection W takes and releases the doorbell's
//! lock, because a connection that waits for a lock receives no notifications. If either fails, both are
//! opened again and the log is read from the position reached: notifications only wake, the log is the truth.
//!
//! The server that has claimed the lead [leads](lead); the others [follow](follow). Where notifications do
//! not arrive, the server [polls](poll).

mod ask;
mod backfill;
mod culprits;
mod drain;
mod follow;
mod groups;
mod inquire;
mod lead;
mod left_out;
mod line;
mod poll;
mod settings;
mod silence;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sync_core::cursor::Cursor;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::connect::Connector;
use super::incarnation::Database;
use crate::DbError;
use crate::feed::Pacer;
use crate::health::Health;
use crate::listener::{ListenerContext, ListenerStatus, WakeUp};
use backfill::Backfilling;
use drain::Draining;

/// The advisory lock that every follower holds shared, so that the leader knows whether to ring.
const FOLLOWER_KEY: i64 = 0x7268_746d_785f_0004;

/// A pair of connections that lasted this long was not one of a row of failures.
const STEADY: Duration = Duration::from_secs(10);

/// The payload of the leader's notifications; those of writers have none.
const LEADER_PAYLOAD: &str = "news";

/// Drains the log and publishes what it finds, for as long as the engine lives.
pub struct PostgresNotifyListener {
    connector: Connector,
    health: Arc<Health>,
    context: ListenerContext,
}

impl std::fmt::Debug for PostgresNotifyListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresNotifyListener")
            .field("status", &*self.context.status.borrow())
            .finish_non_exhaustive()
    }
}

/// Why a pair of connections was given up.
enum Ended {
    Shutdown,
    Failed(DbError),
    Gap,
}

impl From<DbError> for Ended {
    fn from(error: DbError) -> Self {
        Self::Failed(error)
    }
}

impl PostgresNotifyListener {
    pub(crate) fn new(connector: Connector, health: Arc<Health>, context: ListenerContext) -> Self {
        Self {
            connector,
            health,
            context,
        }
    }

    /// Listens until the engine shuts down.
    pub(crate) async fn run(self) {
        let mut reached = None;
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ended = self.connected(&mut reached).await;
            self.context.status.send_replace(ListenerStatus::default());
            match ended {
                Ended::Shutdown => return,
                Ended::Gap => {
                    warn!(
                        "the log no longer reaches back to this server's position; clients refetch their rows"
                    );
                    reached = None;
                }
                Ended::Failed(error) => {
                    warn!(%error, failures, "the listener lost the database; trying again");
                    self.context.subscriber.failed(&error);
                }
            }
            // Never at once, whatever was wrong: what makes it end again and again must not make it busy.
            failures = if began.elapsed() < STEADY {
                failures + 1
            } else {
                1
            };
            let pause = crate::backoff::pause(failures);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.context.shutdown.cancelled() => return,
            }
        }
    }

    /// Opens both connections and works with them until one fails.
    async fn connected(&self, reached: &mut Option<Cursor>) -> Ended {
        let served = async {
            let mut line = Line::open(self).await?;
            let silence = line.silence();
            tokio::select! {
                served = line.serve(reached) => served,
                error = silence.detected() => Err(error.into()),
            }
        };
        // Work in progress can be dropped: the locks go with the connections.
        tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => Ended::Shutdown,
            ended = served => ended.map_or_else(|ended| ended, |never: Infallible| match never {}),
        }
    }

    /// Publishes the listener's status.
    fn report(&self, wake_up: WakeUp, leader: bool) {
        let status = ListenerStatus { wake_up, leader };
        if self.context.status.send_replace(status) != status {
            info!(?wake_up, leader, "listening");
        }
    }
}

/// The two connections, and what is known about their database.
struct Line<'a> {
    owner: &'a PostgresNotifyListener,
    /// The schema that contains the log.
    log_schema: String,
    l: Arc<Client>,
    l_pid: i32,
    w: Arc<Client>,
    w_pid: i32,
    rung: Arc<Notify>,
    broken: CancellationToken,
    draining: Draining,
    /// The statement for the fingerprints of what is asked about.
    fingerprints: Option<Statement>,
    backfilling: Backfilling,
    pacer: Pacer,
    /// Whether there are followers to ring for, and when that was looked up.
    followers: Option<(bool, Instant)>,
    /// Whether the database sessions belong to this listener alone, as far as is known.
    is_own_session: bool,
    /// The tasks that drive the connections. Dropping them closes the connections, whatever these wait for.
    _driving: [AbortOnDropHandle<()>; 2],
}

impl Line<'_> {
    /// Everything from the first question to the connection's end.
    async fn serve(&mut self, reached: &mut Option<Cursor>) -> Result<Infallible, Ended> {
        let is_notified = self.is_notified().await?;
        if is_notified {
            self.set_up_sessions().await?;
        }
        let database = Database::find_out(&self.l).await?;
        database
            .ensure_epoch(&self.l, &self.log_schema, reached.as_ref())
            .await?;
        let head = self.head().await?;
        if reached
            .as_ref()
            .is_none_or(|reached| reached.epoch != head.epoch)
        {
            self.owner.context.subscriber.reset(head.clone());
            *reached = Some(head);
        }
        // Tables altered while no server was listening have left no entry in the log.
        let all = self.owner.context.entities.configured();
        self.owner.context.subscriber.refresh(all).await;
        self.drain(reached).await?;
        if !is_notified {
            return self.poll(reached).await;
        }
        if !self.takes_the_lead().await? {
            self.follow(reached).await?;
        }
        self.lead(reached).await
    }
}
