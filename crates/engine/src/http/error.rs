//! Errors as HTTP answers, with the protocol's codes.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;
use sync_core::session::SubscribeError;

use crate::auth::AuthError;

/// An error as an HTTP answer.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
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
        }
    }

    pub(super) fn unavailable() -> Self {
        let message = "the database is out of reach; try again";
        Self::new(ErrorCode::Unavailable, message)
    }
}

impl From<SubscribeError> for HttpError {
    fn from(SubscribeError { code, message }: SubscribeError) -> Self {
        Self::new(code, message)
    }
}

impl From<AuthError> for HttpError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(message) => Self::new(ErrorCode::Unauthenticated, message),
            AuthError::Unavailable(message) => Self::new(ErrorCode::Unavailable, message),
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        (self.status, axum::Json(body)).into_response()
    }
}
