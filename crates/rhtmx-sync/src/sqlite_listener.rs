//! The listener on SQLite: the engine's own commits announce themselves, those of others show in the
//! file.

use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_core::cursor::{Epoch, Position};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::backoff;
use crate::db::feed::{ChangeSink, Drain, DrainError, Pace};
use crate::db::postgres::listen::{ListenerStatus, WakeUp};
use crate::db::read::ChangesQuery;
use crate::db::sqlite::watch::Watch;
use crate::db::{DbError, DbPool};
use crate::entity::Entities;

/// Between two looks that nothing asked for.
const SAFETY_DRAIN: Duration = Duration::from_secs(1);
/// The same for a database in memory, where other users of the pool cannot be seen.
const MEMORY_DRAIN: Duration = Duration::from_millis(20);

/// Turns the log's news into deliveries, for as long as the engine lives.
pub(crate) struct SqliteListener {
    db: DbPool,
    entities: Arc<Entities>,
    sink: Arc<dyn ChangeSink>,
    poke: Arc<Notify>,
    status: watch::Sender<ListenerStatus>,
    shutdown: CancellationToken,
    /// Keeps looking at the file for as long as the listener lives.
    _watch: Option<Watch>,
    safety_drain: Duration,
}

impl SqliteListener {
    pub(crate) fn new(
        db: DbPool,
        entities: Arc<Entities>,
        sink: Arc<dyn ChangeSink>,
        poke: Arc<Notify>,
        status: watch::Sender<ListenerStatus>,
        shutdown: CancellationToken,
    ) -> Result<Self, DbError> {
        let watch = db
            .sqlite_path()
            .map(|path| Watch::start(path, poke.clone()))
            .transpose()?;
        let safety_drain = if watch.is_some() {
            SAFETY_DRAIN
        } else {
            MEMORY_DRAIN
        };
        Ok(Self {
            db,
            entities,
            sink,
            poke,
            status,
            shutdown,
            _watch: watch,
            safety_drain,
        })
    }

    /// Listens until the engine shuts down.
    pub(crate) async fn run(self) {
        let mut place: Option<(Epoch, Position)> = None;
        let mut pace = Pace::default();
        let mut failures = 0;
        loop {
            pace.rest(&*self.sink).await;
            let began = Instant::now();
            let pause = match self.look(&mut place).await {
                Ok(found) => {
                    if found {
                        pace.found(began);
                    }
                    failures = 0;
                    let listening = ListenerStatus {
                        wake_up: WakeUp::DataVersion,
                        leader: true,
                    };
                    self.status.send_if_modified(|status| {
                        std::mem::replace(status, listening) != listening
                    });
                    self.safety_drain
                }
                Err(DrainError::Gap) => {
                    warn!(
                        "this server was away for longer than the log remembers; clients take their rows anew"
                    );
                    place = None;
                    Duration::ZERO
                }
                Err(error) => {
                    failures += 1;
                    warn!(%error, failures, "the log could not be read; trying again");
                    self.status.send_replace(ListenerStatus::default());
                    if let Err(error) = self.sink.refresh().await {
                        warn!(%error, "the tables could not be looked at again");
                    }
                    backoff::pause(failures)
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = self.poke.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look(&self, place: &mut Option<(Epoch, Position)>) -> Result<bool, DrainError> {
        let from = match place {
            Some((_, position)) => position,
            None => {
                let (epoch, position) = self.db.history().await?;
                self.sink.reset(epoch.clone(), position.clone());
                &mut place.insert((epoch, position)).1
            }
        };
        let histories = self.sink.histories();
        let entities = self.entities.in_log();
        let query = ChangesQuery {
            from: from.clone(),
            histories: (*histories).clone(),
            checked: false,
        };
        let mut parts = self.db.read_changes(entities, query);
        let mut drain = Drain::new(&*self.sink, from, histories);
        while let Some(part) = parts.next().await {
            drain.take(part).await?;
        }
        parts.finish().await?;
        let (position, found) = drain.finish().ok_or(DrainError::Gap)?;
        *from = (*position).clone();
        Ok(found)
    }
}
