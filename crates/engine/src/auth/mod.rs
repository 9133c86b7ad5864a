//! Authentication of clients.

mod authenticator;

pub use authenticator::{AcceptAnyone, AuthError, Authenticator};
