//! Admission of HTTP requests: which web pages may connect, and for which principal.
//!
//! A browser sends the page's origin with a WebSocket handshake and a cross-site request, but blocks neither.
//! Without this check, any page could read from a server on the visitor's own machine.

use axum::http::{HeaderMap, header};
use protocol::ErrorCode;
use sync_core::policy::Principal;

use super::error::HttpError;
use crate::config::SyncConfig;

/// Returns the principal of a request whose page may connect and whose bearer token is valid.
pub(super) async fn admit(
    headers: &HeaderMap,
    config: &SyncConfig,
) -> Result<Principal, HttpError> {
    if !is_allowed(headers, config) {
        return Err(HttpError::new(
            ErrorCode::Forbidden,
            "pages of this origin may not connect",
        ));
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    Ok(config.auth.authenticator.verify(token).await?)
}

/// Whether a request with these headers may be answered: it comes from no web page, from a page that this
/// server has served, or from one of the configured origins.
pub(super) fn is_allowed(headers: &HeaderMap, config: &SyncConfig) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if config
        .auth
        .allowed_origins
        .iter()
        .any(|allowed| allowed == origin)
    {
        return true;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    origin
        .split_once("://")
        .is_some_and(|(_, page)| Some(page) == host)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use db::DbPool;

    use super::*;

    fn headers(origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[tokio::test]
    async fn own_pages_configured_pages_and_programs_may_connect() {
        let pool = DbPool::from_url("sqlite::memory:")
            .await
            .expect("in memory");
        let mut config = SyncConfig::new(pool, vec!["todos"]);
        assert!(is_allowed(&headers(None), &config));
        assert!(is_allowed(&headers(Some("http://127.0.0.1:8080")), &config));
        for other in ["https://evil.example", "http://127.0.0.1:9090", "null"] {
            assert!(!is_allowed(&headers(Some(other)), &config), "{other}");
        }
        config
            .auth
            .allowed_origins
            .push("https://app.example".to_owned());
        assert!(is_allowed(&headers(Some("https://app.example")), &config));
    }
}
