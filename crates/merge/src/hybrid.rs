//! The hybrid logical clock of one node: it never goes back, follows the time where that is ahead, and is above all that
//! the node has seen.
//!
//! S. Kulkarni, M. Demirbas, D. Madappa, B. Avva, M. Leone: "Logical Physical Clocks and Consistent Snapshots in Globally
//! Distributed Databases", OPODIS 2014. The paper's `l` is the clock's moment, its `c` the counter. Where the paper
//! leaves it open:
//!
//! - A counter that is full carries into the moment; nothing fails, and the time catches up.
//! - A time that runs backwards changes nothing: the moment stays, the counter goes on.
//! - What is received may be too far ahead, never too far behind: a device that slept is not refused.
//! - What is refused leaves the clock as it was.

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, ClockError, NodeId};

/// How far ahead a clock may be that is received, unless it is clamped: one minute, as the family has it.
pub const AHEAD_MS_MAX: u64 = 60_000;

/// A node's clock. The time is always an argument, in milliseconds from 1970.
#[derive(Debug, Clone)]
pub struct HybridClock {
    node: NodeId,
    last: Option<Clock>,
}

impl HybridClock {
    /// A clock that has issued nothing, or goes on behind the last that its node issued or saw.
    pub fn new(node: NodeId, last: Option<Clock>) -> Self {
        Self { node, last }
    }

    /// Whose clock it is.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The newest clock that was issued or seen, to be kept where the node keeps its state.
    pub fn last(&self) -> Option<&Clock> {
        self.last.as_ref()
    }

    /// The clock of an event here, above everything before it.
    ///
    /// # Errors
    /// [`ClockError::Exhausted`] at the end of the year 9999.
    pub fn now(&mut self, time_ms: u64) -> Result<Clock, ClockError> {
        let clock = Clock::after(self.last.as_ref(), time_ms, &self.node)?;
        self.last = Some(clock.clone());
        Ok(clock)
    }

    /// The clock of receiving another's, above both.
    ///
    /// # Errors
    /// [`ClockError::Ahead`] when it is more than [`AHEAD_MS_MAX`] ahead of the time, and [`ClockError::Exhausted`] at the
    /// end of the year 9999; the clock is as it was then.
    pub fn receive(&mut self, remote: &Clock, time_ms: u64) -> Result<Clock, ClockError> {
        self.receive_all([remote], time_ms)
    }

    /// The clock of receiving several at once, above all of them; none is taken if one is refused.
    ///
    /// # Errors
    /// As [`HybridClock::receive`].
    pub fn receive_all<'a>(
        &mut self,
        remotes: impl IntoIterator<Item = &'a Clock>,
        time_ms: u64,
    ) -> Result<Clock, ClockError> {
        let mut newest = self.last.as_ref();
        for remote in remotes {
            let ahead_ms = remote.millis().saturating_sub(time_ms);
            if ahead_ms > AHEAD_MS_MAX {
                return Err(ClockError::Ahead { ahead_ms });
            }
            newest = newest.max(Some(remote));
        }
        let clock = Clock::after(newest, time_ms, &self.node)?;
        self.last = Some(clock.clone());
        Ok(clock)
    }

    /// Whether a clock bears this node's name although the node has not come so far: another has the same name, or the
    /// node's state was rolled back. The merge stays deterministic; it is for somebody to look at.
    pub fn is_forked_by(&self, remote: &Clock) -> bool {
        remote.is_of(&self.node) && self.last.as_ref().is_none_or(|last| remote > last)
    }

    /// How far the clock is ahead of the time, in milliseconds.
    pub fn ahead_ms(&self, time_ms: u64) -> u64 {
        let last = self.last.as_ref().map_or(0, Clock::millis);
        last.saturating_sub(time_ms)
    }
}

/// What a server does with a client's clock that is ahead of its own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockPolicy {
    /// It becomes the moment of receipt, so that no honest write is refused and nobody wins from the future.
    #[default]
    Clamp,
    /// The same up to [`AHEAD_MS_MAX`]; beyond, the write is refused.
    Reject,
}

impl ClockPolicy {
    /// The clock under which a client's write is accepted. `previous` is that of the same client's write before it: what
    /// is clamped stays above it, so that a client's writes keep their order.
    ///
    /// # Errors
    /// [`ClockError::Ahead`] where the policy refuses.
    pub fn admit(
        self,
        clock: &Clock,
        received_ms: u64,
        previous: Option<&Clock>,
    ) -> Result<Clock, ClockError> {
        let ahead_ms = clock.millis().saturating_sub(received_ms);
        match self {
            _ if ahead_ms == 0 => Ok(clock.clone()),
            Self::Reject if ahead_ms > AHEAD_MS_MAX => Err(ClockError::Ahead { ahead_ms }),
            Self::Clamp | Self::Reject => Clock::after(previous, received_ms, &clock.node()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The millisecond of `2001-09-09T01:46:40.000Z`.
    const T: u64 = 1_000_000_000_000;
    const CENTURY_MS: u64 = 100 * 365 * 86_400_000;

    fn node(text: &str) -> NodeId {
        NodeId::new(text).expect("a node id")
    }

    fn at(millis: u64, counter: u16) -> HybridClock {
        HybridClock::new(node("abc"), Some(Clock::new(millis, counter, &node("abc"))))
    }

    fn parts(clock: &Clock) -> (u64, u16) {
        (clock.millis(), clock.counter())
    }

    #[test]
    fn an_event_has_the_time_or_the_next_counter() {
        for (own, time, expected) in [
            ((T + 1, 0x42), T, (T + 1, 0x43)),
            ((T, 0x42), T, (T, 0x43)),
            ((T - 1, 0x42), T, (T, 0)),
            ((T, 0xFFFF), T, (T + 1, 0)),
            ((T + CENTURY_MS, 1), T, (T + CENTURY_MS, 2)),
        ] {
            let clock = at(own.0, own.1).now(time).expect("a clock");
            assert_eq!(parts(&clock), expected);
        }
    }

    #[test]
    fn what_is_received_is_below_the_clock_of_its_receipt() {
        let other = node("abcd");
        for (remote, time, expected) in [
            ((T - 1, 0x42), T, (T, 0x43)),
            ((T, 0x41), T, (T, 0x43)),
            ((T, 0x50), T, (T, 0x51)),
            ((T + 1, 0), T, (T + 1, 1)),
            ((T, 0), T + 1, (T + 1, 0)),
            ((T + AHEAD_MS_MAX, 0xFFFF), T, (T + AHEAD_MS_MAX + 1, 0)),
        ] {
            let remote = Clock::new(remote.0, remote.1, &other);
            let clock = at(T, 0x42).receive(&remote, time).expect("a clock");
            assert_eq!(parts(&clock), expected);
            assert!(clock > remote);
        }
    }

    #[test]
    fn a_bad_clock_among_others_leaves_the_clock_as_it_was() {
        let mut clock = at(T, 0x42);
        let before = clock.last().cloned();
        let good = Clock::new(T + 5, 0, &node("b"));
        let bad = Clock::new(T + AHEAD_MS_MAX + 1, 0, &node("b"));
        assert_eq!(
            clock.receive_all([&good, &bad, &good], T),
            Err(ClockError::Ahead { ahead_ms: 60_001 })
        );
        assert_eq!(clock.last().cloned(), before);
        assert!(clock.receive_all([&good], T).is_ok());
    }

    #[test]
    fn a_frozen_time_gives_seventy_thousand_clocks_in_order() {
        let mut clock = at(T, 0);
        let mut before = clock.now(T).expect("a clock");
        for _ in 0..70_000 {
            let next = clock.now(T).expect("a clock");
            assert!(next > before);
            before = next;
        }
        assert_eq!(before.millis(), T + 1);
        assert_eq!(clock.ahead_ms(T), 1);
    }

    #[test]
    fn a_time_that_goes_back_or_jumps_never_takes_the_clock_back() {
        let mut clock = HybridClock::new(node("abc"), None);
        let mut before = clock.now(T).expect("a clock");
        for time in [T - 3_600_000, T + 3_600_000, T, T + CENTURY_MS, 0, T] {
            let next = clock.now(time).expect("a clock");
            assert!(next > before, "{next} after {before}");
            before = next;
        }
    }

    #[test]
    fn a_clock_under_ones_own_name_that_one_never_issued_is_noticed() {
        let clock = at(T, 0x42);
        assert!(!clock.is_forked_by(&Clock::new(T, 0x42, &node("abc"))));
        assert!(clock.is_forked_by(&Clock::new(T + 1, 0, &node("abc"))));
        assert!(!clock.is_forked_by(&Clock::new(T + 1, 0, &node("abcd"))));
    }

    #[test]
    fn a_clock_ahead_is_clamped_to_the_receipt_or_refused() {
        let device = node("device");
        let of = |millis, counter| Clock::new(millis, counter, &device);
        let (clamp, reject) = (ClockPolicy::Clamp, ClockPolicy::Reject);
        let late = of(T - CENTURY_MS / 4, 7);
        for policy in [clamp, reject] {
            assert_eq!(policy.admit(&late, T, None), Ok(late.clone()));
            assert_eq!(policy.admit(&of(T, 7), T, None), Ok(of(T, 7)));
            assert_eq!(policy.admit(&of(T + 60_000, 7), T, None), Ok(of(T, 0)));
        }
        let far = of(T + CENTURY_MS, 7);
        assert_eq!(clamp.admit(&far, T, None), Ok(of(T, 0)));
        assert_eq!(clamp.admit(&far, T, Some(&of(T, 5))), Ok(of(T, 6)));
        assert_eq!(
            reject.admit(&of(T + 60_001, 0), T, None),
            Err(ClockError::Ahead { ahead_ms: 60_001 })
        );
    }
}
