//! Verification of JSON Web Tokens: a token, the keys, the rules and the time in, a user or a refusal out.
//!
//! Nothing here has effects: no network, no file, no clock. Invariants:
//!
//! 1. *The configuration names the algorithms, and the key decides which of them it may be used with.* A token only
//!    says which of these it claims. A key set that was published holds no secret, so no public key is ever the
//!    secret of an HMAC.
//! 2. *Everything is bounded before it is decoded, and nothing is read of the claims before the signature is
//!    verified.* A token costs at most one verification, or two where a publisher uses one `kid` twice.
//! 3. *What is not understood is refused*: critical extensions, keys inside of the token, compression, encryption,
//!    duplicate members, times that are not numbers.
//! 4. *A refusal carries no part of the token.*

mod claims;
mod compact;
mod error;
mod header;
mod json;
mod jwk;
mod key;
mod key_set;
mod rules;
mod user_id;
mod verify;

pub use claims::{ROLE_BYTES_MAX, USER_ID_BYTES_MAX, VerifiedToken};
pub use compact::TOKEN_BYTES_MAX;
pub use error::{KeySetError, SecretError, TokenError};
pub use header::KID_BYTES_MAX;
pub use json::DEPTH_MAX;
pub use jsonwebtoken::{Algorithm, AlgorithmFamily};
pub use key::{RSA_BITS_MIN, SECRET_BYTES_MIN};
pub use key_set::{KEY_SET_BYTES_MAX, KEYS_MAX, KeySet, is_published_secret};
pub use rules::{ANON_ROLE, LEEWAY_MS_MAX, PRIVILEGED_ROLES, Rules};
pub use verify::verify;
