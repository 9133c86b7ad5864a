//! Who sent a request: the one place where what it shows is verified, unless its address has shown too much that is wrong.

use std::net::IpAddr;

use sync_core::policy::Principal;

use crate::auth::{self, AuthError, Credential, Identity};
use crate::state::EngineState;

/// Verifies what a request from this address shows.
pub(crate) async fn identify(
    state: &EngineState,
    credential: Credential,
    address: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    let has_token = matches!(credential, Credential::Token(Some(_)));
    if has_token {
        check_address(state, address)?;
    }
    let auth = &state.config.auth;
    let identified = credential
        .identify(&*auth.authenticator, auth.verify_timeout())
        .await;
    if has_token {
        count(state, address, &identified);
    }
    let identity = identified?;
    Ok(Identity {
        address,
        ..identity
    })
}

/// Verifies a fresh token that a connection from this address shows. It counts as one of a new connection does.
pub(crate) async fn renew(
    state: &EngineState,
    token: &str,
    address: Option<IpAddr>,
) -> Result<Principal, AuthError> {
    check_address(state, address)?;
    let config = &state.config.auth;
    let timeout = config.verify_timeout();
    let verified = auth::verify(&*config.authenticator, Some(token), timeout).await;
    count(state, address, &verified);
    verified
}

/// Takes a ticket that was shown from this address.
pub(crate) fn redeem(
    state: &EngineState,
    ticket: &str,
    address: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    check_address(state, address)?;
    let taken = state.tickets.take(ticket, tokio::time::Instant::now());
    let result = if taken.is_some() { "used" } else { "unknown" };
    metrics::counter!("rhtmx_sync_tickets_total", "result" => result).increment(1);
    let Some((principal, since)) = taken else {
        state.rates.wrong_token(address);
        let message =
            "the ticket is not valid: it is good once, for 30 s, on the server that gave it";
        return Err(AuthError::Unauthenticated(message.to_owned()));
    };
    let identity = Identity::of_ticket(principal, since)?;
    Ok(Identity {
        address,
        ..identity
    })
}

fn count<T>(state: &EngineState, address: Option<IpAddr>, verified: &Result<T, AuthError>) {
    if matches!(verified, Err(AuthError::Unauthenticated(_))) {
        state.rates.wrong_token(address);
    }
}

fn check_address(state: &EngineState, address: Option<IpAddr>) -> Result<(), AuthError> {
    match state.rates.token_pause(address) {
        Some(retry_after) => Err(AuthError::RateLimited { retry_after }),
        None => Ok(()),
    }
}
