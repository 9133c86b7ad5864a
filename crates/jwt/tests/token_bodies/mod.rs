//! Properties of any token and of any key set. The fuzz targets run the same bodies.

use std::sync::LazyLock;

use rhtmx_sync_jwt::{Algorithm, AlgorithmFamily, KeySet, Rules, TOKEN_BYTES_MAX, verify};

static KEYS: LazyLock<[KeySet; 2]> = LazyLock::new(|| {
    const PUBLISHED: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    [
        KeySet::from_secret("a secret that is used for nothing else").expect("a secret"),
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
        // The refusal is one of a few texts, so it carries nothing of the token.
        assert!(
            refused.to_string().starts_with("the token")
                || refused.to_string().starts_with("a claim")
        );
    }
}

/// A key set is refused, or has keys.
pub(crate) fn key_set(bytes: &[u8]) {
    if let Ok(keys) = KeySet::read(bytes) {
        assert!(!keys.is_empty() && keys.len() + keys.ignored() <= rhtmx_sync_jwt::KEYS_MAX);
    }
}
