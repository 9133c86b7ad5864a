//! How long to wait before trying again.

use std::time::Duration;

/// The first pause.
const FIRST_MS: u64 = 50;
/// No pause is longer.
const LONGEST_MS: u64 = 2_000;

/// The pause after so many failures in a row: doubling, with a random half so that many who failed
/// together do not come back together.
pub fn pause(failures: u32) -> Duration {
    let full = FIRST_MS
        .saturating_mul(1 << failures.clamp(1, 10).saturating_sub(1))
        .min(LONGEST_MS);
    let half = full / 2;
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(half + half * random / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stays_bounded() {
        for failures in 0..40 {
            let pause = pause(failures).as_millis();
            assert!((25..=2_000).contains(&pause), "{failures}: {pause}");
        }
    }
}
