//! One JSON Web Key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use crate::header::KID_BYTES_MAX;
use crate::json;
use crate::key::{Key, RSA_BITS_MIN};

/// The longest modulus of an RSA key, in bits: longer ones make verification expensive.
const RSA_BITS_MAX: usize = 8192;
/// The longest exponent of an RSA key, in bytes.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// Reads the text of a public key that can verify signatures; none when it is anything else. What a private key has
/// beside the public one is not looked at.
pub(crate) fn read(text: &[u8]) -> Option<Key> {
    let members = json::object(text).ok()?;
    if !is_for_verification(&members) {
        return None;
    }
    let kid = optional(&members, "kid")?;
    if kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return None;
    }
    let (material, possible): (DecodingKey, &[Algorithm]) = match required(&members, "kty")? {
        "RSA" => (rsa(&members)?, AlgorithmFamily::Rsa.algorithms()),
        "EC" => elliptic(&members)?,
        "OKP" if required(&members, "crv")? == "Ed25519" => {
            let public = bytes(&members, "x").filter(|public| public.len() == 32)?;
            (
                DecodingKey::from_ed_der(&public),
                AlgorithmFamily::Ed.algorithms(),
            )
        }
        // A symmetric key in a document that others can read is no secret.
        _ => return None,
    };
    let algorithms = match optional(&members, "alg")? {
        None => possible.to_vec(),
        Some(named) => {
            let named = named.parse().ok()?;
            vec![*possible.iter().find(|algorithm| **algorithm == named)?]
        }
    };
    Some(Key::new(kid, algorithms, material))
}

type Members = BTreeMap<String, Value>;

/// The text of a member; the inner none when it is absent, the outer when it is no text.
fn optional<'a>(members: &'a Members, name: &str) -> Option<Option<&'a str>> {
    match members.get(name) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

fn required<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
}

fn bytes(members: &Members, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(required(members, name)?).ok()
}

fn is_for_verification(members: &Members) -> bool {
    let for_signatures = match members.get("use") {
        None => true,
        Some(purpose) => purpose == "sig",
    };
    let may_verify = match members.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    for_signatures && may_verify
}

fn rsa(members: &Members) -> Option<DecodingKey> {
    // Both are big-endian; leading zeros do not count.
    let n = significant(bytes(members, "n")?);
    let e = significant(bytes(members, "e")?);
    let first = *n.first()?;
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || !is_odd(&n) {
        return None;
    }
    // With the exponent 1 every message would be its own signature.
    if e.len() > RSA_EXPONENT_BYTES_MAX || !is_odd(&e) || e == [1] {
        return None;
    }
    Some(DecodingKey::from_rsa_raw_components(&n, &e))
}

fn significant(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

fn elliptic(members: &Members) -> Option<(DecodingKey, &'static [Algorithm])> {
    let (length, algorithms): (usize, &[Algorithm]) = match required(members, "crv")? {
        "P-256" => (32, &[Algorithm::ES256]),
        "P-384" => (48, &[Algorithm::ES384]),
        _ => return None,
    };
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    if x.len() != length || y.len() != length {
        return None;
    }
    // An uncompressed point.
    let point = [&[4], x.as_slice(), &y].concat();
    Some((DecodingKey::from_ec_der(&point), algorithms))
}
