//! The header of a token: which algorithm and which key it claims.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use crate::error::TokenError;
use crate::json;

/// The longest `kid`, in bytes.
pub const KID_BYTES_MAX: usize = 256;

/// What only another kind of token has: critical extensions (of which none is understood), keys that the token
/// brings along or asks to fetch, an unencoded or compressed or nested payload, encryption.
const UNSUPPORTED: [&str; 9] = [
    "crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "cty", "enc",
];

/// Values of `typ`, in lower case; other ones are refresh tokens, logout tokens, proofs.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

impl Header {
    pub(crate) fn read(text: &[u8]) -> Result<Self, TokenError> {
        let members = json::object(text).map_err(|_| TokenError::Malformed)?;
        if UNSUPPORTED.iter().any(|name| members.contains_key(*name)) {
            return Err(TokenError::Unsupported);
        }
        if let Some(kind) = text_of(&members, "typ")?
            && !TYPES.contains(&kind.to_ascii_lowercase().as_str())
        {
            return Err(TokenError::Unsupported);
        }
        let algorithm = text_of(&members, "alg")?.ok_or(TokenError::Malformed)?;
        let kid = text_of(&members, "kid")?;
        if kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            algorithm: algorithm.parse().map_err(|_| TokenError::Algorithm)?,
            kid: kid.map(str::to_owned),
        })
    }
}

fn text_of<'a>(
    members: &'a BTreeMap<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, TokenError> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(header: &str) -> TokenError {
        Header::read(header.as_bytes()).expect_err(header)
    }

    #[test]
    fn no_spelling_of_none_is_an_algorithm() {
        for alg in [
            "none", "None", "NONE", "nOnE", "", " none", "hs256", "HS256 ", "ES512", "Ed448",
        ] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            assert_eq!(error(&header), TokenError::Algorithm, "{header}");
        }
        for header in [
            r#"{}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":1}"#,
        ] {
            assert_eq!(error(header), TokenError::Malformed, "{header}");
        }
    }

    /// CVE-2018-0114: the key in the token. CVE-2026-32597: a critical extension that is not understood.
    #[test]
    fn what_a_token_brings_along_is_refused() {
        for member in [
            r#""jwk":{"kty":"oct","k":"AA"}"#,
            r#""jku":"https://evil.example/keys""#,
            r#""x5u":"https://evil.example/cert""#,
            r#""x5c":["MII"]"#,
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""b64":false"#,
            r#""b64":true"#,
            r#""zip":"DEF""#,
            r#""enc":"A128GCM""#,
            r#""cty":"JWT""#,
            r#""typ":"refresh+jwt""#,
            r#""typ":"dpop+jwt""#,
            r#""typ":"JWS""#,
        ] {
            let header = format!(r#"{{"alg":"ES256",{member}}}"#);
            assert_eq!(error(&header), TokenError::Unsupported, "{header}");
        }
    }

    #[test]
    fn a_kid_is_a_short_text() {
        let header =
            |kid: &str| Header::read(format!(r#"{{"alg":"ES256","kid":{kid}}}"#).as_bytes());
        for kid in ["1", "null", "[\"a\"]", "{}", "\"a\\u0000\""] {
            assert_eq!(header(kid).expect_err(kid), TokenError::Malformed, "{kid}");
        }
        let long = format!("\"{}\"", "k".repeat(KID_BYTES_MAX + 1));
        assert_eq!(header(&long).expect_err("long"), TokenError::Malformed);
        let read = header(r#""../../etc/passwd' or 1=1 --""#).expect("a header");
        assert_eq!(read.kid.as_deref(), Some("../../etc/passwd' or 1=1 --"));
        assert!(Header::read(br#"{"alg":"RS256","typ":"at+JWT","x5t":"abc"}"#).is_ok());
        assert_eq!(
            error(r#"{"alg":"ES256","alg":"HS256"}"#),
            TokenError::Malformed
        );
    }
}
