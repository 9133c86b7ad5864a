//! Authentication of clients.

mod authenticator;
mod verify;

pub use authenticator::{AcceptAnyone, AuthError, Authenticator};
pub(crate) use verify::verify;
