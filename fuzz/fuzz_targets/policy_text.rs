//! Reads any text as a policy, claims and a row, one to a line.

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
        let _ = text_bodies::policy_text(text);
    }
});
