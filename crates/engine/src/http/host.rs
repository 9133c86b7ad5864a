//! The names by which the server answers.
//!
//! A web page can have its own name point to another machine than the one that served it (DNS rebinding). Its requests
//! to a server on the visitor's machine then look like those of a page that this server has served, but they carry the
//! page's name. An address cannot be rebound, and a page that came over HTTPS cannot either: its browser would ask the
//! server for the name's certificate.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::config::AuthConfig;

/// In `allowed_hosts`, any name.
const ANY: &str = "*";

/// Whether the server answers requests with these headers by the name that they use.
pub(super) fn is_allowed(headers: &HeaderMap, auth: &AuthConfig) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::to_str);
    let host = match text(header::HOST) {
        // HTTP/1.0, which no browser speaks.
        None => return true,
        Some(Err(_)) => return false,
        Some(Ok(host)) => host,
    };
    is_allowed_name(host_name(host), auth) || came_over_https(headers, host)
}

/// Whether a name is an address, this machine's, or configured.
pub(super) fn is_allowed_name(name: &str, auth: &AuthConfig) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let lower_case = name.to_ascii_lowercase();
    // Browsers resolve names below `localhost` to their own machine.
    let below_local = lower_case.strip_suffix(".localhost");
    lower_case == "localhost"
        || below_local.is_some_and(|below| !below.is_empty())
        || address.parse::<IpAddr>().is_ok()
        || auth
            .allowed_hosts
            .iter()
            .any(|allowed| allowed == ANY || allowed.eq_ignore_ascii_case(name))
        || auth
            .allowed_origins
            .iter()
            .filter_map(|origin| origin.split_once("://"))
            .any(|(_, host)| host_name(host).eq_ignore_ascii_case(name))
}

/// Whether a browser says that its page came over HTTPS from this host: by the page's origin, or by the headers that it
/// sends over HTTPS only. A page can set neither.
fn came_over_https(headers: &HeaderMap, host: &str) -> bool {
    match headers.get(header::ORIGIN) {
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("https://"))
            .is_some_and(|page| page == host),
        None => headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "same-origin" || site == "none"),
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        host: &'static str,
        other: &[(&'static str, &'static str)],
        auth: &AuthConfig,
    ) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        for (name, value) in other {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        is_allowed(&headers, auth)
    }

    #[test]
    fn addresses_local_names_and_configured_names_are_answered() {
        let mut auth = AuthConfig::default();
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "192.168.1.5:80",
            "localhost:3000",
            "LOCALHOST",
            "app.localhost:80",
        ] {
            assert!(check(host, &[], &auth), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ".localhost",
        ] {
            assert!(!check(host, &[], &auth), "{host}");
        }
        auth.allowed_hosts.push("App.example".to_owned());
        auth.allowed_origins
            .push("https://other.example:8443".to_owned());
        assert!(check("app.example:443", &[], &auth));
        assert!(check("other.example", &[], &auth));
        assert!(!check("evil.example", &[], &auth));
        auth.allowed_hosts.push("*".to_owned());
        assert!(check("evil.example", &[], &auth));
    }

    #[test]
    fn only_a_page_over_https_may_use_another_name() {
        let auth = AuthConfig::default();
        let host = "app.example";
        assert!(check(host, &[("origin", "https://app.example")], &auth));
        assert!(check(host, &[("sec-fetch-site", "same-origin")], &auth));
        assert!(!check(host, &[("origin", "http://app.example")], &auth));
        assert!(!check(host, &[("origin", "https://evil.example")], &auth));
        assert!(!check(host, &[("sec-fetch-site", "cross-site")], &auth));
        let rebound = [
            ("origin", "http://app.example"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert!(!check(host, &rebound, &auth));
    }
}
