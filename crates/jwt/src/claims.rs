//! The claims of a token whose signature is verified.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::TokenError;
use crate::json;
use crate::rules::Rules;
use crate::user_id;

/// The longest `sub`, in bytes.
pub const USER_ID_BYTES_MAX: usize = 255;
/// The longest `role`, in bytes: as long as PostgreSQL's names.
pub const ROLE_BYTES_MAX: usize = 63;

/// The end of the year 9999, in seconds since 1970. A time beyond is in another unit, or nonsense.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Values of a claim `typ` (Keycloak has it) of tokens that are not for access, in lower case.
const OTHER_TYPES: [&str; 4] = ["refresh", "offline", "id", "logout"];

/// Who a valid token speaks for.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedToken {
    /// `sub`; a UUID in its usual spelling.
    pub user_id: String,
    /// `role`.
    pub role: Option<String>,
    /// All claims, as they are in the token.
    pub claims: BTreeMap<String, Value>,
    /// `exp`, in milliseconds since 1970-01-01 UTC, without the leeway.
    pub expires_at_ms: u64,
    /// The public key that signed it; none for a secret.
    pub key_id: Option<String>,
}

impl VerifiedToken {
    pub(crate) fn read(text: &[u8], rules: &Rules, now_ms: u64) -> Result<Self, TokenError> {
        let claims = json::object(text).map_err(|_| TokenError::Malformed)?;
        let leeway_ms = rules.leeway_ms();
        let expires_at_ms = time_ms(&claims, "exp")?.ok_or(TokenError::Claims)?;
        let starts = [time_ms(&claims, "nbf")?, time_ms(&claims, "iat")?];
        if now_ms >= expires_at_ms.saturating_add(leeway_ms) {
            return Err(TokenError::Expired);
        }
        let latest_start = now_ms.saturating_add(leeway_ms);
        if starts
            .into_iter()
            .flatten()
            .any(|start| start > latest_start)
        {
            return Err(TokenError::NotYetValid);
        }
        check_issuer(&claims, &rules.issuers)?;
        check_audience(&claims, &rules.audiences)?;
        if let Some(Value::String(kind)) = claims.get("typ")
            && OTHER_TYPES.contains(&kind.to_ascii_lowercase().as_str())
        {
            return Err(TokenError::Unsupported);
        }
        let user_id = user_id::canonical(subject(&claims)?);
        let role = role(&claims, rules)?;
        Ok(Self {
            user_id,
            role,
            claims,
            expires_at_ms,
            key_id: None,
        })
    }
}

type Claims = BTreeMap<String, Value>;

/// A time, in milliseconds; the claim has seconds, also with fractions.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be in range"
)]
fn time_ms(claims: &Claims, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(TokenError::Claims)?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(TokenError::Claims);
    }
    Ok(Some((seconds * 1000.0) as u64))
}

fn check_issuer(claims: &Claims, issuers: &[String]) -> Result<(), TokenError> {
    match claims.get("iss") {
        None if issuers.is_empty() => Ok(()),
        None => Err(TokenError::Issuer),
        Some(Value::String(issuer)) if issuers.is_empty() || issuers.contains(issuer) => Ok(()),
        Some(Value::String(_)) => Err(TokenError::Issuer),
        Some(_) => Err(TokenError::Claims),
    }
}

fn check_audience(claims: &Claims, audiences: &[String]) -> Result<(), TokenError> {
    let named: Vec<&str> = match claims.get("aud") {
        None => Vec::new(),
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(several)) => {
            let texts: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            texts.ok_or(TokenError::Claims)?
        }
        Some(_) => return Err(TokenError::Claims),
    };
    let is_ours = |audience: &&str| audiences.iter().any(|ours| ours == audience);
    if audiences.is_empty() || named.iter().any(is_ours) {
        Ok(())
    } else {
        Err(TokenError::Audience)
    }
}

fn subject(claims: &Claims) -> Result<&str, TokenError> {
    let Some(Value::String(subject)) = claims.get("sub") else {
        return Err(TokenError::Subject);
    };
    let is_user = !subject.trim().is_empty()
        && subject.len() <= USER_ID_BYTES_MAX
        && !subject.chars().any(char::is_control);
    is_user
        .then_some(subject.as_str())
        .ok_or(TokenError::Subject)
}

fn role(claims: &Claims, rules: &Rules) -> Result<Option<String>, TokenError> {
    match claims.get("role") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(role)) => {
            let is_name = !role.trim().is_empty()
                && role.len() <= ROLE_BYTES_MAX
                && !role.chars().any(char::is_control);
            if is_name && rules.accepts_role(role) {
                Ok(Some(role.clone()))
            } else {
                Err(TokenError::Role)
            }
        }
        Some(_) => Err(TokenError::Role),
    }
}
