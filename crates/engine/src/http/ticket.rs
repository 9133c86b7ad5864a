//! One-time tickets for streams of events, whose requests can carry no header in a browser.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use protocol::ErrorCode;
use tokio::time::Instant;

use super::Feature;
use super::door::Admitted;
use super::error::HttpError;
use crate::auth::TICKET_LIFETIME;
use crate::state::EngineState;

pub(super) const FEATURE: Feature = Feature {
    name: "ticket",
    reserved: &["ticket"],
    routes: |prefix| Router::new().route(&format!("{prefix}/ticket"), post(give)),
};

/// Gives a ticket to the sender of the request.
async fn give(
    State(state): State<Arc<EngineState>>,
    Admitted(identity): Admitted,
) -> Result<Response, HttpError> {
    let given = state
        .tickets
        .give(&identity.principal, identity.counted(), Instant::now());
    let result = if given.is_ok() { "given" } else { "refused" };
    metrics::counter!("rhtmx_sync_tickets_total", "result" => result).increment(1);
    let ticket = given.map_err(|refused| {
        let message =
            "more tickets were given than may be (limits.tickets_max, tickets_of_user_max)";
        HttpError::new(ErrorCode::RateLimited, message).retry_after(refused.retry_after)
    })?;
    let lifetime_ms = u64::try_from(TICKET_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    let body = serde_json::json!({ "ticket": ticket, "expires_in_ms": lifetime_ms });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
