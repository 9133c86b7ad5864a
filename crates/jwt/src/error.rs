//! Why a token or a set of keys is refused.

/// Why a token is refused. The texts are sent to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is larger than [`TOKEN_BYTES_MAX`](crate::TOKEN_BYTES_MAX).
    #[error("the token is too large")]
    TooLarge,
    /// It is no signed token in compact form, or its JSON is malformed, too deep, or has a member twice.
    #[error("the token is malformed")]
    Malformed,
    /// It is encrypted, compressed, nested, brings a key along, has a critical extension, or is of another type.
    #[error("the token is of a kind that is not accepted")]
    Unsupported,
    /// Its algorithm is not configured, or its key is not for that algorithm.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// No key has its `kid`; or it has none, and there are several keys.
    #[error("the token's key is not known")]
    UnknownKey,
    /// Somebody else signed it, or it was altered.
    #[error("the token's signature is not valid")]
    Signature,
    /// Its time has passed.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come, or it was issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Another issuer made it.
    #[error("the token is of another issuer")]
    Issuer,
    /// It was made for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It names no user, or not as a text that can be one.
    #[error("the token names no user")]
    Subject,
    /// Its role is not accepted.
    #[error("the token's role is not accepted")]
    Role,
    /// `exp` is missing, or a registered claim has a wrong type or is out of range.
    #[error("a claim of the token is missing or of a wrong type")]
    Claims,
}

impl TokenError {
    /// Each reason.
    pub const ALL: [Self; 13] = [
        Self::TooLarge,
        Self::Malformed,
        Self::Unsupported,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Issuer,
        Self::Audience,
        Self::Subject,
        Self::Role,
        Self::Claims,
    ];

    /// Its name in metrics and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::Role => "role",
            Self::Claims => "claims",
        }
    }
}

/// Why a JSON Web Key Set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It is larger than [`KEY_SET_BYTES_MAX`](crate::KEY_SET_BYTES_MAX).
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    /// It is no JSON object with an array `keys`.
    #[error("not a JSON Web Key Set")]
    Malformed,
    /// It has more keys than [`KEYS_MAX`](crate::KEYS_MAX).
    #[error("the key set has more than 100 keys")]
    TooManyKeys,
    /// None of its keys can verify a signature.
    #[error("no key of the key set can be used")]
    NoKeys,
}

/// Why a text cannot be the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is shorter than [`SECRET_BYTES_MIN`](crate::SECRET_BYTES_MIN).
    #[error("shorter than 32 bytes")]
    TooShort,
    /// It is a key in PEM or JWK. A public key is known to everybody.
    #[error("a key in PEM or JWK is no secret; public keys belong into a key set")]
    Key,
}
