//! Runs what keeps a processor busy for long, without keeping a worker of the runtime from other tasks.

use db::feed::LogBatch;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::index::ShapeIndex;

/// From here on, in comparisons, a worker's tasks are handed to another thread; that takes some microseconds.
pub(super) const LARGE_WORK: usize = 50_000;
/// The bytes of rows that take as long as a comparison to read and write.
const ROW_BYTES_PER_WORK: usize = 8;

/// Runs `work`, which is `large` if it may take more than a fraction of a millisecond.
pub(crate) fn run_if<T>(large: bool, work: impl FnOnce() -> T) -> T {
    let has_workers = || {
        let runtime = Handle::try_current().ok();
        runtime.is_some_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    if large && has_workers() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Whether the evaluation of a batch is large.
pub(super) fn is_large(batch: &LogBatch, shapes: &ShapeIndex) -> bool {
    let mut work = 0_usize;
    batch.entries.iter().any(|entry| {
        let row_bytes = entry.row.as_ref().map_or(0, |row| row.get().len());
        work = work
            .saturating_add(row_bytes / ROW_BYTES_PER_WORK)
            .saturating_add(shapes.work_on(&entry.entity, row_bytes));
        work > LARGE_WORK
    })
}
