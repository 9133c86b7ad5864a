//! Rows and changes by `GET`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use db::entity::Entity;
use db::read::{ChangesQuery, ReadError, RowsPage, RowsQuery};
use protocol::{Change, ErrorCode, RefetchReason, RowImage};
use serde::{Deserialize, Serialize};
use sync_core::cursor::{Cursor, Epoch};
use sync_core::effect::Effect;
use sync_core::shape::{Shape, ShapeReader};

use super::error::HttpError;
use super::page_token::PageToken;
use super::selection_params::SelectionParams;
use super::{Feature, door};
use crate::mailbox::{Capacity, Mailbox};
use crate::rows::Batch;
use crate::rows::reads::{old_value_columns_of, refuse, unclear};
use crate::state::EngineState;

/// The longest wait of a long poll.
const WAIT_MS_MAX: u64 = 60_000;
/// The largest page, whatever `limit` asks for.
const LIMIT_MAX: usize = 10_000;

pub(super) const FEATURE: Feature = Feature {
    name: "rows",
    reserved: &[],
    routes: |prefix| Router::new().route(&format!("{prefix}/{{entity}}"), get(read)),
};

#[derive(Debug, Deserialize)]
struct Parameters {
    cursor: Option<String>,
    #[serde(flatten)]
    selection: SelectionParams,
    // With `flatten`, every value is read as a text; `read_page` parses the numbers.
    limit: Option<String>,
    wait_ms: Option<String>,
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

/// Why no page is returned.
enum Failed {
    Refetch(RefetchReason),
    Http(HttpError),
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
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

/// Returns rows and a cursor; with a cursor, the changes since, after waiting up to `wait_ms` for some.
async fn read(
    State(state): State<Arc<EngineState>>,
    Path(entity): Path<String>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    match read_page(&state, &entity, &headers, parameters).await {
        Ok(page) => ([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response(),
        Err(failed) => failed.into_response(),
    }
}

/// Parses a number in the query string.
fn number<T: std::str::FromStr>(name: &str, text: Option<&String>) -> Result<Option<T>, HttpError> {
    let wrong = |_| {
        HttpError::new(
            ErrorCode::Protocol,
            format!("`{name}` is not a whole number"),
        )
    };
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

async fn read_page(
    state: &Arc<EngineState>,
    name: &str,
    headers: &HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Page, Failed> {
    let principal = door::admit(headers, &state.config).await?;
    let Query(parameters) =
        parameters.map_err(|error| HttpError::new(ErrorCode::Protocol, error.body_text()))?;
    let limit: Option<usize> = number("limit", parameters.limit.as_ref())?;
    let wait_ms: Option<u64> = number("wait_ms", parameters.wait_ms.as_ref())?;
    let selection = parameters.selection.read()?;
    let shape = state
        .resolve(&principal, name, &selection)
        .map_err(HttpError::from)?;
    let limit = limit.map_or(usize::MAX, |limit| limit.clamp(1, LIMIT_MAX));
    let epoch = state.hub.epoch().ok_or_else(HttpError::unavailable)?;
    let entity = state
        .entities
        .find(name)
        .ok_or_else(HttpError::unavailable)?;
    let token = match parameters.cursor.as_deref().map(str::parse::<PageToken>) {
        _ if !entity.fits(&shape) => return Err(Failed::Refetch(RefetchReason::Schema)),
        None => return rows_page(state, entity, shape, None, limit).await,
        Some(Err(_)) => return Err(Failed::Refetch(RefetchReason::Epoch)),
        Some(Ok(token)) => token,
    };
    if token.since().epoch != epoch {
        return Err(Failed::Refetch(RefetchReason::Epoch));
    }
    if let PageToken::InRows { since, after_key } = &token {
        return rows_page(state, entity, shape, Some((since, after_key)), limit).await;
    }
    let wait = Duration::from_millis(wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
    let deadline = tokio::time::Instant::now() + wait;
    // Register before reading, so that no change slips in between the read and the wait.
    let mut waiting = Waiting::new(state, &epoch, &shape);
    let shape = ShapeReader::new(shape);
    loop {
        let page = changes_page(state, &shape, &entity, &token, limit).await?;
        let empty = page.changes.as_ref().is_none_or(Vec::is_empty);
        if !empty || page.more || wait.is_zero() {
            return Ok(page);
        }
        tokio::select! {
            is_open = waiting.next() => if !is_open { return Ok(page) },
            () = tokio::time::sleep_until(deadline) => return Ok(page),
            () = state.shutdown.cancelled() => return Ok(page),
        }
    }
}

/// A mailbox for as long as a long poll waits.
struct Waiting<'a> {
    state: &'a EngineState,
    mailbox: Mailbox<Batch>,
}

impl<'a> Waiting<'a> {
    fn new(state: &'a EngineState, epoch: &Epoch, shape: &Shape) -> Self {
        // One batch is enough to wake the poll.
        let capacity = Capacity { items: 1, bytes: 0 };
        let mailbox = state.hub.join(epoch, capacity);
        state.hub.attach(mailbox.session, shape);
        Self { state, mailbox }
    }

    /// Waits until the log should be read. Returns false when the hub has been reset: the next request sees
    /// the epoch that follows.
    async fn next(&mut self) -> bool {
        let is_open = self.mailbox.next().await.is_some();
        // The mailbox may have overflowed since; the log is read in any case.
        self.state.hub.rejoin(self.mailbox.session);
        is_open
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.hub.leave(self.mailbox.session);
    }
}

/// Reads rows in the order of their keys' texts. Later pages are read later than the first; the changes since
/// the first make up for it.
async fn rows_page(
    state: &EngineState,
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
    let mut stream = state.config.db_pool.read_rows(entity, query);
    let position = stream.start().await?.position;
    let mut rows = Vec::new();
    while let Some(more) = stream.next().await? {
        rows.extend(more);
    }
    let since = match after {
        Some((since, _)) => since.clone(),
        None => Cursor {
            epoch: state.hub.epoch().ok_or_else(HttpError::unavailable)?,
            position,
        },
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let token = match rows.last() {
        Some(last) if more => PageToken::InRows {
            since,
            after_key: last.key.clone(),
        },
        _ if after.is_some() => PageToken::AfterRows { since },
        _ => PageToken::At(since),
    };
    Ok(Page {
        rows: Some(rows),
        changes: None,
        cursor: token.to_string(),
        more,
    })
}

async fn changes_page(
    state: &EngineState,
    shape: &ShapeReader,
    entity: &Arc<Entity>,
    token: &PageToken,
    limit: usize,
) -> Result<Page, Failed> {
    let since = token.since();
    let entities = BTreeMap::from([(shape.shape().entity().to_owned(), entity.clone())]);
    let query = ChangesQuery {
        from: since.position.clone(),
        old_value_columns: old_value_columns_of([shape.shape()]),
        checked: true,
    };
    let db = &state.config.db_pool;
    let mut stream = db.read_changes(Arc::new(entities), query);
    let start = stream.start().await?;
    if let Some(reason) = refuse(&since.position, &start.position, &start.floor) {
        return Err(Failed::Refetch(reason));
    }
    let mut changes: Vec<Change> = Vec::new();
    let mut last_id = 0;
    let mut more = false;
    'read: while let Some(entries) = stream.next().await? {
        let if_unclear = unclear(&entries, shape.shape().entity());
        for mut entry in entries {
            entry.tell_origin_to(None);
            match entry.effect_on(shape) {
                // A row that cannot be read belongs to another version of the table than the shape was made
                // for.
                Ok(Effect::SchemaChanged) | Err(_) => {
                    return Err(Failed::Refetch(RefetchReason::Schema));
                }
                Ok(Effect::Unclear) => return Err(Failed::Refetch(if_unclear)),
                Ok(Effect::Change { change, transient })
                    if !token.has_returned(&entry)
                        && (!transient || token.may_hold_newer_rows()) =>
                {
                    // A page does not end between a truncate and what a trigger wrote after it.
                    if changes.len() >= limit && entry.order() != last_id {
                        more = true;
                        break 'read;
                    }
                    changes.push(change);
                    last_id = entry.order();
                }
                Ok(Effect::Change { .. } | Effect::Nothing) => {}
            }
        }
    }
    let token = if more {
        PageToken::InChanges {
            since: since.clone(),
            read_at: start.position,
            after_id: last_id,
        }
    } else {
        PageToken::At(Cursor {
            epoch: since.epoch.clone(),
            position: start.position,
        })
    };
    Ok(Page {
        rows: None,
        changes: Some(changes),
        cursor: token.to_string(),
        more,
    })
}
