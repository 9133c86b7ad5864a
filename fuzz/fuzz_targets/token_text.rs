//! Reads any text as a token.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target runs one of the bodies")]
#[path = "../../crates/jwt/tests/token_bodies/mod.rs"]
mod token_bodies;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        token_bodies::token_text(text);
    }
});
