//! The engine's status, for people and for monitoring.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use db::pooling::Pooling;
use serde::Serialize;
use sync_core::shape::Selection;
use tokio::time::Instant;

use super::error::HttpError;
use super::{Feature, door, feature_names};
use crate::auth::AuthStatus;
use crate::field_stats::FieldCounts;
use crate::rows::ShapeStats;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "status",
    reserved: &["status"],
    routes: |prefix| Router::new().route(&format!("{prefix}/status"), get(status)),
};

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    /// The features that this server offers, as in `welcome`.
    features: Vec<String>,
    database: &'static str,
    /// `notify`, `polling`, `data_version`, or `none` while the database is out of reach.
    wake_up: &'static str,
    /// `session`, or `transaction` when a pooler stands before the database that gives a session to each transaction;
    /// absent on SQLite, and while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pooling: Option<&'static str>,
    /// `leader` or `follower`.
    role: &'static str,
    /// The position of the last published batch.
    cursor: Option<String>,
    sessions: usize,
    /// Reads for clients.
    reads: Reads,
    /// What the hub has done since the start.
    hub: Hub,
    /// The number of all shapes; `shapes` lists the most expensive.
    shapes_total: usize,
    shapes: Vec<Shape>,
    entities: Vec<String>,
    /// Entities whose table does not exist at the moment.
    entities_missing: Vec<String>,
    /// What became of writes to rows that merge by their fields, since the start; absent where none do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<FieldCounts>,
    /// What cannot be read at the moment; everything else is served.
    unreadable: Vec<Unreadable>,
    /// Who was let in and refused, and the keys that decide; absent when no tokens are verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<AuthStatus>,
    log: Option<Log>,
}

/// An entity that cannot be read, in whole or in part.
#[derive(Debug, Serialize)]
struct Unreadable {
    entity: String,
    /// `locked`, `denied`, `missing`, `not_captured` or `failing`; absent when only some rows cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The number of rows that cannot be read; the server's output names them.
    rows: usize,
}

/// What everybody may read.
#[derive(Debug, Serialize)]
struct Public {
    version: &'static str,
    /// What this server offers; clients ask before they use a newer feature.
    features: Vec<String>,
}

/// The most shapes that `shapes` lists.
const SHAPES_MAX: usize = 100;

#[derive(Debug, Serialize)]
struct Hub {
    /// Changed rows received from the log.
    changes: u64,
    /// Evaluations of a filter for one of them.
    evaluations: u64,
    /// Batches queued for a session, each of which wakes it.
    deliveries: u64,
    questions: u64,
}

#[derive(Debug, Serialize)]
struct Reads {
    running: usize,
    /// Those that wait for their turn.
    waiting: usize,
    /// How many read the log, since the start: resumes, and what sessions could not take from the hub.
    of_log: u64,
}

#[derive(Debug, Serialize)]
struct Shape {
    /// Identifies the shape as long as this engine runs. It is not the shape's name in frames, with which
    /// anyone who can guess a filter could find out that somebody subscribes to it.
    id: String,
    entity: String,
    /// The filter, with `?` in place of its values, which are private.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    sessions: usize,
    /// Changes that its sessions received.
    changes: u64,
    /// Their size, written once for all its sessions.
    bytes: u64,
    /// Changed rows that its filter was evaluated for.
    evaluations: u64,
}

impl Shape {
    fn new(shape: &sync_core::shape::Shape, stats: &ShapeStats, names: &RandomState) -> Self {
        let selection = shape.selection();
        let filtered = selection.filter(|selection| !selection.filter().is_everything());
        let columns = selection.and_then(Selection::column_names);
        Self {
            entity: shape.entity().to_owned(),
            filter: filtered.map(|selection| selection.filter().outline(selection.table())),
            columns: columns.map(|names| names.into_iter().map(str::to_owned).collect()),
            sessions: stats.sessions,
            changes: stats.changes,
            bytes: stats.bytes,
            evaluations: stats.evaluations,
            id: format!("{:016x}", names.hash_one(shape)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Log {
    bytes: u64,
    floor: String,
}

async fn status(
    State(state): State<Arc<EngineState>>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, HttpError> {
    door::check_page(&headers, &extensions, &state.config)?;
    if !state.config.auth.is_operator(&headers) {
        let public = Public {
            version: env!("CARGO_PKG_VERSION"),
            features: feature_names(&state.config),
        };
        return Ok(Json(public).into_response());
    }
    // Held while the status is made: requests that come meanwhile share it, so however many ask, one at a time is made.
    let asked = Instant::now();
    let mut shared = state.status.lock().await;
    let text = match &*shared {
        Some((made, text)) if *made >= asked => text.clone(),
        _ => {
            let text = Bytes::from(protocol::json::text(&make(&state).await));
            *shared = Some((Instant::now(), text.clone()));
            text
        }
    };
    drop(shared);
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn make(state: &EngineState) -> Status {
    let listener = *state.listener.borrow();
    let stats = state.hub.stats(SHAPES_MAX);
    let reads = state.reader.counts();
    let known = state.entities.all();
    let configured = state
        .config
        .entities
        .iter()
        .map(|entity| entity.name.clone());
    let (entities, entities_missing) = configured.partition(|name| known.contains_key(name));
    let mut configured = state.config.entities.iter();
    let merging = configured.any(|entity| entity.fields.is_some());
    let pooling = state.config.db_pool.pooling().await.unwrap_or_default();
    let log = match state.config.db_pool.log_size().await {
        Ok((bytes, floor)) => Some(Log { bytes, floor }),
        Err(error) => {
            tracing::warn!(%error, "the log could not be measured");
            None
        }
    };
    Status {
        version: env!("CARGO_PKG_VERSION"),
        features: feature_names(&state.config),
        database: state.config.db_pool.backend(),
        wake_up: listener.wake_up.as_str(),
        pooling: pooling.map(Pooling::as_str),
        role: if listener.leader {
            "leader"
        } else {
            "follower"
        },
        cursor: state.hub.cursor().map(|cursor| cursor.to_string()),
        sessions: stats.sessions,
        reads: Reads {
            running: reads.running,
            waiting: reads.waiting,
            of_log: state.reader.of_log(),
        },
        hub: Hub {
            changes: stats.counters.changes,
            evaluations: stats.counters.evaluations,
            deliveries: stats.counters.deliveries,
            questions: stats.counters.questions,
        },
        shapes_total: stats.shapes_total,
        shapes: stats
            .shapes
            .iter()
            .map(|(shape, stats)| Shape::new(shape, stats, &state.shape_ids))
            .collect(),
        entities,
        entities_missing,
        fields: merging.then(|| state.field_stats.counts()),
        unreadable: state
            .config
            .db_pool
            .health()
            .report()
            .into_iter()
            .map(|found| Unreadable {
                entity: found.entity,
                reason: found.reason.map(db::health::Unreadable::as_str),
                rows: found.rows,
            })
            .collect(),
        auth: state.config.auth.authenticator.status(),
        log,
    }
}
