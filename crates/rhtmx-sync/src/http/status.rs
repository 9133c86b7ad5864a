//! What the engine is doing, for people and for monitoring.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::db::postgres::listen::WakeUp;
use crate::engine::Inner;

#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    database: &'static str,
    /// `notify`, `polling`, `data_version`, or `none` while the database is out of reach.
    wake_up: &'static str,
    /// `leader` or `follower`.
    role: &'static str,
    /// The newest position that has been handed on.
    cursor: Option<String>,
    sessions: usize,
    shapes: Vec<Shape>,
    entities: Vec<String>,
    /// Configured, but without a table at the moment.
    entities_missing: Vec<String>,
    log: Option<Log>,
}

#[derive(Debug, Serialize)]
struct Shape {
    shape: String,
    sessions: usize,
}

#[derive(Debug, Serialize)]
struct Log {
    bytes: u64,
    floor: String,
}

pub(super) async fn status(State(engine): State<Arc<Inner>>) -> Json<Status> {
    let listener = *engine.listener.borrow();
    let figures = engine.hub.figures();
    let known = engine.entities.all();
    let configured = engine
        .config
        .entities
        .iter()
        .map(|entity| entity.name.clone());
    let (entities, entities_missing) = configured.partition(|name| known.contains_key(name));
    let log = match engine.config.db_pool.log_size().await {
        Ok((bytes, floor)) => Some(Log { bytes, floor }),
        Err(error) => {
            tracing::warn!(%error, "the log could not be measured");
            None
        }
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        database: engine.config.db_pool.backend(),
        wake_up: match listener.wake_up {
            WakeUp::None => "none",
            WakeUp::Notify => "notify",
            WakeUp::Polling => "polling",
            WakeUp::DataVersion => "data_version",
        },
        role: if listener.leader {
            "leader"
        } else {
            "follower"
        },
        cursor: engine.hub.cursor().map(|cursor| cursor.to_string()),
        sessions: figures.sessions,
        shapes: figures
            .shapes
            .into_iter()
            .map(|(shape, sessions)| Shape { shape, sessions })
            .collect(),
        entities,
        entities_missing,
        log,
    })
}
