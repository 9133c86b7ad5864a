//! Hashes that stay the same across versions of Rust, because the database stores them.

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
