//! An issuer that signs with `jsonwebtoken`'s own cryptography.

use std::sync::LazyLock;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use rhtmx_sync_jwt::{Algorithm, AlgorithmFamily, KeySet, Rules};
use serde_json::{Value, json};

/// The time at which the tests verify: 2026-11-27T00:00:00Z, in seconds.
pub(crate) const NOW: u64 = 1_795_737_600;
pub(crate) const SECRET: &str = "a secret of the tests, longer than 32 bytes";

/// Each algorithm.
pub(crate) const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

pub(crate) static RSA: LazyLock<EncodingKey> = LazyLock::new(|| {
    EncodingKey::from_rsa_pem(include_bytes!("../keys/rsa.pem")).expect("an RSA key")
});
pub(crate) static P256: LazyLock<EncodingKey> = LazyLock::new(|| {
    EncodingKey::from_ec_pem(include_bytes!("../keys/p256.pem")).expect("a P-256 key")
});
pub(crate) static P256_SECOND: LazyLock<EncodingKey> = LazyLock::new(|| {
    EncodingKey::from_ec_pem(include_bytes!("../keys/p256_second.pem")).expect("a P-256 key")
});
pub(crate) static P384: LazyLock<EncodingKey> = LazyLock::new(|| {
    EncodingKey::from_ec_pem(include_bytes!("../keys/p384.pem")).expect("a P-384 key")
});
pub(crate) static ED25519: LazyLock<EncodingKey> = LazyLock::new(|| {
    EncodingKey::from_ed_pem(include_bytes!("../keys/ed25519.pem")).expect("an Ed25519 key")
});

/// The key that signs with an algorithm.
pub(crate) fn key_for(algorithm: Algorithm) -> EncodingKey {
    match algorithm.family() {
        AlgorithmFamily::Hmac => EncodingKey::from_secret(SECRET.as_bytes()),
        AlgorithmFamily::Rsa => RSA.clone(),
        AlgorithmFamily::Ec if algorithm == Algorithm::ES384 => P384.clone(),
        AlgorithmFamily::Ec => P256.clone(),
        AlgorithmFamily::Ed => ED25519.clone(),
    }
}

/// The public key, as it is published.
pub(crate) fn jwk(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let published = Jwk::from_encoding_key(key, algorithm).expect("a public key");
    let mut published = serde_json::to_value(published).expect("JSON");
    published["kid"] = json!(kid);
    published["use"] = json!("sig");
    published
}

/// The keys that verify an algorithm.
pub(crate) fn keys_for(algorithm: Algorithm) -> KeySet {
    if algorithm.family() == AlgorithmFamily::Hmac {
        return KeySet::from_secret(SECRET).expect("a secret");
    }
    key_set(&[jwk(&key_for(algorithm), algorithm, "one")])
}

pub(crate) fn key_set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).expect("a key set")
}

/// Claims of a user who has an hour.
pub(crate) fn claims() -> Value {
    json!({ "sub": "ann", "exp": NOW + 3600, "iat": NOW - 60 })
}

pub(crate) fn sign(
    claims: &Value,
    algorithm: Algorithm,
    kid: Option<&str>,
    key: &EncodingKey,
) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, key).expect("a token")
}

/// Accepts every algorithm, issuer and audience, without leeway.
pub(crate) fn rules() -> Rules {
    Rules {
        algorithms: ALGORITHMS.to_vec(),
        ..Rules::default()
    }
}
