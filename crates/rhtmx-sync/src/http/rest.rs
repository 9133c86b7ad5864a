//! Plain HTTP: rows and changes by `GET`, mutations by `POST`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rhtmx_sync_core::cursor::{Cursor, Position};
use rhtmx_sync_core::log::Learned;
use rhtmx_sync_core::protocol::{
    Change, ErrorCode, Push, RefetchReason, Reject, RejectCode, RowImage, Write, json_fault,
};
use rhtmx_sync_core::session::Applied;
use rhtmx_sync_core::shape::{Shape, ShapeReader};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::Place;
use super::part::PartParameters;
use super::{HttpError, origin};
use crate::db::DbError;
use crate::db::read::{ChangesQuery, ReadPart, RowsPage, RowsQuery};
use crate::engine::Inner;
use crate::entity::Entity;
use crate::hub::Seat;
use crate::reader::{histories_of, refuse};

/// No long poll waits longer.
const WAIT_MS_MAX: u64 = 60_000;
/// No page is larger, whatever `limit` says.
const LIMIT_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    cursor: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    params: Option<String>,
    columns: Option<String>,
    limit: Option<usize>,
    wait_ms: Option<u64>,
}

/// `{rows, cursor, more}`, or `{changes, cursor, more}`.
#[derive(Debug, Serialize)]
struct Page {
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<RowImage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
    cursor: String,
    more: bool,
}

/// Why a page cannot be given.
enum Failed {
    Refetch(RefetchReason),
    Http(HttpError),
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        tracing::warn!(%error, "a page could not be read");
        Self::Http(HttpError::unavailable())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Self::Http(error) => error.into_response(),
            Self::Refetch(reason) => {
                let body = serde_json::json!({ "code": "refetch", "reason": reason });
                (StatusCode::CONFLICT, Json(body)).into_response()
            }
        }
    }
}

/// The first call gives rows and a cursor; later ones, with the cursor, the changes since, waiting
/// for some up to `wait_ms`.
pub(super) async fn read(
    State(engine): State<Arc<Inner>>,
    Path(entity): Path<String>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    match read_page(&engine, &entity, &headers, parameters).await {
        Ok(page) => ([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response(),
        Err(failed) => failed.into_response(),
    }
}

async fn read_page(
    engine: &Arc<Inner>,
    name: &str,
    headers: &HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Page, Failed> {
    check_origin(engine, headers)?;
    let Query(parameters) =
        parameters.map_err(|error| HttpError::of(ErrorCode::Protocol, error.body_text()))?;
    let asked = PartParameters {
        filter: parameters.filter,
        params: parameters.params,
        columns: parameters.columns,
    };
    let shape = asked.read()?.shape(engine, name)?;
    let limit = parameters.limit.unwrap_or(usize::MAX).max(1);
    let limit = if parameters.limit.is_some() {
        limit.min(LIMIT_MAX)
    } else {
        limit
    };
    let epoch = engine.hub.epoch().ok_or_else(HttpError::unavailable)?;
    let entity = engine
        .entities
        .find(name)
        .ok_or_else(HttpError::unavailable)?;
    let place = match parameters.cursor.as_deref().map(str::parse::<Place>) {
        _ if !entity.fits(&shape) => return Err(Failed::Refetch(RefetchReason::Schema)),
        None => return rows_page(engine, entity, shape, None, limit).await,
        Some(Err(_)) => return Err(Failed::Refetch(RefetchReason::Epoch)),
        Some(Ok(place)) => place,
    };
    if place.since().epoch != epoch {
        return Err(Failed::Refetch(RefetchReason::Epoch));
    }
    if let Place::InRows { since, after_key } = &place {
        return rows_page(engine, entity, shape, Some((since, after_key)), limit).await;
    }
    let wait = Duration::from_millis(parameters.wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
    let deadline = tokio::time::Instant::now() + wait;
    // Whoever waits must hear of what comes after the read, so he takes his seat before it.
    let mut seat = Waiting::new(engine, &shape);
    let shape = ShapeReader::new(shape);
    loop {
        let page = changes_page(engine, &shape, &entity, &place, limit).await?;
        let empty = page.changes.as_ref().is_none_or(Vec::is_empty);
        if !empty || page.more || wait.is_zero() {
            return Ok(page);
        }
        tokio::select! {
            still_there = seat.news() => if !still_there { return Ok(page) },
            () = tokio::time::sleep_until(deadline) => return Ok(page),
            () = engine.shutdown.cancelled() => return Ok(page),
        }
    }
}

fn check_origin(engine: &Inner, headers: &HeaderMap) -> Result<(), HttpError> {
    if origin::is_allowed(headers, &engine.config) {
        return Ok(());
    }
    Err(HttpError::of(
        ErrorCode::Forbidden,
        "pages of this origin may not connect",
    ))
}

/// A seat in the hub for as long as a long poll waits.
struct Waiting<'a> {
    engine: &'a Inner,
    seat: Seat,
}

impl<'a> Waiting<'a> {
    fn new(engine: &'a Inner, shape: &Shape) -> Self {
        // One batch is enough to be woken by.
        let seat = engine.hub.join(1);
        engine.hub.attach(seat.key, shape);
        Self { engine, seat }
    }

    /// Waits until the log should be looked at. False when the hub has sent everybody away: what
    /// the history is by then is for the next call to find out.
    async fn news(&mut self) -> bool {
        let still_there = self.seat.next().await.is_some();
        // It may have overflowed since; the log is read in any case.
        self.engine.hub.rejoin(self.seat.key);
        still_there
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.engine.hub.leave(self.seat.key);
    }
}

/// Rows in the order of their keys' texts. Later pages are read later than the first; the changes
/// since the first make up for it.
async fn rows_page(
    engine: &Inner,
    entity: Arc<Entity>,
    shape: Shape,
    after: Option<(&Cursor, &str)>,
    limit: usize,
) -> Result<Page, Failed> {
    let page = (limit != usize::MAX).then(|| RowsPage {
        after_key: after.map(|(_, key)| key.to_owned()),
        limit: limit.saturating_add(1),
    });
    let query = RowsQuery { shape, page };
    let mut parts = engine.config.db_pool.read_rows(entity, query);
    let mut rows = Vec::new();
    let mut position = None;
    while let Some(part) = parts.next().await {
        match part {
            ReadPart::Start { position: at, .. } => position = Some(at),
            ReadPart::Rows(more) => rows.extend(more),
            ReadPart::Entries(_) => {}
            ReadPart::Outdated(_) => return Err(HttpError::unavailable().into()),
        }
    }
    parts.finish().await?;
    let position = position.ok_or_else(HttpError::unavailable)?;
    let since = match after {
        Some((since, _)) => since.clone(),
        None => Cursor {
            epoch: engine.hub.epoch().ok_or_else(HttpError::unavailable)?,
            position,
        },
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let cursor = match rows.last() {
        Some(last) if more => Place::InRows {
            since,
            after_key: last.key.clone(),
        },
        _ if after.is_some() => Place::AfterRows { since },
        _ => Place::At(since),
    };
    Ok(Page {
        rows: Some(rows),
        changes: None,
        cursor: cursor.to_string(),
        more,
    })
}

async fn changes_page(
    engine: &Inner,
    shape: &ShapeReader,
    entity: &Arc<Entity>,
    place: &Place,
    limit: usize,
) -> Result<Page, Failed> {
    let since = place.since();
    let entities = BTreeMap::from([(shape.shape().entity().to_owned(), entity.clone())]);
    let query = ChangesQuery {
        from: since.position.clone(),
        histories: histories_of([shape.shape()]),
        checked: true,
    };
    let mut parts = engine
        .config
        .db_pool
        .read_changes(Arc::new(entities), query);
    let mut changes: Vec<Change> = Vec::new();
    let mut reached: Option<Position> = None;
    let mut last_id = 0;
    let mut more = false;
    'read: while let Some(part) = parts.next().await {
        match part {
            ReadPart::Start { position, floor } => {
                if let Some(reason) = refuse(&since.position, &position, &floor) {
                    return Err(Failed::Refetch(reason));
                }
                reached = Some(position);
            }
            ReadPart::Entries(entries) => {
                for entry in entries {
                    let (id, given) = (entry.id, place.has_given(&entry));
                    match entry.learn_of(shape) {
                        Ok(Learned::Reshaped) | Err(_) => {
                            return Err(Failed::Refetch(RefetchReason::Schema));
                        }
                        Ok(Learned::Change { change, transient })
                            if !given && (!transient || place.may_know_newer()) =>
                        {
                            if changes.len() == limit {
                                more = true;
                                break 'read;
                            }
                            changes.push(change);
                            last_id = id;
                        }
                        _ => {}
                    }
                }
            }
            ReadPart::Rows(_) => {}
            ReadPart::Outdated(_) => return Err(HttpError::unavailable().into()),
        }
    }
    parts.finish().await?;
    let read_at = reached.ok_or_else(HttpError::unavailable)?;
    let cursor = match more {
        true => Place::InChanges {
            since: since.clone(),
            read_at,
            after_id: last_id,
        },
        false => Place::At(Cursor {
            epoch: since.epoch.clone(),
            position: read_at,
        }),
    };
    Ok(Page {
        rows: None,
        changes: Some(changes),
        cursor: cursor.to_string(),
        more,
    })
}

#[derive(Debug, Deserialize)]
struct Body {
    client_id: Uuid,
    mutation: u64,
    writes: Vec<Write>,
}

/// Applies a mutation: 200 with an ack, or the status that fits the reject.
pub(super) async fn write(
    State(engine): State<Arc<Inner>>,
    Path(entity): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    check_origin(&engine, &headers)?;
    if !engine.is_configured(&entity) {
        return Err(HttpError::of(
            ErrorCode::UnknownEntity,
            "no entity of this name is synced here",
        ));
    }
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => HttpError::of(
            ErrorCode::TooLarge,
            "the body is larger than frame_bytes_max",
        ),
        _ => HttpError::of(ErrorCode::Protocol, "the body could not be read"),
    })?;
    let body: Body = serde_json::from_slice(&body).map_err(|error| {
        HttpError::of(
            ErrorCode::Protocol,
            format!("not a mutation: {}", json_fault(&error)),
        )
    })?;
    if engine.hub.epoch().is_none() || engine.shutdown.is_cancelled() {
        return Err(HttpError::unavailable());
    }
    let (mutation, client_id) = (body.mutation, body.client_id);
    let push = Push {
        mutation,
        writes: body.writes,
    };
    // In a task of its own: a client that hangs up does not stop a mutation half-way.
    let applying = engine.clone();
    let applied = engine
        .tasks
        .spawn(async move { applying.mutate(client_id, push).await });
    match applied.await {
        Ok(Ok(Applied::Committed(_))) => {
            Ok(Json(serde_json::json!({ "type": "ack", "mutation": mutation })).into_response())
        }
        Ok(Ok(Applied::Rejected(reject))) => Ok(rejected(mutation, &reject)),
        Ok(Err(_)) => Err(HttpError::unavailable()),
        Err(_) => Err(HttpError::of(
            ErrorCode::Internal,
            "the server failed; send it again",
        )),
    }
}

fn rejected(mutation: u64, reject: &Reject) -> Response {
    let status = match reject.code {
        RejectCode::NotFound
        | RejectCode::Exists
        | RejectCode::Constraint
        | RejectCode::OutOfOrder => StatusCode::CONFLICT,
        RejectCode::Forbidden => StatusCode::FORBIDDEN,
        RejectCode::Invalid
        | RejectCode::UnknownEntity
        | RejectCode::UnknownColumn
        | RejectCode::TooLarge
        | RejectCode::Clock => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let frame = rhtmx_sync_core::protocol::ServerFrame::Reject { mutation, reject };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        frame.to_text(),
    )
        .into_response()
}
