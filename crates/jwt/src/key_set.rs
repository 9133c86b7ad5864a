//! The keys of one issuer: a secret, or what the issuer publishes.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{KeySetError, SecretError, TokenError};
use crate::jwk;
use crate::key::{Key, SECRET_BYTES_MIN};

/// The largest JSON Web Key Set, in bytes.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// The most keys in a set.
pub const KEYS_MAX: usize = 100;
/// How many keys of one `kid` and one algorithm are tried; a set should have one.
const KEYS_TRIED_MAX: usize = 2;

/// Secrets that everybody knows: the defaults of Supabase's command line and of its self-hosting guide.
const PUBLISHED_SECRETS: [&str; 2] = [
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
];

/// Whether everybody knows this secret, because it is the default of a known product.
pub fn is_published_secret(secret: &str) -> bool {
    PUBLISHED_SECRETS.contains(&secret)
}

/// The keys that verify the tokens of one issuer. Its `Debug` shows no key material.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Whether a token says by `kid` which key it was signed with; a secret has no name.
    named: bool,
    ignored: usize,
}

#[derive(Debug, Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// The set of one secret, for HS256, HS384 and HS512.
    ///
    /// # Errors
    /// When the secret is too short, or is a key that was meant to be public.
    pub fn from_secret(secret: &str) -> Result<Self, SecretError> {
        if secret.contains("-----BEGIN ") || secret.trim_start().starts_with('{') {
            return Err(SecretError::Key);
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(SecretError::TooShort);
        }
        let key = Key::new(
            None,
            AlgorithmFamily::Hmac.algorithms().to_vec(),
            DecodingKey::from_secret(secret.as_bytes()),
        );
        Ok(Self {
            keys: vec![key],
            named: false,
            ignored: 0,
        })
    }

    /// Reads a JSON Web Key Set. Keys that cannot verify signatures are ignored: encryption keys, symmetric keys,
    /// malformed ones, those of unknown types.
    ///
    /// # Errors
    /// When the document is too large, not a key set, has too many keys, or none that can be used.
    pub fn read(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let document: Document<'_> =
            serde_json::from_slice(document).map_err(|_| KeySetError::Malformed)?;
        if document.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let read = document
            .keys
            .iter()
            .map(|text| jwk::read(text.get().as_bytes()));
        let keys: Vec<Key> = read.flatten().collect();
        if keys.is_empty() {
            return Err(KeySetError::NoKeys);
        }
        let ignored = document.keys.len() - keys.len();
        Ok(Self {
            keys,
            named: true,
            ignored,
        })
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key. Never true.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys of the document cannot be used.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// Whether a key is in the set: the one with this [`VerifiedToken::key_id`](crate::VerifiedToken::key_id).
    pub fn has(&self, key_id: &str) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| key.id.as_deref() == Some(key_id))
    }

    /// Whether all keys of this set are in another one.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut ids = self.keys.iter().filter_map(|key| key.id.as_deref());
        ids.all(|id| other.has(id))
    }

    /// The keys that a token with this header may have been signed with.
    pub(crate) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<&Key>, TokenError> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        if !self.named {
            return match self.keys.iter().find(fits) {
                Some(key) => Ok(vec![key]),
                None => Err(TokenError::Algorithm),
            };
        }
        let Some(kid) = kid else {
            // Only where there is nothing to choose from.
            let mut fitting = self.keys.iter().filter(fits);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(vec![key]),
                _ => Err(TokenError::UnknownKey),
            };
        };
        let mut named = self
            .keys
            .iter()
            .filter(|key| key.kid.as_deref() == Some(kid))
            .peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let fitting: Vec<&Key> = named.filter(fits).take(KEYS_TRIED_MAX).collect();
        if fitting.is_empty() {
            return Err(TokenError::Algorithm);
        }
        Ok(fitting)
    }
}
