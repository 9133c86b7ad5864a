//! Reads any two lines as the header and the claims of a token, and signs them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target runs one of the bodies")]
#[path = "../../crates/jwt/tests/token_bodies/mod.rs"]
mod token_bodies;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = token_bodies::signed_token(text);
    }
});
