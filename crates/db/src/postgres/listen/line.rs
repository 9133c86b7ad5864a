//! The two connections: opening them, driving them, and waiting for their events.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use sync_core::cursor::{Cursor, Epoch};
use sync_core::doorbell::Event;
use tokio::sync::Notify;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::backfill::Backfilling;
use super::drain::Draining;
use super::settings::settings_of_drains;
use super::{Ended, LEADER_PAYLOAD, Line, PostgresNotifyListener};
use crate::error::{DbError, DbResult};
use crate::feed::{LogSubscriber, Pacer};
use crate::postgres::connect::{Connected, failed};
use crate::postgres::store::{HEAD, LOG_SCHEMA, MESSAGE_PREFIX, in_schema};
use crate::read;

/// L's other settings.
const SESSION_OF_L: &str = "\
SET idle_session_timeout = 0; SET default_transaction_isolation = 'read committed'; \
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// W's settings. A request in the lock's queue is a statement with a snapshot, for which `CREATE INDEX
/// CONCURRENTLY` waits, on whatever table. So it is made again once a second.
const SESSION_OF_W: &str = "\
SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = '1s'; \
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
/// Ends W's request in the lock's queue soon after this server has gone. Not every platform that PostgreSQL
/// runs on supports it.
const DETECT_DISCONNECT: &str = "SET client_connection_check_interval = '2s'";

/// The request for the doorbell's lock, waiting in the queue.
pub(super) type Queued = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

impl<'a> Line<'a> {
    pub(super) async fn open(owner: &'a PostgresNotifyListener) -> DbResult<Self> {
        let rung = Arc::new(Notify::new());
        let broken = CancellationToken::new();
        let own_pid = Arc::new(AtomicI32::new(0));
        let (l, l_driving) = drive(
            owner.connector.connect().await?,
            (rung.clone(), owner.context.subscriber.clone()),
            own_pid.clone(),
            broken.clone(),
        );
        let unused = Arc::new(Notify::new());
        let (w, w_driving) = drive(
            owner.connector.connect().await?,
            (unused, owner.context.subscriber.clone()),
            own_pid.clone(),
            broken.clone(),
        );
        let log_schema = l.query_typed_one(LOG_SCHEMA, &[]).await;
        let log_schema: String = match log_schema.and_then(|row| row.try_get(0)) {
            Ok(log_schema) => log_schema,
            Err(error) if is_gone(&error) => {
                // Somebody dropped them, with their schema perhaps.
                owner.context.subscriber.prepare_again().await?;
                let made = "the engine's own tables were gone and have been made again";
                return Err(DbError::Unreachable(made.to_owned()));
            }
            Err(error) => return Err(failed("looking for the log", &error)),
        };
        let l_pid = backend_pid(&l).await?;
        own_pid.store(l_pid, Ordering::Relaxed);
        let w_pid = backend_pid(&w).await?;
        // What is left out is remembered by each pair of connections, and this one has left nothing out.
        owner.health.take_all_in();
        Ok(Self {
            owner,
            log_schema,
            l: Arc::new(l),
            l_pid,
            w: Arc::new(w),
            w_pid,
            rung,
            broken,
            draining: Draining::default(),
            fingerprints: None,
            backfilling: Backfilling::default(),
            pacer: Pacer::default(),
            followers: None,
            is_own_session: false,
            _driving: [l_driving, w_driving],
        })
    }
}

impl Line<'_> {
    /// Makes the settings, once it is known that the sessions are the listener's own: through a pooler they would
    /// stay on connections that an application gets.
    pub(super) async fn set_up_sessions(&mut self) -> DbResult<()> {
        let of_drains = settings_of_drains("SET");
        self.l
            .batch_execute(&format!("{of_drains}; {SESSION_OF_L}"))
            .await
            .map_err(|error| failed("preparing the listener", &error))?;
        self.w
            .batch_execute(SESSION_OF_W)
            .await
            .map_err(|error| failed("preparing the listener", &error))?;
        if let Err(error) = self.w.batch_execute(DETECT_DISCONNECT).await {
            debug!(%error, "the database will not notice when this server ends in the queue");
        }
        self.is_own_session = true;
        Ok(())
    }

    /// Begins a transaction with the settings of drains.
    pub(super) async fn begin_drain(&self) -> DbResult<()> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        self.l
            .batch_execute(&format!("{begin}; {}", settings_of_drains("SET LOCAL")))
            .await
            .map_err(|error| failed("beginning a drain", &error))
    }

    pub(super) async fn head(&self) -> Result<Cursor, Ended> {
        let row = self
            .l
            .query_typed_one(&in_schema(HEAD, &self.log_schema), &[])
            .await
            .map_err(|error| failed("reading the epoch", &error))?;
        let (epoch, position): (String, String) = (row.get(0), row.get(1));
        Ok(Cursor {
            epoch: Epoch::new(&epoch),
            position: read::position(&position)?,
        })
    }

    /// Waits for the first event.
    pub(super) async fn wait(
        &self,
        at_most: Duration,
        queued: Option<&mut Queued>,
    ) -> Result<Event, Ended> {
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

    pub(super) async fn execute(&self, context: &'static str, sql: &str) -> Result<(), Ended> {
        self.l
            .batch_execute(sql)
            .await
            .map_err(|error| failed(context, &error).into())
    }

    pub(super) fn lost(&self) -> Ended {
        Ended::Failed(DbError::Unreachable(
            "the listener's connection ended".to_owned(),
        ))
    }
}

/// Tries to take an advisory lock.
pub(super) async fn try_lock(client: &Client, key: i64, context: &'static str) -> DbResult<bool> {
    let answered = is_true(client, &format!("SELECT pg_try_advisory_lock({key})")).await;
    answered.map_err(|error| failed(context, &error))
}

/// Tries to take an advisory lock that others may hold as well.
pub(super) async fn try_lock_shared(
    client: &Client,
    key: i64,
    context: &'static str,
) -> DbResult<bool> {
    let answered = is_true(
        client,
        &format!("SELECT pg_try_advisory_lock_shared({key})"),
    )
    .await;
    answered.map_err(|error| failed(context, &error))
}

/// Asks a question, in one round trip: a statement with parameters would be prepared first.
pub(super) async fn is_true(client: &Client, sql: &str) -> Result<bool, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
}

async fn backend_pid(client: &Client) -> DbResult<i32> {
    let row = client.query_typed_one("SELECT pg_backend_pid()", &[]).await;
    row.and_then(|row| row.try_get(0))
        .map_err(|error| failed("preparing the listener", &error))
}

/// Drives a connection in a task of its own, which passes the notifications of others on: those that wake to `rung`,
/// messages to the subscriber.
fn drive(
    connected: Connected,
    (rung, subscriber): (Arc<Notify>, Arc<dyn LogSubscriber>),
    own_pid: Arc<AtomicI32>,
    broken: CancellationToken,
) -> (Client, AbortOnDropHandle<()>) {
    let (client, mut connection) = connected;
    let driving = tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    if let Some(message) = notification.payload().strip_prefix(MESSAGE_PREFIX) {
                        subscriber.message(message);
                        continue;
                    }
                    // The leader's notification for its followers would only wake the leader itself.
                    let own = notification.process_id() == own_pid.load(Ordering::Relaxed);
                    if !(own && notification.payload() == LEADER_PAYLOAD) {
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

/// Whether the statement's table, or its schema, does not exist.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    let gone = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|code| gone.contains(code))
}

/// Whether the request ended without the lock while the connection still works.
fn left_the_queue(error: &tokio_postgres::Error) -> bool {
    let ends = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| ends.contains(code))
}
