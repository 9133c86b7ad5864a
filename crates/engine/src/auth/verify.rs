//! The one place where a principal is let in: it must not have expired, and must be known in time.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sync_core::policy::Principal;
use tokio::time::Instant;

use super::{AuthError, Authenticator};
use crate::clock::now_ms;

/// What a connection or a request shows of who it is, before anything is verified. Its `Debug` does not show it.
pub(crate) enum Credential {
    /// The application's own middleware has named the principal. A browser sends by itself what that rests on, such as
    /// a cookie, with the requests of every page.
    Application(Principal),
    /// A token, or none.
    Token(Option<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Application(_) => "Application(…)",
            Self::Token(Some(_)) => "Token(…)",
            Self::Token(None) => "Token(None)",
        })
    }
}

/// Who says for whom a connection acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The application. Tokens are not looked at.
    Application,
    /// A token, or the lack of one.
    Token,
}

/// For whom a connection acts.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) principal: Arc<Principal>,
    pub(crate) named_by: NamedBy,
    /// When the principal was asked for.
    pub(crate) since: Instant,
    /// The address by which it is limited; none where it is not known.
    pub(crate) address: Option<IpAddr>,
}

impl Identity {
    /// The owner of a ticket, which is good no longer than what it was given for.
    pub(crate) fn of_ticket(principal: Arc<Principal>, since: Instant) -> Result<Self, AuthError> {
        let principal = usable(principal)?;
        Ok(Self {
            principal,
            named_by: NamedBy::Token,
            since,
            address: None,
        })
    }
}

impl Credential {
    /// Verifies it.
    pub(crate) async fn identify(
        self,
        authenticator: &dyn Authenticator,
        timeout: Duration,
    ) -> Result<Identity, AuthError> {
        let since = Instant::now();
        let (principal, named_by) = match self {
            Self::Application(principal) => (usable(principal)?, NamedBy::Application),
            Self::Token(token) => {
                let principal = verify(authenticator, token.as_deref(), timeout).await?;
                (principal, NamedBy::Token)
            }
        };
        Ok(Identity {
            principal: principal.into(),
            named_by,
            since,
            address: None,
        })
    }
}

/// Verifies a token; none when the client sent none. An authenticator that takes too long is given up: nobody knows then
/// whether the token is valid.
pub(crate) async fn verify(
    authenticator: &dyn Authenticator,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Principal, AuthError> {
    match tokio::time::timeout(timeout, authenticator.verify(token)).await {
        Ok(verified) => usable(verified?),
        Err(_) => {
            metrics::counter!("rhtmx_sync_auth_timeouts_total").increment(1);
            tracing::warn!("the authenticator did not answer within auth.verify_timeout_ms");
            let message = "tokens cannot be verified at the moment; try again";
            Err(AuthError::Unavailable(message.to_owned()))
        }
    }
}

/// The longest user id, in bytes.
const USER_ID_BYTES_MAX: usize = 255;

/// A principal that has not expired, and whose user id the database can hold.
fn usable<P: Borrow<Principal>>(principal: P) -> Result<P, AuthError> {
    if principal.borrow().is_expired(now_ms()) {
        let message = "the token has expired".to_owned();
        return Err(AuthError::Unauthenticated(message));
    }
    let is_usable =
        |id: &String| !id.is_empty() && id.len() <= USER_ID_BYTES_MAX && !id.contains('\0');
    if !principal.borrow().user_id.as_ref().is_none_or(is_usable) {
        let message =
            format!("a user's id is a text of 1 to {USER_ID_BYTES_MAX} bytes without NUL");
        return Err(AuthError::Unauthenticated(message));
    }
    Ok(principal)
}
