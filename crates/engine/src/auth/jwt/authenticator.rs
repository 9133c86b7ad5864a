//! The authenticator itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::jwt::{ANON_ROLE, KeySet, Rules, TokenError, VerifiedToken};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use sync_core::policy::Principal;
use tokio::sync::watch;

use super::config::{JwtConfig, Keys};
use super::error::JwtConfigError;
use super::key_cache::KeyCache;
use crate::auth::{AuthError, AuthStatus, Authenticator, KeysStatus};

/// Verifies JSON Web Tokens, as [`JwtConfig`] says.
///
/// `sub` is the user (a UUID in its usual spelling), `role` the role; all claims are kept. A token expires for the
/// engine at `exp` and the leeway.
#[derive(Debug)]
pub struct JwtAuthenticator {
    rules: Rules,
    keys: KeySource,
    anonymous: bool,
    counters: Counters,
}

#[derive(Debug)]
enum KeySource {
    Fixed(Arc<KeySet>),
    Published(Arc<KeyCache>),
}

/// How many tokens were accepted, and refused for which reason.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    missing: AtomicU64,
    unavailable: AtomicU64,
    refused: [AtomicU64; TokenError::ALL.len()],
}

impl JwtAuthenticator {
    /// Checks the configuration and reads the keys. An issuer that cannot be reached now is asked again when tokens
    /// arrive; until it answers, they cannot be verified.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the file has no keys.
    pub async fn new(config: JwtConfig) -> Result<Self, JwtConfigError> {
        let checked = config.check()?;
        if checked.rules.audiences.is_empty() {
            tracing::warn!(
                "auth.audience is not set: tokens that the same issuer made for other applications are accepted"
            );
        }
        if config
            .jwt_secret
            .as_deref()
            .is_some_and(::jwt::is_published_secret)
        {
            tracing::warn!(
                "auth.jwt_secret is the default of a known product: anybody can sign tokens with it"
            );
        }
        let keys = match checked.keys {
            Keys::Fixed(keys) => KeySource::Fixed(Arc::new(keys)),
            Keys::Published(source) => {
                let cache = KeyCache::new(
                    source,
                    Duration::from_millis(config.jwks_refresh_ms),
                    Duration::from_millis(config.jwks_age_max_ms),
                );
                // An unreachable issuer has been logged.
                if let Err(error) = cache.read_first().await
                    && config.jwks_file.is_some()
                {
                    return Err(JwtConfigError::File(error.to_string()));
                }
                cache.keep_fresh();
                KeySource::Published(cache)
            }
        };
        Ok(Self {
            rules: checked.rules,
            keys,
            anonymous: config.anonymous,
            counters: Counters::default(),
        })
    }

    async fn principal(&self, token: Option<&str>) -> Result<Principal, AuthError> {
        let Some(token) = token else {
            if self.anonymous {
                return Ok(anonymous());
            }
            count(&self.counters.missing, "missing");
            return Err(AuthError::Unauthenticated(
                "this server asks for a token".to_owned(),
            ));
        };
        match self.verified(token).await {
            Ok(verified) => {
                count(&self.counters.accepted, "accepted");
                Ok(self.user(verified))
            }
            Err(Refused::Token(error)) => {
                tracing::debug!(reason = error.as_str(), "a token was refused");
                if let Some(at) = TokenError::ALL.iter().position(|reason| *reason == error) {
                    count(&self.counters.refused[at], error.as_str());
                }
                Err(AuthError::Unauthenticated(error.to_string()))
            }
            Err(Refused::NoKeys) => {
                count(&self.counters.unavailable, "unavailable");
                let message = "tokens cannot be verified at the moment; try again";
                Err(AuthError::Unavailable(message.to_owned()))
            }
        }
    }

    async fn verified(&self, token: &str) -> Result<VerifiedToken, Refused> {
        let verify = |keys: &KeySet| ::jwt::verify(token, keys, &self.rules, now_ms());
        match &self.keys {
            KeySource::Fixed(keys) => Ok(verify(keys)?),
            KeySource::Published(cache) => {
                let keys = cache.keys().await.ok_or(Refused::NoKeys)?;
                match verify(&keys) {
                    // No signature was looked at, so this is the first verification.
                    Err(TokenError::UnknownKey) => {
                        let keys = cache.newer_keys().await.ok_or(Refused::NoKeys)?;
                        Ok(verify(&keys)?)
                    }
                    verified => Ok(verified?),
                }
            }
        }
    }

    fn user(&self, verified: VerifiedToken) -> Principal {
        Principal {
            user_id: Some(verified.user_id),
            role: verified.role,
            claims: verified.claims,
            expires_at_ms: Some(verified.expires_at_ms.saturating_add(self.rules.leeway_ms)),
            key_id: verified.key_id,
        }
    }
}

enum Refused {
    Token(TokenError),
    NoKeys,
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl Authenticator for JwtAuthenticator {
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>> {
        self.principal(token).boxed()
    }

    fn still_believes(&self, principal: &Principal) -> bool {
        match (&self.keys, &principal.key_id) {
            (KeySource::Published(cache), Some(key_id)) => cache.has(key_id),
            _ => true,
        }
    }

    fn withdrawals(&self) -> Option<watch::Receiver<()>> {
        match &self.keys {
            KeySource::Fixed(_) => None,
            KeySource::Published(cache) => Some(cache.withdrawals()),
        }
    }

    fn status(&self) -> Option<AuthStatus> {
        let counters = &self.counters;
        let others = [
            ("missing", &counters.missing),
            ("unavailable", &counters.unavailable),
        ];
        let reasons = TokenError::ALL.iter().map(|reason| reason.as_str());
        let refused: BTreeMap<&'static str, u64> = reasons
            .zip(&counters.refused)
            .chain(others)
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let keys = match &self.keys {
            KeySource::Fixed(keys) => KeysStatus {
                source: "jwt_secret",
                count: keys.len(),
                ..KeysStatus::default()
            },
            KeySource::Published(cache) => cache.status(),
        };
        Some(AuthStatus {
            anonymous: self.anonymous,
            accepted: counters.accepted.load(Ordering::Relaxed),
            refused,
            keys: Some(keys),
        })
    }
}

fn count(counter: &AtomicU64, result: &'static str) {
    counter.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("rhtmx_sync_tokens_total", "result" => result).increment(1);
}

/// A client without a token. Its role is a claim as well, as if a token had said so.
fn anonymous() -> Principal {
    Principal {
        role: Some(ANON_ROLE.to_owned()),
        claims: BTreeMap::from([("role".to_owned(), Value::from(ANON_ROLE))]),
        ..Principal::anonymous()
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
