//! For how long a connection may act for its principal.

use std::time::Duration;

use super::Principal;

/// The longest wait before the clock is looked at again: somebody may have set it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long a connection lives after its token: to the expiry and a grace, in which a fresh token may come.
///
/// The wall clock decides, because a token is dated by it. A wait is only for so much time on a clock that nobody sets,
/// and then the wall clock is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// None for ever.
    ends_at_ms: Option<u64>,
}

impl Lifetime {
    /// The lifetime that a principal gives a connection.
    pub fn of(principal: &Principal, grace: Duration) -> Self {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let ends = |expires_at_ms: u64| expires_at_ms.saturating_add(grace_ms);
        Self {
            ends_at_ms: principal.expires_at_ms.map(ends),
        }
    }

    /// Whether it has ended at this moment, in milliseconds since 1970.
    pub fn has_ended(&self, now_ms: u64) -> bool {
        self.ends_at_ms.is_some_and(|end| now_ms >= end)
    }

    /// How long to wait before the clock is asked again; none when it never ends.
    pub fn wait(&self, now_ms: u64) -> Option<Duration> {
        let left = self.ends_at_ms?.saturating_sub(now_ms);
        Some(Duration::from_millis(left).min(LOOK_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(expires_at_ms: Option<u64>, grace_ms: u64) -> Lifetime {
        let principal = Principal {
            expires_at_ms,
            ..Principal::default()
        };
        Lifetime::of(&principal, Duration::from_millis(grace_ms))
    }

    #[test]
    fn a_principal_without_an_expiry_lives_for_ever() {
        let lifetime = of(None, 30_000);
        assert!(!lifetime.has_ended(u64::MAX));
        assert_eq!(lifetime.wait(0), None);
    }

    #[test]
    fn a_clock_that_is_set_decides() {
        let lifetime = of(Some(3_600_000), 0);
        assert!(!lifetime.has_ended(3_599_999));
        // Set forward by an hour, and back.
        assert!(lifetime.has_ended(7_199_999));
        assert!(!lifetime.has_ended(0));
    }

    proptest! {
        #[test]
        fn a_wait_ends_with_the_lifetime_or_after_a_minute(
            expires_at_ms in any::<u64>(),
            grace_ms in any::<u64>(),
            now_ms in any::<u64>(),
        ) {
            let lifetime = of(Some(expires_at_ms), grace_ms);
            prop_assert_eq!(lifetime.has_ended(now_ms), now_ms >= expires_at_ms.saturating_add(grace_ms));
            let wait = lifetime.wait(now_ms).expect("it ends");
            prop_assert!(wait <= LOOK_AGAIN);
            prop_assert_eq!(wait.is_zero(), lifetime.has_ended(now_ms));
            let waited_ms = u64::try_from(wait.as_millis()).expect("a minute");
            if wait < LOOK_AGAIN {
                // Within the last minute one wait is enough, and none shorter is.
                prop_assert!(lifetime.has_ended(now_ms.saturating_add(waited_ms)));
            }
            if waited_ms > 0 {
                prop_assert!(!lifetime.has_ended(now_ms + waited_ms - 1));
            }
        }
    }
}
