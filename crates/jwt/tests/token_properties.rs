//! Properties of any token and of any key set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

mod token_bodies;

use token_bodies::{key_set, signed_token, token_text};

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
    fn what_is_signed_and_close_to_a_token_is_one_or_refused(text in altered()) {
        signed_token(&text);
    }

    #[test]
    fn what_is_signed_and_anything_is_refused(header in "\\PC{0,60}", claims in any::<String>()) {
        signed_token(&format!("{header}\n{claims}"));
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

/// A header and claims to start from, valid ones.
const TOKENS: [&str; 4] = [
    "{\"alg\":\"HS256\",\"typ\":\"JWT\"}\n{\"sub\":\"ann\",\"exp\":1795741200}",
    "{\"alg\":\"HS256\",\"kid\":\"one\"}\n{\"sub\":\"ann\",\"exp\":1795741200.5,\"nbf\":1795737600,\"iat\":1795737600,\"role\":\"editor\"}",
    "{\"alg\":\"HS256\"}\n{\"sub\":\"{67E55044-10B1-426F-9247-BB680E5FE0C8}\",\"exp\":1795737600,\"aud\":[\"app\"],\"iss\":\"https://id.example\"}",
    "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}\n{\"sub\":\"a::b\",\"exp\":1795741200,\"typ\":\"Bearer\",\"app_metadata\":{\"teams\":[\"red\",{\"a\":[]}]}}",
];

#[test]
fn the_tokens_that_are_altered_are_valid() {
    for text in TOKENS {
        assert!(signed_token(text), "{text}");
    }
}

/// One of the tokens with some characters replaced, left out or added, before it is signed.
fn altered() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        any::<char>(),
        prop::sample::select(b"{}[]\",:\\0-e.9".map(char::from).to_vec())
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::collection::vec(character, 0..3),
    );
    let edits = prop::collection::vec(edit, 0..4);
    (prop::sample::select(&TOKENS[..]), edits).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (at, dropped, added) in edits {
            let from = at.index(characters.len() + 1);
            let to = (from + dropped).min(characters.len());
            characters.splice(from..to, added);
        }
        characters.into_iter().collect()
    })
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
