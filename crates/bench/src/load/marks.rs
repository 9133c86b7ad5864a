//! Marks: each row that the benchmark writes contains one byte that occurs nowhere else in the frames, followed
//! by the time at which it was written.
//!
//! So counting rows means counting a byte, whatever the frames and however the network splits them.

use std::sync::LazyLock;
use std::time::Instant;

/// Occurs once in every row, and neither in JSON's syntax nor in keys, cursors or names of shapes.
pub(crate) const MARK: u8 = b'|';
const DIGITS: u8 = 16;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the benchmark began.
pub(crate) fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The text of a row that is written now: 100 bytes, about as long as an item of a list.
pub(crate) fn body() -> String {
    format!("|{:016x}{:.<83}", now(), "")
}

/// Reads the times after marks from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// The number of digits still to come of the time that is being read.
    missing: u8,
    value: u64,
}

impl Times {
    /// Calls `found` with each complete time, except zero: a row with that was there before.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(u64)) {
        loop {
            while self.missing > 0 {
                let Some((digit, rest)) = bytes.split_first() else {
                    return;
                };
                let digit = char::from(*digit).to_digit(16).unwrap_or_default();
                self.value = self.value << 4 | u64::from(digit);
                self.missing -= 1;
                bytes = rest;
                if self.missing == 0 && self.value > 0 {
                    found(self.value);
                }
            }
            let Some(at) = memchr::memchr(MARK, bytes) else {
                return;
            };
            bytes = &bytes[at + 1..];
            self.missing = DIGITS;
            self.value = 0;
        }
    }
}

/// The number of rows in these bytes.
pub(crate) fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(MARK, bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_any_cut() {
        let text = b"{\"a\":\"|00000000000000ff\"},{\"a\":\"|0000000000000100..\"}";
        for cut in 0..text.len() {
            let mut times = Times::default();
            let mut found = Vec::new();
            times.read(&text[..cut], |time| found.push(time));
            times.read(&text[cut..], |time| found.push(time));
            assert_eq!(found, [255, 256], "cut at {cut}");
        }
    }

    #[test]
    fn a_body_has_one_mark_and_a_fixed_length() {
        let body = body();
        assert_eq!(body.len(), 100);
        assert_eq!(count(body.as_bytes()), 1);
    }
}
