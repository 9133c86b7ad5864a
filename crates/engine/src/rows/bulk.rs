//! A runtime for reads of many rows, beside the application's.
//!
//! Tasks of one runtime take turns, so that a drain or a frame for a live session would wait behind every chunk of
//! every read at each of its steps. Here the operating system shares the processors between the two.

use std::future::Future;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Shared by all engines of a process, and never shut down: the pool's connections that reads open are driven here,
/// and a pool may outlive its engine.
static RUNTIME: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(half_of_the_processors())
        .thread_name("rhtmx-sync-reads")
        .enable_all()
        .build();
    runtime
        .inspect_err(|error| tracing::warn!(%error, "reads have no threads of their own"))
        .ok()
});

fn half_of_the_processors() -> usize {
    available_parallelism().map_or(1, |count| (count.get() / 2).max(1))
}

/// Runs a read.
pub(super) fn spawn(read: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    match &*RUNTIME {
        Some(runtime) => runtime.spawn(read),
        None => tokio::spawn(read),
    }
}
