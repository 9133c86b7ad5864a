//! JSON in texts, which every client parses without asking.

use serde::de::IgnoredAny;

use crate::limits::{DEPTH_MAX, Limit};
use crate::reader::FaultKind;

/// Checks that a text is one JSON value, nested no deeper than is taken.
pub(crate) fn check(text: &str) -> Result<(), FaultKind> {
    if depth_exceeds(text, DEPTH_MAX) {
        return Err(FaultKind::TooMany(Limit::Depth));
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(FaultKind::Json),
    }
}

/// Whether brackets outside of strings are open deeper than this.
fn depth_exceeds(text: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
