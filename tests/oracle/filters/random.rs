//! Randomness, in the words that the generators use.

use rhtmx_sync_tests::Dice;

/// Random choices from a seed that a failed run names.
pub(crate) struct Random(Dice);

impl Random {
    pub(crate) fn new(test: &str) -> Self {
        Self(Dice::new(test))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Dice::seeded(seed))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.number()
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.pick(0..bound as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// The number of cases to run: from this variable of the environment, or the default.
pub(crate) fn cases(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default)
}
