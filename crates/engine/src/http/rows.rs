//! Rows and changes by `GET`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protocol::{ErrorCode, RefetchReason, SelectionRequest};
use serde::Deserialize;
use sync_core::cursor::{Cursor, Epoch, Position};
use sync_core::policy::Lifetime;
use sync_core::retry::ReadFailure;
use sync_core::session::SubscribeError;
use sync_core::shape::{Shape, of_fields_alone};
use tokio::time::Instant;

use super::Feature;
use super::door::{self, Admitted};
use super::error::HttpError;
use super::long_poll::{LongPoll, Woken};
use super::page_body::{PageBody, PageResponse, Unfinished};
use super::page_token::PageToken;
use super::query;
use super::selection_params::{self, SelectionParams};
use crate::auth::Identity;
use crate::clock::now_ms;
use crate::limits::RETRY_AFTER;
use crate::rows::ReadClient;
use crate::rows::pages::{self, ChangePages, ChangesRead, Items, NumberedChange, PageEnd};
use crate::rows::spool::Next;
use crate::state::EngineState;

/// The longest wait of a long poll.
const WAIT_MS_MAX: u64 = 60_000;

/// Subscriptions to the first rows in an order.
pub(super) const WINDOWS: Feature = Feature {
    name: "windows",
    reserved: &[],
    routes: |_| Router::new(),
};

pub(super) const FEATURE: Feature = Feature {
    name: "rows",
    reserved: &[],
    routes: |prefix| Router::new().route(&format!("{prefix}/{{entity}}"), get(read)),
};

/// Besides those of the selection.
const PARAMETERS: &[&str] = &["cursor", "limit", "wait_ms"];

#[derive(Debug, Deserialize)]
struct Parameters {
    cursor: Option<String>,
    #[serde(flatten)]
    selection: SelectionParams,
    // With `flatten`, every value is read as a text; `read_page` parses the numbers.
    limit: Option<String>,
    wait_ms: Option<String>,
}

/// Why no page is returned.
pub(super) enum Failed {
    Refetch(RefetchReason),
    Http(HttpError),
}

impl From<HttpError> for Failed {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<PageEnd> for Failed {
    fn from(end: PageEnd) -> Self {
        match end {
            PageEnd::Refused(reason) => Self::Refetch(reason),
            PageEnd::Failed(failure) if failure.kind == ReadFailure::Busy => {
                let message = "more reads wait than the server takes; try again later";
                let error = HttpError::new(ErrorCode::RateLimited, message);
                Self::Http(error.retry_after(RETRY_AFTER))
            }
            PageEnd::Failed(failure) => {
                tracing::warn!(error = %failure.text, "a page could not be read");
                Self::Http(HttpError::unavailable())
            }
            PageEnd::Complete { .. } => Self::Http(HttpError::unavailable()),
        }
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
    Admitted(identity): Admitted,
    uri: Uri,
) -> Response {
    match read_page(&state, &entity, &identity, (&uri, false)).await {
        Ok(response) => response,
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

/// The page that a request asks for, of rows with their metadata if `only_fields`.
pub(super) async fn read_page(
    state: &Arc<EngineState>,
    name: &str,
    identity: &Identity,
    (uri, only_fields): (&Uri, bool),
) -> Result<Response, Failed> {
    let principal = &*identity.principal;
    let parameters: Parameters = query::read(uri, &[PARAMETERS, selection_params::NAMES])?;
    let limit: Option<usize> = number("limit", parameters.limit.as_ref())?;
    let wait_ms: Option<u64> = number("wait_ms", parameters.wait_ms.as_ref())?;
    let mut selection = parameters.selection.read()?;
    if only_fields {
        fields_alone(&mut selection)?;
    }
    let shape = state
        .resolve(principal, name, &selection)
        .map_err(HttpError::from)?;
    let rows_max = state.config.reads.page_rows_max.max(1);
    let limit = limit.map_or(rows_max, |limit| limit.clamp(1, rows_max));
    let epoch = state.hub.epoch().ok_or_else(HttpError::unavailable)?;
    state.continuations.expire();
    let client = ReadClient::http(identity);
    let text = parameters.cursor;
    let token = match text.as_deref().map(|text| PageToken::read(text, &shape)) {
        None => return rows(state, &shape, None, &epoch, limit, client).await,
        Some(Err(reason)) => return Err(Failed::Refetch(reason)),
        Some(Ok(token)) => token,
    };
    if token.since().epoch != epoch {
        return Err(Failed::Refetch(RefetchReason::Epoch));
    }
    if let PageToken::InRows { since, after_key } = token {
        let after = Some((since, after_key));
        return rows(state, &shape, after, &epoch, limit, client).await;
    }
    let mut wait = Duration::from_millis(wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
    // Nothing of a later commit than the token's end.
    let lifetime = Lifetime::of(principal, state.config.auth.expiry_grace());
    if let Some(left) = lifetime.wait(now_ms()) {
        wait = wait.min(left);
    }
    let text = text.as_deref().unwrap_or_default();
    let kept = state.continuations.take(&shape, text);
    let request = ChangesRequest {
        is_continued: kept.is_some(),
        kept,
        shape,
        client,
        token,
        limit,
    };
    request.answer(state, wait, identity).await
}

/// Makes a request one for metadata.
pub(super) fn fields_alone(selection: &mut SelectionRequest) -> Result<(), HttpError> {
    of_fields_alone(selection).map_err(|error| SubscribeError::from(error).into())
}

/// Answers with rows in the order of their keys' texts. Later pages are read later than the first; the changes
/// since the first make up for it.
async fn rows(
    state: &Arc<EngineState>,
    shape: &Shape,
    after: Option<(Cursor, String)>,
    epoch: &Epoch,
    limit: usize,
    client: ReadClient,
) -> Result<Response, Failed> {
    let after_key = after.as_ref().map(|(_, key)| key.clone());
    let mut items = state.reader.rows_page(shape, after_key, limit, client);
    let position = match pages::next(&mut items).await? {
        Next::Head(position) => position,
        Next::End(end) => return Err(end.into()),
        Next::Page(_) => return Err(HttpError::unavailable().into()),
    };
    // Until the first rows, a failure can still be a status.
    let first = match pages::next(&mut items).await? {
        Next::End(end @ (PageEnd::Refused(_) | PageEnd::Failed(_))) => return Err(end.into()),
        first => first,
    };
    let is_first_page = after.is_none();
    let since = after.map_or_else(
        || Cursor {
            epoch: epoch.clone(),
            position: (*position).clone(),
        },
        |(since, _)| since,
    );
    let (body, response) = PageBody::start("rows", state.config.limits.stalled_timeout());
    let shape = shape.clone();
    tokio::spawn(async move {
        // The client of an unfinished page notices, and nobody else is concerned.
        let _ = write_rows(body, &shape, first, items, since, is_first_page).await;
    });
    begin(response).await
}

async fn write_rows(
    mut body: PageBody,
    shape: &Shape,
    first: Next<Arc<Position>, PageEnd>,
    mut items: Items,
    since: Cursor,
    is_first_page: bool,
) -> Result<(), Unfinished> {
    let mut item = Ok(first);
    loop {
        match item {
            Ok(Next::Page(array)) => {
                let array = std::str::from_utf8(&array).map_err(|_| Unfinished)?;
                body.items(array).await?;
            }
            Ok(Next::Head(_)) => {}
            Ok(Next::End(PageEnd::Complete { more })) => {
                let has_more = more.is_some();
                let token = match more {
                    Some(last) => PageToken::InRows {
                        since,
                        after_key: last.to_string(),
                    },
                    None if is_first_page => PageToken::At(since),
                    None => PageToken::AfterRows { since },
                };
                return body.finish(&token.text(shape), has_more).await;
            }
            Ok(Next::End(_)) | Err(_) => {
                body.fail().await;
                return Err(Unfinished);
            }
        }
        item = pages::next(&mut items).await;
    }
}

/// A request for changes.
struct ChangesRequest {
    /// The read that the last page was taken from, if it is still here.
    kept: Option<ChangePages>,
    is_continued: bool,
    shape: Shape,
    client: ReadClient,
    token: PageToken,
    limit: usize,
}

impl ChangesRequest {
    async fn answer(
        mut self,
        state: &Arc<EngineState>,
        wait: Duration,
        identity: &Identity,
    ) -> Result<Response, Failed> {
        let deadline = Instant::now() + wait;
        // Register before reading, so that no change slips in between the read and the wait.
        let mut poll = match wait.is_zero() {
            true => None,
            false => Some(LongPoll::start(
                state,
                door::enter(state, identity)?,
                identity.counted().as_ref(),
                &self.token.since().epoch,
                &self.shape,
            )?),
        };
        loop {
            let mut pages = self.read(state).await?;
            let first = pages.next().await.map_err(changes_failed)?;
            let Some(poll) = poll.as_mut().filter(|_| first.is_none()) else {
                return self.write(state, pages, first).await;
            };
            let woken = tokio::select! {
                woken = poll.changes(&self.shape, &pages.read_at, self.limit) => woken,
                () = tokio::time::sleep_until(deadline) => Woken::Closed,
                () = state.shutdown.cancelled() => Woken::Closed,
            };
            match woken {
                Woken::Read => {}
                Woken::Closed => return self.write(state, pages, None).await,
                Woken::Changes { array, position } => {
                    return self.write_array(state, array, &position).await;
                }
            }
        }
    }

    /// The read to take changes from.
    async fn read(&mut self, state: &Arc<EngineState>) -> Result<ChangePages, Failed> {
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        let token = self.token.clone();
        let read = ChangesRead {
            shape: self.shape.clone(),
            client: self.client.clone(),
            from: token.since().position.clone(),
            transient: token.may_hold_newer_rows(),
            has_returned: Box::new(move |entry| token.has_returned(entry)),
        };
        self.token.read_again();
        let items = state.reader.changes_pages(read);
        ChangePages::begin(items).await.map_err(changes_failed)
    }

    fn at(&self, position: &Position) -> PageToken {
        PageToken::At(Cursor {
            epoch: self.token.since().epoch.clone(),
            position: position.clone(),
        })
    }

    async fn write_array(
        &self,
        state: &EngineState,
        array: String,
        position: &Position,
    ) -> Result<Response, Failed> {
        let timeout = state.config.limits.stalled_timeout();
        let (mut body, response) = PageBody::start("changes", timeout);
        let token = self.at(position).text(&self.shape);
        tokio::spawn(async move {
            if body.items(&array).await.is_ok() {
                let _ = body.finish(&token, false).await;
            }
        });
        begin(response).await
    }

    async fn write(
        self,
        state: &Arc<EngineState>,
        pages: ChangePages,
        first: Option<NumberedChange>,
    ) -> Result<Response, Failed> {
        let timeout = state.config.limits.stalled_timeout();
        let (body, response) = PageBody::start("changes", timeout);
        let state = state.clone();
        tokio::spawn(async move {
            let _ = self.write_page(&state, body, pages, first).await;
        });
        begin(response).await
    }

    async fn write_page(
        mut self,
        state: &Arc<EngineState>,
        mut body: PageBody,
        mut pages: ChangePages,
        first: Option<NumberedChange>,
    ) -> Result<(), Unfinished> {
        let bytes_max = state.config.reads.page_bytes_max;
        let (mut count, mut bytes, mut last) = (0, 0, 0);
        let mut change = Ok(first);
        let token = loop {
            let Ok(next) = change else {
                body.fail().await;
                return Err(Unfinished);
            };
            let Some((id, text)) = next else {
                let at_its_end = self.at(&pages.read_at);
                if !std::mem::take(&mut self.is_continued) {
                    break at_its_end;
                }
                // The read began with an earlier page. The last page also has what has changed since.
                self.token = at_its_end.clone();
                match self.read(state).await {
                    Ok(since_then) => pages = since_then,
                    // The next request sees why.
                    Err(_) => break at_its_end,
                }
                change = pages.next().await;
                continue;
            };
            if count > 0 && (count == self.limit || bytes >= bytes_max) {
                pages.put_back((id, text));
                break self.token.after(last, &pages.read_at);
            }
            count += 1;
            bytes += text.get().len();
            last = id;
            body.item(text.get()).await?;
            change = pages.next().await;
        };
        let more = matches!(token, PageToken::InChanges { .. });
        let text = token.text(&self.shape);
        if more {
            state.continuations.keep(&self.shape, text.clone(), pages);
        }
        body.finish(&text, more).await
    }
}

/// The response, once enough of its page is written.
async fn begin(response: PageResponse) -> Result<Response, Failed> {
    let begun = response.begin().await;
    begun.ok_or_else(|| HttpError::unavailable().into())
}

/// A resume that the database cannot answer in time is given up, as one that it would take too long to answer.
fn changes_failed(end: PageEnd) -> Failed {
    match end {
        PageEnd::Failed(failure) if failure.kind == ReadFailure::NoProgress => {
            Failed::Refetch(RefetchReason::Expired)
        }
        end => end.into(),
    }
}
