//! Reads any bytes as a JSON Web Key Set.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target runs one of the bodies")]
#[path = "../../crates/jwt/tests/token_bodies/mod.rs"]
mod token_bodies;

fuzz_target!(|bytes: &[u8]| token_bodies::key_set(bytes));
