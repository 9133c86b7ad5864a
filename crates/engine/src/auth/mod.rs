//! Authentication of clients.

mod authenticator;
mod jwt;
mod verify;

pub use authenticator::{AcceptAnyone, AuthError, AuthStatus, Authenticator, KeysStatus};
pub use jwt::{JwtAuthenticator, JwtConfig, JwtConfigError, is_published_secret};
pub(crate) use verify::verify;
