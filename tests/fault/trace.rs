//! What has been done to the system so far, for the message of a failed run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// As many of the newest lines are printed.
const LINES_MAX: usize = 60;

#[derive(Debug)]
pub(crate) struct Trace {
    seed: u64,
    begun: Instant,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            lines: Mutex::default(),
        }
    }

    /// Records an event.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let line = format!(
            "{:8.3} s  {}",
            self.begun.elapsed().as_secs_f64(),
            text.as_ref()
        );
        println!("fault: {line}");
        self.lines().push(line);
    }

    /// Fails the run, and prints how to repeat it.
    pub(crate) fn fail(&self, what: &str) -> ! {
        let lines = self.lines();
        let newest = lines.len().saturating_sub(LINES_MAX);
        panic!(
            "{what}\n--- what had been done, of which the first {newest} are left out ---\n{}\n\
             FAULT_SEED={} repeats the choices: cargo xtask fault --seed {}",
            lines[newest..].join("\n"),
            self.seed,
            self.seed
        )
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
