//! What the engine is doing, for people and for monitoring.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rhtmx_sync_core::shape::Part;
use serde::Serialize;

use crate::db::postgres::listen::WakeUp;
use crate::engine::Inner;
use crate::hub::ShapeStatus;

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
    /// What the hub has done since the start.
    hub: Hub,
    /// How many shapes there are; the list has those that cost most.
    shapes_total: usize,
    shapes: Vec<Shape>,
    entities: Vec<String>,
    /// Configured, but without a table at the moment.
    entities_missing: Vec<String>,
    log: Option<Log>,
}

/// Shapes in the list, at most.
const SHAPES_MAX: usize = 100;

#[derive(Debug, Serialize)]
struct Hub {
    /// Changed rows that came in.
    changes: u64,
    /// Times that a filter was asked about one.
    evaluations: u64,
    /// Batches handed to a session: so often somebody was woken.
    deliveries: u64,
}

#[derive(Debug, Serialize)]
struct Shape {
    /// Names the shape as long as this engine runs; not its name on the wire, by which who knows a
    /// filter could tell that somebody asks for it.
    id: String,
    entity: String,
    /// The filter, with `?` for its values, which are nobody else's business.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    sessions: usize,
    /// Changes that it was told of.
    changes: u64,
    /// Their size, written once for all its sessions.
    bytes: u64,
    /// Changed rows that its filter was asked about.
    evaluations: u64,
}

impl Shape {
    fn new(status: ShapeStatus, names: &RandomState) -> Self {
        let ShapeStatus {
            shape,
            sessions,
            figures,
        } = status;
        let part = shape.part();
        let filter = part
            .map(Part::filter)
            .filter(|filter| !filter.is_everything());
        let columns = part.and_then(Part::column_names);
        Self {
            entity: shape.entity().to_owned(),
            filter: filter.map(|filter| filter.outline().to_owned()),
            columns: columns.map(|names| names.into_iter().map(str::to_owned).collect()),
            sessions,
            changes: figures.changes,
            bytes: figures.bytes,
            evaluations: figures.evaluations,
            id: format!("{:016x}", names.hash_one(&shape)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Log {
    bytes: u64,
    floor: String,
}

pub(super) async fn status(State(engine): State<Arc<Inner>>) -> Json<Status> {
    let listener = *engine.listener.borrow();
    let figures = engine.hub.figures(SHAPES_MAX);
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
        hub: Hub {
            changes: figures.totals.changes,
            evaluations: figures.totals.evaluations,
            deliveries: figures.totals.deliveries,
        },
        shapes_total: figures.shapes_total,
        shapes: figures
            .shapes
            .into_iter()
            .map(|status| Shape::new(status, &engine.shape_ids))
            .collect(),
        entities,
        entities_missing,
        log,
    })
}
