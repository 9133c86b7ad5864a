//! Authentication of clients.

mod authenticator;
pub(crate) mod bearer;
mod counted;
mod jwt;
mod operator;
mod tickets;
mod verify;

pub use authenticator::{
    AcceptAnyone, ApplicationOnly, AuthError, AuthStatus, Authenticator, KeysStatus,
};
pub(crate) use counted::Counted;
pub use jwt::{JwtAuthenticator, JwtConfig, JwtConfigError, is_published_secret};
pub use operator::{OperatorToken, OperatorTokenError};
pub(crate) use tickets::{LIFETIME as TICKET_LIFETIME, Tickets};
pub(crate) use verify::{Credential, Identity, NamedBy, verify};
