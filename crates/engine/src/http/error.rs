//! Errors as HTTP answers, with the protocol's codes.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;
use sync_core::session::SubscribeError;

use crate::auth::AuthError;
use crate::limits;

/// An error as an HTTP answer.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    retry_after: Option<Duration>,
}

impl HttpError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = match code {
            ErrorCode::Protocol | ErrorCode::BadFilter => StatusCode::BAD_REQUEST,
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::UnknownEntity => StatusCode::NOT_FOUND,
            ErrorCode::TooManySubscriptions | ErrorCode::RateLimited => {
                StatusCode::TOO_MANY_REQUESTS
            }
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same, saying when trying again may help.
    pub(super) fn retry_after(self, pause: Duration) -> Self {
        Self {
            retry_after: Some(pause),
            ..self
        }
    }

    /// Whether it has this code.
    pub(super) fn is(&self, code: ErrorCode) -> bool {
        self.code == code
    }

    pub(super) fn unavailable() -> Self {
        let message = "the database is out of reach; try again";
        Self::new(ErrorCode::Unavailable, message)
    }
}

impl From<SubscribeError> for HttpError {
    fn from(error: SubscribeError) -> Self {
        if let Some(limit) = error.limit {
            limits::reached(limit);
        }
        Self::new(error.code, error.message)
    }
}

impl From<AuthError> for HttpError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(message) => Self::new(ErrorCode::Unauthenticated, message),
            AuthError::RateLimited { retry_after } => {
                Self::new(ErrorCode::RateLimited, error.to_string()).retry_after(retry_after)
            }
            AuthError::Unavailable(message) => Self::new(ErrorCode::Unavailable, message),
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({ "code": self.code, "message": self.message });
        let Some(pause) = self.retry_after else {
            return (self.status, axum::Json(body)).into_response();
        };
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        body["retry_after_ms"] = pause_ms.into();
        let seconds = HeaderValue::from(pause_ms.div_ceil(1000));
        (
            self.status,
            [(header::RETRY_AFTER, seconds)],
            axum::Json(body),
        )
            .into_response()
    }
}
