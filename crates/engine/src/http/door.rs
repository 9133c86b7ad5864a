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
use super::{bearer, host};
use crate::auth;
use crate::config::{AuthConfig, SyncConfig};

/// Why a web page may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// The page is of another origin.
    Origin,
    /// The request uses a name that the server does not have.
    Host,
}

impl Unwelcome {
    /// For the author of the page.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Origin => "pages of this origin may not connect (see auth.allowed_origins)",
            Self::Host => "this server does not answer by this host name (see auth.allowed_hosts)",
        }
    }
}

/// Returns the principal of a request whose page may connect and whose bearer token is valid.
pub(super) async fn admit(
    headers: &HeaderMap,
    config: &SyncConfig,
) -> Result<Principal, HttpError> {
    check_page(headers, config)?;
    let authenticator = &*config.auth.authenticator;
    let token = match authenticator.asks_for_tokens() {
        true => bearer::token(headers)?,
        false => None,
    };
    Ok(auth::verify(authenticator, token).await?)
}

/// Checks that the page behind a request with these headers, if there is one, may connect.
pub(super) fn check_page(headers: &HeaderMap, config: &SyncConfig) -> Result<(), HttpError> {
    check(headers, &config.auth)
        .map_err(|unwelcome| HttpError::new(ErrorCode::Forbidden, unwelcome.message()))
}

/// Checks that a request with these headers may be answered: it uses a name of this server, and comes from no web page,
/// from a page that this server has served, or from one of the configured origins.
pub(super) fn check(headers: &HeaderMap, auth: &AuthConfig) -> Result<(), Unwelcome> {
    if !host::is_allowed(headers, auth) {
        return Err(Unwelcome::Host);
    }
    if !is_allowed_origin(headers, auth) {
        return Err(Unwelcome::Origin);
    }
    Ok(())
}

fn is_allowed_origin(headers: &HeaderMap, auth: &AuthConfig) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        return matches!(site, None | Some(b"same-origin" | b"none"));
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if auth.allowed_origins.iter().any(|allowed| allowed == origin) {
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
    use super::*;

    fn headers(origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn own_pages_configured_pages_and_programs_may_connect() {
        let mut auth = AuthConfig::default();
        assert_eq!(check(&headers(None), &auth), Ok(()));
        assert_eq!(
            check(&headers(Some("http://127.0.0.1:8080")), &auth),
            Ok(())
        );
        for other in ["https://evil.example", "http://127.0.0.1:9090", "null"] {
            assert_eq!(check(&headers(Some(other)), &auth), Err(Unwelcome::Origin));
        }
        for (site, expected) in [
            ("same-origin", Ok(())),
            ("none", Ok(())),
            ("same-site", Err(Unwelcome::Origin)),
            ("cross-site", Err(Unwelcome::Origin)),
        ] {
            let mut headers = headers(None);
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(check(&headers, &auth), expected, "{site}");
        }
        auth.allowed_origins.push("https://app.example".to_owned());
        assert_eq!(check(&headers(Some("https://app.example")), &auth), Ok(()));
    }

    #[test]
    fn a_page_whose_name_was_rebound_to_this_machine_may_not_connect() {
        let mut headers = headers(Some("http://evil.example:8080"));
        headers.insert(header::HOST, HeaderValue::from_static("evil.example:8080"));
        assert_eq!(
            check(&headers, &AuthConfig::default()),
            Err(Unwelcome::Host)
        );
    }
}
