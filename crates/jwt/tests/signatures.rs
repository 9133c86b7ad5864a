//! Who signed a token: each algorithm, every way to pass for somebody else, and a second implementation that must
//! agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation, decode};
use proptest::prelude::*;
use rhtmx_sync_jwt::{Algorithm, AlgorithmFamily, KeySet, TokenError, verify};
use serde_json::{Value, json};

#[allow(dead_code, reason = "each suite uses some of it")]
mod issuer;

use issuer::{
    ALGORITHMS, ED25519, NOW, P256, P256_SECOND, P384, RSA, SECRET, claims, jwk, key_for, key_set,
    keys_for, rules, sign,
};

fn verified(token: &str, keys: &KeySet) -> Result<String, TokenError> {
    verify(token, keys, &rules(), NOW * 1000).map(|verified| verified.user_id)
}

/// What `jsonwebtoken` says of the same token and key.
fn verified_by_other(token: &str, algorithm: Algorithm) -> bool {
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => DecodingKey::from_secret(SECRET.as_bytes()),
        _ => {
            let published = jwk(&key_for(algorithm), algorithm, "one");
            let published = serde_json::from_value(published).expect("a key");
            DecodingKey::from_jwk(&published).expect("a key")
        }
    };
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    decode::<Value>(token, &key, &validation).is_ok()
}

#[test]
fn tokens_of_each_algorithm_are_accepted() {
    for algorithm in ALGORITHMS {
        let token = sign(&claims(), algorithm, Some("one"), &key_for(algorithm));
        assert!(verified_by_other(&token, algorithm), "{algorithm:?}");
        assert_eq!(
            verified(&token, &keys_for(algorithm)),
            Ok("ann".to_owned()),
            "{algorithm:?}"
        );
    }
}

#[test]
fn only_configured_algorithms_are_accepted() {
    for algorithm in ALGORITHMS {
        let token = sign(&claims(), algorithm, Some("one"), &key_for(algorithm));
        let mut rules = rules();
        rules.algorithms.retain(|accepted| *accepted != algorithm);
        let refused = verify(&token, &keys_for(algorithm), &rules, NOW * 1000);
        assert_eq!(refused, Err(TokenError::Algorithm), "{algorithm:?}");
    }
}

/// A header that claims another algorithm than the key is for, with the signature that a forger can make.
#[test]
fn the_key_decides_which_algorithm_it_is_used_with() {
    for (key_algorithm, claimed) in [
        (Algorithm::RS256, Algorithm::ES256),
        (Algorithm::RS256, Algorithm::PS256),
        (Algorithm::ES256, Algorithm::ES384),
        (Algorithm::ES256, Algorithm::EdDSA),
        (Algorithm::EdDSA, Algorithm::ES256),
        (Algorithm::ES256, Algorithm::HS256),
        (Algorithm::RS256, Algorithm::HS256),
        (Algorithm::HS256, Algorithm::RS256),
        (Algorithm::HS256, Algorithm::ES256),
    ] {
        let token = sign(&claims(), claimed, Some("one"), &key_for(claimed));
        let refused = verified(&token, &keys_for(key_algorithm));
        assert_eq!(
            refused,
            Err(TokenError::Algorithm),
            "{key_algorithm:?} {claimed:?}"
        );
    }
}

/// The oldest attack: the public key, which everybody has, as the secret of an HMAC.
/// CVE-2022-29217, CVE-2023-48223, CVE-2023-48238 and CVE-2026-44699 were that.
#[test]
fn a_public_key_is_never_a_secret() {
    let published = jwk(&RSA, Algorithm::RS256, "one");
    let modulus = URL_SAFE_NO_PAD
        .decode(published["n"].as_str().expect("n"))
        .expect("base64");
    for secret in [
        published.to_string().into_bytes(),
        format!("{published}\n").into_bytes(),
        published["n"].as_str().expect("n").as_bytes().to_vec(),
        modulus,
        include_bytes!("keys/rsa.pem").to_vec(),
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = jsonwebtoken::EncodingKey::from_secret(&secret);
            for kid in [Some("one"), None] {
                let token = sign(&claims(), algorithm, kid, &key);
                let keys = key_set(std::slice::from_ref(&published));
                let refused = verified(&token, &keys).expect_err("a forged token");
                assert!(
                    matches!(refused, TokenError::Algorithm | TokenError::UnknownKey),
                    "{refused:?}"
                );
            }
        }
    }
    for secret in [include_str!("keys/rsa.pem"), &published.to_string()] {
        assert!(KeySet::from_secret(secret).is_err());
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let token = sign(&claims(), Algorithm::ES256, Some("one"), &P256);
    let (signed, _) = token.rsplit_once('.').expect("a token");
    let payload = signed.split_once('.').expect("a header").1;
    let keys = keys_for(Algorithm::ES256);
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "one" }).to_string());
        for (signature, error) in [("", TokenError::Algorithm), ("AAAA", TokenError::Algorithm)] {
            assert_eq!(
                verified(&format!("{header}.{payload}.{signature}"), &keys),
                Err(error)
            );
        }
    }
    assert_eq!(
        verified(&format!("{signed}."), &keys),
        Err(TokenError::Malformed)
    );
    assert_eq!(verified(signed, &keys), Err(TokenError::Malformed));
}

/// CVE-2022-21449: r and s of zero.
#[test]
fn signatures_that_are_right_for_every_message_are_refused() {
    let token = sign(&claims(), Algorithm::ES256, Some("one"), &P256);
    let (signed, _) = token.rsplit_once('.').expect("a token");
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|byte| u8::from_str_radix(&order[2 * byte..2 * byte + 2], 16).expect("a digit"))
        .collect();
    let one: Vec<u8> = [vec![0; 31], vec![1]].concat();
    for (r, s) in [
        (vec![0; 32], vec![0; 32]),
        (vec![0; 32], one.clone()),
        (one.clone(), vec![0; 32]),
        (order.clone(), order.clone()),
        (one, order),
        (vec![255; 32], vec![255; 32]),
    ] {
        let signature = URL_SAFE_NO_PAD.encode([r, s].concat());
        let refused = verified(
            &format!("{signed}.{signature}"),
            &keys_for(Algorithm::ES256),
        );
        assert_eq!(refused, Err(TokenError::Signature));
    }
    // The other form of the same signature, DER, which begins with the length of a sequence.
    let der = URL_SAFE_NO_PAD.encode(
        [
            &[0x30, 0x44, 0x02, 0x20],
            [1_u8; 32].as_slice(),
            &[0x02, 0x20],
            &[1; 32],
        ]
        .concat(),
    );
    let refused = verified(&format!("{signed}.{der}"), &keys_for(Algorithm::ES256));
    assert_eq!(refused, Err(TokenError::Signature));
}

#[test]
fn another_key_is_refused() {
    let token = sign(&claims(), Algorithm::ES256, Some("one"), &P256_SECOND);
    assert_eq!(
        verified(&token, &keys_for(Algorithm::ES256)),
        Err(TokenError::Signature)
    );
    let other = "another secret of the tests, longer than 32 bytes";
    let token = sign(
        &claims(),
        Algorithm::HS256,
        None,
        &jsonwebtoken::EncodingKey::from_secret(other.as_bytes()),
    );
    assert_eq!(
        verified(&token, &keys_for(Algorithm::HS256)),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_kid_chooses_the_key_and_nothing_else_does() {
    let several = key_set(&[
        jwk(&P256, Algorithm::ES256, "one"),
        jwk(&P256_SECOND, Algorithm::ES256, "two"),
        jwk(&ED25519, Algorithm::EdDSA, "three"),
    ]);
    let token = |kid| sign(&claims(), Algorithm::ES256, kid, &P256_SECOND);
    assert_eq!(
        verified(&token(Some("two")), &several),
        Ok("ann".to_owned())
    );
    assert_eq!(
        verified(&token(Some("one")), &several),
        Err(TokenError::Signature)
    );
    assert_eq!(
        verified(&token(Some("three")), &several),
        Err(TokenError::Algorithm)
    );
    for unknown in [
        None,
        Some(""),
        Some("Two"),
        Some("two "),
        Some("../two"),
        Some("' or 1=1"),
        Some("twо"),
    ] {
        assert_eq!(
            verified(&token(unknown), &several),
            Err(TokenError::UnknownKey),
            "{unknown:?}"
        );
    }
    // Without a kid, the only key for the algorithm.
    let token = sign(&claims(), Algorithm::EdDSA, None, &ED25519);
    assert_eq!(verified(&token, &several), Ok("ann".to_owned()));
    // A secret has no name.
    let secret = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = sign(&claims(), Algorithm::HS256, Some("any"), &secret);
    assert_eq!(
        verified(&token, &keys_for(Algorithm::HS256)),
        Ok("ann".to_owned())
    );
    // One name for two keys: either may have signed.
    let twice = key_set(&[
        jwk(&P256, Algorithm::ES256, "one"),
        jwk(&P256_SECOND, Algorithm::ES256, "one"),
    ]);
    for key in [&P256, &P256_SECOND] {
        assert_eq!(
            verified(&sign(&claims(), Algorithm::ES256, Some("one"), key), &twice),
            Ok("ann".to_owned())
        );
    }
}

/// CVE-2026-102274: one malformed key among good ones.
#[test]
fn unusable_keys_are_ignored_and_do_not_spoil_the_others() {
    let good = jwk(&P256, Algorithm::ES256, "good");
    let without = |member: &str| {
        let mut key = good.clone();
        key.as_object_mut().expect("an object").remove(member);
        key
    };
    let with = |member: &str, value: Value| {
        let mut key = good.clone();
        key[member] = value;
        key
    };
    let rsa = |n: &[u8], e: &[u8]| json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
    let modulus = |bytes: usize| vec![0xff_u8; bytes];
    let bad = [
        json!(null),
        json!(1),
        json!([]),
        json!({}),
        json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 64]), "alg": "HS256", "kid": "good" }),
        json!({ "kty": "OKP", "crv": "Ed448", "x": URL_SAFE_NO_PAD.encode([1; 57]) }),
        json!({ "kty": "OKP", "crv": "X25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }),
        without("x"),
        without("kty"),
        without("crv"),
        with("crv", json!("P-384")),
        with("crv", json!("secp256k1")),
        with("x", json!("AA")),
        with("x", json!("+/+/")),
        with("use", json!("enc")),
        with("use", json!(7)),
        with("key_ops", json!(["sign"])),
        with("key_ops", json!("verify")),
        with("alg", json!("ES384")),
        with("alg", json!("HS256")),
        with("alg", json!("none")),
        with("alg", json!(["ES256"])),
        with("kid", json!(7)),
        with("kid", json!("k".repeat(257))),
        rsa(&modulus(128), &[1, 0, 1]),
        rsa(&[vec![0x7f], modulus(255)].concat(), &[1, 0, 1]),
        rsa(&[vec![0; 128], modulus(128)].concat(), &[1, 0, 1]),
        rsa(&modulus(2048), &[1, 0, 1]),
        rsa(&modulus(256), &[1]),
        rsa(&modulus(256), &[2]),
        rsa(&modulus(256), &[]),
        rsa(&modulus(256), &[255; 64]),
        rsa(&[], &[1, 0, 1]),
    ];
    let count = bad.len();
    for key in &bad {
        let alone = KeySet::read(json!({ "keys": [key] }).to_string().as_bytes());
        assert!(alone.is_err(), "{key}");
    }
    let keys = key_set(&bad.into_iter().chain([good.clone()]).collect::<Vec<_>>());
    assert_eq!((keys.len(), keys.ignored()), (1, count));
    let token = sign(&claims(), Algorithm::ES256, Some("good"), &P256);
    assert_eq!(verified(&token, &keys), Ok("ann".to_owned()));
    // What a private key has beside is not looked at.
    let private = with("d", json!("c2VjcmV0"));
    assert_eq!(verified(&token, &key_set(&[private])), Ok("ann".to_owned()));
    // A key with a member twice may be understood in two ways.
    let twice = format!(
        r#"{{"keys":[{}]}}"#,
        good.to_string().replacen('{', r#"{"use":"sig","#, 1)
    );
    assert!(KeySet::read(twice.as_bytes()).is_err());
}

#[test]
fn a_key_set_is_bounded() {
    let good = jwk(&P384, Algorithm::ES384, "good");
    let set = |keys: usize| {
        KeySet::read(
            json!({ "keys": vec![good.clone(); keys] })
                .to_string()
                .as_bytes(),
        )
    };
    assert_eq!(
        set(rhtmx_sync_jwt::KEYS_MAX).map(|keys| keys.len()).ok(),
        Some(100)
    );
    assert!(set(rhtmx_sync_jwt::KEYS_MAX + 1).is_err());
    let mut padded = json!({ "keys": [good] }).to_string();
    padded += &" ".repeat(rhtmx_sync_jwt::KEY_SET_BYTES_MAX);
    assert!(KeySet::read(padded.as_bytes()).is_err());
    for text in [
        "",
        "<!doctype html>",
        "{}",
        "[]",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[],"keys":[]}"#,
    ] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn no_key_material_is_in_debug_output() {
    let secret = format!("{:?}", KeySet::from_secret(SECRET));
    let bytes: Vec<String> = SECRET
        .bytes()
        .take(4)
        .map(|byte| byte.to_string())
        .collect();
    assert!(
        !secret.contains("secret of") && !secret.contains(&bytes.join(", ")),
        "{secret}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two implementations agree on every token that was altered by one character, or not at all.
    #[test]
    fn both_implementations_agree_on_altered_tokens(
        at in 0.0..1.0_f64,
        to in proptest::char::ranges(vec!['A'..='Z', 'a'..='z', '0'..='9', '-'..='.', '_'..='_', '='..='='].into()),
        which in 0..3_usize,
    ) {
        let algorithm = [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA][which];
        let token = sign(&claims(), algorithm, Some("one"), &key_for(algorithm));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a place in a short text")]
        let at = (at * token.len() as f64) as usize;
        let altered = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        let ours = verified(&altered, &keys_for(algorithm));
        let theirs = verified_by_other(&altered, algorithm);
        prop_assert_eq!(ours.is_ok(), theirs, "{} {:?}", altered, ours);
        prop_assert_eq!(ours.is_ok(), altered == token);
    }
}
