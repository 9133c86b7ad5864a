//! Properties of any token and of any key set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

mod token_bodies;

use token_bodies::{key_set, token_text};

proptest! {
    #[test]
    fn no_text_is_a_valid_token(text in ".{0,200}") {
        token_text(&text);
    }

    #[test]
    fn no_forged_token_is_valid(header in header(), claims in ".{0,60}", signature in proptest::collection::vec(any::<u8>(), 0..80)) {
        let parts = [header.as_bytes(), claims.as_bytes(), &signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        token_text(&parts.join("."));
    }

    #[test]
    fn any_bytes_may_be_read_as_a_key_set(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        key_set(&bytes);
    }

    #[test]
    fn any_key_may_be_in_a_key_set(
        kty in prop_oneof![Just("RSA"), Just("EC"), Just("OKP"), Just("oct")],
        crv in prop_oneof![Just("P-256"), Just("P-384"), Just("Ed25519"), Just("")],
        n in "[A-Za-z0-9_-]{0,700}", x in "[A-Za-z0-9_-]{43}", y in "[A-Za-z0-9_-]{43}",
    ) {
        key_set(format!(r#"{{"keys":[{{"kty":"{kty}","crv":"{crv}","n":"{n}","e":"AQAB","x":"{x}","y":"{y}"}}]}}"#).as_bytes());
    }
}

fn header() -> impl Strategy<Value = String> {
    let algorithm = prop_oneof![
        Just("HS256"),
        Just("HS512"),
        Just("EdDSA"),
        Just("ES256"),
        Just("RS256"),
        Just("none"),
        Just("x"),
    ];
    (algorithm, prop_oneof![Just("one"), Just("two")])
        .prop_map(|(alg, kid)| format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#))
}
