//! The listener on PostgreSQL: two direct connections, one doorbell, one stream of news.
//!
//! Connection L listens, drains, and holds the leader's lock; connection W takes and releases the
//! doorbell's lock, because a connection that waits for a lock hears no notification. If either
//! fails, both are opened again and the log is read from the position reached: notifications only
//! wake, the log is the truth.

mod drain;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use sync_core::cursor::{Cursor, Epoch};
use sync_core::doorbell::{Command, Doorbell, Event, Timing};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::capture::{CHANNEL, DOORBELL_KEY};
use super::connect::{Connected, Connector, failed};
use super::store::BEGIN_AFTER_CRASH;
use crate::error::DbResult;
use crate::feed::Pacer;
use crate::listener::{ListenerContext, ListenerStatus, WakeUp};
use crate::{DbError, read};
use drain::Draining;

/// Held by the one engine that runs the doorbell.
const LEADER_KEY: i64 = 0x7268_746d_785f_0002;
/// Held shared by every engine that does not, so that the leader knows whether to ring for them.
const FOLLOWER_KEY: i64 = 0x7268_746d_785f_0004;

/// What the leader rings with; writers ring with nothing.
const NEWS: &str = "news";

const SECOND: Duration = Duration::from_secs(1);
/// How long the test notification may take before listening counts as impossible here.
const SELF_TEST: Duration = Duration::from_secs(3);
/// Between two drains where nobody can ring.
const POLL: Duration = Duration::from_millis(100);

/// L's settings. The planner's, because left alone it scans tables and the log; the time zone,
/// because rows are made into JSON here; no time-outs but the one for tables that are locked.
const SESSION: &str = "\
SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = '500ms'; \
SET \"TimeZone\" = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; \
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET jit = off; \
SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_generic_plan; \
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
const SESSION_OF_W: &str = "\
SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0; \
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// A request in the lock's queue must not outlive us. Not every platform that PostgreSQL runs on has
/// it.
const NOTICES_OUR_END: &str = "SET client_connection_check_interval = '2s'";

/// Turns the log's news into deliveries, for as long as the engine lives.
pub struct PostgresNotifyListener {
    connector: Connector,
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
    pub(crate) fn new(connector: Connector, context: ListenerContext) -> Self {
        Self { connector, context }
    }

    /// Listens until the engine shuts down.
    pub(crate) async fn run(self) {
        let mut reached = None;
        let mut failures = 0;
        loop {
            let ended = self.connected(&mut reached, &mut failures).await;
            self.context.status.send_replace(ListenerStatus::default());
            match ended {
                Ended::Shutdown => return,
                Ended::Gap => {
                    warn!(
                        "this server was missing for longer than the log remembers; clients take their rows anew"
                    );
                    reached = None;
                }
                Ended::Failed(error) => {
                    failures += 1;
                    warn!(%error, failures, "the listener lost the database; trying again");
                    let pause = crate::backoff::pause(failures);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.context.shutdown.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Opens both connections and works with them until one fails.
    async fn connected(&self, reached: &mut Option<Cursor>, failures: &mut u32) -> Ended {
        let served = async {
            match Line::open(self).await?.serve(reached, failures).await {
                Ok(never) => match never {},
                Err(ended) => Err(ended),
            }
        };
        // Whatever is under way can be left: the locks go with the connections.
        tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => Ended::Shutdown,
            ended = served => ended.map_or_else(|ended| ended, |never: Never| match never {}),
        }
    }

    fn say(&self, wake_up: WakeUp, leader: bool) {
        let status = ListenerStatus { wake_up, leader };
        if self.context.status.send_replace(status) != status {
            info!(?wake_up, leader, "listening");
        }
    }
}

enum Never {}

/// The request for the doorbell's lock that waits in the queue.
type Queued = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// The two connections, and what is known with them.
struct Line<'a> {
    owner: &'a PostgresNotifyListener,
    l: Client,
    w: Arc<Client>,
    w_pid: i32,
    rung: Arc<Notify>,
    broken: CancellationToken,
    draining: Draining,
    pace: Pacer,
    /// Whether somebody else might be waiting for our ring, and when that was looked up.
    followers: Option<(bool, Instant)>,
    /// Close the connections when this value is dropped, whatever they wait for.
    _driving: [AbortOnDropHandle<()>; 2],
}

impl<'a> Line<'a> {
    async fn open(owner: &'a PostgresNotifyListener) -> DbResult<Self> {
        let rung = Arc::new(Notify::new());
        let broken = CancellationToken::new();
        let own_pid = Arc::new(AtomicI32::new(0));
        let (l, l_driving) = drive(
            owner.connector.connect().await?,
            rung.clone(),
            own_pid.clone(),
            broken.clone(),
        );
        let deaf = Arc::new(Notify::new());
        let (w, w_driving) = drive(
            owner.connector.connect().await?,
            deaf,
            own_pid.clone(),
            broken.clone(),
        );
        l.batch_execute(SESSION)
            .await
            .map_err(|error| failed("preparing the listener", &error))?;
        w.batch_execute(SESSION_OF_W)
            .await
            .map_err(|error| failed("preparing the listener", &error))?;
        if let Err(error) = w.batch_execute(NOTICES_OUR_END).await {
            debug!(%error, "the database will not notice when this server ends in the queue");
        }
        own_pid.store(backend_pid(&l).await?, Ordering::Relaxed);
        let w_pid = backend_pid(&w).await?;
        Ok(Self {
            owner,
            l,
            w: Arc::new(w),
            w_pid,
            rung,
            broken,
            draining: Draining::default(),
            pace: Pacer::default(),
            followers: None,
            _driving: [l_driving, w_driving],
        })
    }

    /// Everything from the first `LISTEN` to the connection's end.
    async fn serve(
        &mut self,
        reached: &mut Option<Cursor>,
        failures: &mut u32,
    ) -> Result<Never, Ended> {
        self.execute("listening", &format!("LISTEN {CHANNEL}"))
            .await?;
        let hears = self.hears_itself().await?;
        self.execute("looking for a crash", BEGIN_AFTER_CRASH)
            .await?;
        let head = self.head().await?;
        if reached
            .as_ref()
            .is_none_or(|reached| reached.epoch != head.epoch)
        {
            self.owner.context.subscriber.reset(head.clone());
            *reached = Some(head);
        }
        // What was altered while nobody listened left no entry.
        self.owner.context.subscriber.refresh().await?;
        self.drain(reached).await?;
        *failures = 0;
        if !hears {
            return self.poll(reached).await;
        }
        if !self.takes_the_lead().await? {
            self.owner.say(WakeUp::Notify, false);
            // The leader takes this lock for moments only.
            self.execute(
                "following",
                &format!("SELECT pg_advisory_lock_shared({FOLLOWER_KEY})"),
            )
            .await?;
            // From here on the leader rings for us; what it found before is in the log.
            while !self.takes_the_lead().await? {
                self.follow(reached).await?;
            }
            self.execute(
                "leading",
                &format!("SELECT pg_advisory_unlock_shared({FOLLOWER_KEY})"),
            )
            .await?;
        }
        self.lead(reached).await
    }

    async fn takes_the_lead(&self) -> Result<bool, Ended> {
        Ok(try_lock(&self.l, LEADER_KEY, "taking the lead").await?)
    }

    /// Sends itself a notification. A transaction pooler swallows it in silence.
    async fn hears_itself(&self) -> Result<bool, Ended> {
        self.execute(
            "testing notifications",
            &format!("SELECT pg_notify('{CHANNEL}', 'test')"),
        )
        .await?;
        tokio::select! {
            () = self.rung.notified() => Ok(true),
            () = self.broken.cancelled() => Err(self.lost()),
            () = tokio::time::sleep(SELF_TEST) => {
                warn!(
                    "notifications do not arrive on this connection (a transaction pooler?): polling the log \
                     instead; set `database.listen_url` to a direct connection"
                );
                Ok(false)
            }
        }
    }

    async fn head(&self) -> Result<Cursor, Ended> {
        let row = self
            .l
            .query_one(super::store::HEAD, &[])
            .await
            .map_err(|error| failed("reading the epoch", &error))?;
        let (epoch, position): (String, String) = (row.get(0), row.get(1));
        Ok(Cursor {
            epoch: Epoch::new(&epoch),
            position: read::position(&position)?,
        })
    }

    /// Without notifications: looks again and again.
    async fn poll(&mut self, reached: &mut Option<Cursor>) -> Result<Never, Ended> {
        self.owner.say(WakeUp::Polling, false);
        loop {
            self.drain(reached).await?;
            self.wait(POLL, None).await?;
        }
    }

    /// Runs the doorbell, until the connection ends.
    async fn lead(&mut self, reached: &mut Option<Cursor>) -> Result<Never, Ended> {
        self.owner.say(WakeUp::Notify, true);
        let mut doorbell = Doorbell::new(Timing::default());
        let mut queued: Option<Queued> = None;
        let mut command = doorbell.on(Event::Connected);
        loop {
            let event = match command.expect("an outcome always gives the next command") {
                Command::Drain => {
                    let found = self.drain_and_ring(reached).await?;
                    Event::Drained { found }
                }
                Command::Wait { at_most_ms } => {
                    self.wait(Duration::from_millis(at_most_ms), queued.as_mut())
                        .await?
                }
                Command::TryLock => {
                    let granted = try_lock(&self.w, DOORBELL_KEY, "going to sleep").await?;
                    Event::LockTried { granted }
                }
                Command::QueueLock => {
                    let w = self.w.clone();
                    queued = Some(
                        async move {
                            w.batch_execute(&format!("SELECT pg_advisory_lock({DOORBELL_KEY})"))
                                .await
                        }
                        .boxed(),
                    );
                    Event::LockQueued
                }
                Command::CancelLock => {
                    // From L, so that it is done when this returns and cannot hit a later statement.
                    let cancelled = self
                        .l
                        .execute("SELECT pg_cancel_backend($1)", &[&self.w_pid])
                        .await;
                    cancelled.map_err(|error| failed("leaving the queue", &error))?;
                    Event::CancelSent
                }
                Command::Unlock => {
                    let w = self.w.clone();
                    let unlock = format!("SELECT pg_advisory_unlock({DOORBELL_KEY})");
                    // What was rung for need not wait for that. The drain which counts is the one that
                    // is commanded after it.
                    let (unlocked, drained) =
                        tokio::join!(w.batch_execute(&unlock), self.drain_and_ring(reached));
                    unlocked.map_err(|error| failed("waking", &error))?;
                    drained?;
                    Event::Unlocked
                }
            };
            if matches!(event, Event::LockGranted | Event::LockCancelled) {
                queued = None;
            }
            command = doorbell.on(event);
        }
    }

    /// Drains, and tells the followers of what was found.
    async fn drain_and_ring(&mut self, reached: &mut Option<Cursor>) -> Result<bool, Ended> {
        let found = self.drain(reached).await?;
        if found {
            self.ring_followers().await?;
        }
        Ok(found)
    }

    /// Waits for whatever comes first.
    async fn wait(&self, at_most: Duration, queued: Option<&mut Queued>) -> Result<Event, Ended> {
        let answer = async {
            match queued {
                Some(queued) => queued.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.broken.cancelled() => Err(self.lost()),
            answer = answer => match answer {
                Ok(()) => Ok(Event::LockGranted),
                Err(error) if left_the_queue(&error) => Ok(Event::LockCancelled),
                Err(error) => Err(failed("waiting in the queue", &error).into()),
            },
            () = self.rung.notified() => Ok(Event::Rung),
            () = self.owner.context.wake.notified() => Ok(Event::Woken),
            () = tokio::time::sleep(at_most) => Ok(Event::Elapsed),
        }
    }

    /// Drains, and again whenever it is rung, for a second.
    async fn follow(&mut self, reached: &mut Option<Cursor>) -> Result<(), Ended> {
        let ends = Instant::now() + SECOND;
        loop {
            self.drain(reached).await?;
            let left = ends.saturating_duration_since(Instant::now());
            // Also when rings come faster than they can be answered.
            if left.is_zero() || self.wait(left, None).await? == Event::Elapsed {
                return Ok(());
            }
        }
    }

    /// Rings for the followers, where there are any.
    async fn ring_followers(&mut self) -> Result<(), Ended> {
        let known = self.followers.filter(|(_, since)| since.elapsed() < SECOND);
        let present = match known {
            Some((present, _)) => present,
            None => {
                let context = "looking for followers";
                let alone = try_lock(&self.l, FOLLOWER_KEY, context).await?;
                if alone {
                    self.execute(
                        context,
                        &format!("SELECT pg_advisory_unlock({FOLLOWER_KEY})"),
                    )
                    .await?;
                }
                self.followers = Some((!alone, Instant::now()));
                !alone
            }
        };
        if present {
            self.execute(
                "ringing",
                &format!("SELECT pg_notify('{CHANNEL}', '{NEWS}')"),
            )
            .await?;
        }
        Ok(())
    }

    async fn execute(&self, context: &'static str, sql: &str) -> Result<(), Ended> {
        self.l
            .batch_execute(sql)
            .await
            .map_err(|error| failed(context, &error).into())
    }

    fn lost(&self) -> Ended {
        Ended::Failed(DbError::Unreachable(
            "the listener's connection ended".to_owned(),
        ))
    }
}

/// Tries for an advisory lock, in one round trip: a statement with parameters would be prepared first.
async fn try_lock(client: &Client, key: i64, context: &'static str) -> DbResult<bool> {
    let messages = client
        .simple_query(&format!("SELECT pg_try_advisory_lock({key})"))
        .await
        .map_err(|error| failed(context, &error))?;
    Ok(messages
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
}

async fn backend_pid(client: &Client) -> DbResult<i32> {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    row.and_then(|row| row.try_get(0))
        .map_err(|error| failed("preparing the listener", &error))
}

/// Drives a connection in a task of its own; it rings for notifications of others.
fn drive(
    connected: Connected,
    rung: Arc<Notify>,
    own_pid: Arc<AtomicI32>,
    broken: CancellationToken,
) -> (Client, AbortOnDropHandle<()>) {
    let (client, mut connection) = connected;
    let driving = tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    // The leader's own ring for its followers would only wake itself.
                    let own = notification.process_id() == own_pid.load(Ordering::Relaxed);
                    if !(own && notification.payload() == NEWS) {
                        rung.notify_one();
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    debug!(%error, "a connection of the listener ended");
                    break;
                }
            }
        }
        broken.cancel();
    });
    (client, AbortOnDropHandle::new(driving))
}

/// The request ended without the lock, but the connection still works.
fn left_the_queue(error: &tokio_postgres::Error) -> bool {
    let ends = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| ends.contains(code))
}
