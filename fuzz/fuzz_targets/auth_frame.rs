//! Reads any text as a frame that may carry a token.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(
    dead_code,
    unused_imports,
    reason = "each target runs one of the bodies"
)]
#[path = "../../crates/core/tests/text_bodies/mod.rs"]
mod text_bodies;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        text_bodies::auth_frame(text);
    }
});
