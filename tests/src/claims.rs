//! Users whose tokens are their claims.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rhtmx_sync::{AuthError, Authenticator, Principal};
use serde_json::Value;
use testkit::ClientOptions;

/// A token: `sub`, `role` and `exp_ms` are the principal's, everything else is a claim.
pub fn token(claims: &Value) -> String {
    claims.to_string()
}

/// The options of a client with these claims.
pub fn options(claims: &Value) -> ClientOptions {
    ClientOptions {
        token: Some(token(claims)),
        ..ClientOptions::default()
    }
}

/// The principal of a token.
pub fn principal(token: &str) -> Option<Principal> {
    let Value::Object(claims) = serde_json::from_str(token).ok()? else {
        return None;
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut principal = Principal::of_user(text("sub")?);
    principal.role = text("role");
    principal.expires_at_ms = claims.get("exp_ms").and_then(Value::as_u64);
    let rest = |name: &str| !matches!(name, "sub" | "role" | "exp_ms");
    principal.claims = claims.into_iter().filter(|(name, _)| rest(name)).collect();
    Some(principal)
}

/// Believes every token; no token is nobody.
#[derive(Debug)]
pub struct ClaimsAreTokens;

impl Authenticator for ClaimsAreTokens {
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>> {
        let verified = match token {
            None => Ok(Principal::anonymous()),
            Some(token) => principal(token)
                .ok_or_else(|| AuthError::Unauthenticated("the token is not valid".to_owned())),
        };
        async move { verified }.boxed()
    }

    fn lets_anyone_in(&self) -> bool {
        true
    }
}
