//! The routes: WebSocket, plain HTTP, server-sent events, status.

mod client;
mod events;
mod origin;
mod page;
mod part;
mod rest;
mod status;
mod ws;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rhtmx_sync_core::protocol::ErrorCode;

use crate::engine::SyncEngine;

impl SyncEngine {
    /// The routes, to be merged into an application with a state of its own, or nested.
    ///
    /// They have no fallback, so everything else stays the application's.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let limits = &self.inner.config.limits;
        let prefix = &self.inner.config.prefix;
        let client = client::FILES.iter().fold(Router::new(), |routes, file| {
            let serve = async |headers: HeaderMap| file.serve(&headers);
            routes.route(&format!("{prefix}/{}", file.name), get(serve))
        });
        client
            .route(&format!("{prefix}/ws"), get(ws::upgrade))
            .route(&format!("{prefix}/events"), get(events::events))
            .route(&format!("{prefix}/status"), get(status::status))
            .route(
                &format!("{prefix}/{{entity}}"),
                get(rest::read).post(rest::write),
            )
            .layer(axum::extract::DefaultBodyLimit::max(limits.frame_bytes_max))
            .with_state(self.inner.clone())
    }
}

/// An answer that is not what was asked for, in the words of the protocol.
#[derive(Debug)]
struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl HttpError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        let (status, code) = match code {
            ErrorCode::Protocol => (StatusCode::BAD_REQUEST, "protocol"),
            ErrorCode::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            ErrorCode::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            ErrorCode::UnknownEntity => (StatusCode::NOT_FOUND, "unknown_entity"),
            ErrorCode::BadFilter => (StatusCode::BAD_REQUEST, "bad_filter"),
            ErrorCode::TooManySubscriptions => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_subscriptions")
            }
            ErrorCode::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            ErrorCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, message)
    }

    fn unavailable() -> Self {
        Self::of(
            ErrorCode::Unavailable,
            "the database is out of reach; try again",
        )
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}
