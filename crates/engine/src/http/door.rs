//! Admission of HTTP requests: which web pages may connect, and for which principal.
//!
//! A browser sends the page's origin with a WebSocket handshake and a cross-site request, but blocks neither.
//! Without this check, any page could read from a server on the visitor's own machine. For an image or a script
//! that a page includes, it sends no origin but `Sec-Fetch-Site`: the page could not read the answer, but it could
//! make the server work.

use axum::http::{HeaderMap, HeaderValue, header};
use protocol::ErrorCode;
use sync_core::policy::Principal;

use super::error::HttpError;
use crate::config::SyncConfig;

/// Returns the principal of a request whose page may connect and whose bearer token is valid.
pub(super) async fn admit(
    headers: &HeaderMap,
    config: &SyncConfig,
) -> Result<Principal, HttpError> {
    check_page(headers, config)?;
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    Ok(config.auth.authenticator.verify(token).await?)
}

/// Checks that the page behind a request with these headers, if there is one, may connect.
pub(super) fn check_page(headers: &HeaderMap, config: &SyncConfig) -> Result<(), HttpError> {
    if is_allowed(headers, config) {
        return Ok(());
    }
    let message = "pages of this origin may not connect";
    Err(HttpError::new(ErrorCode::Forbidden, message))
}

/// Whether a request with these headers may be answered: it comes from no web page, from a page that this
/// server has served, or from one of the configured origins.
pub(super) fn is_allowed(headers: &HeaderMap, config: &SyncConfig) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        return matches!(site, None | Some(b"same-origin" | b"none"));
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
        for (site, expected) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
        ] {
            let mut headers = headers(None);
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(is_allowed(&headers, &config), expected, "{site}");
        }
        config
            .auth
            .allowed_origins
            .push("https://app.example".to_owned());
        assert!(is_allowed(&headers(Some("https://app.example")), &config));
    }
}
