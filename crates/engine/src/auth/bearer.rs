//! The token in a request's `Authorization` header (RFC 6750, 2.1).

use axum::http::{HeaderMap, header};

use super::AuthError;

/// The answer to a header that is there, but is none with one token.
const MALFORMED: &str = "the Authorization header is not `Bearer` and one token";

/// Returns the token; none when there is no such header. A header that cannot be understood is never taken for none: its
/// sender meant to say who it is.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let token = match values.next() {
        None => value.to_str().ok().and_then(of_bearer),
        Some(_) => None,
    };
    let malformed = || AuthError::Unauthenticated(MALFORMED.to_owned());
    token.map(Some).ok_or_else(malformed)
}

fn of_bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_one).then_some(token)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, AuthError> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a header's value");
            headers.append(header::AUTHORIZATION, value);
        }
        token(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn a_header_that_is_not_one_bearer_token_is_refused() {
        assert_eq!(read(&[]), Ok(None));
        for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            assert_eq!(
                read(&[good.as_bytes()]),
                Ok(Some("a.b.c".to_owned())),
                "{good}"
            );
        }
        let refused: [&[&[u8]]; 12] = [
            &[b""],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"Bearer a b"],
            &[b"Bearer a, Bearer b"],
            &[b"Bearer\ta"],
            &[b"Bearer a\t"],
            &[b"Bearer \xff"],
            &[b"a.b.c"],
            &[b"Basic YW5uOnNlY3JldA=="],
            &[b"Bearer a", b"Bearer a"],
            &[b"Basic YQ==", b"Bearer a"],
        ];
        for values in refused {
            assert!(read(values).is_err(), "{values:?}");
        }
    }
}
