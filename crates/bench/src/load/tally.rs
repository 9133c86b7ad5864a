//! What a group of receivers has received. One thread writes it, so its counters are cheap.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Histogram, now};

/// Counters of a group.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections that the server has welcomed.
    pub(crate) welcomed: AtomicUsize,
    /// Connections that receive changes.
    pub(crate) live: AtomicUsize,
    /// Rows in changes.
    pub(crate) changes: AtomicU64,
    /// Rows in snapshots.
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) acks: AtomicU64,
    /// When something of the above was last received, as [`now`].
    pub(crate) last_at: AtomicU64,
    /// When the last connection became live, as [`now`].
    pub(crate) live_at: AtomicU64,
    latency: Mutex<Option<Histogram>>,
    fault: Mutex<Option<String>>,
    subscribed: Mutex<Option<String>>,
    recording: Mutex<Option<Recording>>,
}

/// The bytes of one connection, and the offsets at which its batches end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Recording {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Recording {
    /// Repeats the first batch this many times.
    pub(crate) fn repeat_first(&self, times: usize) -> Self {
        let end = self.ends.first().copied().unwrap_or_default();
        Self {
            bytes: self.bytes[..end].repeat(times),
            ends: (1..=times).map(|count| count * end).collect(),
        }
    }
}

impl Tally {
    pub(crate) fn count(&self, counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
        self.last_at.store(now(), Ordering::Relaxed);
    }

    /// Records latencies in a new histogram from now on.
    pub(crate) fn begin_latency(&self) {
        *lock(&self.latency) = Some(Histogram::default());
    }

    pub(crate) fn end_latency(&self) -> Histogram {
        lock(&self.latency).take().unwrap_or_default()
    }

    pub(crate) fn latency(&self) -> MutexGuard<'_, Option<Histogram>> {
        lock(&self.latency)
    }

    /// Records what the first connection of the group receives from now on.
    pub(crate) fn begin_recording(&self) {
        *lock(&self.recording) = Some(Recording::default());
    }

    pub(crate) fn end_recording(&self) -> Recording {
        lock(&self.recording).take().unwrap_or_default()
    }

    pub(crate) fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        lock(&self.recording)
    }

    /// Records a failure; only the first is kept.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        lock(&self.fault).get_or_insert_with(|| what.into());
    }

    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    pub(crate) fn subscribed(&self, frame: &str) {
        lock(&self.subscribed).get_or_insert_with(|| frame.to_owned());
        self.live.fetch_add(1, Ordering::Relaxed);
        self.live_at.store(now(), Ordering::Relaxed);
    }

    /// Seconds from `then` until something was last received.
    pub(crate) fn last_after(&self, then: u64) -> f64 {
        self.last_at.load(Ordering::Relaxed).saturating_sub(then) as f64 / 1e9
    }

    /// Seconds from `then` until the last connection became live.
    pub(crate) fn live_after(&self, then: u64) -> f64 {
        self.live_at.load(Ordering::Relaxed).saturating_sub(then) as f64 / 1e9
    }

    /// The cursor of the first `subscribed` frame.
    pub(crate) fn cursor(&self) -> Option<String> {
        let frame: serde_json::Value =
            serde_json::from_str(lock(&self.subscribed).as_deref()?).ok()?;
        Some(frame["cursor"].as_str()?.to_owned())
    }
}

/// Locks a mutex, even if it is poisoned: a thread that panicked has already failed the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
