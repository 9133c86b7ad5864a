//! The engine: what runs, who owns what, and how it starts and stops.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::RandomState;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rhtmx_sync_core::cursor::{Cursor, Epoch, Position};
use rhtmx_sync_core::protocol::{ErrorCode, Limits};
use rhtmx_sync_core::schema::SchemaSummary;
use rhtmx_sync_core::session::Refusal;
use rhtmx_sync_core::shape::{Shape, Wanted};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::backoff;
use crate::change_tracker::{self, ChangeBatch, ChangeTracker};
use crate::config::SyncConfig;
use crate::db::feed::{ChangeSink, Drained};
use crate::db::postgres::listen::{ListenerStatus, PostgresNotifyListener, WakeUp};
use crate::db::read::HistoryColumns;
use crate::db::{DbError, DbPool};
use crate::entity::{Entities, Entity, EntityConfig, EntitySource};
use crate::error::SyncError;
use crate::hub::Hub;
use crate::reader::Reader;
use crate::sqlite_listener::SqliteListener;

/// Names that the routes use for themselves.
const RESERVED: [&str; 6] = [
    "ws",
    "events",
    "status",
    "client.js",
    "sync.js",
    "client-network.js",
];
/// How long [`SyncEngine::new`] waits for the first connection before it returns all the same.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);
/// How often the catalog is looked at for tables that have changed.
const CATALOG_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks whether the listener has come as far as it must.
const CATCHING_UP: Duration = Duration::from_millis(5);
/// How long a shutdown waits for sessions and mutations.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// A running engine. Cheap to clone; it runs until [`SyncEngine::shutdown`].
#[derive(Debug, Clone)]
pub struct SyncEngine {
    pub(crate) inner: Arc<Inner>,
}

/// Whether clients can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not yet, or not at the moment; why.
    NotReady(String),
}

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: SyncConfig,
    pub(crate) entities: Arc<Entities>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) changes: broadcast::Sender<Arc<ChangeBatch>>,
    pub(crate) listener: watch::Sender<ListenerStatus>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    poke: Arc<Notify>,
    readiness: watch::Sender<Readiness>,
    refreshing: tokio::sync::Mutex<()>,
    /// Makes the ids of shapes in the status.
    pub(crate) shape_ids: RandomState,
}

impl SyncEngine {
    /// Prepares the database (migrations, triggers) and starts to listen.
    ///
    /// A database that is out of reach is not an error: the engine keeps trying, and says so in
    /// [`SyncEngine::readiness`]. Call it inside a tokio runtime with several threads.
    ///
    /// # Errors
    /// When the configuration contradicts itself, an entity's table is missing or has no primary
    /// key, or the database refuses what the engine needs.
    pub async fn new(mut config: SyncConfig) -> Result<Self, SyncError> {
        check(&config)?;
        config.db_pool = config.db_pool.configured(&config.database)?;
        let names = config.entities.iter().map(|entity| entity.name.clone());
        let entities = Arc::new(Entities::new(names.collect()));
        let hub = Arc::new(Hub::default());
        let reads_at_once = (config.database.pool_size as usize / 2).max(1);
        let reader = Reader::new(
            config.db_pool.clone(),
            entities.clone(),
            hub.clone(),
            reads_at_once,
        );
        let inner = Arc::new(Inner {
            config,
            entities,
            hub,
            reader,
            changes: change_tracker::channel(),
            listener: watch::Sender::new(ListenerStatus::default()),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            poke: Arc::new(Notify::new()),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
            refreshing: tokio::sync::Mutex::default(),
            shape_ids: RandomState::new(),
        });
        match inner.prepare().await {
            Ok(()) => inner.start()?,
            Err(SyncError::Database(error)) if error.is_transient() => {
                warn!(%error, "the database is not there yet; trying again");
                inner.not_ready(&error.to_string());
                let starting = inner.clone();
                inner.spawn(async move { starting.start_later().await });
                return Ok(Self { inner });
            }
            Err(error) => return Err(error),
        }
        let engine = Self { inner };
        let _ = tokio::time::timeout(FIRST_CONNECTION, engine.ready()).await;
        Ok(engine)
    }

    /// Waits until clients can be served.
    pub async fn ready(&self) {
        let mut readiness = self.inner.readiness.subscribe();
        // The sender lives in `inner`.
        let _ = readiness
            .wait_for(|readiness| *readiness == Readiness::Ready)
            .await;
    }

    /// Whether clients can be served, and why not.
    pub fn readiness(&self) -> Readiness {
        if self.inner.shutdown.is_cancelled() {
            return Readiness::NotReady("shutting down".to_owned());
        }
        self.inner.readiness.borrow().clone()
    }

    /// The log, for Rust code in this process.
    pub fn change_tracker(&self) -> ChangeTracker {
        ChangeTracker::new(self.inner.clone())
    }

    /// Ends every session with close code 1001, lets mutations that are under way finish, and stops.
    /// Routes that are still merged answer that the server is shutting down.
    pub async fn shutdown(&self) {
        self.inner.shutdown.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.inner.tasks.wait())
            .await
            .is_err()
        {
            warn!("shutting down without having waited for everything");
        }
    }

    /// Removes the triggers of these entities, or of all that have any; gives their names. Clients
    /// of a later capture take those entities anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn uncapture(
        db_pool: &DbPool,
        only: Option<&[String]>,
    ) -> Result<Vec<String>, SyncError> {
        Ok(db_pool.uninstall(only).await?)
    }
}

fn check(config: &SyncConfig) -> Result<(), SyncError> {
    let wrong = |text: String| Err(SyncError::Config(text));
    let prefix = &config.prefix;
    if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['{', '}', '*']) {
        return wrong(format!(
            "prefix {prefix:?} must begin with a slash and not end with one"
        ));
    }
    let mut seen = std::collections::BTreeSet::new();
    for EntityConfig { name, .. } in &config.entities {
        if name.is_empty() || name.contains('\0') {
            return wrong("an entity needs a name".to_owned());
        }
        if RESERVED.contains(&name.as_str()) {
            return wrong(format!(
                "no entity can be called {name:?}: the routes use that name"
            ));
        }
        if !seen.insert(name) {
            return wrong(format!("entity {name:?} is there twice"));
        }
    }
    Ok(())
}

impl Inner {
    /// Runs beside the sessions, until the shutdown.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Looks for news without waiting to be woken.
    pub(crate) fn poke(&self) {
        self.poke.notify_one();
    }

    /// Waits until everything that is committed now has been handed on here, so that forgetting it
    /// takes it from nobody in this process.
    pub(crate) async fn caught_up(&self) -> Result<(), DbError> {
        let (_, committed) = self.config.db_pool.history().await?;
        while !self
            .hub
            .cursor()
            .is_some_and(|reached| reached.position.covers(&committed))
        {
            self.poke();
            tokio::time::sleep(CATCHING_UP).await;
        }
        Ok(())
    }

    /// Whether there is an entity of this name, with or without its table at the moment.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        self.config
            .entities
            .iter()
            .any(|entity| entity.name == name)
    }

    /// The limits as clients see them.
    pub(crate) fn wire_limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.config.limits.frame_bytes_max,
            subscriptions_max: self.config.limits.subscriptions_max,
            writes_max: self.config.limits.writes_max,
        }
    }

    /// The columns of an entity, also of one whose table is gone: a reshape follows behind that.
    pub(crate) fn summary(&self, entity: &str) -> SchemaSummary {
        let known = self.entities.last_known(entity);
        let nothing = || SchemaSummary {
            key: Vec::new(),
            columns: BTreeMap::new(),
        };
        known.map_or_else(nothing, |entity| entity.schema.summary())
    }

    /// The shape that a client asks for, in the table as it was when it could last be read: should
    /// it have changed since, the read tells.
    pub(crate) fn resolve(&self, entity: &str, wanted: Wanted<'_>) -> Result<Shape, Refusal> {
        let refuse = |code, message: &str| {
            let message = message.to_owned();
            Err(Refusal { code, message })
        };
        if !self.is_configured(entity) {
            let message = "no entity of this name is synced here";
            return refuse(ErrorCode::UnknownEntity, message);
        }
        if wanted.is_everything() {
            return Ok(Shape::whole(entity));
        }
        let Some(known) = self.entities.last_known(entity) else {
            let message = "its table is not there at the moment; try again";
            return refuse(ErrorCode::Unavailable, message);
        };
        let Some(table) = known.table_version(self.config.db_pool.filter_backend()) else {
            let message = "this entity has no table, so nothing is known of its columns";
            return refuse(ErrorCode::BadFilter, message);
        };
        Ok(Shape::new(&table, wanted)?)
    }

    fn not_ready(&self, why: &str) {
        self.readiness
            .send_replace(Readiness::NotReady(why.to_owned()));
    }

    /// Makes the tables and the triggers.
    async fn prepare(&self) -> Result<(), SyncError> {
        self.config.db_pool.migrate(&self.config.database).await?;
        let mut entities = BTreeMap::new();
        for config in &self.config.entities {
            let described = self.config.db_pool.install(config).await?;
            let described = described.map_err(|reason| SyncError::Table {
                entity: config.name.clone(),
                reason: reason.to_string(),
            })?;
            let described = described.ok_or_else(|| SyncError::NoTable {
                entity: config.name.clone(),
                table: match &config.source {
                    EntitySource::Table(table) => table.clone(),
                    EntitySource::Log => String::new(),
                },
            })?;
            entities.insert(config.name.clone(), Arc::new(described.entity));
        }
        self.know(entities);
        Ok(())
    }

    fn know(&self, entities: BTreeMap<String, Arc<Entity>>) {
        // The same value stays the same allocation, so that what was prepared for it stays prepared.
        if *self.entities.all() != entities {
            self.entities.replace(entities);
        }
    }

    /// Tries until the database is there and has what it needs.
    async fn start_later(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            failures += 1;
            tokio::time::sleep(backoff::pause(failures)).await;
            let prepared = match self.prepare().await {
                Ok(()) => self.start(),
                Err(error) => Err(error),
            };
            match prepared {
                Ok(()) => return,
                Err(error) => {
                    // Loud when it is not just the database that is still down.
                    match &error {
                        SyncError::Database(database) if database.is_transient() => {
                            warn!(%error, failures, "the database is not there yet; trying again");
                        }
                        _ => error!(%error, failures, "the engine cannot start; trying again"),
                    }
                    self.not_ready(&error.to_string());
                }
            }
        }
    }

    /// Starts what runs beside the sessions.
    fn start(self: &Arc<Self>) -> Result<(), SyncError> {
        let sink: Arc<dyn ChangeSink> = Arc::new(Sink {
            engine: self.clone(),
            owes_cursor: AtomicBool::new(false),
        });
        match self.config.db_pool.direct(&self.config.database)? {
            Some(connector) => {
                let listener = PostgresNotifyListener::new(
                    connector,
                    self.entities.clone(),
                    sink,
                    self.poke.clone(),
                    self.listener.clone(),
                    self.shutdown.clone(),
                );
                self.tasks.spawn(listener.run());
            }
            None => {
                let listener = SqliteListener::new(
                    self.config.db_pool.clone(),
                    self.entities.clone(),
                    sink,
                    self.poke.clone(),
                    self.listener.clone(),
                    self.shutdown.clone(),
                )?;
                self.tasks.spawn(listener.run());
            }
        }
        let (ready, catalog, retention) = (self.clone(), self.clone(), self.clone());
        self.spawn(async move { ready.follow_readiness().await });
        self.spawn(async move { catalog.watch_catalog().await });
        self.spawn(async move { crate::retention::run(&retention).await });
        Ok(())
    }

    /// Ready means that the listener is connected.
    async fn follow_readiness(&self) {
        let mut listener = self.listener.subscribe();
        loop {
            let wake_up = listener.borrow_and_update().wake_up;
            match wake_up {
                WakeUp::None => self.not_ready("the database is out of reach"),
                _ => {
                    self.readiness.send_replace(Readiness::Ready);
                }
            }
            if listener.changed().await.is_err() {
                return;
            }
        }
    }

    /// Looks for tables that have changed without a trigger saying so: a new column, a new partition,
    /// a trigger that somebody dropped.
    async fn watch_catalog(&self) {
        let mut known = None;
        loop {
            tokio::time::sleep(CATALOG_INTERVAL).await;
            let complete = self.entities.all().len() == self.config.entities.len();
            let version = match self
                .config
                .db_pool
                .catalog_version(&self.entities.all())
                .await
            {
                Ok(version) => version,
                Err(error) => {
                    warn!(%error, "the catalog could not be looked at");
                    continue;
                }
            };
            if complete && known.as_ref() == Some(&version) {
                continue;
            }
            match self.refresh_entities().await {
                // What was looked at before the refresh may be of before a change in between; then
                // the next look differs.
                Ok(()) => known = Some(version),
                Err(error) => warn!(%error, "the tables could not be looked at again"),
            }
        }
    }

    /// Reads the catalog again, and installs what has to be made anew.
    pub(crate) async fn refresh_entities(&self) -> Result<(), DbError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let before = self.entities.all();
        let mut entities = BTreeMap::new();
        let mut failed = None;
        for config in &self.config.entities {
            let name = &config.name;
            let installed = match self.config.db_pool.install(config).await {
                Ok(installed) => installed,
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    // One table that cannot be looked at keeps no other from being looked at.
                    entities.extend(before.get(name).map(|known| (name.clone(), known.clone())));
                    failed = Some(error);
                    continue;
                }
            };
            match installed {
                Ok(Some(described)) => {
                    let entity = Arc::new(described.entity);
                    if before
                        .get(name)
                        .is_none_or(|known| known.fingerprint != entity.fingerprint)
                    {
                        info!(
                            entity = name,
                            "the table has changed its shape; clients take it anew"
                        );
                    }
                    entities.insert(name.clone(), entity);
                }
                Ok(None) => {
                    if before.contains_key(name) {
                        error!(
                            entity = name,
                            "the table is gone; its clients wait until it is back"
                        );
                    }
                }
                Err(reason) => {
                    if before.contains_key(name) {
                        error!(entity = name, %reason, "the table can no longer be synced");
                    }
                }
            }
        }
        self.know(entities);
        failed.map_or(Ok(()), Err)
    }
}

/// The engine as the listeners see it.
struct Sink {
    engine: Arc<Inner>,
    /// Part of an instant has been told in this process, and its cursor has not.
    owes_cursor: AtomicBool,
}

impl Sink {
    /// Tells those in this process who follow the log. It fails only when the last of them has just
    /// gone.
    fn tell(&self, drained: &Drained) {
        let Inner { changes, hub, .. } = &*self.engine;
        if changes.receiver_count() == 0 {
            return;
        }
        let mut batch = ChangeBatch {
            changes: Vec::new(),
            reshaped: Vec::new(),
            cursor: None,
        };
        batch.take(drained.entries.clone(), false);
        let owed = self.owes_cursor.load(Ordering::Relaxed);
        let told = owed || !batch.changes.is_empty() || !batch.reshaped.is_empty();
        self.owes_cursor
            .store(told && !drained.complete, Ordering::Relaxed);
        if drained.complete {
            let position = (*drained.position).clone();
            batch.cursor = hub.epoch().map(|epoch| Cursor { epoch, position });
        }
        if told {
            let _ = changes.send(Arc::new(batch));
        }
    }
}

impl ChangeSink for Sink {
    fn histories(&self) -> Arc<HistoryColumns> {
        self.engine.hub.histories()
    }

    fn publish(&self, drained: Drained) {
        self.tell(&drained);
        self.engine.hub.publish(drained);
    }

    fn heard(&self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>> {
        Box::pin(self.engine.hub.heard())
    }

    fn reset(&self, epoch: Epoch, position: Position) {
        self.engine.hub.reset(epoch.clone(), position.clone());
        self.owes_cursor.store(false, Ordering::Relaxed);
        let reshaped = self
            .engine
            .config
            .entities
            .iter()
            .map(|entity| entity.name.clone())
            .collect();
        let cursor = Some(Cursor { epoch, position });
        let _ = self.engine.changes.send(Arc::new(ChangeBatch {
            changes: Vec::new(),
            reshaped,
            cursor,
        }));
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send + '_>> {
        Box::pin(self.engine.refresh_entities())
    }
}
