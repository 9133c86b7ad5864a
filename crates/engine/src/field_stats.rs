//! What became of writes to rows that merge by their fields, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::{RejectCode, Stamp, Step};
use serde::Serialize;
use sync_core::mutation::Applied;

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct FieldStats {
    writes: AtomicU64,
    conflicts: AtomicU64,
    clocks_clamped: AtomicU64,
    clocks_rejected: AtomicU64,
}

/// The counts at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct FieldCounts {
    /// Writes that were merged.
    writes: u64,
    /// Values that lost.
    conflicts: u64,
    /// Clocks of clients that were ahead and became the moment of receipt.
    clocks_clamped: u64,
    /// Mutations that were rejected because of a clock.
    clocks_rejected: u64,
}

impl FieldStats {
    /// Counts what became of so many writes, those of a mutation with these steps.
    pub(crate) fn count(&self, writes: usize, steps: &[Step], applied: &Applied) {
        match applied {
            Applied::Committed { merged, .. } => {
                let is_clamped = |stamp: &&Stamp| {
                    let step = steps.get(stamp.write).and_then(Step::as_write);
                    let said = step.and_then(|write| write.hlc.as_deref());
                    said.is_some_and(|said| said > stamp.hlc.as_str())
                };
                let clamped = merged.stamps.iter().filter(is_clamped).count();
                add(&self.clocks_clamped, clamped);
                count_clocks("clamped", clamped);
                let conflicts = merged.conflicts.iter().chain(&merged.of_others);
                for conflict in conflicts {
                    self.conflict(conflict.strategy.clone());
                }
                add(&self.writes, writes);
                metrics::counter!("rhtmx_sync_field_writes_total").increment(writes as u64);
            }
            Applied::Rejected(reject) if reject.code == RejectCode::Clock => {
                add(&self.clocks_rejected, 1);
                count_clocks("rejected", 1);
            }
            Applied::Rejected(_) => {}
        }
    }

    fn conflict(&self, strategy: String) {
        add(&self.conflicts, 1);
        metrics::counter!("rhtmx_sync_field_conflicts_total", "strategy" => strategy).increment(1);
    }

    /// The counts now.
    pub(crate) fn counts(&self) -> FieldCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FieldCounts {
            writes: read(&self.writes),
            conflicts: read(&self.conflicts),
            clocks_clamped: read(&self.clocks_clamped),
            clocks_rejected: read(&self.clocks_rejected),
        }
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

fn count_clocks(result: &'static str, clocks: usize) {
    metrics::counter!("rhtmx_sync_field_clocks_total", "result" => result).increment(clocks as u64);
}
