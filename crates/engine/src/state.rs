//! What all parts of an engine share. Nothing here starts or stops anything.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use db::DbError;
use db::entity::{Entities, Entity};
use db::listener::ListenerStatus;
use db::read::DrainSnapshots;
use filter::Table;
use protocol::{ErrorCode, Limits, SchemaSummary, SelectionRequest, Step};
use sync_core::limit::Limit;
use sync_core::mutation::Applied;
use sync_core::policy::{PolicyError, Principal, ReadScope};
use sync_core::session::SubscribeError;
use sync_core::shape::{Catalog, CurrentTable, Others, ResolveError, Shape, WholeTables};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Counted, Tickets};
use crate::authors::Authors;
use crate::change_batch::ChangeBatch;
use crate::config::SyncConfig;
use crate::crdt_nodes::OpenNodes;
use crate::field_stats::FieldStats;
use crate::principals::Principals;
use crate::rates::Rates;
use crate::row_level::{Guarded, RowLevel};
use crate::rows::{Continuations, Hub, HubLimits, ReadLimits, Reader};

/// Interval of checks whether the listener has reached a position.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(5);
/// Batches by which a slow receiver in this process may lag.
const RECEIVER_BATCHES_MAX: usize = 1024;

/// Whether clients can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// Clients can be served.
    Ready,
    /// Clients cannot be served yet, or at the moment; the text says why, without the database's words, which are
    /// in the log.
    NotReady(String),
}

/// The state that all parts of an engine share.
#[derive(Debug)]
pub(crate) struct EngineState {
    pub(crate) config: SyncConfig,
    pub(crate) entities: Arc<Entities>,
    /// What the policies of the tables themselves say.
    pub(crate) row_level: Arc<RowLevel>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) changes: broadcast::Sender<Arc<ChangeBatch>>,
    pub(crate) listener: watch::Sender<ListenerStatus>,
    pub(crate) readiness: watch::Sender<Readiness>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Makes the listener read the log at once.
    pub(crate) listener_wake: Arc<Notify>,
    /// The reads that wait for the snapshot of the listener's next drain.
    pub(crate) drain_snapshots: Arc<DrainSnapshots>,
    /// Of each entity the number of refreshes that failed in a row; held while its table is looked at and its
    /// capture is installed, so that this happens once at a time.
    pub(crate) refreshing: BTreeMap<String, tokio::sync::Mutex<u32>>,
    /// Reads of changes whose clients have yet to ask for the next page.
    pub(crate) continuations: Continuations,
    /// Limits the requests that wait for changes.
    pub(crate) long_polls: Arc<Semaphore>,
    /// For whom the sessions act.
    pub(crate) principals: Arc<Principals>,
    /// How fast users write and addresses try tokens.
    pub(crate) rates: Rates,
    /// What became of writes to rows that merge by their fields.
    pub(crate) field_stats: FieldStats,
    /// In whose name the field tracker writes.
    pub(crate) authors: Authors,
    /// The nodes of the family of CRDTs over SQL that are connected.
    pub(crate) crdt_nodes: Arc<OpenNodes>,
    /// What lets streams of events in.
    pub(crate) tickets: Tickets,
    /// The last status, with the time at which it was made.
    pub(crate) status: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
    /// Makes the ids of shapes in `status`.
    pub(crate) shape_ids: RandomState,
}

/// How many reads there may be, in all and for each user.
fn read_limits(config: &SyncConfig) -> ReadLimits {
    // Half of the connections are the pool's; a quarter of those stays free for everything that must not wait.
    let turns_max = (config.database.pool_size as usize * 3 / 8).max(1);
    let waiting_max = config.reads.waiting_max;
    // Where nobody says who they are, all are as one user, and nothing is kept free for others.
    let has_users = !config.auth.authenticator.lets_anyone_in();
    let of_user_max = match config.limits.reads_of_user_max {
        0 if has_users => turns_max.saturating_sub(1).max(1),
        0 => turns_max,
        max => max,
    };
    ReadLimits {
        turns_max,
        of_user_max,
        waiting_max,
        waiting_of_user_max: if has_users {
            waiting_max.div_ceil(2)
        } else {
            waiting_max
        },
    }
}

impl EngineState {
    /// The state of an engine that has not started.
    pub(crate) fn new(mut config: SyncConfig) -> Self {
        let row_level = Arc::new(RowLevel::new(&config));
        if !row_level.is_unused() {
            let rest = config.auth.authorizer.clone();
            config.auth.authorizer = Arc::new(Guarded::new(row_level.clone(), rest));
        }

        let names = config.entities.iter().map(|entity| entity.name.clone());
        let refreshing = names
            .clone()
            .map(|name| (name, tokio::sync::Mutex::default()));
        let refreshing = refreshing.collect();
        let entities = Arc::new(Entities::new(names.collect()));
        let limits = &config.limits;
        let listener_wake = Arc::new(Notify::new());
        let hub_limits = HubLimits {
            entity_work_max: limits.entity_filter_work_max,
            filter_bytes_max: limits.filter_bytes_total_max,
            set_values_max: limits.set_values_total_max,
            subquery_timeout: config.reads.subquery_timeout(),
            queue_bytes_max: limits.queue_bytes_total_max,
            shapes_of_user_max: limits.shapes_of_user_max,
        };
        let hub = Arc::new(Hub::new(hub_limits, listener_wake.clone()));
        let drain_snapshots = DrainSnapshots::new(listener_wake.clone());
        let reader = Reader::new(
            config.db_pool.clone(),
            entities.clone(),
            (hub.clone(), drain_snapshots.clone()),
            read_limits(&config),
            config.reads.clone(),
            config.limits.stalled_timeout(),
        );
        let long_polls_max = config.reads.long_polls_max;
        let principals = Arc::new(Principals::new(
            limits.connections_of_user_max,
            limits.connections_of_address_max,
        ));
        let has_users = !config.auth.authenticator.lets_anyone_in();
        let rates = Rates::new(limits, has_users);
        let tickets = Tickets::new(limits.tickets_max, limits.tickets_of_user_max);
        Self {
            config,
            entities,
            row_level,
            hub,
            reader,
            changes: broadcast::Sender::new(RECEIVER_BATCHES_MAX),
            listener: watch::Sender::new(ListenerStatus::default()),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listener_wake,
            drain_snapshots,
            refreshing,
            continuations: Continuations::default(),
            long_polls: Arc::new(Semaphore::new(long_polls_max)),
            principals,
            rates,
            field_stats: FieldStats::default(),
            authors: Authors::default(),
            crdt_nodes: Arc::default(),
            tickets,
            status: tokio::sync::Mutex::default(),
            shape_ids: RandomState::new(),
        }
    }

    /// Runs a task beside the sessions, until the shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Wakes the listener without waiting for a writer's doorbell.
    pub(crate) fn wake(&self) {
        self.listener_wake.notify_one();
    }

    /// Waits until everything that is committed now has been published here, so that no session of this
    /// process misses what is pruned afterwards.
    pub(crate) async fn caught_up(&self) -> Result<(), DbError> {
        let committed = self.config.db_pool.head().await?.position;
        while !self
            .hub
            .cursor()
            .is_some_and(|reached| reached.position.covers(&committed))
        {
            self.wake();
            tokio::time::sleep(CATCH_UP_INTERVAL).await;
        }
        Ok(())
    }

    /// Whether an entity of this name is configured, even if its table does not exist at the moment.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        self.config
            .entities
            .iter()
            .any(|entity| entity.name == name)
    }

    /// Whether the rows of an entity of this name merge by their fields.
    pub(crate) fn merges(&self, name: &str) -> bool {
        let mut merging = self.config.entities.iter().filter(|it| it.fields.is_some());
        merging.any(|entity| entity.name == name)
    }

    /// Counts what became of a mutation's writes of rows that merge by their fields.
    pub(crate) fn count_fields(&self, steps: &[Step], applied: &Applied) {
        let writes = steps.iter().filter_map(Step::as_write);
        let merging = writes.filter(|write| self.merges(&write.entity)).count();
        if merging > 0 {
            self.field_stats.count(merging, steps, applied);
        }
    }

    /// Whether anybody may use an entity of this name; for clients no other exists.
    pub(crate) fn is_open(&self, name: &str) -> bool {
        self.is_configured(name) && !self.config.auth.authorizer.is_closed(name)
    }

    /// The limits that `welcome` carries.
    pub(crate) fn client_limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.config.limits.frame_bytes_max,
            subscriptions_max: self.config.limits.subscriptions_max,
            writes_max: self.config.limits.writes_max,
        }
    }

    /// The columns of an entity, even of one whose table is missing; a schema change follows it.
    pub(crate) fn summary(&self, entity: &str) -> SchemaSummary {
        let known = self.entities.last_known(entity);
        let nothing = || SchemaSummary {
            key: Vec::new(),
            columns: BTreeMap::new(),
        };
        known.map_or_else(nothing, |entity| sync_core::schema::summary(&entity.schema))
    }

    /// Resolves a request to a shape, within what the principal may read. It uses the last known table; if
    /// that has changed since, the read reports it.
    pub(crate) fn resolve(
        &self,
        principal: &Principal,
        entity: &str,
        request: &SelectionRequest,
    ) -> Result<Shape, SubscribeError> {
        let error = |code, message| Err(SubscribeError::new(code, message));
        if self.row_level.is_unknown(entity) {
            let message = "the entity's policies cannot be read at the moment; try again";
            return error(ErrorCode::Unavailable, message);
        }
        let scope = self.config.auth.authorizer.read(principal, entity);
        // What may not be seen at all does not exist.
        if !self.is_configured(entity) || matches!(scope, ReadScope::Nothing) {
            let message = "no entity of this name is synced";
            return error(ErrorCode::UnknownEntity, message);
        }
        if request.is_everything() && matches!(scope, ReadScope::Everything) {
            return Ok(Shape::whole(entity));
        }
        let Some(known) = self.entities.last_known(entity) else {
            let message = "the entity's table does not exist at the moment; try again";
            return error(ErrorCode::Unavailable, message);
        };
        let Some(table) = known.current_table(self.config.db_pool.filter_backend()) else {
            let message = "this entity has no table, so its columns are unknown";
            return error(ErrorCode::BadFilter, message);
        };
        let rows_max = self.config.limits.window_rows_max;
        if request.limit.is_some_and(|limit| limit as usize > rows_max) {
            let message = format!("`limit` is at most {rows_max} (window_rows_max)");
            return Err(SubscribeError::beyond(Limit::WindowRows, message));
        }
        let authorizer = &self.config.auth.authorizer;
        let others = Others {
            catalog: self,
            scope_of: &|entity| authorizer.read(principal, entity),
        };
        let shape = Shape::resolve(&table, request, &scope, others).inspect_err(|resolved| {
            if let ResolveError::Scope(cause) = resolved {
                tracing::error!(%cause, entity, "what a user may see cannot be evaluated; the user sees nothing");
            }
        })?;
        self.hub.admit(&shape)?;
        Ok(shape)
    }

    /// The same for a new subscription of this user.
    pub(crate) fn resolve_for(
        &self,
        user: Option<&Counted>,
        principal: &Principal,
        entity: &str,
        request: &SelectionRequest,
    ) -> Result<Shape, SubscribeError> {
        let shape = self.resolve(principal, entity, request)?;
        self.hub.admit_to(user, &shape)?;
        Ok(shape)
    }

    /// Checks what the authorizer says of an entity against its table.
    pub(crate) fn check_policies(&self, entity: &Entity) -> Result<(), PolicyError> {
        let table = Table::new(&entity.schema, self.config.db_pool.filter_backend());
        let authorizer = &self.config.auth.authorizer;
        let others = WholeTables::new(self);
        let checked = authorizer.check(&entity.schema.entity, table.among(&others));
        // A table that is missing or locked at the moment is checked with when it is there.
        let is_awaited =
            |name: &String| self.is_configured(name) && self.entities.last_known(name).is_none();
        match checked {
            Err(error) if others.unknown().iter().any(is_awaited) => {
                tracing::warn!(%error, "a policy cannot be checked until another table can be read");
                Ok(())
            }
            checked => checked,
        }
    }

    /// Ends the sessions of these principals on this server at once, and returns how many they were.
    pub(crate) fn disconnect(
        &self,
        whom: impl Fn(&Principal) -> bool + Send + Sync + 'static,
    ) -> usize {
        let ended = self.principals.end(Arc::new(whom));
        for session in &ended {
            self.hub.close(*session);
        }
        metrics::counter!("rhtmx_sync_disconnected_total").increment(ended.len() as u64);
        ended.len()
    }

    pub(crate) fn not_ready(&self, why: &str) {
        self.readiness
            .send_replace(Readiness::NotReady(why.to_owned()));
    }
}

impl Catalog for EngineState {
    fn table(&self, entity: &str) -> Option<CurrentTable> {
        let known = self.entities.last_known(entity)?;
        known.current_table(self.config.db_pool.filter_backend())
    }
}
