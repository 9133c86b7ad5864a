//! Starts an engine: prepares the database, then starts everything that runs beside the sessions.

use std::sync::Arc;

use db::entity::EntitySource;
use db::feed::LogSubscriber;
use db::listener::{ListenerContext, WakeUp};
use db::pooling::Pooling;
use db::{DbError, backoff};
use tracing::{error, info, warn};

use crate::config::SyncConfig;
use crate::error::SyncError;
use crate::publisher::Publisher;
use crate::state::{EngineState, Readiness};
use crate::{policy_watch, retention, schema_watch};

/// Starts the engine. Returns false when the database is out of reach, and then keeps trying.
pub(crate) async fn start(state: &Arc<EngineState>) -> Result<bool, SyncError> {
    // Boxed: it is large, and needed once.
    match Box::pin(prepare(state)).await {
        Ok(()) => run(state).map(|()| true),
        Err(SyncError::Database(error)) if error.is_retryable() => {
            warn!(%error, "the database is not available yet; retrying");
            state.not_ready(&error.summary());
            let starting = state.clone();
            state.spawn(async move { start_later(&starting).await });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Retries until the database is available and prepared.
async fn start_later(state: &Arc<EngineState>) {
    let mut failures = 0;
    loop {
        failures += 1;
        tokio::time::sleep(backoff::pause(failures)).await;
        let started = match prepare(state).await {
            Ok(()) => run(state),
            Err(error) => Err(error),
        };
        let Err(error) = started else {
            return;
        };
        // Anything other than a database that is still down is an error.
        match &error {
            SyncError::Database(database) if database.is_retryable() => {
                warn!(%error, failures, "the database is not available yet; retrying");
            }
            _ => error!(%error, failures, "the engine cannot start; retrying"),
        }
        state.not_ready(&match &error {
            SyncError::Database(database) => database.summary(),
            error => error.to_string(),
        });
    }
}

/// Creates the engine's tables and the triggers. A table that is locked, or that cannot be captured, does not
/// keep the others from being served, unless there are no others.
async fn prepare(state: &EngineState) -> Result<(), SyncError> {
    let config = &state.config;
    if config.observes {
        ensure_captured(config).await?;
    } else {
        config.db_pool.migrate(&config.database).await?;
    }
    if config.db_pool.pooling().await? == Some(Pooling::Transaction) {
        info!("the database is behind a pooler in transaction mode");
    }
    let health = config.db_pool.health();
    let mut captured = 0;
    let mut failed = None;
    let names: Vec<String> = config
        .entities
        .iter()
        .map(|entity| entity.name.clone())
        .collect();
    if !config.observes {
        config.db_pool.want(&names).await?;
    }
    for entity in &config.entities {
        let described = match config.db_pool.install(entity).await {
            Ok(described) => described,
            Err(error) if error.is_retryable() && !error.is_locked() => return Err(error.into()),
            Err(error) => {
                error!(%error, entity = entity.name, "the table cannot be captured yet; trying again");
                health.captured(&entity.name, Some(error.unreadable()));
                failed.get_or_insert(error);
                continue;
            }
        };
        let described = described.map_err(|reason| SyncError::Table {
            entity: entity.name.clone(),
            reason: reason.to_string(),
        })?;
        let described = described.ok_or_else(|| SyncError::NoTable {
            entity: entity.name.clone(),
            table: match &entity.source {
                EntitySource::Table(table) => table.clone(),
                EntitySource::Log => String::new(),
            },
        })?;
        captured += 1;
        health.captured(&entity.name, None);
        let described = Arc::new(described.entity);
        state.entities.replace_one(&entity.name, Some(described));
    }
    // Policies read other tables too, so all must be known.
    for entity in state.entities.all().values() {
        state.check_policies(entity)?;
    }
    policy_watch::start(state).await?;
    if let Some(error) = failed
        && captured == 0
    {
        return Err(error.into());
    }
    for entity in config.db_pool.captured().await? {
        if !names.contains(&entity) {
            warn!(
                entity,
                "the entity {entity:?} is no longer configured here, but its table is still captured; unless another server \
                 syncs it, remove its triggers with `rhtmx-sync uncapture {entity}`"
            );
        }
    }
    Ok(())
}

/// An observer shows what a server captures, and captures nothing itself.
async fn ensure_captured(config: &SyncConfig) -> Result<(), SyncError> {
    let captured = match config.db_pool.captured().await {
        // There are no tables of an engine here.
        Err(DbError::Statement { .. }) => Vec::new(),
        captured => captured?,
    };
    let tables = config.entities.iter();
    let mut tables = tables.filter(|entity| matches!(entity.source, EntitySource::Table(_)));
    match tables.find(|entity| !captured.contains(&entity.name)) {
        None => Ok(()),
        Some(entity) => Err(SyncError::Table {
            entity: entity.name.clone(),
            reason: "no server captures its table; start one that syncs it first".to_owned(),
        }),
    }
}

/// Starts what runs beside the sessions.
fn run(state: &Arc<EngineState>) -> Result<(), SyncError> {
    let subscriber: Arc<dyn LogSubscriber> = Arc::new(Publisher::new(state.clone()));
    let context = ListenerContext {
        entities: state.entities.clone(),
        subscriber,
        wake: state.listener_wake.clone(),
        status: state.listener.clone(),
        shutdown: state.shutdown.clone(),
        drain_snapshots: state.drain_snapshots.clone(),
        observes: state.config.observes,
    };
    let config = &state.config;
    let listener = config.db_pool.listen(&config.database, context)?;
    state.tasks.spawn(listener);
    let (ready, catalog, pruned) = (state.clone(), state.clone(), state.clone());
    state.spawn(async move { follow_readiness(&ready).await });
    let believed = state.clone();
    state.spawn(async move { end_withdrawn(&believed).await });
    state.spawn(async move { schema_watch::watch(&catalog).await });
    let timed = state.clone();
    state.spawn(async move { policy_watch::watch_clock(&timed).await });
    if !state.config.observes {
        state.spawn(async move { retention::run(&pruned).await });
    }
    Ok(())
}

/// Ends connections whose principals the authenticator no longer believes.
async fn end_withdrawn(state: &EngineState) {
    let authenticator = &state.config.auth.authenticator;
    let Some(mut withdrawals) = authenticator.withdrawals() else {
        return;
    };
    while withdrawals.changed().await.is_ok() {
        let authenticator = authenticator.clone();
        let ended = state.disconnect(move |principal| !authenticator.still_believes(principal));
        if ended > 0 {
            warn!(
                ended,
                "connections were ended, because the keys of their tokens have been withdrawn"
            );
        }
    }
}

/// Keeps the readiness up to date: the engine is ready while the listener is connected.
async fn follow_readiness(state: &EngineState) {
    let mut listener = state.listener.subscribe();
    loop {
        let wake_up = listener.borrow_and_update().wake_up;
        match wake_up {
            WakeUp::None => {
                // The listener gives the reason, before or after this.
                if *state.readiness.borrow() == Readiness::Ready {
                    state.not_ready("the database is out of reach");
                }
            }
            _ => {
                state.readiness.send_replace(Readiness::Ready);
            }
        }
        if listener.changed().await.is_err() {
            return;
        }
    }
}
