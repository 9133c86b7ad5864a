//! Authentication: from a token to a principal.

use std::fmt;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sync_core::policy::Principal;

/// Makes a principal from a token. It is called when a connection begins, when its client sends a fresh token,
/// and for each HTTP request.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Verifies a token; none when the client sent none.
    ///
    /// # Errors
    /// When the token is not valid, when one is needed, or when it cannot be verified now.
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>>;
}

/// Why a client is not authenticated. The message is sent to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The client must sign in (again).
    #[error("{0}")]
    Unauthenticated(String),
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
}
