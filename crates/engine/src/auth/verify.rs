//! The one place where a principal is let in: whatever made it, it must not have expired.

use sync_core::policy::Principal;

use super::{AuthError, Authenticator};
use crate::clock::now_ms;

/// Verifies a token; none when the client sent none.
pub(crate) async fn verify(
    authenticator: &dyn Authenticator,
    token: Option<&str>,
) -> Result<Principal, AuthError> {
    unexpired(authenticator.verify(token).await?)
}

/// A principal that has not expired.
fn unexpired(principal: Principal) -> Result<Principal, AuthError> {
    if principal.is_expired(now_ms()) {
        let message = "the token has expired".to_owned();
        return Err(AuthError::Unauthenticated(message));
    }
    Ok(principal)
}
