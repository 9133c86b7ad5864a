//! One key, and which algorithms it may be used with.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::{hmac, signature as ring_signature};

/// The shortest secret, in bytes: as long as the digest of HS256.
pub const SECRET_BYTES_MIN: usize = 32;
/// The shortest modulus of an RSA key, in bits.
pub const RSA_BITS_MIN: usize = 2048;

/// A key that verifies signatures. Its `Debug` shows no key material.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    /// What it may be used with: never algorithms of two families.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) material: DecodingKey,
}

impl Key {
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
