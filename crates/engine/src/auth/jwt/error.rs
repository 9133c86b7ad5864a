//! Why tokens cannot be verified: as configured, or at the moment.

use ::jwt::{KeySetError, SecretError};

/// Why tokens cannot be verified as configured. It carries no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwtConfigError {
    /// Not exactly one source of keys.
    #[error("set one of auth.jwt_secret, auth.jwks_file and auth.jwks_url")]
    Source,
    /// The secret is none.
    #[error("auth.jwt_secret: {0}")]
    Secret(SecretError),
    /// The URL cannot be used.
    #[error("auth.jwks_url: {0}")]
    Url(&'static str),
    /// The file cannot be read, or has no keys.
    #[error("auth.jwks_file: {0}")]
    File(String),
    /// The certificates cannot be read.
    #[error("auth.jwks_ca_file: no certificates in PEM can be read from it")]
    Certificates,
    /// An algorithm that there is not, or not with these keys.
    #[error("auth.algorithms: {0:?} cannot be used with {1}")]
    Algorithm(String, &'static str),
    /// More than a minute.
    #[error("auth.leeway_ms: at most 60000")]
    Leeway,
    /// A time that makes no sense.
    #[error("auth.{0}: must be greater than zero")]
    Zero(&'static str),
}

/// Why keys could not be read. The text says nothing of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the file cannot be read")]
    File,
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("the server's certificate is not accepted, or it speaks no TLS")]
    Tls,
    #[error("the server did not answer in time")]
    TimedOut,
    #[error("the server answered with HTTP status {0}")]
    Status(u16),
    #[error("the answer is malformed or was cut off")]
    Answer,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}
