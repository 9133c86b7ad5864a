//! Properties of any token and of any key set. The fuzz targets run the same bodies.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rhtmx_sync_jwt::{
    Algorithm, AlgorithmFamily, KeySet, PRIVILEGED_ROLES, ROLE_BYTES_MAX, Rules, TOKEN_BYTES_MAX,
    TokenError, USER_ID_BYTES_MAX, verify,
};
use serde_json::Value;

const SECRET: &str = "a secret that is used for nothing else";

static KEYS: LazyLock<[KeySet; 2]> = LazyLock::new(|| {
    const PUBLISHED: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    [
        KeySet::from_secret(SECRET).expect("a secret"),
        KeySet::read(PUBLISHED.as_bytes()).expect("a key set"),
    ]
});

/// No text is a token that somebody without the key could have made.
pub(crate) fn token_text(text: &str) {
    let families = [
        AlgorithmFamily::Hmac,
        AlgorithmFamily::Rsa,
        AlgorithmFamily::Ec,
        AlgorithmFamily::Ed,
    ];
    let algorithms: Vec<Algorithm> = families
        .iter()
        .flat_map(|family| family.algorithms())
        .copied()
        .collect();
    let rules = Rules {
        algorithms,
        ..Rules::default()
    };
    for keys in KEYS.iter() {
        let refused = verify(text, keys, &rules, 0).expect_err("nobody has signed this");
        assert!(text.len() <= TOKEN_BYTES_MAX || refused.as_str() == "too_large");
        carries_nothing(refused);
    }
}

/// The refusal is one of a few texts, so it carries nothing of the token.
fn carries_nothing(refused: TokenError) {
    let text = refused.to_string();
    assert!(text.starts_with("the token") || text.starts_with("a claim"));
}

/// Signs any header, the first line, and any claims, the rest, and returns whether that is a valid token.
///
/// One is valid only for a user, in its time, in an ordinary role, by the algorithm of the key; and every JSON reader
/// understands its claims as they were understood here.
pub(crate) fn signed_token(text: &str) -> bool {
    let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = signed.join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    let rules = Rules {
        algorithms: vec![Algorithm::HS256],
        leeway_ms: 1000,
        ..Rules::default()
    };
    let now_ms = 1_795_737_600_000;
    let verified = match verify(&format!("{signed}.{signature}"), &KEYS[0], &rules, now_ms) {
        Ok(verified) => verified,
        Err(refused) => {
            carries_nothing(refused);
            return false;
        }
    };
    let user = &verified.user_id;
    assert!(!user.trim().is_empty() && user.len() <= USER_ID_BYTES_MAX);
    assert!(!user.chars().any(char::is_control));
    assert!(verified.expires_at_ms + rules.leeway_ms > now_ms);
    if let Some(role) = &verified.role {
        assert!(role.len() <= ROLE_BYTES_MAX && !PRIVILEGED_ROLES.contains(&role.as_str()));
    }
    let again: BTreeMap<String, Value> = serde_json::from_str(claims).expect("a JSON object");
    assert_eq!(again, verified.claims);
    let header: BTreeMap<String, Value> = serde_json::from_str(header).expect("a JSON object");
    assert_eq!(header["alg"], "HS256");
    true
}

/// A key set is refused, or has keys.
pub(crate) fn key_set(bytes: &[u8]) {
    if let Ok(keys) = KeySet::read(bytes) {
        assert!(!keys.is_empty() && keys.len() + keys.ignored() <= rhtmx_sync_jwt::KEYS_MAX);
    }
}
