//! The ready-made authenticator: JSON Web Tokens, verified with a secret, or with keys that an issuer publishes.

mod authenticator;
mod config;
mod error;
mod fetch;
mod key_cache;
mod source;

pub use ::jwt::is_published_secret;
pub use authenticator::JwtAuthenticator;
pub use config::JwtConfig;
pub use error::JwtConfigError;
