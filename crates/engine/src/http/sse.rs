//! Server-sent events: a session that only receives.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protocol::{ClientFrame, Subscribe, SubscriptionId};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::door::Admitted;
use super::error::HttpError;
use super::query;
use super::selection_params::{self, SelectionParams, WindowParams};
use super::{Feature, door};
use crate::session::{EventStream, NO_CURSOR, SessionTask};
use crate::state::EngineState;

/// Events that may wait for a slow client; beyond that, its session waits for it and may have to catch up.
const EVENTS_WAITING_MAX: usize = 16;

pub(super) const FEATURE: Feature = Feature {
    name: "events",
    reserved: &["events"],
    routes: |prefix| Router::new().route(&format!("{prefix}/events"), get(events)),
};

/// Besides those of the selection.
const PARAMETERS: &[&str] = &["entity", "cursor", "ticket"];
/// All of them.
const NAMES: [&[&str]; 3] = [
    PARAMETERS,
    selection_params::NAMES,
    selection_params::WINDOW_NAMES,
];

#[derive(Debug, Deserialize)]
struct Parameters {
    entity: String,
    #[serde(flatten)]
    selection: SelectionParams,
    #[serde(flatten)]
    window: WindowParams,
    cursor: Option<String>,
    ticket: Option<String>,
}

/// Serves the frames of one subscription, whose id is the entity's name. `Last-Event-ID`, which a browser
/// sends when it reconnects, overrides `cursor`.
async fn events(
    State(state): State<Arc<EngineState>>,
    request: Request,
) -> Result<Response, HttpError> {
    let (mut parts, _) = request.into_parts();
    let parameters: Parameters = query::read(&parts.uri, &NAMES)?;
    let identity = match &parameters.ticket {
        Some(ticket) => door::admit_with_ticket(&parts, &state, ticket)?,
        None => Admitted::from_request_parts(&mut parts, &state).await?.0,
    };
    let mut selection = parameters.selection.read()?;
    parameters.window.read_into(&mut selection)?;
    // Reject invalid requests here, while an HTTP status can still be sent.
    let user = identity.counted();
    state.resolve_for(
        user.as_ref(),
        &identity.principal,
        &parameters.entity,
        &selection,
    )?;
    let epoch = state.hub.epoch().filter(|_| !state.shutdown.is_cancelled());
    let epoch = epoch.ok_or_else(HttpError::unavailable)?;
    let last_event_id = parts
        .headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned);
    let subscribe = Subscribe {
        id: SubscriptionId::Text(parameters.entity.clone()),
        entity: parameters.entity,
        selection,
        cursor: last_event_id
            .or(parameters.cursor)
            .filter(|cursor| cursor != NO_CURSOR),
    };
    let present = door::enter(&state, &identity)?;
    let (sender, mut events) = mpsc::channel::<String>(EVENTS_WAITING_MAX);
    let transport = EventStream::new(sender);
    let session = SessionTask::new(state.clone(), epoch, transport, (identity, present), None);
    let first = Box::new(ClientFrame::Subscribe(subscribe));
    state.tasks.spawn(Box::pin(session.run(Some(first))));
    let stream = futures_util::stream::poll_fn(move |cx| {
        events
            .poll_recv(cx)
            .map(|event| event.map(|event| Ok::<_, Infallible>(Bytes::from(event))))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx buffers responses by default; this header turns that off.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
