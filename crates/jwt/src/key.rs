//! One key, and which algorithms it may be used with.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::{digest, hmac, signature as ring_signature};

/// The shortest secret, in bytes: as long as the digest of HS256.
pub const SECRET_BYTES_MIN: usize = 32;
/// The shortest modulus of an RSA key, in bits.
pub const RSA_BITS_MIN: usize = 2048;

/// A key that verifies signatures. Its `Debug` shows no key material.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    /// What tells it from others, whatever its `kid`; none for a secret.
    pub(crate) id: Option<String>,
    /// What it may be used with: never algorithms of two families.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) material: DecodingKey,
}

/// The bytes of a public key's digest that tell it from others.
const ID_BYTES: usize = 16;

impl Key {
    /// The key of this material.
    pub(crate) fn new(
        kid: Option<&str>,
        algorithms: Vec<Algorithm>,
        material: DecodingKey,
    ) -> Self {
        Self {
            kid: kid.map(str::to_owned),
            id: id_of(&material),
            algorithms,
            material,
        }
    }

    /// Whether this key made this signature of this message. False for an algorithm that the key is not for.
    ///
    /// The cryptography is ring's, which TLS uses already. `jsonwebtoken` takes its own from a slot of the process,
    /// which belongs to the application and not to a library.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(&algorithm) || self.material.family() != algorithm.family() {
            return false;
        }
        match self.material.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                rsa_parameters(algorithm).is_some_and(|parameters| {
                    let key = ring_signature::RsaPublicKeyComponents { n, e };
                    key.verify(parameters, message, signature).is_ok()
                })
            }
            DecodingKeyKind::SecretOrDer(bytes) if algorithm.family() == AlgorithmFamily::Hmac => {
                hmac_algorithm(algorithm).is_some_and(|digest| {
                    hmac::verify(&hmac::Key::new(digest, bytes), message, signature).is_ok()
                })
            }
            DecodingKeyKind::SecretOrDer(bytes) => curve(algorithm).is_some_and(|curve| {
                let key = ring_signature::UnparsedPublicKey::new(curve, bytes);
                key.verify(message, signature).is_ok()
            }),
        }
    }
}

fn id_of(material: &DecodingKey) -> Option<String> {
    let mut digest = digest::Context::new(&digest::SHA256);
    match material.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            digest.update(&(n.len() as u64).to_le_bytes());
            digest.update(n);
            digest.update(e);
        }
        // Nothing is told of a secret.
        DecodingKeyKind::SecretOrDer(_) if material.family() == AlgorithmFamily::Hmac => {
            return None;
        }
        DecodingKeyKind::SecretOrDer(bytes) => digest.update(bytes),
    }
    let digest = digest.finish();
    let digits = digest.as_ref()[..ID_BYTES].iter();
    Some(digits.map(|byte| format!("{byte:02x}")).collect())
}

fn hmac_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static ring_signature::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&ring_signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn ring_signature::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&ring_signature::ED25519),
        _ => None,
    }
}
