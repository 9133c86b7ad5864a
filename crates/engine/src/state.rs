//! What all parts of an engine share. Nothing here starts or stops anything.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use db::DbError;
use db::entity::Entities;
use db::listener::ListenerStatus;
use protocol::{ErrorCode, Limits, SchemaSummary, SelectionRequest};
use sync_core::policy::{Principal, ReadScope};
use sync_core::session::SubscribeError;
use sync_core::shape::Shape;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::change_batch::ChangeBatch;
use crate::config::SyncConfig;
use crate::rows::{Hub, Reader};

/// Between two looks whether the listener has come as far as it must.
const CATCHING_UP: Duration = Duration::from_millis(5);
/// Batches that a slow receiver in this process may fall behind by.
const RECEIVER_BATCHES_MAX: usize = 1024;

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
pub(crate) struct EngineState {
    pub(crate) config: SyncConfig,
    pub(crate) entities: Arc<Entities>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) changes: broadcast::Sender<Arc<ChangeBatch>>,
    pub(crate) listener: watch::Sender<ListenerStatus>,
    pub(crate) readiness: watch::Sender<Readiness>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Has the listener read the log at once.
    pub(crate) listener_wake: Arc<Notify>,
    /// Held while the catalog is read and captures are installed.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    /// Makes the ids of shapes in the status.
    pub(crate) shape_ids: RandomState,
}

impl EngineState {
    /// The state of an engine that has not started.
    pub(crate) fn new(config: SyncConfig) -> Self {
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
        Self {
            config,
            entities,
            hub,
            reader,
            changes: broadcast::Sender::new(RECEIVER_BATCHES_MAX),
            listener: watch::Sender::new(ListenerStatus::default()),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listener_wake: Arc::new(Notify::new()),
            refreshing: tokio::sync::Mutex::default(),
            shape_ids: RandomState::new(),
        }
    }

    /// Runs beside the sessions, until the shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Has the log read without waiting for its writers to say so.
    pub(crate) fn wake(&self) {
        self.listener_wake.notify_one();
    }

    /// Waits until everything that is committed now has been published here, so that forgetting it takes it
    /// from nobody in this process.
    pub(crate) async fn caught_up(&self) -> Result<(), DbError> {
        let committed = self.config.db_pool.head().await?.position;
        while !self
            .hub
            .cursor()
            .is_some_and(|reached| reached.position.covers(&committed))
        {
            self.wake();
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

    /// The columns of an entity, also of one whose table is gone: a schema change follows behind that.
    pub(crate) fn summary(&self, entity: &str) -> SchemaSummary {
        let known = self.entities.last_known(entity);
        let nothing = || SchemaSummary {
            key: Vec::new(),
            columns: BTreeMap::new(),
        };
        known.map_or_else(nothing, |entity| sync_core::schema::summary(&entity.schema))
    }

    /// The shape that a principal asks for, of what it may see, in the table as it was when it could last be
    /// read: should it have changed since, the read says so.
    pub(crate) fn resolve(
        &self,
        principal: &Principal,
        entity: &str,
        request: &SelectionRequest,
    ) -> Result<Shape, SubscribeError> {
        let error = |code, message| Err(SubscribeError::new(code, message));
        if !self.is_configured(entity) {
            let message = "no entity of this name is synced here";
            return error(ErrorCode::UnknownEntity, message);
        }
        let scope = self.config.auth.authorizer.read(principal, entity);
        if request.is_everything() && matches!(scope, ReadScope::Everything) {
            return Ok(Shape::whole(entity));
        }
        let Some(known) = self.entities.last_known(entity) else {
            let message = "its table does not exist at the moment; try again";
            return error(ErrorCode::Unavailable, message);
        };
        let Some(table) = known.table_version(self.config.db_pool.filter_backend()) else {
            let message = "this entity has no table, so nothing is known of its columns";
            return error(ErrorCode::BadFilter, message);
        };
        Ok(Shape::resolve(&table, request, &scope)?)
    }

    pub(crate) fn not_ready(&self, why: &str) {
        self.readiness
            .send_replace(Readiness::NotReady(why.to_owned()));
    }
}
