//! Authentication: from a token to a principal.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use sync_core::policy::Principal;
use tokio::sync::watch;

/// Makes a principal from a token. It is called when a connection begins, when its client sends a fresh token,
/// and for each HTTP request.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Verifies a token; none when the client sent none.
    ///
    /// # Errors
    /// When the token is not valid, when one is needed, or when it cannot be verified now.
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>>;

    /// Whether it looks at tokens. Where it does not, an `Authorization` header is somebody else's, such as a proxy's
    /// own, and is not read.
    fn asks_for_tokens(&self) -> bool {
        true
    }

    /// Whether anybody may be anybody, as on one's own machine. Then everybody may read `status` in full, too.
    fn lets_anyone_in(&self) -> bool {
        false
    }

    /// Whether it still believes what it has verified before. The key that signed may have been withdrawn since.
    fn still_believes(&self, principal: &Principal) -> bool {
        let _ = principal;
        true
    }

    /// Tells each time when that may have become false for somebody; none when it never does. Connections of principals
    /// that are no longer believed are ended then.
    fn withdrawals(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// What `status` says of it; none when there is nothing to say.
    fn status(&self) -> Option<AuthStatus> {
        None
    }
}

/// What `status` says of an authenticator. It names no user, no key and no address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuthStatus {
    /// Whether clients without a token are let in.
    pub anonymous: bool,
    /// Tokens accepted since the start.
    pub accepted: u64,
    /// Tokens refused since the start, by reason; reasons that have not occurred are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// The keys that verify tokens.
    pub keys: Option<KeysStatus>,
}

/// The keys that verify tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeysStatus {
    /// `jwt_secret`, `jwks_file` or `jwks_url`.
    pub source: &'static str,
    /// The number of keys that are used.
    pub count: usize,
    /// The number of published keys that cannot be used.
    pub ignored: usize,
    /// Milliseconds since the keys were read; none when they never were.
    pub age_ms: Option<u64>,
    /// Why the last attempt to read them failed; none when it did not.
    pub last_error: Option<String>,
}

/// Why a client is not authenticated. The message is sent to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The client must sign in (again).
    #[error("{0}")]
    Unauthenticated(String),
    /// More tokens that are not valid have come than are looked at; this one has not been.
    #[error("too many tokens that are not valid came from this address; try again later")]
    RateLimited {
        /// When one will be looked at again.
        retry_after: Duration,
    },
    /// The token cannot be verified at the moment; trying again may help.
    #[error("{0}")]
    Unavailable(String),
}

/// Accepts every client, with any token or none, as anonymous.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptAnyone;

impl Authenticator for AcceptAnyone {
    fn verify<'a>(
        &'a self,
        _token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Principal, AuthError>> {
        async { Ok(Principal::anonymous()) }.boxed()
    }

    fn asks_for_tokens(&self) -> bool {
        false
    }

    fn lets_anyone_in(&self) -> bool {
        true
    }
}

/// Lets in only those whom the application names: its own middleware puts a [`Principal`] into the request's extensions.
/// Everybody else is refused, with any token or none.
///
/// An application names a principal by what a browser sends by itself, most often a cookie. So pages of every other
/// origin are refused then, also those of `allowed_origins`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplicationOnly;

impl Authenticator for ApplicationOnly {
    fn verify<'a>(
        &'a self,
        _token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Principal, AuthError>> {
        let message = "nobody is signed in".to_owned();
        async move { Err(AuthError::Unauthenticated(message)) }.boxed()
    }

    fn asks_for_tokens(&self) -> bool {
        false
    }
}
