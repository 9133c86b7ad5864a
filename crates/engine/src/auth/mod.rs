//! Authentication of clients.

mod authenticator;
mod jwt;
mod tickets;
mod verify;

pub use authenticator::{
    AcceptAnyone, ApplicationOnly, AuthError, AuthStatus, Authenticator, KeysStatus,
};
pub use jwt::{JwtAuthenticator, JwtConfig, JwtConfigError, is_published_secret};
pub(crate) use tickets::{LIFETIME as TICKET_LIFETIME, Tickets};
pub(crate) use verify::{Credential, Identity, NamedBy, verify};
