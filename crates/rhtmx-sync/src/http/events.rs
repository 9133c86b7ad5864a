//! Server-sent events: a session that only listens.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use rhtmx_sync_core::protocol::{ClientFrame, ErrorCode, Subscribe, SubscriptionId};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::part::PartParameters;
use super::{HttpError, origin};
use crate::engine::Inner;
use crate::session::Connection;
use crate::session::wire::{Events, NO_CURSOR};

/// Events that may wait for a slow client; beyond it, its session reads at its pace.
const EVENTS_WAITING_MAX: usize = 16;

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    entity: String,
    #[serde(rename = "where")]
    filter: Option<String>,
    params: Option<String>,
    columns: Option<String>,
    cursor: Option<String>,
}

/// The frames of one subscription, whose id is the entity's name. `Last-Event-ID`, which a browser
/// sends when it comes back, goes before `cursor`.
pub(super) async fn events(
    State(engine): State<Arc<Inner>>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, HttpError> {
    if !origin::is_allowed(&headers, &engine.config) {
        return Err(HttpError::of(
            ErrorCode::Forbidden,
            "pages of this origin may not connect",
        ));
    }
    let Query(parameters) =
        parameters.map_err(|error| HttpError::of(ErrorCode::Protocol, error.body_text()))?;
    let asked = PartParameters {
        filter: parameters.filter,
        params: parameters.params,
        columns: parameters.columns,
    };
    let asked = asked.read()?;
    // What cannot be is answered here, where a status says so.
    asked.shape(&engine, &parameters.entity)?;
    if engine.hub.epoch().is_none() || engine.shutdown.is_cancelled() {
        return Err(HttpError::unavailable());
    }
    let last_event_id = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned);
    let subscribe = Subscribe {
        id: SubscriptionId::Text(parameters.entity.clone()),
        entity: parameters.entity,
        filter: asked.filter,
        params: asked.params,
        columns: asked.columns,
        mode: None,
        cursor: last_event_id
            .or(parameters.cursor)
            .filter(|cursor| cursor != NO_CURSOR),
    };
    let (sender, mut events) = mpsc::channel::<String>(EVENTS_WAITING_MAX);
    let seat = engine.hub.join(engine.config.limits.queue_batches_max);
    let connection = Connection::new(engine.clone(), Events::new(sender), seat, None);
    let first = Box::new(ClientFrame::Subscribe(subscribe));
    engine.tasks.spawn(Box::pin(connection.run(Some(first))));
    let stream = futures_util::stream::poll_fn(move |cx| {
        events
            .poll_recv(cx)
            .map(|event| event.map(|event| Ok::<_, Infallible>(Bytes::from(event))))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Says to nginx, the proxy that buffers by default, not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
