//! Admission of HTTP requests: which web pages may connect, and for which principal.
//!
//! A browser sends the page's origin with a WebSocket handshake and a cross-site request, but blocks neither.
//! Without this check, any page could read from a server on the visitor's own machine. For an image or a script
//! that a page includes, it sends no origin but `Sec-Fetch-Site`: the page could not read the answer, but it could
//! make the server work.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use protocol::ErrorCode;
use sync_core::address::{client_address, limited_address};
use sync_core::policy::Principal;

use super::error::HttpError;
use super::host;
use crate::admission;
use crate::auth::{AuthError, Credential, Identity, bearer};
use crate::config::{AuthConfig, SyncConfig};
use crate::limits::RETRY_AFTER;
use crate::mailbox::SessionId;
use crate::principals::{NotEntered, Present};
use crate::state::EngineState;

/// Why a web page may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// The page is of another origin.
    Origin,
    /// The page is of another origin, and would use what the browser sends by itself.
    Session,
    /// The request uses a name that the server does not have.
    Host,
}

impl Unwelcome {
    /// For the author of the page.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Origin => "pages of this origin may not connect (see auth.allowed_origins)",
            Self::Session => "pages of other origins may not use the application's session",
            Self::Host => "this server does not answer by this host name (see auth.allowed_hosts)",
        }
    }
}

impl From<Unwelcome> for HttpError {
    fn from(unwelcome: Unwelcome) -> Self {
        Self::new(ErrorCode::Forbidden, unwelcome.message())
    }
}

/// Who sent a request whose page may connect.
#[derive(Debug)]
pub(super) struct Admitted(pub(super) Identity);

impl FromRequestParts<Arc<EngineState>> for Admitted {
    type Rejection = HttpError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<EngineState>,
    ) -> Result<Self, HttpError> {
        let auth = &state.config.auth;
        check(&parts.headers, &parts.extensions, auth)?;
        let credential = credential(&parts.headers, &parts.extensions, auth)?;
        let address = address(&parts.headers, &parts.extensions, auth);
        let identified = admission::identify(state, credential, address).await;
        Ok(Self(identified?))
    }
}

/// Admits a request that shows a ticket, for the principal to whom it was given.
pub(super) fn admit_with_ticket(
    parts: &Parts,
    state: &EngineState,
    ticket: &str,
) -> Result<Identity, HttpError> {
    check(&parts.headers, &parts.extensions, &state.config.auth)?;
    let auth = &state.config.auth;
    let address = address(&parts.headers, &parts.extensions, auth);
    Ok(admission::redeem(state, ticket, address)?)
}

/// Enters a connection that stays open, for as long as the result lives.
pub(super) fn enter(state: &EngineState, identity: &Identity) -> Result<Present, HttpError> {
    let entered = state.principals.enter(SessionId::next(), identity);
    entered.map_err(|refused| match refused {
        NotEntered::TooMany => {
            HttpError::new(ErrorCode::RateLimited, refused.message()).retry_after(RETRY_AFTER)
        }
        NotEntered::SignedOut => HttpError::new(ErrorCode::Unauthenticated, refused.message()),
    })
}

/// The address by which a request is limited: that of its sender, as far as this server's own proxies know it. None where
/// the application does not serve with [`ConnectInfo`].
pub(super) fn address(
    headers: &HeaderMap,
    extensions: &Extensions,
    auth: &AuthConfig,
) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let forwarded_for = headers.get_all("x-forwarded-for").iter();
    // What is no text is no address either.
    let values: Vec<&str> = forwarded_for
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    let client = client_address(peer.ip(), values.into_iter(), &auth.trusted_proxies);
    Some(limited_address(client))
}

/// What a request shows of who sent it.
pub(super) fn credential(
    headers: &HeaderMap,
    extensions: &Extensions,
    auth: &AuthConfig,
) -> Result<Credential, AuthError> {
    if let Some(principal) = extensions.get::<Principal>() {
        return Ok(Credential::Application(principal.clone()));
    }
    let token = match auth.authenticator.asks_for_tokens() {
        true => bearer::token(headers)?,
        false => None,
    };
    Ok(Credential::Token(token.map(str::to_owned)))
}

/// Checks that the page behind a request with these headers, if there is one, may connect.
pub(super) fn check_page(
    headers: &HeaderMap,
    extensions: &Extensions,
    config: &SyncConfig,
) -> Result<(), HttpError> {
    Ok(check(headers, extensions, &config.auth)?)
}

/// Checks that a request may be answered: it uses a name of this server, and comes from no web page, from a page that
/// this server has served, or from one of the configured origins.
///
/// Where the application has named a principal, a configured origin is not enough: the browser has sent what that rests
/// on by itself, so the page need not know it.
pub(super) fn check(
    headers: &HeaderMap,
    extensions: &Extensions,
    auth: &AuthConfig,
) -> Result<(), Unwelcome> {
    if !host::is_allowed(headers, auth) {
        return Err(Unwelcome::Host);
    }
    let (allowed_origins, unwelcome) = match extensions.get::<Principal>() {
        Some(_) => (&[][..], Unwelcome::Session),
        None => (auth.allowed_origins.as_slice(), Unwelcome::Origin),
    };
    is_allowed_origin(headers, allowed_origins)
        .then_some(())
        .ok_or(unwelcome)
}

fn is_allowed_origin(headers: &HeaderMap, allowed_origins: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        return matches!(site, None | Some(b"same-origin" | b"none"));
    };
    let (Ok(origin), None) = (origin.to_str(), origins.next()) else {
        return false;
    };
    if allowed_origins.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // The page of another scheme (`tauri://localhost`) is of a program that has the same name.
    let page = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    page.is_some() && page == host
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

    fn nobody() -> Extensions {
        Extensions::new()
    }

    fn somebody() -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Principal::of_user("ann"));
        extensions
    }

    #[test]
    fn own_pages_configured_pages_and_programs_may_connect() {
        let mut auth = AuthConfig::default();
        assert_eq!(check(&headers(None), &nobody(), &auth), Ok(()));
        assert_eq!(
            check(&headers(Some("http://127.0.0.1:8080")), &nobody(), &auth),
            Ok(())
        );
        for other in ["https://evil.example", "http://127.0.0.1:9090", "null"] {
            assert_eq!(
                check(&headers(Some(other)), &nobody(), &auth),
                Err(Unwelcome::Origin)
            );
        }
        for (site, expected) in [
            ("same-origin", Ok(())),
            ("none", Ok(())),
            ("same-site", Err(Unwelcome::Origin)),
            ("cross-site", Err(Unwelcome::Origin)),
        ] {
            let mut headers = headers(None);
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(check(&headers, &nobody(), &auth), expected, "{site}");
        }
        auth.allowed_origins.push("https://app.example".to_owned());
        assert_eq!(
            check(&headers(Some("https://app.example")), &nobody(), &auth),
            Ok(())
        );
    }

    #[test]
    fn a_page_whose_name_was_rebound_to_this_machine_may_not_connect() {
        let mut headers = headers(Some("http://evil.example:8080"));
        headers.insert(header::HOST, HeaderValue::from_static("evil.example:8080"));
        assert_eq!(
            check(&headers, &nobody(), &AuthConfig::default()),
            Err(Unwelcome::Host)
        );
    }

    /// CVE-2022-42975: the end of an origin that is compared. CVE-2023-0957, CVE-2024-23898, CVE-2026-44211, CVE-2026-59390 and
    /// GHSA-frjg-g767-7363: one that is not compared.
    #[test]
    fn an_origin_that_is_not_exactly_an_allowed_one_may_not_connect() {
        let mut auth = AuthConfig::default();
        auth.allowed_origins.push("https://app.example".to_owned());
        for origin in [
            "",
            "null",
            "file:",
            "file://",
            "tauri://localhost",
            "tauri://127.0.0.1:8080",
            "https://app.example:443",
            "https://app.example:8443",
            "https://app.example/",
            "https://app.example.",
            "https://app.example.evil.example",
            "https://evilapp.example",
            "https://user@app.example",
            "HTTPS://APP.EXAMPLE",
            "http://app.example",
            "HTTP://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://[::1]:8080",
            "https://app.example, https://app.example",
        ] {
            let refused = Err(Unwelcome::Origin);
            assert_eq!(
                check(&headers(Some(origin)), &nobody(), &auth),
                refused,
                "{origin}"
            );
        }
        let mut twice = headers(Some("https://app.example"));
        twice.append(
            header::ORIGIN,
            HeaderValue::from_static("https://app.example"),
        );
        assert_eq!(check(&twice, &nobody(), &auth), Err(Unwelcome::Origin));
    }

    #[test]
    fn only_own_pages_may_use_what_a_browser_sends_by_itself() {
        let mut auth = AuthConfig::default();
        auth.allowed_origins.push("https://app.example".to_owned());
        auth.allowed_hosts.push("*".to_owned());
        let check = |origin: Option<&'static str>| check(&headers(origin), &somebody(), &auth);
        assert_eq!(check(Some("http://127.0.0.1:8080")), Ok(()));
        assert_eq!(check(None), Ok(()));
        for origin in ["https://app.example", "null", "http://127.0.0.1:9090"] {
            assert_eq!(check(Some(origin)), Err(Unwelcome::Session), "{origin}");
        }
    }
}
