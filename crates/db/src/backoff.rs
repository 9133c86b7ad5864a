//! Exponential backoff: how long to wait before trying again.

use std::time::Duration;

/// The upper bound of the first pause.
const FIRST_MS: u64 = 50;
/// The upper bound of every pause.
const LONGEST_MS: u64 = 2_000;

/// The pause after this many failures in a row. It doubles, and half of it is random, so that servers that
/// failed together do not come back together.
pub fn pause(failures: u32) -> Duration {
    pause_up_to(failures, Duration::from_millis(LONGEST_MS))
}

/// The same with another upper bound than two seconds.
pub fn pause_up_to(failures: u32, longest: Duration) -> Duration {
    let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    let full = FIRST_MS
        .saturating_mul(1 << failures.clamp(1, 20).saturating_sub(1))
        .min(longest_ms);
    let half = full / 2;
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(half + half * random / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_stays_within_its_bounds() {
        for failures in 0..40 {
            let pause = pause(failures).as_millis();
            assert!((25..=2_000).contains(&pause), "{failures}: {pause}");
        }
    }
}
