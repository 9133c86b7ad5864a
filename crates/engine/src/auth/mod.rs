//! Who a client is.

mod authenticator;

pub use authenticator::{AcceptAnyone, AuthError, Authenticator};
