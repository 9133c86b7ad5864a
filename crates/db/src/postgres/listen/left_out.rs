//! The entities that drains leave out, and when to try them again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::health::{self, Unreadable};

/// Between two attempts to read a locked table.
pub(super) const LOCKED_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts to read a table that is not locked.
const TRY_LONGEST: Duration = Duration::from_secs(10);
/// A table that fails again within this time after it was taken in has not recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Entities that drains leave out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    out: BTreeMap<String, Absence>,
    /// When entities were taken in again, and after how many attempts.
    returned: BTreeMap<String, (Instant, u32)>,
}

#[derive(Debug)]
struct Absence {
    reason: Unreadable,
    attempts: u32,
    try_at: Instant,
}

impl Absence {
    fn new(reason: Unreadable, attempts: u32) -> Self {
        let pause = match reason {
            Unreadable::Locked if attempts == 0 => LOCKED_PAUSE,
            _ => health::pause(attempts).min(TRY_LONGEST),
        };
        Self {
            reason,
            attempts,
            try_at: Instant::now() + pause,
        }
    }
}

impl LeftOut {
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.out.keys().cloned().collect()
    }

    pub(super) fn is(&self, names: &BTreeSet<String>) -> bool {
        self.out.keys().eq(names)
    }

    /// Those that are left out for this reason.
    pub(super) fn because_of(&self, reason: Unreadable) -> BTreeSet<String> {
        let absent = self.out.iter().filter(|(_, out)| out.reason == reason);
        absent.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.out.contains_key(name)
    }

    pub(super) fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let due = self.out.iter().filter(|(_, out)| out.try_at <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Leaves an entity out. One that fails soon after it was taken in waits for longer than before.
    pub(super) fn add(&mut self, name: &str, reason: Unreadable) {
        let attempts = match self.returned.remove(name) {
            Some((at, attempts)) if at.elapsed() < RECOVERED_AFTER => attempts + 1,
            _ => 0,
        };
        self.out
            .insert(name.to_owned(), Absence::new(reason, attempts));
    }

    /// Notes that an attempt to read the entity failed.
    pub(super) fn failed_again(&mut self, name: &str, reason: Unreadable) {
        if let Some(out) = self.out.get_mut(name) {
            // A lock says nothing about how long it is held, and looking costs little.
            let attempts = match reason {
                Unreadable::Locked => out.attempts,
                _ => out.attempts + 1,
            };
            *out = Absence::new(reason, attempts);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(out) = self.out.remove(name) {
            self.returned
                .insert(name.to_owned(), (Instant::now(), out.attempts));
        }
    }
}
